// The rules of voting: who has a vote, for whom a voter may vote, which votes count, and the state
// that follows from them. Pure functions of their arguments: no I/O, no state. Thread-safe.

#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node/rules/model.hpp"
#include "node/rules/voters.hpp"

namespace primgr {

// The nodes that vote on `self`: the nodes of its site, or of the whole cluster, and `self`. Every
// registered node counts, active or not, witnesses too. If only reachable nodes counted, both sides
// of a partition could have a majority.
std::vector<Node> electorate(const std::vector<Node>& nodes, const Node& self, bool whole_cluster);

// How many votes are a majority of `voters`: floor(n/2)+1.
std::size_t votes_needed(std::size_t voters);

// Whether the counted votes are enough.
bool check_consensus(std::size_t votes_counted, std::size_t votes_needed);

// A voter's answer to a candidate.
struct Ballot {
  std::string names;     // the node that it names; empty: none
  bool granted = false;  // `names` is the candidate, and the voter promises to vote for no other
  bool stored = true;    // false: no vote, since the promise could not be stored in time
  std::string token;     // if granted: the token with which the candidate can hand the vote back
  Time bound_for{};      // how long an earlier promise to `names` lasts; zero: it is free
  // The timeline of a Primary that the voter has voted for, if the candidate is on an older one and
  // gets no vote for that reason; else 0.
  int newer_timeline = 0;
  // The voter's reply about lists of voters; none: the question has no numbers.
  std::optional<lists::Reply> lists;
  // If granted: the node that had the vote before, see Promise_History. Empty: there is none to
  // report.
  std::string before;
  Time since{};              // its last 200, at the latest
  bool handed_back = false;  // it handed the vote back

  bool operator==(const Ballot&) const = default;
};
// The rule of the voter: which node it names to `candidate`, and whether that is a vote, granted
// for vote_lease from `now`. `last` is its last promise. `named` is the node that its own database
// names as primary, empty for none.
//
// Why there are never two primaries:
// 1. A vote counts for a candidate only while its voter is bound by a promise. By count_votes(),
//    the vote expires before the promise does, whatever the network does.
// 2. Two majorities of one electorate share a voter.
// 3. A promise names one node.
// Times are compared only with times of the same clock, so the clocks only need to tick at nearly
// the same rate.
//
// Why a load balancer never uses two: it may use a node for check_delay after the node's last 200.
// A vote expires check_delay before its promise does. A promise that ends early, by hand_back(),
// ends check_delay after the last 200 (hand_back_due()). So when another node can first answer 200,
// no load balancer uses the previous one.
Ballot cast_vote(const Grant& last, std::string_view named, std::string_view candidate, Time now);

// The promise to a candidate to which cast_vote() grants a vote until `until`. A candidate shows
// the token that it received with its last vote. If that is the token of the last promise, the
// promise continues under it. If not, `fresh` is its token. The earlier promise then lasts until
// its end, even if `fresh` is shown: another process may have asked in the candidate's name. With
// an empty `fresh`, nobody can end the promise.
Grant promise_vote(const Grant& last, const std::string& candidate, std::string_view shown,
                   const std::string& fresh, Time until);

// The promise after `candidate` has handed its vote back with this token. If the token is that of
// the promise, the promise is over, except for Grant::kept_until. Else it remains.
//
// Why that is safe: before a candidate hands back, it drops all its votes, and ignores the replies
// to questions that it sent before. Votes that it counts later are replies to questions that did
// not show this token. Each of these questions found, or made, a promise with another token, since
// tokens are random. promise_vote() keeps that promise whatever is asked later. So a hand-back that
// is late, repeated or forged ends no promise on which any node relies. A hand-back that is lost
// only costs time.
Grant hand_back(const Grant& last, std::string_view candidate, std::string_view token);

// When a node whose last 200 was written at `last_200` may hand its votes back: check_delay and 1 %
// of it later.
Time hand_back_due(Time last_200, Time check_delay);

// How long a vote counts. This is shorter than the promise, by 1 %, a margin for clocks that tick
// at different rates, and by check_delay. A voter may have a shorter vote_lease than the candidate,
// and sends it with its vote (`told`): the shorter one counts. Negative if that leaves no time.
Time vote_lifetime(const Lease& lease, Time told = Time::max());

// When a vote expires.
Time vote_expiry(const Vote& vote, const Lease& lease);

// The votes on `self` as they count at `now`. REQUIRES: the objects that it refers to outlive it.
struct Tally {
  const Node& self;
  const Votes& votes;
  Lease lease;
  Time now;
};

// The rule of the candidate: when each vote of `voters` for it expires; expired votes are left out.
// The candidate is one of `voters`. A vote counts from the moment its question was sent, not from
// the arrival of the reply: the voter's promise began in between.
std::vector<Time> count_votes(const std::vector<Node>& voters, const Tally& tally);

// Whether each of `lists` has a majority of votes for the candidate. `assumed`: voters whose votes
// count, whatever they answered.
bool is_elected(const std::vector<Voter_List>& lists, const Tally& tally,
                const Voter_List& assumed = {});

// Whether a majority of `voters` names one node other than the candidate.
bool names_another(const std::vector<Node>& voters, const Tally& tally);

// The vote of each of `voters` on the candidate.
std::vector<Voter> describe_voters(const std::vector<Node>& voters, const Tally& tally);

// Why a voter gives no vote to a candidate on an older timeline.
std::string describe_newer_timeline(int timeline);

// How many of them vote for the candidate.
std::size_t votes_counted(const std::vector<Voter>& voters);

// In words: how many votes count, how many are needed, and the answer of each voter.
std::string describe_votes(const std::vector<Voter>& voters);
// The same for `of` voters, of which `counted` count; only `listed` are listed.
std::string describe_votes(std::size_t of, std::size_t counted, const std::vector<Voter>& listed);

// The state of the node `self_name`, from what is known at `now` (README, section "States").
// `lists`: the lists of voters of which it needs a majority each. REQUIRES: there is one, if the
// database lists nodes.
Decision decide(const Facts& facts, const std::string& self_name, const Votes& votes,
                const Lease& lease, Time now, const std::vector<Voter_List>& lists);

}  // namespace primgr
