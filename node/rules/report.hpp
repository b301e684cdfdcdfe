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

// Which nodes are Primary in the whole cluster, as far as this node knows.
struct Real_Primary {
  bool nodes_known = false;            // the node list was read at least once
  std::vector<std::string> claimants;  // the nodes whose /state is Primary, by node_id
};

// An operator's order that a standby serves no reads: the reason and the start, for people to read.
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
  Time total_time{};  // the sum for all of these questions
};

// The state of a node at one moment.
struct Report {
  std::string name;
  std::optional<Node> self;  // its row of repmgr.nodes as last read
  Decision decision;
  Time time_in_state{};       // how long it has been in that state
  std::string primary;        // the node that its own database names; empty: none
  std::vector<Voter> voters;  // for a candidate: the voters of the first of `lists`
  // For a candidate: `voters`, then the voters of each other list that counts, see
  // node/rules/lists.hpp.
  std::vector<std::vector<Voter>> lists;
  Time lease{};                      // for a Primary: how long until too few votes are left
  std::optional<Handover> handover;  // the last one to this node since the process started
  Time handover_age{};               // since the first 200 of that handover
  bool in_recovery = false;
  Replication replication;
  Lag lag;
  // since the start of the database query that the cache rests on
  Time cache_age{};
  std::optional<Time> nodes_age;       // since repmgr.nodes was read; none: no list is in use
  std::string nodes_problem;           // why an old list is in use; empty: it is not old
  std::size_t connections = 0;         // to the local database
  std::vector<std::string> claimants;  // nodes whose last reply reports that they are Primary
  std::optional<Drain> drain;          // it has no effect on a Primary
  // for a Primary: other nodes of its site that are Primary, too
  std::vector<std::string> rivals;
  // The operator's last declaration of lost voters, and whether it is not judged yet because the
  // voters are still being asked.
  Lost_Declaration declaration;
  bool declaration_pending = false;
  std::vector<std::string> lost;   // the voters that count as lost
  std::vector<std::string> alive;  // describe_alive() of each of these that answers
  std::uint64_t looks = 0, failed_looks = 0;
  Time look_time{};  // the sum for all queries of the database
  std::vector<Poll_Count> polls;
};

// How many voters and standbys /node and the log list at most.
constexpr std::size_t max_listed = 32;

// At most max_listed of these voters. If there are more, the voters whose votes do not count come
// first, as these are what an operator looks for.
std::vector<Voter> listed_voters(std::vector<Voter> voters);

// The first of these lists, and at most two of the others. Those without a majority come first.
std::vector<std::vector<Voter>> listed_lists(std::vector<std::vector<Voter>> lists);

// In words: the votes of listed_lists().
std::string describe_lists(const std::vector<std::vector<Voter>>& lists);

// Advice for a candidate without a majority. It states what to check on voters that gave no valid
// reply. If votes are missing only because voters are silent, it also states which command helps if
// these voters are gone for good, and the risk of that command. Begins with a full stop. Empty if
// there is no advice.
std::string describe_way_out(const std::vector<std::vector<Voter>>& lists);

// Advice for a candidate without a majority while another node, one of `claimants`, is Primary: how
// the candidate joins the cluster again. Begins with a full stop. Empty if no other node is
// Primary.
std::string describe_rejoin(const std::string& name, const std::vector<std::string>& claimants);

// The message that a voter answers although the operator has declared it lost.
std::string describe_alive(const Lost_Voter& lost, State state);

// Why the node is in its state, with the votes if it is a candidate.
std::string describe_decision(const Report& report);

// The message that an old list of nodes is in use. `problem`: why there is no newer list.
std::string describe_old_list(const std::string& problem, Time age);

// What is wrong with the node, one text for each problem. Empty: nothing is wrong. Only this
// function decides it: /node lists the result, and the page and --status print that.
std::vector<std::string> find_problems(const Report& report);

}  // namespace primgr
