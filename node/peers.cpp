#include "node/peers.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace primgr {

using namespace std::chrono_literals;

namespace {

// From one question for a vote to the next.
constexpr Time min_interval = 50ms;

}  // namespace

Peers::Peers(Http_Get get, Http_Drop drop, Clock clock, Time timeout, std::function<void()> wake)
    : get_(std::move(get)),
      drop_(std::move(drop)),
      clock_(std::move(clock)),
      timeout_(timeout),
      wake_(std::move(wake)) {}

Peers::~Peers() {
  std::unique_lock lock(mutex_);
  none_under_way_.wait(lock, [this] { return under_way_ == 0; });
}

void Peers::ask(Kind kind, const Node& peer, const std::string& target, Time interval) {
  std::function<void(Http_Reply)> done;
  {
    const std::lock_guard lock(mutex_);
    const Time now = clock_();
    Peer& asked = peers_[peer.name];
    Poll& poll = asked.poll(kind);
    if (poll.under_way || (poll.asked_at && now < next(kind, asked, interval))) return;
    std::string copy = target;
    // Built before the question counts as under way, since this may throw std::bad_alloc.
    done = [this, question = Question{kind, peer.name, asked_ + 1, now, missed_}](
               const Http_Reply& reply) {
      const std::lock_guard lock_for_reply(mutex_);
      handle_reply(question, reply);
      wake_();
      if (--under_way_ == 0) none_under_way_.notify_all();
    };
    poll.target = std::move(copy);
    poll.under_way = ++asked_;
    poll.asked_at = now;
    ++under_way_;
  }
  // A hand-back that is lost is sent again, so it need not be waited for as long.
  get_(peer, target, kind == Kind::hand_back ? timeout_ / 4 : timeout_, std::move(done));
}

void Peers::handle_reply(const Question& question, const Http_Reply& reply) {
  const auto found = peers_.find(question.peer);
  if (found == peers_.end()) return;  // it was unregistered meanwhile
  Peer& peer = found->second;
  Poll& poll = peer.poll(question.kind);
  if (poll.under_way != question.number) return;  // and registered again
  poll.under_way = 0;
  poll.answered = true;
  ++(reply.status ? poll.replied : poll.failed);
  poll.total_time += clock_() - question.asked_at;
  try {
    if (question.kind == Kind::vote) {
      handle_vote_reply(question, peer, reply);
    } else if (question.kind == Kind::state) {
      handle_state_report(question, reply, peer);
    } else if (question.kind == Kind::standby) {
      handle_sync_report(reply, question.asked_at - (missed_ - question.missed_before), peer);
    } else if (reply.status && poll.target.find(peer.to_hand_back.token) != std::string::npos) {
      peer.to_hand_back = {};
    }
  } catch (const std::bad_alloc&) {
    // Counts as answered, but its content is lost. The next reply may be stored.
  }
}

// A reply without a name does not replace the vote before it, which counts until it expires: the
// voter keeps its promise also while it or its database is down.
void Peers::handle_vote_reply(const Question& question, Peer& peer, const Http_Reply& reply) {
  std::string why;
  Promise_Terms terms;
  const auto named = http_node_reports_primary(reply, why, &terms);
  Vote& vote = votes_[question.peer];
  if (named) {
    vote = {reply.sent_at - (missed_ - question.missed_before), *named, "", terms.lease};
    vote.list = terms.list;
    const Time now = clock_();
    // What the voter has rounded down to whole ms must not be asked for too early. One that is free
    // now was freed after it was asked, or when its promise ended.
    peer.bound_until = terms.bound_for == Time::zero()
                           ? std::min(peer.bound_until, question.asked_at)
                           : now + terms.bound_for + 1ms;
    vote.bound_until = peer.bound_until;
    if (!terms.before.empty()) vote.before = {terms.before, now - terms.since, terms.handed_back};
    // The promise began before this reply came.
    if (!terms.token.empty() && terms.lease != Time::max()) {
      peer.held = {terms.token, now + terms.lease};
    }
  }
  vote.why = why;
  vote.answers = reply.status != 0;
}

// The peer answered between asked_at and now, and its clock may tick 1 % faster.
void Peers::handle_state_report(const Question& question, const Http_Reply& reply,
                                Peer& peer) const {
  peer.reported.reset();
  peer.silent_before = peer.silent;
  peer.silent = reply.status ? std::nullopt : std::optional(question.asked_at);
  if (!reply.status) return;
  const Time asked_at = question.asked_at - (missed_ - question.missed_before);
  const State_Report report = read_state_reply(reply);
  if (report.unbound) {
    const Time since = clock_() - (*report.unbound - *report.unbound / 100);
    if (since <= asked_at) {
      peer.unbound = {since, asked_at};
      peer.unbound_list = report.list;
    }
  }
  peer.reported.emplace(report, asked_at);
}

// One reply that is lost does not make unknown what the one before told: that counts until it is
// too old.
void Peers::handle_sync_report(const Http_Reply& reply, Time asked_at, Peer& peer) {
  Sync_Report report = read_standby_reply(reply);
  if (reply.status == 0) {
    peer.sync.first.why = std::move(report.why);
  } else {
    peer.sync = {std::move(report), asked_at};
  }
}

void Peers::drop(Kind kind, const Node& peer) const {
  std::string target;
  {
    const std::lock_guard lock(mutex_);
    const Peer* asked = find(peer.name);
    if (!asked || !asked->poll(kind).under_way) return;
    target = asked->poll(kind).target;
  }
  if (drop_) drop_(peer, target);
}

