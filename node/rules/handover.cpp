#include "node/rules/handover.hpp"

#include <algorithm>
#include <utility>

namespace primgr {

using namespace std::chrono_literals;

void Promise_History::granted(const std::string& to, Time now, Time until) {
  if (!names_equal(current_.name, to)) {
    before_ = std::exchange(current_, {to, {}, false});
    granted_at_ = now;
    seen_.reset();
  }
  current_.last_200 = until - check_delay_;
  current_.handed_back = false;
}

void Promise_History::arrived(Time seen) {
  before_ = {};
  seen_ = std::max(seen_.value_or(seen), seen);
}

void Promise_History::handed_back(std::string_view by, std::optional<Time> last_200) {
  if (!last_200) {
    current_ = std::exchange(before_, {});
    return;
  }
  // After a restart this voter has the promise from its file, and no history.
  if (!names_equal(current_.name, by)) {
    current_ = {std::string(by), *last_200, true};
    seen_.reset();
  }
  current_.last_200 = std::min(current_.last_200, std::max(*last_200, seen_.value_or(*last_200)));
  current_.handed_back = true;
}

std::optional<Predecessor> Promise_History::before(Time now) const {
  const bool recent = now - granted_at_ < 1min && now - before_.last_200 < 1h;
  if (before_.name.empty() || !recent) return std::nullopt;
  return before_;
}

void Promise_History::tell(Ballot& ballot, Time now) const {
  const auto told = before(now);
  if (!told) return;
  ballot.before = told->name;
  ballot.since = std::max(now - told->last_200, Time::zero());
  ballot.handed_back = told->handed_back;
}

std::optional<Handover> find_handover(const std::vector<Node>& voters, const Tally& tally,
                                      Time named_since, std::optional<Time> own_last_200) {
  std::optional<Predecessor> from;
  Time bound_until{};
  for (const Node& voter : voters) {
    if (count_votes({voter}, tally).empty()) continue;
    const Vote& vote = tally.votes.at(voter.name);
    bound_until = std::max(bound_until, vote.bound_until);
    if (vote.before && (!from || vote.before->last_200 > from->last_200)) from = vote.before;
  }
  if (!from || names_equal(from->name, tally.self.name)) return std::nullopt;
  if (own_last_200 && *own_last_200 >= from->last_200) return std::nullopt;
  const Time now = tally.now, last_200 = std::min(from->last_200, now);
  const Time named = std::clamp(named_since, last_200, now);
  const Time freed = std::clamp(bound_until, named, now);
  return Handover{from->name, now, named - last_200, freed - named, now - freed, from->handed_back};
}

std::string describe_handover(const Handover& handover) {
  return "took over from " + handover.from + " " + describe_duration(handover.total()) +
         " after its last 200 (" + describe_duration(handover.database) + " for the database, " +
         describe_duration(handover.promise) +
         (handover.handed_back ? " until it handed its votes back, "
                               : " until its lease expired, ") +
         describe_duration(handover.votes) + " for votes)";
}

}  // namespace primgr
