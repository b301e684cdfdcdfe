// What a node knows of the other nodes: the questions to them that are under way, and their last
// answers.

#pragma once

#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node/peers/wire.hpp"
#include "node/rules/model.hpp"
#include "node/rules/staleness.hpp"

namespace primgr {

enum class Question_Kind { vote, state, hand_back, standby, lists };

inline constexpr Question_Kind all_question_kinds[] = {
    Question_Kind::vote, Question_Kind::state, Question_Kind::hand_back, Question_Kind::standby,
    Question_Kind::lists};

// A question that is to be sent: `GET target`.
struct Question {
  Question_Kind kind{};
  Node peer;
  std::string target;
  std::uint64_t number = 0;  // its reply has the same number
};

// A question whose answer is not needed any more.
struct Dropped_Question {
  Node peer;
  std::string target;
};

// The question that a reply belongs to, and whether the reply is valid. REQUIRES: the name outlives
// it.
struct Replied {
  std::string_view peer;
  std::uint64_t number = 0;
  bool answered = false;  // false: there is no reply, or no valid one
  bool alive = false;     // there is no valid reply, but something answers there
};

// A voter's answer.
struct Vote_Answer {
  Time sent_at{};  // when the question was sent, by this node's clock
  std::optional<std::string> named;
  std::string why;  // why it named none
  Promise_Terms terms;
  std::optional<lists::Reply> lists;  // none: an older version, or no reply
};

// The present name of the node that had this name.
const std::string& renamed_to(const std::map<std::string, std::string>& renamed,
                              const std::string& name);

// The questions to the peers, and their last answers. At most one question of each kind is under
// way to each peer, except for those that give_up_votes() has abandoned.
//
// A value without a clock. Not thread-safe. Throws std::bad_alloc only. After that,
// forget_questions() forgets the questions of the call that failed.
class Polls {
 public:
  using Kind = Question_Kind;

  // Adds a question to `peer` to `questions`, unless one of that kind is under way or was sent less
  // than `interval` ago.
  void ask(Kind kind, const Node& peer, const std::string& target, Time interval, Time now,
           std::vector<Question>& questions);
  // The number of the last question; zero: there was none.
  std::uint64_t last_number() const { return asked_; }
  // The questions with this number and later ones were not sent.
  void forget_questions(std::uint64_t from) noexcept;
  // The question of that kind that is under way; none: there is none.
  std::optional<Dropped_Question> under_way(Kind kind, const Node& peer) const;
  // When ask() will send again; Time::max() while a question is under way.
  Time due(Kind kind, const std::string& peer, Time interval, Time now) const;
  // When the question for a vote that is under way was sent; none if there is none.
  std::optional<Time> vote_awaited_since(const std::string& peer) const;

  // Stores a reply. Returns false if its question is not under way any more: the peer may have been
  // unregistered, and registered again meanwhile. The question first counts as answered, so that
  // std::bad_alloc loses only the content of the reply.
  bool replied(Kind kind, const Replied& to);
  bool replied(const Replied& to, const Vote_Answer& answer, Time now);
  bool replied(const Replied& to, const State_Report& report, Time now);
  bool replied(const Replied& to, const Sync_Report& report);

  // Whether the peer has answered, or failed, at least once; for votes, since forget_answers().
  bool answered(Kind kind, const std::string& peer) const;
  // For votes, answered() is false again for all peers: this node is no candidate.
  void forget_answers();
  // Forgets everything about peers that are not in `nodes`.
  void keep_only(const std::vector<Node>& nodes);
  // Changes the names of nodes: each key, the old name in repmgr.nodes, becomes its value.
  void rename(const std::map<std::string, std::string>& renamed);
  // Makes all votes older by `missed`, which the clock did not count, and makes them due to be
  // asked for again at once.
  void age(Time missed);
  // Makes votes due to be asked for again at once.
  void hurry();

