#include "daemon/config/config.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>
#include <sstream>
#include <tuple>
#include <utility>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/text.hpp"
#include "daemon/config/repmgr_conf.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

namespace {

// Removes the text in single quotes from the beginning of `rest`, and returns it. In it, '' is one
// quote.
std::string take_quoted(std::string_view& rest) {
  std::string value;
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (rest[i] != '\'') {
      value += rest[i];
    } else if (i + 1 < rest.size() && rest[i + 1] == '\'') {
      value += rest[i++];
    } else {
      rest.remove_prefix(i + 1);
      return value;
    }
  }
  throw Input_Error("the closing quote is missing");
}

// The value in `rest`, the text after `key =`. It is in single quotes, or ends at a comment. A #
// begins a comment only after a blank or at the beginning of the value.
std::string parse_value(std::string_view rest) {
  rest = trimmed(rest);
  if (rest.starts_with('"')) {
    throw Input_Error("the value begins with a double quote: put it in single quotes");
  }
  if (!rest.starts_with('\'')) {
    for (std::size_t i = 0; i < rest.size(); ++i) {
      if (rest[i] == '#' && (i == 0 || blanks.find(rest[i - 1]) != blanks.npos)) {
        rest = rest.substr(0, i);
      }
    }
    return std::string(trimmed(rest));
  }
  const std::string value = take_quoted(rest);
  rest = trimmed(rest);
  if (!rest.empty() && rest.front() != '#') {
    throw Input_Error("there is more after the closing quote");
  }
  return value;
}

constexpr std::string_view peer_prefix = "peer.";

// Parses `key = value`. The key is empty for a blank line or a comment. The name of a peer may
// contain blanks, and in single quotes any character.
std::pair<std::string, std::string> parse_line(std::string_view line) {
  line = trimmed(line);
  if (line.empty() || line.front() == '#') return {};
  std::string key;
  const bool is_peer = line.starts_with(peer_prefix);
  if (is_peer && line.substr(peer_prefix.size()).starts_with('\'')) {
    line.remove_prefix(peer_prefix.size());
    key = std::string(peer_prefix) + take_quoted(line);
  } else {
    key = trimmed(line.substr(0, line.find_first_of(is_peer ? "=" : " \t=")));
    line.remove_prefix(key.size());
  }
  line = trimmed(line);
  if (key.empty() || !line.starts_with('=')) throw Input_Error("not of the form key = value");
  return {key, parse_value(line.substr(1))};
}

// The key, quoted, for an error message. Empty if the line might be a connection URL instead of a
// key, because the URL could contain a password.
std::string quoted_key(const std::string& key) {
  const bool plain = key.find_first_of(":@") == key.npos;
  return plain ? " \"" + key + "\"" : "";
}

// Calls `visit` with each line and its "file:line: " prefix.
template <typename Visit>
void for_each_line(const std::string& text, const std::string& file, Visit visit) {
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    visit(line, file + ":" + std::to_string(number) + ": ");
  }
}

// Where each key was set, as "file:line: ". The index is canonical_key().
using Places = std::map<std::string, std::string>;

// Two keys are the same if their canonical_key() is equal. The names of peers are compared as
// names_equal() does.
std::string canonical_key(const std::string& key) {
  return key.starts_with(peer_prefix) ? host_name(key) : key;
}

// The value of an old key under its new name. Throws Input_Error.
std::string translated(const Old_Key& old, const std::string& value) {
  try {
    return old.value(value);
  } catch (const Input_Error& error) {
    throw Input_Error(std::string(old.name) + ": " + error.what() + " (the key is " + old.now +
                      " now)");
  }
}

// Parses one line into `config`. Throws Input_Error without the "file:line: ".
void parse_setting(std::string_view line, const std::string& where, Config& config,
                   Places& places) {
  std::string key, value;
  std::tie(key, value) = parse_line(line);
  if (key.empty()) return;
  for (const Old_Key& old : old_keys()) {
    if (key != old.name) continue;
    key = old.now;
    value = translated(old, value);
  }
  if (const auto [first, added] = places.emplace(canonical_key(key), where); !added) {
    throw Input_Error("key" + quoted_key(key) + " was set before, at " +
                      first->second.substr(0, first->second.size() - 2));
  }
  if (key.starts_with(peer_prefix)) {
    const std::string name = key.substr(peer_prefix.size());
    if (name.empty()) throw Input_Error("the value is empty");
    config.peers.by_name[name] = parse_address(value, false);
    return;
  }
  const auto keys = config_keys();
  const auto known =
      std::find_if(keys.begin(), keys.end(), [&](const Config_Key& k) { return key == k.name; });
  if (known == keys.end()) {
    throw Input_Error("unknown key" + quoted_key(key) + "; primgr.conf.example shows every key");
  }
  try {
    known->parse(config, value);
  } catch (const Input_Error& error) {
    throw Input_Error(key + ": " + error.what());
  }
}

