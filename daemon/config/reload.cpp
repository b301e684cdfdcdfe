#include "daemon/config/reload.hpp"

#include <cstddef>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.hpp"
#include "base/text.hpp"

namespace primgr {

namespace {

std::string described(const std::string& key, const std::string& value) {
  return value.empty() ? key + " is not set" : key + " = " + value;
}

// A printed conninfo has no secrets, and a secret may change too. So the conninfo itself is
// compared.
bool differs(const Config_Key& key, const Config& a, const Config& b) {
  if (key.name == std::string_view("conninfo")) return a.node.conninfo != b.node.conninfo;
  return key.print(a) != key.print(b);
}

std::string print_peer(const Config& config, const std::string& name) {
  const auto found = config.peers.by_name.find(name);
  return found == config.peers.by_name.end() ? "" : print_address(found->second);
}

}  // namespace

Config_Changes compare(const Config& started, const Config& live, const Config& read) {
  Config_Changes changes;
  for (const Config_Key& key : config_keys()) {
    const bool at_once = key.change == Change::reload;
    if (!differs(key, at_once ? live : started, read)) continue;
    if (at_once) {
      changes.at_once.push_back(described(key.name, key.print(read)));
    } else {
      changes.on_restart.emplace_back(key.name);
    }
  }
  static_assert(peers_change == Change::reload);
  std::set<std::string> peers;
  for (const Config* config : {&live, &read}) {
    for (const auto& [name, address] : config->peers.by_name) peers.insert(name);
  }
  for (const std::string& name : peers) {
    const std::string address = print_peer(read, name);
    if (address != print_peer(live, name)) {
      changes.at_once.push_back(described("peer." + name, address));
    }
  }
  return changes;
}

void Reload::run(bool asked) {
  due_ = due_ || asked;
  if (!due_) return;
  Config read;
  try {
    read = load_();
    // A start without a file name needs no file. But the file existed when it was read last.
    if (read.file.empty() && !live_.file.empty()) throw Input_Error(live_.file + ": it is gone");
  } catch (const Input_Error& error) {
    log_(Log_Level::error, std::string("reload: ") + error.what() +
                               " (nothing has changed: mend it, then reload again)");
    due_ = false;
    return;
  }
  const Config_Changes changes = compare(started_, live_, read);
  for (const Apply& apply : appliers_) apply(read);
  live_ = std::move(read);
  due_ = false;
  if (!changes.at_once.empty()) {
    log_(Log_Level::info, "reload: in force now: " + joined(changes.at_once));
  }
  if (const std::size_t many = changes.on_restart.size(); many > 0) {
    log_(Log_Level::warning, "reload: " + joined(changes.on_restart) +
                                 (many == 1 ? " has changed: restart primgr for this"
                                            : " have changed: restart primgr for these"));
  } else if (changes.at_once.empty()) {
    log_(Log_Level::info, "reload: nothing has changed");
  }
}

}  // namespace primgr
