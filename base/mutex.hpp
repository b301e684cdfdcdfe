// A mutex, its lock and a condition variable. clang checks their use (-Wthread-safety): a member
// that is GUARDED_BY a mutex may be used only while the mutex is held, and a function that REQUIRES
// a mutex may be called only then. With other compilers the annotations are empty.

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
  // Declares that this thread holds the mutex, where clang cannot see that: in a function object
  // that is called under it. Does nothing at run time.
  void assert_held() const ASSERT_CAPABILITY(this) {}

 private:
  friend class Condition;
  std::mutex mutex_;
};

// Locks a mutex for its own lifetime.
class SCOPED_CAPABILITY Mutex_Lock {
 public:
  explicit Mutex_Lock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Mutex_Lock() RELEASE() { mutex_.unlock(); }
  Mutex_Lock(const Mutex_Lock&) = delete;
  Mutex_Lock& operator=(const Mutex_Lock&) = delete;

 private:
  Mutex& mutex_;
};

// Unlocks a mutex for its own lifetime, in a function that REQUIRES that mutex.
class SCOPED_CAPABILITY Mutex_Unlock {
 public:
  explicit Mutex_Unlock(Mutex& mutex) RELEASE(mutex) : mutex_(mutex) { mutex_.unlock(); }
  // clang requires RELEASE here: for it, the destructor undoes what the constructor did.
  ~Mutex_Unlock() RELEASE() { mutex_.lock(); }
  Mutex_Unlock(const Mutex_Unlock&) = delete;
  Mutex_Unlock& operator=(const Mutex_Unlock&) = delete;

 private:
  Mutex& mutex_;
};

// A condition variable. While it waits, the mutex is released. Waiting may end without a reason, so
// wait in a loop.
class Condition {
 public:
  void wait(Mutex& mutex) REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    changed_.wait(lock);
    lock.release();
  }
  // Returns false if the time is over.
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
