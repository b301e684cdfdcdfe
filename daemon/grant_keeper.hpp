// Keeps the voter's promise in a file without ever waiting long for the file.

#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "daemon/config.hpp"
#include "node/promise.hpp"

namespace primgr {

// Lets a store whose functions may block be one that does not: they run in a thread of their own,
// and whoever wants something of it waits for so long only.
//
// Thread-safe. The mutex guards what is in Shared, and is not held while the store works. The
// thread has its share in that, so that one which hangs for ever outlives this harmlessly: it logs
// nothing, and touches nothing else. One thing is done at a time, in the order in which it was
// wanted.
class Grant_Keeper {
 public:
  struct Store {
    // As Grant_File's load() and save().
    std::function<std::optional<Grant>(std::string& why)> load;
    std::function<std::string(const Grant&)> save;
  };

  // Throws std::system_error if there is no thread to be had.
  Grant_Keeper(Store store, Logger log);
  // Waits for the thread, but not for one that hangs.
  ~Grant_Keeper();
  Grant_Keeper(const Grant_Keeper&) = delete;
  Grant_Keeper& operator=(const Grant_Keeper&) = delete;

  // What was promised, none if it is not known or not told within `timeout`. Throws what the store
  // throws. Call it first.
  std::optional<Grant> load(std::chrono::milliseconds timeout);

  // As Grant_Store::save. A grant that is written late was not given, so what it does is to bind
  // this voter after a restart to a promise that nobody has: that costs time and no safety.
  Grant save(const Grant& grant, Deadline until);

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::function<void(Shared&)> job;  // what the thread is to do, or does
    bool ending = false, ended = false;
    Store store;
    std::optional<Grant> loaded;
    std::exception_ptr thrown;
    std::string why;
    Grant writing;  // last
    Grant kept;     // what was written last; an empty one: not known
  };

  static constexpr const char* no_answer =
      "state_file does not answer: this node votes for nobody until it does";

  // These REQUIRE that the mutex is held.
  void begin(std::function<void(Shared&)> job);
  // What a restart would believe at least: while something is being written, that or what was there
  // before.
  Grant certain() const;
  void tell(const std::string& trouble);

  static void serve(std::shared_ptr<Shared> shared);

  const Logger log_;
  std::string trouble_;  // that was told and is not over; guarded by the mutex too
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

// The state_file of a configuration. REQUIRES: there is one.
Grant_Keeper::Store file_store(const Config& config);

}  // namespace primgr
