// A cluster of lab/lab that is watched from all sides while clients use it through HAProxy.

#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench/clients.hpp"

struct Node {
  std::string name, address, netns, folder;
  bool witness = false;
  int id = 0, port = 0, http_port = 0;
  // What the watchers saw last, …
  int status = 0;         // of /state, 0: no answer
  std::string names;      // whom its database names
  std::string receivers;  // how many stream from it
  std::string upstream;   // the id that its repmgrd watches
  bool up = false;        // HAProxy writes to it
  bool reads = false;     // HAProxy reads from it
  double answered = 0;    // when its server last did
  // … and when in this round, 0: not yet.
  double first_200 = 0, last_200 = 0;
  double serves = 0;     // its server was not in recovery
  double named = 0;      // most databases named it
  double last_good = 0;  // the last 200 of /replica as deploy/haproxy.cfg asks for it
  double away = 0;       // the longest time without an answer of its server
};

struct Seen {
  std::vector<Node> nodes;
  double two_up = 0;  // for how long HAProxy had more than one server to write to
};

// Nodes are told by their place in Seen::nodes. Its threads go on until the process ends, by die()
// or _Exit().
class Watched_Cluster {
 public:
  // REQUIRES: that lab is up, by root.
  explicit Watched_Cluster(const std::string& lab_script);

  // Runs verbs of the lab up to the first that fails, which ends the process.
  void lab(const std::vector<std::string>& verbs) const;
  // The same, but for its end: false, and what is said goes to standard error.
  bool try_lab(const std::vector<std::string>& verbs) const;

  void begin_round();
  // All rejoin below the last that began to take writes. At times repmgrd ends, or leaves a standby
  // that does not follow.
  void repair() const;
  Seen seen() const;
  Clients& clients() { return *clients_; }
  bool has_repmgrd() const;

  // Each of these waits, and ends the process when it has taken too long.

  // One node answers 200, its standbys 202, a witness 509; the standbys stream from it, and all
  // name it; HAProxy writes to it alone, and reads from the standbys; repmgrd, if any, watches it;
  // the clients get what they want. Helps where repmgr does not get there. Returns that node.
  std::size_t wait_until_healthy() const;
  // A node other than `old` acknowledged a row: that one. None: no majority came to name another.
  std::optional<std::size_t> wait_for_successor(std::size_t old) const;
  // primgr calls `old` a primary no more, and HAProxy has seen that.
  void wait_until_replaced(std::size_t old) const;
  // HAProxy writes to that node no more, or reads from it no more.
  void wait_until_no_writes(std::size_t node) const;
  // False: it still does after `seconds`.
  bool wait_until_no_reads(std::size_t node, double seconds) const;
  // The clients have got all they want for a second from now on; false: not within `seconds`.
  bool wait_until_content(double seconds) const;

 private:
  // Its output, and whether it succeeded.
  std::pair<std::string, bool> run(const std::vector<std::string>& verbs) const;
  void watch_state(Node& node);
  void watch_database(Node& node);
  void watch_haproxy();
  bool healthy(const Node& primary) const;
  template <typename Condition>
  bool eventually(double seconds, Condition condition) const;
  [[noreturn]] void give_up(const std::string& what) const;

  const std::string script_;
  std::string folder_;
  mutable std::mutex mutex_;  // guards seen_, but for what the constructor wrote; not held for long
  Seen seen_;
  std::unique_ptr<Clients> clients_;
};
