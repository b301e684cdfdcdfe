// What this node of a repmgr cluster knows and decides.
//
// Repmgr_Node keeps a cache up to date: it looks at the local database, asks the other nodes which
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

// What a node uses of its environment. All must be thread-safe. http_get, clock and log must not be
// empty.
struct Node_Environment {
  Http_Get http_get;
  Http_Drop http_drop;
  Resolve resolve;  // for the database's host; empty: libpq looks it up
  Clock clock = boottime;
  std::vector<Clock> other_clocks;  // for Stop_Detector
  Logger log;
  Grant_Store grants;
  // What it held of lists of voters before it started, and what stores that: it returns by `until`,
  // and whether a restart is sure to find this. Empty: nothing, and nothing.
  Voter_Lists voters;
  std::function<bool(const Voter_Lists&, Deadline until)> store_voters;
  // What is known of earlier runs, and what is told of each change of state: the last in the
  // history. on_change is called by the refresher, and must not block. If it throws std::bad_alloc,
  // it is called again.
  History history = {};
  std::function<void(const History&)> on_change = nullptr;
  Wall_Clock wall_clock = std::chrono::system_clock::now;
};

// 128 random bits, in hexadecimal; empty if the kernel has none to give. Thread-safe.
std::string random_token();

// The shell around the core (node/core/core.hpp), which decides: it gives the core what the
// database, the peers, the store and the clocks say, and does what the core asks for.
//
// Thread-safe, but for run(), learn(), refresh() and poll_other_nodes(), which belong to one
// thread, the refresher. Nothing waits for the database, a
// peer, the store or the log while mutex_ is held.
//
// A promise or a list must be stored before anybody hears of it, and the store may take the 100 ms
// that a vote may take. While it works, the core waits for it (Core::awaits_store()), and other
// threads that vote, or hand a vote back, wait for their turn. They get no vote if turn and save()
// together take longer than 100 ms. Thus a file that hangs stops votes and nothing else.
//
// Lock order: the mutex of Connection_Pool is taken while mutex_ is held, never the other way
// round. A caller may hold Cluster::Collection::mutex.
class Repmgr_Node {
 public:
  Repmgr_Node(Node_Settings settings, Node_Environment environment);
  Repmgr_Node(const Repmgr_Node&) = delete;
  Repmgr_Node& operator=(const Repmgr_Node&) = delete;

  // The refresher: keeps the cache up to date until stop(), or until `done` returns true, which is
  // called after each refresh(). Blocks. If it throws std::bad_alloc, it may be called again.
  void run(const std::function<bool()>& done = nullptr);
  // Ends run() after the current refresh(). Does not block.
  void stop();
  // Makes run() look at the database now; at most every 100 ms. Does not block.
  void look_now();
  // When refresh() last began. It begins once a refresh_interval at least, unless run() is stuck.
  Time refreshed_at() const { return refreshed_at_; }
  // Whether that was within cache_ttl.
  bool alive() const { return clock_() - refreshed_at_.load() <= settings_.cache_ttl; }

