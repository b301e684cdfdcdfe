// Runs the operator's program (on_change) at each change of state.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/log_level.hpp"
#include "base/wake_up.hpp"
#include "base/worker.hpp"
#include "daemon/hook/program.hpp"
#include "node/rules/history.hpp"
#include "node/rules/model.hpp"

namespace primgr {

// Runs the program with
//     arguments    OLD NEW NODE PRIMARY REASON
//     environment  PRIMGR_OLD, PRIMGR_NEW, PRIMGR_NODE, PRIMGR_PRIMARY, PRIMGR_REASON,
//                  PRIMGR_CONNINFO
// OLD is the state that the previous run received, or `none` if there was no run. PRIMARY is empty
// if the database names no primary. All are printable(). Only one run at a time. Changes during a
// run are combined into one run after it. There is no such run if state and primary are the same as
// before. A failed run is not repeated. The exception is a run that lacked memory or processes: it
// is tried again each second.
//
// Thread-safe. A Worker runs the programs. It is started when a program is first configured. The
// mutex is not held while a program runs. Log messages are written while the mutex is held, and the
// log never blocks. The thread cannot use the log any more after end().
class Change_Hook {
 public:
  // `conninfo`: of the local database, without secrets.
  Change_Hook(const std::string& node, const std::string& conninfo, Logger log);
  ~Change_Hook() { end(); }
  Change_Hook(const Change_Hook&) = delete;
  Change_Hook& operator=(const Change_Hook&) = delete;

  // Sets the program to run, and its time limit. An empty path: none. If the program differs from
  // the previous one, it gets the current state at once, with OLD `none`. If it cannot be run, that
  // is logged as an error. A current run is not changed. Does not block. Throws std::system_error
  // if no thread can be started.
  void configure(const std::string& path, Time timeout);
  // Does not block. Throws std::bad_alloc only for names and reasons that are longer than usual.
  void tell(const State_Change& change);
  // Ends the program that is running: SIGTERM, and SIGKILL 50 ms later. No program is started after
  // that. Blocks for 100 ms at most.
  void end();

  // How many runs there were in this process, and how many of them failed. Thread-safe.
  struct Counts {
    std::uint64_t runs = 0, failures = 0;
  };
  static Counts counts();

  // Why this process cannot run the program, and how to fix it. Empty: it can run it, or there is
  // no program.
  static std::string problem(const std::string& path);
  // Throws Input_Error if there is a problem().
  static void check(const std::string& path);

 private:
  // The values that a run receives.
  struct Told {
    std::optional<State> state;
    std::string primary, reason;
  };
  struct Shared : Worker_State {
    std::string node, conninfo;  // do not change once the thread runs
    Wake_Up stop;                // thread-safe
    std::string path GUARDED_BY(mutex);
    Time timeout GUARDED_BY(mutex){};
    Logger log GUARDED_BY(mutex);
    Told latest GUARDED_BY(mutex);            // the last change from the node
    Told told GUARDED_BY(mutex);              // the values of the last run
    bool waiting GUARDED_BY(mutex) = false;   // `latest` waits for a run
    bool to_check GUARDED_BY(mutex) = false;  // `path` has to be checked
    bool started GUARDED_BY(mutex) = false;
  };
  struct Run;

  static void work(Shared& shared);
  // Logs the reason if the program cannot be run. Releases the mutex while it looks at the file,
  // because the file system may hang.
  static void check_path(Shared& shared) REQUIRES(shared.mutex);
  // Runs the program with `latest`. Returns false if it has to be tried again. Releases the mutex
  // while the program runs.
  static bool run_next(Shared& shared, bool& complained) REQUIRES(shared.mutex);
  // Logs the result of a run.
  static void log_end(const Shared& shared, const Run& run, const Program_End& end)
      REQUIRES(shared.mutex);

  Worker<Shared> worker_;
  Shared& shared_ = worker_.state();
};

}  // namespace primgr
