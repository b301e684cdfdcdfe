// How step() is made: what each event does. For node/core*.cpp only.

#pragma once

#include <string>
#include <vector>

#include "node/core.hpp"

namespace primgr {

// One step: the value that it changes, when, and what follows.
class Core_Step {
 public:
  Core_Step(Core& core, Time now) : core_(core), now_(now) {}

  // In node/core.cpp.
  void operator()(const Facts_Read& event);
  void operator()(const Clock_Missed& event);
  void operator()(const Synchrony_Wanted& event);
  void operator()(const Tick& event);
  void operator()(const Not_Sent& event);
  // In node/core_votes.cpp.
  void operator()(const Vote_Replied& event);
  void operator()(const State_Replied& event);
  void operator()(const Standby_Replied& event);
  void operator()(const Hand_Back_Replied& event);
  void operator()(const Reply_Lost& event);
  void operator()(const Vote_Asked& event);
  void operator()(const Grant_Stored& event);
  void operator()(const Handed_Back& event);
  void operator()(const Own_Vote_Late& event);
  void operator()(const Own_Vote_Handed_Back& event);
  void operator()(const Votes_Wanted& event);
  void operator()(const Answers_Late& event);
  // In node/core_lists.cpp.
  void operator()(const Lost_Declared& event);

  Effects effects;

 private:
  void begin_turn(const Tick& tick);
  void ask_states();
  void decide_state();
  // In node/core_votes.cpp.
  void vote(Voter_Question&& question, Core::Awaited&& asked);
  void give_ballot(Ballot&& ballot, const Core::Awaited& asked);
  void own_ballot(const Ballot& ballot, const Core::Awaited& asked);
  void ballot_for_another(Ballot&& ballot, const Core::Awaited& asked);
  void end_own_promise(const std::string& token);
  void hand_votes_back();
  std::vector<Node> stragglers(const std::vector<Node>& voters, const Node& self) const;
  // In node/core_lists.cpp, which alone knows the rules for lists of voters.
  std::string list_to_tell() const;
  std::string list_for(const std::string& candidate) const;
  std::string why_lists_forbid() const;
  void use_lists();
  void take_list();
  void hear_list(const std::optional<std::string>& told);
  void judge_lost();
  void settle_lists(Time missed);
  void confirm_list();
  void watch_lost();
  void keep_lists();
  // In node/core_reads.cpp.
  void watch_staleness();

  Core& core_;
  const Time now_;
};

// When a candidate hands its votes back, if it is not Primary any more and does not become it again
// before; none if there is nothing to hand back, or if it may yet be Primary by these votes: its
// database is gone, is in recovery or names another, or a majority of the voters names another.
std::optional<Time> votes_over_at(const Core& core, Time now);

// From one question for a vote to the next.
Time vote_interval(const Core& core, Time now);

// From one question to the next, while the node is undecided or hands votes back.
inline constexpr Time undecided_interval = std::chrono::milliseconds(200);

}  // namespace primgr
