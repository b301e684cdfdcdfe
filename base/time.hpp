// Clocks and durations: how they are read, parsed and printed. All functions are thread-safe.

#pragma once

#include <time.h>

#include <chrono>
#include <functional>
#include <string>

namespace primgr {

// A time by CLOCK_BOOTTIME, or a duration. This clock does not jump, and it counts the time while
// the machine is suspended. Times of different hosts are never compared.
using Time = std::chrono::nanoseconds;
using Clock = std::function<Time()>;

// A time limit for something that runs in real time (not simulated).
using Deadline = std::chrono::steady_clock::time_point;

// Reads CLOCK_BOOTTIME.
Time boottime();

// The time of the wall clock, `ago` before now.
timespec wall_clock(Time ago = {});

// In UTC, as in RFC 3339: "2026-01-31T12:00:00.000Z".
std::string print_time(const timespec& time);

// A duration as in postgresql.conf: a number and one of the units us, ms, s, min, h, d; a number
// without a unit is in seconds. Throws Input_Error if the text is not a duration, or not from `low`
// to `high`.
Time parse_duration(const std::string& text, Time low, Time high);

// "200ms": in the largest unit that gives a whole number. parse_duration() reads it back.
std::string print_duration(Time duration);

// For people to read, in at most two units: "0.4 s", "3 min 12 s", "2 d 5 h".
std::string describe_duration(Time duration);

// In whole milliseconds, without a unit.
std::string print_milliseconds(Time time);

}  // namespace primgr
