// A file descriptor that is closed with its owner.

#pragma once

#include <unistd.h>

#include <utility>

namespace primgr {

// Not thread-safe.
class Descriptor {
 public:
  Descriptor() = default;
  // Takes over `fd`; negative: none.
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    reset(other.release());
    return *this;
  }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  // Gives it away.
  int release() { return std::exchange(fd_, -1); }
  // Closes it, and takes over another. Leaves errno as it was.
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

}  // namespace primgr
