// A pool of threads that continues to work when the system has no more threads or memory.

#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>

#include "base/mutex.hpp"

namespace primgr {

// A pool that grows to one thread for each job, up to `max`. `min` threads exist from the start.
// The other threads end after 5 s without a job, since threads may be scarce and other pools need
// them.
//
// Not cpp-httplib's pool, which has a fixed number of threads: with few of them, idle connections
// keep a health check waiting; with many, they take address space from the start.
//
// Thread-safe. No job runs while the mutex is held.
class Thread_Pool {
 public:
  struct Limits {
    std::size_t min, max;             // threads
    std::size_t stack_size;           // of each thread, in bytes
    std::size_t spare_address_space;  // bytes that must be free before a thread beyond `min` starts
  };

  // Throws std::system_error if `min` threads cannot be started.
  explicit Thread_Pool(const Limits& limits);
  // Blocks until all jobs, also those not begun yet, are done.
  ~Thread_Pool();

  // Queues `job` and returns at once. An exception that the job throws is ignored. If the pool
  // should have grown for the job, but the system had no thread or no address space, returns the
  // number of existing threads: the job waits until one of them is idle. Throws std::bad_alloc if
  // the job cannot be queued; it then never runs.
  std::optional<std::size_t> run(std::function<void()> job);

 private:
  // False if the system has no thread.
  bool add_thread() REQUIRES(mutex_);

  void shut_down() REQUIRES(mutex_);

  void run_jobs();

  const Limits limits_;
  Mutex mutex_;
  Condition changed_;  // a job was queued, or ending_ was set
  Condition ended_;    // the last thread is about to end
  std::deque<std::function<void()>> jobs_ GUARDED_BY(mutex_);
  std::size_t threads_ GUARDED_BY(mutex_) = 0;
  // those of threads_ that have not locked the mutex yet
  std::size_t starting_ GUARDED_BY(mutex_) = 0;
  std::size_t idle_ GUARDED_BY(mutex_) = 0;
  bool ending_ GUARDED_BY(mutex_) = false;
};

}  // namespace primgr
