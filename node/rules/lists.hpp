// Which lists of voters count while the list changes, and which node holds which list. Pure
// functions of their arguments: no clock, I/O or state. Thread-safe. They throw std::bad_alloc
// only.
//
// A list has a number (round, maker, count). Voters hold lists. The list in a node's database is
// only a wish. The method is reconfiguration as in Raft: two majorities are needed while a list is
// exchanged. It uses the first phase of Paxos: a majority notes a round before a list is made under
// it. The leader is the node that holds a lease, which is the unexpired votes of a majority.
//
// Why there are never two primaries:
//
// A vote names one node for as long as it counts. So two nodes that both have a majority of one
// list are the same node. Therefore everything depends on which lists a candidate counts. Let C be
// a current list, and P a list that was made after C.
//
// 1. Each voter that votes has C as its current or its pending list (answer()). So a candidate with
//    an older list gets no votes. It learns the newer list first.
// 2. P counts for nodes other than its maker from the first acknowledgement on. P becomes current
//    when majorities of C and of P have stored it, and vote for its maker at that moment. Any later
//    candidate by C has a vote of a voter of C that holds P, or a higher list, and that voter
//    reports it. The candidate then needs a majority of P, too. That is why pending lists are
//    reported and counted.
// 3. Of several pending lists only the highest counts. So a higher list must take up what a lower
//    list may have become:
//    a) Before P is made, a majority of C has noted its round.
//    b) A node that reigns later learns of a round that is at least as high, and uses a higher one.
//    c) A node that reigned earlier can confirm nothing any more. Its reign has ended, since a
//       majority has voted for another node.
//    d) So of any two lists, the higher was made by the node that reigned later. If the lower list
//       could have become current, that node has received it in a report. It has then made the list
//       again, with the same members, under its own number.
// 4. So a found list is carried on first, and under the candidate's own number. Under its old
//    number it would lose to a list that is higher and was never confirmed.
// 5. A maker can replace its own list of the same reign by one with a higher count. Only the maker
//    makes that list current, so it knows that it has not done so. The exception is a list that
//    carries a found one: the found list may be current elsewhere.
// 6. A gap in the reign ends all of that knowledge: another node may have reigned in the gap.
// 7. What was found is fixed when the reign begins. Until the reign ends no other node can confirm
//    a list, since that takes votes that are promised to this node. What is reported later is
//    ignored: otherwise it would take a healthy primary out. Only a round that is reported later
//    matters: the node must choose a higher one.
// 8. A node sends nothing that rests on a store that may have failed. A voter that forgets what it
//    acknowledged is like a voter that was never asked. The same holds for a node that confirms a
//    list.
//
// A list's number is never a reason to refuse a vote, and a maker does not count its own list
// before it is current. So a healthy primary stays Primary while new nodes are not up.
//
// A question alone changes nothing that lasts, as anybody may ask in any node's name. It only shows
// that there is something to fetch from the candidate's own address, see fetched().
//
// These cases are not covered:
// - A voter has lost its disk, unless it finds a Primary, or a cluster that has never changed its
//   list.
// - Nodes know no list, and their databases list different ones.
// - An operator declares voters lost that are alive, or does so on a node that does not know the
//   newest lists.

#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace primgr::lists {

// node_ids, ascending.
using Members = std::vector<int>;

// The most members that a list may have.
inline constexpr std::size_t most_members = 100;
// The highest number of a round that is accepted from outside.
inline constexpr std::uint64_t highest_round = 1'000'000'000'000'000;

// An attempt of a node to reign. No two nodes use the same round. Zero: none.
struct Round {
  std::uint64_t number = 0;
  int maker = 0;  // node_id; 0: no maker, as for a list that was read and not made

  auto operator<=>(const Round&) const = default;
};

// The number of a list. Zero: no list.
struct Number {
  Round round;
  std::uint32_t count = 0;

  auto operator<=>(const Number&) const = default;
  explicit operator bool() const { return round.number != 0; }
};

struct List {
  Number number;
  bool carries = false;  // it was made to carry on a found list
  Members members;       // empty, with a number: the members are not known here

  bool operator==(const List&) const = default;
};

// The nodes that a list is for: a site, or the whole cluster. Lists of different scopes are
// independent of each other.
struct Scope {
  std::optional<std::string> site = {};  // none: the whole cluster
  // The cluster's system identifier: another cluster on the same hosts has another. 0: not known.
  std::uint64_t system = 0;

  bool operator==(const Scope&) const = default;
};

// What is stored.
struct Held {
  Scope scope;
  List current, pending;  // a pending one is newer than the current one
  Round noted;            // the highest round that it has noted
  // The node does not vote until a Primary sends it its lists. It knew no list, and fetched one
  // that has it as a member from a node that is no Primary. So it may have lost its disk, and with
  // it what it acknowledged. Also set if saved lists cannot be read.
  bool mute = false;

  bool operator==(const Held&) const = default;
};

// The highest of the noted round and the rounds of the lists that are held.
Round noted(const Held& held);

