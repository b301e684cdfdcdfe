// The questions to the other nodes of the cluster, and what they answered.

#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "node/model.hpp"

namespace primgr {

// What a peer answered over HTTP.
struct Http_Reply {
  int status = 0;     // 0: no reply that counts (late, oversized, unreachable, …)
  std::string body;   // at most max_reply_size bytes
  std::string error;  // why there is no reply
  Time sent_at{};     // when the request was sent, or earlier, on the asker's clock
};

// A longer body from a peer is no reply.
inline constexpr std::size_t max_reply_size = 1024;

// Sends `GET target` to a peer and hands over its reply, once, within `timeout`, from any thread;
// returns at once. Must not throw.
using Http_Get = std::function<void(const Node& peer, const std::string& target, Time timeout,
                                    std::function<void(Http_Reply)> done)>;

// Gives such a question up: its `done` is called soon, with no reply that counts. Must not block or
// call `done` itself.
using Http_Drop = std::function<void(const Node& peer, const std::string& target)>;

// The node that a peer's reply to /primary names, or none with `why` set. Never throws.
std::optional<std::string> http_node_reports_primary(const Http_Reply& reply, std::string& why);

// The state that a peer's reply to /state reports; Unknown for any reply that is not the
// contract's. Understands the key "State" of the original implementation. Never throws.
State http_node_reports_state(const Http_Reply& reply);

// How the polls of one kind of one peer went.
struct Poll_Count {
  std::string peer;
  const char* kind = "";  // "vote" or "state"
  std::uint64_t replied = 0, failed = 0;
  Time taken{};
};

// Polls the peers for their votes and for their states, and keeps what they answered last. Of each
// kind, one question to a peer is under way at most.
//
// Thread-safe. The mutex guards all that is below it. Replies arrive in threads of the Http_Get;
// they store what they bring under the mutex, and wake the refresher. Nothing blocks while the
// mutex is held, and nothing else's mutex is taken, so it may be taken while another is held.
class Peers {
 public:
  enum class Kind { vote, state };

  // `wake` is called after each reply, with the mutex held; it must not block.
  Peers(Http_Get get, Http_Drop drop, Clock clock, Time timeout, std::function<void()> wake);
  // Waits for the questions under way.
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  // Asks `peer`, unless such a question is under way or was sent less than `interval` ago.
  void ask(Kind kind, const Node& peer, const std::string& target, Time interval);
  // Gives a question under way up.
  void drop(const Node& peer, const std::string& target) const;
  // When ask() has something to do again; Time::max() while a question is under way.
  Time due(Kind kind, const std::string& peer, Time interval) const;
  // When the question for a vote that is under way was sent; none: none is.
  std::optional<Time> vote_awaited_since(const std::string& peer) const;

  // Whether the peer has answered, or failed, at least once; for votes, since forget_answers().
  bool answered(Kind kind, const std::string& peer) const;
  // The node becomes a candidate anew.
  void forget_answers();
  // Forgets what is not listed any more.
  void keep_only(const std::vector<Node>& nodes);
  // The clock did not count so much time: votes are that much older, and asked for again at once.
  void age(Time missed);

  // The last vote of each peer that ever gave one or failed to.
  Votes votes() const;
  // What the peer last answered to /state; Unknown if that is not known.
  State state(const std::string& peer) const;
  std::vector<Poll_Count> counts() const;

 private:
  // The questions of one kind to one peer.
  struct Poll {
    std::optional<Time> asked_at;
    bool under_way = false;
    bool answered = false;
    std::uint64_t replied = 0, failed = 0;
    Time taken{};
    Time missed_before{};  // missed_ when it was asked
  };
  struct Peer {
    Poll vote, state;
    State reported = State::unknown;
    Poll& poll(Kind kind) { return kind == Kind::vote ? vote : state; }
    const Poll& poll(Kind kind) const { return kind == Kind::vote ? vote : state; }
  };

  // Null if there is none yet. REQUIRES mutex_, as those below do.
  const Poll* find(Kind kind, const std::string& peer) const;
  void take(Kind kind, const std::string& name, const Http_Reply& reply);
  void take_vote(const std::string& name, const Poll& poll, const Http_Reply& reply);

  const Http_Get get_;
  const Http_Drop drop_;
  const Clock clock_;
  const Time timeout_;
  const std::function<void()> wake_;
  mutable std::mutex mutex_;
  std::map<std::string, Peer> peers_;  // by name as in repmgr.nodes
  Votes votes_;
  Time missed_{};              // all that the clock did not count
  std::size_t under_way_ = 0;  // questions; the destructor waits for their end
  std::condition_variable none_under_way_;
};

}  // namespace primgr
