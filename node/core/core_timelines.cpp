// Votes never go back to an older timeline. This file tracks the timeline, and the cluster, of the
// Primary that this node has voted for.

#include <string>
#include <utility>

#include "node/core/core_step.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

bool Core::has_voted_for_newer(const std::optional<Lists_Question>& asked) const {
  return asked && asked->timeline && asked->timeline < voted.number &&
         as_held(asked->scope).system == voted.system;
}

// Updates the timeline and the cluster of the Primary that this node has voted for, from what that
// Primary reports at its own address. This takes effect at once, even if it cannot be stored: it
// can only take votes away, and a failed store is no reason to be without a Primary. REQUIRES:
// nothing waits for the store.
void Core_Step::take_timeline(Time missed) {
  const Primary_Timeline before = core_.voted;
  if (core_.refused && !std::exchange(core_.refused->noted, true)) {
    const Core::Refused& r = *core_.refused;
    core_.notes.push_back({Note::Kind::older_timeline, r.name, std::to_string(r.timeline),
                           static_cast<std::size_t>(r.voted)});
  }
  if (!core_.outdated.empty() && !std::exchange(core_.outdated_noted, true)) {
    core_.notes.push_back({Note::Kind::outdated, core_.outdated,
                           voters_of(core_, {core_.voted.node}).front().name,
                           static_cast<std::size_t>(core_.voted.number)});
  }
  if (std::exchange(core_.to_forget, false)) {
    const int number = std::exchange(core_.voted.number, 0);
    core_.voted.node = 0;
    core_.outdated.clear();
    core_.refused.reset();
    core_.notes.push_back({Note::Kind::forgotten, "", "", static_cast<std::size_t>(number)});
  }
  const std::string& name = core_.settings.node_name;
  const Node* self = find_node(core_.nodes, name);
  if (!self) return;
  // A server knows its own cluster. The server of a witness is not part of the cluster. So a
  // witness first uses the cluster of the primary that it names, and later that of the Primary that
  // it votes for.
  const bool witness = self->type == "witness";
  const auto reported = [&](const Node* peer) {
    const auto last = peer ? core_.polls.reported(peer->name) : std::nullopt;
    return last ? last->first : State_Report();
  };
  if (!witness) {
    begin_history(core_.facts.system);
  } else if (core_.voted.system == 0) {
    begin_history(reported(named_primary(core_.facts.nodes)).system);
  }

  const std::string_view to = core_.promise.bound_to(now_);
  const Node* promised = find_node(core_.nodes, to);
  Primary_Timeline primary;
  if (promised == self) {
    const bool is_primary = core_.decision_at(now_, missed).state == State::primary;
    if (is_primary) primary = {core_.facts.system, core_.timeline, self->id};
  } else if (const State_Report report = reported(promised); report.state == State::primary) {
    primary = {report.system, report.timeline.value_or(0), promised->id};
  }
  if (primary.number && witness) begin_history(primary.system);
  Primary_Timeline& voted = core_.voted;
  const bool same = !primary.system || !voted.system || primary.system == voted.system;
  if (same && primary.number && primary.number >= voted.number) {
    voted.number = primary.number;
    voted.node = primary.node;
  }
  if (voted != before) core_.store_due = now_;
}

bool Core_Step::is_of_this_history(const State_Report& report) const {
  return !report.system || !core_.voted.system || report.system == core_.voted.system;
}

// The node that this node names to a candidate.
//
// The database of a witness may go back to an old primary, if its repmgrd finds that one first.
// (The database of a standby has the WAL of the node that it names.) The database is out of date if
// the node that it names takes writes on an older timeline than that of the Primary that this node
// has voted for. Only the report of the named node itself counts. Then the vote stays with that
// Primary; otherwise no node would be Primary. The condition is that this Primary reports that it
// is still on that timeline and is not a standby.
//
// The vote also stays with that Primary while the named node does not answer: that node is no
// Primary by this vote, and the other one may be healthy. Then its last report must be that it is
// Primary.
const Node* Core_Step::named_for(const std::string& candidate) {
  const Node* named = core_.primary_at(now_, Time::zero());
  const Node* self = find_node(core_.nodes, core_.settings.node_name);
  if (!named || !self || self->type != "witness") return named;
  const Primary_Timeline& voted = core_.voted;
  const auto reported = core_.polls.reported(named->name);
  if (core_.outdated != named->name) core_.outdated.clear();
  // Without such a report, what was known before stays.
  if (reported && (reported->first.timeline || !reported->first.detailed)) {
    const State_Report& report = reported->first;
    const bool takes_writes = report.state == State::unknown || report.state == State::primary;
    const bool outdated = takes_writes && is_of_this_history(report) && report.timeline &&
                          *report.timeline < voted.number;
    if (outdated != !core_.outdated.empty()) core_.outdated = outdated ? named->name : "";
  }
  core_.outdated_noted = core_.outdated_noted && !core_.outdated.empty();
  const Node* asks = find_node(core_.nodes, candidate);
  const bool silent = core_.outdated.empty() && core_.polls.silent_since(named->name, Time::min());
  if ((core_.outdated.empty() && !silent) || !asks || asks->id != voted.node ||
      asks->id == named->id) {
    return named;
  }
  const auto last = core_.polls.reported(asks->name);
  if (silent && last && last->first.state != State::primary) return named;
  if (!last || last->first.state == State::standby || !is_of_this_history(last->first) ||
      last->first.timeline.value_or(0) < voted.number) {
    return named;
  }
  return asks;
}

// Sets the cluster's system identifier; zero: it is not known. Data without an identifier are of
// the same cluster. Data of another cluster do not apply to this one.
void Core_Step::begin_history(std::uint64_t system) {
  Primary_Timeline& voted = core_.voted;
  if (system == 0 || system == voted.system) return;
  if (voted.system) {
    core_.notes.push_back(
        {Note::Kind::other_history, std::to_string(system), std::to_string(voted.system), 1});
    voted.number = voted.node = 0;
    core_.polls.forget_votes();
    core_.own_vote.reset();
  }
  for (lists::Participant& part : core_.parts) {
    if (part.held.scope.system == 0) part.held.scope.system = system;
  }
  core_.scope.system = voted.system = system;
  have_own_part();
  if (own_part() && own_part()->held.current.number) drop_other_histories();
  use_lists();
}

void Core_Step::operator()(const Timeline_Forgotten&) {
  core_.to_forget = true;
  effects.turn = true;
}

}  // namespace primgr
