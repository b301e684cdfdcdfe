#include "node/rules/stop_detector.hpp"

#include <algorithm>
#include <utility>

namespace primgr {

using namespace std::chrono_literals;

namespace {

// How far another clock must get ahead to show that the machine was stopped. A small correction of
// a clock (as by NTP) must not count as a stop.
constexpr Time min_missed = 250ms;

}  // namespace

Stop_Detector::Stop_Detector(std::vector<Clock> others, Time now) : others_(std::move(others)) {
  restart(now);
}

Time Stop_Detector::missed(Time now) const {
  const Time counted = now - start_;
  Time most{};
  for (std::size_t i = 0; i < others_.size(); ++i) {
    most = std::max(most, others_[i]() - others_start_[i] - counted);
  }
  // Allows for a difference of half the time that was counted: a cycle counter may tick at another
  // rate after a move to another host.
  return most >= std::max(min_missed, counted / 2) ? most : Time::zero();
}

void Stop_Detector::restart(Time now) {
  start_ = now;
  others_start_.clear();
  for (const Clock& clock : others_) others_start_.push_back(clock());
}

}  // namespace primgr
