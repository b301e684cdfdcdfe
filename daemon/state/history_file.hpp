// The file in state_directory with the last changes of state. Thread-safe: functions without state.

#pragma once

#include <optional>
#include <string>

#include "node/rules/history.hpp"

namespace primgr {

inline constexpr const char* history_file = "history";

// The contents of the file. `node`: the node that has this history.
std::string print_history(const History& history, const std::string& node);

// Parses the contents of the file. None, with the reason in `why`, if print_history() did not write
// it, or if it is of another node (this machine is then a copy of that node's machine). A file of
// version 1.0 names no node, and is accepted.
std::optional<History> parse_history(const std::string& text, const std::string& node,
                                     std::string& why);

}  // namespace primgr
