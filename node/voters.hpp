// Which lists of voters count, while repmgr.nodes changes. Pure functions of their arguments: no
// I/O, no state. Thread-safe. They throw std::bad_alloc only.
//
// A majority of the voters that a node reads in its own copy of repmgr.nodes proves nothing if that
// copy was changed on one side of a cut network only. So a candidate needs a majority of each list
// that may still count elsewhere, too: the list that was confirmed last, and those that it received
// since then. It confirms the list that it reads when it is Primary, and a majority of each of the
// other lists has voted for it *under* that list: with that list in their own databases.
//
// Why there are never two primaries, though lists change. Let P be Primary by list L alone. Before
// that, somebody confirmed L: a majority M of each list that counted before had L in its databases.
// Let A be a candidate at the same time.
//   - A reads L, or has received it. Then it needs a majority of L, and that shares a voter with
//   P's.
//   - A has never had L in its database. Then it counts a list from before L, and needs a majority
//   of
//     that, and so the vote of a node of M. That node's database has L. It names A only if it
//     follows A, whose database lacks L; so it was rewound, or made anew, by hand.
//   - A had L, and has confirmed a later list: then P and A change roles in this argument.
// What is read in recovery was written by another node, which may have confirmed it. So all lists
// that were received count until the Primary tells, with each question for a vote, which of them
// is confirmed. What a candidate itself changes and changes back was confirmed by nobody, so only
// the list that it reads now counts: a slip is mended by undoing it.
//
// What is left out, for the sake of a healthy primary:
//   - a change of the list is thrown away by a rewind while the node that confirmed it lives;
//   - a node that knows of no list yet takes the one that it reads;
//   - a site in which no node is Primary takes the list that the Primary of another site has;
//   - a list counts as known to a voter that lags for longer than max_lag;
//   - a voter or a Primary of an earlier version does not tell: it counts as agreeing;
//   - a node_id that is given to another node names the same voter;
//   - an operator declares voters lost (Lost_Voter) that live.

#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "node/model.hpp"

namespace primgr {

struct Tally;

using Voter_List = std::vector<Node>;  // in the order of node_id

// A voter that the operator has declared lost for good.
struct Lost_Voter {
  Node node;
  std::string since;  // when, for people to read
  // It is left out of every list. False once a list was confirmed after it was lost; from then on
  // it is remembered only so that it is told if it lives.
  bool left_out = true;

  bool operator==(const Lost_Voter&) const = default;
};

// That voters are lost for good.
struct Lost_Declaration {
  std::vector<std::string> names;
  std::string since;  // when the operator said so, for people; empty: nothing was said

  bool operator==(const Lost_Declaration&) const = default;
};

// What a node knows of lists besides the one that it reads now.
struct Voter_Lists {
  Voter_List confirmed;              // empty: none is known
  std::vector<Voter_List> received;  // read since then in recovery, in this order
  // The digest of the list that the Primary told last; empty: none. Not kept over a restart.
  std::string told;
  std::vector<Lost_Voter> lost;
  // Why it is not known what counted before this process started, though something did, and what to
  // do; empty: it is known. Until a Primary tells, the node is not Primary by the list that it
  // reads: that may be what one side of a cut made of it.
  std::string unreadable;

  bool operator==(const Voter_Lists&) const = default;
};

// Whether they are the same voters: node_id and name.
bool same_voters(const Voter_List& a, const Voter_List& b);

// 16 hexadecimal digits that are equal for the same voters, and for others as good as never.
std::string digest(const Voter_List& voters);

// After the node has read `read` in its own database. The first list ever that it reads in recovery
// counts as confirmed.
Voter_Lists after_reading(Voter_Lists lists, const Voter_List& read, bool in_recovery);

// After the Primary that the node's own database names has told the digest of its confirmed list;
// empty: it is not Primary.
Voter_Lists after_hearing(Voter_Lists lists, std::string_view told);

// After `read` was confirmed.
Voter_Lists after_confirming(Voter_Lists lists, const Voter_List& read);

// The lists of which a candidate needs a majority each: `read` first, then those that counted
// before it, without repetitions. A voter that `read` has under another name has that name in all
// of them. `with_lost`: also voters that were declared lost.
std::vector<Voter_List> required_lists(const Voter_Lists& lists, const Voter_List& read,
                                       bool with_lost = false);

// All voters of the first list, and those that only others have, each once.
Voter_List all_of(const std::vector<Voter_List>& lists);

// All voters of the lists that it knows besides the one that it reads, lost ones too.
Voter_List known_voters(const Voter_Lists& lists);

// For how long a voter's database may lack a list that it votes under.
constexpr Time max_lag = std::chrono::minutes(5);

// Whether `read` is not the confirmed list, or not alone.
bool is_unconfirmed(const Voter_Lists& lists, const Voter_List& read);

// Whether a Primary may confirm `read`, which is unchanged since `read_since`: a majority of each
// of the required lists votes for it under that list, and no lost voter is in it.
bool may_confirm(const Voter_Lists& lists, const Voter_List& read, const Tally& tally,
                 Time read_since);

// "n1, n2, n3".
std::string names_of(const Voter_List& voters);

}  // namespace primgr
