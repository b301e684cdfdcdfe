// The output of `primgr --status` and `primgr --history`.

#pragma once

#include <string>

#include "base/json.hpp"

namespace primgr {

// The answer to /cluster as a table of nodes, their problems, and which one is Primary. `colour`:
// with escape sequences of a terminal. `cluster` is untrusted and may be any JSON.
std::string print_status(const Json& cluster, bool colour);

// The changes of state in an answer to /cluster, and the times in which a site had no Primary, as a
// table in order of time; whose changes are missing. Otherwise as print_status().
std::string print_changes(const Json& cluster, bool colour);

}  // namespace primgr
