// Finds the state_directory to which a command (--drain, --lost, --forget-timeline) writes its
// file.

#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/descriptor.hpp"
#include "base/json.hpp"
#include "daemon/config/config.hpp"

namespace primgr {

// The result of the request to the daemon at the configured address.
struct Own_Daemon {
  Json node;              // its answer to /node; null: no answer, or that of another node
  bool answered = false;  // whether anything answered
  std::string address;    // the address of the request
  std::string why;        // why there is no answer
};

// The folder of the daemon that uses this configuration. If no daemon answers, it is
// state_directory. If that is not set, it is the folder of the shipped unit with this
// configuration. Empty, with the reason in `why`, if the folder is not certain. Several daemons on
// a host have a folder each, and a file in the wrong folder would act on the wrong daemon.
std::string find_note_folder(const Config& config, const Own_Daemon& daemon, std::string& why);

// Whether a daemon has locked the folder.
bool is_in_use(const std::string& folder);

// Lets only one command at a time work in a folder. Not thread-safe.
class Command_Lock {
 public:
  // Waits for the other command, 30 s at most. Returns empty on success, else the reason.
  std::string lock(const std::string& folder);

 private:
  Descriptor fd_;
};

}  // namespace primgr
