#include "base/size.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>

#include "base/error.hpp"
#include "base/quantity.hpp"

namespace primgr {

namespace {

// From small to large; each is 1,024 times the previous one.
constexpr std::string_view size_units[] = {"B", "kB", "MB", "GB", "TB"};

}  // namespace

std::uint64_t parse_size(const std::string& text) {
  const Quantity quantity = split_quantity(text);
  const auto* unit = quantity.unit.empty()
                         ? std::begin(size_units)
                         : std::find(std::begin(size_units), std::end(size_units), quantity.unit);
  const double bytes =
      std::ldexp(quantity.number, 10 * static_cast<int>(unit - std::begin(size_units)));
  if (!quantity.is_number || unit == std::end(size_units) || !(bytes >= 0) || bytes > 0x1p60) {
    throw Input_Error("\"" + text + "\" is not a size such as 512kB, 16MB or 1GB");
  }
  return static_cast<std::uint64_t>(bytes);
}

std::string describe_size(double bytes) {
  const auto* unit = std::begin(size_units);
  for (; bytes >= 10 * 1024 && unit + 1 < std::end(size_units); ++unit) bytes /= 1024;
  const bool plain = unit == std::begin(size_units);
  return std::to_string(std::llround(bytes)) + " " + (plain ? "bytes" : std::string(*unit));
}

std::optional<Lsn> parse_lsn(std::string_view text) {
  std::uint32_t high = 0, low = 0;
  const char* last = text.data() + text.size();
  const auto first = std::from_chars(text.data(), last, high, 16);
  if (first.ec != std::errc() || first.ptr == last || *first.ptr != '/') return std::nullopt;
  const auto rest = std::from_chars(first.ptr + 1, last, low, 16);
  if (rest.ec != std::errc() || rest.ptr != last) return std::nullopt;
  return Lsn{high} << 32 | low;
}

std::string print_lsn(Lsn lsn) {
  char text[32];
  std::snprintf(text, sizeof text, "%X/%X", static_cast<unsigned>(lsn >> 32),
                static_cast<unsigned>(lsn & 0xffffffff));
  return text;
}

}  // namespace primgr
