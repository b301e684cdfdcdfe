#include "daemon/run/look_socket.hpp"

#include <cerrno>
#include <cstddef>
#include <string>

namespace primgr {

Look_Socket::Look_Socket(int port) {
  address_.sun_family = AF_UNIX;
  const std::string name = "primgr:" + std::to_string(port);
  name.copy(address_.sun_path + 1, name.size());  // the first byte is NUL: the abstract namespace
  size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

bool Look_Socket::open() {
  if (!fd_) fd_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return bool(fd_);
}

bool Look_Socket::bind() {
  if (!open()) return false;
  if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address_), size_) == 0) return true;
  fd_.reset();
  return false;
}

void Look_Socket::drain() const {
  char ignored;
  for (int i = 0; i < 1000 && recv(fd_.get(), &ignored, 1, MSG_DONTWAIT) >= 0;) ++i;
}

bool Look_Socket::notify() {
  if (!open()) return false;
  const auto sent = sendto(fd_.get(), "", 0, MSG_DONTWAIT | MSG_NOSIGNAL,
                           reinterpret_cast<const sockaddr*>(&address_), size_);
  return sent == 0 || errno == EAGAIN;  // EAGAIN: the queue is already full of such messages
}

}  // namespace primgr
