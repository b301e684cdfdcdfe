// What this node of a repmgr cluster knows and decides.
//
// Repmgr_Node keeps a cache true: it looks at the local database, asks the other nodes whom their
// databases name as primary, and decides from both what this node is. Everything that others see
// (HTTP, --once) is read from that cache, without waiting for a database or a peer.
//
// It speaks to its own database through libpq; it reaches its peers through a function handed to it
// and reads time through a clock handed to it, so that tests run this very code in simulated time.

#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node/database.hpp"
#include "node/lag.hpp"
#include "node/model.hpp"
#include "node/peers.hpp"
#include "node/promise.hpp"
#include "node/report.hpp"
#include "node/stop_detector.hpp"
#include "node/wake_up.hpp"

namespace primgr {

struct Node_Settings {
  std::string node_name;  // who this node is
  std::string conninfo = "host=/var/run/postgresql dbname=repmgr user=primgr";
  std::size_t max_connections_in_pool = 3;
  Time db_timeout = std::chrono::seconds(5);
  Time peer_timeout = std::chrono::seconds(1);
  Time refresh_interval = std::chrono::seconds(1);
  Time cache_ttl = std::chrono::seconds(20);
  Time vote_lease = std::chrono::seconds(3);  // the same on every node
  bool consensus_cluster = false;  // count the votes of the whole cluster, not of the site
  bool candidate = true;           // ask for votes; --once only reads them
};

// What a node reaches the world through. Each may be empty, but http_get, clock and log.
struct Node_Environment {
  Http_Get http_get;
  Http_Drop http_drop;
  Resolve resolve;  // of the database's host; empty: libpq's
  Clock clock = boottime;
  // Clocks that go on, or are set right, when a hypervisor has stopped the machine and `clock` with
  // it. They may jump; each is compared with itself only.
  std::vector<Clock> other_clocks;
  Logger log;
  Grant_Store grants;
};

// Thread-safe, but for run(), learn() and refresh(), which are the refresher's (one thread). One
// mutex guards what the database told, the decision and what was logged of them. It is held for
// short, bounded work only: never while the database, a peer, the promise or the log is waited for.
// Peers' mutex may be taken while it is held, never the other way round.
class Repmgr_Node {
 public:
  Repmgr_Node(Node_Settings settings, Node_Environment environment);
  Repmgr_Node(const Repmgr_Node&) = delete;
  Repmgr_Node& operator=(const Repmgr_Node&) = delete;

  // The refresher: keeps the cache true until stop(), or until `done` (asked once a turn) is true.
  // Blocks; call it in one thread.
  void run(const std::function<bool()>& done = nullptr);
  // Ends run(). Also from signal-handling code: it only writes to an eventfd.
  void stop();
  // Looks now instead of at the next tick; at most every 100 ms.
  void look_now();
  // When refresh() was last at work: once a refresh_interval at least, unless run() is stuck.
  Time turned_at() const { return turned_at_; }
  // Whether that was within cache_ttl.
  bool alive() const { return clock_() - turned_at_.load() <= settings_.cache_ttl; }

  // Who this node is, as configured.
  const std::string& name() const { return settings_.node_name; }
  // The state, as of now: never a Primary whose votes have expired, never anything older than
  // cache_ttl (then: Down).
  State get_state() const;
  // The node that this node's own database names as primary; none if it names none or is down.
  std::optional<std::string> get_primary() const;
  // Votes: whom this node names to a candidate that counts votes for `lease`. If that is the
  // candidate, the vote is granted for vote_lease, and was written to the Grant_Store before this
  // returns (100 ms at most). If the cache does not name the candidate, the node looks again.
  std::optional<std::string> grant_vote(std::string_view candidate, Time lease);
  // Every registered node, as last read: it outlives the database.
  std::vector<Node> get_all_nodes() const;
  // Which nodes of the cluster report to be Primary; this node speaks for itself.
  Real_Primary get_real_primary() const;
  // How far this node is behind, and none if it is no standby that answers.
  std::optional<Lag> get_lag() const;
  Report get_report() const;

