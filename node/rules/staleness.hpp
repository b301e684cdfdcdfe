// How stale the data of a standby may be: for how long a Primary may have acknowledged commits that
// this standby has not received. The age of its data is this time, or the age of the WAL that waits
// for replay (node/rules/lag.hpp), whichever is longer. `/replica?delay=…` limits both.
//
// There are three rules. Each uses this node's own clock only.
//
// 1. Fresh. The Primary answers a question that was sent at s: its WAL has reached P. Once this
//    standby has received P on the same timeline, it has everything that was acknowledged when the
//    Primary read P. The Primary reads P once a refresh_interval, and reports no P that is older
//    than two refresh_intervals, or 1 s; that is the error of s. A streaming WAL receiver proves
//    less: its connection may be dead for wal_receiver_timeout, and its sender may be an old
//    primary.
// 2. Counting. From s on, a commit may have been missed at every moment.
// 3. No Primary. While no node can be Primary, no commit is acknowledged, and no newer data can be
//    read anywhere. That time does not count. A Primary needs the promises of votes_needed(n) of n
//    voters. So there is none at a moment at which more than n - votes_needed(n) voters are bound
//    by no promise. A voter reports since when it has been bound by none. A report covers an
//    interval, and only a moment that the intervals of enough voters share is certain. A voter
//    whose database lists other voters is left out. While a node of any site answers that it is
//    Primary, no time counts as one without a Primary.
//
// Two weaker versions of rule 3 would be wrong:
// - "No node that answers is Primary": a standby that is cut off from n1 alone receives "Standby"
//   from n2 while n2 votes for n1.
// - "A voter that was bound by no promise still is bound by none": the time after its last report
//   counts.
//
// The promise of a voter ends check_delay or more after the last 200 that rests on it
// (node/rules/voting.hpp), so the time in which a load balancer still uses an old Primary counts as
// well.

#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <vector>

#include "base/size.hpp"
#include "base/time.hpp"

namespace primgr {

// An interval of time, both ends included.
struct Interval {
  Time from{}, to{};

  bool operator==(const Interval&) const = default;
};

// The common part of two intervals; none: they have none.
std::optional<Interval> overlap(const Interval& a, const Interval& b);

// The latest interval in which no node could be Primary by a list with this number of `voters`.
// `unbound`: for each voter that reported it, an interval in which it was bound by no promise.
// None: there is no such interval. Pure; O(n log n).
std::optional<Interval> time_without_primary(std::vector<Interval> unbound, std::size_t voters);

// Which rule the staleness of a standby follows.
enum class Staleness_Rule { unknown, fresh, no_primary, counting };

inline constexpr Staleness_Rule all_staleness_rules[] = {
    Staleness_Rule::fresh, Staleness_Rule::no_primary, Staleness_Rule::counting,
    Staleness_Rule::unknown};

// "fresh", "no primary", "counting" or "unknown".
const char* to_string(Staleness_Rule rule);

// The rules above. A value without a clock of its own; not thread-safe.
class Staleness {
 public:
  // The Primary that this standby follows answered a question that was sent at `asked_at`: its WAL
  // has reached `position` on `timeline`. An answer that is not newer than the last one is ignored.
  void reported(Time asked_at, Lsn position, int timeline);
  // This standby has replayed and received the WAL up to these positions, on that timeline; none:
  // not known. Without a WAL receiver, the timeline is that of the last checkpoint, which may be an
  // earlier one. So the highest timeline counts.
  void holds(Lsn replayed, std::optional<Lsn> received, std::optional<int> timeline);
  // The standby had all data at `at`, by other evidence.
  void fresh(Time at);
  // No node could be Primary in that interval.
  void no_primary(const Interval& time);
  // A node was Primary at `at`. The time before that counts, whatever is learnt about it later.
  void primary_at(Time at);
  // Makes all that is known older by `missed`, which the clock did not count.
  void age(Time missed);
  // Forgets everything: the server was started again, perhaps with other data.
  void forget() { *this = {}; }

  // How stale the data may be at `now`; none: not known.
  std::optional<Time> at(Time now) const;
  // The rule that at() follows. `fresh` and `no_primary` need evidence that is not older than
  // `recent`.
  Staleness_Rule rule(Time now, Time recent) const;
  // For tests, which check that its memory use is bounded.
  std::size_t size() const { return reported_.size(); }

  bool operator==(const Staleness&) const = default;

 private:
  struct Report {
    Time asked_at;
    Lsn position;

    bool operator==(const Report&) const = default;
  };

  void compare();

  // reports whose position is not received yet, oldest first; 1,024 at most
  std::deque<Report> reported_;
  Time min_interval_{};          // between these
  std::optional<int> timeline_;  // of these
  Lsn received_ = 0;
  std::optional<int> received_timeline_;
  std::optional<Time> last_asked_at_;
  std::optional<Time> fresh_at_;  // by rule 1
  // The staleness is the time since then: fresh_at_ and all time without a Primary up to counted_.
  std::optional<Time> since_;
  Time counted_{};
  // The end of the last time without a Primary; none: a node was Primary since then.
  std::optional<Time> no_primary_until_;
};

}  // namespace primgr
