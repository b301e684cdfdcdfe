// The lists of voters: when the rule of node/rules/lists.hpp is applied, and what follows from the
// result.

#include <algorithm>
#include <map>
#include <utility>

#include "node/core/core_step.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// The time from one fetch of a node's lists to the next.
constexpr Time fetch_interval = 50ms;
// After a failed store, data that may be sent before they are stored are stored again after this
// time.
constexpr Time store_again = 10s;
// The highest number of scopes whose lists are held.
constexpr std::size_t most_parts = 100;

template <class Parts>
auto find_part(Parts& parts, const lists::Scope& scope) -> decltype(&parts.front()) {
  const auto found = std::find_if(parts.begin(), parts.end(),
                                  [&](const auto& p) { return p.held.scope == scope; });
  return found == parts.end() ? nullptr : &*found;
}

// A voter as repmgr.nodes lists it, or else at its last known address. If another node has its last
// known name by now, that address is not used.
Node voter_of(const Core& core, int id) {
  if (const Node* node = find_id(core.nodes, id)) return *node;
  Node node;
  node.id = id;
  node.site = core.scope.site.value_or("");
  const auto known = core.addresses.find(id);
  if (known != core.addresses.end() && !find_node(core.nodes, known->second.name)) {
    node.name = known->second.name;
    node.host = known->second.host;
    node.hostaddr = known->second.hostaddr;
  }
  if (node.name.empty()) node.name = "node_id " + std::to_string(id);
  return node;
}

// The lists of another site of which this node is a member, except for lists whose members equal
// those of a list that counts for this node anyway.
std::vector<lists::List> listed_elsewhere(const Core& core, const lists::Participant& part) {
  std::vector<lists::List> found;
  if (!is_voter_elsewhere(core, part)) return found;
  for (const lists::List* list : {&part.held.current, &part.held.pending}) {
    const bool counts =
        std::any_of(core.counted.begin(), core.counted.end(),
                    [&](const lists::List& counted) { return counted.members == list->members; });
    if (!counts && is_member(*list, part.id)) found.push_back(*list);
  }
  return found;
}

std::string digest_of(const Core& core) {
  const lists::Participant* own = core.part();
  if (!own || !own->held.current.number) return digest(members_of(core.read));
  std::string text = digest(own->held.current.members);
  if (own->held.pending.number) text += "." + digest(own->held.pending.members);
  return text;
}

}  // namespace

bool is_member(const lists::List& list, int id) {
  return std::binary_search(list.members.begin(), list.members.end(), id);
}

bool is_voter_elsewhere(const Core& core, const lists::Participant& part) {
  const lists::Scope& of = part.held.scope;
  return of != core.scope && of.site && core.scope.site && of.system == core.scope.system &&
         (is_member(part.held.current, part.id) || is_member(part.held.pending, part.id));
}

const Node* find_id(const Voter_List& nodes, int id) {
  const auto found =
      std::find_if(nodes.begin(), nodes.end(), [id](const Node& node) { return node.id == id; });
  return found == nodes.end() ? nullptr : &*found;
}

Voter_List voters_of(const Core& core, const lists::Members& members) {
  Voter_List voters;
  for (const int id : members) voters.push_back(voter_of(core, id));
  return voters;
}

const lists::Participant* Core::part(const lists::Scope& of) const {
  return find_part(parts, as_held(of));
}

lists::Scope Core::as_held(lists::Scope of) const {
  if (of.system == 0 || scope.system == 0) of.system = scope.system;
  return of;
}

// A node that is cut off could register itself in another site, and be a majority there. So a node
// that comes to another site also needs a majority of its former voters. This ends when the node
// knows that it is no voter there any more (Core_Step::ask_for_release()), or that the former site
// has the same voters as its own site (Core_Step::watch_sites()).
std::vector<lists::List> Core::elsewhere() const {
  std::vector<lists::List> found;
  for (const lists::Participant& part : parts) {
    for (const lists::List& list : listed_elsewhere(*this, part)) found.push_back(list);
  }
  return found;
}

std::optional<lists::Served> Core::served_lists(const lists::Scope& of) const {
  if (unsure) return std::nullopt;
  if (const lists::Participant* known = part(of)) return lists::served(*known);
  lists::Served none;
  none.held.scope = of;
  return none;
}

