// The lists of voters of other sites.
//
// A site without a Primary has no node that could change its list, so the Primary of the cluster
// does. It takes the votes of that site as a candidate there would, makes the list, and hands the
// votes back. It does so once in its reign, as its own copy of that site's list may be out of date.
// It does so again whenever its own database lists other voters there.
//
// A site may have no registered node any more, as after a change of `location`. If the Primary was
// a voter of that site, the site gets the voters of the Primary's own site. So the list of which
// the Primary also needs a majority keeps changing with the Primary's own list.
//
// Each scope follows the rule of node/rules/lists.hpp on its own, so nothing here can make two
// Primaries: a vote that the Primary holds in another site is a vote that no node of that site has.

#include <algorithm>
#include <utility>

#include "node/core/core_step.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

namespace {

// Whether `id` is this node, or a node that is asked for its vote in the lists of this node's own
// scope.
bool is_own_voter(const Core& core, int id) {
  const Node* self = core.candidate();
  return (self && self->id == id) || find_id(core.voters, id);
}

}  // namespace

// Updates the other sites: their wished lists, and the nodes to ask there.
void Core_Step::watch_sites(Time missed) {
  const bool makes_lists = core_.scope.site && core_.names_itself() &&
                           core_.decision_at(now_, missed).state == State::primary;
  if (!makes_lists) return end_sites();
  std::vector<Core::Site> sites;
  for (const Node& node : core_.nodes) {
    const lists::Scope scope{node.site, core_.scope.system};
    if (scope == core_.scope) continue;
    auto site = std::find_if(sites.begin(), sites.end(),
                             [&](const Core::Site& known) { return known.scope == scope; });
    if (site == sites.end()) site = sites.insert(sites.end(), {scope, {}, {}});
    site->wished.push_back(node);
  }
  for (const lists::Participant& part : core_.parts) {
    const lists::Scope& scope = part.held.scope;
    const bool has_nodes = std::any_of(core_.nodes.begin(), core_.nodes.end(),
                                       [&](const Node& node) { return node.site == scope.site; });
    if (has_nodes || !is_voter_elsewhere(core_, part)) continue;
    sites.push_back({scope, core_.read, {}});
  }
  for (Core::Site& known : core_.sites) {
    const bool there = std::any_of(sites.begin(), sites.end(), [&](const Core::Site& site) {
      return site.scope == known.scope;
    });
    if (!there) end_site(known);
  }
  for (Core::Site& site : sites) {
    const auto known = std::find_if(core_.sites.begin(), core_.sites.end(),
                                    [&](const Core::Site& k) { return k.scope == site.scope; });
    const lists::Members wished = members_of(site.wished);
    const bool same = known != core_.sites.end() && members_of(known->wished) == wished;
    if (known != core_.sites.end()) site.voters = known->voters;
    if (same && site.voters.empty()) continue;
    const lists::Participant* part = core_.part(site.scope);
    const bool is_known = part && part->candidate.reigns && !part->held.pending.number &&
                          part->held.current.members == wished;
    if (is_known) {
      end_site(site);
      continue;
    }
    site.voters = voters_of(core_, part ? lists::to_ask(*part, wished) : wished);
  }
  const bool changed = core_.sites != sites;
  core_.sites = std::move(sites);
  if (changed) use_lists();
}

void Core_Step::ask_sites() {
  for (const Core::Site& site : core_.sites) {
    if (site.voters.empty()) continue;
    part_of(core_.parts, site.scope);
    Voter_List others = site.voters;  // for voters of its own scope, see scope_to_ask()
    std::erase_if(others, [&](const Node& node) { return is_own_voter(core_, node.id); });
    ask_votes(others, core_.turn.candidate, question(site.scope));
  }
}

// The scope about which a voter of this node is asked next. Only one question for a vote is under
// way to a voter at a time, so it is asked about one scope after the other. Its promise is the same
// for all of them, so each answer renews its vote.
lists::Scope Core_Step::scope_to_ask(const Node& voter) const {
  std::vector<lists::Scope> scopes = {core_.scope};
  for (const Core::Site& site : core_.sites) {
    if (find_id(site.voters, voter.id)) scopes.push_back(site.scope);
  }
  const auto asked = core_.asked_in.find(voter.name);
  if (asked == core_.asked_in.end()) return core_.scope;
  const auto last = std::find(scopes.begin(), scopes.end(), asked->second);
  return last == scopes.end() || last + 1 == scopes.end() ? core_.scope : *(last + 1);
}

// This node as a voter of another site: it votes for itself, from its stored lists.
void Core_Step::vote_in(const Core::Site& site, lists::Participant& part, Time missed) const {
  const lists::Participant* stored = core_.part(site.scope);
  if (!stored || core_.unsure || !find_id(site.voters, part.id)) return;
  const lists::Members votes = core_.voting(site.scope, now_ + missed);
  const bool votes_itself = std::binary_search(votes.begin(), votes.end(), part.id);
  const lists::Answer said = lists::answer(stored->held, lists::ask(part), !votes_itself);
  part = lists::replied(std::move(part), stored->id, said.reply, votes).node;
  if (said.fetch) part = lists::fetched(part, part.id, lists::served(part), false, votes);
}

// Its votes are handed back in this turn.
void Core_Step::end_site(Core::Site& site) {
  for (const Node& voter : site.voters) {
    if (!is_own_voter(core_, voter.id)) core_.polls.give_up_vote(voter.name);
  }
  site.voters.clear();
  if (core_.part(site.scope)) part_of(core_.parts, site.scope).candidate = {};
}

void Core_Step::end_sites() {
  if (core_.sites.empty()) return;
  for (Core::Site& site : core_.sites) end_site(site);
  core_.sites.clear();
  use_lists();
}

}  // namespace primgr
