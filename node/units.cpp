#include "node/units.hpp"

#include <time.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>

namespace primgr {

using namespace std::chrono_literals;

namespace {

// From short to long.
struct Time_Unit {
  std::string_view name;
  Time length;
};
constexpr Time_Unit time_units[] = {{"us", 1us},   {"ms", 1ms}, {"s", 1s},
                                    {"min", 1min}, {"h", 1h},   {"d", 24h}};
constexpr const Time_Unit& second = time_units[2];

// From small to large, each 1,024 times the one before.
constexpr std::string_view size_units[] = {"B", "kB", "MB", "GB", "TB"};

// A number and what follows it; no number: the unit is the whole text.
struct Quantity {
  double number = 0;
  bool is_number = false;
  std::string_view unit;
};
Quantity split_quantity(std::string_view text) {
  Quantity quantity;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), quantity.number);
  quantity.is_number = error == std::errc() && std::isfinite(quantity.number);
  quantity.unit = text.substr(static_cast<std::size_t>(end - text.data()));
  return quantity;
}

}  // namespace

Time boottime() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

Time parse_duration(const std::string& text, Time low, Time high) {
  Quantity quantity = split_quantity(text);
  quantity.unit.remove_prefix(std::min(quantity.unit.find_first_not_of(' '), quantity.unit.size()));
  const auto* unit =
      quantity.unit.empty()
          ? &second
          : std::find_if(std::begin(time_units), std::end(time_units),
                         [&](const Time_Unit& u) { return u.name == quantity.unit; });
  if (!quantity.is_number || unit == std::end(time_units)) {
    throw Config_Error("\"" + text + "\" is not a duration such as 200ms, 3s or 1min");
  }
  const double length = quantity.number * static_cast<double>(unit->length.count());
  if (length < static_cast<double>(low.count()) || length > static_cast<double>(high.count())) {
    throw Config_Error("\"" + text + "\" is not between " + print_duration(low) + " and " +
                       print_duration(high));
  }
  return Time(std::llround(length));
}

std::string print_duration(Time duration) {
  const Time_Unit* unit = &time_units[0];
  for (const Time_Unit& u : time_units) {
    if (duration % u.length == 0ns) unit = &u;
  }
  return std::to_string(duration / unit->length) + std::string(unit->name);
}

std::string describe_duration(Time duration) {
  if (duration < 1min) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f s",
                  std::chrono::duration<double>(std::max(duration, Time::zero())).count());
    return text;
  }
  const Time_Unit* unit = std::end(time_units) - 1;
  while (duration < unit->length) --unit;
  const auto part = [&](Time of) {
    return std::to_string(of / unit->length) + " " + std::string(unit->name);
  };
  const std::string first = part(duration);
  duration %= unit->length;
  --unit;
  return first + " " + part(duration);
}

std::string print_milliseconds(Time time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(time).count());
}

std::uint64_t parse_size(const std::string& text) {
  const Quantity quantity = split_quantity(text);
  const auto* unit = quantity.unit.empty()
                         ? std::begin(size_units)
                         : std::find(std::begin(size_units), std::end(size_units), quantity.unit);
  const double bytes =
      std::ldexp(quantity.number, 10 * static_cast<int>(unit - std::begin(size_units)));
  if (!quantity.is_number || unit == std::end(size_units) || !(bytes >= 0) || bytes > 0x1p60) {
    throw Config_Error("\"" + text + "\" is not a size such as 512kB, 16MB or 1GB");
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
