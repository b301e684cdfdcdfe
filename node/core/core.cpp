#include "node/core/core.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include "node/core/core_step.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// The shortest time from one query of the database to the next.
constexpr Time min_look_interval = 100ms;
// For this time after a promise to another node has ended, the database is queried once a
// min_look_interval to find a new primary. The same holds for a database that has just gone.
constexpr Time vacancy = 2min;
// For this time after the last Synchrony_Wanted, the primary is asked: a load balancer may check
// less often than once a refresh_interval.
constexpr Time sync_interest = 20s;

// This node, if it checks at its own address whether another process has its name. Null: it does
// not check.
const Node* who_asks_itself(const Core& core) {
  return core.settings.instance.empty() ? nullptr : core.candidate();
}

}  // namespace

Core::Core(Core_Settings with, Promise promised, Voter_Lists known)
    : settings(std::move(with)),
      lease{settings.vote_lease, settings.check_delay},
      addresses(known.addresses),
      stored_addresses(std::move(known.addresses)),
      lost(std::move(known.lost)),
      voted(known.voted),
      unreadable(std::move(known.unreadable)),
      promise(std::move(promised)) {
  scope.system = voted.system;
  for (lists::Held& held : known.held) parts.push_back({0, std::move(held), {}});
}

Event read_reply(Question_Kind kind, const Replied& to, const Http_Reply& reply) {
  switch (kind) {
    case Question_Kind::vote: {
      Vote_Answer answer;
      answer.sent_at = reply.sent_at;
      answer.named = http_node_reports_primary(reply, answer.why, &answer.terms);
      answer.lists = read_lists_reply(reply);
      return Vote_Replied{to, std::move(answer), {}};
    }
    case Question_Kind::state:
      return State_Replied{to, read_state_reply(reply)};
    case Question_Kind::standby:
      return Standby_Replied{to, read_standby_reply(reply)};
    case Question_Kind::lists: {
      Lists_Replied told{to, {}, {}};
      told.served = read_served_lists(reply, told.addresses);
      return told;
    }
    case Question_Kind::hand_back:
      break;
  }
  return Hand_Back_Replied{to};
}

Effects step(Core& core, const Event& event, Time now) {
  const std::uint64_t asked_before = core.polls.last_number();
  const bool awaited_before = core.promise.awaits_store();
  const bool storing_before = core.storing.has_value();
  Core_Step step(core, now);
  try {
    std::visit(step, event);
  } catch (const std::bad_alloc&) {
    // The effects are lost, so nobody carries them out: undoes what depends on them.
    core.polls.forget_questions(asked_before + 1);
    if (!awaited_before && core.promise.awaits_store()) core.promise.stored(std::nullopt);
    if (!storing_before) core.storing.reset();
    throw;
  }
  return std::move(step.effects);
}

// ---- the database -------------------------------------------------------------------------------

void Core_Step::operator()(const Facts_Read& event) {
  core_.facts = event.facts;
  core_.looked = true;
  const Facts& facts = core_.facts;
  if (facts.reachable) core_.answered_at = facts.asked_at;
  const Replication& r = facts.replication;
  if (!facts.reachable) core_.timeline = 0;
  if (r.known && r.timeline) core_.timeline = *r.timeline;
  if (r.sender_lsn && r.position) {
    core_.replay.add(r.asked_at, r.end(), *r.position);
  } else if (!r.known || !facts.in_recovery) {
    core_.replay.forget();
  }
  if (r.known && std::exchange(core_.server_started, r.server_started) != r.server_started) {
    core_.staleness.forget();
  }
  if (r.known && r.position && facts.in_recovery) {
    core_.staleness.holds(*r.position, r.received, r.timeline);
  }
  if (facts.nodes_known) {
    leave_out_namesakes();
    rename_nodes();
    core_.nodes = facts.nodes;
    take_list();
    use_lists();
  }
}

// Makes votes older. Promises to other nodes stay as they are: it is safe if a voter keeps a
// promise for too long.
void Core_Step::operator()(const Clock_Missed& event) {
  if (core_.own_vote) core_.own_vote->sent_at -= event.missed;
  core_.staleness.age(event.missed);
  core_.polls.age(event.missed);
  settle_votes(Time::zero());
  // Until the next decision, a client that asks for the state gets the last one, which rests on
  // those votes.
  if (core_.decision.until != Time::max()) core_.decision.until -= event.missed;
}

void Core_Step::operator()(const Synchrony_Wanted&) {
  effects.turn = !core_.sync_wanted_at || now_ - *core_.sync_wanted_at > sync_interest;
  core_.sync_wanted_at = now_;
}

void Core_Step::operator()(const Not_Sent& event) {
  core_.polls.forget_questions(event.number);
}

// ---- a turn -------------------------------------------------------------------------------------