  // The token that the peer gave with its last vote; empty: none.
  std::string token(const std::string& peer) const;
  // Whether a peer has given a token that was not given up yet.
  bool holds_tokens() const;
  // Drops all votes. Replies to questions that were sent before are ignored.
  void forget_votes();
  // The same as forget_votes(), for all peers or one. Also drops the tokens: from then on
  // to_hand_back() returns them.
  void give_up_votes();
  void give_up_vote(const std::string& peer);
  // The tokens of the promises that still have to be handed back, by peer.
  std::map<std::string, std::string> to_hand_back(Time now) const;

  // The last vote of each peer that was asked for one; its name is empty if the peer never gave
  // one.
  const Votes& votes() const { return votes_; }
  // The state by the peer's last reply to /state; Unknown if there was none, or it failed.
  State state(const std::string& peer) const;
  // The peer's last reply to /state, and when it was requested; none if the last question had no
  // reply.
  std::optional<std::pair<State_Report, Time>> reported(const std::string& peer) const;
  // The last interval, by this node's clock, in which the peer is known to have been bound by no
  // promise. None unless it held the lists of voters with that digest then, see State_Report.
  std::optional<Interval> unbound(const std::string& peer, const std::string& list) const;
  // Whether something answered, in any way, a question for its state that was sent at `since` or
  // later.
  bool alive_since(const std::string& peer, Time since) const;
  // Whether the last two questions for its state were both sent at `since` or later, and nothing
  // answered.
  bool silent_since(const std::string& peer, Time since) const;
  // The peer's last report about this node as its standby, and when it was requested. After a
  // question without a reply, this is still the report before, with a new `why`.
  std::pair<Sync_Report, Time> sync_report(const std::string& peer) const;
  // Whether that peer was asked anything since it is known.
  bool knows(const std::string& peer) const { return find(peer) != nullptr; }

  bool operator==(const Polls&) const = default;

 private:
  // The questions of one kind to one peer.
  struct Poll {
    std::optional<Time> asked_at;
    std::uint64_t under_way = 0;  // the number of the question; 0: none is
    Time missed_before{};         // missed_ when it was sent
    std::string target;           // of the last question
    bool answered = false;

    bool operator==(const Poll&) const = default;
  };
  // A promise, by its token, and the latest time at which it ends.
  struct Held {
    std::string token;
    Time until{};

    bool operator==(const Held&) const = default;
  };
  struct Peer {
    Poll polls[std::size(all_question_kinds)];  // by Kind
    // The last reply to /state, and when it was requested; none if the last question had no reply.
    std::optional<std::pair<State_Report, Time>> reported;
    std::optional<Interval> unbound;
    std::string unbound_list;  // the State_Report::list of that report
    // When the last two questions for the state were sent, if nothing answered; and when the last
    // question for the state that something answered was sent.
    std::optional<Time> silent_before, silent, alive;
    std::pair<Sync_Report, Time> sync{{"", {}, "it is asked only now"}, {}};  // see sync_report()
    Time bound_until{};  // until when the voter is, or was known to be, bound to another node
    Held held, to_hand_back;

    Poll& poll(Kind kind) { return polls[static_cast<int>(kind)]; }
    const Poll& poll(Kind kind) const { return polls[static_cast<int>(kind)]; }
    bool operator==(const Peer&) const = default;
  };

  void forget_vote(const std::string& peer);
  // Null if the peer was never asked anything.
  const Peer* find(std::string_view peer) const;
  // When the next question may be sent.
  static Time next(Kind kind, const Peer& peer, Time interval);
  // The peer whose question of that kind was answered; null if replied() has to return false.
  Peer* answered_by(Kind kind, const Replied& to);
  // The time that the clock did not count since a question was sent.
  Time missed_since(const Poll& poll) const { return missed_ - poll.missed_before; }

  std::map<std::string, Peer, std::less<>> peers_;  // by name as in repmgr.nodes
  Votes votes_;
  Time missed_{};            // all time that the clock did not count
  std::uint64_t asked_ = 0;  // the number of questions so far, and of the last one
};

}  // namespace primgr
