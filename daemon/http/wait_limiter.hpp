// Limits how many requests wait at a time.

#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <optional>
#include <string>

#include "base/mutex.hpp"

namespace primgr {

// Limits how many requests wait for something other than the cache. A waiting request holds a
// connection and a thread, which health checks need. An address gets a place only if it holds fewer
// places than are free. So even if several addresses take as many as they may, each leaves about
// half of the rest, and another node that needs a place finds one. Thread-safe; the mutex guards
// the list of addresses.
class Wait_Limiter {
 public:
  explicit Wait_Limiter(std::size_t max) : max_(max) {}

  // A place for one request, until this object is destroyed. False: there was no place, so the
  // request must not wait.
  class Slot {
   public:
    Slot(Wait_Limiter& limiter, const std::string& address) : limiter_(limiter) {
      const Mutex_Lock lock(limiter_.mutex_);
      const std::size_t free = limiter_.max_ - limiter_.addresses_.size();
      const auto waiting =
          std::count(limiter_.addresses_.begin(), limiter_.addresses_.end(), address);
      if (static_cast<std::size_t>(waiting) >= free) return;
      limiter_.addresses_.push_front(address);
      entry_ = limiter_.addresses_.begin();
    }
    ~Slot() {
      const Mutex_Lock lock(limiter_.mutex_);
      if (entry_) limiter_.addresses_.erase(*entry_);
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    explicit operator bool() const { return entry_.has_value(); }

   private:
    Wait_Limiter& limiter_;
    std::optional<std::list<std::string>::iterator> entry_;
  };

 private:
  const std::size_t max_;
  Mutex mutex_;
  std::list<std::string> addresses_ GUARDED_BY(mutex_);
};

}  // namespace primgr
