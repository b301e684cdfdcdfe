// Reads the configuration again while the daemon runs (SIGHUP).

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/config/config.hpp"
#include "node/rules/model.hpp"

namespace primgr {

// How a configuration that was read differs from the configuration in use.
struct Config_Changes {
  std::vector<std::string> at_once;  // keys of Change::reload: "key = value", or "key is not set"
  std::vector<std::string>
      on_restart;  // the keys of Change::restart; no value, which may be secret
};

// `started`: the configuration at the start of the daemon. `live`: the one that was read last.
Config_Changes compare(const Config& started, const Config& live, const Config& read);

// Puts the keys into effect that may change while the daemon runs. Logs the keys that need a
// restart. If the configuration cannot be read, logs the reason and changes nothing.
//
// For one thread (main). The configuration at the start of the daemon is never written to, so other
// threads may continue to read it. They get values of a new configuration only from an Apply.
class Reload {
 public:
  // Puts the keys of Change::reload that it is responsible for into effect, whether they have
  // changed or not. It has to be thread-safe towards the threads that use the keys, and must not
  // block. If it throws std::bad_alloc or std::system_error, all Apply functions are called again.
  using Apply = std::function<void(const Config& read)>;

  // `load` reads the configuration in the same way as at the start. It throws Input_Error.
  Reload(const Config& started, std::function<Config()> load, Logger log)
      : started_(started), live_(started), load_(std::move(load)), log_(std::move(log)) {}

  void add(Apply apply) { appliers_.push_back(std::move(apply)); }

  // Reads the configuration if a reload is `asked` for now, or if an earlier one did not finish.
  // Throws std::bad_alloc, and std::system_error if an Apply throws it.
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
