// When a site had no Primary, by what its nodes tell of their changes of state.

#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace primgr {

// A time without a Primary, in seconds before now. Nodes tell ages, not times, so that a clock that
// is wrong on one node shifts nothing.
struct Outage {
  double began = 0;
  double ended = 0;  // 0: it has not ended
  std::string next;  // who became Primary then; empty: nobody yet
};

// The newest ones that are told.
inline constexpr std::size_t max_outages = 64;

// What the nodes of one site tell. Not thread-safe. Throws std::bad_alloc only.
class Outage_Finder {
 public:
  // Adds a node with its answer to /node. Untrusted: what is not as doc/http.md has it is ignored.
  void add(const std::string& name, const Json& document);
  // Adds a node that did not answer.
  void add_unreachable() { complete_ = false; }

  // Oldest first. Where the node that was Primary before does not tell, and the new Primary does
  // not know either how long the handover took, the time between is left out: nobody knows.
  std::vector<Outage> find() const;

 private:
  // A time in which a node was Primary, in seconds before now.
  struct Reign {
    double began, ended;
    std::string node;
    std::optional<double> handover;
  };
  std::vector<Reign> reigns_;
  bool complete_ = true;     // all nodes answered, and told of their changes
  double known_for_ = 1e15;  // each node tells of so long
};

}  // namespace primgr
