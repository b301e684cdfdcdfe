// A node of the search over step(): a Core, what it has on its disk, what its database says and its
// clock; and what can happen to it, in the order of events that Repmgr_Node has
// (node/core/core.hpp). Questions and answers are the texts of node/peers/wire.hpp.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node/core/core.hpp"

namespace primgr::prove {

// Which rule is left out. It is left out where the core meets the outside, so that production has
// no switch for it.
enum class Left_Out {
  nothing,
  silence,               // after a start, a voter that does not know its promises votes at once
  promise_kept,          // a promise does not survive a restart
  promise_stored,        // a vote is given though its promise could not be stored
  counted_from_arrival,  // a vote counts from the arrival of the reply
  grants,                // a voter promises nothing
  own_promise,           // a node votes for itself though it is promised to another
  lease_told,            // a voter does not tell for how long it promises
  check_delay,           // a vote expires when its promise does
  hand_back_delay,       // votes are handed back at once
  votes_dropped,         // who hands votes back goes on counting them
  old_reply,             // a reply to an earlier question counts
  token,                 // any hand-back ends the promise
  kept_promise,          // what was promised under another token ends with it
  token_shown,           // a voter goes on with the token of a promise that was not shown
  expiry,                // a Primary goes on until its next decision
  clock_stop,            // a clock that stood still is not noticed
  clock_rate,            // clocks tick 30 % apart
  lists_kept,            // lists do not survive a restart
  lists_at_once,         // what a database lists counts at once
  lists_compared,        // a voter votes whatever its list is
  pending_reported,      // a voter does not report its pending list
  acknowledged_heard,    // a voter acknowledges what it has not heard
  lists_stored,          // a list stands though it could not be stored
  reign_gap,             // a gap in the reign is not noticed
  former_voters,         // a node that comes to another site needs its voters there only
  nobody_primary,        // nobody who answers is Primary: so there is none
  unbound,               // all say that they are bound by no promise
};

// How a store ends.
enum class Store : std::uint8_t { works, fails, fails_written };

// What a database says.
struct Database_State {
  bool up = true, in_recovery = true;
  int names = 0;  // node_id; 0: none
  // Which nodes it lists: bit 0 is n1; and which it lists in the site "t", not "s": bit 4 is n1.
  std::uint8_t rows = 0;
  std::uint8_t position = 0, timeline = 0;  // of the WAL that it has

  bool operator==(const Database_State&) const = default;
};

// What is the same for all nodes of a scope.
struct Host_Settings {
  int nodes = 3;
  Left_Out left_out = Left_Out::nothing;
  // A database names whomever this node is asked to vote for; it may say anything at any time.
  bool any_database = true;
  bool lists = false;  // lists of voters are fetched, and may change
  bool reads = false;  // staleness matters
};

// A question that is under way.
struct Sent {
  Question_Kind kind{};
  int to = 0;  // from 0
  std::string target;
};

class Host {
 public:
  // A node that knows that it promised nothing, and that list of voters.
  Host(const Host_Settings& settings, Core_Settings core, const lists::List& list, bool has_file,
       Database_State database);

  // -- What happens. Each returns with was_primary and is_primary set.

  // The first half of a turn: it looks at its database, votes for itself and asks for votes.
  void begin_turn(const std::string& fresh, Store store);
  // It asks for states and lists.
  void ask_others();
  // It decides, on lists, too, and hands votes back.
  void decide(Store store);
  // Another node asks. `fresh`: the token of a new promise.
  Http_Reply serve(const std::string& target, const std::string& fresh, Store store);
  // The answer to the question of that kind to `peer`, if `current`; else to an earlier one.
  void take(Question_Kind kind, int peer, bool current, const Http_Reply& reply);
  // The process ends and starts.
  void restart();
  void look(const Database_State& database);
  // Time passes, by its clock; or its machine is stopped, and its clock with it.
  void pass(Time counted);
  void stand_still(Time time);
  // The operator takes another node for lost.
  void declare_lost(int other);

  // -- What is asked since the last call.
  std::vector<Sent> take_questions();
  // The number of the question of that kind that is under way; 0: none is.
  std::uint64_t under_way(Question_Kind kind, int peer) const;

  bool is_primary() const;
  // For how long it stays Primary without a step, by its clock. REQUIRES: is_primary().
  Time primary_for() const;
  // Whether that one may be Primary beside this one: it is in another site, and no list of either
  // has both.
  bool is_apart(const Host& other) const;
  // Whether /replica?delay=… is 200.
  bool serves_reads(Time delay) const;

  static std::string name(int node) { return "n" + std::to_string(node + 1); }

  const Host_Settings* settings;
  int self = 0;
  Core core;
  Time now{};
  Time missed{};  // what its clock did not count, since the last Clock_Missed
  Database_State database;
  bool has_file = true;
  std::optional<Grant> kept;  // what the file has
  Voter_Lists lists;          // what the state_directory has
  // For Left_Out::old_reply: how each node granted its last vote.
  std::string reports[4];
  bool was_primary = false;  // at some moment since this was set to false
  std::vector<Sent> asked;

 private:
  Effects run(const Event& event);
  // With the store, as Repmgr_Node::in_turn() has it.
  Effects in_turn(const Event& event, Store store);
  void read_database(const Database_State& says);
  void first_look();
  Http_Reply serve_vote(const std::string& target, const std::string& fresh, Store store);
  Time missed_now() const;
  void send(const Effects& effects);
};

}  // namespace primgr::prove
