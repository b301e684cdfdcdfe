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
// The state of that word; none if it is no such word.
std::optional<State> parse_state(std::string_view word);

// One row of repmgr.nodes.
struct Node {
  int id = 0;
  std::string name;
  std::string site;  // column "location"
  std::string type;  // "primary", "standby" or "witness"
  bool active = false;
  std::string host;           // of its conninfo, see conninfo_host(); empty: none
  std::string hostaddr = {};  // where to connect to instead; empty: host says it

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
  std::optional<Time> lag;  // replay_lag: none also if it is idle and has replayed all

  bool operator==(const Attached_Standby&) const = default;
};

// The state of replication to and from the local server. What does not apply is none or empty.
struct Replication {
  Time asked_at{};              // when it was asked for, successfully or not
  bool known = false;           // it could be read
  std::string problem;          // why not
  std::optional<Lsn> position;  // of the WAL written last; in recovery: replayed last
  std::optional<int> timeline;
  std::string server_started;              // when the server was, as it prints that
  std::vector<Attached_Standby> standbys;  // by name
  // When they were asked for: earlier than the rest while they are being asked for anew.
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

// The result of one look at the local database.
struct Facts {
  Time asked_at{};         // when the look began
  bool reachable = false;  // it answered; if not, only `problem` below means anything
  // Of one that is not reachable: nothing listens there, or the server is starting or ending. To
  // ask it again soon costs it nothing.
  bool gone = false;
  bool in_recovery = false;    // pg_is_in_recovery()
  bool superuser = false;      // primgr's role is one
  std::uint64_t system = 0;    // the system identifier; 0: it could not be read
  bool nodes_known = false;    // repmgr.nodes was read
  std::vector<Node> nodes;     // its rows, by node_id
  Time nodes_read_at{};        // when they were asked for; before asked_at if it is blocked now
  std::string blocked;         // why there is no newer list; empty: it is not blocked
  bool nodes_pending = false;  // never read yet, but being asked for
  std::string problem;         // why it was not reachable, or why repmgr.nodes could not be read
  Replication replication;

  bool operator==(const Facts&) const = default;
};

// A voter's promise to vote for no other node before `until`, on its own clock. With an empty name,
// the voter votes for nobody until then: it has started, and does not know what it promised before.
struct Grant {
  std::string to;
  Time until{};
  std::string token = {};  // who shows it ends the promise, see hand_back(); empty: nobody can
  Time kept_until{};  // what was promised to `to` under other tokens lasts until then all the same

  bool operator==(const Grant&) const = default;
};

// The node that a voter had promised its vote to before.
struct Predecessor {
  std::string name;
  Time last_200{};           // when it answered 200 for the last time, at the latest
  bool handed_back = false;  // it handed the vote back; false: the promise expired

  bool operator==(const Predecessor&) const = default;
};

// A voter's last answer to a candidate.
struct Vote {
  Time sent_at{};            // when the question was sent; the promise was given later
  std::string names;         // the node that the voter named; empty: none
  std::string why;           // why it named none, or the last question failed
  Time lease = Time::max();  // for how long it said that it promises; max(): it did not say
  std::optional<Predecessor> before = {};  // as it told with this vote
  Time bound_until{};    // it was last known to be bound to another until then, if ever
  bool answers = false;  // the last question had an answer, whatever that was

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
  Time until = Time::max();  // then a Primary becomes Unknown, as too few votes are left
  std::string reason;        // for people to read; the same text for the same cause

  bool operator==(const Decision&) const = default;
};

// Returns the IP addresses of a host name, best first; empty if there is none or `timeout` is over.
// For an IP address, returns that. Must be thread-safe.
using Resolve = std::function<std::vector<std::string>(const std::string& host, Time timeout)>;

}  // namespace primgr
