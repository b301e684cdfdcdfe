#include "daemon/state/voters_file.hpp"

#include <nlohmann/json.hpp>

#include "base/json.hpp"
#include "base/text.hpp"

namespace primgr {

std::string print_lost_note(const Lost_Declaration& note) {
  Json names = Json::array();
  for (const std::string& name : note.names) names.push_back(url_encoded(name));
  return dump({{"lost", names}, {"since", note.since}}) + "\n";
}

std::optional<Lost_Declaration> parse_lost_note(const std::string& text) {
  const Json json = parse_json(text, 5);
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
