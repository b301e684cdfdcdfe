// Continuously records what each node's primgr and each node's database answer.

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

// An answer of a node's primgr. Times are results of seconds_now().
struct Sample {
  double sent, received;
  std::size_t node;
  int status;
};

// Node A answered 200, then node B, then A again, within one lease. `a` and `b` are the first two
// of these answers.
struct Violation {
  Sample a, b;
};
std::vector<Violation> find_violations(const std::vector<Sample>& samples, double lease);

// A node when it was last seen. status 0: primgr did not answer.
struct Node_View {
  int status = 0;
  bool reachable = false, in_recovery = true;
  // The nodes that are active primaries in its database, separated by commas.
  std::string names;
  // All nodes in its database, as "1 n1 default, 2 n2 default". Empty: unknown, or none.
  std::string members;
};

// Asks every 20 ms. Each primgr is asked from its own network namespace, where cuts have no effect,
// and each database on its socket. A server that hangs delays only its own thread.
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
  // The node that answers 200. If there is none, the first node.
  std::size_t leader() const;
  // Whether one node is 200 and the others are 202.
  bool healthy() const;
  // Whether all databases name that node and no other node.
  bool all_name(const std::string& name) const;
  Connection connect(std::size_t node, const std::string& database) const;

  // The node that a majority of databases came to name last, and when.
  struct Majority {
    std::string name;
    double since = 0;
  };
  Majority majority() const;
  // When a database was first seen to accept writes after `time`, after it was in recovery or
  // unreachable.
  std::optional<double> writable_after(std::size_t node, double time) const;

  std::vector<Sample> samples() const;
  // For the routing of reads. A sample is 200 while haproxy.cfg uses that node for reads, as a
  // standby that is fresh enough or as the Primary. Otherwise it has the status of `/replica`.
  std::vector<Sample> read_samples() const;
  // Waits for the first answer of the node after `since` that is not 200. Returns the seconds from
  // `since` to it. None: there was no such answer in time.
  std::optional<double> first_other(std::size_t node, double since, double seconds) const;
  // The seconds from the node's last 200 to its first other answer.
  double first_other_after_200(std::size_t node) const;
  // How many answers of a node in that time were not 200. Each one is printed.
  std::size_t not_200(std::size_t node, double from, double to) const;
  // When a node last answered 200 before `time`. 0: never.
  double last_200_before(std::size_t node, double time) const;
  // When a node first answered 200 to a request that was sent after `time`.
  std::optional<double> first_200_after(std::size_t node, double time) const;

 private:
  struct Node {
    std::string name, netns, socket, address;
    Node_View view;
    std::vector<double> writable;  // each time when it started to accept writes
  };
  void watch_primgr(std::size_t index);
  void watch_database(std::size_t index);
  void note(std::size_t index, bool reachable, bool in_recovery, const std::string& names,
            const std::string& members);

  mutable std::mutex mutex_;  // guards views, samples and the majority; never held during a request
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<Sample> samples_, read_samples_;
  Majority majority_;
  std::atomic<bool> ending_{false};
  std::vector<std::thread> threads_;
};
