#include "repmgr_node.hpp"

#include <poll.h>

#include <algorithm>

#include "node/voting.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// From one look, or question for a vote, to the next, while the node is undecided.
constexpr Time undecided_interval = 200ms;
// From one look to the next, at least, whoever asks for one.
constexpr Time min_look_interval = 100ms;
// For so long after a promise to another has ended, a new primary is looked for each
// min_look_interval; and so is a database that has just gone.
constexpr Time vacancy = 2min;
// For so long after a vote was handed back, the other voters are asked each handed_back_interval:
// they may learn of it a moment later.
constexpr Time hand_back_time = 1s, handed_back_interval = 50ms;
// For so long after somebody wanted to know whether this standby is synchronous, the primary is
// asked: a load balancer may check less often than a refresh_interval.
constexpr Time sync_interest = 20s;

}  // namespace

Repmgr_Node::Repmgr_Node(Node_Settings settings, Node_Environment environment)
    : settings_(std::move(settings)),
      lease_{settings_.vote_lease, settings_.check_delay},
      clock_(environment.clock),
      log_(std::move(environment.log)),
      refreshed_at_(clock_()),
      database_(settings_.conninfo, settings_.db_timeout, settings_.max_connections_in_pool,
                std::move(environment.resolve)),
      promise_(std::move(environment.grants), settings_.vote_lease, clock_),
      peers_(std::move(environment.http_get), std::move(environment.http_drop), clock_,
             settings_.peer_timeout, [this] { wake_up_.wake(); }),
      store_voters_(std::move(environment.store_voters)),
      on_change_(std::move(environment.on_change)),
      wall_clock_(std::move(environment.wall_clock)),
      lists_(environment.voters),
      stored_lists_(std::move(environment.voters)),
      history_(settings_.check_delay),
      stop_detector_(std::move(environment.other_clocks), clock_()),
      changes_(std::move(environment.history)) {}

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
      {
        const std::lock_guard lock(mutex_);
        look_due = look_began_at + poll_interval();
      }
      if (look_wanted_) look_due = std::min(look_due, look_began_at + min_look_interval);
      if (now >= look_due) {
        look_began_at = now;
        database_.begin(now, look_wanted_.exchange(false));
      }
    }
    if (auto facts = database_.advance(now)) {
      learn(std::move(*facts));
      look_due = now;  // refresh() may change poll_interval(), so loop again at once
    }
    const Time due = std::min({refresh(), database_.deadline(), look_due});
    if (stopping_ || (done && done())) break;
    wait(due);
  }
  database_.close();
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
  Log_Lines lines;
  {
    const std::lock_guard lock(mutex_);
    // Facts come twice for one look if its survey ended later than its pulse.
    if (!looked_ || facts.asked_at != facts_.asked_at) {
      ++looks_;
      look_time_ += clock_() - facts.asked_at;
      if (!facts.reachable) ++failed_looks_;
    }
    looked_ = true;
    facts_ = std::move(facts);
    if (facts_.reachable) answered_at_ = facts_.asked_at;
    const Replication& r = facts_.replication;
    if (r.sender_lsn && r.position) {
      replay_.add(r.asked_at, r.end(), *r.position);
    } else if (!r.known || !facts_.in_recovery) {
      replay_.forget();
    }
    if (r.known && std::exchange(server_started_, r.server_started) != r.server_started) {
      staleness_.forget();
    }
    if (r.known && r.position && facts_.in_recovery) {
      staleness_.holds(*r.position, r.received, r.timeline);
    }
    if (facts_.nodes_known) {
      nodes_ = facts_.nodes;
      take_list();
      use_lists();
    }
    named_since_ = names_itself() ? std::optional(named_since_.value_or(clock_())) : std::nullopt;
    lines = database_messages();
  }
  write_log(lines);
}

void Repmgr_Node::write_log(const Log_Lines& lines) const {
  for (const auto& [level, line] : lines) log_(level, line);
}

std::optional<Time> Repmgr_Node::nodes_age(Time now) const {
  if (!facts_.nodes_known) return std::nullopt;
  return std::max(now - facts_.nodes_read_at, Time::zero());
}

// Whether the list in use is so old that this is reported. A busy server may be slow once without a
// report, and a server that is always slow is reported once, not with each of its answers.
bool Repmgr_Node::nodes_stale() const {
  if (!facts_.nodes_known) return false;
  const Time age = facts_.asked_at - facts_.nodes_read_at;
  const Time max_age = 2 * settings_.refresh_interval + 1s;
  if (!facts_.blocked.empty() || stale_since_) return age > max_age;
  return age > max_age + 10s;  // no answer yet
}

std::string Repmgr_Node::nodes_problem() const {
  if (!nodes_stale()) return {};
  return facts_.blocked.empty() ? "no answer yet" : facts_.blocked;
}

// The lines to log about the database besides the state, each once.
Repmgr_Node::Log_Lines Repmgr_Node::database_messages() {
  Log_Lines lines;
  if (facts_.superuser && !std::exchange(superuser_logged_, true)) {
    lines.emplace_back(Log_Level::warning,
                       "conninfo logs in as a superuser: primgr needs no such rights "
                       "(deploy/primgr.sql makes a role for it)");
  }
  const bool stale = nodes_stale();
  if (stale && !stale_since_) {
    lines.emplace_back(Log_Level::warning,
                       describe_old_list(nodes_problem(), facts_.asked_at - facts_.nodes_read_at));
    stale_since_ = facts_.nodes_read_at;
  } else if (!stale && stale_since_ && facts_.reachable) {
    if (facts_.nodes_known) {
      lines.emplace_back(Log_Level::info,
                         "repmgr.nodes is read again, after " +
                             describe_duration(facts_.nodes_read_at - *stale_since_));
    }
    stale_since_.reset();
  }
  return lines;
}