const Peers::Peer* Peers::find(const std::string& peer) const {
  const auto found = peers_.find(peer);
  return found == peers_.end() ? nullptr : &found->second;
}

// A voter that is bound to another is asked again when its promise ends, too; not sooner than
// min_interval, whatever it says.
Time Peers::next(Kind kind, const Peer& peer, Time interval) const {
  const Time asked_at = *peer.poll(kind).asked_at;
  if (kind == Kind::vote && peer.bound_until > asked_at) {
    return std::min(asked_at + interval, std::max(asked_at + min_interval, peer.bound_until));
  }
  return asked_at + interval;
}

Time Peers::due(Kind kind, const std::string& peer, Time interval) const {
  const std::lock_guard lock(mutex_);
  const Peer* asked = find(peer);
  if (asked && asked->poll(kind).under_way) return Time::max();
  return asked && asked->poll(kind).asked_at ? next(kind, *asked, interval) : clock_() + interval;
}

std::optional<Time> Peers::vote_awaited_since(const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const Peer* asked = find(peer);
  return asked && asked->poll(Kind::vote).under_way ? asked->poll(Kind::vote).asked_at
                                                    : std::nullopt;
}

bool Peers::answered(Kind kind, const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const Peer* asked = find(peer);
  return asked && asked->poll(kind).answered;
}

void Peers::forget_answers() {
  const std::lock_guard lock(mutex_);
  for (auto& [name, peer] : peers_) peer.poll(Kind::vote).answered = false;
}

std::string Peers::token(const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const Peer* asked = find(peer);
  return asked ? asked->held.token : std::string();
}

bool Peers::holds_tokens() const {
  const std::lock_guard lock(mutex_);
  return std::any_of(peers_.begin(), peers_.end(),
                     [](const auto& peer) { return !peer.second.held.token.empty(); });
}

void Peers::give_up_votes() {
  const std::lock_guard lock(mutex_);
  votes_.clear();
  for (auto& [name, peer] : peers_) {
    // handle_reply() ignores a reply whose question is not the one that is under way.
    peer.poll(Kind::vote).under_way = 0;
    if (!peer.held.token.empty()) peer.to_hand_back = std::exchange(peer.held, {});
  }
}

std::map<std::string, std::string> Peers::to_hand_back() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::string> tokens;
  for (const auto& [name, peer] : peers_) {
    const auto& [token, until] = peer.to_hand_back;
    if (!token.empty() && clock_() < until) tokens.emplace(name, token);
  }
  return tokens;
}

void Peers::keep_only(const std::vector<Node>& nodes) {
  const std::lock_guard lock(mutex_);
  const auto unlisted = [&](const auto& entry) {
    return std::none_of(nodes.begin(), nodes.end(),
                        [&](const Node& node) { return node.name == entry.first; });
  };
  std::erase_if(peers_, unlisted);
  std::erase_if(votes_, unlisted);
}

void Peers::age_votes(Time missed) {
  const std::lock_guard lock(mutex_);
  missed_ += missed;
  for (auto& [name, vote] : votes_) vote.sent_at -= missed;
  for (auto& [name, peer] : peers_) {
    peer.sync.second -= missed;
    if (peer.reported) peer.reported->second -= missed;
    if (peer.unbound) peer.unbound = {peer.unbound->from - missed, peer.unbound->to - missed};
  }
  ask_votes_again();
}

void Peers::hurry() {
  const std::lock_guard lock(mutex_);
  ask_votes_again();
}

void Peers::ask_votes_again() {
  for (auto& [name, peer] : peers_) {
    if (!peer.poll(Kind::vote).under_way) peer.poll(Kind::vote).asked_at.reset();
  }
}

Votes Peers::votes() const {
  const std::lock_guard lock(mutex_);
  return votes_;
}

State Peers::state(const std::string& peer) const {
  const auto last = reported(peer);
  return last ? last->first.state : State::unknown;
}

std::optional<Interval> Peers::unbound(const std::string& peer, const std::string& list) const {
  const std::lock_guard lock(mutex_);
  const Peer* asked = find(peer);
  return asked && asked->unbound_list == list ? asked->unbound : std::nullopt;
}

std::optional<std::pair<State_Report, Time>> Peers::reported(const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const Peer* asked = find(peer);
  return asked ? asked->reported : std::nullopt;
}

bool Peers::silent_since(const std::string& peer, Time since) const {
  const std::lock_guard lock(mutex_);
  const Peer* asked = find(peer);
  return asked && asked->silent_before && asked->silent && *asked->silent_before >= since;
}

std::pair<Sync_Report, Time> Peers::sync_report(const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const Peer* asked = find(peer);
  return asked ? asked->sync : Peer().sync;
}

std::vector<Poll_Count> Peers::counts() const {
  const std::lock_guard lock(mutex_);
  std::vector<Poll_Count> counts;
  for (const auto& [name, peer] : peers_) {
    const auto add = [&, &peer_name = name](const char* kind, const Poll& poll) {
      if (!poll.asked_at && poll.replied + poll.failed == 0) return;
      counts.push_back({peer_name, kind, poll.replied, poll.failed, poll.total_time});
    };
    add("vote", peer.poll(Kind::vote));
    add("state", peer.poll(Kind::state));
    add("hand_back", peer.poll(Kind::hand_back));
    add("standby", peer.poll(Kind::standby));
  }
  return counts;
}

}  // namespace primgr
