#include "daemon/state/history_file.hpp"

#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "base/json.hpp"
#include "base/time.hpp"
#include "node/peers/wire.hpp"

namespace primgr {

using std::chrono::milliseconds;

namespace {

constexpr int max_depth = 3;
constexpr const char* version = "primgr 1";

// The year 9999, which is later than the end of any run.
constexpr double max_milliseconds = 253'402'300'799'000.0;

Json print_milliseconds_of(Time time) {
  return std::chrono::floor<milliseconds>(time).count();
}

// These read functions throw Input_Error.
milliseconds read_milliseconds(const Json& entry, const char* key) {
  const auto value = number_at(entry, key);
  if (!value || *value < 0 || *value > max_milliseconds) {
    throw Input_Error(std::string("has no valid ") + key);
  }
  return milliseconds(static_cast<long long>(*value));
}

// A Time has nanoseconds, so its range is smaller than that of the wall clock.
Time read_duration(const Json& entry, const char* key) {
  const milliseconds value = read_milliseconds(entry, key);
  if (value > std::chrono::hours(24 * 365 * 200))
    throw Input_Error(std::string("has a bad ") + key);
  return value;
}

std::optional<State> read_state(const Json& entry, const char* key) {
  const Json& word = at(entry, key);
  if (word.is_null()) return std::nullopt;
  const auto state = parse_state(text_at(entry, key));
  if (!state) throw Input_Error(std::string("has no valid ") + key);
  return state;
}

State_Change read_change(const Json& entry) {
  if (!entry.is_object()) throw Input_Error("has no list of changes");
  State_Change change;
  change.at = Wall_Time(read_milliseconds(entry, "at"));
  change.from = read_state(entry, "from");
  change.to = read_state(entry, "to");
  change.reason = bounded_reason(text_at(entry, "reason"));
  change.primary = text_at(entry, "primary");
  change.lasted = read_duration(entry, "lasted");
  if (!at(entry, "handover").is_null()) change.handover = read_duration(entry, "handover");
  return change;
}

}  // namespace

std::string print_history(const History& history, const std::string& node) {
  Json changes = Json::array();
  for (const State_Change& change : history) {
    Json entry = {{"at", print_milliseconds_of(change.at.time_since_epoch())},
                  {"from", or_null(change.from)},
                  {"to", or_null(change.to)},
                  {"reason", change.reason},
                  {"primary", change.primary},
                  {"lasted", print_milliseconds_of(change.lasted)}};
    if (change.handover) entry["handover"] = print_milliseconds_of(*change.handover);
    changes.push_back(std::move(entry));
  }
  return dump({{"version", version}, {"node", node}, {"changes", changes}}) + "\n";
}

std::optional<History> parse_history(const std::string& text, const std::string& node,
                                     std::string& why) {
  why.clear();
  try {
    const Json json = parse_json(text, max_depth);
    if (text_at(json, "version") != version) {
      throw Input_Error(text_at(json, "version").starts_with("primgr ")
                            ? "is of another version of primgr"
                            : "is damaged");
    }
    const Json& of = at(json, "node");
    if (!of.is_null() && !of.is_string()) throw Input_Error("has no valid node");
    if (of.is_string() && !names_equal(text_at(json, "node"), node)) {
      throw Input_Error("is of the node \"" + text_at(json, "node") + "\", not of this one");
    }
    const Json& changes = at(json, "changes");
    if (!changes.is_array()) throw Input_Error("has no list of changes");
    History history;
    for (const Json& entry : changes) add_change(history, read_change(entry));
    return history;
  } catch (const Input_Error& error) {
    why = error.what();
    return std::nullopt;
  }
}

}  // namespace primgr
