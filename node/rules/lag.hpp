// How far a standby is behind, in bytes by its WAL receiver and in time by its own clock, and
// whether clients may read from it.

#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>

#include "node/rules/model.hpp"
#include "node/rules/staleness.hpp"

namespace primgr {

struct Lag {
  // the state of replication could be read, with the rights that this needs
  bool known = false;
  bool streaming = false;  // from its sender
  // `receive`: bytes of WAL that its sender has and that it has not flushed. `replay`: bytes of WAL
  // that its sender has and that it has not replayed. Without a sender, `replay` counts the WAL
  // that it has flushed and not replayed, as far as that is known.
  std::optional<Lsn> receive, replay;
  std::optional<Time> delay;  // how long the oldest WAL that is not replayed has been waiting
  std::string problem;        // why it is not streaming, or why the numbers are not known
  // How stale its data may be because of WAL that it did not receive, see node/rules/staleness.hpp.
  // None: not known.
  std::optional<Time> stale;
  Staleness_Rule rule = Staleness_Rule::unknown;
  // why there is no recent proof that it has all of the primary's WAL; empty: there is
  std::string unheard;
};

// Remembers when the sender reached which position, by this node's own clock. So the age of WAL
// that waits for replay needs no comparison of two hosts' clocks, and a standby of an idle primary
// has no delay.
class Replay_History {
 public:
  // Records that at `now` the sender was at `sender_lsn`, and the standby had replayed up to
  // `replayed`. If `sender_lsn` goes back, forgets all earlier records.
  void add(Time now, Lsn sender_lsn, Lsn replayed);
  // How long, at `now`, the oldest WAL beyond `replayed` has been known. The precision is the time
  // between two queries. None if it is older than the history.
  std::optional<Time> delay(Time now, Lsn replayed) const;
  void forget() { samples_.clear(); }
  // For tests, which check that the history is bounded.
  std::size_t size() const { return samples_.size(); }

  bool operator==(const Replay_History&) const = default;

 private:
  struct Sample {
    Time at;
    Lsn lsn;

    bool operator==(const Sample&) const = default;
  };
  // oldest first, 1,024 at most; only the first may be replayed already
  std::deque<Sample> samples_;
  Time min_interval_{};  // between samples
};

// REQUIRES: the facts are of a standby.
Lag measure_lag(const Facts& facts, const Replay_History& history);

// The limit of `stale` if there is no max_delay.
inline constexpr Time default_max_stale = std::chrono::seconds(10);

// Why clients must not read from a standby; empty: they may. It may have at most `max_bytes` of WAL
// to replay, and that may have waited for `max_delay` at most. `stale` may be at most `max_delay`,
// or default_max_stale without one, or `recent` if that is longer: the information about the
// primary may be that old at times. WAL that was not received has no known size, so without a WAL
// receiver only the times count.
std::string lag_problem(const Lag& lag, std::optional<Lsn> max_bytes, std::optional<Time> max_delay,
                        Time recent);

}  // namespace primgr
