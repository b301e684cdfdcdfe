// Stores the voter's promise without ever waiting long for the file.

#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/log_level.hpp"
#include "node/rules/promise.hpp"

namespace primgr {

// Gives a time limit to a store whose functions may block: they run in a thread of their own, and
// callers wait until their deadline.
//
// Thread-safe. The mutex guards the members of Shared but `store`, and logged_problem_. It is not
// held while the store works; the log is written under it. The thread shares ownership of Shared
// and uses nothing else, not even the log, so it may outlive this object if the file system hangs.
// One job runs at a time.
class Grant_Keeper {
 public:
  struct Store {
    // As load() and save() of Grant_File. May block.
    std::function<std::optional<Grant>(std::string& why)> load;
    std::function<std::string(const Grant&)> save;
  };

  // Throws std::system_error if no thread can be started.
  Grant_Keeper(Store store, Logger log);
  // Waits for the thread, 100 ms at most: it may hang.
  ~Grant_Keeper();
  Grant_Keeper(const Grant_Keeper&) = delete;
  Grant_Keeper& operator=(const Grant_Keeper&) = delete;

  // The stored grant; none if there is none that is valid or the store does not answer within
  // `timeout`. Throws what the store throws. Call it before save().
  std::optional<Grant> load(std::chrono::milliseconds timeout);

  // As Grant_Store::save. If it is late, the caller gives no vote, but the grant may still be
  // written afterwards. After a restart this voter then keeps a promise that nobody was given: that
  // costs time and no safety.
  Grant save(const Grant& grant, Deadline until);

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::function<void(Shared&)> job;  // that the thread runs or is to run; empty: it is idle
    bool ending = false, ended = false;
    Store store;  // used by the thread only, once that has started
    // The results of the last job.
    std::optional<Grant> loaded;
    std::exception_ptr thrown;
    std::string why;
    Grant writing;  // the grant that the last save() job writes or wrote
    Grant stored;   // what the file holds after it; an empty one: not known
  };

  static constexpr const char* no_answer =
      "state_file does not answer: this node votes for nobody until it does";

  // These REQUIRE the mutex.
  void start_job(std::function<void(Shared&)> job);
  // The promise that a restart would find at the least. While a job is running, the file may hold
  // the new record or the old one, so this is the lesser of both, if node and token are the same.
  Grant guaranteed() const;
  // Logs an error if it is another one than the last.
  void log_change(const std::string& problem);

  static void run_jobs(std::shared_ptr<Shared> shared);

  const Logger log_;
  std::string logged_problem_;  // that is not over; empty: none
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

// A Grant_File at that path, see there.
Grant_Keeper::Store state_file_store(const std::string& path, const std::string& owner);

}  // namespace primgr
