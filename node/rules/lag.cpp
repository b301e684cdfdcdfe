#include "node/rules/lag.hpp"

#include <algorithm>

namespace primgr {

void Replay_History::add(Time now, Lsn sender_lsn, Lsn replayed) {
  if (!samples_.empty() && sender_lsn < samples_.back().lsn) forget();  // it has another sender now
  while (samples_.size() > 1 && samples_[1].lsn <= replayed) samples_.pop_front();
  if (samples_.size() <= 1) min_interval_ = Time::zero();
  if (!samples_.empty() &&
      (samples_.back().lsn == sender_lsn || now < samples_.back().at + min_interval_))
    return;
  samples_.push_back({now, sender_lsn});
  if (samples_.size() <= 1024) return;
  // Replay has not advanced for a long time: halves the precision. Keeps the oldest sample that is
  // not replayed.
  for (std::size_t i = 2; i < samples_.size(); ++i)
    samples_.erase(samples_.begin() + static_cast<long>(i));
  min_interval_ = (now - samples_[1].at) / 512;
}

std::optional<Time> Replay_History::delay(Time now, Lsn replayed) const {
  if (samples_.empty()) return std::nullopt;
  if (samples_.back().lsn <= replayed) return Time::zero();
  if (samples_.front().lsn > replayed) return std::nullopt;
  const auto waiting = std::find_if(samples_.begin(), samples_.end(),
                                    [&](const Sample& sample) { return sample.lsn > replayed; });
  return now - waiting->at;
}

Lag measure_lag(const Facts& facts, const Replay_History& history) {
  const Replication& r = facts.replication;
  Lag lag;
  if (!r.known) {
    lag.problem = r.problem.empty() ? "replication could not be looked at" : r.problem;
    return lag;
  }
  if (r.receiving && r.status.empty()) {
    lag.problem = "its WAL receiver is not shown: GRANT pg_read_all_stats TO primgr's role";
    return lag;
  }
  lag.known = true;
  lag.streaming = r.status == "streaming";
  if (!r.receiving) {
    lag.problem = "there is no WAL receiver: nothing is streamed to it";
  } else if (!lag.streaming) {
    lag.problem = "its WAL receiver is " + r.status + ", not streaming";
  } else if (!r.sender_lsn || !r.position) {
    lag.problem = "its sender has not told yet how far it is";
    return lag;
  }
  const std::optional<Lsn> end = lag.streaming ? std::optional(r.end()) : r.received;
  if (!end || !r.position) return lag;
  if (lag.streaming) lag.receive = *end - std::min(*end, r.received.value_or(0));
  lag.replay = *end - std::min(*end, *r.position);
  if (*lag.replay == 0) {
    lag.delay = Time::zero();
  } else {
    lag.delay = history.delay(r.asked_at, *r.position);
    // WAL that is older than the history: uses the time of the last commit replayed, which compares
    // the clocks of two hosts.
    if (!lag.delay) lag.delay = r.since_commit;
  }
  // Assumes that nothing was replayed since `asked_at`.
  if (lag.delay) *lag.delay += std::max(facts.asked_at - r.asked_at, Time::zero());
  return lag;
}

std::string lag_problem(const Lag& lag, std::optional<Lsn> max_bytes, std::optional<Time> max_delay,
                        Time recent) {
  if (!lag.known) return lag.problem;
  // Rounded up, so that a value above a limit is also printed as above it.
  const auto milliseconds = [](Time time) {
    return std::to_string(std::chrono::ceil<std::chrono::milliseconds>(time).count()) + " ms";
  };
  if (lag.streaming && ((max_bytes && !lag.replay) || (max_delay && !lag.delay))) {
    return lag.problem.empty() ? "it is not known how late it is" : lag.problem;
  }
  if (max_bytes && lag.replay > *max_bytes) {
    return "it has " + std::to_string(*lag.replay) + " bytes of WAL to replay, more than " +
           std::to_string(*max_bytes);
  }
  if (max_delay && lag.delay > *max_delay) {
    return "it is " + milliseconds(*lag.delay) + " late, more than " + milliseconds(*max_delay);
  }
  const Time max_stale = std::max(max_delay.value_or(default_max_stale), recent);
  if (lag.stale && *lag.stale <= max_stale) return {};
  std::string problem = lag.stale ? "its data may be " + milliseconds(*lag.stale) +
                                        " old, more than " + milliseconds(max_stale)
                                  : "it is not known how old its data are";
  if (!lag.unheard.empty()) problem += ": " + lag.unheard;
  if (!lag.problem.empty()) problem += "; " + lag.problem;
  return problem;
}

}  // namespace primgr
