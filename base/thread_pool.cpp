#include "base/thread_pool.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <system_error>
#include <utility>

#include "base/time.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// Starts a detached thread; false if the system has no thread or no memory for it. An exception
// from `body` ends the thread, not the process. `stack` is in bytes; sanitizers need more.
bool start_thread(std::size_t stack, std::function<void()> body) noexcept try {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  stack *= 8;
#endif
  auto owned = std::make_unique<std::function<void()>>(std::move(body));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, stack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int error = pthread_create(
      &thread, &attributes,
      [](void* argument) -> void* {
        const std::unique_ptr<std::function<void()>> run(
            static_cast<std::function<void()>*>(argument));
        try {
          (*run)();
        } catch (const std::exception&) {
        }
        return nullptr;
      },
      owned.get());
  pthread_attr_destroy(&attributes);
  if (error == 0) owned.release();  // the thread owns it now
  return error == 0;
} catch (const std::bad_alloc&) {
  return false;
}

// Whether the process may map `size` more bytes (RLIMIT_AS).
bool has_room(std::size_t size) {
  if (size == 0) return true;  // mmap(2) refuses a size of zero
  void* room = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return false;
  munmap(room, size);
  return true;
}

}  // namespace

Thread_Pool::Thread_Pool(const Limits& limits) : limits_(limits) {
  const Mutex_Lock lock(mutex_);
  while (threads_ < limits_.min) {
    if (add_thread()) continue;
    shut_down();
    throw std::system_error(EAGAIN, std::generic_category(), "no threads, or no memory for them");
  }
}

Thread_Pool::~Thread_Pool() {
  const Mutex_Lock lock(mutex_);
  shut_down();
}

std::optional<std::size_t> Thread_Pool::run(std::function<void()> job) {
  const Mutex_Lock lock(mutex_);
  jobs_.push_back(std::move(job));
  const bool wanted = jobs_.size() > idle_ + starting_ && threads_ < limits_.max;
  const bool lacking = wanted && !(has_room(limits_.spare_address_space) && add_thread());
  changed_.notify_one();
  return lacking ? std::optional(threads_) : std::nullopt;
}

bool Thread_Pool::add_thread() {
  if (!start_thread(limits_.stack_size, [this] { run_jobs(); })) return false;
  ++threads_;
  ++starting_;
  return true;
}

void Thread_Pool::shut_down() {
  ending_ = true;
  changed_.notify_all();
  while (threads_ > 0) ended_.wait(mutex_);
}

void Thread_Pool::run_jobs() {
  const Mutex_Lock lock(mutex_);
  --starting_;
  for (;;) {
    ++idle_;
    const Deadline until = std::chrono::steady_clock::now() + 5s;
    while (!ending_ && jobs_.empty() && changed_.wait_until(mutex_, until)) {
    }
    --idle_;
    if (!jobs_.empty()) {
      auto job = std::move(jobs_.front());
      jobs_.pop_front();
      const Mutex_Unlock unlock(mutex_);
      try {
        job();
      } catch (const std::exception&) {
      }
      job = nullptr;  // destroys what it holds before the mutex is taken
    } else if (ending_ || threads_ > limits_.min) {
      break;
    }
  }
  if (--threads_ == 0) ended_.notify_all();
}

}  // namespace primgr