void Core_Step::operator()(const Tick& event) {
  switch (event.part) {
    case Part::begin:
      return begin_turn(event);
    case Part::states:
      return ask_states();
    case Part::decision:
      watch_staleness();
      settle_votes(event.missed);
      return decide_state();
    case Part::lists:
      return decide_lists(event.missed);
    case Part::hand_back:
      return hand_votes_back();
  }
}

// A candidate votes for itself by the same rule as any voter.
void Core_Step::begin_turn(const Tick& tick) {
  Core::Turn turn;
  for (const Node& node : core_.nodes) {
    if (!names_equal(node.name, core_.settings.node_name)) turn.others.push_back(node);
  }
  turn.others.insert(turn.others.end(), core_.unlisted.begin(), core_.unlisted.end());
  const Node* self = core_.candidate();
  if (self) {
    turn.candidate = self->name;
    turn.voters = core_.voters;
    turn.in_consensus = turn.voters.size();
    std::erase_if(turn.voters, [&](const Node& node) { return node.id == self->id; });
  }
  core_.turn = std::move(turn);
  if (!self) {
    core_.polls.forget_answers();
    drop_candidates();
    return;
  }
  const Node* named = named_primary(core_.facts.nodes);
  Core::Awaited asked;
  asked.candidate = self->name;
  if (named) asked.named = named->name;
  asked.own = true;
  asked.asked_at = now_;
  if (!core_.settings.candidate) {
    Ballot ballot;
    ballot.names = asked.named;
    return own_ballot(ballot, asked);
  }
  if (core_.awaits_store()) {
    effects.busy = true;
    return;
  }
  settle_votes(tick.missed);
  if (core_.promise.has_token(core_.own_token)) core_.promise.rename(self->name);
  asked.lists = question(core_.scope);
  vote({asked.named, asked.candidate, core_.own_token, tick.fresh, core_.turn.in_consensus == 1},
       std::move(asked));
}

void Core_Step::ask_states() {
  const Core_Settings& settings = core_.settings;
  for (const Node& peer : core_.turn.others) {
    core_.polls.ask(Question_Kind::state, peer, state_question(peer.name),
                    settings.refresh_interval, now_, effects.ask);
  }
  if (const Node* self = who_asks_itself(core_)) {
    core_.polls.ask(Question_Kind::state, *self, state_question(self->name),
                    settings.refresh_interval, now_, effects.ask);
  }
  if (const Node* source = core_.sync_source(now_)) {
    core_.polls.ask(Question_Kind::standby, *source, standby_question(settings.node_name),
                    settings.refresh_interval, now_, effects.ask);
  }
  fetch_lists();
  ask_sites();
}

void Core_Step::decide_state() {
  if (!core_.looked) return;
  core_.looked_at = core_.facts.asked_at;
  if (core_.decision.state == State::primary) core_.last_200 = now_;
  core_.complete = !core_.facts.nodes_pending && core_.all_answered(Question_Kind::vote) &&
                   core_.has_asked_itself() && !lists_may_change();
  core_.decision = decide(core_.facts, core_.settings.node_name, core_.all_votes(), core_.lease,
                          now_, core_.required);
  if (core_.decision.state != State::primary) return;
  std::string why = why_lists_forbid();
  if (why.empty()) why = core_.why_not_itself();
  if (!why.empty()) core_.decision = {State::unknown, Time::max(), std::move(why)};
}

// ---- what can be read ---------------------------------------------------------------------------

State Core::state_at(Time now, Time missed) const {
  if (now - looked_at > settings.cache_ttl) return State::down;
  if (now >= decision.until || stopped_at(now, missed)) return State::unknown;
  return decision.state;
}

bool Core::stopped_at(Time now, Time missed) const {
  return decision.state == State::primary && now - looked_at <= settings.cache_ttl &&
         now < decision.until && now + missed >= decision.until;
}

Decision Core::decision_at(Time now, Time missed) const {
  const State state = state_at(now, missed);
  if (!looked || state == decision.state) return decision;
  return {state, Time::max(),
          state == State::down ? "nothing was learnt for longer than cache_ttl"
                               : "no majority votes for it: the votes expired"};
}

const Node* Core::primary_at(Time now, Time missed) const {
  return state_at(now, missed) == State::down ? nullptr : named_primary(facts.nodes);
}

bool Core::has_asked_itself() const {
  const Node* self = who_asks_itself(*this);
  return !self || polls.answered(Question_Kind::state, self->name);
}

// A vote names a node by its name. So if two processes have that name, as after a machine was
// cloned, both would be Primary. The process that answers at the address in repmgr.nodes is the
// node. If no process answers there, this node may be unable to reach its own address, so it may be
// Primary.
std::string Core::why_not_itself() const {
  const Node* self = who_asks_itself(*this);
  if (!self) return {};
  if (!has_asked_itself()) {
    return "it is not known yet whether another primgr answers for " + self->name;
  }
  const auto reported = polls.reported(self->name);
  if (!reported || reported->first.instance.empty() ||
      reported->first.instance == settings.instance) {
    return {};
  }
  return "another primgr answers for " + self->name + " at " + self->host +
         ", as repmgr.nodes has it: node_name must be this node's own";
}

