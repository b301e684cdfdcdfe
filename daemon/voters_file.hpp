// The files of state_directory about voters: the one that the daemon writes, see
// node/lists_text.hpp, and the note that `primgr --lost` leaves for it. Thread-safe: functions
// without state.

#pragma once

#include <optional>
#include <string>

#include "node/voters.hpp"

namespace primgr {

inline constexpr const char* voters_file = "voters";
inline constexpr const char* lost_note_file = "lost";

// What the note says.
std::string print_lost_note(const Lost_Declaration& note);
// None if it is no result of print_lost_note().
std::optional<Lost_Declaration> parse_lost_note(const std::string& text);

}  // namespace primgr
