// What this node of a repmgr cluster knows and decides.
//
// Repmgr_Node keeps a cache up to date. It queries the local database, asks the other nodes which
// primary their databases name, and decides from both what this node is. All answers (HTTP, --once)
// are read from that cache, without waiting for a database or a peer.
//
// It uses libpq for its own database. Functions to ask peers and to read clocks are passed in, so
// that tests can run it without a network and in simulated time.

#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mutex.hpp"
#include "base/wake_up.hpp"
#include "node/core/core.hpp"
#include "node/core/journal.hpp"
#include "node/database/database.hpp"
#include "node/peers/peers.hpp"
#include "node/rules/history.hpp"
#include "node/rules/model.hpp"
#include "node/rules/promise.hpp"
#include "node/rules/report.hpp"
#include "node/rules/stop_detector.hpp"

namespace primgr {

struct Node_Settings : Core_Settings {
  std::string conninfo = "host=/var/run/postgresql dbname=repmgr user=primgr";
  std::size_t max_connections_in_pool = 3;
  Time db_timeout = std::chrono::seconds(5);
};

// The functions and data that a node gets from its environment. All functions must be thread-safe.
// http_get, clock and log must not be empty.
struct Node_Environment {
  Http_Get http_get;
  Http_Drop http_drop;
  Resolve resolve;  // resolves the database's host; empty: libpq resolves it
  Clock clock = boottime;
  std::vector<Clock> other_clocks;  // for Stop_Detector
  Logger log;
  Grant_Store grants;
  // Saved lists of voters, and a callback that saves them; both optional. The callback returns by
  // `until`, and returns whether a restart is sure to find these lists.
  Voter_Lists voters;
  std::function<bool(const Voter_Lists&, Deadline until)> store_voters;
  // The history of earlier runs, and a callback for each change of state; the change is the last
  // entry of the history. on_change is called by the refresher, and must not block. If it throws
  // std::bad_alloc, it is called again.
  History history = {};
  std::function<void(const History&)> on_change = nullptr;
  Wall_Clock wall_clock = std::chrono::system_clock::now;
};

// 128 random bits, in hexadecimal; empty if the kernel has none available. Thread-safe.
std::string random_token();

// The shell around the core (node/core/core.hpp). The core decides. The shell passes it the results
// of the database, the peers, the store and the clocks as events, and carries out the effects.
//
// Thread-safe, except for run(), learn(), refresh() and poll_other_nodes(): these must be called by
// one thread, the refresher. While mutex_ is held, nothing waits for the database, a peer, the
// store or the log.
//
// A promise or a list must be stored before any node receives it, and the store may take the 100 ms
// that a vote may take. While the store works, the core waits for it (Core::awaits_store()), and
// other threads that vote, or hand a vote back, wait for their turn. They get no vote if the wait
// and save() together take longer than 100 ms. So a file that hangs stops votes and nothing else.
//
// Lock order: the mutex of Connection_Pool may be taken while mutex_ is held, never the other way
// round. A caller may hold Cluster::Collection::mutex.
class Repmgr_Node {
 public:
  Repmgr_Node(Node_Settings settings, Node_Environment environment);
  Repmgr_Node(const Repmgr_Node&) = delete;
  Repmgr_Node& operator=(const Repmgr_Node&) = delete;

  // The refresher: keeps the cache up to date until stop(), or until `done` returns true; `done` is
  // called after each refresh(). Blocks. If it throws std::bad_alloc, it may be called again.
  void run(const std::function<bool()>& done = nullptr);
  // Ends run() after the current refresh(). Does not block.
  void stop();
  // Makes run() query the database now; at most every 100 ms. Does not block.
  void look_now();
  // When refresh() last began. It begins at least once a refresh_interval, unless run() is stuck.
  Time refreshed_at() const { return refreshed_at_; }
  // Whether refresh() last began within cache_ttl.
  bool alive() const { return clock_() - refreshed_at_.load() <= settings_.cache_ttl; }

