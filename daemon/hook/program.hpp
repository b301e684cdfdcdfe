// Runs the operator's program within a time limit, and passes its output on line by line.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "base/wake_up.hpp"

namespace primgr {

struct Program {
  std::string path;                      // PATH is not searched, and no shell is used
  std::vector<std::string> arguments;    // without the name of the program
  std::vector<std::string> environment;  // NAME=value, in addition to the variables of this process
  Time timeout{};                        // from its start to SIGTERM
};

// How a run ended.
struct Program_End {
  int error = 0;   // errno if it could not be started; 0: it ran, and the other members are valid
  int status = 0;  // its exit status, unless a signal ended it
  int signal = 0;  // the signal that ended it; 0: none
  bool late = false;           // it was ended because its time was over
  bool stopped = false;        // it was ended because `stop` was woken
  std::uint64_t left_out = 0;  // bytes of output that were not passed on
  Time took{};

  bool succeeded() const { return !error && !status && !signal && !late && !stopped; }
};

// The limits of the output that is passed on in one run: lines, and bytes of a line.
inline constexpr std::size_t max_output_lines = 100, max_output_line = 1000;
// The time from SIGTERM to SIGKILL. It is shorter when `stop` is woken, so that the end of primgr
// is not delayed for long.
inline constexpr Time kill_delay = std::chrono::seconds(1);
inline constexpr Time kill_delay_at_stop = std::chrono::milliseconds(50);

// Blocks until the program has ended. `line` is called with each line that the program writes to
// standard output and error, without the newline. A line that ends with "..." was cut.
//
// The program is the leader of a separate process group, to which the signals are sent. Processes
// that it leaves in that group when it ends are killed: another run may follow at once, and must
// not run at the same time as they do. The program's standard input is /dev/null. It inherits no
// other descriptor, and no blocked or ignored signal. It inherits the environment of this process,
// except the variables that systemd sets for this process only.
//
// Waits only for the end of the program, not for the end of its output: other processes may hold
// the output open, and the program may close it. Returns late only if the kernel cannot end the
// program after SIGKILL, or if the kernel hangs while it loads the program (a network file system
// that hangs).
//
// Throws std::bad_alloc before the program is started. `line` may throw it too, and then the line
// is lost.
Program_End run_program(const Program& program, const Wake_Up& stop,
                        const std::function<void(const std::string&)>& line);

}  // namespace primgr
