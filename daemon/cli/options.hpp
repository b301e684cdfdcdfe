// The command line.

#pragma once

#include <string>
#include <vector>

#include "base/log.hpp"
#include "daemon/config/config.hpp"

namespace primgr {

// The parsed command line.
struct Options {
  enum class Mode {
    daemon,
    once,
    status,
    history,
    look,
    lost,
    found,
    forget_timeline,
    drain,
    undrain,
    check_config,
    version,
    help
  } mode = Mode::daemon;
  std::string config_file;
  std::string listen;
  std::string log_level;
  Log_Format log_format = Log_Format::text;
  std::string subject = "state";  // of --once: "state", "primary" or "real-primary"
  std::string url;                // of --status and --history
  std::vector<std::string> lost;  // of --lost: names of nodes; of --found: none
  std::string reason;             // of --drain; empty: none
  bool watch = false;
  bool json = false;
};

// Parses the command line. Throws Input_Error on wrong usage. Not thread-safe: getopt(3).
Options parse_options(int argc, char** argv);

// load_config() of the file, with the values of the command line in place of those in the file. For
// --once, --status and --history, the name is not read from repmgr_conf. Throws Input_Error.
Config load_config(const Options& options);

// The text that --help prints.
extern const char* const usage;

}  // namespace primgr