Time Repmgr_Node::refresh() {
  refreshed_at_ = clock_();
  age_votes(refreshed_at_);
  std::vector<Node> others, voters;
  std::optional<Node> self, sync_source;
  {
    const std::lock_guard lock(mutex_);
    for (const Node& node : nodes_) {
      if (!names_equal(node.name, settings_.node_name)) others.push_back(node);
    }
    others.insert(others.end(), unlisted_.begin(), unlisted_.end());
    if (const Node* node = candidate()) {
      self = *node;
      voters = voters_;
    }
    if (const Node* node = this->sync_source()) sync_source = *node;
  }
  if (!self) {
    peers_.forget_answers();
  } else {
    const std::size_t all = voters.size();
    vote_for_itself(*self, all == 1);
    std::erase_if(voters, [&](const Node& node) { return node.id == self->id; });
    poll_other_nodes(voters, self->name, all);
  }
  for (const Node& peer : others) {
    peers_.ask(Peers::Kind::state, peer, state_question(peer.name), settings_.refresh_interval);
  }
  if (sync_source) {
    peers_.ask(Peers::Kind::standby, *sync_source, standby_question(settings_.node_name),
               settings_.refresh_interval);
  }
  {
    const std::lock_guard lock(mutex_);
    watch_staleness(clock_());
  }
  write_cache();
  store_voters();
  hand_votes_back(others);
  const std::lock_guard lock(mutex_);
  return refresh_due(others, voters);
}

Time Repmgr_Node::refresh_due(const std::vector<Node>& others,
                              const std::vector<Node>& voters) const {
  const Time now = clock_();
  // Once an interval at least, so that a stalled look is noticed and reported.
  Time due = std::min(now + settings_.refresh_interval, cache_.decision.until);
  for (const Node& node : others) {
    due = std::min(due, peers_.due(Peers::Kind::state, node.name, settings_.refresh_interval));
  }
  if (const Node* node = sync_source()) {
    due = std::min(due, peers_.due(Peers::Kind::standby, node->name, settings_.refresh_interval));
  }
  if (const auto over_at = votes_over_at()) due = std::min(due, *over_at);
  if (bound_until_ && *bound_until_ > now) due = std::min(due, *bound_until_);
  for (const auto& [peer, token] : peers_.to_hand_back()) {
    due = std::min(due, peers_.due(Peers::Kind::hand_back, peer, undecided_interval));
  }
  for (const Node& node : voters) {
    due = std::min(due, peers_.due(Peers::Kind::vote, node.name, vote_interval()));
    const auto since = peers_.vote_awaited_since(node.name);
    if (since && *since + straggler_timeout() > now) {
      due = std::min(due, *since + straggler_timeout());
    }
  }
  return due;
}

// If the clock did not count some time, makes votes older by that, and logs it. Promises to others
// stay as they are: it is safe if a voter keeps one for too long.
void Repmgr_Node::age_votes(Time now) {
  Time missed;
  {
    const std::lock_guard lock(mutex_);
    missed = stop_detector_.missed(now);
    stop_detector_.restart(now);
    if (missed == Time::zero()) return;
    if (own_vote_) own_vote_->sent_at -= missed;
    staleness_.age(missed);
    peers_.age_votes(missed);
    // Handlers use the last decision, which rests on those votes, until the next one.
    if (cache_.decision.until != Time::max()) cache_.decision.until -= missed;
  }
  log_(Log_Level::warning, "this machine was stopped for " + describe_duration(missed) +
                               ", or its clock was set forward by that: votes are that much older");
}

// ---- votes --------------------------------------------------------------------------------------

// This node's row of repmgr.nodes if it asks for votes; null if it does not.
const Node* Repmgr_Node::candidate() const {
  if (!facts_.reachable || facts_.in_recovery || !facts_.nodes_known) return nullptr;
  const Node* self = find_node(facts_.nodes, settings_.node_name);
  return self && self->type != "witness" ? self : nullptr;
}

// Whether it is a candidate whose own database names it as primary.
bool Repmgr_Node::names_itself() const {
  const Node* self = candidate();
  const Node* named = named_primary(facts_.nodes);
  return self && named && named->id == self->id;
}

// Of a standby: the other node that its database names as primary; null if there is none.
const Node* Repmgr_Node::followed() const {
  if (!facts_.reachable || !facts_.in_recovery) return nullptr;
  const Node* primary = named_primary(facts_.nodes);
  return primary && !names_equal(primary->name, settings_.node_name) ? primary : nullptr;
}

// The node to ask whether this one is a synchronous standby; null if nobody wants to know, or if
// there is none.
const Node* Repmgr_Node::sync_source() const {
  return clock_() - sync_wanted_at_.load() > sync_interest ? nullptr : followed();
}

