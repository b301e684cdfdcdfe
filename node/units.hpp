// Durations, sizes in bytes and positions in the WAL: how they are parsed and printed.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace primgr {

// A time by CLOCK_BOOTTIME, or a duration. This clock does not jump, and it counts the time that
// the machine is suspended. Times of different hosts are never compared.
using Time = std::chrono::nanoseconds;
using Clock = std::function<Time()>;

// A time limit for something that runs in real time (not simulated).
using Deadline = std::chrono::steady_clock::time_point;

// Reads CLOCK_BOOTTIME. Thread-safe.
Time boottime();

// An error in what the operator wrote (a value, a line, a file, the command line). what() is a
// message for the operator.
struct Config_Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A duration as in postgresql.conf: a number and one of the units us, ms, s, min, h, d; a bare
// number is seconds. Throws Config_Error if it is none, or not from `low` to `high`.
Time parse_duration(const std::string& text, Time low, Time high);

// "200ms": in the largest unit that gives a whole number. parse_duration() reads it back.
std::string print_duration(Time duration);

// For people to read, in at most two units: "0.4 s", "3 min 12 s", "2 d 5 h".
std::string describe_duration(Time duration);

// In whole milliseconds, without a unit.
std::string print_milliseconds(Time time);

// A size as in postgresql.conf: a number and one of the units B, kB, MB, GB, TB; a bare number is
// bytes. Throws Config_Error if it is none, or more than 2^60.
std::uint64_t parse_size(const std::string& text);

// "12 kB", as PostgreSQL's pg_size_pretty() has it.
std::string describe_size(double bytes);

// A position in the WAL, in bytes; PostgreSQL writes it as "16/B374D848".
using Lsn = std::uint64_t;
// None if the text is not exactly that.
std::optional<Lsn> parse_lsn(std::string_view text);
std::string print_lsn(Lsn lsn);

}  // namespace primgr
