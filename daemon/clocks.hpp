// Clocks besides CLOCK_BOOTTIME.

#pragma once

#include <vector>

#include "node/units.hpp"

namespace primgr {

// Clocks that tell that a hypervisor has stopped this machine, where CLOCK_BOOTTIME does not: the
// wall clock, which somebody sets right afterwards, and on x86 the cycle counter, which goes on.
// Takes a millisecond.
std::vector<Clock> other_clocks();

}  // namespace primgr
