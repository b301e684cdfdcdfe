// Which lists of voters count while the list changes, and who holds which. Pure functions of their
// arguments: no clock, I/O or state. Thread-safe. They throw std::bad_alloc only.
//
// A list has a number, (round, maker, count), and voters hold lists; what a database lists is a
// wish. This is reconfiguration as in Raft (two majorities while a list is exchanged) with the
// first phase of Paxos (a round that a majority notes before anything is made under it), led by who
// holds a lease: unexpired votes of a majority.
//
// Why there are never two primaries. A vote names one node for as long as it counts, so two with
// majorities of one list are one. Hence all turns on which lists a candidate counts. Let C be a
// current list, P a list that was made after C.
//   - Each voter that votes has C as its current list, or as its pending one (answer()). So who has
//     an older list has no votes; it learns the newer one first.
//   - P counts for others than its maker from the first acknowledgement on. P becomes current when
//     majorities of C and P have stored it, and vote for its maker at that moment. Any later
//     candidate by C has a vote of a voter of C that holds P, or a higher one, and is told so. It
//     then needs a majority of P, too: that is why pending lists are reported and counted.
//   - Of several pending lists only the highest counts, so a higher one must take up what a lower
//     one may have become. Before P is made, a majority of C has noted its round. Who reigns
//     later hears of a round that is as high, and uses a higher one; who reigned earlier can
//     confirm nothing any more, since its reign has ended: a majority has voted for another. So of
//     any two the higher was made by who reigned later, and that one was told of the lower one if
//     that could have become current, and has made it again, with its members, under its own
//     number.
//   - So found lists are carried on first, and under an own number: under its old one it would lose
//     to a list that is higher and was never confirmed.
//   - An own list of the same reign can be replaced, with a higher count: its maker alone makes it
//     current, so it knows that it has not. If it carries a found one, that may be current
//     elsewhere.
//   - A gap in the reign ends all of that knowledge: another may have reigned in it.
//   - What was found is frozen when the reign begins. Until its end nobody else can confirm, since
//     that takes votes that are promised to this one; what is reported later is of no account, and
//     would take a healthy primary out. Only its round must be passed.
//   - What rests on a store that may have failed is not said: a voter that forgets what it
//     acknowledged is a voter that was not asked. The same holds for who confirms.
// A number is never a reason to refuse a vote, and a maker does not count its own list before it is
// current: so a healthy primary stays Primary while new nodes are not up.
//
// A question alone changes nothing that lasts, as anybody may ask in anybody's name. It says that
// there is something to fetch, from the candidate's own address: fetched().
//
// Left out: a voter that has lost its disk, unless it finds a Primary or a cluster that has never
// changed its list; nodes that know no list and whose databases list different ones; an operator
// who declares voters lost that live, or on a node that does not know the newest lists.

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
// The highest round, count and node_id that is taken from outside.
inline constexpr std::uint64_t highest_round = 1'000'000'000'000'000;

// An attempt of a node to reign. No two nodes use the same. Zero: none.
struct Round {
  std::uint64_t number = 0;
  int maker = 0;  // node_id; 0: nobody, of a list that was read and not made

  auto operator<=>(const Round&) const = default;
};

// Zero: of no list.
struct Number {
  Round round;
  std::uint32_t count = 0;

  auto operator<=>(const Number&) const = default;
  explicit operator bool() const { return round.number != 0; }
};

struct List {
  Number number;
  bool carries = false;  // it was made to carry on a found one
  Members members;       // empty with a number: they are not known here

  bool operator==(const List&) const = default;
};

// Whose voters a list has. Lists of different scopes have nothing to do with each other.
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
  Round noted;            // the highest that it has voted along with
  // It knew no list, and has one from who is no Primary and lists it as a voter: it may have lost
  // its disk, and with it what it acknowledged. It does not vote before a Primary tells.
  bool mute = false;

  bool operator==(const Held&) const = default;
};

