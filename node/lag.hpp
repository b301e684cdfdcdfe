// How far a standby is behind: in bytes by its WAL receiver, in time by its own clock.
//
// Not thread-safe: Repmgr_Node's mutex guards its history.

#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>

#include "node/model.hpp"

namespace primgr {

struct Lag {
  bool streaming = false;
  std::optional<Lsn> receive, replay;  // bytes that its sender has and it has not flushed, replayed
  std::optional<Time> delay;           // how long the oldest WAL not replayed has been there
  std::string problem;                 // why it is not streaming, or why the rest is none
};

// Since when WAL has been waiting for its replay, by this node's own clock: an idle primary makes
// nobody late, and clocks of two hosts are not compared as long as the history reaches back.
class Replay_History {
 public:
  // At `now` the sender was at `sender_at` and the standby had replayed up to `replayed`.
  void saw(Time now, Lsn sender_at, Lsn replayed);
  // How long the oldest WAL beyond `replayed` has been known at `now`: to one look. None if that is
  // longer than the history.
  std::optional<Time> delay(Time now, Lsn replayed) const;
  void forget() { seen_.clear(); }
  std::size_t size() const { return seen_.size(); }

 private:
  struct Seen {
    Time at;
    Lsn lsn;
  };
  std::deque<Seen> seen_;  // the first is replayed, if that is known; bounded
  Time step_{};            // from one to the next, at least
};

// REQUIRES: the facts are of a standby.
Lag measure_lag(const Facts& facts, const Replay_History& history);

// Why a standby is not to be read from by who accepts at most so much lag; empty: it may be.
std::string lag_problem(const Lag& lag, std::optional<Lsn> max_bytes,
                        std::optional<Time> max_delay);

}  // namespace primgr
