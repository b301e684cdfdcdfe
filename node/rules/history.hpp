// The last changes of a node's state, for people who ask afterwards what happened. No decision
// depends on them.

#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "node/rules/model.hpp"

namespace primgr {

using Wall_Time = std::chrono::system_clock::time_point;
using Wall_Clock = std::function<Wall_Time()>;

// A final change of state. The state of a node before its voters have answered does not count.
struct State_Change {
  Wall_Time at{};
  std::optional<State> from;     // none: primgr started
  std::optional<State> to;       // none: primgr ended, or its end was not recorded
  std::string reason;            // in words; at most max_reason bytes
  std::string primary;           // the node that its own database names; empty: none
  Time lasted{};                 // how long it had been `from`, zero without one
  std::optional<Time> handover;  // from the last 200 of the Primary before to its own first

  bool operator==(const State_Change&) const = default;
};

// Oldest first, at most max_changes.
using History = std::deque<State_Change>;

inline constexpr std::size_t max_changes = 100;
inline constexpr std::size_t max_reason = 240;

// Adds a change at the end, and forgets the oldest ones.
void add_change(History& history, State_Change change);

// Ends the run in a history: adds that primgr ended, unless the history has that already. `alive`:
// the last time at which it is known to have been running.
void end_run(History& history, Wall_Time alive, const std::string& reason);

// The text, cut to max_reason bytes, not within a character.
std::string bounded_reason(std::string text);

}  // namespace primgr
