// What state_directory holds of the last changes of state. Thread-safe: functions without state.

#pragma once

#include <optional>
#include <string>

#include "node/rules/history.hpp"

namespace primgr {

inline constexpr const char* history_file = "history";

// The contents of the file. `node`: whose history it is.
std::string print_history(const History& history, const std::string& node);

// Reads that. None, with the reason in `why`, if it is no result of print_history(), or that of
// another node, from which this machine was copied. A file of 1.0 names no node, and is read.
std::optional<History> parse_history(const std::string& text, const std::string& node,
                                     std::string& why);

}  // namespace primgr
