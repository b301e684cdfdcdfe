// The configuration file.

#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/address.hpp"
#include "base/log_level.hpp"
#include "daemon/http/settings.hpp"
#include "repmgr_node.hpp"

namespace primgr {

struct Config {
  Node_Settings node;
  Address listen{"*", 5999};
  std::string repmgr_conf;
  Peer_Addresses peers;
  std::string state_file, state_directory;
  std::string on_change;  // the program that is run at each change; empty: none
  Time on_change_timeout = std::chrono::seconds(10);
  std::size_t max_clients = 256;  // connections at a time
  Tls_Files tls;
  Log_Level log_level = Log_Level::info;
  std::string file;  // the file that it was read from; empty: none
};

// When a changed key takes effect: after a restart of the daemon, or after a reload.
enum class Change { restart, reload };

// A key other than peer.<name>. `parse` sets the key from its value, and throws Input_Error if the
// value is bad. `print` returns a value that `parse` accepts, or empty if the key is not set. A
// Reload::Apply passes a key of Change::reload to the code that uses it.
struct Config_Key {
  const char* name;
  void (*parse)(Config&, const std::string&);
  std::string (*print)(const Config&);
  Change change = Change::restart;
};

// A key of an older version, which is translated for this version. `now` is its new name. `value`
// returns its value for the new name, and throws Input_Error.
struct Old_Key {
  const char* name;
  const char* now;
  std::string (*value)(const std::string&);
};
std::span<const Old_Key> old_keys();

// The Change of every peer.<name>.
constexpr Change peers_change = Change::reload;

// All keys, in the order in which --check-config prints them.
std::span<const Config_Key> config_keys();

// Throws Input_Error.
Log_Level parse_log_level(const std::string& text);

// Parses the text of a configuration file. `file` is its name in messages. Throws Input_Error,
// which begins with "file:line: ", for an unknown key, a bad value, a repeated key, or values that
// contradict each other.
Config parse_config(const std::string& text, const std::string& file);

// Reads a configuration file. A key that it does not set has its default. Without a file name,
// reads /etc/primgr.conf if that exists. Throws Input_Error.
Config read_config(const std::string& file);

// read_config(), completed from the environment. If node.node_name is not set, it is the node_name
// of repmgr_conf, else the host name. If state_file is not set, it is in systemd's
// RuntimeDirectory= if there is one. If state_directory is not set, it is systemd's
// StateDirectory=. Throws Input_Error.
//
// `named`: false for a command that asks a daemon. A repmgr_conf is then not read, because other
// users may not be allowed to read it. node.node_name is empty if it would come from there.
Config load_config(const std::string& file, bool named = true);

// Reads node.node_name as load_config() does, if it is empty. Throws Input_Error.
void complete_node_name(Config& config);

// The owner of the state_file and of the files in state_directory. It is the node_id of the node,
// if that is known, else the node's name.
std::string owner_of_files(const Config& config);

// The output of --check-config. parse_config() reads it back as the same configuration.
std::string print_config(const Config& config);

}  // namespace primgr
