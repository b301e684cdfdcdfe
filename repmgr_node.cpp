#include "repmgr_node.hpp"

#include <poll.h>
#include <sys/random.h>

#include <algorithm>
#include <new>
#include <utility>

#include "base/text.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// The shortest time from one query of the database to the next.
constexpr Time min_look_interval = 100ms;
// How long a vote may wait for its turn and for the store together.
constexpr auto vote_timeout = 100ms;

// The promise from before this process started, as far as it is known.
Promise load_promise(const Grant_Store& store, const Node_Settings& settings, Time now) {
  auto known = store.load ? store.load() : std::nullopt;
  Grant last = known.value_or(Promise::silence(settings.vote_lease, now));
  std::optional<Grant> saved;
  if (store.save) {
    saved = known ? last : store.save(last, std::chrono::steady_clock::now() + vote_timeout);
  }
  return {{settings.vote_lease, settings.check_delay}, std::move(last), std::move(saved)};
}

}  // namespace

std::string random_token() {
  unsigned char bytes[16];
  if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != sizeof bytes) return {};
  return hexadecimal({reinterpret_cast<const char*>(bytes), sizeof bytes});
}

Repmgr_Node::Repmgr_Node(Node_Settings settings, Node_Environment environment)
    : settings_([&] {
        settings.keeps_lists = environment.store_voters != nullptr;
        return std::move(settings);
      }()),
      clock_(environment.clock),
      log_(std::move(environment.log)),
      refreshed_at_(clock_()),
      database_(settings_.conninfo, settings_.db_timeout, settings_.max_connections_in_pool,
                std::move(environment.resolve)),
      save_grant_(environment.grants.save),
      store_voters_(std::move(environment.store_voters)),
      on_change_(std::move(environment.on_change)),
      wall_clock_(std::move(environment.wall_clock)),
      core_(settings_, load_promise(environment.grants, settings_, clock_()),
            std::move(environment.voters)),
      journal_(std::move(environment.history)),
      stop_detector_(std::move(environment.other_clocks), clock_()),
      peers_(std::move(environment.http_get), std::move(environment.http_drop),
             settings_.peer_timeout) {}

// ---- the refresher ------------------------------------------------------------------------------

void Repmgr_Node::stop() {
  stopping_ = true;
  wake_up_.wake();
}

void Repmgr_Node::look_now() {
  look_wanted_ = true;
  wake_up_.wake();
}

void Repmgr_Node::run(const std::function<bool()>& done) {
  Time look_began_at = clock_() - settings_.refresh_interval;
  for (;;) {
    const Time now = clock_();
    Time look_due = Time::max();
    if (!database_.looking()) {
      if (database_.look_needed()) look_wanted_ = true;
      look_due = this->look_due(look_began_at);
      if (now >= look_due) {
        look_began_at = now;
        database_.begin(now, begin_look());
      }
    }
    if (auto facts = database_.advance(now)) {
      learn(std::move(*facts));
      look_due = now;  // refresh() may change look_interval(), so loop again at once
    }
    const Time due = std::min({refresh(), database_.deadline(), look_due});
    if (stopping_ || (done && done())) break;
    wait(due);
  }
  database_.close();
}

Time Repmgr_Node::look_due(Time began_at) const {
  const Mutex_Lock lock(mutex_);
  const Time interval = core_.look_interval(clock_());
  return began_at + (look_wanted_ ? std::min(interval, min_look_interval) : interval);
}

// Waits until `due`, or until the database or a peer has sent something.
void Repmgr_Node::wait(Time due) {
  const Time time = std::clamp(due - clock_(), Time::zero(), Time(1h));
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
  const timespec timeout{seconds.count(), (time - seconds).count()};
  std::vector<pollfd> watched = {{wake_up_.fd(), POLLIN, 0}};
  database_.add_pollfds(watched);
  if (ppoll(watched.data(), watched.size(), &timeout, nullptr) <= 0) return;
  if (watched[0].revents) wake_up_.clear();
}

void Repmgr_Node::learn(Facts facts) {
  const Event event = Facts_Read{std::move(facts)};
  {
    const Mutex_Lock lock(mutex_);
    const Time now = clock_();
    step(core_, event, now);
    journal_.looked(core_, now);
  }
  write_log(&Journal::lines);
}

