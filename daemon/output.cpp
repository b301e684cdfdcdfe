#include "daemon/output.hpp"

#include <algorithm>
#include <cstdio>

namespace primgr {

std::string print_time(const timespec& time) {
  tm utc{};
  gmtime_r(&time.tv_sec, &utc);
  char day[32], text[48];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text, sizeof text, "%s.%03ldZ", day, time.tv_nsec / 1'000'000);
  return text;
}

Time from_seconds(double seconds) {
  return std::chrono::duration_cast<Time>(
      std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e9)));
}

timespec wall_clock(Time ago) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const Time then = std::chrono::seconds(now.tv_sec) + Time(now.tv_nsec) - ago;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(then);
  return {seconds.count(), (then - seconds).count()};
}

}  // namespace primgr
