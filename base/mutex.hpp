// A mutex, its lock and a condition variable, whose use clang checks (-Wthread-safety): a member
// that is GUARDED_BY a mutex is only used while that is held, and a function that REQUIRES one is
// only called then. With other compilers the annotations are empty.

#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define THREAD_ANNOTATION(attribute) __attribute__((attribute))
#else
#define THREAD_ANNOTATION(attribute)
#endif
#define CAPABILITY(name) THREAD_ANNOTATION(capability(name))
#define SCOPED_CAPABILITY THREAD_ANNOTATION(scoped_lockable)
#define GUARDED_BY(mutex) THREAD_ANNOTATION(guarded_by(mutex))
#define REQUIRES(mutex) THREAD_ANNOTATION(requires_capability(mutex))
#define EXCLUDES(mutex) THREAD_ANNOTATION(locks_excluded(mutex))
#define ACQUIRE(...) THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define ASSERT_CAPABILITY(mutex) THREAD_ANNOTATION(assert_capability(mutex))

namespace primgr {

class CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }
  // Says that this thread holds it, where clang cannot see that: in a function object that is
  // called under it. Does nothing when the program runs.
  void assert_held() const ASSERT_CAPABILITY(this) {}

 private:
  friend class Condition;
  std::mutex mutex_;
};

// Holds a mutex while it lives.
class SCOPED_CAPABILITY Mutex_Lock {
 public:
  explicit Mutex_Lock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Mutex_Lock() RELEASE() { mutex_.unlock(); }
  Mutex_Lock(const Mutex_Lock&) = delete;
  Mutex_Lock& operator=(const Mutex_Lock&) = delete;

 private:
  Mutex& mutex_;
};

// Gives a mutex up while it lives, in a function that REQUIRES that.
class SCOPED_CAPABILITY Mutex_Unlock {
 public:
  explicit Mutex_Unlock(Mutex& mutex) RELEASE(mutex) : mutex_(mutex) { mutex_.unlock(); }
  // As clang wants it: the end of the scope undoes what its beginning did.
  ~Mutex_Unlock() RELEASE() { mutex_.lock(); }
  Mutex_Unlock(const Mutex_Unlock&) = delete;
  Mutex_Unlock& operator=(const Mutex_Unlock&) = delete;

 private:
  Mutex& mutex_;
};

// A condition variable. Waiting gives the mutex up meanwhile, and may end without a reason: wait in
// a loop.
class Condition {
 public:
  void wait(Mutex& mutex) REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    changed_.wait(lock);
    lock.release();
  }
  // False: the time is over.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point until) REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    const auto status = changed_.wait_until(lock, until);
    lock.release();
    return status == std::cv_status::no_timeout;
  }

  void notify_one() { changed_.notify_one(); }
  void notify_all() { changed_.notify_all(); }

 private:
  std::condition_variable changed_;
};

}  // namespace primgr