// The time from one look, or question for a vote, to the next: short while the node is undecided or
// its votes are about to expire. A witness is always Unknown, and so never undecided.
Time Repmgr_Node::poll_interval() const {
  const bool short_of_votes = cache_.decision.until != Time::max() &&
                              cache_.decision.until < clock_() + vote_lifetime(lease_) / 2;
  const bool witness = facts_.reachable && facts_.nodes_known && !facts_.in_recovery &&
                       !candidate() && find_node(facts_.nodes, settings_.node_name);
  const bool undecided = cache_.decision.state == State::unknown && !witness;
  // The node that this one voted for is gone. As a rule another one is about to be promoted.
  const Time since_promise = bound_until_ ? clock_() - *bound_until_ : vacancy;
  const bool vacant = cache_.decision.state != State::down && since_promise >= Time::zero() &&
                      since_promise < vacancy;
  // As a rule it is being restarted. A server that refuses for another reason logs each attempt.
  const bool just_gone = cache_.decision.state == State::down && facts_.gone && answered_at_ &&
                         clock_() - *answered_at_ < vacancy;
  if (vacant || just_gone) return std::min(min_look_interval, settings_.refresh_interval);
  return undecided || short_of_votes ? std::min(undecided_interval, settings_.refresh_interval)
                                     : settings_.refresh_interval;
}

// From one question for a vote to the next.
Time Repmgr_Node::vote_interval() const {
  const bool just_freed = freed_at_ && clock_() - *freed_at_ < hand_back_time;
  const bool primary = cache_.decision.state == State::primary;
  return just_freed && !primary ? std::min(handed_back_interval, poll_interval()) : poll_interval();
}

// How long a voter may take to answer if the outcome is certain without it.
Time Repmgr_Node::straggler_timeout() const {
  return settings_.peer_timeout / 4;
}

// This node as its own voter, by the same rule as any voter. `alone`: it is the only one.
void Repmgr_Node::vote_for_itself(const Node& self, bool alone) {
  std::string named;
  {
    const std::lock_guard lock(mutex_);
    const Node* primary = named_primary(facts_.nodes);
    if (primary) named = primary->name;
  }
  const Time now = clock_();
  Ballot ballot;
  ballot.names = named;
  if (settings_.candidate) ballot = promise_.vote(named, self.name, own_token_, alone);
  const std::lock_guard lock(mutex_);
  if (ballot.bound_for > Time::zero()) bound_until_ = now + ballot.bound_for;
  const Time bound_until = bound_until_.value_or(own_vote_ ? own_vote_->bound_until : Time());
  if (ballot.granted) {
    own_token_ = ballot.token;
    bound_until_.reset();  // what it had promised to another is over
    history_.granted(self.name, now, now + settings_.vote_lease);
  }
  if (!ballot.stored) {
    // The vote before remains, and counts until it expires.
    if (!own_vote_) own_vote_.emplace();
    own_vote_->why = "its promise cannot be kept in state_file";
    return;
  }
  own_vote_ = {now, ballot.names, named.empty() ? "names none" : "keeps an earlier promise",
               settings_.vote_lease};
  own_vote_->bound_until = bound_until;
  own_vote_->answers = true;
  if (ballot.granted) own_vote_->before = history_.before(now);
}

Votes Repmgr_Node::all_votes() const {
  Votes votes = peers_.votes();
  const Node* self = find_node(facts_.nodes, settings_.node_name);
  if (self && own_vote_) votes[self->name] = *own_vote_;
  return votes;
}

bool Repmgr_Node::poll_other_nodes(const std::vector<Node>& nodes_to_poll,
                                   const std::string& candidate_node,
                                   std::size_t num_in_consensus) {
  Time interval;
  std::string confirmed;  // as vote_question() takes it
  {
    const std::lock_guard lock(mutex_);
    interval = vote_interval();
    if (state_at(clock_()) == State::primary) confirmed = digest(lists_.confirmed);
  }
  for (const Node& voter : nodes_to_poll) {
    const std::string target = vote_question(settings_.candidate ? candidate_node : "", voter.name,
                                             settings_.vote_lease - settings_.check_delay,
                                             peers_.token(voter.name), confirmed);
    peers_.ask(Peers::Kind::vote, voter, target, interval);
  }
  std::vector<Node> not_needed;
  bool elected = false;
  {
    const std::lock_guard lock(mutex_);
    const Node* self = find_node(facts_.nodes, candidate_node);
    if (!self) return false;
    const Time now = clock_();
    const std::size_t needed = votes_needed(num_in_consensus);
    not_needed = stragglers(nodes_to_poll, *self, now);
    std::vector<Node> voters = nodes_to_poll;
    voters.push_back(*self);
    elected =
        check_consensus(count_votes(voters, {*self, all_votes(), lease_, now}).size(), needed);
  }
  for (const Node& voter : not_needed) peers_.drop(Peers::Kind::vote, voter);
  return elected;
}

// When this node hands its votes back, if it is not Primary any more and does not become it again
// before; none if there is nothing to hand back, or if it may yet be Primary by these votes: its
// database is gone, is in recovery or names another, or a majority of the voters names another.
std::optional<Time> Repmgr_Node::votes_over_at() const {
  if (cache_.decision.state == State::primary || !settings_.candidate) return std::nullopt;
  if (names_itself()) {
    // It goes on voting for itself, and asking, so its own vote is nothing to hand back.
    if (!peers_.holds_tokens()) return std::nullopt;
    const Votes votes = all_votes();
    if (std::none_of(required_.begin(), required_.end(), [&](const Voter_List& list) {
          return names_another(list, {*candidate(), votes, lease_, clock_()});
        })) {
      return std::nullopt;
    }
  } else if (own_token_.empty() && !peers_.holds_tokens()) {
    return std::nullopt;
  }
  return last_200_ ? hand_back_due(*last_200_, settings_.check_delay) : clock_();
}

