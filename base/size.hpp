// Sizes in bytes and positions in the WAL: how they are parsed and printed. All functions are
// thread-safe.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace primgr {

// A size as in postgresql.conf: a number and one of the units B, kB, MB, GB, TB; a number without a
// unit is in bytes. Throws Input_Error if the text is not a size, or if it is more than 2^60.
std::uint64_t parse_size(const std::string& text);

// A size in the format of PostgreSQL's pg_size_pretty(): "12 kB".
std::string describe_size(double bytes);

// A position in the WAL, in bytes; PostgreSQL writes it as "16/B374D848".
using Lsn = std::uint64_t;
// None if the text is not exactly in that format.
std::optional<Lsn> parse_lsn(std::string_view text);
std::string print_lsn(Lsn lsn);

}  // namespace primgr
