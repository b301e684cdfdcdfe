// Printing times, and what node/json.hpp has. All functions are thread-safe.

#pragma once

#include <time.h>

#include <string>

#include "node/json.hpp"
#include "node/units.hpp"

namespace primgr {

// In UTC, as in RFC 3339: "2026-01-31T12:00:00.000Z".
std::string print_time(const timespec& time);

// A number of seconds that comes from another host: none is too large.
Time from_seconds(double seconds);

// The time of the wall clock, `ago` before now.
timespec wall_clock(Time ago = {});

}  // namespace primgr
