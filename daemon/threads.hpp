// Threads, also where the system has few to give.

#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>

namespace primgr {

// A pool of threads: as many as there are jobs, `most` at most; they end when idle for a while, but
// for `least`, which are there from the start: what one pool takes of scarce threads, another
// lacks. cpp-httplib's own pool grows only when no thread is idle, so of a burst of connections
// some wait behind idle threads that others take, until a client leaves.
//
// Thread-safe. The mutex guards what is below it.
class Threads {
 public:
  struct Limits {
    std::size_t least, most;
    std::size_t stack;  // bytes of each
    std::size_t spare;  // of address space, that more threads than `least` leave to others
  };

  // Throws std::system_error if `least` are not to be had.
  explicit Threads(const Limits& limits);
  // Waits for the jobs.
  ~Threads();

  // Runs `job` in a thread; what it throws is lost. If it must wait for another's end since the
  // system has no thread to give, returns how many threads there are. Throws std::bad_alloc if
  // there is no memory to keep the job, which then never runs.
  std::optional<std::size_t> run(std::function<void()> job);

 private:
  // REQUIRES mutex_, as end() does.
  bool start();

  void end(std::unique_lock<std::mutex>& lock);

  void serve();

  const Limits limits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable ended_;
  std::deque<std::function<void()>> jobs_;
  std::size_t threads_ = 0;
  std::size_t starting_ = 0;  // of those, not begun yet
  std::size_t idle_ = 0;
  bool ending_ = false;
};

}  // namespace primgr
