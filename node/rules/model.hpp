// What is known about a node and its cluster, as plain values: the results of the database,
// promises, votes and decisions.

#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/size.hpp"
#include "base/time.hpp"

namespace primgr {

// What a node is right now. The numbers are the exit statuses of `primgr --once state`.
enum class State { primary = 0, standby = 1, unknown = 2, down = 3 };

inline constexpr State all_states[] = {State::primary, State::standby, State::unknown, State::down};

// "Primary", "Standby", "Unknown" or "Down": the words of the HTTP contract.
const char* to_string(State state);
// The state with that name; none if there is no such state.
std::optional<State> parse_state(std::string_view word);

// One row of repmgr.nodes.
struct Node {
  int id = 0;
  std::string name;
  std::string site;  // column "location"
  std::string type;  // "primary", "standby" or "witness"
  bool active = false;
  std::string host;           // the host in its conninfo, see conninfo_host(); empty: none
  std::string hostaddr = {};  // the address to connect to instead; empty: that of `host`

  bool operator==(const Node&) const = default;
};

// Compares node names: case does not matter, and '_' equals '-'.
bool names_equal(std::string_view a, std::string_view b);

// A node name written as a host name: in lower case, '-' for '_'. It is names_equal() to the name.
std::string host_name(std::string_view name);

// The one row that is the active primary; null if there is none or more than one.
const Node* named_primary(const std::vector<Node>& nodes);

// The one row with that name; null if there is none, or if several names are equal to it.
const Node* find_node(const std::vector<Node>& nodes, std::string_view name);

// A standby that streams from the local server: a row of pg_stat_replication.
struct Attached_Standby {
  std::string name, address, state, sync;
  std::optional<Lsn> replayed;
  std::optional<Time> lag;  // replay_lag; also none if it is idle and has replayed everything

  bool operator==(const Attached_Standby&) const = default;
};

// The state of replication to and from the local server. What does not apply is none or empty.
struct Replication {
  Time asked_at{};      // when it was queried, successfully or not
  bool known = false;   // it could be read
  std::string problem;  // why it could not be read
  // the end of the WAL that was written; in recovery: of the WAL that was replayed
  std::optional<Lsn> position;
  std::optional<int> timeline;
  std::string server_started;              // when the server started, as the server prints it
  std::vector<Attached_Standby> standbys;  // by name
  // When they were queried. This is earlier than asked_at while they are being queried anew.
  Time standbys_asked_at{};
  // The rest is set in recovery only. status, from and sender_lsn are shown to members of
  // pg_read_all_stats only.
  bool receiving = false;            // there is a WAL receiver
  std::string status;                // of the WAL receiver: "streaming", …
  std::string from;                  // the host of its sender
  std::optional<Lsn> sender_lsn;     // the last position that its sender reported (latest_end_lsn)
  std::optional<Lsn> received;       // flushed by the WAL receiver
  std::optional<Time> since_commit;  // since the last transaction replayed, by the primary's clock
  bool paused = false;

  // The end of the WAL, as far as this standby knows. REQUIRES: sender_lsn.
  Lsn end() const { return std::max(*sender_lsn, received.value_or(0)); }

  bool operator==(const Replication&) const = default;
};

// On which timeline of its cluster's WAL a Primary was.
struct Primary_Timeline {
  std::uint64_t system = 0;  // the cluster's system identifier; 0: not known
  int number = 0;            // 0: there was none
  int node = 0;              // the node_id of that Primary

  bool operator==(const Primary_Timeline&) const = default;
};

// The result of one query of the local database.
struct Facts {
  Time asked_at{};         // when the query began
  bool reachable = false;  // it answered; if not, only `problem` below means anything
  // If it is not reachable: nothing listens there, or the server is starting or stopping. Then it
  // costs the server nothing to be queried again soon.
  bool gone = false;
  bool in_recovery = false;  // pg_is_in_recovery()
  bool superuser = false;    // primgr's role is one
  std::uint64_t system = 0;  // the system identifier; 0: it could not be read
  bool nodes_known = false;  // repmgr.nodes was read
  std::vector<Node> nodes;   // its rows, by node_id
  // when they were queried; before asked_at if the query is blocked now
  Time nodes_read_at{};
  std::string blocked;         // why there is no newer list; empty: it is not blocked
  bool nodes_pending = false;  // not read yet, but being queried
  std::string problem;         // why it was not reachable, or why repmgr.nodes could not be read
  Replication replication;

  bool operator==(const Facts&) const = default;
};

// A voter's promise, on its own clock, to vote for no other node before `until`. With an empty
// name, the voter votes for no node until then: it has just started, and does not know what it
// promised before.
struct Grant {
  std::string to;
  Time until{};
  // a node that shows it ends the promise, see hand_back(); empty: nobody can
  std::string token = {};
  Time kept_until{};  // promises to `to` under other tokens last until then, even if this one ends

  bool operator==(const Grant&) const = default;
};

// The node to which a voter had promised its vote before.
struct Predecessor {
  std::string name;
  Time last_200{};           // when it answered 200 for the last time, at the latest
  bool handed_back = false;  // it handed the vote back; false: the promise expired

  bool operator==(const Predecessor&) const = default;
};

// A voter's last answer to a candidate.
struct Vote {
  Time sent_at{};     // when the question was sent; the promise was given later
  std::string names;  // the node that the voter named; empty: none
  std::string why;    // why it named none, or the last question failed
  // how long the promise lasts, by the voter's reply; max(): it sent none
  Time lease = Time::max();
  std::optional<Predecessor> before = {};  // as sent with this vote
  Time bound_until{};    // the latest known end of its promise to another node, if any
  bool answers = false;  // the last question had an answer, of any kind

  bool operator==(const Vote&) const = default;
};

// How long votes are promised, and how long a node may be used after its last 200: the settings
// vote_lease and check_delay.
struct Lease {
  Time vote_lease{}, check_delay{};

  bool operator==(const Lease&) const = default;
};
using Votes = std::map<std::string, Vote>;  // by the voter's name as in repmgr.nodes

// A voter as it is shown to users (/node, the log).
struct Voter {
  std::string name;
  bool self = false;
  bool counts = false;            // it votes for the candidate
  bool silent = false;            // nothing answered the last question, see is_silence()
  std::string names;              // the node it voted for; empty: no vote, or it has expired
  std::string why;                // why `names` is empty
  std::optional<Time> age, left;  // of the vote: since it was asked for, until it expires
};

// A decision, and how long it is valid.
struct Decision {
  State state = State::down;
  Time until = Time::max();  // after that a Primary becomes Unknown, as too few votes are left
  std::string reason;        // for people to read; the same text for the same cause

  bool operator==(const Decision&) const = default;
};

// Returns the IP addresses of a host name, best first; empty if there is none or `timeout` is over.
// For an IP address, returns that. Must be thread-safe.
using Resolve = std::function<std::vector<std::string>(const std::string& host, Time timeout)>;

}  // namespace primgr
