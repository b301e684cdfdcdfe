// The JSON document of a node, which /node answers and /cluster passes on.

#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>

#include "base/json.hpp"
#include "base/time.hpp"
#include "node/peers/wire.hpp"
#include "repmgr_node.hpp"

namespace primgr {

// What the document says of this process that Repmgr_Node does not know.
struct Process {
  Time started = boottime();
  std::size_t max_connections = 0;  // max_connections_in_pool
  std::string state_directory;      // its absolute path; empty: none
};

// The last changes of state, oldest first: `most` at most, and no more than fit into half of
// max_node_size.
Json describe_history(const History& history, std::size_t most);

// With the last `changes` changes of state. doc/http.md describes each field. Thread-safe; reads
// the cache only.
Json make_node_document(const Repmgr_Node& node, const Process& process,
                        std::size_t changes = max_changes);

// Parses what `node` answered to /node. Returns null, with the reason in `why`, if that is not the
// document of this node; one without a name is any. Untrusted: what is nested deeper than 5 is left
// out, and nothing but `name` is checked.
Json parse_node_document(const Node& node, const Http_Reply& reply, std::string& why);

}  // namespace primgr
