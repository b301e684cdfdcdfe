// The JSON document of a node: what /node answers, and /cluster passes on.

#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>

#include "daemon/output.hpp"
#include "node/peers.hpp"
#include "repmgr_node.hpp"

namespace primgr {

// This process, as far as its node does not know it.
struct Process {
  Time started = boottime();
  std::size_t max_connections = 0;  // of the pool
};

// A longer answer to /node is none. It lists max_listed voters and standbys at most.
constexpr std::size_t max_node_size = 64 * 1024;

// A stretch of time in seconds, to the millisecond.
double in_seconds(Time time);

// A value, and null for none.
template <typename T>
Json or_null(const std::optional<T>& value) {
  if (!value) return nullptr;
  if constexpr (std::is_same_v<T, Time>) {
    return in_seconds(*value);
  } else {
    return *value;
  }
}
// A text, and null for an empty one.
inline Json or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

// The node whole. Thread-safe; reads the cache only.
Json get_node(const Repmgr_Node& node, const Process& process);

// What a peer answered to /node, with `why` set if that is not to be passed on. Untrusted: nesting
// deeper than 5 is rejected.
Json read_node(const Node& node, const Http_Reply& reply, std::string& why);

}  // namespace primgr