lists::Participant* Core_Step::own_part() {
  return find_part(core_.parts, core_.scope);
}

// This node's state in that scope; it is created if there is none.
lists::Participant& Core_Step::part_of(std::vector<lists::Participant>& parts,
                                       const lists::Scope& scope) {
  if (lists::Participant* known = find_part(parts, scope)) return *known;
  lists::Participant& part = parts.emplace_back();
  const Node* self = find_node(core_.nodes, core_.settings.node_name);
  if (self) part.id = self->id;
  part.held.scope = scope;
  part.held.mute = !core_.unreadable.empty();
  return part;
}

// ---- the rows of the database -------------------------------------------------------------------

// A node is found by its name; case does not matter, and '_' equals '-'. A row whose name equals
// that of a known node is left out until it is renamed. Otherwise neither node would be found, and
// anybody who registers such a node would take a healthy Primary out.
void Core_Step::leave_out_namesakes() {
  std::vector<int> namesakes;
  std::string first;  // the known node with that name
  std::erase_if(core_.facts.nodes, [&](const Node& row) {
    const Node* known = find_node(core_.nodes, row.name);
    const Node* other = known ? find_id(core_.facts.nodes, known->id) : nullptr;
    const bool is_namesake = other && other->id != row.id && names_equal(other->name, row.name);
    if (is_namesake) {
      namesakes.push_back(row.id);
      first = other->name;
    }
    return is_namesake;
  });
  if (namesakes != core_.namesakes && !namesakes.empty()) {
    core_.notes.push_back({Note::Kind::namesake, "node_id " + std::to_string(namesakes.front()),
                           first, namesakes.size()});
  }
  core_.namesakes = std::move(namesakes);
}

// The node_id identifies a node. After a change of its name, its votes, and what is known of it,
// are saved under the new name.
void Core_Step::rename_nodes() {
  std::map<std::string, std::string> renamed;
  for (const Node& node : core_.facts.nodes) {
    const auto known = core_.addresses.find(node.id);
    if (known == core_.addresses.end() || known->second.name == node.name) continue;
    renamed[known->second.name] = node.name;
  }
  std::string& own = core_.settings.node_name;
  const Node* self = find_id(core_.facts.nodes, core_.settings.node_id);
  if (self && self->name != own) {
    core_.notes.push_back({Note::Kind::renamed, self->name, own, 1});
    renamed[own] = self->name;
    own = self->name;
  }
  if (renamed.empty()) return;
  core_.polls.rename(renamed);
  if (core_.own_vote) core_.own_vote->names = renamed_to(renamed, core_.own_vote->names);
  std::map<std::string, lists::Scope> asked_in;
  for (auto& [name, scope] : core_.asked_in) asked_in[renamed_to(renamed, name)] = scope;
  core_.asked_in = std::move(asked_in);
}

// Uses the list that was just read: the voters of this node's site, or of the cluster, by its own
// database. If this node is not listed there, the voters are those of the site in which it was.
void Core_Step::take_list() {
  const Core_Settings& settings = core_.settings;
  const std::vector<Node>& nodes = core_.facts.nodes;
  const Node* self = find_node(nodes, settings.node_name);
  if (settings.consensus_cluster) core_.scope.site.reset();
  if (self && !settings.consensus_cluster) core_.scope.site = self->site;
  core_.read.clear();
  for (const Node& node : nodes) {
    if (!core_.scope.site || node.site == *core_.scope.site) core_.read.push_back(node);
    core_.addresses[node.id] = {node.name, node.host, node.hostaddr};
  }
  std::erase_if(core_.addresses, [&](const auto& known) {
    const int id = known.first;
    if (find_id(nodes, id)) return false;
    return std::none_of(core_.parts.begin(), core_.parts.end(), [id](const auto& part) {
      return is_member(part.held.current, id) || is_member(part.held.pending, id) ||
             is_member(part.candidate.found, id);
    });
  });
  have_own_part();
  const bool any = std::any_of(core_.parts.begin(), core_.parts.end(),
                               [](const auto& part) { return part.held.current.number; });
  if (any && core_.addresses != core_.stored_addresses && !core_.store_due) core_.store_due = now_;
}

