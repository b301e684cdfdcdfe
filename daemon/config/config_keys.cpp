// The keys of the configuration file.

#include <algorithm>
#include <iterator>

#include "base/error.hpp"
#include "base/log.hpp"
#include "daemon/config/config.hpp"
#include "node/database/conninfo.hpp"

namespace primgr {

using namespace std::chrono_literals;

Log_Level parse_log_level(const std::string& text) {
  const auto* found = std::find(std::begin(log_level_names), std::end(log_level_names), text);
  if (found == std::end(log_level_names)) {
    throw Input_Error("\"" + text + "\" is not error, warning, info or debug");
  }
  return static_cast<Log_Level>(found - std::begin(log_level_names));
}

namespace {

std::string parse_nonempty(const std::string& text) {
  if (text.empty()) throw Input_Error("the value is empty");
  return text;
}

// A changed key needs a restart unless its row has Change::reload. The keys that the safety of
// votes depends on need one (leases, delays, names, who votes, where promises are stored). They
// must not change while a vote counts.
constexpr Config_Key keys[] = {
    {"listen", [](Config& c, const std::string& v) { c.listen = parse_address(v, true); },
     [](const Config& c) { return print_address(c.listen); }},
    {"conninfo", [](Config& c, const std::string& v) { c.node.conninfo = parse_conninfo(v); },
     [](const Config& c) { return print_conninfo(c.node.conninfo); }},
    {"max_connections_in_pool",
     [](Config& c, const std::string& v) {
       c.node.max_connections_in_pool = static_cast<std::size_t>(parse_integer(v, 1, 3));
     },
     [](const Config& c) { return std::to_string(c.node.max_connections_in_pool); }},
    {"db_timeout",
     [](Config& c, const std::string& v) { c.node.db_timeout = parse_duration(v, 10ms, 1h); },
     [](const Config& c) { return print_duration(c.node.db_timeout); }},
    {"node_name", [](Config& c, const std::string& v) { c.node.node_name = parse_nonempty(v); },
     [](const Config& c) { return c.node.node_name; }},
    {"repmgr_conf", [](Config& c, const std::string& v) { c.repmgr_conf = parse_nonempty(v); },
     [](const Config& c) { return c.repmgr_conf; }},
    {"peer_port",
     [](Config& c, const std::string& v) { c.peers.port = parse_integer(v, 1, 65535); },
     [](const Config& c) { return std::to_string(c.peers.port); }, Change::reload},
    {"peer_timeout",
     [](Config& c, const std::string& v) { c.node.peer_timeout = parse_duration(v, 10ms, 1min); },
     [](const Config& c) { return print_duration(c.node.peer_timeout); }},
    {"refresh_interval",
     [](Config& c, const std::string& v) {
       c.node.refresh_interval = parse_duration(v, 10ms, 20s);
     },
     [](const Config& c) { return print_duration(c.node.refresh_interval); }},
    {"vote_lease",
     [](Config& c, const std::string& v) { c.node.vote_lease = parse_duration(v, 20ms, 1min); },
     [](const Config& c) { return print_duration(c.node.vote_lease); }},
    {"check_delay",
     [](Config& c, const std::string& v) { c.node.check_delay = parse_duration(v, 0s, 30s); },
     [](const Config& c) { return print_duration(c.node.check_delay); }},
    {"cache_ttl",
     [](Config& c, const std::string& v) { c.node.cache_ttl = parse_duration(v, 10ms, 20s); },
     [](const Config& c) { return print_duration(c.node.cache_ttl); }},
    {"consensus",
     [](Config& c, const std::string& v) {
       if (v != "site" && v != "cluster") throw Input_Error("\"" + v + "\" is not site or cluster");
       c.node.consensus_cluster = v == "cluster";
     },
     [](const Config& c) { return std::string(c.node.consensus_cluster ? "cluster" : "site"); }},
    {"state_file", [](Config& c, const std::string& v) { c.state_file = parse_nonempty(v); },
     [](const Config& c) { return c.state_file; }},
    {"state_directory",
     [](Config& c, const std::string& v) { c.state_directory = parse_nonempty(v); },
     [](const Config& c) { return c.state_directory; }},
    {"on_change",
     [](Config& c, const std::string& v) {
       if (!v.starts_with('/'))
         throw Input_Error("\"" + v + "\" is not the whole path of a program");
       c.on_change = v;
     },
     [](const Config& c) { return c.on_change; }, Change::reload},
    {"on_change_timeout",
     [](Config& c, const std::string& v) { c.on_change_timeout = parse_duration(v, 10ms, 1h); },
     [](const Config& c) { return print_duration(c.on_change_timeout); }, Change::reload},
    {"max_clients",
     [](Config& c, const std::string& v) {
       c.max_clients = static_cast<std::size_t>(parse_integer(v, 32, 8192));
     },
     [](const Config& c) { return std::to_string(c.max_clients); }},
    {"tls_cert", [](Config& c, const std::string& v) { c.tls.cert = parse_nonempty(v); },
     [](const Config& c) { return c.tls.cert; }},
    {"tls_key", [](Config& c, const std::string& v) { c.tls.key = parse_nonempty(v); },
     [](const Config& c) { return c.tls.key; }},
    {"tls_ca", [](Config& c, const std::string& v) { c.tls.ca = parse_nonempty(v); },
     [](const Config& c) { return c.tls.ca; }},
    {"log_level", [](Config& c, const std::string& v) { c.log_level = parse_log_level(v); },
     [](const Config& c) { return std::string(log_level_names[static_cast<int>(c.log_level)]); },
     Change::reload},
};

}  // namespace

std::span<const Config_Key> config_keys() {
  return keys;
}

std::span<const Old_Key> old_keys() {
  static constexpr Old_Key old[] = {
      {"http_threads", "max_clients",
       [](const std::string& v) { return std::to_string(32 * parse_integer(v, 1, 256)); }},
  };
  return old;
}

}  // namespace primgr
