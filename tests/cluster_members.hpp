// What an operator does to repmgr.nodes, and to the configuration that must agree with it; and
// back.

#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "tests/cluster_watch.hpp"
#include "tests/lab.hpp"

class Cluster_Members {
 public:
  // Both are to outlive this. REQUIRES: all databases list all nodes.
  Cluster_Members(const Lab& lab, const Cluster_Watch& watch);

  using Nodes = std::vector<std::size_t>;
  // Whether a database lists the nodes that it did at first; whether all do.
  bool whole(std::size_t node) const { return watch_.view(node).members == members_; }
  bool whole() const;

  // What follows is done on the server `on`, which is to take writes, and fails in silence.
  void unregister(std::size_t on, const Nodes& nodes) const;
  void move(std::size_t on, const Nodes& nodes, const std::string& site) const;
  // So many nodes that do not exist, at an address where nobody is or at that of `on`.
  void add_strangers(std::size_t on, std::size_t many, bool at_own_address) const;
  // With the same node_id. Its own host is told, too.
  void rename(std::size_t on, std::size_t node);
  // As they were at first.
  void register_again(std::size_t on, const Nodes& nodes) const;
  void restore(std::size_t on) const;

  // Undoes on the hosts what rename() did there.
  void name_back();
  // Starts each repmgrd that has ended because its node was not registered.
  void start_repmgrds() const;

 private:
  void sql(std::size_t on, const std::string& statements) const;
  void set_name(std::size_t node, const std::string& name) const;

  const Lab& lab_;
  const Cluster_Watch& watch_;
  const std::string members_;
  std::vector<std::string> rows_;  // of each node, as values for an INSERT
  std::map<std::size_t, std::string> renamed_;
};
