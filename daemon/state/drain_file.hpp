// The file in state_directory that says that an operator has drained this node: written and removed
// by `primgr --drain` and `--undrain`, read by the daemon. Thread-safe: functions without state.

#pragma once

#include <optional>
#include <string>

#include "node/rules/report.hpp"

namespace primgr {

inline constexpr const char* drain_file = "drained";

// The contents of the file.
std::string print_drain(const Drain& drain);

// Reads that. What is no result of print_drain() is a drain all the same, with a reason that says
// so: whoever wrote it did not want reads here.
Drain parse_drain(const std::string& text);

}  // namespace primgr