// Throws Input_Error if values that are each valid contradict each other. The message begins with
// the place where one of them was set.
void check_combinations(const Config& config, Places& places) {
  constexpr const char* lease_keys[] = {"vote_lease", "check_delay", "refresh_interval",
                                        "peer_timeout"};
  const Node_Settings& node = config.node;
  const Time renewal = node.refresh_interval + node.peer_timeout;
  const Time counted = vote_lifetime({node.vote_lease, node.check_delay});
  if (counted <= renewal) {
    const auto key = std::find_if(std::begin(lease_keys), std::end(lease_keys),
                                  [&](const char* k) { return places.contains(k); });
    throw Input_Error(places[*key] + "vote_lease (" + print_duration(node.vote_lease) +
                      ") less 1 % and check_delay (" + print_duration(node.check_delay) +
                      ") must be longer than refresh_interval + peer_timeout (" +
                      print_duration(renewal) + "), or votes expire before they are renewed");
  }
  if (node.cache_ttl <= node.refresh_interval) {
    throw Input_Error(places[places.contains("cache_ttl") ? "cache_ttl" : "refresh_interval"] +
                      "cache_ttl (" + print_duration(node.cache_ttl) +
                      ") must be longer than refresh_interval (" +
                      print_duration(node.refresh_interval) + ")");
  }
  if (config.tls.cert.empty() != config.tls.key.empty()) {
    const bool has_cert = config.tls.key.empty();
    throw Input_Error(places[has_cert ? "tls_cert" : "tls_key"] +
                      "tls_cert and tls_key go together: set " +
                      (has_cert ? "tls_key" : "tls_cert") + " too");
  }
  if (config.tls.cert.empty() && !config.tls.ca.empty()) {
    throw Input_Error(places["tls_ca"] + "tls_ca goes with tls_cert and tls_key: set them too");
  }
}

}  // namespace

Config parse_config(const std::string& text, const std::string& file) {
  Config config;
  Places places;
  for_each_line(text, file, [&](const std::string& line, const std::string& where) {
    try {
      parse_setting(line, where, config, places);
    } catch (const Input_Error& error) {
      throw Input_Error(where + error.what());
    }
  });
  check_combinations(config, places);
  return config;
}

namespace {

constexpr const char* default_config_file = "/etc/primgr.conf";

}  // namespace

Config read_config(const std::string& file) {
  const bool no_file = file.empty() && access(default_config_file, F_OK) != 0;
  const std::string path = file.empty() ? default_config_file : file;
  if (no_file) return {};
  Config config = parse_config(read_file(path), path);
  config.file = path;
  return config;
}

Config load_config(const std::string& file, bool named) {
  Config config = read_config(file);
  // Set by systemd from a unit's RuntimeDirectory= and StateDirectory=: systemd.exec(5).
  const char* runtime = getenv("RUNTIME_DIRECTORY");
  if (config.state_file.empty() && runtime && *runtime == '/') {
    config.state_file = std::string(runtime) + "/grants";
  }
  const char* state = getenv("STATE_DIRECTORY");
  if (config.state_directory.empty() && state && *state == '/') config.state_directory = state;
  if (named || config.repmgr_conf.empty()) complete_node_name(config);
  return config;
}

void complete_node_name(Config& config) {
  if (!config.node.node_name.empty()) return;
  if (!config.repmgr_conf.empty()) {
    try {
      const Repmgr_Conf conf = read_repmgr_conf(config.repmgr_conf);
      config.node.node_name = conf.node_name;
      config.node.node_id = conf.node_id;
    } catch (const Input_Error& error) {
      throw Input_Error("repmgr_conf: " + std::string(error.what()) +
                        " (node_name, if it is set, is taken instead)");
    }
    return;
  }
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  config.node.node_name = host;
}

std::string owner_of_files(const Config& config) {
  const int id = config.node.node_id;
  return id ? "node_id " + std::to_string(id) : config.node.node_name;
}

std::string print_config(const Config& config) {
  std::string text;
  const auto quoted = [](const std::string& value) {
    std::string made = "'";
    for (const char c : value) made += c == '\'' ? std::string("''") : std::string(1, c);
    return made + "'";
  };
  const auto line = [&](const std::string& key, const std::string& value) {
    text += key + " = " + quoted(value) + "\n";
  };
  for (const Config_Key& key : config_keys()) {
    const std::string value = key.print(config);
    // An empty conninfo means libpq's defaults, not primgr's.
    if (!value.empty() || key.name == std::string_view("conninfo")) line(key.name, value);
  }
  for (const auto& [name, address] : config.peers.by_name) {
    const bool plain = name.find_first_of("='") == name.npos && trimmed(name) == name;
    line(std::string(peer_prefix) + (plain ? name : quoted(name)), print_address(address));
  }
  return text;
}

}  // namespace primgr
