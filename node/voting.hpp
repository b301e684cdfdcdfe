// The rules of voting: who has a vote, whom a voter may vote for, which votes count, and what a
// node is that has them. Pure functions over what is known and the time: no I/O, no state.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "node/model.hpp"

namespace primgr {

// Those that vote on `self`, itself included: the nodes of its site, or of the whole cluster.
// Every registered node counts, active or not, witnesses too: a majority of the living is none.
std::vector<Node> electorate(const std::vector<Node>& nodes, const Node& self, bool whole_cluster);

// How many votes are a majority of `voters`: floor(n/2)+1.
std::size_t votes_needed(std::size_t voters);

// Whether the votes counted are enough.
bool check_consensus(std::size_t votes_counted, std::size_t votes_needed);

// The rule of the voter: whom it names to `candidate`, and whether that is a vote, granted for
// vote_lease from `now`. `named` is whom its own database names, empty for none.
//
// Never two primaries: a vote counts for a candidate only while the voter that gave it is bound by
// a grant (count_votes() below ends the one before the other, whatever the network does); two
// majorities of one electorate share a voter; and what binds a voter names one node. Clocks are
// compared with themselves only, so all that is assumed of them is that they tick at nearly one
// rate.
struct Ballot {
  std::string names;     // empty: none
  bool granted = false;  // `names` is the candidate, and the voter is to keep to it
  bool kept = true;      // false: it would be, but the promise cannot be kept over a restart
};
Ballot cast_vote(const Grant& last, std::string_view named, std::string_view candidate, Time now);

// For how long a vote counts: vote_lease less 1 %, a margin for clocks that tick at different
// rates.
Time vote_lifetime(Time vote_lease);

// The rule of the candidate: when each of the votes of `voters` for `self`, one of them, expires;
// only those that count at `now`. A vote counts for `lifetime` from the moment its question was
// sent, never from its arrival: the voter's promise began in between.
std::vector<Time> count_votes(const std::vector<Node>& voters, const Node& self, const Votes& votes,
                              Time lifetime, Time now);

// What each of `voters` says to `self`, at `now`.
std::vector<Voter> describe_voters(const std::vector<Node>& voters, const Node& self,
                                   const Votes& votes, Time lifetime, Time now);

// How many of them vote for the node.
std::size_t votes_counted(const std::vector<Voter>& voters);

// The same in words: how many votes count, and what each voter says.
std::string describe_votes(const std::vector<Voter>& voters);

// What the node `self_name` is, from what is known at `now` (section "States" of the README).
Decision decide(const Facts& facts, const std::string& self_name, bool whole_cluster,
                const Votes& votes, Time lifetime, Time now);

}  // namespace primgr