// Creates this node's state in its own scope, once its row of repmgr.nodes is known.
void Core_Step::have_own_part() {
  const Node* self = find_node(core_.nodes, core_.settings.node_name);
  if (self) part_of(core_.parts, core_.scope);
  for (lists::Participant& part : core_.parts) {
    if (self && part.id != self->id) {
      part.id = self->id;
      part.candidate = {};
    }
    if (!core_.voters_in(part.held.scope)) part.candidate = {};
  }
}

// Works out, after a change of the lists, the lists of which a majority is needed, and the nodes to
// ask.
void Core_Step::use_lists() {
  const lists::Participant* own = core_.part();
  core_.counted = own ? lists::counted(*own) : std::vector<lists::List>();
  core_.required.clear();
  core_.voters = core_.read;
  if (core_.settings.candidate && own) {
    lists::Members asked = members_of(core_.read);
    std::vector<lists::List> needed = core_.counted;
    for (const lists::List& list : core_.elsewhere()) {
      asked.insert(asked.end(), list.members.begin(), list.members.end());
      if (!needed.empty()) needed.push_back(list);
    }
    for (const lists::List& list : needed) {
      core_.required.push_back(voters_of(core_, list.members));
    }
    core_.voters = voters_of(core_, lists::to_ask(*own, asked));
  }
  if (core_.required.empty()) core_.required.push_back(core_.read);
  core_.holds = digest_of(core_);
  core_.unlisted.clear();
  const auto add = [&](const Node& node) {
    const bool listed = names_equal(node.name, core_.settings.node_name) ||
                        find_node(core_.nodes, node.name) || find_node(core_.unlisted, node.name);
    if (!listed) core_.unlisted.push_back(node);
  };
  for (const Node& voter : core_.voters) add(voter);
  for (const Core::Site& site : core_.sites) {
    for (const Node& voter : site.voters) add(voter);
  }
  for (const Lost_Voter& lost : core_.lost) add(lost.node);
  const Voter_List known = all_of({core_.nodes, core_.unlisted});
  core_.polls.keep_only(known);
  std::erase_if(core_.asked_in, [&](const auto& asked) { return !find_node(known, asked.first); });
}

// ---- votes --------------------------------------------------------------------------------------

// Must be called whenever a vote may have expired, before anything else: a gap ends a reign.
void Core_Step::settle_votes(Time missed) {
  if (core_.storing) return;
  for (lists::Participant& part : core_.parts) {
    if (!core_.voters_in(part.held.scope)) continue;
    const lists::Members votes = core_.voting(part.held.scope, now_ + missed);
    part = lists::settled(std::move(part), votes);
  }
  const lists::Participant* own = core_.part();
  if (own && core_.counted != lists::counted(*own)) use_lists();
}

// This node is no candidate, or has no votes any more.
void Core_Step::drop_candidates() {
  for (lists::Participant& part : core_.parts) part.candidate = {};
  core_.sites.clear();
  core_.own_to_fetch = false;
  use_lists();
}

// What this node asks as a candidate.
std::optional<Lists_Question> Core_Step::question(const lists::Scope& scope) {
  lists::Participant* part = find_part(core_.parts, scope);
  if (!part) return std::nullopt;
  return Lists_Question{scope, lists::ask(*part), core_.timeline};
}

// `votes`: this node would vote for the candidate, except for the lists.
lists::Answer Core_Step::answer(const Core::Awaited& asked, bool votes) const {
  lists::Held none;
  none.scope = asked.lists->scope;
  none.mute = !core_.unreadable.empty();
  const lists::Participant* part = core_.part(asked.lists->scope);
  return lists::answer(part ? part->held : none, asked.lists->numbers, !votes);
}

const Node* Core_Step::known_node(const std::string& name) const {
  const Node* node = find_node(core_.nodes, name);
  return node ? node : find_node(core_.unlisted, name);
}

// This node has to fetch the candidate's lists. It fetches them from the candidate's own address,
// as anybody may have asked in the candidate's name.
void Core_Step::want(const Core::Awaited& asked) {
  if (asked.own) {
    core_.own_to_fetch = true;
    return;
  }
  const Node* node = known_node(asked.candidate);
  if (!node || node->id != asked.lists->numbers.candidate) return;
  core_.to_fetch[node->name] = core_.as_held(asked.lists->scope);
  effects.turn = true;
}

