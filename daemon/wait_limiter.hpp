// Bounds how many requests wait.

#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <string>

namespace primgr {

// Bounds how many requests wait for something else than the cache, in all and of one address, so
// that those who ask for it cannot hold what a check needs. Thread-safe; the mutex guards the list.
class Wait_Limiter {
 public:
  Wait_Limiter(std::size_t max, std::size_t max_of_address)
      : max_(max), max_of_address_(max_of_address) {}

  // One that waits while this lives; false: it may not.
  class Slot {
   public:
    Slot(Wait_Limiter& of, const std::string& address) : of_(of) {
      const std::lock_guard lock(of_.mutex_);
      const auto waiting = std::count(of_.addresses_.begin(), of_.addresses_.end(), address);
      if (of_.addresses_.size() >= of_.max_ ||
          static_cast<std::size_t>(waiting) >= of_.max_of_address_) {
        return;
      }
      of_.addresses_.push_front(address);
      at_ = of_.addresses_.begin();
    }
    ~Slot() {
      const std::lock_guard lock(of_.mutex_);
      if (at_) of_.addresses_.erase(*at_);
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    explicit operator bool() const { return at_.has_value(); }

   private:
    Wait_Limiter& of_;
    std::optional<std::list<std::string>::iterator> at_;
  };

 private:
  const std::size_t max_, max_of_address_;
  std::mutex mutex_;
  std::list<std::string> addresses_;
};

}  // namespace primgr