  // Whether the state is as good as it gets: the first look is over and, if votes matter, they
  // suffice or every voter has answered or failed. `cluster`: the same for get_real_primary().
  bool settled(bool cluster = false) const;

  // -- Parts of the answers above, under the names that the original implementation gave them.
  // Whether the local database answered pg_is_in_recovery() with true when last asked.
  bool get_is_in_recovery_mode() const;
  // This node's location in repmgr.nodes as last read; none if it is not listed.
  std::optional<std::string> get_node_site() const;
  // The registered nodes of its site besides itself, as last read.
  std::vector<Node> get_all_other_nodes_in_site() const;

  // -- The refresher's steps, apart from run() so that a simulation can take them one by one.
  // Takes in what a look at the database told.
  void learn(Facts facts);
  // Asks the peers that are due, decides anew, writes the cache. Returns when it is due again.
  Time refresh();
  // Asks each of nodes_to_poll that is due, in parallel and without waiting, whom it names. Returns
  // whether candidate_node has, now, a majority of the votes of num_in_consensus nodes.
  bool poll_other_nodes(const std::vector<Node>& nodes_to_poll, const std::string& candidate_node,
                        std::size_t num_in_consensus);

 private:
  // What the handlers read: the decision, and when the look it rests on began.
  struct Cache {
    Time looked_at{};
    Decision decision{State::down, Time::max(), "the database was not asked yet"};
  };
  using Log_Line = std::pair<Log_Level, std::string>;

  void wait(Time due);
  void age_votes(Time now);
  void vote_for_itself(const Node& self, bool alone);
  std::string vote_question(const Node& voter, const std::string& candidate) const;
  void write_cache();
  Time refresh_due(const std::vector<Node>& others, const std::vector<Node>& voters) const;

  // These REQUIRE that mutex_ is held.
  std::optional<Time> nodes_age(Time now) const;
  bool nodes_blocked() const;
  std::string nodes_problem() const;  // why the list that stands is old; empty: it is not
  std::vector<Log_Line> database_messages();
  const Node* candidate() const;
  Votes all_votes() const;
  State state_at(Time now) const;
  Decision decision_at(Time now) const;
  Time poll_interval() const;
  std::vector<Voter> voters_at(Time now) const;
  std::vector<std::string> claimants(Time now) const;
  bool all_answered(Peers::Kind kind) const;
  std::vector<Node> stragglers(const std::vector<Node>& voters, const Node& self,
                               std::size_t needed, Time now) const;
  std::string change_message(const Decision& told, Time now);

  Time straggler_timeout() const;

  const Node_Settings settings_;
  const Time lifetime_;  // of a vote
  const Clock clock_;
  const Logger log_;
  const Wake_Up wake_up_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> look_wanted_{false};
  std::atomic<Time> turned_at_;
  Database database_;
  Promise promise_;
  Peers peers_;

  mutable std::mutex mutex_;
  Facts facts_;              // of the last look
  bool looked_ = false;      // there was one
  std::vector<Node> nodes_;  // the node list as last read, also when the database is gone
  std::optional<Vote> own_vote_;
  Cache cache_;
  Stop_Detector stop_detector_;  // since votes were last aged
  Replay_History replay_;
  // The state that was last decided, and since when it is that.
  State state_ = State::down;
  std::optional<Time> state_since_;
  std::uint64_t looks_ = 0, failed_looks_ = 0;
  Time looked_for_{};
  // What was logged, so that each change is logged once.
  bool superuser_logged_ = false;
  std::optional<Time> blocked_since_;  // since when the list that stands was logged to be old
  std::string logged_;                 // state and reason
  State logged_state_ = State::down;
  std::optional<Time> logged_since_;
};

}  // namespace primgr
