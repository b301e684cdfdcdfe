#include "node/core/journal.hpp"

#include <algorithm>
#include <chrono>

#include "base/text.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

bool contains(const std::vector<std::string>& texts, const std::string& text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

Journal::Line line_of(const Note& note) {
  switch (note.kind) {
    case Note::Kind::not_lost:
      return {Log_Level::error,
              note.names + (note.count == 1 ? " answers, so it is" : " answer, so they are") +
                  " not lost: --lost is for nodes that are gone for good"};
    case Note::Kind::taken_for_lost:
      return {Log_Level::warning,
              note.names.empty() ? "no voter is taken for lost"
                                 : "the operator says that these are lost for good, so they are no "
                                   "voters any more: " +
                                       note.names};
    case Note::Kind::none_left:
      return {Log_Level::error, "--lost changes nothing: without " + note.names +
                                    ", no voter would be left, or it is not known yet which count"};
    case Note::Kind::new_voters:
      return {Log_Level::info, "the voters are now " + note.names + "; they were " + note.before};
    case Note::Kind::older_timeline:
      return {Log_Level::warning,
              note.names + " gets no vote: its WAL is on timeline " + note.before +
                  ", and this node has voted for a Primary on timeline " +
                  std::to_string(note.count) +
                  ". If the cluster was rebuilt from a backup, run on the host of each voter that "
                  "logs this: primgr --forget-timeline"};
    case Note::Kind::outdated:
      return {Log_Level::warning, "the database names " + note.names +
                                      " as primary, whose WAL is on an older timeline "
                                      "than " +
                                      std::to_string(note.count) +
                                      ": it is out of date. The vote stays with " + note.before +
                                      ", if that asks for it"};
    case Note::Kind::other_history:
      return {Log_Level::warning,
              "the system identifier of the cluster is now " + note.names + "; it was " +
                  note.before +
                  ": this is another cluster, so its lists of voters and timelines begin anew"};
    case Note::Kind::namesake:
      return {Log_Level::warning,
              "repmgr.nodes has " + note.names + " with the name of " + note.before +
                  ", but for upper and lower case or _ and -: primgr leaves it out until it has "
                  "another name (node_name in its repmgr.conf, and register --force)"};
    case Note::Kind::renamed:
      return {Log_Level::warning,
              "repmgr.nodes has this node as " + note.names + " now; it was " + note.before};
    case Note::Kind::forgotten:
      return {Log_Level::warning,
              note.count == 0
                  ? "--forget-timeline: this node has voted for a Primary on no timeline"
                  : "--forget-timeline: this node may vote again for a Primary on a "
                    "timeline before " +
                        std::to_string(note.count)};
    case Note::Kind::votes_again:
      break;
  }
  return {Log_Level::info, note.names + " votes again, so it is lost no more"};
}

const char* word(Question_Kind kind) {
  switch (kind) {
    case Question_Kind::vote:
      return "vote";
    case Question_Kind::state:
      return "state";
    case Question_Kind::hand_back:
      return "hand_back";
    case Question_Kind::standby:
      return "standby";
    case Question_Kind::lists:
      break;
  }
  return "lists";
}

// Why the rows of repmgr.nodes name no primary; empty: they name one, or there are no rows.
std::string describe_primary_rows(const std::vector<Node>& nodes) {
  if (nodes.empty() || named_primary(nodes)) return {};
  std::vector<std::string> active, inactive;
  for (const Node& node : nodes) {
    if (node.type == "primary") (node.active ? active : inactive).push_back(node.name);
  }
  if (active.size() > 1) {
    return ": repmgr.nodes has " + std::to_string(active.size()) + " active primary rows (" +
           joined(active) + ")";
  }
  return ": repmgr.nodes has no active primary row" +
         (inactive.empty() ? "" : " (not active: " + joined(inactive) + ")");
}

// The decision, with the problem of the primary's row in repmgr.nodes added to the reason, if it
// matters.
Decision with_rows(const Core& core, Decision decision) {
  const bool concerned =
      decision.state == State::standby || (decision.state == State::unknown && core.candidate());
  if (concerned && core.facts.nodes_known) {
    decision.reason += describe_primary_rows(core.facts.nodes);
  }
  return decision;
}

std::optional<Time> nodes_age(const Facts& facts, Time now) {
  if (!facts.nodes_known) return std::nullopt;
  return std::max(now - facts.nodes_read_at, Time::zero());
}

}  // namespace

