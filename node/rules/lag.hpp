// How far a standby is behind: in bytes by its WAL receiver, in time by its own clock; and whether
// it is to be read from.

#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>

#include "node/rules/model.hpp"
#include "node/rules/staleness.hpp"

namespace primgr {

struct Lag {
  bool known = false;      // replication could be looked at, with the rights that this takes
  bool streaming = false;  // from its sender
  // Bytes of WAL that its sender has and it has not flushed, not replayed. Without a sender: that
  // it has flushed and not replayed, as far as that is known.
  std::optional<Lsn> receive, replay;
  std::optional<Time> delay;  // how long the oldest WAL that is not replayed has been waiting
  std::string problem;        // why it is not streaming, or why the numbers are not known
  // How stale its data may be by what it did not receive, see node/rules/staleness.hpp; none: not
  // known.
  std::optional<Time> stale;
  Staleness_Rule rule = Staleness_Rule::unknown;
  std::string unheard;  // why the primary's position is not known lately; empty: it is
};

// Remembers when the sender reached which position, by this node's own clock. So WAL that waits for
// replay has an age that compares no clocks of two hosts, and a standby of an idle primary has no
// delay.
//
// A value without a clock; not thread-safe.
class Replay_History {
 public:
  // Records that at `now` the sender was at `sender_lsn`, and the standby had replayed up to
  // `replayed`. Forgets what came before if `sender_lsn` goes back.
  void add(Time now, Lsn sender_lsn, Lsn replayed);
  // How long, at `now`, the oldest WAL beyond `replayed` has been known, with the precision of the
  // time between two looks. None if it is older than the history.
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
  std::deque<Sample> samples_;  // oldest first, 1,024 at most; the first is replayed if any is
  Time min_interval_{};         // between samples
};

// REQUIRES: the facts are of a standby.
Lag measure_lag(const Facts& facts, const Replay_History& history);

// Bounds `stale` where there is no max_delay.
inline constexpr Time default_max_stale = std::chrono::seconds(10);

// Why a standby is not to be read from; empty: it is. It has at most `max_bytes` of WAL to replay;
// that has waited for `max_delay` at most; and `stale` is no more than `max_delay`, or
// default_max_stale where there is none, or `recent` if that is longer: so old is what it knows of
// the primary at times. What it did not receive has no size, so without a WAL receiver only times
// count.
std::string lag_problem(const Lag& lag, std::optional<Lsn> max_bytes, std::optional<Time> max_delay,
                        Time recent);

}  // namespace primgr