const Node* Core::candidate() const {
  if (!facts.reachable || facts.in_recovery || !facts.nodes_known) return nullptr;
  const Node* self = find_node(facts.nodes, settings.node_name);
  return self && self->type != "witness" ? self : nullptr;
}

bool Core::names_itself() const {
  const Node* self = candidate();
  const Node* named = named_primary(facts.nodes);
  return self && named && named->id == self->id;
}

const Node* Core::followed() const {
  if (!facts.reachable || !facts.in_recovery) return nullptr;
  const Node* primary = named_primary(facts.nodes);
  return primary && !names_equal(primary->name, settings.node_name) ? primary : nullptr;
}

const Node* Core::sync_source(Time now) const {
  const bool wanted = sync_wanted_at && now - *sync_wanted_at <= sync_interest;
  return wanted ? followed() : nullptr;
}

bool Core::all_answered(Question_Kind kind) const {
  const bool votes = kind == Question_Kind::vote;
  const std::vector<Node>& asked = votes ? voters : nodes;
  return (votes && !candidate()) || std::all_of(asked.begin(), asked.end(), [&](const Node& node) {
           return names_equal(node.name, settings.node_name) || polls.answered(kind, node.name);
         });
}

std::vector<std::string> Core::claimants(Time now, Time missed) const {
  std::vector<std::string> found;
  for (const Node& node : nodes) {
    const bool self = names_equal(node.name, settings.node_name);
    const State state = self ? state_at(now, missed) : polls.state(node.name);
    if (state == State::primary) found.push_back(node.name);
  }
  return found;
}

// Short while the node is undecided or its votes are about to expire. A witness is always Unknown,
// and does not count as undecided.
Time Core::look_interval(Time now) const {
  const bool short_of_votes =
      decision.until != Time::max() && decision.until < now + vote_lifetime(lease) / 2;
  const bool witness = facts.reachable && facts.nodes_known && !facts.in_recovery && !candidate() &&
                       find_node(facts.nodes, settings.node_name);
  const bool undecided = decision.state == State::unknown && !witness;
  // The node that this one voted for is gone: its promise is over, and it does not report that it
  // is Primary. (A Primary that has only made another site's list does report that.) Usually
  // another node is about to be promoted.
  const Time since_promise = bound_until ? now - *bound_until : vacancy;
  const Node* named = followed();
  const bool vacant = decision.state != State::down && since_promise >= Time::zero() &&
                      since_promise < vacancy &&
                      !(named && polls.state(named->name) == State::primary);
  // Usually the server is being restarted. A server that refuses for another reason logs each
  // attempt, so it is not queried more often.
  const bool just_gone =
      decision.state == State::down && facts.gone && answered_at && now - *answered_at < vacancy;
  if (vacant || just_gone) return std::min(min_look_interval, settings.refresh_interval);
  return undecided || short_of_votes ? std::min(undecided_interval, settings.refresh_interval)
                                     : settings.refresh_interval;
}

Time Core::turn_due(Time now) const {
  // At least once a refresh_interval, so that a stalled query of the database is noticed and
  // reported.
  Time due = std::min(now + settings.refresh_interval, decision.until);
  const auto consider = [&](Question_Kind kind, const std::string& peer, Time interval) {
    due = std::min(due, polls.due(kind, peer, interval, now));
  };
  for (const Node& node : turn.others) {
    consider(Question_Kind::state, node.name, settings.refresh_interval);
  }
  if (const Node* node = sync_source(now)) {
    consider(Question_Kind::standby, node->name, settings.refresh_interval);
  }
  if (const Node* self = who_asks_itself(*this)) {
    consider(Question_Kind::state, self->name, settings.refresh_interval);
  }
  for (const auto& [peer, of] : to_fetch) consider(Question_Kind::lists, peer, min_look_interval);
  if (const auto over_at = votes_over_at(*this, now)) due = std::min(due, *over_at);
  if (bound_until && *bound_until > now) due = std::min(due, *bound_until);
  for (const auto& [peer, token] : polls.to_hand_back(now)) {
    consider(Question_Kind::hand_back, peer, undecided_interval);
  }
  const Time interval = vote_interval(*this, now);
  for (const Site& site : sites) {
    for (const Node& node : site.voters) {
      if (!names_equal(node.name, settings.node_name)) {
        consider(Question_Kind::vote, node.name, interval);
      }
    }
  }
  for (const Node& node : turn.voters) {
    consider(Question_Kind::vote, node.name, interval);
    const auto since = polls.vote_awaited_since(node.name);
    if (since && *since + straggler_timeout() > now) {
      due = std::min(due, *since + straggler_timeout());
    }
  }
  return due;
}

}  // namespace primgr
