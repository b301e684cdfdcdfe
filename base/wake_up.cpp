#include "base/wake_up.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace primgr {

Wake_Up::Wake_Up() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Wake_Up::~Wake_Up() {
  close(fd_);
}

void Wake_Up::wake() const {
  const std::uint64_t one = 1;
  // Fails only if the counter is at its maximum, and then fd() is readable already.
  [[maybe_unused]] const auto written = write(fd_, &one, sizeof one);
}

void Wake_Up::clear() const {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto taken = read(fd_, &count, sizeof count);
}

}  // namespace primgr
