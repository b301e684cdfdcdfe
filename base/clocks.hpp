// Clocks other than CLOCK_BOOTTIME, to compare it with.

#pragma once

#include <vector>

#include "base/time.hpp"

namespace primgr {

// Clocks for Stop_Detector. While a hypervisor has stopped this machine, CLOCK_BOOTTIME stops too.
// The wall clock is corrected afterwards (by NTP or the hypervisor), and the cycle counter of x86
// goes on, so a pause shows in these. Takes a millisecond, to calibrate the cycle counter.
std::vector<Clock> other_clocks();

}  // namespace primgr
