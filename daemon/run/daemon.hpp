// The daemon: its threads, its signals, and the periodic work of its main thread.

#pragma once

#include <functional>

#include "daemon/config/config.hpp"
#include "daemon/http/http.hpp"

namespace primgr {

// Runs the daemon until SIGTERM or SIGINT. Logs the reason if it cannot run. `read_again` reads the
// configuration for a reload. For signalfd(2), it blocks the signals that it handles, in this
// thread and in all threads that it starts. So call it in the main thread, before there are other
// threads. Returns the exit status.
int run_daemon(const Http_Library& http, const Config& config,
               const std::function<Config()>& read_again, Tls& tls, Stderr_Log& log);

}  // namespace primgr