  // This node's name: as configured, until repmgr.nodes has it under another name.
  std::string name() const;
  // As configured.
  Time vote_lease() const { return settings_.vote_lease; }
  // The state at this moment. It is not Primary if its votes have expired. It is Down if the cache
  // is older than cache_ttl.
  State get_state() const;
  // The state, and the other values that a node that asks for it receives.
  State_Report get_state_report() const;
  // The node that this node's own database names as primary. None if the database names none, or if
  // the node is Down.
  std::optional<std::string> get_primary() const;
  // Votes: names a node to a candidate that counts votes for `lease`. If that node is the
  // candidate, the vote is granted for vote_lease, and the promise has been stored in the
  // Grant_Store. Names none if this node is Down, if its database names none, if the promise could
  // not be stored, or if `lease` is longer than vote_lease. A `lease` of zero means that the
  // candidate counts the vote no longer than the reply states. `shown`: as for Voter_Question.
  // `lists`: the candidate's question about lists of voters. If the cache does not name the
  // candidate, makes run() query the database again. Blocks for 100 ms at most.
  Ballot grant_vote(std::string_view candidate, Time lease,
                    const std::optional<std::string>& shown = std::nullopt,
                    const std::optional<Lists_Question>& lists = std::nullopt);
  // The lists of voters of a scope that it serves, and the addresses of their members. None after a
  // failed store, until they could be stored.
  std::optional<std::pair<lists::Served, Addresses>> get_lists(const lists::Scope& scope) const;
  // Makes this node forget the timeline of the Primary that it voted for.
  void forget_timeline();
  // Declares the voters with these names lost; earlier declarations end. First each voter is asked
  // twice: a voter that answers is not lost. Names that are in no list are ignored.
  void declare_lost(Lost_Declaration declaration);
  // Ends the promise to a candidate that hands its vote back, see hand_back(). `ago`: the time
  // since its last 200, for Promise_History. Returns whether this ended the promise. If so, run()
  // queries the database and, as a candidate, asks for votes at once. Blocks for 100 ms at most.
  bool end_promise(std::string_view candidate, std::string_view token,
                   std::optional<Time> ago = std::nullopt);
  // Every registered node, as last read; also when the database is Down.
  std::vector<Node> get_all_nodes() const;
  // The nodes of the cluster that report that they are Primary. This node is included by its own
  // state.
  Real_Primary get_real_primary() const;
  // How far this node is behind, and how stale its data may be; none if it is no standby. A
  // promoted node counts as the standby that it was until it, or another node, is Primary.
  std::optional<Lag> get_lag() const;
  // Whether this node, if its state is Standby, is a synchronous standby. The answer is from the
  // node that its database names as primary. That node is asked once a refresh_interval from now
  // on, until this function was not called for 20 s. What it read longer ago than max_peer_age() is
  // not used.
  Synchrony get_synchrony();
  // The highest normal age of what is known of another node. The node is asked once a
  // refresh_interval, one reply may be lost, and the next one may be late.
  Time max_peer_age() const;
  // If this node is Primary: its report about a standby that streams from it.
  Sync_Report get_standby(std::string_view name) const;
  Report get_report() const;
  // Stops this node from serving reads, or lets it serve them again; logs a change.
  void set_drain(std::optional<Drain> drain);
  // Also none while the node is Primary: a drain has no effect then.
  std::optional<Drain> get_drain() const;
  // The last changes of state, with those of earlier runs if the environment has them.
  History get_history() const;

  // Whether get_state() and get_lag() are final for now. For this the first query of the database
  // must be over. If votes matter, they must be enough, or every voter must have answered or
  // failed. For a standby, the primary must have answered or failed, or be late. `cluster`: every
  // peer must also have answered to /state or failed, for get_real_primary().
  bool settled(bool cluster = false) const;

  // -- Parts of the answers above, under the names of the original implementation, for readers who
  // know that one. Only tests call these three.

  // Whether the local database answered pg_is_in_recovery() with true when last asked.
  bool get_is_in_recovery_mode() const;
  // This node's location in repmgr.nodes as last read; none if it is not listed.
  std::optional<std::string> get_node_site() const;
  // The other registered nodes of its site, as last read.
  std::vector<Node> get_all_other_nodes_in_site() const;

  // -- The refresher's steps. They are public so that a simulation can call them without run().

  // When the next query of the database is due, if the last one began at `began_at`.
  Time look_due(Time began_at) const;
  // Must be called when a query of the database begins. Returns whether look_now() has asked for
  // it.
  bool begin_look() { return look_wanted_.exchange(false); }
  // Stores the result of a query of the database.
  void learn(Facts facts);
  // Asks the peers that are due, decides, and writes the cache. Returns the latest time for the
  // next call. Blocks for its own vote, 100 ms at most.
  Time refresh();
  // Asks each of nodes_to_poll that is due which primary it names, in parallel and without waiting.
  // Returns whether candidate_node has a majority of the votes of num_in_consensus nodes now.
  bool poll_other_nodes(const std::vector<Node>& nodes_to_poll, const std::string& candidate_node,
                        std::size_t num_in_consensus);

 private:
  // Writes these lines. May wait for the log, but holds no mutex then.
  void write_log(std::list<Journal::Line> Journal::*lines);
  void wait(Time due);
  void notice_stop(Time now);
  void vote_for_itself();
  void tick(Part part);
  void decide();
  void decide_lists();
  void hand_votes_back();
  // Passes an event to the core, with the present time. Returns the effects.
  Effects tell(const Event& event);
  void carry_out(const Effects& effects);
  void send(const std::vector<Question>& questions);
  void take_reply(const Question& question, Time asked_at, const Http_Reply& reply) noexcept;
  // The same for an event that must wait while a ballot or a list waits for the store. If the event
  // has something to store, stores it, and returns the effects of Grant_Stored or Lists_Stored.
  // Effects::busy: the wait was longer than 100 ms.
  Effects in_turn(const Event& event);
  // Stores what the effects contain. Releases the mutex meanwhile.
  Event stored(const Effects& effects, Deadline until) REQUIRES(mutex_);
  // The time that this clock missed; zero if the last decision is not Primary. If the node is not
  // Primary any more because of it, wakes the refresher, so that it asks for votes at once.
  Time missed_at(Time now) const REQUIRES(mutex_);

  const Node_Settings settings_;
  const Clock clock_;
  const Logger log_;
  const Wake_Up wake_up_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> look_wanted_{false};
  std::atomic<Time> refreshed_at_;
  Database database_;
  const std::function<Grant(const Grant&, Deadline)> save_grant_;
  const std::function<bool(const Voter_Lists&, Deadline)> store_voters_;
  const std::function<void(const History&)> on_change_;
  const Wall_Clock wall_clock_;

  mutable Mutex mutex_;
  Condition turn_over_;  // nothing waits for a store any more
  Core core_ GUARDED_BY(mutex_);
  Journal journal_ GUARDED_BY(mutex_);
  Stop_Detector stop_detector_ GUARDED_BY(mutex_);  // restarted by notice_stop()
  std::optional<Drain> drain_ GUARDED_BY(mutex_);

  Peers peers_;  // the last member, since its replies use the members above
};

}  // namespace primgr
