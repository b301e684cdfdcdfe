// Writing and reading JSON, and text for terminals. All functions are thread-safe. JSON from other
// hosts is read so that any value may have any type.
//
// Names and messages come from the network and from databases, so the output must not contain a
// character that controls a terminal.

#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.hpp"

namespace primgr {

// Keeps the order in which keys are added.
using Json = nlohmann::ordered_json;

// The text, with escapes (\x1b, \u202e) in place of control characters (C0, DEL, and C1, which
// terminals obey too), of characters that change the writing direction or break the line, and of
// bytes that are not UTF-8.
std::string printable(std::string_view text);

// The same for a JSON text. The result is JSON with the same meaning, since such characters occur
// in its strings only. Bytes that are not UTF-8 are left as they are.
std::string printable_json(std::string json);

// Serializes as one line of printable_json(). Bytes that are not UTF-8, as a database in SQL_ASCII
// may have in the name of a node, are replaced by U+FFFD; no exception is thrown.
std::string dump(const Json& json);

// A duration as a number in JSON: in seconds, rounded to milliseconds.
double in_seconds(Time time);

// The value, null if there is none; a Time in seconds.
Json or_null(std::optional<Time> value);
Json or_null(std::optional<bool> value);
Json or_null(std::optional<int> value);
Json or_null(std::optional<double> value);
Json or_null(std::optional<std::uint64_t> value);
Json or_null(const std::optional<std::string>& value);
// The text, null if it is empty.
Json or_null(const std::string& text);

// ---- reading

// The value at a key; null if `json` is not an object or has no such key. Never throws.
const Json& at(const Json& json, const char* key);
// The string at a key, made printable(); empty if it is not a string.
std::string text_at(const Json& json, const char* key);
// The number at a key, limited to +-1e15 so that it can be converted to any 64-bit integer type.
std::optional<double> number_at(const Json& json, const char* key);

// Parses a text; null if it is not JSON. Values that are nested deeper than max_depth are left out,
// so that no recursion over the result can exhaust the stack.
Json parse_json(const std::string& text, int max_depth);

// Converts a number of seconds from another host, limited to the range from 0 to 1e9.
Time from_seconds(double seconds);

}  // namespace primgr