// Writes each waiting line. A line for which there is no memory stays, and is written later.
void Repmgr_Node::write_log(std::list<Journal::Line> Journal::*lines) {
  std::list<Journal::Line> line;
  for (;; line.clear()) {
    {
      const Mutex_Lock lock(mutex_);
      auto& waiting = journal_.*lines;
      if (waiting.empty()) return;
      line.splice(line.begin(), waiting, waiting.begin());
    }
    try {
      log_(line.front().first, line.front().second);
    } catch (const std::bad_alloc&) {
      const Mutex_Lock lock(mutex_);
      (journal_.*lines).splice((journal_.*lines).begin(), line);
      throw;
    }
  }
}

// The order of events is described in node/core/core.hpp.
Time Repmgr_Node::refresh() {
  refreshed_at_ = clock_();
  notice_stop(refreshed_at_);
  vote_for_itself();
  std::vector<Node> voters;
  std::string candidate;
  std::size_t all = 0;
  {
    const Mutex_Lock lock(mutex_);
    voters = core_.turn.voters;
    candidate = core_.turn.candidate;
    all = core_.turn.in_consensus;
  }
  if (!candidate.empty()) poll_other_nodes(voters, candidate, all);
  tick(Part::states);
  decide();
  decide_lists();
  hand_votes_back();
  const Mutex_Lock lock(mutex_);
  return core_.turn_due(clock_());
}

void Repmgr_Node::notice_stop(Time now) {
  {
    const Mutex_Lock lock(mutex_);
    const Time missed = stop_detector_.missed(now);
    stop_detector_.restart(now);
    if (missed == Time::zero()) return;
    step(core_, Clock_Missed{missed}, now);
    journal_.clock_missed(missed);
  }
  write_log(&Journal::lines);
}

void Repmgr_Node::tick(Part part) {
  Effects effects;
  {
    const Mutex_Lock lock(mutex_);
    const Time now = clock_();
    effects = step(core_, Tick{part, "", missed_at(now)}, now);
  }
  carry_out(effects);
}

void Repmgr_Node::decide() {
  History changed;  // empty: the state has not changed
  {
    const Mutex_Lock lock(mutex_);
    const Time now = clock_(), missed = stop_detector_.missed(now);
    journal_.before_decision(core_, now);
    Effects effects = step(core_, Tick{Part::decision, "", missed}, now);
    journal_.decided(core_, effects, now, missed, wall_clock_());
    if (on_change_ && journal_.untold()) changed = journal_.history();
  }
  write_log(&Journal::lines);
  if (!changed.empty()) {
    on_change_(changed);
    const Mutex_Lock lock(mutex_);
    journal_.set_told();
  }
  write_log(&Journal::state_lines);
}

void Repmgr_Node::decide_lists() {
  Tick tick{Part::lists, "", {}};
  {
    const Mutex_Lock lock(mutex_);
    tick.missed = missed_at(clock_());
  }
  Effects effects = in_turn(tick);
  if (effects.busy) wake_up_.wake();
  {
    const Mutex_Lock lock(mutex_);
    const Time now = clock_();
    // missed_at() begins the next turn at once if this clock missed some time meanwhile.
    journal_.settled_lists(core_, effects, now, missed_at(now));
  }
  write_log(&Journal::lines);
}

Effects Repmgr_Node::tell(const Event& event) {
  const Mutex_Lock lock(mutex_);
  return step(core_, event, clock_());
}

void Repmgr_Node::carry_out(const Effects& effects) {
  if (effects.turn) wake_up_.wake();
  send(effects.ask);
  for (const Dropped_Question& question : effects.drop) peers_.drop(question);
}

// ---- peers --------------------------------------------------------------------------------------

void Repmgr_Node::send(const std::vector<Question>& questions) {
  for (const Question& question : questions) {
    try {
      const Time now = clock_();
      {
        const Mutex_Lock lock(mutex_);
        journal_.asked(question);
      }
      peers_.send(question, [this, question, now](const Http_Reply& reply) {
        take_reply(question, now, reply);
      });
    } catch (const std::bad_alloc&) {
      tell(Not_Sent{question.number});
      throw;
    }
  }
}

void Repmgr_Node::take_reply(const Question& question, Time asked_at,
                             const Http_Reply& reply) noexcept {
  const Replied to{question.peer.name, question.number, reply.status != 0, reply.alive};
  Event event = Reply_Lost{question.kind, to};
  try {
    event = read_reply(question.kind, to, reply);
  } catch (const std::bad_alloc&) {
    // The question counts as answered, but the content of the reply is lost. The next reply may be
    // stored.
  }
  {
    const Mutex_Lock lock(mutex_);
    const Time now = clock_();
    if (auto* vote = std::get_if<Vote_Replied>(&event)) vote->missed = missed_at(now);
    try {
      if (step(core_, event, now).accepted) journal_.replied(question.kind, to, now - asked_at);
    } catch (const std::bad_alloc&) {
      // The same holds here.
    }
  }
  wake_up_.wake();
}

