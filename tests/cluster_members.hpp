// Makes the changes that an operator makes to repmgr.nodes and to the configuration that must match
// it, and undoes them.

#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "tests/cluster_watch.hpp"
#include "tests/lab.hpp"

class Cluster_Members {
 public:
  // Both references must outlive this object. REQUIRES: all databases list all nodes.
  Cluster_Members(const Lab& lab, const Cluster_Watch& watch);

  using Nodes = std::vector<std::size_t>;
  // Whether the database of a node lists the same nodes as at first. Without a node: whether all
  // databases do.
  bool whole(std::size_t node) const { return watch_.view(node).members == members_; }
  bool whole() const;

  // The following functions work on the server `on`, which should accept writes. Failures are not
  // reported.
  void unregister(std::size_t on, const Nodes& nodes) const;
  void move(std::size_t on, const Nodes& nodes, const std::string& site) const;
  // Registers `many` nodes that do not exist, at the address of `on` or at an address without a
  // server.
  void add_strangers(std::size_t on, std::size_t many, bool at_own_address) const;
  // Keeps the node_id. Also changes the name on the node's own host.
  void rename(std::size_t on, std::size_t node);
  // Registers the nodes again, with the same values as at first. A node that rename() renamed keeps
  // its new name until name_back(). restore() registers all nodes again, and removes the nodes of
  // add_strangers().
  void register_again(std::size_t on, const Nodes& nodes) const;
  void restore(std::size_t on) const;

  // Undoes the changes that rename() made on the hosts.
  void name_back();
  // Starts each repmgrd that has ended because its node was not registered.
  void start_repmgrds() const;

 private:
  void sql(std::size_t on, const std::string& statements) const;
  void set_name(std::size_t node, const std::string& name) const;

  const Lab& lab_;
  const Cluster_Watch& watch_;
  const std::string members_;
  std::vector<std::string> rows_;  // the row of each node, as values for an INSERT
  std::map<std::size_t, std::string> renamed_;
};
