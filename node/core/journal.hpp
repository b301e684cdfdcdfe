// What a node logs and remembers of its decisions, for people and for graphs. No decision depends
// on it. It compares a Core with the Core's state at the previous event.

#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log_level.hpp"
#include "node/core/core.hpp"
#include "node/rules/handover.hpp"
#include "node/rules/history.hpp"
#include "node/rules/report.hpp"

namespace primgr {

// A value without a clock. It writes nothing: a line waits until the caller takes it out, so a line
// is lost only if the process ends. If a function throws std::bad_alloc, nothing was recorded, and
// the next event records the same again.
//
// Not thread-safe. Repmgr_Node::mutex_ guards it.
class Journal {
 public:
  using Line = std::pair<Log_Level, std::string>;

  // `history`: the changes of state of earlier runs.
  explicit Journal(History history) : changes_(std::move(history)) {}

  // -- What happened. `now`, `missed`: as for Core.

  // After Facts_Read.
  void looked(const Core& core, Time now);
  void clock_missed(Time missed);
  // Before and after Part::decision. `wall`: the time by the wall clock.
  void before_decision(const Core& core, Time now);
  void decided(const Core& core, Effects& effects, Time now, Time missed, Wall_Time wall);
  // After Part::lists.
  void settled_lists(const Core& core, Effects& effects, Time now, Time missed);
  // A question is sent; or it was answered, or failed, after `took`.
  void asked(const Question& question);
  void replied(Question_Kind kind, const Replied& to, Time took) noexcept;

  // -- What the caller has to write, in this order: `lines`, the history if untold(),
  // `state_lines`.

  std::list<Line> lines, state_lines;
  // Whether the last change of state was not passed on yet.
  bool untold() const { return untold_; }
  void set_told() { untold_ = false; }

  // -- What is remembered.

  // The last changes of state.
  const History& history() const { return changes_; }
  // The start of the present state; none: nothing was decided yet.
  std::optional<Time> state_since() const { return state_since_; }
  // All of the report, except for the connections and `drain`.
  Report report(const Core& core, Time now, Time missed) const;

 private:
  struct Count {
    bool asked = false;
    std::uint64_t replied = 0, failed = 0;
    Time total_time{};
  };

  bool nodes_stale(const Core& core) const;
  std::string nodes_problem(
      const Core& core) const;  // Why the list in use is stale; empty: it is not.
  void note_database(const Core& core);
  void note_missed();
  void note_handover(const Core& core, const Decision& decision, Time now);
  void note_change(const Core& core, const Decision& decision, Time now, Time changed_at,
                   Wall_Time wall);
  State_Change describe_change(const Core& core, const Decision& decision, const std::string& votes,
                               Time now, Time at, Wall_Time wall) const;
  void take_notes(Effects& effects);
  void note_alive(const Core& core);
  void note_rivals(const Core& core, Time now, Time missed);
  std::vector<std::string> rivals(const Core& core, Time now, Time missed) const;
  void forget_peers(const Core& core);

  // The last decided state, and its start.
  State state_ = State::down;
  std::optional<Time> state_since_;
  Time over_at_{};                   // when the previous decision ended
  std::optional<Time> named_since_;  // since when Core::names_itself() is true
  std::optional<Handover> handover_;
  // The number of queries of the database, and the start of the last one.
  std::uint64_t looks_ = 0, failed_looks_ = 0;
  std::optional<Time> looked_at_;
  Time look_time_{};
  // What was logged or waits for the log, so that each change is logged once.
  bool superuser_logged_ = false;
  // The time at which the list that was logged as stale was read; empty: no list is logged as
  // stale.
  std::optional<Time> stale_since_;
  std::vector<std::string> logged_rivals_, logged_alive_;
  std::string logged_;  // state and reason
  State logged_state_ = State::down;
  std::optional<Time> logged_since_;
  std::list<Note> notes_;  // notes for which no line was made yet
  Time missed_{};          // missed time for which no line was made yet
  History changes_;        // each change of logged_state_
  bool untold_ = false;
  std::map<std::string, std::array<Count, std::size(all_question_kinds)>, std::less<>> counts_;
};

}  // namespace primgr
