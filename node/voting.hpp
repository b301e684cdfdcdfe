// The rules of voting: who has a vote, for whom a voter may vote, which votes count, and the state
// that follows from them. Pure functions of their arguments: no I/O, no state. Thread-safe.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "node/model.hpp"

namespace primgr {

// The nodes that vote on `self`: the nodes of its site, or of the whole cluster, and itself. Every
// registered node counts, active or not, and witnesses too: if only reachable nodes counted, both
// sides of a partition could have a majority.
std::vector<Node> electorate(const std::vector<Node>& nodes, const Node& self, bool whole_cluster);

// How many votes are a majority of `voters`: floor(n/2)+1.
std::size_t votes_needed(std::size_t voters);

// Whether the votes counted are enough.
bool check_consensus(std::size_t votes_counted, std::size_t votes_needed);

// What a voter answers to a candidate.
struct Ballot {
  std::string names;     // the node that it names; empty: none
  bool granted = false;  // `names` is the candidate, and the voter promises to vote for no other
  bool stored = true;    // false: no vote, since the promise could not be stored in time
};
// The rule of the voter: which node it names to `candidate`, and whether that is a vote, granted
// for vote_lease from `now`. `last` is its last promise; `named` is the node that its own database
// names as primary, empty for none.
//
// Why there are never two primaries: a vote counts for a candidate only while its voter is bound by
// a promise (by count_votes(), the vote expires before the promise does, whatever the network
// does); two majorities of one electorate share a voter; and a promise names one node. Times are
// compared only with times of the same clock, so the clocks need only tick at nearly the same rate.
Ballot cast_vote(const Grant& last, std::string_view named, std::string_view candidate, Time now);

// How long a vote counts: vote_lease less 1 %, a margin for clocks that tick at different rates.
Time vote_lifetime(Time vote_lease);

// When a vote expires for a candidate that counts votes for `lifetime` at most. A voter may have a
// shorter vote_lease than the candidate, and says so with its vote: the lesser counts.
Time vote_expiry(const Vote& vote, Time lifetime);

// The rule of the candidate: when each vote of `voters` for `self` expires, without those that have
// expired by `now`. `self` is one of `voters`. A vote counts from the moment its question was sent,
// not from the arrival of the reply: the voter's promise began in between.
std::vector<Time> count_votes(const std::vector<Node>& voters, const Node& self, const Votes& votes,
                              Time lifetime, Time now);

// The vote of each of `voters` on `self`, as it is at `now`.
std::vector<Voter> describe_voters(const std::vector<Node>& voters, const Node& self,
                                   const Votes& votes, Time lifetime, Time now);

// How many of them vote for the candidate.
std::size_t votes_counted(const std::vector<Voter>& voters);

// In words: how many votes count, how many are needed, and what each voter says.
std::string describe_votes(const std::vector<Voter>& voters);

// The state of the node `self_name` by what is known at `now` (README, section "States").
Decision decide(const Facts& facts, const std::string& self_name, bool whole_cluster,
                const Votes& votes, Time lifetime, Time now);

}  // namespace primgr
