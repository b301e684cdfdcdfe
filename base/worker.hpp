// A thread for work that may hang for ever, in a file system or in a program of the operator.

#pragma once

#include <chrono>
#include <memory>
#include <thread>

#include "base/mutex.hpp"
#include "base/time.hpp"

namespace primgr {

// The data that an object shares with its Worker; derive from it. The mutex guards all members that
// the derived class marks with GUARDED_BY.
struct Worker_State {
  Mutex mutex;
  Condition changed;
  bool ending GUARDED_BY(mutex) = false;  // the thread is to end
  bool ended GUARDED_BY(mutex) = false;
};

// A detached thread. It shares ownership of State and uses nothing else, so it may outlive the
// object that owns the Worker.
//
// Not thread-safe: start() and end() must be called by one thread, or under a mutex of the caller.
template <typename State>
class Worker {
 public:
  ~Worker() { end(); }
  Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  State& state() const { return *state_; }

  // Starts the thread, which calls `work` once. `work` must return when State::ending is set.
  // Throws std::system_error if no thread can be started.
  void start(void (*work)(State&)) {
    std::thread([state = state_, work] {
      work(*state);
      const Mutex_Lock lock(state->mutex);
      state->ended = true;
      state->changed.notify_all();
    }).detach();
    started_ = true;
  }

  // Makes the thread end, and waits for its end, 100 ms at most. May be called again.
  void end() {
    const Mutex_Lock lock(state_->mutex);
    state_->ending = true;
    state_->changed.notify_all();
    const Deadline until = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
    while (started_ && !state_->ended && state_->changed.wait_until(state_->mutex, until)) {
    }
  }

 private:
  const std::shared_ptr<State> state_ = std::make_shared<State>();
  bool started_ = false;
};

}  // namespace primgr
