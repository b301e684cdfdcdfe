#include "daemon/run/systemd.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/descriptor.hpp"

namespace primgr {

void notify_systemd(const char* state) {
  const char* path = getenv("NOTIFY_SOCKET");
  sockaddr_un to{};
  if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof to.sun_path) return;
  to.sun_family = AF_UNIX;
  std::strcpy(to.sun_path, path);
  if (*path == '@') to.sun_path[0] = '\0';
  const Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return;
  const auto size = offsetof(sockaddr_un, sun_path) + strlen(path);
  sendto(socket.get(), state, strlen(state), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&to),
         static_cast<socklen_t>(size));
}

}  // namespace primgr
