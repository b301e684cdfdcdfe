// The implementation of step(): the effect of each event. For node/core/core*.cpp only.

#pragma once

#include <string>
#include <vector>

#include "node/core/core.hpp"

namespace primgr {

// One step: the Core that it changes, the time, and the effects.
class Core_Step {
 public:
  Core_Step(Core& core, Time now) : core_(core), now_(now) {}

  // In node/core/core.cpp.
  void operator()(const Facts_Read& event);
  void operator()(const Clock_Missed& event);
  void operator()(const Synchrony_Wanted& event);
  void operator()(const Tick& event);
  void operator()(const Not_Sent& event);
  // In node/core/core_votes.cpp.
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
  // In node/core/core_timelines.cpp.
  void operator()(const Timeline_Forgotten& event);
  // In node/core/core_lists.cpp.
  void operator()(const Lost_Declared& event);
  void operator()(const Lists_Replied& event);
  void operator()(const Lists_Stored& event);

  Effects effects;

 private:
  void begin_turn(const Tick& tick);
  void ask_states();
  void decide_state();
  // In node/core/core_votes.cpp.
  void vote(Voter_Question&& question, Core::Awaited&& asked);
  void refuse(const Core::Awaited& asked);
  void give_ballot(Ballot&& ballot, const Core::Awaited& asked);
  void own_ballot(const Ballot& ballot, const Core::Awaited& asked);
  void ballot_for_another(Ballot&& ballot, const Core::Awaited& asked);
  void end_own_promise(const std::string& token);
  void hand_votes_back();
  std::vector<Node> stragglers(const std::vector<Node>& voters, const Node& self) const;
  // In node/core/core_lists.cpp. It applies the rule for lists of voters (node/rules/lists.hpp).
  lists::Participant* own_part();
  lists::Participant& part_of(std::vector<lists::Participant>& parts, const lists::Scope& scope);
  void decide_list(lists::Participant& part, const Voter_List& wished, Time missed);
  void leave_out_namesakes();
  void rename_nodes();
  void take_list();
  void have_own_part();
  void use_lists();
  void settle_votes(Time missed);
  void drop_candidates();
  std::optional<Lists_Question> question(const lists::Scope& scope);
  void ask_votes(const std::vector<Node>& voters, const std::string& candidate,
                 const std::optional<Lists_Question>& lists);
  lists::Answer answer(const Core::Awaited& asked, bool votes) const;
  void want(const Core::Awaited& asked);
  // A node that is asked, even if repmgr.nodes does not list it; null: there is none of that name.
  const Node* known_node(const std::string& name) const;
  void take_vote(const lists::Scope& scope, int from, const lists::Reply& reply,
                 const lists::Members& votes);
  std::string why_lists_forbid() const;
  bool lists_may_change() const;
  void fetch_lists();
  void ask_for_release(const std::string& primary);
  void decide_lists(Time missed);
  void take_fetched(std::vector<lists::Participant>& parts, Time missed);
  void drop_other_histories();
  bool holds_same(const Core::Storing& next) const;
  std::optional<Voter_List> judge_lost(std::list<Note>& notes);
  void declare(Core::Storing& next);
  void store_lists(Core::Storing&& next);
  void watch_lost(Core::Storing& next);
  // In node/core/core_timelines.cpp.
  void take_timeline(Time missed);
  const Node* named_for(const std::string& candidate);
  bool is_of_this_history(const State_Report& report) const;
  void begin_history(std::uint64_t system);
  // In node/core/core_sites.cpp.
  void watch_sites(Time missed);
  void ask_sites();
  lists::Scope scope_to_ask(const Node& voter) const;
  void vote_in(const Core::Site& site, lists::Participant& part, Time missed) const;
  void end_site(Core::Site& site);
  void end_sites();
  // In node/core/core_reads.cpp.
  void watch_staleness();

  Core& core_;
  const Time now_;
};

bool is_member(const lists::List& list, int id);
// Whether this node is a voter by the lists of another site than its own.
bool is_voter_elsewhere(const Core& core, const lists::Participant& part);
// The node with that node_id; null: there is none.
const Node* find_id(const Voter_List& nodes, int id);
// The voters with these node_ids, as repmgr.nodes lists them, or else at their last known address.
Voter_List voters_of(const Core& core, const lists::Members& members);

// When a node that asked for votes hands them back, unless it becomes Primary before.
// None if it is Primary, or has nothing to hand back, or may yet be Primary by these votes: it is a
// candidate that its own database names, and no list that counts has a majority of voters that
// names another node. So votes are over if its database is gone, is in recovery or names another
// node, or if such a majority exists.
std::optional<Time> votes_over_at(const Core& core, Time now);

// The time from one question for a vote to the next.
Time vote_interval(const Core& core, Time now);

// The time from one question to the next, while the node is undecided or hands votes back.
inline constexpr Time undecided_interval = std::chrono::milliseconds(200);

}  // namespace primgr
