// A substitute for the original program of the same name, which primgr replaces. For tests of a
// cluster in which some nodes still run that program.

#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "tests/lab.hpp"
#include "tests/raw_server.hpp"

// While this object exists, it answers on port 5999 of a node of the lab as that program did. It
// asks the node's own database. It sends `GET /primary` to the other nodes by their host names, one
// after the other, 3 s each. It counts the nodes that name this node by exactly its host name. It
// grants no votes. It repeats an answer until the answer is `cache_time` old.
//
// Thread-safe.
class Original {
 public:
  Original(const Lab& lab, const std::string& node, std::chrono::milliseconds cache_time);

  // How many votes its last answer to /state was based on, including its own vote. 0: it has
  // computed no answer since `start`, or the answer needed no votes.
  std::size_t votes_since(Steady::time_point start) const;

 private:
  struct Cached {
    Steady::time_point made_at{};
    Answer answer{};
  };
  void serve(int fd);
  Answer answer(bool state);
  Answer work_out(bool state);

  const std::string self_, conninfo_;  // `self_`: its node name
  const std::chrono::milliseconds cache_time_;
  std::map<std::string, std::string> hosts_;  // the address of each node, by host name
  mutable std::mutex mutex_;
  std::map<bool, Cached> cache_;
  std::size_t votes_ = 0;
  Steady::time_point voted_at_{};
  Raw_Server server_;
};