// First drops the votes, so that this node does not count what it hands back. Then tells the
// voters, again and again until each has answered or its promise has expired.
void Repmgr_Node::hand_votes_back(const std::vector<Node>& others) {
  std::string own_token;
  bool over = false;
  std::optional<Time> ago;
  {
    const std::lock_guard lock(mutex_);
    if (last_200_) ago = clock_() - *last_200_;
    const auto over_at = votes_over_at();
    over = over_at && clock_() >= *over_at;
    if (over) {
      peers_.give_up_votes();
      own_vote_.reset();
      own_token.swap(own_token_);
    }
  }
  if (over && promise_.end(settings_.node_name, own_token)) {
    const std::lock_guard lock(mutex_);
    history_.handed_back(settings_.node_name, last_200_);
  }
  const auto tokens = peers_.to_hand_back();
  for (const Node& peer : others) {
    const auto token = tokens.find(peer.name);
    if (token == tokens.end()) continue;
    peers_.ask(Peers::Kind::hand_back, peer,
               hand_back_request(settings_.node_name, peer.name, token->second, ago),
               undecided_interval);
  }
}

// The voters that have been silent for straggler_timeout(), if the outcome is certain without them,
// either way. Their questions are dropped, so that a dead voter does not keep a client thread for
// all of peer_timeout, and a live voter whose packet was lost is soon asked again.
std::vector<Node> Repmgr_Node::stragglers(const std::vector<Node>& voters, const Node& self,
                                          Time now) const {
  std::vector<Node> silent, late;
  for (const Node& voter : voters) {
    const auto since = peers_.vote_awaited_since(voter.name);
    if (!since) continue;
    silent.push_back(voter);
    if (*since + straggler_timeout() <= now) late.push_back(voter);
  }
  if (late.empty()) return late;
  Votes fresh = all_votes();
  for (const Node& voter : silent) fresh.erase(voter.name);
  const Tally tally{self, fresh, lease_, now};
  const bool certain = is_elected(required_, tally) || !is_elected(required_, tally, silent);
  return certain ? late : std::vector<Node>();
}

// ---- staleness ----------------------------------------------------------------------------------

// Gives staleness_ what the last answers of the peers and the promise of this node say.
void Repmgr_Node::watch_staleness(Time now) {
  if (!facts_.reachable || !facts_.in_recovery) return;
  const Node* primary = followed();
  const auto reported = primary ? peers_.reported(primary->name) : std::nullopt;
  if (reported && reported->first.state == State::primary) {
    const auto& [report, asked_at] = *reported;
    const Replication& r = facts_.replication;
    if (report.position && report.timeline) {
      staleness_.reported(asked_at, *report.position, *report.timeline);
    } else if (!report.detailed && r.status == "streaming") {
      staleness_.fresh(std::min(asked_at, r.asked_at));  // that is all an earlier version tells
    }
  }
  if (staleness_.rule(now, settings_.refresh_interval) == Staleness_Rule::fresh) return;
  // Of any site: what its voters say of the site of the primary is no news then.
  const std::vector<std::string> primaries = claimants(now);
  for (const std::string& name : primaries) {
    if (const auto answered = peers_.reported(name)) staleness_.primary_at(answered->second);
  }
  if (!primaries.empty()) return;
  if (const auto time = time_without_primary(now)) staleness_.no_primary(*time);
}

// The latest time in which no node of this site could be Primary, nor of that whose primary it
// follows: by each list of voters that counts. A voter whose database lists other voters may have
// voted under a list that this node does not know.
std::optional<Interval> Repmgr_Node::time_without_primary(Time now) const {
  std::vector<Voter_List> lists = required_;
  const Node* primary = followed();
  if (primary && !find_node(read_, primary->name)) {
    lists.push_back(electorate(facts_.nodes, *primary, settings_.consensus_cluster));
  }
  std::optional<Interval> shared;
  for (const Voter_List& list : lists) {
    std::vector<Interval> unbound;
    const bool of_this_site = &list - lists.data() < static_cast<std::ptrdiff_t>(required_.size());
    const std::string known = of_this_site ? own_digest_ : digest(list);
    for (const Node& voter : list) {
      if (!names_equal(voter.name, settings_.node_name)) {
        if (const auto time = peers_.unbound(voter.name, known)) unbound.push_back(*time);
      } else if (const auto since = promise_.unbound_since()) {
        unbound.push_back({std::min(*since, now), now});
      }
    }
    const auto time = primgr::time_without_primary(std::move(unbound), list.size());
    if (!time) return std::nullopt;
    shared = shared ? overlap(*shared, *time) : time;
    if (!shared) return std::nullopt;
  }
  return shared;
}

// Whether this node was promoted and is not Primary yet, nor is another one. Until then its data
// are those of the standby that it was: as stale, by the same rules, as they would be.
bool Repmgr_Node::just_promoted(Time now) const {
  return state_at(now) == State::unknown && facts_.reachable && !facts_.in_recovery &&
         staleness_.at(now) && claimants(now).empty();
}

