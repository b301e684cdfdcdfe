// The lists of voters of other sites. A site without a Primary has nobody who could change its
// list, so the Primary of the cluster does: it takes the votes of that site as a candidate there
// would, makes the list, and hands the votes back. It does so once in its reign, and whenever its
// own database lists other voters there: its own copy of that site's list may be out of date.
//
// The rule is that of node/rules/lists.hpp, for each scope on its own, so nothing here can make two
// Primaries: a vote that it holds in another site is one that no node of that site has.

#include <algorithm>
#include <utility>

#include "node/core/core_step.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

namespace {

// This node, or one that is asked for its vote in the lists of this node.
bool is_own_voter(const Core& core, int id) {
  const Node* self = core.candidate();
  return (self && self->id == id) || find_id(core.voters, id);
}

}  // namespace

// Which sites there are, which lists are wished there, and who is asked for that. A voter of this
// node's own lists is asked as such only, as one question at a time is under way to it.
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
    std::erase_if(site.voters, [&](const Node& node) { return is_own_voter(core_, node.id); });
  }
  const bool changed = core_.sites != sites;
  core_.sites = std::move(sites);
  if (changed) use_lists();
}

void Core_Step::ask_sites() {
  for (const Core::Site& site : core_.sites) {
    if (site.voters.empty()) continue;
    part_of(core_.parts, site.scope);
    ask_votes(site.voters, core_.turn.candidate, question(site.scope));
  }
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
