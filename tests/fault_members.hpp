// Faults of the campaign that change who is registered in repmgr.nodes, on either side of cuts.
//
// Nothing is rewound here: a rewind that throws away a change of the list, while the node that made
// it lives, is outside what primgr promises. Nor is a node promoted that a Primary has moved to a
// site of its own: that site has a primary of its own then.

#pragma once

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "tests/cluster_members.hpp"
#include "tests/cluster_watch.hpp"
#include "tests/lab.hpp"

class Member_Faults {
 public:
  // All are to outlive this.
  Member_Faults(const Lab& lab, const Cluster_Watch& watch, Cluster_Members& members,
                std::mt19937_64& random)
      : lab_(lab), watch_(watch), members_(members), random_(random) {}

  struct Done {
    std::string what;
    bool harmless = false;  // the primary must answer 200 all the while
  };
  // REQUIRES, for each: `p` is the primary, `other` another node; all nodes are registered and
  // live.

  // A node that is cut off is promoted, and all others are unregistered there.
  Done alone(std::size_t p, std::size_t other);
  // The nodes that p is cut off from get a primary of their own, and each side unregisters.
  Done split(std::size_t p, std::size_t other);
  // The primary unregisters nodes that are cut off or dead.
  Done gone(std::size_t p, std::size_t other);
  // The primary unregisters while a standby does not replicate; then that standby takes over.
  Done lag(std::size_t p, std::size_t other);
  // Nodes are unregistered and registered again in a whole network.
  Done again(std::size_t p, std::size_t other);
  Done rename(std::size_t p, std::size_t other);
  Done move(std::size_t p, std::size_t other);
  Done add(std::size_t p, std::size_t other);
  // All of that at random, one step after another.
  Done mix(std::size_t p, std::size_t other);

 private:
  using Nodes = Cluster_Members::Nodes;
  bool either() { return random_() % 2; }
  std::size_t any(const Nodes& nodes) { return nodes[random_() % nodes.size()]; }
  // Some of them, one at least.
  Nodes some(const Nodes& nodes);
  Nodes others(const Nodes& excluded) const;
  Nodes in_recovery(bool is) const;
  const std::string& name(std::size_t node) const { return watch_.name(node); }
  void hold(double least, double most);

  // HAProxy goes on reaching both sides. Those of `b` are cut off one after another: who is to take
  // over there is to be the last, so that no follower is ahead of it.
  void cut(const Nodes& a, const Nodes& b) const;
  // `how`: "pause" or "resume".
  void replay(std::size_t node, const std::string& how) const;
  void take_over(std::size_t successor, const Nodes& followers) const;
  void cut_off_and_promote(std::size_t node);
  // Sometimes the network is healed while the lists still differ.
  void maybe_heal();
  void step();
  void step_of_network();
  void step_of_members(std::size_t on);

  const Lab& lab_;
  const Cluster_Watch& watch_;
  Cluster_Members& members_;
  std::mt19937_64& random_;
};

// Waits for a time between these, in seconds.
void hold(std::mt19937_64& random, double least, double most);
