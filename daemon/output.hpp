// Writing text for terminals, JSON and times. All functions are thread-safe.
//
// Names and messages come from the network and from databases, so none may contain a character that
// controls a terminal.

#pragma once

#include <time.h>

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

// In UTC, as in RFC 3339: "2026-01-31T12:00:00.000Z".
std::string print_time(const timespec& time);

// A number of seconds that comes from another host: none is too large.
Time from_seconds(double seconds);

// The time of the wall clock, `ago` before now.
timespec wall_clock(Time ago = {});

}  // namespace primgr
