// The JSON document of a node. /node returns it, and /cluster includes it.

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

// The part of the document that Repmgr_Node does not know.
struct Process {
  Time started = boottime();
  std::size_t max_connections = 0;  // max_connections_in_pool
  std::string state_directory;      // its absolute path; empty: none
};

// The last changes of state, oldest first: `most` at most, and only as many as fit into half of
// max_node_size.
Json describe_history(const History& history, std::size_t most);

// The document of this node, with the last `changes` changes of state. doc/http.md describes each
// field. Thread-safe; reads the cache only.
Json make_node_document(const Repmgr_Node& node, const Process& process,
                        std::size_t changes = max_changes);

// Parses the answer of `node` to /node. Returns null, with the reason in `why`, if it is not the
// document of this node. If `node` has no name, the document of any node is accepted. The answer is
// not trusted: values nested deeper than 5 are left out, and only `name` is checked.
Json parse_node_document(const Node& node, const Http_Reply& reply, std::string& why);

}  // namespace primgr