// REQUIRES: the state is Standby, or just_promoted().
Lag Repmgr_Node::lag_at(Time now) const {
  Lag lag = measure_lag(facts_, replay_);
  lag.stale = staleness_.at(now);
  lag.rule = staleness_.rule(now, max_peer_age());
  if (lag.rule == Staleness_Rule::fresh) return lag;
  const Node* primary = followed();
  if (!primary) {
    lag.unheard = "its database names no other node as primary";
  } else if (const auto reported = peers_.reported(primary->name); !reported) {
    lag.unheard = primary->name + " does not answer";
  } else if (const State_Report& report = reported->first; report.state != State::primary) {
    lag.unheard = primary->name + " is " + to_string(report.state);
  } else if (report.detailed && !report.position) {
    lag.unheard = primary->name + " does not report the position of its WAL";
  } else {
    lag.unheard = primary->name + " is ahead of it";
  }
  return lag;
}

// ---- the lists of voters ------------------------------------------------------------------------

// The voters of this node's site, or of the cluster, by its own database. If this node is not
// listed there, those of the site in which it was.
Voter_List Repmgr_Node::list_of_facts() const {
  const Node* self = find_node(facts_.nodes, settings_.node_name);
  if (!self) self = find_node(lists_.confirmed, settings_.node_name);
  return self ? electorate(facts_.nodes, *self, settings_.consensus_cluster) : Voter_List();
}

// Works out who has to vote, and who is asked, after the lists have changed.
void Repmgr_Node::use_lists() {
  required_ = required_lists(lists_, read_);
  voters_ = all_of(required_lists(lists_, read_, true));
  unlisted_.clear();
  const auto add = [&](const Node& node) {
    const bool listed = names_equal(node.name, settings_.node_name) ||
                        find_node(nodes_, node.name) || find_node(unlisted_, node.name);
    if (!listed) unlisted_.push_back(node);
  };
  for (std::size_t i = read_.size(); i < voters_.size(); ++i) add(voters_[i]);
  for (const Lost_Voter& lost : lists_.lost) add(lost.node);
  peers_.keep_only(all_of({nodes_, unlisted_}));
}

// Takes in the list that was just read.
void Repmgr_Node::take_list() {
  read_ = list_of_facts();
  if (read_.empty()) return;
  if (std::string now = digest(read_); now != own_digest_) {
    own_digest_ = std::move(now);
    read_since_ = clock_();
  }
  lists_ = after_reading(std::move(lists_), read_, facts_.in_recovery);
  // In a site without a Primary nobody asks for votes, and so nobody tells. There the Primary of
  // another site decides.
  const Node* named = facts_.in_recovery ? named_primary(facts_.nodes) : nullptr;
  if (named && !find_node(read_, named->name) && peers_.state(named->name) == State::primary) {
    lists_ = after_hearing(std::move(lists_), own_digest_);
  }
}

// REQUIRES: it is Primary.
void Repmgr_Node::confirm_list(Time now, Log_Lines& lines) {
  if (!is_unconfirmed(lists_, read_)) return;
  if (!may_confirm(lists_, read_, {*candidate(), all_votes(), lease_, now}, read_since_)) return;
  if (!lists_.confirmed.empty() && !same_voters(lists_.confirmed, read_)) {
    lines.emplace_back(Log_Level::info, "the voters are now " + names_of(read_) + "; they were " +
                                            names_of(lists_.confirmed));
  }
  lists_ = after_confirming(std::move(lists_), read_);
  use_lists();
}

void Repmgr_Node::declare_lost(Lost_Declaration declaration) {
  {
    const std::lock_guard lock(mutex_);
    declaration_ = std::move(declaration);
    declared_at_ = clock_();
  }
  wake_up_.wake();
}

// Decides on what the operator has declared, when each of these voters has answered a question that
// was sent since then, or has not answered two: who was not asked yet, or whose packet was lost, is
// not lost.
void Repmgr_Node::judge_lost(Log_Lines& lines) {
  if (!declared_at_) return;
  const Voter_List known = all_of({nodes_, known_voters(lists_)});
  Voter_List lost, alive;
  for (const std::string& name : declaration_.names) {
    const Node* node = find_node(known, name);
    if (!node || names_equal(name, settings_.node_name) || find_node(lost, name)) continue;
    const auto reported = peers_.reported(node->name);
    if (reported && reported->second >= *declared_at_) {
      alive.push_back(*node);
    } else if (peers_.silent_since(node->name, *declared_at_)) {
      lost.push_back(*node);
    } else {
      return;
    }
  }
  declared_at_.reset();
  lists_.lost.clear();
  for (const Node& node : lost) lists_.lost.push_back({node, declaration_.since});
  use_lists();
  if (!alive.empty()) {
    lines.emplace_back(Log_Level::error,
                       names_of(alive) +
                           (alive.size() == 1 ? " answers, so it is" : " answer, so they are") +
                           " not lost: --lost is for nodes that are gone for good");
  }
  lines.emplace_back(Log_Level::warning,
                     lost.empty()
                         ? "no voter is taken for lost"
                         : "the operator says that these are lost for good, so they are no "
                           "voters any more: " +
                               names_of(lost));
}

// A lost voter that votes for this node is lost no more. One that answers otherwise is reported.
void Repmgr_Node::watch_lost(Time now, Log_Lines& lines) {
  if (lists_.lost.empty() && logged_alive_.empty()) return;
  const Node* self = candidate();
  std::vector<std::string> alive;
  const std::size_t ended = std::erase_if(lists_.lost, [&](const Lost_Voter& lost) {
    const std::string& name = lost.node.name;
    const Node* listed = self ? find_node(read_, name) : nullptr;
    if (listed && !count_votes({*listed}, {*self, all_votes(), lease_, now}).empty()) {
      lines.emplace_back(Log_Level::info, name + " votes again, so it is lost no more");
      return true;
    }
    if (peers_.reported(name)) alive.push_back(describe_alive(lost, peers_.state(name)));
    return false;
  });
  if (ended > 0) use_lists();
  for (const std::string& text : alive) {
    if (std::find(logged_alive_.begin(), logged_alive_.end(), text) == logged_alive_.end()) {
      lines.emplace_back(Log_Level::error, text);
    }
  }
  logged_alive_ = std::move(alive);
}