// ---- the database -------------------------------------------------------------------------------

void Journal::looked(const Core& core, Time now) {
  const Facts& facts = core.facts;
  // Facts come twice for one query of the database if the survey ended later than the pulse.
  if (!looked_at_ || facts.asked_at != *looked_at_) {
    ++looks_;
    look_time_ += now - facts.asked_at;
    if (!facts.reachable) ++failed_looks_;
  }
  looked_at_ = facts.asked_at;
  named_since_ = core.names_itself() ? std::optional(named_since_.value_or(now)) : std::nullopt;
  forget_peers(core);
  note_database(core);
}

// A busy server may be slow once without being reported. A server that is always slow is reported
// once, not with each of its answers.
bool Journal::nodes_stale(const Core& core) const {
  const Facts& facts = core.facts;
  if (!facts.nodes_known) return false;
  const Time age = facts.asked_at - facts.nodes_read_at;
  const Time max_age = 2 * core.settings.refresh_interval + 1s;
  if (!facts.blocked.empty() || stale_since_) return age > max_age;
  return age > max_age + 10s;  // no answer yet
}

std::string Journal::nodes_problem(const Core& core) const {
  if (!nodes_stale(core)) return {};
  return core.facts.blocked.empty() ? "no answer yet" : core.facts.blocked;
}

// The lines about the database, except for those about the state; each is logged once.
void Journal::note_database(const Core& core) {
  const Facts& facts = core.facts;
  if (facts.superuser && !superuser_logged_) {
    lines.emplace_back(Log_Level::warning,
                       "conninfo logs in as a superuser: primgr needs no such rights "
                       "(deploy/primgr.sql makes a role for it)");
    superuser_logged_ = true;
  }
  const bool stale = nodes_stale(core);
  if (stale && !stale_since_) {
    lines.emplace_back(Log_Level::warning, describe_old_list(nodes_problem(core),
                                                             facts.asked_at - facts.nodes_read_at));
    stale_since_ = facts.nodes_read_at;
  } else if (!stale && stale_since_ && facts.reachable) {
    if (facts.nodes_known) {
      lines.emplace_back(Log_Level::info,
                         "repmgr.nodes is read again, after " +
                             describe_duration(facts.nodes_read_at - *stale_since_));
    }
    stale_since_.reset();
  }
}

void Journal::clock_missed(Time missed) {
  missed_ += missed;
  note_missed();
}

void Journal::note_missed() {
  if (missed_ == Time::zero()) return;
  lines.emplace_back(Log_Level::warning,
                     "this machine was stopped for " + describe_duration(missed_) +
                         ", or its clock was set forward by that: votes are that much older");
  missed_ = {};
}

// ---- decisions ----------------------------------------------------------------------------------

// The previous decision held until now, unless it ended by itself while this process stood still.
void Journal::before_decision(const Core& core, Time now) {
  const Time ended = std::min({now, core.decision.until, core.looked_at + core.settings.cache_ttl});
  over_at_ = state_since_ ? std::max(ended, *state_since_) : now;
}

void Journal::decided(const Core& core, Effects& effects, Time now, Time missed, Wall_Time wall) {
  if (!core.looked) return;
  note_missed();
  take_notes(effects);
  const Decision decision = with_rows(core, core.decision_at(now, missed));
  const Time changed_at = decision.state == State::primary ? now : over_at_;
  note_handover(core, decision, now);
  if (!state_since_ || decision.state != state_) {
    state_ = decision.state;
    state_since_ = changed_at;
  }
  note_change(core, decision, now, changed_at, wall);
}

