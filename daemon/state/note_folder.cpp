#include "daemon/state/note_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "daemon/state/state_directory.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// The folder of a shipped unit: primgr.service or primgr@NAME.service. Empty for another
// configuration file.
std::string folder_of_unit(const std::string& config_file) {
  constexpr const char* folder = "/var/lib/primgr";
  if (config_file.empty() || config_file == "/etc/primgr.conf") return folder;
  const std::filesystem::path path(config_file);
  if (path.parent_path() != "/etc/primgr" || path.extension() != ".conf") return {};
  return std::string(folder) + "/" + path.stem().string();
}

bool is_same_folder(const std::string& a, const std::string& b) {
  std::error_code error;
  return a == b || (std::filesystem::equivalent(a, b, error) && !error);
}

// Whether a daemon has used the folder. The answer at the address is not trusted: it may name any
// folder.
bool has_a_daemon(const std::string& folder) {
  struct stat status {};
  return lstat((folder + "/" + alive_file).c_str(), &status) == 0 ? S_ISREG(status.st_mode)
                                                                  : errno != ENOENT;
}

// The folder of a daemon that answers. `told`: the stateDirectory of its answer.
std::string folder_of_daemon(const Config& config, const Json& told, const std::string& address,
                             std::string& why) {
  const std::string folder = told.is_string() ? told.get<std::string>() : "";
  if (folder.empty()) {
    why = "the daemon at " + address + " has no state_directory: set it, and restart that daemon";
  } else if (!config.state_directory.empty() && !is_same_folder(folder, config.state_directory)) {
    why = "the daemon at " + address + " has the state_directory " + folder +
          ", not the configured " + config.state_directory + ": restart it, or name its " +
          "configuration (--config)";
  } else if (config.state_directory.empty() && folder != folder_of_unit(config.file) &&
             !has_a_daemon(folder)) {
    why = "the daemon at " + address + " names " + folder +
          " as its state_directory, and no daemon has written there";
  }
  return why.empty() ? folder : "";
}

}  // namespace

std::string find_note_folder(const Config& config, const Own_Daemon& daemon, std::string& why) {
  why.clear();
  // A daemon of version 1.0 does not report its folder.
  if (daemon.node.is_object() && daemon.node.contains("stateDirectory")) {
    return folder_of_daemon(config, daemon.node["stateDirectory"], daemon.address, why);
  }
  if (daemon.answered && !daemon.node.is_object()) {
    why = "at " + daemon.address + ": " + daemon.why +
          ": is this the configuration of this host's daemon? (--config)";
    return {};
  }
  const std::string folder =
      config.state_directory.empty() ? folder_of_unit(config.file) : config.state_directory;
  if (folder.empty()) {
    why = "no daemon answers at " + daemon.address + ", and " + config.file +
          " does not set state_directory, so it is not known which folder that daemon has: start "
          "it first";
  } else if (!daemon.node.is_object() && is_in_use(folder)) {
    why = "a daemon uses " + folder + ", but none answers at " + daemon.address + " (" +
          daemon.why + "): is this its configuration? (--config, --listen)";
  }
  return why.empty() ? folder : "";
}

bool is_in_use(const std::string& folder) {
  const Descriptor fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd && flock(fd.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

std::string Command_Lock::lock(const std::string& folder) {
  const std::string path = folder + "/command";
  fd_.reset(open(path.c_str(), O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644));
  if (!fd_) return "cannot open " + path + ": " + std::strerror(errno);
  // The mode must not depend on the umask of the process that created the file: users other than
  // root may run commands, too.
  fchmod(fd_.get(), 0644);
  const int error = lock_file(fd_, 30s);
  if (error == 0) return {};
  if (error != EWOULDBLOCK) return "cannot lock " + path + ": " + std::strerror(error);
  return "another --drain, --undrain, --lost or --forget-timeline is under way in " + folder;
}

}  // namespace primgr
