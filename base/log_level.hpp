// The level of a log message, and the function that logs it.

#pragma once

#include <functional>
#include <string>

namespace primgr {

// `none` is for a log that writes nothing.
enum class Log_Level { none = -1, error, warning, info, debug };
// Writes one line, given without a line end, to the log. Must be thread-safe, and must not wait for
// the reader of the log.
using Logger = std::function<void(Log_Level, const std::string&)>;

constexpr const char* log_level_names[] = {"error", "warning", "info", "debug"};

}  // namespace primgr
