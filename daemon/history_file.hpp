// What state_directory holds of the last changes of state. Thread-safe: functions without state.

#pragma once

#include <optional>
#include <string>

#include "node/history.hpp"

namespace primgr {

inline constexpr const char* history_file = "history";

// The contents of the file.
std::string print_history(const History& history);

// Reads that. None, with the reason in `why`, if it is no result of print_history().
std::optional<History> parse_history(const std::string& text, std::string& why);

}  // namespace primgr
