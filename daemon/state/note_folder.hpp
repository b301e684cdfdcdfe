// The state_directory in which a command (--drain, --lost, --forget-timeline) leaves its file.

#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/descriptor.hpp"
#include "base/json.hpp"
#include "daemon/config/config.hpp"

namespace primgr {

// What came of the question to the daemon at the configured address.
struct Own_Daemon {
  Json node;              // its answer to /node; null if it gave none, or is another node's
  bool answered = false;  // something did
  std::string address;    // where it was asked
  std::string why;        // there is no answer
};

// The folder that the daemon uses which has this configuration. If none answers: state_directory;
// if that is not set, the one that the shipped unit with this configuration has. Empty, with the
// reason in `why`, if that is not certain: several daemons on a host have a folder each, and a file
// in another's folder would act on that one.
std::string find_note_folder(const Config& config, const Own_Daemon& daemon, std::string& why);

// Whether a daemon has the folder locked.
bool is_in_use(const std::string& folder);

// Lets one command work in a folder at a time. Not thread-safe.
class Command_Lock {
 public:
  // Waits for the other one, 30 s at most. Empty on success, else the reason.
  std::string lock(const std::string& folder);

 private:
  Descriptor fd_;
};

}  // namespace primgr
