// Repairs the cluster after a fault as an operator does, and reports what is wrong if that does not
// help.

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/cluster_members.hpp"
#include "tests/cluster_watch.hpp"
#include "tests/lab.hpp"

// The facts about a node of a cluster that does not recover.
struct Node_Facts {
  std::string name;
  int status = 0;  // the HTTP status of its primgr; 0: no answer
  bool reachable = false, in_recovery = false, streaming = false;
  std::string names;  // the node that its database names
};

// Which program is at fault: a sentence that begins with PostgreSQL, repmgr or primgr.
std::string verdict(const std::vector<Node_Facts>& nodes);

class Cluster_Repair {
 public:
  // All references must outlive this object.
  Cluster_Repair(const Lab& lab, const Cluster_Watch& watch, Cluster_Members& members)
      : lab_(lab), watch_(watch), members_(members) {}

  // Heals the network, registers all nodes again, and gives repmgrd time to repair the rest. Then
  // repairs what repmgrd did not repair, until one node is 200 and the others are 202. Returns
  // whether that happened. It waits for slow servers: up to 150 s, in which the time in commands
  // does not count, but ten minutes in all.
  bool converge();
  // How often something had to be repaired that repmgr should have repaired, and how often a server
  // did not start.
  int repmgr_trouble() const { return repmgr_trouble_; }
  int postgres_trouble() const { return postgres_trouble_; }

  // Prints the facts about each node, and the verdict.
  void diagnose() const;
  // Copies the lab's logs and configuration into that folder, which is created anew, and prints its
  // path.
  void keep_logs(const std::string& folder) const;

 private:
  struct Attempt {
    double begun, in_commands = 0, patience = 20;
    double healthy_since = 0;  // 0: it is not healthy
    bool registered = false;   // nodes were registered again
  };
  double waited(const Attempt& attempt) const;
  bool run(Attempt& attempt, const std::string& verb) const;
  bool healthy(Attempt& attempt) const;
  void repair_members(Attempt& attempt) const;
  void repair_node(Attempt& attempt, std::size_t node, bool led);
  void repair_without_leader(Attempt& attempt);
  // The node of the newest timeline that accepts writes.
  std::optional<std::size_t> newest_primary() const;
  Node_Facts facts(std::size_t node) const;

  const Lab& lab_;
  const Cluster_Watch& watch_;
  Cluster_Members& members_;
  // For each node, in this attempt: when it went down, and when it was last started. 0: it is not
  // down.
  std::vector<double> down_since_, started_;
  int repmgr_trouble_ = 0, postgres_trouble_ = 0;
};