// Uses a voter's reply about this node as a candidate. `votes`: as for lists::replied().
void Core_Step::take_vote(const lists::Scope& scope, int from, const lists::Reply& reply,
                          const lists::Members& votes) {
  if (core_.storing) {
    core_.storing->late.push_back({scope, from, reply, votes});
    return;
  }
  lists::Participant* part = find_part(core_.parts, scope);
  const Voter_List* voters = core_.voters_in(scope);
  const Node* voter = voters ? find_id(*voters, from) : nullptr;
  if (!part || !voter) return;
  lists::Replied taken = lists::replied(*part, from, reply, votes);
  *part = std::move(taken.node);
  if (taken.fetch && from != part->id) core_.to_fetch[voter->name] = scope;
  if (scope == core_.scope && core_.counted != lists::counted(*part)) use_lists();
}

// Why this node is not Primary although a majority votes for it; empty: it may be Primary.
std::string Core_Step::why_lists_forbid() const {
  const lists::Participant* own = core_.part();
  if (!core_.settings.candidate) return {};
  if (!own || !own->held.current.number) {
    return core_.unreadable.empty() ? "it is not known yet which voters count" : core_.unreadable;
  }
  const std::uint64_t system = core_.facts.system;
  if (system && core_.voted.system && system != core_.voted.system) {
    return "its server is of another cluster now";
  }
  return own->candidate.reigns ? "" : "it is not known yet which voters count besides";
}

// Whether this node is a candidate that is about to learn, or to start, another list.
bool Core_Step::lists_may_change() const {
  const lists::Participant* own = core_.part();
  if (!own || !core_.candidate() || !core_.settings.candidate) return false;
  if (core_.storing || !core_.to_fetch.empty() || !core_.fetched.empty()) return true;
  // The other nodes fetch the list, and vote at the next question.
  if (core_.list_changed_at && now_ - *core_.list_changed_at < core_.settings.peer_timeout) {
    return true;
  }
  const lists::Participant next =
      lists::started(*own, members_of(core_.read), core_.voting(core_.scope, now_));
  return core_.unreadable.empty() && next.held != own->held;
}

// ---- what others serve --------------------------------------------------------------------------

void Core_Step::fetch_lists() {
  std::erase_if(core_.to_fetch,
                [&](const auto& wanted) { return !find_node(core_.turn.others, wanted.first); });
  for (const auto& [name, scope] : core_.to_fetch) {
    core_.polls.ask(Question_Kind::lists, *find_node(core_.turn.others, name),
                    lists_question(name, scope), fetch_interval, now_, effects.ask);
  }
}

// Fetches the lists of other sites in which this node is a voter, from the Primary that it follows.
void Core_Step::ask_for_release(const std::string& primary) {
  const Node* followed = core_.followed();
  if (!followed || followed->name != primary) return;
  for (const lists::Participant& part : core_.parts) {
    if (listed_elsewhere(core_, part).empty()) continue;
    core_.to_fetch.emplace(primary, part.held.scope);
    effects.turn = true;
  }
}

void Core_Step::operator()(const Lists_Replied& event) {
  effects.accepted = core_.polls.replied(Question_Kind::lists, event.to);
  if (!effects.accepted) return;
  std::string from(event.to.peer);
  core_.to_fetch.erase(from);
  if (!event.served) return;
  for (const auto& [id, address] : event.addresses) {
    if (!find_id(core_.nodes, id)) core_.addresses[id] = address;
  }
  std::erase_if(core_.fetched, [&](const Core::Fetched& known) {
    return known.from == from && known.served.held.scope == event.served->held.scope;
  });
  core_.fetched.push_back({std::move(from), *event.served});
  effects.turn = true;
}

void Core_Step::take_fetched(std::vector<lists::Participant>& parts, Time missed) {
  for (Core::Fetched& told : std::exchange(core_.fetched, {})) {
    const Node* from = known_node(told.from);
    if (!from) continue;
    const lists::Scope scope = core_.as_held(told.served.held.scope);
    told.served.held.scope = scope;
    const bool is_news = parts.size() < most_parts && told.served.held.current.number;
    if (!find_part(parts, scope) && !is_news) continue;
    lists::Participant& part = part_of(parts, scope);
    const bool bound = core_.promise.is_bound_to_another(told.from, now_);
    part = lists::fetched(std::move(part), from->id, told.served, bound,
                          core_.voting(scope, now_ + missed));
    // A node that saves no lists loses them with each restart, so it votes all the same. (README:
    // state_directory)
    if (!core_.settings.keeps_lists) part.held.mute = false;
  }
}

