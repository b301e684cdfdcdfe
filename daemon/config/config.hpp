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
  std::string on_change;  // the program that is told of changes; empty: none
  Time on_change_timeout = std::chrono::seconds(10);
  std::size_t max_clients = 256;  // connections at a time
  Tls_Files tls;
  Log_Level log_level = Log_Level::info;
  std::string file;  // that it was read from; empty: there is none
};

// What it takes for a change of a key to come into force: a restart of the daemon, or a reload.
enum class Change { restart, reload };

// A key other than peer.<name>. `parse` sets it from its value, and throws Input_Error if that is
// bad; `print` returns a value that `parse` accepts, or empty if the key is not set. A key of
// Change::reload is given to those who use it by a Reload::Apply.
struct Config_Key {
  const char* name;
  void (*parse)(Config&, const std::string&);
  std::string (*print)(const Config&);
  Change change = Change::restart;
};

// A key of an older version, which is understood for this version: its new name, and its value
// there. Throws Input_Error.
struct Old_Key {
  const char* name;
  const char* now;
  std::string (*value)(const std::string&);
};
std::span<const Old_Key> old_keys();

// That of every peer.<name>.
constexpr Change peers_change = Change::reload;

// All keys, in the order in which --check-config prints them.
std::span<const Config_Key> config_keys();

// Throws Input_Error.
Log_Level parse_log_level(const std::string& text);

// Parses the text of a configuration file. `file` is its name in messages. Throws Input_Error,
// which begins with "file:line: ", for an unknown key, a bad value, a repeated key, or values that
// contradict each other.
Config parse_config(const std::string& text, const std::string& file);

// Reads a configuration file; what it does not set has its default. Without a file name, reads
// /etc/primgr.conf if that exists. Throws Input_Error.
Config read_config(const std::string& file);

// read_config(), completed from the environment: node.node_name, if not set, is the node_name of
// repmgr_conf, else the host name; state_file, if not set, is in systemd's RuntimeDirectory= if
// there is one, and state_directory is its StateDirectory=. Throws Input_Error.
//
// `named`: false for who asks a daemon: a repmgr_conf, which others may not be allowed to read, is
// left alone, and node.node_name is empty if it would come from there.
Config load_config(const std::string& file, bool named = true);

// Reads node.node_name as load_config() does, if it is empty. Throws Input_Error.
void complete_node_name(Config& config);

// Whose files the state_file and what is in state_directory are: a node is its node_id, if that is
// known, else its name.
std::string owner_of_files(const Config& config);

// What --check-config prints. parse_config() reads it back as the same configuration.
std::string print_config(const Config& config);

}  // namespace primgr
