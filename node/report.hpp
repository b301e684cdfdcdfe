// All that a node can tell about itself, and what is wrong with it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node/lag.hpp"
#include "node/model.hpp"
#include "node/peers.hpp"

namespace primgr {

// Who is Primary in the whole cluster, as far as this node was told.
struct Real_Primary {
  bool nodes_known = false;            // the node list was read at least once
  std::vector<std::string> claimants;  // the nodes whose /state is Primary, by node_id
};

// A node, at one moment.
struct Report {
  std::string name;
  std::optional<Node> self;  // its row of repmgr.nodes as last read
  Decision decision;
  Time state_for{};           // how long it has been in that state
  std::string primary;        // whom its own database names; empty: none
  std::vector<Voter> voters;  // of a candidate; of others none
  Time lease{};               // of a Primary: until too few votes are left
  bool in_recovery = false;
  Replication replication;
  Lag lag;
  Time cache_age{};
  std::optional<Time> nodes_age;  // since repmgr.nodes was read; none: it is not known
  std::string nodes_problem;      // why it is an old list that stands; empty: it is not
  std::size_t connections = 0;
  std::vector<std::string> claimants;  // who say that they are Primary, as last heard
  std::uint64_t looks = 0, failed_looks = 0;
  Time looked_for{};  // all of them together
  std::vector<Poll_Count> polls;
};

// How many voters and standbys others are told of, at most.
constexpr std::size_t max_listed = 32;

// The voters that others are told of: those that do not count first, since they are looked for.
std::vector<Voter> listed_voters(const Report& report);

// Why the node is in its state, with what the voters say.
std::string describe_decision(const Report& report);

// A list of nodes that is old, since no newer one can be read.
std::string describe_old_list(const std::string& problem, Time age);

// What is not as it should be with the node, a sentence each; empty: it is well. Here alone this is
// decided: /node tells it, and the page and --status print it.
std::vector<std::string> find_problems(const Report& report);

}  // namespace primgr
