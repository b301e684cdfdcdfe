// Faults of the campaign that change which nodes are registered in repmgr.nodes, on either side of
// cuts.
//
// No fault here rewinds a node. A rewind may discard a change of the list while the node that made
// it is alive, and primgr promises nothing for that case. No fault promotes a node that a Primary
// has moved to a separate site either: that site then has its own primary.

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
  // All references must outlive this object.
  Member_Faults(const Lab& lab, const Cluster_Watch& watch, Cluster_Members& members,
                std::mt19937_64& random)
      : lab_(lab), watch_(watch), members_(members), random_(random) {}

  struct Done {
    std::string what;
    bool harmless = false;  // the primary must answer 200 during the whole fault
  };
  // REQUIRES, for each: `p` is the primary, `other` is another node, and all nodes are registered
  // and alive.

  // A node that is cut off is promoted, and all other nodes are unregistered there.
  Done alone(std::size_t p, std::size_t other);
  // The nodes that p is cut off from get their own primary, and each side unregisters nodes.
  Done split(std::size_t p, std::size_t other);
  // The primary unregisters nodes that are cut off or dead.
  Done gone(std::size_t p, std::size_t other);
  // The primary unregisters nodes while a standby does not replicate. Then that standby takes over.
  Done lag(std::size_t p, std::size_t other);
  // Nodes are unregistered and registered again while the network is whole.
  Done again(std::size_t p, std::size_t other);
  Done rename(std::size_t p, std::size_t other);
  Done move(std::size_t p, std::size_t other);
  Done add(std::size_t p, std::size_t other);
  // All of these faults at random, one step after another.
  Done mix(std::size_t p, std::size_t other);

 private:
  using Nodes = Cluster_Members::Nodes;
  bool either() { return random_() % 2; }
  std::size_t any(const Nodes& nodes) { return nodes[random_() % nodes.size()]; }
  // Some of the nodes, at least one.
  Nodes some(const Nodes& nodes);
  Nodes others(const Nodes& excluded) const;
  Nodes in_recovery(bool is) const;
  const std::string& name(std::size_t node) const { return watch_.name(node); }
  void hold(double least, double most);

  // Cuts the nodes of `a` off from those of `b`. HAProxy can still reach both sides. The nodes of
  // `b` are cut off one after another. The node that will take over there should be the last, so
  // that no follower is ahead of it.
  void cut(const Nodes& a, const Nodes& b) const;
  // `how`: "pause" or "resume".
  void replay(std::size_t node, const std::string& how) const;
  void take_over(std::size_t successor, const Nodes& followers) const;
  void cut_off_and_promote(std::size_t node);
  // Sometimes heals the network while the lists still differ.
  void maybe_heal();
  void step();
  void step_of_network();
  void step_of_members(std::size_t on);

  const Lab& lab_;
  const Cluster_Watch& watch_;
  Cluster_Members& members_;
  std::mt19937_64& random_;
};

// Waits for a random time between `least` and `most`, in seconds.
void hold(std::mt19937_64& random, double least, double most);
