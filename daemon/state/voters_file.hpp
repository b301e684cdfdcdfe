// The files of state_directory about voters. The daemon writes one, see node/peers/lists_text.hpp.
// `primgr --lost` and `primgr --forget-timeline` leave notes for the daemon. The note of
// --forget-timeline has no contents that matter: the daemon checks only that it exists.
// Thread-safe: functions without state.

#pragma once

#include <optional>
#include <string>

#include "node/rules/voters.hpp"

namespace primgr {

inline constexpr const char* voters_file = "voters";
inline constexpr const char* lost_note_file = "lost";
inline constexpr const char* forget_timeline_note_file = "forget-timeline";

// The contents of the note.
std::string print_lost_note(const Lost_Declaration& note);
// None if print_lost_note() did not write it.
std::optional<Lost_Declaration> parse_lost_note(const std::string& text);

}  // namespace primgr
