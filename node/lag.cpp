#include "node/lag.hpp"

#include <algorithm>

namespace primgr {

void Replay_History::saw(Time now, Lsn sender_at, Lsn replayed) {
  if (!seen_.empty() && sender_at < seen_.back().lsn) forget();  // it follows another now
  while (seen_.size() > 1 && seen_[1].lsn <= replayed) seen_.pop_front();
  if (seen_.size() <= 1) step_ = Time::zero();
  if (!seen_.empty() && (seen_.back().lsn == sender_at || now < seen_.back().at + step_)) return;
  seen_.push_back({now, sender_at});
  if (seen_.size() <= 1024) return;
  // Replay has stood for long: half as fine is fine enough. The oldest that waits stays.
  for (std::size_t i = 2; i < seen_.size(); ++i) seen_.erase(seen_.begin() + static_cast<long>(i));
  step_ = (now - seen_[1].at) / 512;
}

std::optional<Time> Replay_History::delay(Time now, Lsn replayed) const {
  if (seen_.empty()) return std::nullopt;
  if (seen_.back().lsn <= replayed) return Time::zero();
  if (seen_.front().lsn > replayed) return std::nullopt;
  const auto waiting = std::find_if(seen_.begin(), seen_.end(),
                                    [&](const Seen& seen) { return seen.lsn > replayed; });
  return now - waiting->at;
}

Lag measure_lag(const Facts& facts, const Replay_History& history) {
  const Replication& r = facts.replication;
  Lag lag;
  lag.streaming = r.status == "streaming";
  if (!r.known) {
    lag.problem = r.problem.empty() ? "replication could not be looked at" : r.problem;
  } else if (!r.receiving) {
    lag.problem = "there is no WAL receiver: nothing is streamed to it";
  } else if (r.status.empty()) {
    lag.problem = "its WAL receiver is not shown: GRANT pg_read_all_stats TO primgr's role";
  } else if (!lag.streaming) {
    lag.problem = "its WAL receiver is " + r.status + ", not streaming";
  } else if (!r.sender_at || !r.position) {
    lag.problem = "its sender has not told yet how far it is";
  } else {
    const Lsn end = r.end();
    lag.receive = end - std::min(end, r.received.value_or(0));
    lag.replay = end - std::min(end, *r.position);
    lag.delay = history.delay(r.asked_at, *r.position);
    // From before this node began to watch: the time of the last commit tells, by two clocks.
    if (!lag.delay) lag.delay = *lag.replay ? r.since_commit : std::optional(Time::zero());
    // Replay may have stood still since it was looked at.
    if (lag.delay) *lag.delay += std::max(facts.asked_at - r.asked_at, Time::zero());
  }
  return lag;
}

std::string lag_problem(const Lag& lag, std::optional<Lsn> max_bytes,
                        std::optional<Time> max_delay) {
  if (!lag.streaming) return lag.problem;
  if ((max_bytes && !lag.replay) || (max_delay && !lag.delay)) {
    return lag.problem.empty() ? "it is not known how late it is" : lag.problem;
  }
  if (max_bytes && *lag.replay > *max_bytes) {
    return "it has " + std::to_string(*lag.replay) + " bytes of WAL to replay, more than " +
           std::to_string(*max_bytes);
  }
  if (max_delay && *lag.delay > *max_delay) {
    return "it is " + print_milliseconds(*lag.delay) + " ms late, more than " +
           print_milliseconds(*max_delay) + " ms";
  }
  return {};
}

}  // namespace primgr
