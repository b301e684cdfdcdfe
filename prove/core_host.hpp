// A node of the search over step(): a Core, its disk, its database and its clock. The functions are
// the events that can happen to it, in the order that Repmgr_Node has (node/core/core.hpp).
// Questions and answers are the texts of node/peers/wire.hpp.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node/core/core.hpp"

namespace primgr::prove {

// The rule that is left out. It is left out in this host, around the core, so that production code
// has no switch for it.
enum class Left_Out {
  nothing,
  silence,               // after a start, a voter that does not know its promises votes at once
  promise_kept,          // a promise does not survive a restart
  promise_stored,        // a vote is given though its promise could not be stored
  counted_from_arrival,  // a vote counts from the arrival of the reply
  grants,                // a voter promises nothing
  own_promise,           // a node votes for itself though its promise is to another node
  lease_told,            // a voter does not report how long its promise lasts
  check_delay,           // a vote expires only when its promise does
  hand_back_delay,       // votes are handed back at once
  votes_dropped,         // a node that hands votes back continues to count them
  old_reply,             // a reply to an earlier question counts
  token,                 // any hand-back ends the promise
  kept_promise,          // a promise made under another token ends with it
  token_shown,           // a voter reuses the token of a promise that the candidate did not show
  expiry,                // a Primary stays Primary until its next decision
  clock_stop,            // a stopped clock is not noticed
  clock_rate,            // the speeds of clocks differ by 30 %
  lists_kept,            // lists do not survive a restart
  lists_at_once,         // a list in a database counts at once
  lists_compared,        // a voter votes with any list
  pending_reported,      // a voter does not report its pending list
  acknowledged_heard,    // a voter acknowledges a list that it has not received
  lists_stored,          // a list counts though it could not be stored
  reign_gap,             // a gap in the time as Primary is not noticed
  former_voters,         // a node that moves to another site needs only the voters of that site
  nobody_primary,        // if no node that answers is Primary, there is none
  unbound,               // all voters report that no promise binds them
};

// The result of a store. fails_written: it fails for the caller, but the data is on the disk.
enum class Store : std::uint8_t { works, fails, fails_written };

// The contents of a database.
struct Database_State {
  bool up = true, in_recovery = true;
  int names = 0;  // node_id; 0: none
  // The nodes that it lists: bit 0 is n1. The nodes that it lists in site "t" instead of "s": bit 4
  // is n1.
  std::uint8_t rows = 0;
  std::uint8_t position = 0, timeline = 0;  // of the WAL that it has

  bool operator==(const Database_State&) const = default;
};

// Settings that are the same for all nodes of a scope.
struct Host_Settings {
  int nodes = 3;
  Left_Out left_out = Left_Out::nothing;
  // Each database may change at any time, and names the node that asks for a vote.
  bool any_database = true;
  bool lists = false;  // lists of voters are fetched, and may change
  bool reads = false;  // staleness matters
};

// A question that was sent.
struct Sent {
  Question_Kind kind{};
  int to = 0;  // index of the node, from 0
  std::string target;
};

class Host {
 public:
  // A node that knows that it has promised nothing, and that knows this list of voters.
  Host(const Host_Settings& settings, Core_Settings core, const lists::List& list, bool has_file,
       Database_State database);

  // -- Events. After each, was_primary and is_primary() are up to date.

  // The first half of a turn: the node looks at its database, votes for itself and asks for votes.
  void begin_turn(const std::string& fresh, Store store);
  // The node asks for states and lists.
  void ask_others();
  // The node decides, also on lists, and hands votes back.
  void decide(Store store);
  // Another node asks this node. `fresh`: the token of a new promise.
  Http_Reply serve(const std::string& target, const std::string& fresh, Store store);
  // The node receives an answer from `peer`. If `current`, it is to the current question of that
  // kind, else to an earlier one.
  void take(Question_Kind kind, int peer, bool current, const Http_Reply& reply);
  // The process ends, and starts again.
  void restart();
  void look(const Database_State& database);
  // pass(): time passes by the node's clock. stand_still(): the machine is stopped, and its clock
  // too.
  void pass(Time counted);
  void stand_still(Time time);
  // The operator declares another node lost.
  void declare_lost(int other);

  // -- The questions since the last call.
  std::vector<Sent> take_questions();
  // The number of the current question of that kind. 0: there is none.
  std::uint64_t under_way(Question_Kind kind, int peer) const;

  bool is_primary() const;
  // How long it stays Primary without a step, by its clock. REQUIRES: is_primary().
  Time primary_for() const;
  // Whether `other` may be Primary at the same time. It may if it is in another site,
  // and the current list of neither node contains the other one.
  bool is_apart(const Host& other) const;
  // Whether /replica?delay=… returns 200.
  bool serves_reads(Time delay) const;

  static std::string name(int node) { return "n" + std::to_string(node + 1); }

  const Host_Settings* settings;
  int self = 0;
  Core core;
  Time now{};
  Time missed{};  // time that its clock did not count, since the last Clock_Missed
  Database_State database;
  bool has_file = true;
  std::optional<Grant> kept;  // the contents of the file
  Voter_Lists lists;          // the contents of the state_directory
  // For Left_Out::old_reply: the text of the last granted vote of each node.
  std::string reports[4];
  bool was_primary = false;  // at some moment since this was set to false
  std::vector<Sent> asked;

 private:
  Effects run(const Event& event);
  // Runs an event with the store, as Repmgr_Node::in_turn() does.
  Effects in_turn(const Event& event, Store store);
  void read_database(const Database_State& says);
  void first_look();
  Http_Reply serve_vote(const std::string& target, const std::string& fresh, Store store);
  Time missed_now() const;
  void send(const Effects& effects);
};

}  // namespace primgr::prove
