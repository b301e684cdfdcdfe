#include "node/rules/model.hpp"

namespace primgr {

namespace {

char folded(char c) {
  if (c >= 'A' && c <= 'Z') return static_cast<char>(c - 'A' + 'a');
  return c == '_' ? '-' : c;
}

}  // namespace

const char* to_string(State state) {
  switch (state) {
    case State::primary:
      return "Primary";
    case State::standby:
      return "Standby";
    case State::unknown:
      return "Unknown";
    case State::down:
      break;
  }
  return "Down";
}

std::optional<State> parse_state(std::string_view word) {
  for (const State state : all_states) {
    if (word == to_string(state)) return state;
  }
  return std::nullopt;
}

bool names_equal(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return folded(x) == folded(y); });
}

std::string host_name(std::string_view name) {
  std::string host(name);
  std::transform(host.begin(), host.end(), host.begin(), folded);
  return host;
}

const Node* named_primary(const std::vector<Node>& nodes) {
  const Node* primary = nullptr;
  for (const Node& node : nodes) {
    if (node.type != "primary" || !node.active) continue;
    if (primary) return nullptr;
    primary = &node;
  }
  return primary;
}

const Node* find_node(const std::vector<Node>& nodes, std::string_view name) {
  const Node* found = nullptr;
  for (const Node& node : nodes) {
    if (!names_equal(node.name, name)) continue;
    if (found) return nullptr;
    found = &node;
  }
  return found;
}

}  // namespace primgr
