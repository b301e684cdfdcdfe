// The output of `primgr --status`.

#pragma once

#include <string>

#include "daemon/output.hpp"

namespace primgr {

// The answer to /cluster as a table of nodes, their problems, and which one is Primary. `colour`:
// with escape sequences of a terminal. `cluster` is untrusted and may be any JSON.
std::string print_status(const Json& cluster, bool colour);

}  // namespace primgr
