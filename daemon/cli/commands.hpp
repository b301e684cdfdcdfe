// The commands that print something and exit: `primgr --once`, `--status`, `--history`, `--look`,
// `--lost`, `--forget-timeline`, `--drain`.

#pragma once

#include <exception>

#include "base/log.hpp"
#include "daemon/cli/options.hpp"
#include "daemon/config/config.hpp"
#include "daemon/http/http.hpp"

namespace primgr {

// Flushes standard output. Returns the exit status: `status`, unless the output could not be
// written.
int flush_output(int status);

// Prints an error. Returns `status`.
int report_error(const std::exception& error, int status);

// `primgr --look`. Reads no file except the configuration, because repmgr's user may not be allowed
// to read the TLS key or the passfile. Returns the exit status. Throws Input_Error.
int run_look(const Options& options);

// `primgr --lost` and `--found`: writes a note for the daemon of this host to its state_directory,
// and waits until the daemon has asked the voters whether they are alive. Returns the exit status.
// Throws Input_Error.
int run_lost(const Http_Library& http, const Config& config, const Tls& tls,
             const Options& options);

// `primgr --forget-timeline`: writes a note for the daemon of this host to its state_directory, and
// waits until the daemon has read it. Returns the exit status. Throws Input_Error.
int run_forget_timeline(const Http_Library& http, const Config& config, const Tls& tls);

// `primgr --drain` and `--undrain`: writes or removes the file that marks the node as drained, and
// waits until the daemon of this host has read it. Returns the exit status. Throws Input_Error.
int run_drain(const Http_Library& http, const Config& config, const Tls& tls,
              const Options& options);

// `primgr --status` and `--history`: requests /cluster from a daemon and prints the answer. With
// --watch, it repeats that every 2 s. Returns the exit status. Throws Input_Error.
int run_status(const Http_Library& http, const Config& config, const Options& options,
               const Stderr_Log& log);

// `primgr --once`: asks the daemon of this host, or looks at the database itself if there is no
// daemon. Prints the answer, and ends the process with the exit status. If a missing permission
// made the look fail, prints that on standard error.
[[noreturn]] void run_once(const Http_Library& http, Config config, const Tls& tls,
                           const Options& options, const Stderr_Log& log);

}  // namespace primgr
