#include "node/peers/lists_text.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.hpp"
#include "base/json.hpp"
#include "base/text.hpp"
#include "node/rules/model.hpp"

namespace primgr {

namespace {

using lists::Held;
using lists::List;
using lists::Members;
using lists::Round;
using lists::Served;

constexpr int max_depth = 6;
constexpr const char* first_version = "primgr 1";
constexpr const char* version = "primgr 2";
constexpr std::size_t most_scopes = 101, longest_name = 63, longest_host = 255,
                      longest_hostaddr = 63, most_file_bytes = 1024 * 1024;

// ---- printing

Json print_voted(const Primary_Timeline& voted) {
  return {
      {"system", std::to_string(voted.system)}, {"timeline", voted.number}, {"node", voted.node}};
}

Json print_round(const Round& round) {
  return Json::array({round.number, round.maker});
}

Json print_list(const List& list) {
  return {{"number", {list.number.round.number, list.number.round.maker, list.number.count}},
          {"carries", list.carries},
          {"members", list.members}};
}

Json print_one(const Held& held) {
  Json json = Json::object();
  if (held.scope.site) json["site"] = url_encoded(*held.scope.site);
  if (held.scope.system) json["system"] = std::to_string(held.scope.system);
  json["noted"] = print_round(held.noted);
  if (held.mute) json["mute"] = true;
  if (held.current.number) json["current"] = print_list(held.current);
  if (held.pending.number) json["pending"] = print_list(held.pending);
  return json;
}

void print_host(const std::string& host, const std::string& hostaddr, Json& json) {
  json["host"] = host.size() <= longest_host ? url_encoded(host) : "";
  if (!hostaddr.empty() && hostaddr.size() <= longest_hostaddr)
    json["hostaddr"] = url_encoded(hostaddr);
}

// JSON has only valid UTF-8, but a name may have any bytes.
Json print_addresses(const std::vector<const Held*>& all, const Addresses& addresses) {
  Json json = Json::array();
  for (const auto& [id, address] : addresses) {
    const bool is_member = std::any_of(all.begin(), all.end(), [id = id](const Held* held) {
      const auto has = [&](const List& list) {
        return std::binary_search(list.members.begin(), list.members.end(), id);
      };
      return has(held->current) || has(held->pending);
    });
    if (!is_member || address.name.size() > longest_name) continue;
    json.push_back({{"id", id}, {"name", url_encoded(address.name)}});
    print_host(address.host, address.hostaddr, json.back());
  }
  return json;
}

// ---- reading: these throw Input_Error

[[noreturn]] void damaged(const std::string& what) {
  throw Input_Error("has a damaged " + what);
}

std::uint64_t read_number(const Json& json, std::uint64_t most, const char* what) {
  if (!json.is_number_unsigned() || json.get<std::uint64_t>() > most) damaged(what);
  return json.get<std::uint64_t>();
}

int read_id(const Json& json, const char* what) {
  return static_cast<int>(read_number(json, std::numeric_limits<int>::max(), what));
}

std::uint32_t read_count(const Json& json) {
  return static_cast<std::uint32_t>(
      read_number(json, std::numeric_limits<std::uint32_t>::max(), "number"));
}

bool read_flag(const Json& json, const char* key) {
  const Json& value = at(json, key);
  if (!value.is_null() && !value.is_boolean()) damaged(key);
  return !value.is_null() && value.get<bool>();
}

std::string read_text(const Json& json, const char* key, std::size_t most) {
  const Json& value = at(json, key);
  const auto text = value.is_string() ? url_decoded(value.get<std::string>()) : std::nullopt;
  if (!text || text->size() > most) damaged(key);
  return *text;
}

std::string read_hostaddr(const Json& json) {
  return json.contains("hostaddr") ? read_text(json, "hostaddr", longest_hostaddr) : std::string();
}

// An array of at most `size` elements; with `exactly`, of that number.
const Json& read_array(const Json& json, std::size_t size, bool exactly, const char* what) {
  if (!json.is_array() || json.size() > size || (exactly && json.size() != size)) damaged(what);
  return json;
}

Round read_round(const Json& json) {
  read_array(json, 2, true, "noted");
  return {read_number(json[0], lists::highest_round, "noted"), read_id(json[1], "noted")};
}

List read_list(const Json& json, const char* key) {
  if (at(json, key).is_null()) return {};
  const Json& of = at(json, key);
  const Json& number = read_array(at(of, "number"), 3, true, key);
  List list;
  list.number.round = {read_number(number[0], lists::highest_round, key), read_id(number[1], key)};
  list.number.count = read_count(number[2]);
  list.carries = read_flag(of, "carries");
  for (const Json& id : read_array(at(of, "members"), lists::most_members, false, key)) {
    list.members.push_back(read_id(id, key));
    const std::size_t size = list.members.size();
    if (size > 1 && list.members[size - 2] >= list.members[size - 1]) damaged(key);
  }
  if (!list.number || list.members.empty()) damaged(key);
  return list;
}

// As text: many programs read a number in JSON exactly only up to 2^53. Zero if there is none.
std::uint64_t read_system(const Json& json) {
  if (at(json, "system").is_null()) return 0;
  const std::string text = text_at(json, "system");
  std::uint64_t system = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), system);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) damaged("system");
  return system;
}

Held read_one(const Json& json) {
  Held held;
  if (!json.is_object()) damaged("list");
  if (!at(json, "site").is_null()) held.scope.site = read_text(json, "site", longest_host);
  held.scope.system = read_system(json);
  held.noted = read_round(at(json, "noted"));
  held.mute = read_flag(json, "mute");
  held.current = read_list(json, "current");
  held.pending = read_list(json, "pending");
  if (held.pending.number && held.pending.number <= held.current.number) damaged("pending");
  return held;
}

