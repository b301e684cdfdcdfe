#include "base/json.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace primgr {

namespace {

// The character that begins at `at`. If it is not valid UTF-8, it is one byte long.
struct Character {
  std::size_t length = 1;
  char32_t code = 0;  // if is_utf8
  bool is_utf8 = false;
  bool shown = false;  // it needs no escape: see printable()
};
Character character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  Character c;
  const unsigned char first = byte(at);
  c.length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (c.length == 0 || first > 0xf4 || at + c.length > text.size()) return {};
  c.code = c.length == 1 ? first : first & (0x7fU >> c.length);
  for (std::size_t i = 1; i < c.length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return {};
    c.code = c.code << 6 | (byte(at + i) & 0x3fU);
  }
  // Overlong, a surrogate, or beyond Unicode: RFC 3629 3.
  if ((c.length == 3 && c.code < 0x800) || (c.length == 4 && c.code < 0x10000) ||
      (c.code >= 0xd800 && c.code < 0xe000) || c.code > 0x10ffff) {
    return {};
  }
  const auto between = [&](char32_t low, char32_t high) { return c.code >= low && c.code <= high; };
  c.is_utf8 = true;
  c.shown = !(c.code < 0x20 || between(0x7f, 0x9f) || c.code == 0x61c || between(0x200e, 0x200f) ||
              between(0x2028, 0x202e) || between(0x2066, 0x2069));
  return c;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string safe;
  for (std::size_t at = 0; at < text.size();) {
    const Character c = character_at(text, at);
    if (c.shown) {
      safe += text.substr(at, c.length);
    } else {
      char escaped[8];
      const bool wide = c.is_utf8 && c.code >= 0x80;
      std::snprintf(escaped, sizeof escaped, wide ? "\\u%04x" : "\\x%02x",
                    wide ? static_cast<unsigned>(c.code) : static_cast<unsigned char>(text[at]));
      safe += escaped;
    }
    at += c.length;
  }
  return safe;
}

std::string printable_json(std::string json) {
  for (std::size_t at = 0; at < json.size();) {
    const auto byte = static_cast<unsigned char>(json[at]);
    const Character c = byte < 0x7f ? Character{1, byte, true, true} : character_at(json, at);
    if (c.is_utf8 && !c.shown) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c.code));
      json.replace(at, c.length, escaped);
    }
    at += c.length;
  }
  return json;
}

std::string dump(const Json& json) {
  return printable_json(json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

double in_seconds(Time time) {
  return std::round(std::chrono::duration<double, std::milli>(time).count()) / 1000;
}

Json or_null(std::optional<Time> value) {
  return value ? Json(in_seconds(*value)) : Json(nullptr);
}
Json or_null(std::optional<bool> value) {
  return value ? Json(*value) : Json(nullptr);
}
Json or_null(std::optional<int> value) {
  return value ? Json(*value) : Json(nullptr);
}
Json or_null(std::optional<double> value) {
  return value ? Json(*value) : Json(nullptr);
}
Json or_null(std::optional<std::uint64_t> value) {
  return value ? Json(*value) : Json(nullptr);
}
Json or_null(const std::optional<std::string>& value) {
  return value ? Json(*value) : Json(nullptr);
}
Json or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

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

Time from_seconds(double seconds) {
  return std::chrono::duration_cast<Time>(
      std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e9)));
}

}  // namespace primgr
