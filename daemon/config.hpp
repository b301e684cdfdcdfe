// The configuration file.

#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "daemon/address.hpp"
#include "repmgr_node.hpp"

namespace primgr {

struct Config {
  Node_Settings node;
  Address listen{"0.0.0.0", 5999};
  std::string repmgr_conf;
  int peer_port = 5999;
  std::map<std::string, Address> peers;  // by node name as configured; port 0: peer_port
  std::string state_file;
  int http_threads = 8;
  std::string tls_cert, tls_key, tls_ca;  // names of PEM files
  Log_Level log_level = Log_Level::info;
};

// Every key but peer.<name>: how its value is read (throws Config_Error) and shown.
struct Config_Key {
  const char* name;
  void (*parse)(Config&, const std::string&);
  std::string (*print)(const Config&);
};

// All of them, in the order in which they are printed.
std::span<const Config_Key> config_keys();

Log_Level parse_log_level(const std::string& text);

// Reads the text of a configuration file; `file` is for messages. Throws Config_Error, with
// "file:line: ", at an unknown key, a bad value or a repeated key.
Config parse_config(const std::string& text, const std::string& file);

// node_name of a repmgr.conf, where the = may be left out. Other lines are repmgr's business.
// Throws Config_Error.
std::string read_repmgr_conf(const std::string& path);

// The configuration file's, and the defaults. No file name: the default file, if there is one.
// Throws Config_Error.
Config read_config(const std::string& file);

// The configuration in force: that, and who this node is (node_name, else that of repmgr_conf, else
// the host name). Throws Config_Error.
Config load_config(const std::string& file);

// What --check-config prints: it can be read back as a configuration file.
std::string print_config(const Config& config);

}  // namespace primgr
