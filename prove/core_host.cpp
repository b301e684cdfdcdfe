#include "prove/core_host.hpp"

#include <algorithm>
#include <utility>

#include "node/rules/voting.hpp"
#include "prove/private_members.hpp"

namespace primgr::prove {

using namespace std::chrono_literals;

namespace {

// The first time. It is far from zero, because zero stands for "long ago".
constexpr Time start = 100'000s;

// The values need no decoding here.
Params parameters(const std::string& target) {
  Params params;
  std::size_t from = target.find('?') + 1;
  while (from != 0 && from < target.size()) {
    const std::size_t to = std::min(target.find('&', from), target.size());
    const std::size_t equals = std::min(target.find('=', from), to);
    params.emplace(target.substr(from, equals - from),
                   equals < to ? target.substr(equals + 1, to - equals - 1) : std::string());
    from = to + 1;
  }
  return params;
}

Http_Reply reply_of(const Reply& reply) {
  return {reply.status, reply.body, "", {}};
}

void replace(std::string& text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  if (at != text.npos) text.replace(at, from.size(), to);
}

// Removes `"key":value`, with the comma before or after it.
void erase_key(std::string& body, const std::string& key) {
  const std::size_t from = body.find("\"" + key + "\":");
  if (from == body.npos) return;
  std::size_t to = body.find_first_of(",}", from);
  std::size_t begin = from;
  if (body[to] == ',') {
    ++to;
  } else if (begin > 0 && body[begin - 1] == ',') {
    --begin;
  }
  body.erase(begin, to - begin);
}

Promise remembered(const Core_Settings& settings, const std::optional<Grant>& kept, bool has_file,
                   Time now) {
  const Grant last = kept.value_or(Promise::silence(settings.vote_lease, now));
  std::optional<Grant> saved;
  if (has_file) saved = last;
  return {{settings.vote_lease, settings.check_delay}, last, saved};
}

}  // namespace

Host::Host(const Host_Settings& of, Core_Settings with, const lists::List& list, bool file,
           Database_State first)
    : settings(&of),
      self(with.node_name[1] - '1'),
      core(with, remembered(with, Grant{}, file, start), {}),
      now(start),
      database(first),
      has_file(file),
      kept(file ? std::optional(Grant{}) : std::nullopt) {
  lists::Held held;
  held.scope.site = "s";
  held.current = list;
  if (list.number) lists.held.push_back(held);
  core = Core(with, remembered(with, Grant{}, file, start), lists);
  first_look();
  core.stored_addresses = lists.addresses = core.addresses;
  core.store_due.reset();
}

// A standby also takes its first turn here, in which it reaches no other node. Without that turn it
// would not vote.
void Host::first_look() {
  read_database(database);
  if (!database.up || !database.in_recovery) return;
  begin_turn("", Store::works);
  ask_others();
  for (const Question_Kind kind : {Question_Kind::state, Question_Kind::lists}) {
    for (int peer = 0; peer < settings->nodes; ++peer) {
      if (under_way(kind, peer)) take(kind, peer, true, {});
    }
  }
  decide(Store::works);
  asked.clear();
}

// ---- its database -------------------------------------------------------------------------------

void Host::read_database(const Database_State& says) {
  Facts facts;
  facts.asked_at = now;
  facts.reachable = says.up;
  if (says.up) {
    facts.in_recovery = says.in_recovery;
    facts.nodes_known = true;
    facts.nodes_read_at = now;
    for (int k = 0; k < settings->nodes; ++k) {
      if (!(says.rows >> k & 1)) continue;
      Node node;
      node.id = k + 1;
      node.name = name(k);
      node.site = says.rows >> (4 + k) & 1 ? "t" : "s";
      node.active = true;
      node.type = k + 1 == says.names ? "primary" : "standby";
      facts.nodes.push_back(std::move(node));
    }
    if (settings->reads) {
      Replication& r = facts.replication;
      r.known = true;
      r.asked_at = now;
      r.position = says.position;
      r.timeline = says.timeline;
      if (says.in_recovery) r.received = says.position;
    }
  }
  run(Facts_Read{std::move(facts)});
}

void Host::look(const Database_State& says) {
  if (settings->left_out == Left_Out::lists_at_once && says.rows != database.rows) {
    for (lists::Held& held : lists.held) {
      lists::Members members;
      for (int k = 0; k < settings->nodes; ++k) {
        if (says.rows >> k & 1) members.push_back(k + 1);
      }
      held.current = {{{lists::noted(held).number + 1, self + 1}, 0}, false, members};
      held.pending = {};
    }
    database = says;
    restart();
    return;
  }
  const bool moves = (says.rows ^ database.rows) >> (4 + self) & 1;
  database = says;
  read_database(database);
  if (settings->left_out == Left_Out::former_voters && moves) {
    std::erase_if(core.parts, [&](const auto& part) { return part.held.scope != core.scope; });
    run(Facts_Read{core.facts});
  }
}

// ---- steps --------------------------------------------------------------------------------------

Time Host::missed_now() const {
  if (settings->left_out == Left_Out::clock_stop) return Time::zero();
  return core.decision.state == State::primary ? missed : Time::zero();
}

bool Host::is_primary() const {
  if (settings->left_out == Left_Out::expiry) return core.decision.state == State::primary;
  return core.state_at(now, missed_now()) == State::primary;
}

Time Host::primary_for() const {
  if (settings->left_out == Left_Out::expiry) return 1h;
  const Time missed_time = settings->left_out == Left_Out::clock_stop ? Time() : missed;
  return core.decision.until - now - missed_time;
}

void Host::send(const Effects& effects) {
  for (const Question& question : effects.ask) {
    // How long ago the last 200 was is only for users, so it is left out.
    asked.push_back({question.kind, question.peer.id - 1,
                     question.target.substr(0, question.target.find("&ago="))});
  }
}

Effects Host::run(const Event& event) {
  Effects effects = step(core, event, now);
  was_primary = was_primary || is_primary();
  send(effects);
  return effects;
}

Effects Host::in_turn(const Event& event, Store store) {
  Effects effects = run(event);
  if (effects.store) {
    if (has_file && store != Store::fails) kept = effects.store;
    const bool taken = store == Store::works || settings->left_out == Left_Out::promise_stored;
    const Grant grant = *effects.store;
    effects = run(Grant_Stored{taken ? std::optional(grant) : std::nullopt});
  } else if (effects.store_lists) {
    if (store != Store::fails) lists = *effects.store_lists;
    const bool taken = store == Store::works || settings->left_out == Left_Out::lists_stored;
    effects = run(Lists_Stored{taken});
  }
  return effects;
}

void Host::begin_turn(const std::string& fresh, Store store) {
  if (missed != Time::zero()) {
    const Time before = std::exchange(missed, Time::zero());
    if (settings->left_out != Left_Out::clock_stop) run(Clock_Missed{before});
  }
  read_database(database);
  if (settings->left_out == Left_Out::own_promise && core.candidate() &&
      core.promise.is_bound_to_another(core.settings.node_name, now)) {
    core.promise = remembered(core.settings, Grant{}, has_file, now);
  }
  if (in_turn(Tick{Part::begin, fresh, {}}, store).busy) run(Own_Vote_Late{});
  if (const Core::Turn turn = core.turn; !turn.candidate.empty()) {
    run(Votes_Wanted{turn.voters, turn.candidate, missed_now()});
  }
}

void Host::ask_others() {
  if (const Core::Turn turn = core.turn; !turn.candidate.empty()) {
    run(Answers_Late{turn.voters, turn.candidate});
  }
  run(Tick{Part::states, "", missed_now()});
}

void Host::decide(Store store) {
  run(Tick{Part::decision, "", missed_now()});
  in_turn(Tick{Part::lists, "", missed_now()}, store);
  if (settings->left_out == Left_Out::hand_back_delay) core.last_200.reset();
  const Votes votes = at(Polls_Votes{}, core.polls);
  const auto own_vote = core.own_vote;
  const auto parts = core.parts;
  const Effects effects = run(Tick{Part::hand_back, "", {}});
  if (effects.hand_back_own) in_turn(Own_Vote_Handed_Back{*effects.hand_back_own}, Store::works);
  if (settings->left_out == Left_Out::votes_dropped) {
    at(Polls_Votes{}, core.polls) = votes;
    core.own_vote = own_vote;
    core.parts = parts;
  }
}

// ---- as a voter ---------------------------------------------------------------------------------

Http_Reply Host::serve(const std::string& target, const std::string& fresh, Store store) {
  const Params params = parameters(target);
  if (target.starts_with("/state")) {
    if (!is_state_question(params, core.settings.node_name)) return {};
    if (!settings->reads) return reply_of(state_reply(core.state_at(now, missed_now())));
    State_Report report = core.state_report(now, missed_now());
    const Left_Out left_out = settings->left_out;
    if (left_out == Left_Out::unbound ||
        (left_out == Left_Out::nobody_primary && report.state != State::primary)) {
      report.unbound = 1h;
    }
    return reply_of(state_reply(report));
  }
  if (target.starts_with("/lists")) {
    const auto scope = read_lists_question(params, core.settings.node_name);
    const auto served = scope ? core.served_lists(*scope) : std::nullopt;
    return served ? reply_of(lists_reply(*served, core.addresses)) : Http_Reply{503, "{}", "", {}};
  }
  return serve_vote(target, fresh, store);
}

// The same steps as in get_reported_primary() and Repmgr_Node. A test compares the two.
Http_Reply Host::serve_vote(const std::string& target, const std::string& fresh, Store store) {
  const Left_Out left_out = settings->left_out;
  const Params params = parameters(target);
  Primary_Question question = read_primary_question(params);
  if (left_out == Left_Out::lists_compared && question.lists) {
    const lists::Participant* part = core.part(question.lists->scope);
    if (part && part->held.current.number != question.lists->numbers.current) {
      question.lists.reset();
    }
  }
  // With any_database, the database may name any node. So it names the candidate while the question
  // is answered.
  const bool obliging = settings->any_database && database.up && database.in_recovery;
  if (obliging && !question.handback) {
    Database_State says = database;
    says.names = question.candidate[1] - '0';
    says.rows = static_cast<std::uint8_t>((1 << settings->nodes) - 1);
    read_database(says);
  }
  Ballot ballot;
  if (question.handback) {
    const std::string token =
        left_out == Left_Out::token ? at(Promise_Grant{}, core.promise).token : *question.handback;
    // How long ago the candidate's last 200 was is only for users.
    in_turn(Handed_Back{question.candidate, token, {}}, store);
    if (const Node* named = core.primary_at(now, missed_now())) ballot.names = named->name;
  } else if (left_out == Left_Out::grants) {
    if (const Node* named = core.primary_at(now, missed_now())) ballot.names = named->name;
  } else {
    std::optional<std::string> shown;
    if (question.accepts_less) shown = question.token;
    if (left_out == Left_Out::token_shown && shown) shown = at(Promise_Grant{}, core.promise).token;
    const Time lease = question.accepts_less ? Time::zero() : question.lease.value_or(Time());
    ballot = in_turn(Vote_Asked{question.candidate, lease, shown, question.lists, fresh}, store)
                 .ballot.value_or(no_vote());
    ballot.before.clear();  // only for users
    if (left_out == Left_Out::kept_promise) at(Promise_Grant{}, core.promise).kept_until = {};
  }
  if (obliging && !question.handback) read_database(database);
  auto said = primary_reply(ballot, question.accepts_less, core.settings.vote_lease);
  Http_Reply reply =
      reply_of(said ? *said
                    : primary_reply_without_name(core.state_at(now, missed_now()) == State::down,
                                                 ballot.lists));
  if (left_out == Left_Out::lease_told) erase_key(reply.body, "lease");
  if (left_out == Left_Out::pending_reported) erase_key(reply.body, "held");
  if (left_out == Left_Out::acknowledged_heard && params.contains("pending")) {
    erase_key(reply.body, "acknowledged");
    replace(reply.body, "\"lists\":{",
            "\"lists\":{\"acknowledged\":\"" + param(params, "pending") + "\",");
  }
  return reply;
}

// ---- as a candidate -----------------------------------------------------------------------------

std::uint64_t Host::under_way(Question_Kind kind, int peer) const {
  const auto& peers = at(Polls_Peers{}, core.polls);
  const auto found = peers.find(name(peer));
  return found == peers.end() ? 0 : found->second.poll(kind).under_way;
}

void Host::take(Question_Kind kind, int peer, bool current, const Http_Reply& reply) {
  const std::string from = name(peer);
  const std::uint64_t number = under_way(kind, peer);
  const bool old = settings->left_out == Left_Out::old_reply && kind == Question_Kind::vote;
  if (old && reply.status == 200 && reply.body.find("token") != reply.body.npos) {
    erase_key(reports[peer] = reply.body, "token");
  }
  if (old && reply.status == 0 && !reports[peer].empty()) {
    return take(kind, peer, current, {200, reports[peer], "", {}});
  }
  const Replied to{from, current ? number : UINT64_MAX, reply.status != 0, false};
  switch (kind) {
    case Question_Kind::vote: {
      Vote_Answer answer;
      answer.sent_at = core.polls.vote_awaited_since(from).value_or(now);
      if (settings->left_out == Left_Out::counted_from_arrival) answer.sent_at = now;
      answer.named = http_node_reports_primary(reply, answer.why, &answer.terms);
      answer.lists = read_lists_reply(reply);
      run(Vote_Replied{to, std::move(answer), missed_now()});
      return;
    }
    case Question_Kind::state:
      run(State_Replied{to, read_state_reply(reply)});
      return;
    case Question_Kind::lists: {
      Lists_Replied told{to, {}, {}};
      told.served = read_served_lists(reply, told.addresses);
      run(std::move(told));
      return;
    }
    case Question_Kind::hand_back:
      run(Hand_Back_Replied{to});
      return;
    case Question_Kind::standby:
      run(Standby_Replied{to, read_standby_reply(reply)});
      return;
  }
}

std::vector<Sent> Host::take_questions() {
  return std::exchange(asked, {});
}

// ---- what happens to it -------------------------------------------------------------------------

void Host::restart() {
  const Left_Out left_out = settings->left_out;
  std::optional<Grant> known = has_file ? kept : std::nullopt;
  if (left_out == Left_Out::silence && !known) known = Grant{};
  if (left_out == Left_Out::promise_kept) known = Grant{};
  if (left_out == Left_Out::lists_kept) {
    for (lists::Held& held : lists.held) held.pending = {};
  }
  core = Core(core.settings, remembered(core.settings, known, has_file, now), lists);
  if (has_file && !known) kept = Promise::silence(core.settings.vote_lease, now);
  missed = {};
  asked.clear();
  first_look();
}

void Host::pass(Time counted) {
  now += counted;
}

void Host::stand_still(Time time) {
  missed += time;
}

void Host::declare_lost(int other) {
  run(Lost_Declared{{{name(other)}, "now"}});
}

bool Host::is_apart(const Host& other) const {
  if (core.scope == other.core.scope) return false;
  const auto is_in = [](const Host& of, int id) {
    const lists::Participant* part = of.core.part();
    return !part || std::binary_search(part->held.current.members.begin(),
                                       part->held.current.members.end(), id);
  };
  return !is_in(*this, other.self + 1) && !is_in(other, self + 1);
}

bool Host::serves_reads(Time delay) const {
  if (!core.may_serve_reads(now, missed_now())) return false;
  return lag_problem(core.lag_at(now), std::nullopt, delay, core.max_peer_age()).empty();
}

}  // namespace primgr::prove