bool Repmgr_Node::poll_other_nodes(const std::vector<Node>& nodes_to_poll,
                                   const std::string& candidate_node,
                                   std::size_t num_in_consensus) {
  Effects effects;
  {
    const Mutex_Lock lock(mutex_);
    const Time now = clock_();
    effects = step(core_, Votes_Wanted{nodes_to_poll, candidate_node, missed_at(now)}, now);
  }
  carry_out(effects);
  bool elected = false;
  {
    const Mutex_Lock lock(mutex_);
    const Time now = clock_();
    effects = step(core_, Answers_Late{nodes_to_poll, candidate_node}, now);
    elected = core_.is_elected(nodes_to_poll, candidate_node, num_in_consensus, now);
  }
  carry_out(effects);
  return elected;
}

// ---- promises -----------------------------------------------------------------------------------

Effects Repmgr_Node::in_turn(const Event& event) {
  const Deadline until = std::chrono::steady_clock::now() + vote_timeout;
  const Mutex_Lock lock(mutex_);
  Effects effects = step(core_, event, clock_());
  if (effects.look) look_now();
  while (effects.busy) {
    while (core_.awaits_store()) {
      if (!turn_over_.wait_until(mutex_, until) && core_.awaits_store()) return effects;
    }
    effects = step(core_, event, clock_());
  }
  if (effects.turn) wake_up_.wake();
  if (!effects.store && !effects.store_lists) return effects;
  try {
    effects = step(core_, stored(effects, until), clock_());
  } catch (...) {
    if (core_.promise.awaits_store()) step(core_, Grant_Stored{}, clock_());
    if (core_.storing) step(core_, Lists_Stored{}, clock_());
    turn_over_.notify_all();
    throw;
  }
  if (effects.turn) wake_up_.wake();
  turn_over_.notify_all();
  return effects;
}

Event Repmgr_Node::stored(const Effects& effects, Deadline until) {
  const Mutex_Unlock unlock(mutex_);
  if (effects.store) return Grant_Stored{save_grant_(*effects.store, until)};
  return Lists_Stored{!store_voters_ || store_voters_(*effects.store_lists, until)};
}

Ballot Repmgr_Node::grant_vote(std::string_view candidate, Time lease,
                               const std::optional<std::string>& shown,
                               const std::optional<Lists_Question>& lists) {
  const std::string fresh = shown ? random_token() : std::string();
  return in_turn(Vote_Asked{std::string(candidate), lease, shown, lists, fresh})
      .ballot.value_or(no_vote());
}

bool Repmgr_Node::end_promise(std::string_view candidate, std::string_view token,
                              std::optional<Time> ago) {
  return in_turn(Handed_Back{std::string(candidate), std::string(token), ago}).accepted;
}

std::optional<std::pair<lists::Served, Addresses>> Repmgr_Node::get_lists(
    const lists::Scope& scope) const {
  const Mutex_Lock lock(mutex_);
  auto served = core_.served_lists(scope);
  if (!served) return std::nullopt;
  return std::pair(std::move(*served), core_.addresses);
}

void Repmgr_Node::vote_for_itself() {
  if (in_turn(Tick{Part::begin, random_token(), Time::zero()}).busy) tell(Own_Vote_Late{});
}

void Repmgr_Node::hand_votes_back() {
  const Effects effects = tell(Tick{Part::hand_back, "", Time::zero()});
  if (effects.hand_back_own) in_turn(Own_Vote_Handed_Back{*effects.hand_back_own});
  carry_out(effects);
}

void Repmgr_Node::forget_timeline() {
  carry_out(tell(Timeline_Forgotten{}));
}

void Repmgr_Node::declare_lost(Lost_Declaration declaration) {
  carry_out(tell(Lost_Declared{std::move(declaration)}));
}

// ---- what the handlers read ---------------------------------------------------------------------

Time Repmgr_Node::missed_at(Time now) const {
  if (core_.decision.state != State::primary) return Time::zero();
  const Time missed = stop_detector_.missed(now);
  if (core_.stopped_at(now, missed)) wake_up_.wake();
  return missed;
}

Time Repmgr_Node::max_peer_age() const {
  const Mutex_Lock lock(mutex_);
  return core_.max_peer_age();
}