// The other nodes of its site, and lost voters, that say they are Primary while this node is. Only
// replies to questions that were sent after it became Primary count: an earlier one may be from
// before a handover.
std::vector<std::string> Repmgr_Node::rivals() const {
  std::vector<std::string> found;
  if (state_ != State::primary || state_at(clock_()) != State::primary) return found;
  for (const Node& node : all_of({voters_, unlisted_})) {
    const auto reported = peers_.reported(node.name);
    if (reported && reported->first.state == State::primary && reported->second > *state_since_) {
      found.push_back(node.name);
    }
  }
  return found;
}

void Repmgr_Node::report_rivals(Log_Lines& lines) {
  std::vector<std::string> now = rivals();
  for (const std::string& name : now) {
    if (std::find(logged_rivals_.begin(), logged_rivals_.end(), name) != logged_rivals_.end()) {
      continue;
    }
    lines.emplace_back(
        Log_Level::error,
        name + " is Primary too: two nodes of one site take writes. Stop one of them");
  }
  logged_rivals_ = std::move(now);
}

// Stores the lists if they have changed. Called by the refresher only.
void Repmgr_Node::store_voters() {
  if (!store_voters_) return;
  Voter_Lists lists;
  {
    const std::lock_guard lock(mutex_);
    lists = lists_;
    lists.told.clear();  // anybody may say so: no question may cost the disk a write
    if (lists == stored_lists_ || !lists.unreadable.empty()) return;
    stored_lists_ = lists;
  }
  store_voters_(lists);
}

// ---- the cache ----------------------------------------------------------------------------------

State Repmgr_Node::state_at(Time now) const {
  if (now - cache_.looked_at > settings_.cache_ttl) return State::down;
  if (now >= cache_.decision.until) return State::unknown;
  if (cache_.decision.state == State::primary &&
      now + stop_detector_.missed(now) >= cache_.decision.until) {
    wake_up_.wake();  // so that the refresher asks for votes at once
    return State::unknown;
  }
  return cache_.decision.state;
}

Decision Repmgr_Node::decision_at(Time now) const {
  const State state = state_at(now);
  if (!looked_ || state == cache_.decision.state) return cache_.decision;
  return {state, Time::max(),
          state == State::down ? "nothing was learnt for longer than cache_ttl"
                               : "no majority votes for it: the votes expired"};
}

// Until when the last decision held: now, unless it ended by itself while this process stood still.
Time Repmgr_Node::decision_over_at(Time now) const {
  if (!state_since_) return now;
  return std::max(std::min({now, cache_.decision.until, cache_.looked_at + settings_.cache_ttl}),
                  *state_since_);
}

// Decides, and tells of the decision if it or its reason has changed.
void Repmgr_Node::write_cache() {
  Decision decision;
  std::string line;
  Log_Lines lines;
  History changed;  // empty: the state has not
  {
    const std::lock_guard lock(mutex_);
    if (!looked_) return;
    const Time now = clock_(), over_at = decision_over_at(now);
    cache_.looked_at = facts_.asked_at;
    if (cache_.decision.state == State::primary) last_200_ = now;
    judge_lost(lines);
    cache_.complete = !facts_.nodes_pending && all_answered(Peers::Kind::vote);
    cache_.decision = decide(facts_, settings_.node_name, settings_.consensus_cluster, all_votes(),
                             lease_, now, required_);
    if (cache_.decision.state == State::primary && !lists_.unreadable.empty()) {
      cache_.decision = {State::unknown, Time::max(), lists_.unreadable};
    }
    decision = decision_at(now);
    const Time changed_at = decision.state == State::primary ? now : over_at;
    if (decision.state == State::primary && state_ != State::primary) {
      const auto voters = electorate(facts_.nodes, *candidate(), settings_.consensus_cluster);
      const auto handover = find_handover(voters, {*candidate(), all_votes(), lease_, now},
                                          named_since_.value_or(now), last_200_);
      if (handover) handover_ = handover;
    }
    if (!state_since_ || decision.state != state_) {
      state_ = decision.state;
      state_since_ = changed_at;
    }
    line = change_message(decision, now, changed_at);
    if (on_change_ && untold_) changed = changes_;
    if (decision.state == State::primary) confirm_list(now, lines);
    watch_lost(now, lines);
    report_rivals(lines);
  }
  write_log(lines);
  if (!changed.empty()) {
    on_change_(changed);
    untold_ = false;
  }
  if (line.empty()) return;
  const bool well = decision.state == State::primary || decision.state == State::standby;
  log_(well ? Log_Level::info : Log_Level::warning, line);
}

