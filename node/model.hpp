// What is known about a node and its cluster, as plain values: what the database told, what was
// promised, who voted for whom, what was decided.

#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node/units.hpp"

namespace primgr {

// What a node is right now. The numbers are the exit statuses of `primgr --once state`.
enum class State { primary = 0, standby = 1, unknown = 2, down = 3 };

// "Primary", "Standby", "Unknown" or "Down": the words of the HTTP contract.
const char* to_string(State state);

enum class Log_Level { error, warning, info, debug };
// Takes one line, without its end. Must be thread-safe, and must not wait for whoever reads it.
using Logger = std::function<void(Log_Level, const std::string&)>;

// One row of repmgr.nodes.
struct Node {
  int id = 0;
  std::string name;
  std::string site;  // column "location"
  std::string type;  // "primary", "standby" or "witness"
  bool active = false;
  std::string host;  // of its conninfo: hostaddr, else host; empty: none that TCP reaches
};

// Names are compared without case, and '_' equals '-'.
bool names_equal(std::string_view a, std::string_view b);

// The one row that is the active primary; null if there is none or more than one.
const Node* named_primary(const std::vector<Node>& nodes);

// The one row with that name; null if there is none, or if several names are equal to it.
const Node* find_node(const std::vector<Node>& nodes, std::string_view name);

// A server that streams from the local one: a row of pg_stat_replication.
struct Attached {
  std::string name, address, state, sync;
  std::optional<Lsn> replayed;
  std::optional<Time> lag;  // replay_lag: none also when it is idle and has all
};

// How WAL flows to and from the local server. What does not apply is none or empty.
struct Replication {
  Time asked_at{};              // when it was read, or that was tried
  bool known = false;           // it could be read
  std::string problem;          // why not
  std::optional<Lsn> position;  // written last; in recovery: replayed last
  std::optional<int> timeline;
  std::vector<Attached> attached;  // by name
  // In recovery; the first four are of the WAL receiver, and only for those in pg_read_all_stats.
  bool receiving = false;            // there is a WAL receiver
  std::string status;                // its: "streaming", …
  std::string from;                  // its sender's host
  std::optional<Lsn> sender_at;      // how far its sender was, when last heard
  std::optional<Lsn> received;       // flushed by it
  std::optional<Time> since_commit;  // since the last transaction replayed, by the primary's clock
  bool paused = false;

  // The end of the WAL, as far as this standby knows. REQUIRES: sender_at.
  Lsn end() const { return std::max(*sender_at, received.value_or(0)); }
};

// What one look at the local database told.
struct Facts {
  Time asked_at{};             // when the look began
  bool reachable = false;      // it answered; if not, only `problem` below means anything
  bool in_recovery = false;    // pg_is_in_recovery()
  bool superuser = false;      // what primgr is logged in as
  bool nodes_known = false;    // repmgr.nodes was read
  std::vector<Node> nodes;     // its rows, by node_id
  Time nodes_read_at{};        // when they were asked for: earlier than asked_at if it is blocked
  std::string blocked;         // why there is no newer list; empty: there is none
  bool nodes_pending = false;  // never read yet, but being asked for
  std::string problem;         // why it was not reachable, or why repmgr.nodes could not be read
  Replication replication;
};

// A voter's promise to vote for no other node before `until`, on its own clock. A promise to nobody
// (an empty name) is the silence of a voter that does not know what it promised before it started.
struct Grant {
  std::string to;
  Time until{};
};

// A voter's last answer to a candidate.
struct Vote {
  Time sent_at{};     // when the question was sent: whatever was granted, was granted later
  std::string names;  // the node it named; empty: no answer counts
  std::string why;    // why there is no answer
};
using Votes = std::map<std::string, Vote>;  // by the voter's name as in repmgr.nodes

// A voter as others are told of it.
struct Voter {
  std::string name;
  bool self = false;
  bool counts = false;
  std::string names;              // empty: none that is unexpired
  std::string why;                // why it names nobody
  std::optional<Time> age, left;  // of the name: since it was asked for, and until it expires
};

// A decision, and how long it may be told to others.
struct Decision {
  State state = State::down;
  Time until = Time::max();  // from here on, a Primary is Unknown: too few votes are unexpired
  std::string reason;        // in words; the same words for the same cause
};

// Addresses of a host name, best first, within `timeout`; empty: unknown. An address is itself.
// Must be thread-safe.
using Resolve = std::function<std::vector<std::string>(const std::string& host, Time timeout)>;

}  // namespace primgr
