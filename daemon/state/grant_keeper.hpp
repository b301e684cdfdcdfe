// Stores the voter's promise without ever waiting long for the file.

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

// Gives a time limit to a store whose functions may block: they run in a thread of their own, and
// callers wait until their deadline.
//
// Thread-safe. The mutex of Shared also guards logged_problem_. It is not held while the store
// works; the log is written under it. The thread does not use the log. One job runs at a time.
class Grant_Keeper {
 public:
  struct Store {
    // As load() and save() of Grant_File. May block.
    std::function<std::optional<Grant>(std::string& why)> load;
    std::function<std::string(const Grant&)> save;
  };

  // Throws std::system_error if no thread can be started.
  Grant_Keeper(Store store, Logger log);
  // The destructor waits for the thread, 100 ms at most: it may hang.

  // The stored grant; none if there is none that is valid or the store does not answer within
  // `timeout`. Throws what the store throws. Call it before save().
  std::optional<Grant> load(std::chrono::milliseconds timeout);

  // As Grant_Store::save. If it is late, the caller gives no vote, but the grant may still be
  // written afterwards. After a restart this voter then keeps a promise that nobody was given: that
  // costs time and no safety.
  Grant save(const Grant& grant, Deadline until);

 private:
  struct Shared : Worker_State {
    // That the thread runs or is to run; empty: it is idle.
    std::function<void(Shared&)> job GUARDED_BY(mutex);
    Store store;  // used by the thread only, once that has started
    // The results of the last job.
    std::optional<Grant> loaded GUARDED_BY(mutex);
    std::exception_ptr thrown GUARDED_BY(mutex);
    std::string why GUARDED_BY(mutex);
    Grant writing GUARDED_BY(mutex);  // the grant that the last save() job writes or wrote
    // What the file holds after it; an empty one: not known.
    Grant stored GUARDED_BY(mutex);
  };

  static constexpr const char* no_answer =
      "state_file does not answer: this node votes for nobody until it does";

  void start_job(std::function<void(Shared&)> job) REQUIRES(shared_.mutex);
  // Waits until no job is running, or `until`; whether none is.
  bool wait_until_idle(Deadline until) REQUIRES(shared_.mutex);
  // The promise that a restart would find at the least. While a job is running, the file may hold
  // the new record or the old one, so this is the lesser of both, if node and token are the same.
  Grant guaranteed() const REQUIRES(shared_.mutex);
  // Logs an error if it is another one than the last.
  void log_change(const std::string& problem) REQUIRES(shared_.mutex);

  static void run_jobs(Shared& shared);

  const Logger log_;
  Worker<Shared> worker_;
  Shared& shared_ = worker_.state();
  std::string logged_problem_ GUARDED_BY(shared_.mutex);  // that is not over; empty: none
};

// A Grant_File at that path, see there.
Grant_Keeper::Store state_file_store(const std::string& path, const std::string& owner);

}  // namespace primgr
