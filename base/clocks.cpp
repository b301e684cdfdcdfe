#include "base/clocks.hpp"

#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include <cmath>
#include <cstdint>

#include "base/time.hpp"

namespace primgr {

using namespace std::chrono_literals;

std::vector<Clock> other_clocks() {
  std::vector<Clock> clocks = {[] {
    const timespec now = wall_clock();
    return Time(std::chrono::seconds(now.tv_sec)) + Time(now.tv_nsec);
  }};
#if defined(__x86_64__)
  // The counter's rate is measured. An error of some percent is acceptable: see Stop_Detector.
  const std::uint64_t first = __rdtsc();
  const Time begin = boottime();
  while (boottime() < begin + 1ms) {
  }
  const std::uint64_t cycles = __rdtsc() - first;
  const double length = static_cast<double>((boottime() - begin).count());
  if (cycles > 0) {
    clocks.push_back([first, rate = length / static_cast<double>(cycles)] {
      return Time(std::llround(static_cast<double>(__rdtsc() - first) * rate));
    });
  }
#endif
  return clocks;
}

}  // namespace primgr