// ---- decisions ----------------------------------------------------------------------------------

// As a Primary: makes the wished list, as far as that is possible now.
void Core_Step::decide_list(lists::Participant& part, const Voter_List& wished, Time missed) {
  const lists::Members votes = core_.voting(part.held.scope, now_ + missed);
  lists::Members answering;
  for (const Node& node : wished) {
    if (node.id == part.id || core_.polls.reported(node.name)) answering.push_back(node.id);
  }
  part = lists::proposed(std::move(part), members_of(wished), answering, votes);
  part = lists::confirmed(std::move(part), votes);
}

// Updates the lists from what is known now. If the result has to be stored, it takes effect when it
// is stored, see Lists_Stored.
void Core_Step::decide_lists(Time missed) {
  if (!core_.looked || !core_.settings.candidate) return;
  if (core_.awaits_store()) {
    effects.busy = true;
    return;
  }
  settle_votes(missed);
  take_timeline(missed);
  watch_sites(missed);
  Core::Storing next{core_.parts, core_.lost, {}, {}, {}};
  take_fetched(next.parts, missed);
  lists::Participant* own = find_part(next.parts, core_.scope);
  if (own && core_.candidate()) {
    const lists::Members votes = core_.voting(core_.scope, now_ + missed);
    if (std::exchange(core_.own_to_fetch, false)) {
      const bool bound = core_.promise.is_bound_to_another(core_.settings.node_name, now_);
      *own = lists::fetched(*own, own->id, lists::served(*own), bound, votes);
    }
    const lists::Members read = members_of(core_.read);
    if (core_.unreadable.empty()) *own = lists::started(std::move(*own), read, votes);
    if (core_.decision_at(now_, missed).state == State::primary) {
      const lists::Members before = own->held.current.members;
      decide_list(*own, core_.read, missed);
      const lists::Members& now = own->held.current.members;
      if (now != before) {
        next.notes.push_back({Note::Kind::new_voters, names_of(voters_of(core_, now)),
                              names_of(voters_of(core_, before)), now.size()});
      }
    }
  }
  for (const Core::Site& site : core_.sites) {
    if (site.voters.empty()) continue;
    lists::Participant& part = part_of(next.parts, site.scope);
    vote_in(site, part, missed);
    const lists::Number before = part.held.current.number;
    if (core_.unreadable.empty()) {
      part = lists::started(std::move(part), members_of(site.wished),
                            core_.voting(site.scope, now_ + missed));
    }
    decide_list(part, site.wished, missed);
    // Begins a new reign: it starts when a majority votes under the new list, and so holds it (as
    // its current or its pending list).
    if (part.held.current.number != before) part.candidate = {};
  }
  if (core_.declared_at) declare(next);
  watch_lost(next);
  const bool due = core_.store_due && now_ >= *core_.store_due;
  if (!holds_same(next) || core_.unsure || due) return store_lists(std::move(next));
  core_.parts = std::move(next.parts);
  effects.notes.splice(effects.notes.end(), core_.notes);
  effects.notes.splice(effects.notes.end(), next.notes);
  use_lists();
}

// Whether `next` equals what is in effect already.
bool Core_Step::holds_same(const Core::Storing& next) const {
  return next.lost == core_.lost && next.parts.size() == core_.parts.size() &&
         std::equal(next.parts.begin(), next.parts.end(), core_.parts.begin(),
                    [](const auto& a, const auto& b) { return a.held == b.held; });
}

// This cluster has a list, so the lists of another cluster are of no use any more.
void Core_Step::drop_other_histories() {
  std::erase_if(core_.parts, [&](const lists::Participant& part) {
    return part.held.scope.system != core_.scope.system;
  });
}

void Core_Step::store_lists(Core::Storing&& next) {
  Voter_Lists store;
  for (const lists::Participant& part : next.parts) store.held.push_back(part.held);
  store.addresses = next.addresses = core_.addresses;
  store.lost = next.lost;
  store.voted = core_.voted;
  effects.store_lists = std::move(store);
  core_.storing = std::move(next);
}

