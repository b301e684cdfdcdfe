// How stale the data of a standby may be: for how long a Primary may have acknowledged commits that
// this standby has not received. Its data are as old as that, or as the WAL that waits for replay
// (node/rules/lag.hpp), whichever is older; `/replica?delay=…` bounds both.
//
// Three rules, each by this node's own clock:
//
// 1. Fresh. The Primary answers a question that was sent at s that its WAL has reached P. Once this
//    standby has received P on the same timeline, it has all that was acknowledged when the Primary
//    read P. The Primary reads P once a refresh_interval, and reports none that is older than two
//    of these, or 1 s; that is the error of s. That a WAL receiver streams proves less: its
//    connection may be dead for wal_receiver_timeout, and its sender may be an old primary.
// 2. Counting. From s on, every moment may have had a commit that is missed.
// 3. No Primary. While no node can be Primary, no commit is acknowledged, and nothing newer can be
//    read anywhere. That time does not count. A Primary needs the promises of votes_needed(n) of n
//    voters, so there is none at a moment at which more than n - votes_needed(n) voters are bound
//    by no promise. A voter reports since when it is bound by none. A report covers an interval,
//    and only a moment that the intervals of enough voters share is certain.
//    A voter whose database lists other voters is left out, and no time counts as one without a
//    Primary while a node of any site answers that it is. Two weaker rules will not do. "Nobody who
//    answers is Primary": a standby that is cut off from n1 alone hears n2 say "Standby" while n2
//    votes for n1. "A voter that was bound by no promise still is": what follows its last report
//    counts.
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

// A time, both ends included.
struct Interval {
  Time from{}, to{};

  bool operator==(const Interval&) const = default;
};

// What two intervals share; none: nothing.
std::optional<Interval> overlap(const Interval& a, const Interval& b);

// The latest time in which no node could be Primary by a list of so many `voters`. `unbound`: of
// each of them that reported it, a time in which it was bound by no promise. None: there is no such
// time. Pure; O(n log n).
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
  // The Primary whom this standby follows answered a question that was sent at `asked_at`: its WAL
  // has reached `position` on `timeline`. An answer that is not newer than the last is ignored.
  void reported(Time asked_at, Lsn position, int timeline);
  // This standby has replayed and received so much, on that timeline; what is none is not known.
  // Without a WAL receiver it is the timeline of the last checkpoint, which may be an earlier one:
  // the highest counts.
  void holds(Lsn replayed, std::optional<Lsn> received, std::optional<int> timeline);
  // It had everything at `at`, as far as is known by other means.
  void fresh(Time at);
  // No node could be Primary in that time.
  void no_primary(const Interval& time);
  // A node was Primary at `at`: what came before counts, whatever is learnt of it later.
  void primary_at(Time at);
  // All that is known is older by `missed`, which the clock did not count.
  void age(Time missed);
  // Nothing is known any more: the server was started again, perhaps with other data.
  void forget() { *this = {}; }

  // How stale the data may be at `now`; none: not known.
  std::optional<Time> at(Time now) const;
  // Which rule that follows: what is older than `recent` counts.
  Staleness_Rule rule(Time now, Time recent) const;
  // For tests, which check that what it remembers is bounded.
  std::size_t size() const { return reported_.size(); }

  bool operator==(const Staleness&) const = default;

 private:
  struct Report {
    Time asked_at;
    Lsn position;

    bool operator==(const Report&) const = default;
  };

  void compare();

  std::deque<Report> reported_;  // what is not received yet, oldest first; 1,024 at most
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
