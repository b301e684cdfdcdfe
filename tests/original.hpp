// A stand-in for the program of the same name that primgr replaces, for tests of a cluster in which
// some nodes still run that.

#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "tests/lab.hpp"
#include "tests/raw_server.hpp"

// Answers on port 5999 of a node of the lab while this lives, as that program did: it asks the
// node's own database; of the others it asks `GET /primary` by their host names, 3 s each, one
// after the other, and counts those that name it, by its host name to the letter. It grants
// nothing. It gives an answer again until that is `cache_time` old.
//
// Thread-safe.
class Original {
 public:
  Original(const Lab& lab, const std::string& node, std::chrono::milliseconds cache_time);

  // How many votes its last answer to /state rests on, its own included; 0: no answer was worked
  // out since `start`, or that needed none.
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
