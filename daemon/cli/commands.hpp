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

// Prints an error. Returns the exit status: `status`.
int report_error(const std::exception& error, int status);

// `primgr --look`. Reads no file but the configuration: repmgr's user may not be allowed to read
// the TLS key or the passfile. Returns the exit status. Throws Input_Error.
int run_look(const Options& options);

// `primgr --lost` and `--found`: leaves a note for the daemon of this host in its state_directory,
// and waits until that has asked the voters whether they live. Returns the exit status. Throws
// Input_Error.
int run_lost(const Http_Library& http, const Config& config, const Tls& tls,
             const Options& options);

// `primgr --forget-timeline`: leaves a note for the daemon of this host in its state_directory, and
// waits until that has read it. Returns the exit status. Throws Input_Error.
int run_forget_timeline(const Http_Library& http, const Config& config, const Tls& tls);

// `primgr --drain` and `--undrain`: writes or removes the file that says so, and waits until the
// daemon of this host has read it. Returns the exit status. Throws Input_Error.
int run_drain(const Http_Library& http, const Config& config, const Tls& tls,
              const Options& options);

// `primgr --status` and `--history`: asks a daemon for /cluster and prints the answer, with --watch
// every 2 s.
// Returns the exit status. Throws Input_Error.
int run_status(const Http_Library& http, const Config& config, const Options& options,
               const Stderr_Log& log);

// `primgr --once`: asks the daemon of this host, looks itself if there is none, prints what it
// found, and ends the process with the exit status. A look that failed for want of a right says so
// on standard error.
[[noreturn]] void run_once(const Http_Library& http, Config config, const Tls& tls,
                           const Options& options, const Stderr_Log& log);

}  // namespace primgr
