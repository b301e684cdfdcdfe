// How far a standby is behind: in bytes by its WAL receiver, in time by its own clock.

#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>

#include "node/model.hpp"

namespace primgr {

struct Lag {
  bool streaming = false;
  std::optional<Lsn> receive,
      replay;                 // bytes of WAL that its sender has and it has not flushed, replayed
  std::optional<Time> delay;  // how long the oldest WAL that is not replayed has been waiting
  std::string problem;        // why it is not streaming, or why the numbers are not known
};

// Remembers when the sender reached which position, by this node's own clock. So WAL that waits for
// replay has an age that compares no clocks of two hosts, and a standby of an idle primary has no
// delay.
//
// Not thread-safe: Repmgr_Node::mutex_ guards it.
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

 private:
  struct Sample {
    Time at;
    Lsn lsn;
  };
  std::deque<Sample> samples_;  // oldest first, 1,024 at most; the first is replayed if any is
  Time min_interval_{};         // between samples
};

// REQUIRES: the facts are of a standby.
Lag measure_lag(const Facts& facts, const Replay_History& history);

// Why the lag is more than `max_bytes` to replay or `max_delay`, or cannot be compared with them;
// empty: it is within both limits. A standby that is not streaming is never within them.
std::string lag_problem(const Lag& lag, std::optional<Lsn> max_bytes,
                        std::optional<Time> max_delay);

}  // namespace primgr
