#include "base/descriptor.hpp"

#include <cerrno>

namespace primgr {

void Descriptor::reset(int fd) {
  const int error = errno;
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
  errno = error;
}

}  // namespace primgr
