// The JSON document of a node, which /node answers and /cluster passes on.

#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>

#include "daemon/output.hpp"
#include "node/wire.hpp"
#include "repmgr_node.hpp"

namespace primgr {

// What the document says of this process that Repmgr_Node does not know.
struct Process {
  Time started = boottime();
  std::size_t max_connections = 0;  // max_connections_in_pool
  std::string state_directory;      // its absolute path; empty: none
};

// A longer answer to /node is rejected, in bytes. Room enough: it lists max_listed voters and
// standbys at most.
constexpr std::size_t max_node_size = 64 * 1024;

// The value, null if there is none; a Time in seconds.
template <typename T>
Json or_null(const std::optional<T>& value) {
  if (!value) return nullptr;
  if constexpr (std::is_same_v<T, Time>) {
    return in_seconds(*value);
  } else {
    return *value;
  }
}
// The word of the state, null if there is none.
inline Json or_null(const std::optional<State>& state) {
  return state ? Json(to_string(*state)) : Json(nullptr);
}
// The text, null if it is empty.
inline Json or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

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
