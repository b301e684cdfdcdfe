// What systemd is told.

#pragma once

namespace primgr {

// Tells systemd how the daemon is, if it wants to know: sd_notify(3)'s protocol, one datagram to
// $NOTIFY_SOCKET.
void notify_systemd(const char* state);

}  // namespace primgr
