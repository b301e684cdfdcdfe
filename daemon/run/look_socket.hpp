// The socket of `primgr --look`, which makes a daemon look at its database now.

#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include "base/descriptor.hpp"

namespace primgr {

// A datagram socket in the abstract namespace (unix(7)). Its name contains the daemon's port. Such
// a socket has no file, so no owner or mode can keep the sender out: repmgrd may run as a different
// user than the daemon. Each network namespace has its own names.
//
// Security: any process on the host may send to it. A message means "look now", whatever its
// contents. Messages cause one look every 100 ms at most, and a request for a vote from any host
// can cause a look too. A process that binds the name before the daemon keeps these messages from
// the daemon, and can do nothing else.
//
// Not thread-safe.
class Look_Socket {
 public:
  // `port`: the port on which the daemon serves HTTP.
  explicit Look_Socket(int port);

  // The daemon's side. False, with errno, if it failed, for example because another process has the
  // name.
  bool bind();
  // For poll(2); -1 before bind().
  int fd() const { return fd_.get(); }
  // Discards waiting messages, 1,000 at most, so that an endless sender cannot block the
  // caller.
  void drain() const;

  // The sender's side. False, with errno: no daemon was notified.
  bool notify();

 private:
  bool open();

  sockaddr_un address_{};
  socklen_t size_ = 0;
  Descriptor fd_;
};

}  // namespace primgr
