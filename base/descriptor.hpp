// A file descriptor with an owner.

#pragma once

#include <unistd.h>
#include <chrono>

#include <utility>

namespace primgr {

// Closes its file descriptor when it is destroyed. Not thread-safe.
class Descriptor {
 public:
  Descriptor() = default;
  // Takes ownership of `fd`; negative: none.
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    reset(other.release());
    return *this;
  }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  // Gives up ownership, and returns the descriptor.
  int release() { return std::exchange(fd_, -1); }
  // Closes it, and takes ownership of `fd`. Keeps errno, so that it may be called before the error
  // of a system call is read.
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// Locks an open file with flock(2), for this process alone. While another process has it, tries
// again for `patience`. Returns 0 or an errno: EWOULDBLOCK if the other process still has it.
int lock_file(const Descriptor& fd, std::chrono::milliseconds patience = {});

}  // namespace primgr