void Journal::note_handover(const Core& core, const Decision& decision, Time now) {
  if (decision.state != State::primary || state_ == State::primary) return;
  const Node* self = core.candidate();
  if (!self) return;
  const auto voters = electorate(core.facts.nodes, *self, core.settings.consensus_cluster);
  const Votes votes = core.all_votes();
  auto handover = find_handover(voters, {*self, votes, core.lease, now}, named_since_.value_or(now),
                                core.last_200);
  if (handover) handover_ = std::move(handover);
}

// Makes the log line for a decision, unless it was logged before, or is not final yet.
void Journal::note_change(const Core& core, const Decision& decision, Time now, Time changed_at,
                          Wall_Time wall) {
  // Until the first answers have come, Unknown is not final.
  if (decision.state == State::unknown && !core.complete) return;
  std::string words = std::string(to_string(decision.state)) + ": " + decision.reason;
  if (words == logged_) return;
  std::string line = "state " + words, votes;
  if (const auto lists = core.voters_at(now); !lists.empty()) {
    votes = " (" + describe_lists(lists) + ")";
    line += votes + describe_way_out(lists);
    if (decision.state == State::unknown) {
      line += describe_rejoin(core.settings.node_name, core.claimants(now, Time::zero()));
    }
  }
  const bool changed = !logged_since_ || decision.state != logged_state_;
  History changes;
  if (changed) {
    if (logged_since_) {
      line += std::string("; was ") + to_string(logged_state_) + " for " +
              describe_duration(changed_at - *logged_since_);
    }
    changes = changes_;
    add_change(changes, describe_change(core, decision, votes, now, changed_at, wall));
  }
  if (handover_ && handover_->at == now) line += "; " + describe_handover(*handover_);
  const bool well = decision.state == State::primary || decision.state == State::standby;
  state_lines.emplace_back(well ? Log_Level::info : Log_Level::warning, std::move(line));
  logged_ = std::move(words);
  if (!changed) return;
  changes_ = std::move(changes);
  logged_state_ = decision.state;
  logged_since_ = changed_at;
  untold_ = true;
}

State_Change Journal::describe_change(const Core& core, const Decision& decision,
                                      const std::string& votes, Time now, Time at,
                                      Wall_Time wall) const {
  State_Change change;
  change.at = wall - std::chrono::duration_cast<Wall_Time::duration>(now - at);
  if (logged_since_) {
    change.from = logged_state_;
    change.lasted = std::max(at - *logged_since_, Time::zero());
  }
  change.to = decision.state;
  change.reason = bounded_reason(decision.reason + votes);
  const Node* primary = named_primary(core.facts.nodes);
  if (core.facts.reachable && primary) change.primary = primary->name;
  if (handover_ && handover_->at == at) change.handover = handover_->total();
  return change;
}

// ---- the lists of voters ------------------------------------------------------------------------

void Journal::settled_lists(const Core& core, Effects& effects, Time now, Time missed) {
  if (!core.looked) return;
  take_notes(effects);
  note_alive(core);
  note_rivals(core, now, missed);
  forget_peers(core);
}

void Journal::take_notes(Effects& effects) {
  notes_.splice(notes_.end(), effects.notes);
  while (!notes_.empty()) {
    lines.push_back(line_of(notes_.front()));
    notes_.pop_front();
  }
}

// A lost voter that answers is reported.
void Journal::note_alive(const Core& core) {
  std::vector<std::string> alive;
  for (const Lost_Voter& lost : core.lost) {
    const std::string& name = lost.node.name;
    if (core.polls.reported(name)) alive.push_back(describe_alive(lost, core.polls.state(name)));
  }
  std::list<Line> made;
  for (const std::string& text : alive) {
    if (!contains(logged_alive_, text)) made.emplace_back(Log_Level::error, text);
  }
  lines.splice(lines.end(), made);
  logged_alive_ = std::move(alive);
}