State Repmgr_Node::get_state() const {
  const Mutex_Lock lock(mutex_);
  const Time now = clock_();
  return core_.state_at(now, missed_at(now));
}

State_Report Repmgr_Node::get_state_report() const {
  const Mutex_Lock lock(mutex_);
  const Time now = clock_();
  return core_.state_report(now, missed_at(now));
}

std::optional<Lag> Repmgr_Node::get_lag() const {
  const Mutex_Lock lock(mutex_);
  const Time now = clock_(), missed = missed_at(now);
  return core_.may_serve_reads(now, missed) ? std::optional(core_.lag_at(now)) : std::nullopt;
}

Synchrony Repmgr_Node::get_synchrony() {
  const Mutex_Lock lock(mutex_);
  const Time now = clock_();
  if (step(core_, Synchrony_Wanted{}, now).turn) wake_up_.wake();
  return core_.synchrony_at(now, missed_at(now));
}

Sync_Report Repmgr_Node::get_standby(std::string_view name) const {
  const Mutex_Lock lock(mutex_);
  const Time now = clock_();
  if (core_.state_at(now, missed_at(now)) != State::primary) return {"", {}, "it is not Primary"};
  return find_standby(core_.facts.replication, name, now);
}

Report Repmgr_Node::get_report() const {
  const Mutex_Lock lock(mutex_);
  const Time now = clock_();
  Report report = journal_.report(core_, now, missed_at(now));
  report.drain = drain_;
  report.connections = database_.connections();
  return report;
}

void Repmgr_Node::set_drain(std::optional<Drain> drain) {
  std::string line;
  {
    const Mutex_Lock lock(mutex_);
    if (drain == drain_) return;
    line = drain ? describe_drain(*drain) + ": it takes no new reads"
                 : "drained no more: it takes reads again";
    drain_ = std::move(drain);
  }
  log_(Log_Level::warning, line);
}

std::optional<Drain> Repmgr_Node::get_drain() const {
  const Mutex_Lock lock(mutex_);
  const Time now = clock_();
  return core_.state_at(now, missed_at(now)) == State::primary ? std::nullopt : drain_;
}

History Repmgr_Node::get_history() const {
  const Mutex_Lock lock(mutex_);
  return journal_.history();
}

std::optional<std::string> Repmgr_Node::get_primary() const {
  const Mutex_Lock lock(mutex_);
  const Time now = clock_();
  const Node* named = core_.primary_at(now, missed_at(now));
  return named ? std::optional(named->name) : std::nullopt;
}

bool Repmgr_Node::get_is_in_recovery_mode() const {
  const Mutex_Lock lock(mutex_);
  return core_.facts.reachable && core_.facts.in_recovery;
}

std::string Repmgr_Node::name() const {
  const Mutex_Lock lock(mutex_);
  return core_.settings.node_name;
}

std::optional<std::string> Repmgr_Node::get_node_site() const {
  const Mutex_Lock lock(mutex_);
  const Node* self = find_node(core_.nodes, core_.settings.node_name);
  return self ? std::optional(self->site) : std::nullopt;
}

std::vector<Node> Repmgr_Node::get_all_other_nodes_in_site() const {
  const Mutex_Lock lock(mutex_);
  const Node* self = find_node(core_.nodes, core_.settings.node_name);
  if (!self) return {};
  std::vector<Node> others = electorate(core_.nodes, *self, false);
  std::erase_if(others, [&](const Node& node) { return node.id == self->id; });
  return others;
}

std::vector<Node> Repmgr_Node::get_all_nodes() const {
  const Mutex_Lock lock(mutex_);
  return core_.nodes;
}

Real_Primary Repmgr_Node::get_real_primary() const {
  const Mutex_Lock lock(mutex_);
  const Time now = clock_();
  return {!core_.nodes.empty(), core_.claimants(now, missed_at(now))};
}

bool Repmgr_Node::settled(bool cluster) const {
  const Mutex_Lock lock(mutex_);
  if (cluster && !core_.all_answered(Question_Kind::state)) return false;
  const Time now = clock_(), patience = core_.straggler_timeout();
  // The wait for a primary that is gone is shorter than for other nodes.
  const Node* primary = settings_.candidate ? core_.followed() : nullptr;
  if (primary && !core_.polls.answered(Question_Kind::state, primary->name) &&
      now < journal_.state_since().value_or(Time::max() - patience) + patience) {
    return false;
  }
  // The last decision does not include an answer that arrived after it.
  return core_.state_at(now, missed_at(now)) == State::primary || core_.complete;
}

}  // namespace primgr
