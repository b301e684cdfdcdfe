// What a node logs and remembers of what it decided: for people, and for graphs. No decision
// depends on it. It compares a Core with what it was when it was noted last.

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

// A value without a clock. It writes nothing: lines wait until who writes them takes them out, so a
// line is lost only with the process. What throws std::bad_alloc has noted nothing, and the same is
// noted again with the next event.
//
// Not thread-safe: Repmgr_Node::mutex_ guards it, but for the lines, which are the refresher's.
class Journal {
 public:
  using Line = std::pair<Log_Level, std::string>;

  // `history`: that of earlier runs.
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
  // A question is sent; it was answered, or failed, after `took`.
  void asked(const Question& question);
  void replied(Question_Kind kind, const Replied& to, Time took) noexcept;

  // -- What is to be written, in this order: `lines`, the history if untold(), `state_lines`.

  std::list<Line> lines, state_lines;
  // Whether nobody was given the last change of state.
  bool untold() const { return untold_; }
  void set_told() { untold_ = false; }

  // -- What is remembered.

  // The last changes of state.
  const History& history() const { return changes_; }
  // Since when the state is what was decided last; none: nothing was.
  std::optional<Time> state_since() const { return state_since_; }
  // All of the report but for the connections and `drain`.
  Report report(const Core& core, Time now, Time missed) const;

 private:
  struct Count {
    bool asked = false;
    std::uint64_t replied = 0, failed = 0;
    Time total_time{};
  };

  bool nodes_stale(const Core& core) const;
  std::string nodes_problem(
      const Core& core) const;  // why the list in use is stale; empty: it is not
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

  // The state that was last decided, and since when.
  State state_ = State::down;
  std::optional<Time> state_since_;
  Time over_at_{};                   // until when the decision before held
  std::optional<Time> named_since_;  // since when Core::names_itself() is true
  std::optional<Handover> handover_;
  // Looks at the database, and when the last began.
  std::uint64_t looks_ = 0, failed_looks_ = 0;
  std::optional<Time> looked_at_;
  Time look_time_{};
  // What is in the log or waits for it, so that each change is logged once.
  bool superuser_logged_ = false;
  // When the list was read that was logged to be stale; empty: none is.
  std::optional<Time> stale_since_;
  std::vector<std::string> logged_rivals_, logged_alive_;
  std::string logged_;  // state and reason
  State logged_state_ = State::down;
  std::optional<Time> logged_since_;
  std::list<Note> notes_;  // that no line was made of yet …
  Time missed_{};          // … nor of this
  History changes_;        // each change of logged_state_
  bool untold_ = false;
  std::map<std::string, std::array<Count, std::size(all_question_kinds)>, std::less<>> counts_;
};

}  // namespace primgr