void Core_Step::operator()(const Lists_Stored& event) {
  if (!core_.storing) return;
  effects.notes.splice(effects.notes.end(), core_.notes);
  Core::Storing next = std::move(*core_.storing);
  core_.storing.reset();
  if (event.stored || !holds_same(next)) core_.unsure = !event.stored;
  core_.store_due.reset();
  if (!event.stored) core_.store_due = now_ + store_again;
  if (event.stored) {
    const lists::Participant* before = own_part();
    const lists::Number current = before ? before->held.current.number : lists::Number();
    core_.parts = std::move(next.parts);
    core_.lost = std::move(next.lost);
    core_.stored_addresses = std::move(next.addresses);
    effects.notes.splice(effects.notes.end(), next.notes);
    const lists::Participant* own = core_.part();
    if (own && own->held.current.number && !own->held.mute) core_.unreadable.clear();
    if (own && own->held.current.number && !current) drop_other_histories();
    use_lists();
    own = core_.part();
    if (own && own->held.current.number != current) {
      core_.list_changed_at = now_;
      core_.polls.forget_answers();
      core_.polls.hurry();
    }
    effects.turn = true;
  }
  for (const Core::Storing::Late& late : next.late) {
    take_vote(late.scope, late.from, late.reply, late.votes);
  }
}

// ---- lost voters --------------------------------------------------------------------------------

void Core_Step::operator()(const Lost_Declared& event) {
  core_.declaration = event.declaration;
  core_.declared_at = now_;
  effects.turn = true;
}

// The voters that are lost, of those that the operator has declared lost. None: it is not known
// yet. It is known when each of them has answered a question that was sent after the declaration,
// or has not answered two of them. A voter that was not asked yet, or of which one packet was lost,
// is not lost.
std::optional<Voter_List> Core_Step::judge_lost(std::list<Note>& notes) {
  const Voter_List known = all_of({core_.nodes, core_.voters, core_.unlisted});
  Voter_List lost, alive;
  for (const std::string& name : core_.declaration.names) {
    const Node* node = find_node(known, name);
    if (!node || names_equal(name, core_.settings.node_name) || find_node(lost, name)) continue;
    if (core_.polls.alive_since(node->name, *core_.declared_at)) {
      alive.push_back(*node);
    } else if (core_.polls.silent_since(node->name, *core_.declared_at)) {
      lost.push_back(*node);
    } else {
      return std::nullopt;
    }
  }
  if (!alive.empty()) notes.push_back({Note::Kind::not_lost, names_of(alive), "", alive.size()});
  return lost;
}

void Core_Step::declare(Core::Storing& next) {
  const auto lost = judge_lost(next.notes);
  if (!lost) return;
  core_.declared_at.reset();
  const lists::Members gone = members_of(*lost);
  std::vector<lists::Participant> parts = next.parts;
  for (lists::Participant& part : parts) {
    // Only lists of which this node needs a majority matter.
    if (part.held.scope != core_.scope && !is_voter_elsewhere(core_, part)) continue;
    const auto counted = lists::counted(part);
    const bool listed = std::any_of(counted.begin(), counted.end(), [&](const lists::List& list) {
      return std::any_of(gone.begin(), gone.end(), [&](int id) { return is_member(list, id); });
    });
    if (!listed) continue;
    auto without = lists::without(part, gone);
    if (!without) {
      next.notes.push_back({Note::Kind::none_left, names_of(*lost), "", lost->size()});
      return;
    }
    part = std::move(*without);
  }
  next.parts = std::move(parts);
  next.notes.push_back({Note::Kind::taken_for_lost, names_of(*lost), "", lost->size()});
  next.lost.clear();
  for (const Node& node : *lost) next.lost.push_back({node, core_.declaration.since});
}

// A lost voter that votes for this node does not count as lost any more.
void Core_Step::watch_lost(Core::Storing& next) {
  if (next.lost.empty() || !core_.candidate()) return;
  const lists::Members votes = core_.voting(core_.scope, now_);
  std::erase_if(next.lost, [&](const Lost_Voter& lost) {
    const Node* listed = find_node(core_.read, lost.node.name);
    if (!listed || !std::binary_search(votes.begin(), votes.end(), listed->id)) return false;
    next.notes.push_back({Note::Kind::votes_again, lost.node.name, "", 1});
    return true;
  });
}

}  // namespace primgr
