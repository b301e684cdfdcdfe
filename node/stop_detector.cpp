#include "node/stop_detector.hpp"

#include <algorithm>
#include <utility>

namespace primgr {

using namespace std::chrono_literals;

namespace {

// How far another clock must get ahead to show that the machine was stopped: more than clocks
// differ because somebody sets one right.
constexpr Time min_missed = 250ms;

}  // namespace

Stop_Detector::Stop_Detector(std::vector<Clock> others, Time now) : others_(std::move(others)) {
  restart(now);
}

Time Stop_Detector::missed(Time now) const {
  const Time counted = now - read_;
  Time most{};
  for (std::size_t i = 0; i < others_.size(); ++i) {
    most = std::max(most, others_[i]() - others_read_[i] - counted);
  }
  // Half of the time that was counted is allowed for: a cycle counter may tick at another rate
  // after a move to another host.
  return most >= std::max(min_missed, counted / 2) ? most : Time::zero();
}

void Stop_Detector::restart(Time now) {
  read_ = now;
  others_read_.clear();
  for (const Clock& clock : others_) others_read_.push_back(clock());
}

}  // namespace primgr