  // This node's name: as configured, until repmgr.nodes has it under another one.
  std::string name() const;
  // As configured.
  Time vote_lease() const { return settings_.vote_lease; }
  // The state at this moment: not Primary if its votes have expired, and Down if the cache is older
  // than cache_ttl.
  State get_state() const;
  // That, and what another node that asks for it learns besides.
  State_Report get_state_report() const;
  // The node that this node's own database names as primary; none if it names none or is down.
  std::optional<std::string> get_primary() const;
  // Votes: names a node to a candidate which counts votes for `lease`. If that is the candidate,
  // the vote is granted for vote_lease, and the promise has been stored in the Grant_Store. Names
  // none if this node is Down, names none, or could not store the promise, and if `lease` is longer
  // than vote_lease (zero: the candidate counts no longer than it is told). `shown`: as for
  // Voter_Question. `lists`: what it says of lists of voters. If the cache does not name the
  // candidate, makes run() look again. Blocks for 100 ms at most.
  Ballot grant_vote(std::string_view candidate, Time lease,
                    const std::optional<std::string>& shown = std::nullopt,
                    const std::optional<Lists_Question>& lists = std::nullopt);
  // What it serves of the lists of voters of a scope, and where these are found; none while that
  // cannot be stored.
  std::optional<std::pair<lists::Served, Addresses>> get_lists(const lists::Scope& scope) const;
  // Has this node forget on which timeline the Primary was that it voted for.
  void forget_timeline();
  // Takes the voters with these names for lost, and those that were declared so before no more.
  // First each is asked twice: one that answers is not lost. Names that are in no list are ignored.
  void declare_lost(Lost_Declaration declaration);
  // Ends the promise to a candidate that hands its vote back, see hand_back(). `ago`: how long its
  // last 200 is ago, for Promise_History. Returns whether that ended it; then run() looks and, as a
  // candidate, asks for votes at once. Blocks for 100 ms at most.
  bool end_promise(std::string_view candidate, std::string_view token,
                   std::optional<Time> ago = std::nullopt);
  // Every registered node, as last read; also when the database is Down.
  std::vector<Node> get_all_nodes() const;
  // The nodes of the cluster that report to be Primary. Includes this node by its own state.
  Real_Primary get_real_primary() const;
  // How far this node is behind, and how stale its data may be; none if it is no standby. One that
  // is promoted counts as the standby that it was until it, or another node, is Primary.
  std::optional<Lag> get_lag() const;
  // Whether this node, if its state is Standby, is a synchronous one, by what the node told that
  // its database names as primary. That one is asked each refresh_interval from now on, until
  // nobody has called this for 20 s. What it saw longer ago than max_peer_age() is not used.
  Synchrony get_synchrony();
  // How old what is known of another node may be at times: questions go to it each
  // refresh_interval, one reply may be lost, and the next be late.
  Time max_peer_age() const;
  // What this node, if it is Primary, knows of a standby that streams from it.
  Sync_Report get_standby(std::string_view name) const;
  Report get_report() const;
  // Takes this node out of the service of reads, or back into it; logs a change.
  void set_drain(std::optional<Drain> drain);
  // None also while it is Primary: it has no effect then.
  std::optional<Drain> get_drain() const;
  // The last changes of state, also of earlier runs if the environment knew of them.
  History get_history() const;

  // Whether waiting longer would not improve get_state() and get_lag(): the first look is over and,
  // if votes matter, they suffice or every voter has answered or failed; of a standby, the primary
  // has, or is late. `cluster`: every peer has also answered to /state or failed, for
  // get_real_primary().
  bool settled(bool cluster = false) const;

  // -- Parts of the answers above, under the names of the original implementation, so that those
  // who know it find their way. Only tests call these three.

  // Whether the local database answered pg_is_in_recovery() with true when last asked.
  bool get_is_in_recovery_mode() const;
  // This node's location in repmgr.nodes as last read; none if it is not listed.
  std::optional<std::string> get_node_site() const;
  // The other registered nodes of its site, as last read.
  std::vector<Node> get_all_other_nodes_in_site() const;

  // -- The refresher's steps. They are public so that a simulation can call them without run().

  // When the next look at the database is due, if the last began at `began_at`.
  Time look_due(Time began_at) const;
  // A look begins. Returns whether somebody has asked for it.
  bool begin_look() { return look_wanted_.exchange(false); }
  // Stores the result of a look at the database.
  void learn(Facts facts);
  // Asks the peers that are due, decides, writes the cache. Returns when it must be called again at
  // the latest. Blocks for its own vote, 100 ms at most.
  Time refresh();
  // Asks each of nodes_to_poll that is due which primary it names, in parallel and without waiting.
  // Returns whether candidate_node has a majority of the votes of num_in_consensus nodes now.
  bool poll_other_nodes(const std::vector<Node>& nodes_to_poll, const std::string& candidate_node,
                        std::size_t num_in_consensus);

 private:
  // Waits for the log while it holds no mutex.
  void write_log(std::list<Journal::Line> Journal::*lines);
  void wait(Time due);
  void notice_stop(Time now);
  void vote_for_itself();
  void tick(Part part);
  void decide();
  void decide_lists();
  void hand_votes_back();
  // The effects of an event, as of now.
  Effects tell(const Event& event);
  void carry_out(const Effects& effects);
  void send(const std::vector<Question>& questions);
  void take_reply(const Question& question, Time asked_at, const Http_Reply& reply) noexcept;
  // The effects of an event that must not come while a ballot or a list waits for a store, and of
  // Grant_Stored or Lists_Stored if it makes one. Effects::busy: no turn came within 100 ms.
  Effects in_turn(const Event& event);
  // Has the store keep what an event's effects say. Gives the mutex up meanwhile.
  Event stored(const Effects& effects, Deadline until) REQUIRES(mutex_);
  // Whether this clock missed time that makes a difference now; wakes the refresher then, so that
  // it asks for votes at once.
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

  Peers peers_;  // last, since its replies use what is above
};

}  // namespace primgr
