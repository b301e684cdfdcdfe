// Stores the voter's promise. Callers never wait longer than their deadline for the file.

#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/log_level.hpp"
#include "base/worker.hpp"
#include "node/rules/promise.hpp"

namespace primgr {

// Puts a time limit on a store whose functions may block. The functions run in a separate thread,
// and callers wait until their deadline.
//
// Thread-safe. The mutex of Shared also guards logged_problem_. The mutex is not held while the
// store works. Log messages are written while it is held. The thread does not use the log. One job
// runs at a time.
class Grant_Keeper {
 public:
  struct Store {
    // The same as load() and save() of Grant_File. May block.
    std::function<std::optional<Grant>(std::string& why)> load;
    std::function<std::string(const Grant&)> save;
  };

  // Throws std::system_error if no thread can be started.
  Grant_Keeper(Store store, Logger log);
  // The destructor waits for the thread, 100 ms at most, because the thread may hang.

  // The stored grant. None if there is no valid one, or if the store does not answer within
  // `timeout`. Throws what the store throws. Call it before save().
  std::optional<Grant> load(std::chrono::milliseconds timeout);

  // The same as Grant_Store::save. If the store is late, the caller gives no vote, but the grant
  // may still be written afterwards. After a restart, this voter then keeps a promise that was
  // given to no node. That costs time, but it is safe.
  Grant save(const Grant& grant, Deadline until);

 private:
  struct Shared : Worker_State {
    // The job that the thread runs or is about to run. Empty: the thread is idle.
    std::function<void(Shared&)> job GUARDED_BY(mutex);
    Store store;  // used only by the thread once it has started
    // The results of the last job.
    std::optional<Grant> loaded GUARDED_BY(mutex);
    std::exception_ptr thrown GUARDED_BY(mutex);
    std::string why GUARDED_BY(mutex);
    Grant writing GUARDED_BY(mutex);  // the grant that the last save() job writes or wrote
    // What the file holds after the last job. An empty grant: not known.
    Grant stored GUARDED_BY(mutex);
  };

  static constexpr const char* no_answer =
      "state_file does not answer: this node votes for nobody until it does";

  void start_job(std::function<void(Shared&)> job) REQUIRES(shared_.mutex);
  // Waits until no job is running, or until `until`. Returns whether no job is running.
  bool wait_until_idle(Deadline until) REQUIRES(shared_.mutex);
  // The promise that a restart is sure to find. While a job is running, the file may hold the new
  // record or the old one. So this is the shorter of both, if node and token are the same. Else it
  // is empty.
  Grant guaranteed() const REQUIRES(shared_.mutex);
  // Logs an error if it differs from the last one.
  void log_change(const std::string& problem) REQUIRES(shared_.mutex);

  static void run_jobs(Shared& shared);

  const Logger log_;
  Worker<Shared> worker_;
  Shared& shared_ = worker_.state();
  // The last problem, while it lasts. Empty: none.
  std::string logged_problem_ GUARDED_BY(shared_.mutex);
};

// A store that uses the Grant_File at that path.
Grant_Keeper::Store state_file_store(const std::string& path, const std::string& owner);

}  // namespace primgr
