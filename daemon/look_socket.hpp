// `primgr --look`: how a daemon is told to look at its database now.

#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/descriptor.hpp"

namespace primgr {

// Where the daemon that listens on a port is told to look at its database now (`primgr --look`): a
// datagram socket in the abstract namespace, which has no file and so no folder, owner or mode: who
// tells is repmgrd, whose user is not the daemon's. Each network namespace has its own.
//
// Anybody on the host may send to it. A message says "look now", whatever is in it, and causes what
// a question for a vote from anywhere can cause too: one look, at most every 100 ms. Who takes the
// name first keeps notifications from the daemon, and nothing else.
class Look_Socket {
 public:
  explicit Look_Socket(int port);

  // Takes the name. False, with errno: not to be had now.
  bool bind();
  // To poll(2) for; -1: without the name.
  int fd() const { return fd_.get(); }
  // Forgets what has come; so much at a time, lest who sends without end keeps the caller.
  void drain() const;

  // Tells who has the name to look. False, with errno: nobody was told.
  bool tell();

 private:
  bool open();

  sockaddr_un address_{};
  socklen_t size_ = 0;
  Descriptor fd_;
};

}  // namespace primgr
