// Tells that this machine was stopped, and CLOCK_BOOTTIME with it.

#pragma once

#include <vector>

#include "node/units.hpp"

namespace primgr {

// A hypervisor that pauses the machine may stop CLOCK_BOOTTIME with it, while a promise to this
// node runs out elsewhere. Other clocks go on, or are set right afterwards. They may jump, so each
// is compared with itself only.
//
// Not thread-safe: its owner's mutex guards it.
class Stop_Detector {
 public:
  Stop_Detector(std::vector<Clock> others, Time now);

  // The time since restart() that the clock which says `now` did not count; zero: none to speak of.
  Time missed(Time now) const;
  // From here on.
  void restart(Time now);

 private:
  const std::vector<Clock> others_;
  Time read_{};                    // when restart() was called, by the clock in use …
  std::vector<Time> others_read_;  // … and by the others
};

}  // namespace primgr
