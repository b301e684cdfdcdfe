#include "node/peers/polls.hpp"

#include <algorithm>

namespace primgr {

using namespace std::chrono_literals;

namespace {

// The shortest time from one question for a vote to the next.
constexpr Time min_interval = 50ms;

}  // namespace

const std::string& renamed_to(const std::map<std::string, std::string>& renamed,
                              const std::string& name) {
  const auto found = renamed.find(name);
  return found == renamed.end() ? name : found->second;
}

void Polls::ask(Kind kind, const Node& peer, const std::string& target, Time interval, Time now,
                std::vector<Question>& questions) {
  Peer& asked = peers_[peer.name];
  Poll& poll = asked.poll(kind);
  if (poll.under_way || (poll.asked_at && now < next(kind, asked, interval))) return;
  questions.push_back({kind, peer, target, asked_ + 1});
  poll.target = target;
  poll.under_way = ++asked_;
  poll.asked_at = now;
  poll.missed_before = missed_;
}

void Polls::forget_questions(std::uint64_t from) noexcept {
  for (auto& [name, peer] : peers_) {
    for (Poll& poll : peer.polls) {
      if (poll.under_way < from || poll.under_way == 0) continue;
      poll.under_way = 0;
      poll.asked_at.reset();
    }
  }
}

std::optional<Dropped_Question> Polls::under_way(Kind kind, const Node& peer) const {
  const Peer* asked = find(peer.name);
  if (!asked || !asked->poll(kind).under_way) return std::nullopt;
  return Dropped_Question{peer, asked->poll(kind).target};
}

Polls::Peer* Polls::answered_by(Kind kind, const Replied& to) {
  const auto found = peers_.find(to.peer);
  if (found == peers_.end()) return nullptr;  // it was unregistered meanwhile
  Poll& poll = found->second.poll(kind);
  if (poll.under_way != to.number) return nullptr;  // registered again, or given up
  poll.under_way = 0;
  poll.answered = true;
  return &found->second;
}

bool Polls::replied(Kind kind, const Replied& to) {
  Peer* peer = answered_by(kind, to);
  if (!peer) return false;
  const std::string& token = peer->to_hand_back.token;
  if (kind == Kind::hand_back && to.answered && peer->poll(kind).target.find(token) != token.npos) {
    peer->to_hand_back = {};
  }
  return true;
}

// A reply without a name does not replace the earlier vote, which counts until it expires: the
// voter keeps its promise even while it or its database is down.
bool Polls::replied(const Replied& to, const Vote_Answer& answer, Time now) {
  Peer* peer = answered_by(Kind::vote, to);
  if (!peer) return false;
  const Poll& poll = peer->poll(Kind::vote);
  const Promise_Terms& terms = answer.terms;
  Vote& vote = votes_[std::string(to.peer)];
  if (answer.named) {
    vote = {answer.sent_at - missed_since(poll), *answer.named, "", terms.lease};
    // The voter rounds down to whole ms, so 1 ms is added in order not to ask too early. A voter
    // that is free now became free after it was asked, or when its promise ended.
    peer->bound_until = terms.bound_for == Time::zero()
                            ? std::min(peer->bound_until, poll.asked_at.value_or(now))
                            : now + terms.bound_for + 1ms;
    vote.bound_until = peer->bound_until;
    if (!terms.before.empty()) vote.before = {terms.before, now - terms.since, terms.handed_back};
    // The promise began before this reply arrived.
    if (!terms.token.empty() && terms.lease != Time::max()) {
      peer->held = {terms.token, now + terms.lease};
    }
  }
  vote.why = answer.why;
  vote.answers = to.answered;
  return true;
}

// The peer answered between asked_at and now, and its clock may tick 1 % faster.
bool Polls::replied(const Replied& to, const State_Report& report, Time now) {
  Peer* peer = answered_by(Kind::state, to);
  if (!peer) return false;
  const Poll& poll = peer->poll(Kind::state);
  const Time asked_at = poll.asked_at.value_or(now);
  peer->reported.reset();
  peer->silent_before = peer->silent;
  const bool alive = to.answered || to.alive;
  peer->silent = alive ? std::nullopt : std::optional(asked_at);
  if (alive) peer->alive = asked_at;
  if (!to.answered) return true;
  const Time sent_at = asked_at - missed_since(poll);
  if (report.unbound) {
    const Time since = now - (*report.unbound - *report.unbound / 100);
    if (since <= sent_at) {
      peer->unbound = {since, sent_at};
      peer->unbound_list = report.list;
    }
  }
  peer->reported.emplace(report, sent_at);
  return true;
}

// If one reply is lost, the earlier report still counts until it is too old.
bool Polls::replied(const Replied& to, const Sync_Report& report) {
  Peer* peer = answered_by(Kind::standby, to);
  if (!peer) return false;
  const Poll& poll = peer->poll(Kind::standby);
  if (!to.answered) {
    peer->sync.first.why = report.why;
  } else {
    peer->sync = {report, poll.asked_at.value_or(Time()) - missed_since(poll)};
  }
  return true;
}

const Polls::Peer* Polls::find(std::string_view peer) const {
  const auto found = peers_.find(peer);
  return found == peers_.end() ? nullptr : &found->second;
}

// A voter that is bound to another node is also asked again when its promise ends, but not sooner
// than min_interval, whatever it answers.
Time Polls::next(Kind kind, const Peer& peer, Time interval) {
  const Time asked_at = *peer.poll(kind).asked_at;
  if (kind == Kind::vote && peer.bound_until > asked_at) {
    return std::min(asked_at + interval, std::max(asked_at + min_interval, peer.bound_until));
  }
  return asked_at + interval;
}

Time Polls::due(Kind kind, const std::string& peer, Time interval, Time now) const {
  const Peer* asked = find(peer);
  if (asked && asked->poll(kind).under_way) return Time::max();
  return asked && asked->poll(kind).asked_at ? next(kind, *asked, interval) : now + interval;
}

std::optional<Time> Polls::vote_awaited_since(const std::string& peer) const {
  const Peer* asked = find(peer);
  return asked && asked->poll(Kind::vote).under_way ? asked->poll(Kind::vote).asked_at
                                                    : std::nullopt;
}

bool Polls::answered(Kind kind, const std::string& peer) const {
  const Peer* asked = find(peer);
  return asked && asked->poll(kind).answered;
}

void Polls::forget_answers() {
  for (auto& [name, peer] : peers_) peer.poll(Kind::vote).answered = false;
}

std::string Polls::token(const std::string& peer) const {
  const Peer* asked = find(peer);
  return asked ? asked->held.token : std::string();
}

bool Polls::holds_tokens() const {
  return std::any_of(peers_.begin(), peers_.end(),
                     [](const auto& peer) { return !peer.second.held.token.empty(); });
}

void Polls::forget_votes() {
  for (const auto& [name, peer] : peers_) forget_vote(name);
}

void Polls::give_up_votes() {
  for (const auto& [name, peer] : peers_) give_up_vote(name);
}

// answered_by() ignores a reply whose question is not the one that is under way.
void Polls::forget_vote(const std::string& name) {
  votes_.erase(name);
  const auto found = peers_.find(name);
  if (found != peers_.end()) found->second.poll(Kind::vote).under_way = 0;
}

void Polls::give_up_vote(const std::string& name) {
  forget_vote(name);
  const auto found = peers_.find(name);
  if (found == peers_.end()) return;
  Peer& peer = found->second;
  if (!peer.held.token.empty()) peer.to_hand_back = std::exchange(peer.held, {});
}

std::map<std::string, std::string> Polls::to_hand_back(Time now) const {
  std::map<std::string, std::string> tokens;
  for (const auto& [name, peer] : peers_) {
    const auto& [token, until] = peer.to_hand_back;
    if (!token.empty() && now < until) tokens.emplace(name, token);
  }
  return tokens;
}

void Polls::keep_only(const std::vector<Node>& nodes) {
  const auto unlisted = [&](const auto& entry) {
    return std::none_of(nodes.begin(), nodes.end(),
                        [&](const Node& node) { return node.name == entry.first; });
  };
  std::erase_if(peers_, unlisted);
  std::erase_if(votes_, unlisted);
}

void Polls::rename(const std::map<std::string, std::string>& renamed) {
  const auto with_new_keys = [&](auto& of) {
    std::decay_t<decltype(of)> all;
    for (auto& [name, value] : of) all[renamed_to(renamed, name)] = std::move(value);
    of = std::move(all);
  };
  with_new_keys(peers_);
  with_new_keys(votes_);
  for (auto& [name, vote] : votes_) vote.names = renamed_to(renamed, vote.names);
}

void Polls::age(Time missed) {
  missed_ += missed;
  for (auto& [name, vote] : votes_) vote.sent_at -= missed;
  for (auto& [name, peer] : peers_) {
    peer.sync.second -= missed;
    if (peer.reported) peer.reported->second -= missed;
    if (peer.unbound) peer.unbound = {peer.unbound->from - missed, peer.unbound->to - missed};
  }
  hurry();
}

void Polls::hurry() {
  for (auto& [name, peer] : peers_) {
    if (!peer.poll(Kind::vote).under_way) peer.poll(Kind::vote).asked_at.reset();
  }
}

State Polls::state(const std::string& peer) const {
  const Peer* asked = find(peer);
  return asked && asked->reported ? asked->reported->first.state : State::unknown;
}

std::optional<Interval> Polls::unbound(const std::string& peer, const std::string& list) const {
  const Peer* asked = find(peer);
  return asked && asked->unbound_list == list ? asked->unbound : std::nullopt;
}

std::optional<std::pair<State_Report, Time>> Polls::reported(const std::string& peer) const {
  const Peer* asked = find(peer);
  return asked ? asked->reported : std::nullopt;
}

bool Polls::alive_since(const std::string& peer, Time since) const {
  const Peer* asked = find(peer);
  return asked && asked->alive && *asked->alive >= since;
}

bool Polls::silent_since(const std::string& peer, Time since) const {
  const Peer* asked = find(peer);
  return asked && asked->silent_before && asked->silent && *asked->silent_before >= since;
}

std::pair<Sync_Report, Time> Polls::sync_report(const std::string& peer) const {
  const Peer* asked = find(peer);
  return asked ? asked->sync : Peer().sync;
}

}  // namespace primgr