// The line to log for a decision; empty if it was logged before, or is not final yet.
std::string Repmgr_Node::change_message(const Decision& decision, Time now, Time changed_at) {
  // Until the first answers have come, Unknown is not final.
  if (decision.state == State::unknown &&
      (facts_.nodes_pending || !all_answered(Peers::Kind::vote))) {
    return {};
  }
  const std::string words = std::string(to_string(decision.state)) + ": " + decision.reason;
  if (words == logged_) return {};
  std::string line = "state " + words, votes;
  if (const auto lists = voters_at(now); !lists.empty()) {
    votes = " (" + describe_lists(lists) + ")";
    line += votes + describe_way_out(lists);
  }
  if (!logged_since_ || decision.state != logged_state_) {
    if (logged_since_) {
      line += std::string("; was ") + to_string(logged_state_) + " for " +
              describe_duration(changed_at - *logged_since_);
    }
    record_change(decision, votes, changed_at);
    logged_state_ = decision.state;
    logged_since_ = changed_at;
    untold_ = true;
  }
  if (handover_ && handover_->at == now) line += "; " + describe_handover(*handover_);
  logged_ = words;  // last, so that what there was no memory for is tried again
  return line;
}

void Repmgr_Node::record_change(const Decision& decision, const std::string& votes, Time at) {
  State_Change change;
  change.at = wall_clock_() - std::chrono::duration_cast<Wall_Time::duration>(clock_() - at);
  if (logged_since_) {
    change.from = logged_state_;
    change.lasted = std::max(at - *logged_since_, Time::zero());
  }
  change.to = decision.state;
  change.reason = bounded_reason(decision.reason + votes);
  const Node* primary = named_primary(facts_.nodes);
  if (facts_.reachable && primary) change.primary = primary->name;
  if (handover_ && handover_->at == at) change.handover = handover_->total();
  add_change(changes_, std::move(change));
}

// The voters of a candidate, with their votes, by list; empty if this node is none.
std::vector<std::vector<Voter>> Repmgr_Node::voters_at(Time now) const {
  const Node* self = candidate();
  if (!self) return {};
  std::vector<std::vector<Voter>> lists;
  for (const Voter_List& list : required_) {
    lists.push_back(describe_voters(list, {*self, all_votes(), lease_, now}));
  }
  return lists;
}

// Whether each peer that this node asks has answered or failed at least once.
bool Repmgr_Node::all_answered(Peers::Kind kind) const {
  const Node* self = candidate();
  if (kind == Peers::Kind::vote && !self) return true;
  for (const Node& node : nodes_) {
    if (names_equal(node.name, settings_.node_name)) continue;
    const bool is_voter = settings_.consensus_cluster || (self && node.site == self->site);
    if (kind == Peers::Kind::vote && !is_voter) continue;
    if (!peers_.answered(kind, node.name)) return false;
  }
  return true;
}

// ---- what the handlers read ---------------------------------------------------------------------

State Repmgr_Node::get_state() const {
  const std::lock_guard lock(mutex_);
  return state_at(clock_());
}

std::optional<Lag> Repmgr_Node::get_lag() const {
  const std::lock_guard lock(mutex_);
  const Time now = clock_();
  const bool serves = state_at(now) == State::standby || just_promoted(now);
  return serves ? std::optional(lag_at(now)) : std::nullopt;
}

State_Report Repmgr_Node::get_state_report() const {
  const std::lock_guard lock(mutex_);
  const Time now = clock_();
  State_Report report;
  report.state = state_at(now);
  report.detailed = true;
  if (const auto since = promise_.unbound_since()) report.unbound = now - std::min(*since, now);
  report.list = own_digest_;
  const Replication& r = facts_.replication;
  const Time max_age = std::max<Time>(2 * settings_.refresh_interval, 1s);
  if (report.state == State::primary && r.known && now - r.asked_at <= max_age) {
    report.position = r.position;
    report.timeline = r.timeline;
  }
  return report;
}

Synchrony Repmgr_Node::get_synchrony() {
  const Time now = clock_();
  if (now - sync_wanted_at_.exchange(now) > sync_interest) wake_up_.wake();
  const std::lock_guard lock(mutex_);
  if (state_at(now) != State::standby) return {std::nullopt, "it is no standby"};
  const Node* primary = sync_source();
  if (!primary) return {std::nullopt, "its database names no other node as primary"};
  const auto [report, asked_at] = peers_.sync_report(primary->name);
  return judge_synchrony(report, asked_at, now, max_peer_age(), primary->name);
}

Sync_Report Repmgr_Node::get_standby(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const Time now = clock_();
  if (state_at(now) != State::primary) return {"", {}, "it is not Primary"};
  return find_standby(facts_.replication, name, now);
}

Report Repmgr_Node::get_report() const {
  const std::lock_guard lock(mutex_);
  const Time now = clock_();
  Report report;
  report.name = settings_.node_name;
  if (const Node* self = find_node(nodes_, settings_.node_name)) report.self = *self;
  report.decision = decision_at(now);
  report.time_in_state =
      report.decision.state == state_ && state_since_ ? now - *state_since_ : Time();
  const bool is_up = report.decision.state != State::down;
  const Node* primary = named_primary(facts_.nodes);
  if (is_up && primary) report.primary = primary->name;
  report.lists = voters_at(now);
  if (!report.lists.empty()) report.voters = report.lists.front();
  report.rivals = rivals();
  report.drain = drain_;
  report.alive = logged_alive_;
  report.declaration = declaration_;
  report.declaration_pending = declared_at_.has_value();
  for (const Lost_Voter& lost : lists_.lost) report.lost.push_back(lost.node.name);
  if (report.decision.state == State::primary) report.lease = cache_.decision.until - now;
  report.handover = handover_;
  if (handover_) report.handover_age = now - handover_->at;
  report.in_recovery = is_up && facts_.in_recovery;
  if (is_up) report.replication = facts_.replication;
  if (report.in_recovery) report.lag = lag_at(now);
  report.cache_age = now - cache_.looked_at;
  report.nodes_age = nodes_age(now);
  report.nodes_problem = nodes_problem();
  report.connections = database_.connections();
  report.claimants = claimants(now);
  report.looks = looks_;
  report.failed_looks = failed_looks_;
  report.look_time = look_time_;
  report.polls = peers_.counts();
  return report;
}

