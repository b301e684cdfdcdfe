#include "base/time.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <string_view>

#include "base/error.hpp"
#include "base/quantity.hpp"

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

}  // namespace

Time boottime() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

timespec wall_clock(Time ago) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const Time then = std::chrono::seconds(now.tv_sec) + Time(now.tv_nsec) - ago;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(then);
  return {seconds.count(), (then - seconds).count()};
}

std::string print_time(const timespec& time) {
  tm utc{};
  gmtime_r(&time.tv_sec, &utc);
  char day[32], text[48];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text, sizeof text, "%s.%03ldZ", day, time.tv_nsec / 1'000'000);
  return text;
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
    throw Input_Error("\"" + text + "\" is not a duration such as 200ms, 3s or 1min");
  }
  const double length = quantity.number * static_cast<double>(unit->length.count());
  if (length < static_cast<double>(low.count()) || length > static_cast<double>(high.count())) {
    throw Input_Error("\"" + text + "\" is not between " + print_duration(low) + " and " +
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

}  // namespace primgr
