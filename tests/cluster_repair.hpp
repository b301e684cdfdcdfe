// What an operator does after a fault, and what is wrong when that does not help.

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/cluster_members.hpp"
#include "tests/cluster_watch.hpp"
#include "tests/lab.hpp"

// What is known of a node of a cluster that does not come back.
struct Node_Facts {
  std::string name;
  int status = 0;  // of its primgr; 0: no answer
  bool reachable = false, in_recovery = false, streaming = false;
  std::string names;  // whom its database names
};

// Whose doing it is: a sentence that begins with PostgreSQL, repmgr or primgr.
std::string verdict(const std::vector<Node_Facts>& nodes);

class Cluster_Repair {
 public:
  // All are to outlive this.
  Cluster_Repair(const Lab& lab, const Cluster_Watch& watch, Cluster_Members& members)
      : lab_(lab), watch_(watch), members_(members) {}

  // Heals the network, registers all nodes again, gives repmgrd time, then repairs what it did not,
  // until one node is 200 and the others are 202; whether that came. Slow servers are waited for:
  // only what is not spent in commands counts, up to 150 s, but for ten minutes in all.
  bool converge();
  // How often something had to be repaired that repmgr should have, and how often a server did not
  // start.
  int repmgr_trouble() const { return repmgr_trouble_; }
  int postgres_trouble() const { return postgres_trouble_; }

  // Prints what is known of each node, and the verdict.
  void diagnose() const;
  // Copies the lab's logs and configuration into that folder, which is made anew, and prints where
  // they are.
  void keep_logs(const std::string& folder) const;

 private:
  struct Attempt {
    double begun, in_commands = 0, patience = 20;
    double healthy_since = 0;  // 0: it is not
    bool registered = false;   // nodes were registered again
  };
  double waited(const Attempt& attempt) const;
  bool run(Attempt& attempt, const std::string& verb) const;
  bool healthy(Attempt& attempt) const;
  void repair_members(Attempt& attempt) const;
  void repair_node(Attempt& attempt, std::size_t node, bool led);
  void repair_without_leader(Attempt& attempt);
  // The node of the newest timeline that takes writes.
  std::optional<std::size_t> newest_primary() const;
  Node_Facts facts(std::size_t node) const;

  const Lab& lab_;
  const Cluster_Watch& watch_;
  Cluster_Members& members_;
  // Of each node, in this attempt: since when it is down and was last started; 0: it is not down.
  std::vector<double> down_since_, started_;
  int repmgr_trouble_ = 0, postgres_trouble_ = 0;
};
