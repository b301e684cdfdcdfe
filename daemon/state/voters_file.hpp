// The files of state_directory about voters: the one that the daemon writes, see
// node/peers/lists_text.hpp, and the notes that `primgr --lost` and `--forget-timeline` leave for
// it; of the latter it matters only that it is there. Thread-safe: functions without state.

#pragma once

#include <optional>
#include <string>

#include "node/rules/voters.hpp"

namespace primgr {

inline constexpr const char* voters_file = "voters";
inline constexpr const char* lost_note_file = "lost";
inline constexpr const char* forget_timeline_note_file = "forget-timeline";

// What the note says.
std::string print_lost_note(const Lost_Declaration& note);
// None if it is no result of print_lost_note().
std::optional<Lost_Declaration> parse_lost_note(const std::string& text);

}  // namespace primgr
