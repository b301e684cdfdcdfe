// The lists of voters: what the rules of node/voters.hpp are applied to, and when.

#include <algorithm>
#include <utility>

#include "node/core_step.hpp"
#include "node/voting.hpp"

namespace primgr {

// Works out who has to vote, and who is asked, after the lists have changed.
void Core_Step::use_lists() {
  core_.required = required_lists(core_.lists, core_.read);
  core_.voters = all_of(required_lists(core_.lists, core_.read, true));
  core_.unlisted.clear();
  const auto add = [&](const Node& node) {
    const bool listed = names_equal(node.name, core_.settings.node_name) ||
                        find_node(core_.nodes, node.name) || find_node(core_.unlisted, node.name);
    if (!listed) core_.unlisted.push_back(node);
  };
  for (std::size_t i = core_.read.size(); i < core_.voters.size(); ++i) add(core_.voters[i]);
  for (const Lost_Voter& lost : core_.lists.lost) add(lost.node);
  core_.polls.keep_only(all_of({core_.nodes, core_.unlisted}));
}

// Takes in the list that was just read: the voters of this node's site, or of the cluster, by its
// own database. If this node is not listed there, those of the site in which it was.
void Core_Step::take_list() {
  const Facts& facts = core_.facts;
  const Node* self = find_node(facts.nodes, core_.settings.node_name);
  if (!self) self = find_node(core_.lists.confirmed, core_.settings.node_name);
  core_.read =
      self ? electorate(facts.nodes, *self, core_.settings.consensus_cluster) : Voter_List();
  if (core_.read.empty()) return;
  if (std::string now = digest(core_.read); now != core_.own_digest) {
    core_.own_digest = std::move(now);
    core_.read_since = now_;
  }
  core_.lists = after_reading(std::move(core_.lists), core_.read, facts.in_recovery);
  // In a site without a Primary nobody asks for votes, and so nobody tells. There the Primary of
  // another site decides.
  const Node* named = facts.in_recovery ? named_primary(facts.nodes) : nullptr;
  if (named && !find_node(core_.read, named->name) &&
      core_.polls.state(named->name) == State::primary) {
    core_.lists = after_hearing(std::move(core_.lists), core_.own_digest);
  }
}

// What a Primary tells the voters with each question: the list that it has confirmed.
std::string Core_Step::list_to_tell() const {
  return digest(core_.lists.confirmed);
}

// What a voter tells with its vote: who votes on this candidate by its own database; empty: that
// does not list it.
std::string Core_Step::list_for(const std::string& candidate) const {
  const std::vector<Node>& nodes = core_.facts.nodes;
  const Node* asker = find_node(nodes, candidate);
  return asker ? digest(electorate(nodes, *asker, core_.settings.consensus_cluster))
               : std::string();
}

// Why it is not Primary though a majority of the lists that it knows votes for it; empty: it may
// be.
std::string Core_Step::why_lists_forbid() const {
  return core_.lists.unreadable;
}

// A candidate has told, with its question, which list it has confirmed. One of an earlier version
// does not tell: what it has counts.
void Core_Step::hear_list(const std::optional<std::string>& told) {
  const std::size_t received = core_.lists.received.size();
  core_.lists = after_hearing(std::move(core_.lists), told.value_or(core_.own_digest));
  if (core_.lists.received.size() != received) use_lists();  // as a rule, nothing is news
}

void Core_Step::operator()(const Lost_Declared& event) {
  core_.declaration = event.declaration;
  core_.declared_at = now_;
  effects.turn = true;
}

// Decides on what the operator has declared, when each of these voters has answered a question that
// was sent since then, or has not answered two: who was not asked yet, or whose packet was lost, is
// not lost.
void Core_Step::judge_lost() {
  if (!core_.declared_at) return;
  const Voter_List known = all_of({core_.nodes, known_voters(core_.lists)});
  Voter_List lost, alive;
  for (const std::string& name : core_.declaration.names) {
    const Node* node = find_node(known, name);
    if (!node || names_equal(name, core_.settings.node_name) || find_node(lost, name)) continue;
    const auto reported = core_.polls.reported(node->name);
    if (reported && reported->second >= *core_.declared_at) {
      alive.push_back(*node);
    } else if (core_.polls.silent_since(node->name, *core_.declared_at)) {
      lost.push_back(*node);
    } else {
      return;
    }
  }
  std::list<Note> notes;
  if (!alive.empty()) {
    notes.push_back({Note::Kind::not_lost, names_of(alive), "", alive.size()});
  }
  notes.push_back({Note::Kind::taken_for_lost, names_of(lost), "", lost.size()});
  core_.declared_at.reset();
  core_.lists.lost.clear();
  for (const Node& node : lost) core_.lists.lost.push_back({node, core_.declaration.since});
  use_lists();
  effects.notes.splice(effects.notes.end(), notes);
}

void Core_Step::settle_lists(Time missed) {
  if (core_.state_at(now_, missed) == State::primary) confirm_list();
  watch_lost();
}

// REQUIRES: it is Primary.
void Core_Step::confirm_list() {
  if (!is_unconfirmed(core_.lists, core_.read)) return;
  const Votes votes = core_.all_votes();
  const Tally tally{*core_.candidate(), votes, core_.lease, now_};
  if (!may_confirm(core_.lists, core_.read, tally, core_.read_since)) return;
  const Voter_List& before = core_.lists.confirmed;
  if (!before.empty() && !same_voters(before, core_.read)) {
    effects.notes.push_back(
        {Note::Kind::new_voters, names_of(core_.read), names_of(before), core_.read.size()});
  }
  core_.lists = after_confirming(std::move(core_.lists), core_.read);
  use_lists();
}

// A lost voter that votes for this node is lost no more.
void Core_Step::watch_lost() {
  const Node* self = core_.candidate();
  if (core_.lists.lost.empty() || !self) return;
  const Votes votes = core_.all_votes();
  const Tally tally{*self, votes, core_.lease, now_};
  const std::size_t ended = std::erase_if(core_.lists.lost, [&](const Lost_Voter& lost) {
    const Node* listed = find_node(core_.read, lost.node.name);
    if (!listed || count_votes({*listed}, tally).empty()) return false;
    effects.notes.push_back({Note::Kind::votes_again, lost.node.name, "", 1});
    return true;
  });
  if (ended > 0) use_lists();
}

void Core_Step::keep_lists() {
  Voter_Lists now = core_.lists;
  now.told.clear();  // anybody may say so: no question may cost the disk a write
  if (now == core_.kept || !now.unreadable.empty()) return;
  effects.keep = now;
  core_.kept = std::move(now);
}

}  // namespace primgr