Lost_Voter read_lost(const Json& json) {
  Lost_Voter lost;
  lost.node.id = read_id(at(json, "id"), "lost");
  lost.node.name = read_text(json, "name", longest_name);
  lost.node.host = read_text(json, "host", longest_host);
  lost.node.hostaddr = read_hostaddr(json);
  lost.since = text_at(json, "since");
  return lost;
}

void read_addresses(const Json& json, std::size_t most, Addresses& addresses) {
  for (const Json& entry : read_array(json, most, false, "address")) {
    addresses[read_id(at(entry, "id"), "address")] = {read_text(entry, "name", longest_name),
                                                      read_text(entry, "host", longest_host),
                                                      read_hostaddr(entry)};
  }
}

Members read_first_members(const Json& json, const Members& lost, Addresses& addresses) {
  Members members;
  for (const Json& node : read_array(json, lists::most_members, false, "list")) {
    const int id = read_id(at(node, "id"), "id");
    if (std::find(lost.begin(), lost.end(), id) == lost.end()) members.push_back(id);
    addresses[id] = {read_text(node, "name", longest_name), read_text(node, "host", longest_host)};
  }
  std::sort(members.begin(), members.end());
  members.erase(std::unique(members.begin(), members.end()), members.end());
  return members;
}

// The format of version 1.0: the confirmed list, the lists that were received since, and the lost
// voters.
Voter_Lists read_first(const Json& json, bool whole_cluster) {
  Voter_Lists lists;
  Members lost;
  for (const Json& voter : read_array(at(json, "lost"), lists::most_members, false, "lost")) {
    lists.lost.push_back(read_lost(voter));
    if (read_flag(voter, "leftOut")) lost.push_back(lists.lost.back().node.id);
  }
  const Json& first = at(json, "confirmed");
  const Members confirmed = read_first_members(first, lost, lists.addresses);
  if (confirmed.empty()) return lists;
  Held held;
  if (!whole_cluster) held.scope.site = read_text(first[0], "site", longest_host);
  held.current = lists::first_list(confirmed);
  const Json& received = read_array(at(json, "received"), most_scopes, false, "received");
  if (!received.empty()) {
    const Members last = read_first_members(received.back(), lost, lists.addresses);
    if (!last.empty() && last != confirmed) {
      held.pending = lists::first_list(last);
      held.pending.number.round.number = 2;
    }
  }
  lists.held.push_back(std::move(held));
  return lists;
}

template <class Read>
auto reading(const std::string& text, std::size_t most, std::string& why, Read read)
    -> std::optional<decltype(read(Json()))> {
  why.clear();
  try {
    if (text.size() > most) throw Input_Error("is too long");
    return read(parse_json(text, max_depth));
  } catch (const Input_Error& error) {
    why = error.what();
    return std::nullopt;
  }
}

}  // namespace

std::string print_lists(const Served& served, const Addresses& addresses) {
  Json json = print_one(served.held);
  json["round"] = served.round;
  json["reigns"] = served.reigns;
  json["made"] = served.made;
  json["addresses"] = print_addresses({&served.held}, addresses);
  return dump(json) + "\n";
}

std::optional<Served> parse_lists(const std::string& text, Addresses& addresses, std::string& why) {
  return reading(text, most_list_bytes, why, [&](const Json& json) {
    Served served{read_one(json), read_number(at(json, "round"), lists::highest_round, "round"),
                  read_flag(json, "reigns"), read_flag(json, "made")};
    read_addresses(at(json, "addresses"), 2 * lists::most_members, addresses);
    return served;
  });
}

std::string print_held(const Voter_Lists& lists) {
  Json sets = Json::array(), lost = Json::array();
  std::vector<const Held*> all;
  for (const Held& one : lists.held) {
    sets.push_back(print_one(one));
    all.push_back(&one);
  }
  for (const Lost_Voter& voter : lists.lost) {
    if (voter.node.name.size() > longest_name) continue;
    lost.push_back(
        {{"id", voter.node.id}, {"name", url_encoded(voter.node.name)}, {"since", voter.since}});
    print_host(voter.node.host, voter.node.hostaddr, lost.back());
  }
  return dump({{"version", version},
               {"lists", sets},
               {"addresses", print_addresses(all, lists.addresses)},
               {"lost", lost},
               {"voted", print_voted(lists.voted)}}) +
         "\n";
}

std::optional<Voter_Lists> parse_held(const std::string& text, bool whole_cluster,
                                      std::string& why) {
  return reading(text, most_file_bytes, why, [&](const Json& json) {
    const std::string written_by = text_at(json, "version");
    if (written_by == first_version) return read_first(json, whole_cluster);
    if (written_by != version) throw Input_Error("is damaged, or of a later version");
    Voter_Lists lists;
    for (const Json& one : read_array(at(json, "lists"), most_scopes, false, "list")) {
      lists.held.push_back(read_one(one));
    }
    read_addresses(at(json, "addresses"), 2 * lists::most_members * most_scopes, lists.addresses);
    for (const Json& one : read_array(at(json, "lost"), lists::most_members, false, "lost")) {
      lists.lost.push_back(read_lost(one));
    }
    if (const Json& voted = at(json, "voted"); !voted.is_null()) {
      lists.voted = {read_system(voted), read_id(at(voted, "timeline"), "timeline"),
                     read_id(at(voted, "node"), "node")};
    }
    return lists;
  });
}

}  // namespace primgr
