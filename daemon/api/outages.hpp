// Finds when a site had no Primary, from the changes of state that its nodes report.

#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace primgr {

// A time without a Primary, in seconds before now. Nodes report ages, not times, so that a wrong
// clock on one node shifts nothing.
struct Outage {
  double began = 0;
  double ended = 0;  // 0: it has not ended
  std::string next;  // the node that became Primary then; empty: none yet
};

// The number of outages that are returned at most: the newest ones.
inline constexpr std::size_t max_outages = 64;

// The reports of the nodes of one site. Not thread-safe. Throws std::bad_alloc only.
class Outage_Finder {
 public:
  // Adds a node with its answer to /node. The answer is not trusted: parts that do not match
  // doc/http.md are ignored.
  void add(const std::string& name, const Json& document);
  // Adds a node that did not answer.
  void add_unreachable() { complete_ = false; }

  // The outages, oldest first. An outage is left out if its beginning is not known. That is so if
  // the new Primary does not report how long the handover took, and not all nodes report their
  // changes back to the end of the previous Primary.
  std::vector<Outage> find() const;

 private:
  // A time in which a node was Primary, in seconds before now.
  struct Reign {
    double began, ended;
    std::string node;
    std::optional<double> handover;
  };
  std::vector<Reign> reigns_;
  bool complete_ = true;     // all nodes answered and reported their changes
  double known_for_ = 1e15;  // seconds of history that every node reports
};

}  // namespace primgr
