// The file in state_directory that records that an operator has drained this node. `primgr --drain`
// writes it, `primgr --undrain` removes it, and the daemon reads it. Thread-safe: functions without
// state.

#pragma once

#include <optional>
#include <string>

#include "node/rules/report.hpp"

namespace primgr {

inline constexpr const char* drain_file = "drained";

// The contents of the file.
std::string print_drain(const Drain& drain);

// Parses the contents of the file. A text that print_drain() did not write is a drain, too: the
// file shows that somebody wants no reads on this node. The reason then states that the file cannot
// be read.
Drain parse_drain(const std::string& text);

}  // namespace primgr
