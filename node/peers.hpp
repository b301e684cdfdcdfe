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
#include <utility>
#include <vector>

#include "node/model.hpp"
#include "node/staleness.hpp"
#include "node/synchrony.hpp"
#include "node/wire.hpp"

namespace primgr {

// Sends `GET target` to a peer, and returns at once. Calls `done` with the reply, once, within
// `timeout`, in any thread, perhaps before it returns. Must not throw.
using Http_Get = std::function<void(const Node& peer, const std::string& target, Time timeout,
                                    std::function<void(Http_Reply)> done)>;

// Abandons a question that Http_Get has sent: its `done` is called soon, with status 0. Must not
// block, and must not call `done` itself.
using Http_Drop = std::function<void(const Node& peer, const std::string& target)>;

// How many questions of one kind one peer has answered, and how many failed.
struct Poll_Count {
  std::string peer;
  const char* kind = "";  // "vote", "state", "hand_back" or "standby"
  std::uint64_t replied = 0, failed = 0;
  Time total_time{};  // of all of them together
};

// Asks the peers for their votes and their states, keeps the last answers, and hands votes back. At
// most one question of each kind is under way to each peer, but for those that give_up_votes() has
// abandoned.
//
// Thread-safe. The mutex guards all members below it. Replies arrive in threads of Http_Get, which
// store them under the mutex and wake the refresher. Nothing under it blocks, and no other mutex is
// taken. So Repmgr_Node's may be held while it is taken.
class Peers {
 public:
  enum class Kind { vote, state, hand_back, standby };

  // `wake` is called after each reply, with the mutex held; it must not block.
  Peers(Http_Get get, Http_Drop drop, Clock clock, Time timeout, std::function<void()> wake);
  // Waits for the questions under way.
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  // Sends a question to `peer`, unless one of that kind is under way or was sent less than
  // `interval` ago. Does not wait for the reply.
  void ask(Kind kind, const Node& peer, const std::string& target, Time interval);
  // Abandons the question of that kind that is under way.
  void drop(Kind kind, const Node& peer) const;
  // When ask() will send again; Time::max() while a question is under way.
  Time due(Kind kind, const std::string& peer, Time interval) const;
  // When the question for a vote that is under way was sent; none if there is none.
  std::optional<Time> vote_awaited_since(const std::string& peer) const;

  // Whether the peer has answered, or failed, at least once; for votes, since forget_answers().
  bool answered(Kind kind, const std::string& peer) const;
  // For votes, answered() is false again for all peers: this node is no candidate.
  void forget_answers();
  // Forgets all about peers that are not in `nodes`.
  void keep_only(const std::vector<Node>& nodes);
  // Makes all votes older by `missed`, which the clock did not count, and has them asked for again
  // at once.
  void age_votes(Time missed);
  // Has votes asked for again at once.
  void hurry();

  // The token that the peer gave with its last vote; empty: none.
  std::string token(const std::string& peer) const;
  // Whether a peer has given a token that was not given up.
  bool holds_tokens() const;
  // Drops all votes and tokens. Replies to questions that were sent before are ignored. From then
  // on to_hand_back() returns the tokens.
  void give_up_votes();
  // The tokens of the promises that have yet to be handed back, by peer.
  std::map<std::string, std::string> to_hand_back() const;

  // The last vote of each peer that was asked for one; without a name if it never gave one.
  Votes votes() const;
  // The state by the peer's last reply to /state; Unknown if there was none, or it failed.
  State state(const std::string& peer) const;
  // That reply, and when it was asked for; none if the last question had no reply.
  std::optional<std::pair<State_Report, Time>> reported(const std::string& peer) const;
  // The last time, by this node's clock, in which the peer is known to have been bound by no
  // promise, if its database listed the voters with that digest() then.
  std::optional<Interval> unbound(const std::string& peer, const std::string& list) const;
  // Whether the last two questions for its state were both sent at `since` or later, and had no
  // reply.
  bool silent_since(const std::string& peer, Time since) const;
  // What the peer told last of this node as its standby, and when it was asked for that. After a
  // question that had no reply, this is still that of the one before, but for `why`.
  std::pair<Sync_Report, Time> sync_report(const std::string& peer) const;
  std::vector<Poll_Count> counts() const;

 private:
  // The questions of one kind to one peer.
  struct Poll {
    std::optional<Time> asked_at;
    std::uint64_t under_way = 0;  // the number of the question; 0: none is
    std::string target;           // of the last question
    bool answered = false;
    std::uint64_t replied = 0, failed = 0;
    Time total_time{};
  };
  // A question as its reply finds it. The number tells whether the Poll still waits for it: the
  // peer may have been unregistered and registered again meanwhile.
  struct Question {
    Kind kind;
    std::string peer;
    std::uint64_t number;
    Time asked_at;
    Time missed_before;  // missed_ when it was sent
  };
  struct Peer {
    Poll polls[4];  // by Kind
    // The last reply to /state, and when it was asked for; none if the last question had none.
    std::optional<std::pair<State_Report, Time>> reported;
    std::optional<Interval> unbound;
    std::string unbound_list;  // State_Report::list, of that
    // When the last two questions of that kind were sent, if they had no reply.
    std::optional<Time> silent_before, silent;
    std::pair<Sync_Report, Time> sync{{"", {}, "it is asked only now"}, {}};  // see sync_report()
    Time bound_until{};  // the voter is bound to another, or was known to be, until then
    // A promise, by its token, and when it is over at the latest.
    struct Held {
      std::string token;
      Time until{};
    } held, to_hand_back;
    Poll& poll(Kind kind) { return polls[static_cast<int>(kind)]; }
    const Poll& poll(Kind kind) const { return polls[static_cast<int>(kind)]; }
  };

  // These REQUIRE mutex_.
  // Null if the peer was never asked anything.
  const Peer* find(const std::string& peer) const;
  // When the next question may be sent.
  Time next(Kind kind, const Peer& peer, Time interval) const;
  void ask_votes_again();
  void handle_reply(const Question& question, const Http_Reply& reply);
  void handle_state_report(const Question& question, const Http_Reply& reply, Peer& peer) const;
  static void handle_sync_report(const Http_Reply& reply, Time asked_at, Peer& peer);
  void handle_vote_reply(const Question& question, Peer& peer, const Http_Reply& reply);

  const Http_Get get_;
  const Http_Drop drop_;
  const Clock clock_;
  const Time timeout_;
  const std::function<void()> wake_;
  mutable std::mutex mutex_;
  std::map<std::string, Peer> peers_;  // by name as in repmgr.nodes
  Votes votes_;
  Time missed_{};              // all time that the clock did not count
  std::uint64_t asked_ = 0;    // questions so far, which numbers them
  std::size_t under_way_ = 0;  // questions; the destructor waits for them
  std::condition_variable none_under_way_;
};

}  // namespace primgr
