// Notifications to systemd.

#pragma once

namespace primgr {

// Sends `state` ("READY=1", …) to $NOTIFY_SOCKET, by the protocol of sd_notify(3). Does nothing if
// that variable is not set. Errors are ignored.
void notify_systemd(const char* state);

}  // namespace primgr
