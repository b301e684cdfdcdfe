// Detects that a hypervisor stopped this machine, and CLOCK_BOOTTIME with it.

#pragma once

#include <vector>

#include "base/time.hpp"

namespace primgr {

// A hypervisor that pauses the machine may stop CLOCK_BOOTTIME, while the promises of voters on
// other machines expire. Other clocks go on, or are corrected afterwards. They may jump, so only
// the time that each has counted since restart() is used.
//
// Not thread-safe: Repmgr_Node::mutex_ guards it.
class Stop_Detector {
 public:
  Stop_Detector(std::vector<Clock> others, Time now);

  // `now` is a time of CLOCK_BOOTTIME. Returns the time since restart() that this clock did not
  // count; zero if the difference to the other clocks is too small to show a stop.
  Time missed(Time now) const;
  // Starts to count at `now`.
  void restart(Time now);

 private:
  const std::vector<Clock> others_;
  Time start_{};                    // the time of restart() by CLOCK_BOOTTIME …
  std::vector<Time> others_start_;  // … and by the other clocks
};

}  // namespace primgr
