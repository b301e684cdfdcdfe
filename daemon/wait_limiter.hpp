// Limits how many requests wait at a time.

#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <string>

namespace primgr {

// Limits how many requests wait for something other than the cache, in all and from one address. A
// waiting request holds a connection and a thread, which health checks need. Thread-safe; the mutex
// guards the list of addresses.
class Wait_Limiter {
 public:
  Wait_Limiter(std::size_t max, std::size_t max_of_address)
      : max_(max), max_of_address_(max_of_address) {}

  // A place for one request, held until it is destroyed; false: there was none, do not wait.
  class Slot {
   public:
    Slot(Wait_Limiter& limiter, const std::string& address) : limiter_(limiter) {
      const std::lock_guard lock(limiter_.mutex_);
      const auto waiting =
          std::count(limiter_.addresses_.begin(), limiter_.addresses_.end(), address);
      if (limiter_.addresses_.size() >= limiter_.max_ ||
          static_cast<std::size_t>(waiting) >= limiter_.max_of_address_) {
        return;
      }
      limiter_.addresses_.push_front(address);
      entry_ = limiter_.addresses_.begin();
    }
    ~Slot() {
      const std::lock_guard lock(limiter_.mutex_);
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
  const std::size_t max_, max_of_address_;
  std::mutex mutex_;
  std::list<std::string> addresses_;
};

}  // namespace primgr
