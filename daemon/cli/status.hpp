// The output of `primgr --status` and `primgr --history`.

#pragma once

#include <string>

#include "base/json.hpp"

namespace primgr {

// The answer to /cluster as text: a table of nodes, their problems, and the name of the Primary.
// `colour`: with escape sequences for a terminal. `cluster` is not trusted and may be any JSON.
std::string print_status(const Json& cluster, bool colour);

// The changes of state in an answer to /cluster, and the times in which a site had no Primary, as a
// table in order of time. Below it are the nodes whose changes are missing. The parameters are
// those of print_status().
std::string print_changes(const Json& cluster, bool colour);

}  // namespace primgr
