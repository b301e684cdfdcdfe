// Reading the configuration again while the daemon runs (SIGHUP).

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/config/config.hpp"
#include "node/rules/model.hpp"

namespace primgr {

// How a configuration that was read differs from that in force.
struct Config_Changes {
  std::vector<std::string> at_once;  // of Change::reload: "key = value", or "key is not set"
  std::vector<std::string>
      on_restart;  // the keys of Change::restart; no value, which may be secret
};

// `started`: that the daemon started with, `live`: that it read last.
Config_Changes compare(const Config& started, const Config& live, const Config& read);

// Puts what may change while the daemon runs into force, and names in the log what takes a restart,
// or why the configuration cannot be read; then nothing changes.
//
// For one thread (main). The configuration that the daemon started with is never written to, so
// other threads may go on reading it; what they see of a new one, an Apply hands over.
class Reload {
 public:
  // Brings those keys of Change::reload that it is for into force, whether they have changed or
  // not. It has to be safe towards the threads that use them, and must not block. If it throws
  // std::bad_alloc, all are called again.
  using Apply = std::function<void(const Config& read)>;

  // `load` reads the configuration as it was read at the start; it throws Input_Error.
  Reload(const Config& started, std::function<Config()> load, Logger log)
      : started_(started), live_(started), load_(std::move(load)), log_(std::move(log)) {}

  void add(Apply apply) { appliers_.push_back(std::move(apply)); }

  // Reads the configuration if that is `asked` for now, or was, and there was no memory for it.
  // Throws std::bad_alloc.
  void run(bool asked);

 private:
  const Config started_;
  Config live_;
  const std::function<Config()> load_;
  const Logger log_;
  std::vector<Apply> appliers_;
  bool due_ = false;
};

}  // namespace primgr
