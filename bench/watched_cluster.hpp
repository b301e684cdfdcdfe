// A cluster of lab/lab that is watched from all sides while rows are written through HAProxy.

#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

// Seconds since the first call, by a clock that does not jump.
double now();

// Ends the process, with its threads still at work.
[[noreturn]] void die(const std::string& what);

struct Node {
  std::string name, address, netns, folder;
  int id = 0, port = 0, http_port = 0;
  // What the watchers saw last, …
  int status = 0;         // of /state, 0: no answer
  std::string names;      // whom its database names
  std::string receivers;  // how many stream from it
  std::string upstream;   // the id that its repmgrd watches
  bool up = false;        // HAProxy writes to it
  // … and when in this round, 0: not yet.
  double first_200 = 0, last_200 = 0;
  double serves = 0;  // its server was not in recovery
  double named = 0;   // most databases named it
};

// A row that was acknowledged.
struct Row {
  double sent, acknowledged;
  std::string server, timeline;  // inet_server_addr(), eight hexadecimal digits
};

struct Seen {
  std::vector<Node> nodes;
  std::vector<Row> rows;  // as acknowledged
  double two_up = 0;      // for how long HAProxy had more than one server to write to
  double gap = 0;         // the longest time between two attempts to write
};

// Nodes are told by their place in Seen::nodes. Its threads go on until the process ends, by die()
// or _Exit().
class Watched_Cluster {
 public:
  // REQUIRES: that lab is up, by root.
  explicit Watched_Cluster(const std::string& lab_script);

  // Runs verbs of the lab up to the first that fails, which ends the process.
  void lab(const std::vector<std::string>& verbs) const;

  void begin_round();
  // All rejoin below the last that began to take writes. At times repmgrd ends, or leaves a standby
  // that does not follow.
  void repair() const;
  Seen seen() const;

  // Each of these waits, and ends the process when it has taken too long.

  // One node answers 200, the others 202; these stream from it, and all name it; HAProxy writes to
  // it alone; repmgrd, if any, watches it. Helps where repmgr does not get there. Returns it.
  std::size_t wait_until_healthy(bool repmgrd) const;
  // A node other than `old` acknowledged a row: that one. None: no majority came to name another.
  std::optional<std::size_t> wait_for_successor(std::size_t old) const;
  // primgr calls `old` a primary no more, and HAProxy has seen that.
  void wait_until_replaced(std::size_t old) const;

 private:
  struct Attempt;

  std::string run(const std::vector<std::string>& verbs, bool must) const;
  void watch_state(Node& node);
  void watch_database(Node& node);
  void watch_haproxy();
  void write_rows();
  bool advance(Attempt& attempt);
  bool healthy(const Node& primary, bool repmgrd) const;
  template <typename Condition>
  bool eventually(double seconds, Condition condition) const;
  [[noreturn]] void give_up(const std::string& what) const;

  const std::string script_;
  std::string folder_, hub_, target_;
  mutable std::mutex mutex_;  // guards seen_, but for what the constructor wrote; not held for long
  Seen seen_;
};
