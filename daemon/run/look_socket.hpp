// The socket of `primgr --look`, which tells a daemon to look at its database now.

#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include "base/descriptor.hpp"

namespace primgr {

// A datagram socket in the abstract namespace (unix(7)); its name contains the daemon's port. Such
// a socket has no file, and so no owner or mode that could keep the sender out: repmgrd runs as
// another user than the daemon. Each network namespace has its own names.
//
// Security: any process on the host may send to it. A message means "look now", whatever it
// contains, and causes one look every 100 ms at most, as a question for a vote from anywhere can
// too. A process that binds the name before the daemon keeps these messages from the daemon, and
// can do nothing else.
//
// Not thread-safe.
class Look_Socket {
 public:
  // `port`: where the daemon serves HTTP.
  explicit Look_Socket(int port);

  // The daemon's side. False, with errno: another process has the name.
  bool bind();
  // For poll(2); -1 before bind().
  int fd() const { return fd_.get(); }
  // Discards waiting messages, 1,000 at most, so that an endless sender cannot block the caller.
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
