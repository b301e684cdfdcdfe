// All that a node reports about itself, and what is wrong with it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node/rules/handover.hpp"
#include "node/rules/lag.hpp"
#include "node/rules/model.hpp"
#include "node/rules/voters.hpp"

namespace primgr {

// Who is Primary in the whole cluster, as far as this node knows.
struct Real_Primary {
  bool nodes_known = false;            // the node list was read at least once
  std::vector<std::string> claimants;  // the nodes whose /state is Primary, by node_id
};

// That an operator has taken a standby out of the service of reads: why, and since when, for
// people.
struct Drain {
  std::string reason, since;

  bool operator==(const Drain&) const = default;
};

// "drained since …: the reason".
std::string describe_drain(const Drain& drain);

// How many questions of one kind one peer has answered, and how many failed.
struct Poll_Count {
  std::string peer;
  const char* kind = "";  // "vote", "state", "hand_back", "standby" or "lists"
  std::uint64_t replied = 0, failed = 0;
  Time total_time{};  // of all of them together
};

// The state of a node at one moment.
struct Report {
  std::string name;
  std::optional<Node> self;  // its row of repmgr.nodes as last read
  Decision decision;
  Time time_in_state{};       // how long it has been in that state
  std::string primary;        // the node that its own database names; empty: none
  std::vector<Voter> voters;  // only of a candidate: those that repmgr.nodes lists
  // Of a candidate: `voters`, then those of each list that counts besides, see
  // node/rules/voters.hpp.
  std::vector<std::vector<Voter>> lists;
  Time lease{};                      // of a Primary: how long until too few votes are left
  std::optional<Handover> handover;  // the last one to this node since the process started
  Time handover_age{};               // since its first 200 then
  bool in_recovery = false;
  Replication replication;
  Lag lag;
  Time cache_age{};                    // since the look that the cache rests on began
  std::optional<Time> nodes_age;       // since repmgr.nodes was read; none: no list is in use
  std::string nodes_problem;           // why an old list is in use; empty: it is not old
  std::size_t connections = 0;         // to the local database
  std::vector<std::string> claimants;  // nodes whose last reply says that they are Primary
  std::optional<Drain> drain;          // a Primary serves all the same
  std::vector<std::string> rivals;     // of a Primary: others of its site that are Primary, too
  // What the operator said last of lost voters, and whether these are still asked if they live.
  Lost_Declaration declaration;
  bool declaration_pending = false;
  std::vector<std::string> lost;   // the voters that are taken for lost
  std::vector<std::string> alive;  // of each of these that answers: describe_alive()
  std::uint64_t looks = 0, failed_looks = 0;
  Time look_time{};  // of all looks together
  std::vector<Poll_Count> polls;
};

// How many voters and standbys /node and the log list at most.
constexpr std::size_t max_listed = 32;

// At most max_listed of these voters. If there are more, those whose votes do not count come first:
// an operator looks for these.
std::vector<Voter> listed_voters(std::vector<Voter> voters);

// The first of these lists, and two of the others at most, those without a majority first.
std::vector<std::vector<Voter>> listed_lists(std::vector<std::vector<Voter>> lists);

// In words: the votes of listed_lists().
std::string describe_lists(const std::vector<std::vector<Voter>>& lists);

// For a candidate without a majority: what to check of voters that gave no valid reply; and if it
// lacks votes only because voters are silent, which command helps if these are gone for good, and
// what it risks. Begins with a full stop. Empty if there is nothing of that.
std::string describe_way_out(const std::vector<std::vector<Voter>>& lists);

// For a candidate without a majority while another of `claimants` is Primary: how it comes back.
// Begins with a full stop. Empty if none is.
std::string describe_rejoin(const std::string& name, const std::vector<std::string>& claimants);

// The message that a voter answers which the operator has declared lost.
std::string describe_alive(const Lost_Voter& lost, State state);

// Why the node is in its state, with the votes if it is a candidate.
std::string describe_decision(const Report& report);

// The message that an old list of nodes is in use. `problem`: why there is no newer one.
std::string describe_old_list(const std::string& problem, Time age);

// What is wrong with the node, one text for each problem; empty: nothing. This is the only place
// that decides it: /node lists the result, and the page and --status print that.
std::vector<std::string> find_problems(const Report& report);

}  // namespace primgr