// The highest round that is noted, or of a list that is held.
Round noted(const Held& held);

// A voter's vote, as far as lists go.
struct Report {
  bool noted = false;         // the candidate's present round
  bool acknowledged = false;  // the list that the candidate has made
  Number held;                // its pending list; none while the candidate reigns

  bool operator==(const Report&) const = default;
};

// A candidate's knowledge. Not stored; begin anew whenever this node is no candidate.
struct Candidate {
  std::uint64_t round = 0;  // 0: none is chosen yet
  bool reigns = false;      // it has had a majority of each list that counts, without a gap
  bool made = false;        // it has made the pending list in this reign
  bool heard = false;       // of a list, while it knew none
  // The pending list that counts, as it was at the begin of the reign. Before that: the highest
  // that was fetched from who reported it.
  List found;
  std::map<int, Report> reports;  // of each voter whose vote is unexpired

  bool operator==(const Candidate&) const = default;
};

// The state of a node in one scope, of which it need not be a voter: the cluster's Primary also
// makes the lists of other sites.
//
// The functions below that return a Participant decide: they return the state after an event. If
// `held` has changed, it is to be stored, and the old state stands until it is; if it cannot be
// stored, the old one stands, and all of it is stored before anything is said again, as a failed
// write may have happened. Between a decision and the end of its store no other decision is taken.
//
// `votes`: the node_ids of those whose votes for this node are unexpired at that moment.
struct Participant {
  int id = 0;
  Held held;
  Candidate candidate;

  bool operator==(const Participant&) const = default;
};

// What a candidate asks: numbers only, so it is short however many voters there are.
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
  bool fetch = false;  // the candidate has something to tell
};
// The answer to a question, for who would vote for the candidate otherwise. `bound`: it is promised
// to another. The promise, if there is one, is to be stored before the reply leaves; promise and
// answer are one decision.
Answer answer(const Held& held, const Question& question, bool bound);

// ---- both

// What was fetched from the node `from`, at its own address. `bound`: this node is promised to
// another than `from`.
Participant fetched(Participant node, int from, const Served& served, bool bound,
                    const Members& votes);

// ---- the candidate

// Chooses a round, if there is none yet.
Question ask(Participant& node);

// The same state at a moment at which only `votes` are unexpired. Call it at least each time that
// one has expired.
Participant settled(Participant node, const Members& votes);

struct Replied {
  Participant node;
  bool fetch = false;  // the voter has something to tell
};
// After a voter's reply. `votes`: without this reply's.
Replied replied(Participant node, int from, const Reply& reply, Members votes);

// The lists of which a candidate needs a majority each, the current one first. Empty: it knows
// none, and is not Primary.
std::vector<List> counted(const Participant& node);
// Whether it has that, by the votes that were reported.
bool is_elected(const Participant& node);
// Whether `have` is a majority of `members`.
bool is_majority(const Members& members, const Members& have);

// The members of each list that matters, and of the one that is wished for: who is to be asked.
Members to_ask(const Participant& node, const Members& wished);

// Makes a pending list, if it may: the one that was found; else `wished`, if a majority of it is
// among those that `answer`, with a vote or without.
Participant proposed(Participant node, const Members& wished, const Members& answering,
                     const Members& votes);

// Makes the pending list current, if it is acknowledged by majorities of both.
Participant confirmed(Participant node, const Members& votes);

// Begins with what is read, if neither this node nor a majority of those knows a list, nor anybody
// who answered. `read`: with this node.
Participant started(Participant node, const Members& read, const Members& votes);

// The first list of a cluster, by its members: made by nobody, so equal ones have equal numbers.
List first_list(const Members& members);

// Makes a current list without `lost`, who are gone for good, and a pending one without them of the
// one that counts; of this one alone if it has this node and all of the current one are lost. None:
// nobody would be left, or a list that counts is not known yet. Ask all others first: this is as
// good as what they have reported.
std::optional<Participant> without(Participant node, const Members& lost);

}  // namespace primgr::lists
