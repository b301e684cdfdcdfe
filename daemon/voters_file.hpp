// What state_directory holds of lists of voters: a file that the daemon writes, and the note that
// `primgr --lost` leaves for it. Thread-safe: functions without state.

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node/report.hpp"
#include "node/voters.hpp"

namespace primgr {

inline constexpr const char* voters_file = "voters";
inline constexpr const char* lost_note_file = "lost";

// The contents of the file.
std::string print_voters(const Voter_Lists& lists);

// Reads that. None, with the reason in `why`, if it is no result of print_voters().
std::optional<Voter_Lists> parse_voters(const std::string& text, std::string& why);

// What the note says.
std::string print_lost_note(const Lost_Declaration& note);
// None if it is no result of print_lost_note().
std::optional<Lost_Declaration> parse_lost_note(const std::string& text);

}  // namespace primgr
