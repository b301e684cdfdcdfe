#include "daemon/voters_file.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "daemon/json.hpp"
#include "node/text.hpp"

namespace primgr {

namespace {

constexpr int max_depth = 5;
constexpr const char* version = "primgr 1";

// What comes from a database may be any bytes, and JSON has none that are not UTF-8.
Json print_node(const Node& node) {
  return {{"id", node.id},
          {"name", url_encoded(node.name)},
          {"site", url_encoded(node.site)},
          {"host", url_encoded(node.host)}};
}

Json print_list(const Voter_List& list) {
  Json nodes = Json::array();
  for (const Node& node : list) nodes.push_back(print_node(node));
  return nodes;
}

// The readers throw Config_Error.
std::string read_text(const Json& json, const char* key) {
  const Json& value = at(json, key);
  if (!value.is_string()) throw Config_Error(std::string("has no ") + key);
  const auto text = url_decoded(value.get<std::string>());
  if (!text) throw Config_Error(std::string("has a damaged ") + key);
  return *text;
}

const Json& read_array(const Json& json, const char* key) {
  const Json& value = at(json, key);
  if (!value.is_array()) throw Config_Error(std::string("has no ") + key);
  return value;
}

Node read_node(const Json& json) {
  const Json& id = at(json, "id");
  if (!id.is_number_integer()) throw Config_Error("has no id");
  Node node;
  node.id = id.get<int>();
  node.name = read_text(json, "name");
  node.site = read_text(json, "site");
  node.host = read_text(json, "host");
  return node;
}

Voter_List read_list(const Json& json) {
  if (!json.is_array()) throw Config_Error("has no list");
  Voter_List list;
  for (const Json& node : json) list.push_back(read_node(node));
  std::sort(list.begin(), list.end(), [](const Node& a, const Node& b) { return a.id < b.id; });
  return list;
}

}  // namespace

std::string print_voters(const Voter_Lists& lists) {
  Json received = Json::array(), lost = Json::array();
  for (const Voter_List& list : lists.received) received.push_back(print_list(list));
  for (const Lost_Voter& voter : lists.lost) {
    Json entry = print_node(voter.node);
    entry["since"] = voter.since;
    entry["leftOut"] = voter.left_out;
    lost.push_back(entry);
  }
  return dump({{"version", version},
               {"confirmed", print_list(lists.confirmed)},
               {"received", received},
               {"lost", lost}}) +
         "\n";
}

std::optional<Voter_Lists> parse_voters(const std::string& text, std::string& why) {
  why.clear();
  try {
    const Json json = parse_json(text, max_depth);
    if (text_at(json, "version") != version)
      throw Config_Error("is damaged, or of another version");
    Voter_Lists lists;
    lists.confirmed = read_list(at(json, "confirmed"));
    for (const Json& list : read_array(json, "received")) lists.received.push_back(read_list(list));
    for (const Json& entry : read_array(json, "lost")) {
      const Json& left_out = at(entry, "leftOut");
      if (!left_out.is_boolean()) throw Config_Error("has no leftOut");
      lists.lost.push_back({read_node(entry), text_at(entry, "since"), left_out.get<bool>()});
    }
    return lists;
  } catch (const Config_Error& error) {
    why = error.what();
    return std::nullopt;
  }
}

std::string print_lost_note(const Lost_Declaration& note) {
  Json names = Json::array();
  for (const std::string& name : note.names) names.push_back(url_encoded(name));
  return dump({{"lost", names}, {"since", note.since}}) + "\n";
}

std::optional<Lost_Declaration> parse_lost_note(const std::string& text) {
  const Json json = parse_json(text, max_depth);
  const Json& names = at(json, "lost");
  if (!names.is_array()) return std::nullopt;
  Lost_Declaration note{{}, text_at(json, "since")};
  for (const Json& name : names) {
    const auto decoded = name.is_string() ? url_decoded(name.get<std::string>()) : std::nullopt;
    if (!decoded) return std::nullopt;
    note.names.push_back(*decoded);
  }
  return note;
}

}  // namespace primgr
