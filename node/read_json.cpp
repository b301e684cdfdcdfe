#include "node/read_json.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace primgr {

const Json& at(const Json& json, const char* key) {
  static const Json nothing;
  const auto found = json.is_object() ? json.find(key) : json.end();
  return !json.is_object() || found == json.end() ? nothing : *found;
}
std::string text_at(const Json& json, const char* key) {
  const Json& value = at(json, key);
  return value.is_string() ? printable(value.get<std::string>()) : std::string();
}
std::optional<double> number_at(const Json& json, const char* key) {
  const Json& value = at(json, key);
  if (!value.is_number()) return std::nullopt;
  return std::clamp(value.get<double>(), -1e15, 1e15);
}

Json parse_json(const std::string& text, int max_depth) {
  Json json = Json::parse(
      text, [&](int depth, Json::parse_event_t, Json&) { return depth <= max_depth; }, false);
  return json.is_discarded() ? Json() : json;
}

}  // namespace primgr
