// Runs a program of the operator's, within a time limit, and hands its output on line by line.

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
  std::string path;                      // no PATH is searched, and no shell is asked
  std::vector<std::string> arguments;    // what follows its name
  std::vector<std::string> environment;  // NAME=value, besides what this process has
  Time timeout{};                        // from its start to SIGTERM
};

// How a run ended.
struct Program_End {
  int error = 0;         // why it could not be started, as errno; 0: it ran, and the rest holds
  int status = 0;        // its exit status, unless a signal ended it
  int signal = 0;        // the signal that ended it; 0: none
  bool late = false;     // its time was over, so it was ended
  bool stopped = false;  // ended since `stop` was woken
  std::uint64_t left_out = 0;  // bytes of output that were not handed on
  Time took{};

  bool succeeded() const { return !error && !status && !signal && !late && !stopped; }
};

// The most of its output that is handed on in one run.
inline constexpr std::size_t max_output_lines = 100, max_output_line = 1000;
// From SIGTERM to SIGKILL; when `stop` is woken, so that nobody waits long for the end.
inline constexpr Time kill_delay = std::chrono::seconds(1);
inline constexpr Time kill_delay_at_stop = std::chrono::milliseconds(50);

// Blocks until the program has ended. `line` is called with each line that it writes to its
// standard output and error, without the newline; a last line that ends with "..." was cut.
//
// The program leads a process group of its own, to which the signals are sent. What it leaves in
// that group when it ends is killed: another run may follow at once, and must find itself alone.
// Its standard input is /dev/null, and it inherits no other descriptor, no blocked and no ignored
// signal. Of this process's environment it has all but what systemd means for this process alone.
//
// Only its own end counts, not that of its output: others may hold that open, and it may close it.
// Returns late only if the kernel cannot end it after SIGKILL, or is stuck in reading it (a network
// file system that hangs).
//
// Throws std::bad_alloc, before it is started; `line` may throw that too, which loses the line.
Program_End run_program(const Program& program, const Wake_Up& stop,
                        const std::function<void(const std::string&)>& line);

}  // namespace primgr
