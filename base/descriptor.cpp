#include "base/descriptor.hpp"

#include <sys/file.h>

#include <cerrno>
#include <thread>

namespace primgr {

void Descriptor::reset(int fd) {
  const int error = errno;
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
  errno = error;
}

int lock_file(const Descriptor& fd, std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK || std::chrono::steady_clock::now() >= until) return errno;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return 0;
}

}  // namespace primgr
