// Writing text for terminals, and JSON. All functions are thread-safe.
//
// Names and messages come from the network and from databases, so none may contain a character that
// controls a terminal.

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "node/units.hpp"

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

// As JSON has a duration: in seconds, rounded to milliseconds.
double in_seconds(Time time);

}  // namespace primgr
