// What each node's primgr answers and each node's database says, watched all the while.

#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/lab.hpp"
#include "tests/libpq.hpp"

// An answer of a node's primgr. Times are those of seconds_now().
struct Sample {
  double sent, received;
  std::size_t node;
  int status;
};

// A answered 200, then B, then A again within one lease: the first two of these.
struct Violation {
  Sample a, b;
};
std::vector<Violation> find_violations(const std::vector<Sample>& samples, double lease);

// A node as it was last seen. status 0: primgr did not answer.
struct Node_View {
  int status = 0;
  bool reachable = false, in_recovery = true;
  // The nodes that its database has as active primaries, separated by commas.
  std::string names;
  // All nodes that its database has, as "1 n1 default, 2 n2 default"; empty: unknown, or none.
  std::string members;
};

// Asks every 20 ms: each primgr from its own namespace, where no cut is in the way, and each
// database on its socket. A hung server holds up its own thread, no other.
class Cluster_Watch {
 public:
  explicit Cluster_Watch(const Lab& lab);
  ~Cluster_Watch();
  Cluster_Watch(const Cluster_Watch&) = delete;
  Cluster_Watch& operator=(const Cluster_Watch&) = delete;

  std::size_t size() const { return nodes_.size(); }
  const std::string& name(std::size_t node) const { return nodes_[node]->name; }
  const std::string& address(std::size_t node) const { return nodes_[node]->address; }
  const std::string& netns(std::size_t node) const { return nodes_[node]->netns; }
  Node_View view(std::size_t node) const;
  int status(std::size_t node) const { return view(node).status; }
  // The node that answers 200; the first one if none does.
  std::size_t leader() const;
  // One is 200 and the others are 202.
  bool healthy() const;
  // Whether all databases name that node and no other.
  bool all_name(const std::string& name) const;
  Connection connect(std::size_t node, const std::string& database) const;

  // Whom a majority of databases last came to name, and when.
  struct Majority {
    std::string name;
    double since = 0;
  };
  Majority majority() const;
  // When a database was first seen to take writes after `time`, having been in recovery or away.
  std::optional<double> writable_after(std::size_t node, double time) const;

  std::vector<Sample> samples() const;
  // What reads are sent by: 200 while haproxy.cfg has that node for reads, as a standby that is
  // fresh enough or as the Primary, else what `/replica` answered.
  std::vector<Sample> read_samples() const;
  // The seconds from `since` to the first answer of the node that is not 200, waited for; none:
  // there was no such answer in time.
  std::optional<double> first_other(std::size_t node, double since, double seconds) const;
  // The seconds from the node's last 200 to its first other answer.
  double first_other_after_200(std::size_t node) const;
  // How many answers other than 200 came from a node meanwhile; each is printed.
  std::size_t not_200(std::size_t node, double from, double to) const;
  // When a node last answered 200 before `time`; 0: never.
  double last_200_before(std::size_t node, double time) const;
  // When a node first answered 200 to what it was asked after `time`.
  std::optional<double> first_200_after(std::size_t node, double time) const;

 private:
  struct Node {
    std::string name, netns, socket, address;
    Node_View view;
    std::vector<double> writable;  // each time that it came to take writes
  };
  void watch_primgr(std::size_t index);
  void watch_database(std::size_t index);
  void note(std::size_t index, bool reachable, bool in_recovery, const std::string& names,
            const std::string& members);

  mutable std::mutex
      mutex_;  // guards views, samples and the majority; never held while one is asked
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<Sample> samples_, read_samples_;
  Majority majority_;
  std::atomic<bool> ending_{false};
  std::vector<std::thread> threads_;
};
