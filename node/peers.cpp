#include "node/peers.hpp"

#include <algorithm>
#include <initializer_list>
#include <new>
#include <nlohmann/json.hpp>
#include <utility>

namespace primgr {

namespace {

// The value of the first of `keys` that a JSON object has as a string; none if there is none.
std::optional<std::string> json_string(const std::string& body,
                                       std::initializer_list<const char*> keys) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  for (const char* key : keys) {
    const auto value = json.find(key);
    if (value != json.end() && value->is_string()) return value->get<std::string>();
  }
  return std::nullopt;
}

std::optional<std::string> reported_state(const Http_Reply& reply) {
  return json_string(reply.body, {"state", "State"});
}

}  // namespace

std::optional<std::string> http_node_reports_primary(const Http_Reply& reply, std::string& why) {
  why.clear();
  if (reply.status == 0) {
    why = reply.error;
  } else if (reply.body.size() > max_reply_size) {
    why = "reply too long";
  } else if (reply.status == 200) {
    auto name = json_string(reply.body, {"Primary"});
    if (name && !name->empty()) return name;
    why = "200 without the name of a primary";
  } else if (reply.status == 503) {
    why = "names none, its state is " + reported_state(reply).value_or("not told");
  } else {
    why = "HTTP status " + std::to_string(reply.status);
  }
  return std::nullopt;
}

Time http_node_reports_lease(const Http_Reply& reply) {
  constexpr std::int64_t longest = 3'600'000;  // ms
  const auto json = nlohmann::json::parse(reply.body, nullptr, false);
  if (!json.is_object() || !json.contains("lease")) return Time::max();
  const auto& lease = json["lease"];
  if (!lease.is_number_integer()) return Time::zero();
  return std::chrono::milliseconds(std::clamp<std::int64_t>(lease.get<std::int64_t>(), 0, longest));
}

State http_node_reports_state(const Http_Reply& reply) {
  if (reply.status == 0 || reply.body.size() > max_reply_size) return State::unknown;
  const auto word = reported_state(reply);
  if (reply.status == 200 && word == "Primary") return State::primary;
  if (reply.status == 202 && word == "Standby") return State::standby;
  if (reply.status == 503 && word == "Down") return State::down;
  return State::unknown;
}

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
    Poll& poll = peers_[peer.name].poll(kind);
    if (poll.under_way || (poll.asked_at && now < *poll.asked_at + interval)) return;
    // Built before the question counts as under way, since this may throw std::bad_alloc.
    done = [this, question = Question{kind, peer.name, asked_ + 1, now, missed_}](
               const Http_Reply& reply) {
      const std::lock_guard lock_for_reply(mutex_);
      handle_reply(question, reply);
      wake_();
      if (--under_way_ == 0) none_under_way_.notify_all();
    };
    poll.under_way = ++asked_;
    poll.asked_at = now;
    ++under_way_;
  }
  get_(peer, target, timeout_, std::move(done));
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
      handle_vote_reply(question, reply);
    } else {
      peer.reported = http_node_reports_state(reply);
    }
  } catch (const std::bad_alloc&) {
    // Counts as answered, but its content is lost. The next reply may be stored.
  }
}

// A reply without a name does not replace the vote before it, which counts until it expires: the
// voter keeps its promise also while it or its database is down.
void Peers::handle_vote_reply(const Question& question, const Http_Reply& reply) {
  std::string why;
  const auto named = http_node_reports_primary(reply, why);
  Vote& vote = votes_[question.peer];
  if (named) {
    vote = {reply.sent_at - (missed_ - question.missed_before), *named, "",
            http_node_reports_lease(reply)};
  }
  vote.why = why;
}

void Peers::drop(const Node& peer, const std::string& target) const {
  if (drop_) drop_(peer, target);
}

const Peers::Poll* Peers::find(Kind kind, const std::string& peer) const {
  const auto found = peers_.find(peer);
  return found == peers_.end() ? nullptr : &found->second.poll(kind);
}

Time Peers::due(Kind kind, const std::string& peer, Time interval) const {
  const std::lock_guard lock(mutex_);
  const Poll* poll = find(kind, peer);
  if (poll && poll->under_way) return Time::max();
  return (poll && poll->asked_at ? *poll->asked_at : clock_()) + interval;
}

std::optional<Time> Peers::vote_awaited_since(const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const Poll* poll = find(Kind::vote, peer);
  return poll && poll->under_way ? poll->asked_at : std::nullopt;
}

bool Peers::answered(Kind kind, const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const Poll* poll = find(kind, peer);
  return poll && poll->answered;
}

void Peers::forget_answers() {
  const std::lock_guard lock(mutex_);
  for (auto& [name, peer] : peers_) peer.vote.answered = false;
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
    if (!peer.vote.under_way) peer.vote.asked_at.reset();
  }
}

Votes Peers::votes() const {
  const std::lock_guard lock(mutex_);
  return votes_;
}

State Peers::state(const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const auto found = peers_.find(peer);
  return found == peers_.end() ? State::unknown : found->second.reported;
}

std::vector<Poll_Count> Peers::counts() const {
  const std::lock_guard lock(mutex_);
  std::vector<Poll_Count> counts;
  for (const auto& [name, peer] : peers_) {
    const auto add = [&, &peer_name = name](const char* kind, const Poll& poll) {
      if (!poll.asked_at && poll.replied + poll.failed == 0) return;
      counts.push_back({peer_name, kind, poll.replied, poll.failed, poll.total_time});
    };
    add("vote", peer.vote);
    add("state", peer.state);
  }
  return counts;
}

}  // namespace primgr
