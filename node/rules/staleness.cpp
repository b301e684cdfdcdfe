#include "node/rules/staleness.hpp"

#include <algorithm>
#include <queue>

#include "node/rules/voting.hpp"

namespace primgr {

std::optional<Interval> overlap(const Interval& a, const Interval& b) {
  const Interval shared{std::max(a.from, b.from), std::min(a.to, b.to)};
  return shared.from <= shared.to ? std::optional(shared) : std::nullopt;
}

std::optional<Interval> time_without_primary(std::vector<Interval> unbound, std::size_t voters) {
  if (voters == 0) return std::nullopt;
  const std::size_t needed = voters - votes_needed(voters) + 1;
  std::sort(unbound.begin(), unbound.end(),
            [](const Interval& a, const Interval& b) { return a.to > b.to; });
  // The `needed` intervals that began first, of those that last until `to` at least. The one of
  // them that began last is on top.
  std::priority_queue<Time> from;
  for (const Interval& time : unbound) {
    from.push(time.from);
    if (from.size() > needed) from.pop();
    if (from.size() == needed && from.top() <= time.to) return Interval{from.top(), time.to};
  }
  return std::nullopt;
}

const char* to_string(Staleness_Rule rule) {
  switch (rule) {
    case Staleness_Rule::fresh:
      return "fresh";
    case Staleness_Rule::no_primary:
      return "no primary";
    case Staleness_Rule::counting:
      return "counting";
    case Staleness_Rule::unknown:
      break;
  }
  return "unknown";
}

void Staleness::reported(Time asked_at, Lsn position, int timeline) {
  if (last_asked_at_ && asked_at <= *last_asked_at_) return;
  last_asked_at_ = asked_at;
  if (timeline_ != timeline || (!reported_.empty() && position < reported_.back().position)) {
    reported_.clear();
  }
  timeline_ = timeline;
  if (reported_.empty()) min_interval_ = Time::zero();
  if (!reported_.empty() && reported_.back().position == position) {
    reported_.back().asked_at = asked_at;
  } else if (reported_.empty() || asked_at >= reported_.back().asked_at + min_interval_) {
    reported_.push_back({asked_at, position});
  }
  // Nothing was received for a long time: halves the precision. Without a report, data may look
  // staler than they are, never fresher.
  if (reported_.size() > 1024) {
    for (std::size_t i = 1; i < reported_.size(); ++i) {
      reported_.erase(reported_.begin() + static_cast<long>(i));
    }
    min_interval_ = (asked_at - reported_.front().asked_at) / 512;
  }
  compare();
}

void Staleness::holds(Lsn replayed, std::optional<Lsn> received, std::optional<int> timeline) {
  received_ = std::max(replayed, received.value_or(0));
  received_timeline_ = std::max(received_timeline_, timeline);
  compare();
}

// Rule 1.
void Staleness::compare() {
  if (!timeline_ || timeline_ != received_timeline_) return;
  while (!reported_.empty() && reported_.front().position <= received_) {
    fresh(reported_.front().asked_at);
    reported_.pop_front();
  }
}

void Staleness::fresh(Time at) {
  fresh_at_ = std::max(fresh_at_.value_or(at), at);
  since_ = std::max(since_.value_or(at), at);
  counted_ = std::max(counted_, at);
}

void Staleness::no_primary(const Interval& time) {
  const Time from = std::max(time.from, counted_);
  if (!since_ || time.to <= from) return;
  *since_ += time.to - from;
  counted_ = time.to;
  no_primary_until_ = time.to;
}

void Staleness::primary_at(Time at) {
  counted_ = std::max(counted_, at);
  if (no_primary_until_ <= at) no_primary_until_.reset();
}

void Staleness::age(Time missed) {
  for (Report& report : reported_) report.asked_at -= missed;
  for (auto* time : {&last_asked_at_, &fresh_at_, &since_, &no_primary_until_}) {
    if (*time) **time -= missed;
  }
  counted_ -= missed;
}

std::optional<Time> Staleness::at(Time now) const {
  if (!since_) return std::nullopt;
  return std::max(now - *since_, Time::zero());
}

Staleness_Rule Staleness::rule(Time now, Time recent) const {
  if (!fresh_at_) return Staleness_Rule::unknown;
  if (now - *fresh_at_ <= recent) return Staleness_Rule::fresh;
  if (no_primary_until_ > fresh_at_ && now - *no_primary_until_ <= recent) {
    return Staleness_Rule::no_primary;
  }
  return Staleness_Rule::counting;
}

}  // namespace primgr
