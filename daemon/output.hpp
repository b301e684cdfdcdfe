// How what is told is written: text for terminals, JSON, times.
//
// Names and messages come from the network and the database, so nothing of them may reach a
// terminal that it obeys.

#pragma once

#include <time.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "node/units.hpp"

namespace primgr {

// Keeps the order in which keys are added.
using Json = nlohmann::ordered_json;

// The text with an escape in place of each control character (those of C1 too, which terminals
// obey), each character that turns the direction of writing or breaks the line, and each byte that
// is no UTF-8.
std::string printable(std::string_view text);

// The same for a JSON text, of which it makes one that says the same: such characters stand in
// strings only.
std::string printable_json(std::string json);

// The document as one line, printable. Bytes that are no UTF-8 (a database in SQL_ASCII can name a
// node so) are replaced, not refused.
std::string dump(const Json& json);

// A moment in UTC, as RFC 3339 has it.
std::string print_time(const timespec& time);

// What the wall clock showed `ago`.
timespec wall_clock(Time ago = {});

}  // namespace primgr
