// Tells a program of the operator's of each change of state (on_change).

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
// OLD is what the run before was told, `none` if there was none; PRIMARY is empty if the database
// names none. All are printable(). One run at a time; what changes meanwhile is told by one run
// after it, unless state and primary are what they were. A failed run is not repeated, but for one
// that lacked memory or processes, each second.
//
// Thread-safe. A Worker runs the programs; it is started when there is one. The mutex is not held
// while a program runs; the log is written under it, which waits for nobody. The log is taken away
// from the thread when this object ends.
class Change_Hook {
 public:
  // `conninfo`: of the local database, without secrets.
  Change_Hook(const std::string& node, const std::string& conninfo, Logger log);
  ~Change_Hook() { end(); }
  Change_Hook(const Change_Hook&) = delete;
  Change_Hook& operator=(const Change_Hook&) = delete;

  // Which program is run, and for how long at most; empty: none. Another program than before is
  // told the present state at once, with OLD `none`, and if it cannot be run, that is logged as an
  // error. A run under way is not changed. Does not block. Throws std::system_error if no thread
  // can be started.
  void configure(const std::string& path, Time timeout);
  // Does not block. Throws std::bad_alloc only for names and reasons that are longer than usual.
  void tell(const State_Change& change);
  // Ends the program that runs: SIGTERM, and SIGKILL 50 ms later. None is run any more. Blocks for
  // 100 ms at most.
  void end();

  // How many runs there were in this process, and how many of them failed. Thread-safe.
  struct Counts {
    std::uint64_t runs = 0, failures = 0;
  };
  static Counts counts();

  // Why this process cannot run the program, and what to do; empty: it can, or there is none.
  static std::string problem(const std::string& path);
  // Throws Input_Error if there is a problem().
  static void check(const std::string& path);

 private:
  // What a run tells.
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
    Told latest GUARDED_BY(mutex);            // what the node told last
    Told told GUARDED_BY(mutex);              // what the last run was told
    bool waiting GUARDED_BY(mutex) = false;   // `latest` is to be told
    bool to_check GUARDED_BY(mutex) = false;  // whether `path` can be run
    bool started GUARDED_BY(mutex) = false;
  };
  struct Run;

  static void work(Shared& shared);
  // Logs why the program cannot be run. Gives the mutex up while it looks: the file system may
  // hang.
  static void check_path(Shared& shared) REQUIRES(shared.mutex);
  // Tells what is latest. Returns false if it has to be tried again. Gives the mutex up while the
  // program runs.
  static bool run_next(Shared& shared, bool& complained) REQUIRES(shared.mutex);
  // What the log says of a run.
  static void log_end(const Shared& shared, const Run& run, const Program_End& end)
      REQUIRES(shared.mutex);

  Worker<Shared> worker_;
  Shared& shared_ = worker_.state();
};

}  // namespace primgr
