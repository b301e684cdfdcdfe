// What `primgr --status` prints.

#pragma once

#include <string>

#include "daemon/output.hpp"

namespace primgr {

// The answer to /cluster as a table, the problems of each node, and who is Primary. `colour`: with
// the escapes of a terminal. Any JSON may be given: it comes from other hosts.
std::string print_status(const Json& cluster, bool colour);

}  // namespace primgr