// What a voter's reply says of lists.
struct Report {
  bool noted = false;         // it has noted the candidate's present round
  bool acknowledged = false;  // it has stored the list that the candidate has made
  Number held;                // its pending list; none while the candidate reigns

  bool operator==(const Report&) const = default;
};

// A candidate's knowledge. It is not stored. It begins anew whenever this node is no candidate.
struct Candidate {
  std::uint64_t round = 0;  // 0: none is chosen yet
  bool reigns = false;      // it has had a majority of each list that counts, without a gap
  bool made = false;        // it has made the pending list in this reign
  bool heard = false;       // a voter reported a newer list while this node knew none
  // During a reign: the pending list that counts, as it was at the start of the reign. Before the
  // reign: the highest pending list that was fetched from a node that reported it.
  List found;
  std::map<int, Report> reports;  // for each voter whose vote is unexpired

  bool operator==(const Candidate&) const = default;
};

// The state of a node in one scope. The node need not be a voter of the scope: the cluster's
// Primary also makes the lists of other sites.
//
// The functions below that return a Participant decide: they return the state after an event. If
// `held` has changed, the new state has to be stored, and the old state is in effect until it is.
// If it cannot be stored, the old state remains, and all of it is stored again before the node
// sends any of it, as a failed write may still have reached the disk. Between a decision and the
// end of its store, no other decision is made.
//
// `votes`: the node_ids of the voters whose votes for this node are unexpired at that moment.
struct Participant {
  int id = 0;
  Held held;
  Candidate candidate;

  bool operator==(const Participant&) const = default;
};

// What a candidate asks. It has numbers only, so it is short even if there are many voters.
struct Question {
  int candidate = 0;
  Number current;
  std::uint64_t round = 0;
  Number pending;  // made in this reign

  bool operator==(const Question&) const = default;
};

struct Reply {
  Number current;  // of the question
  bool vote = false;
  bool newer = false;  // the voter has a newer current list
  Round noted;
  Number held;          // with a vote: its pending list
  Number acknowledged;  // with a vote: the candidate's pending list, if it has stored that

  bool operator==(const Reply&) const = default;
};

// What a node serves to others at its own address.
struct Served {
  Held held;
  std::uint64_t round = 0;
  bool reigns = false, made = false;

  bool operator==(const Served&) const = default;
};
Served served(const Participant& node);

// ---- the voter

struct Answer {
  Reply reply;
  bool fetch = false;  // the voter should fetch the candidate's lists
};
// The answer to a question, for a voter that would otherwise vote for the candidate. `bound`: the
// voter gives no vote for another reason, such as a promise to another node. If the vote is a
// promise, the promise must be stored before the reply is sent: promise and answer are one
// decision.
Answer answer(const Held& held, const Question& question, bool bound);

// ---- both

// Takes in what was fetched from the node `from`, at its own address. `bound`: this node is
// promised to another node than `from`.
Participant fetched(Participant node, int from, const Served& served, bool bound,
                    const Members& votes);

// ---- the candidate

// Makes the question of the candidate. Chooses a round, if there is none yet.
Question ask(Participant& node);

// The state at a moment at which only `votes` are unexpired. Call it at least each time that a vote
// has expired.
Participant settled(Participant node, const Members& votes);

struct Replied {
  Participant node;
  bool fetch = false;  // the candidate should fetch the voter's lists
};
// The state after a voter's reply. `votes`: without the vote of this reply.
Replied replied(Participant node, int from, const Reply& reply, Members votes);

// The lists of which a candidate needs a majority each, the current one first. Empty: the node
// knows no list, and is not Primary.
std::vector<List> counted(const Participant& node);
// Whether it has these majorities, by the votes that were reported.
bool is_elected(const Participant& node);
// Whether `have` is a majority of `members`.
bool is_majority(const Members& members, const Members& have);

// The nodes to ask: the members of the current, pending and found lists, and of the wished one.
Members to_ask(const Participant& node, const Members& wished);

// Makes a pending list, if it may. If a list was found, it makes that one again. Otherwise it makes
// `wished`, if a majority of `wished` is among `answering`. These are the nodes that answer,
// whether or not they vote for this node.
Participant proposed(Participant node, const Members& wished, const Members& answering,
                     const Members& votes);

// Makes the pending list current, if majorities of the current and of the pending list have
// acknowledged it.
Participant confirmed(Participant node, const Members& votes);

// Makes `read` the first list. It does so only if this node knows no list, a majority of `read`
// votes for it and knows none either, and no voter has reported one. `read`: the list in the
// database, with this node.
Participant started(Participant node, const Members& read, const Members& votes);

// The first list of a cluster, from its members. It has no maker, so equal lists have equal
// numbers.
List first_list(const Members& members);

// Makes a current list without `lost`, which are nodes that are gone for good. Also makes a pending
// list, without them, of the pending list that counts. If all of the current list are lost, and the
// pending list has this node, the pending list becomes the current one. None: no member would be
// left, or the members of a list that counts are not known. Ask all other nodes first: the result
// is only as good as what they have reported.
std::optional<Participant> without(Participant node, const Members& lost);

}  // namespace primgr::lists