void Repmgr_Node::set_drain(std::optional<Drain> drain) {
  std::string line;
  {
    const std::lock_guard lock(mutex_);
    if (drain == drain_) return;
    line = drain ? describe_drain(*drain) + ": it takes no new reads"
                 : "drained no more: it takes reads again";
    drain_ = std::move(drain);
  }
  log_(Log_Level::warning, line);
}

std::optional<Drain> Repmgr_Node::get_drain() const {
  const std::lock_guard lock(mutex_);
  return state_at(clock_()) == State::primary ? std::nullopt : drain_;
}

History Repmgr_Node::get_history() const {
  const std::lock_guard lock(mutex_);
  return changes_;
}

std::optional<std::string> Repmgr_Node::get_primary() const {
  const std::lock_guard lock(mutex_);
  if (state_at(clock_()) == State::down) return std::nullopt;
  const Node* named = named_primary(facts_.nodes);
  return named ? std::optional(named->name) : std::nullopt;
}

Ballot Repmgr_Node::grant_vote(std::string_view candidate, Time lease,
                               const std::optional<std::string>& shown,
                               const std::optional<std::string>& list) {
  const std::optional<std::string> named = get_primary();
  if (!named || !names_equal(*named, candidate)) look_now();
  if (!named && get_state() == State::down) return {};
  // The candidate would count the vote for longer than it is granted.
  if (lease > settings_.vote_lease) return {};
  Ballot ballot = promise_.vote(named.value_or(""), candidate, shown, false);
  if (ballot.granted) {
    const std::lock_guard lock(mutex_);
    const Time now = clock_();
    bound_until_ = now + settings_.vote_lease;
    history_.granted(ballot.names, now, *bound_until_);
    if (peers_.state(ballot.names) == State::primary) history_.arrived();
    history_.tell(ballot, now);
    const Node* asker = find_node(facts_.nodes, candidate);
    if (asker) {
      ballot.list = digest(electorate(facts_.nodes, *asker, settings_.consensus_cluster));
    }
    // A candidate of an earlier version does not tell: what it has counts.
    if (facts_.in_recovery) {
      const std::size_t received = lists_.received.size();
      lists_ = after_hearing(std::move(lists_), list.value_or(own_digest_));
      if (lists_.received.size() != received) use_lists();  // as a rule, nothing is news
    }
  }
  return ballot;
}

bool Repmgr_Node::end_promise(std::string_view candidate, std::string_view token,
                              std::optional<Time> ago) {
  const std::optional<Time> bound_for = promise_.end(candidate, token);
  if (!bound_for) return false;
  {
    const std::lock_guard lock(mutex_);
    freed_at_ = clock_();
    bound_until_ = *freed_at_ + *bound_for;
    history_.handed_back(candidate, ago ? std::optional(*freed_at_ - *ago) : std::nullopt);
  }
  peers_.hurry();
  look_now();
  return true;
}

bool Repmgr_Node::get_is_in_recovery_mode() const {
  const std::lock_guard lock(mutex_);
  return facts_.reachable && facts_.in_recovery;
}

std::optional<std::string> Repmgr_Node::get_node_site() const {
  const std::lock_guard lock(mutex_);
  const Node* self = find_node(nodes_, settings_.node_name);
  return self ? std::optional(self->site) : std::nullopt;
}

std::vector<Node> Repmgr_Node::get_all_other_nodes_in_site() const {
  const std::lock_guard lock(mutex_);
  const Node* self = find_node(nodes_, settings_.node_name);
  if (!self) return {};
  std::vector<Node> others = electorate(nodes_, *self, false);
  std::erase_if(others, [&](const Node& node) { return node.id == self->id; });
  return others;
}

std::vector<Node> Repmgr_Node::get_all_nodes() const {
  const std::lock_guard lock(mutex_);
  return nodes_;
}

// The nodes that report to be Primary.
std::vector<std::string> Repmgr_Node::claimants(Time now) const {
  std::vector<std::string> found;
  for (const Node& node : nodes_) {
    const bool self = names_equal(node.name, settings_.node_name);
    const State state = self ? state_at(now) : peers_.state(node.name);
    if (state == State::primary) found.push_back(node.name);
  }
  return found;
}

Real_Primary Repmgr_Node::get_real_primary() const {
  const std::lock_guard lock(mutex_);
  return {!nodes_.empty(), claimants(clock_())};
}

bool Repmgr_Node::settled(bool cluster) const {
  const std::lock_guard lock(mutex_);
  if (cluster && !all_answered(Peers::Kind::state)) return false;
  // A primary that is gone is not waited for as long as others.
  const Node* primary = settings_.candidate ? followed() : nullptr;
  if (primary && !peers_.answered(Peers::Kind::state, primary->name) &&
      clock_() < state_since_.value_or(Time::max() - straggler_timeout()) + straggler_timeout()) {
    return false;
  }
  // An answer that came since the last decision is not in it yet.
  return state_at(clock_()) == State::primary || cache_.complete;
}

}  // namespace primgr