// The other voters of this node, and lost voters, that report that they are Primary while this node
// is. Only replies to questions that were sent after this node became Primary count: an earlier
// reply may be from before a handover.
std::vector<std::string> Journal::rivals(const Core& core, Time now, Time missed) const {
  std::vector<std::string> found;
  if (state_ != State::primary || core.state_at(now, missed) != State::primary) return found;
  for (const Node& node : all_of({core.voters, core.unlisted})) {
    if (names_equal(node.name, core.settings.node_name)) continue;
    const auto reported = core.polls.reported(node.name);
    if (reported && reported->first.state == State::primary && reported->second > *state_since_) {
      found.push_back(node.name);
    }
  }
  return found;
}

void Journal::note_rivals(const Core& core, Time now, Time missed) {
  std::vector<std::string> found = rivals(core, now, missed);
  std::list<Line> made;
  for (const std::string& name : found) {
    if (contains(logged_rivals_, name)) continue;
    made.emplace_back(
        Log_Level::error,
        name + " is Primary too: two nodes of one site take writes. Stop one of them");
  }
  for (const std::string& name : logged_rivals_) {
    if (contains(found, name)) continue;
    made.emplace_back(Log_Level::error,
                      (state_ == State::primary ? name + " is not known to be Primary any more"
                                                : "this node is not Primary any more, and " + name +
                                                      " was when it was asked last") +
                          ": until now two nodes of one site took writes. Before repmgr node "
                          "rejoin, save the rows that only the old one has");
  }
  lines.splice(lines.end(), made);
  logged_rivals_ = std::move(found);
}

// ---- questions ----------------------------------------------------------------------------------

void Journal::asked(const Question& question) {
  counts_[question.peer.name][static_cast<std::size_t>(question.kind)].asked = true;
}

void Journal::replied(Question_Kind kind, const Replied& to, Time took) noexcept {
  const auto found = counts_.find(to.peer);
  if (found == counts_.end()) return;
  Count& count = found->second[static_cast<std::size_t>(kind)];
  ++(to.answered ? count.replied : count.failed);
  count.total_time += took;
}

void Journal::forget_peers(const Core& core) {
  std::erase_if(counts_, [&](const auto& entry) { return !core.polls.knows(entry.first); });
}

// ---- the report ---------------------------------------------------------------------------------

Report Journal::report(const Core& core, Time now, Time missed) const {
  const Facts& facts = core.facts;
  Report report;
  report.name = core.settings.node_name;
  if (const Node* self = find_node(core.nodes, report.name)) report.self = *self;
  report.decision = with_rows(core, core.decision_at(now, missed));
  report.time_in_state =
      report.decision.state == state_ && state_since_ ? now - *state_since_ : Time();
  const bool is_up = report.decision.state != State::down;
  const Node* primary = named_primary(facts.nodes);
  if (is_up && primary) report.primary = primary->name;
  report.lists = core.voters_at(now);
  if (!report.lists.empty()) report.voters = report.lists.front();
  report.rivals = rivals(core, now, missed);
  report.alive = logged_alive_;
  report.declaration = core.declaration;
  report.declaration_pending = core.declared_at.has_value();
  for (const Lost_Voter& lost : core.lost) report.lost.push_back(lost.node.name);
  if (report.decision.state == State::primary) report.lease = core.decision.until - now;
  report.handover = handover_;
  if (handover_) report.handover_age = now - handover_->at;
  report.in_recovery = is_up && facts.in_recovery;
  if (is_up) report.replication = facts.replication;
  if (report.in_recovery) report.lag = core.lag_at(now);
  report.cache_age = now - core.looked_at;
  report.nodes_age = nodes_age(facts, now);
  report.nodes_problem = nodes_problem(core);
  report.claimants = core.claimants(now, missed);
  report.looks = looks_;
  report.failed_looks = failed_looks_;
  report.look_time = look_time_;
  for (const auto& [peer, counts] : counts_) {
    if (!core.polls.knows(peer)) continue;
    for (const Question_Kind kind : all_question_kinds) {
      const Count& count = counts[static_cast<std::size_t>(kind)];
      if (!count.asked) continue;
      report.polls.push_back({peer, word(kind), count.replied, count.failed, count.total_time});
    }
  }
  return report;
}

}  // namespace primgr
