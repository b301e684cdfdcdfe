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
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node/database.hpp"
#include "node/handover.hpp"
#include "node/history.hpp"
#include "node/lag.hpp"
#include "node/model.hpp"
#include "node/peers.hpp"
#include "node/promise.hpp"
#include "node/report.hpp"
#include "node/staleness.hpp"
#include "node/stop_detector.hpp"
#include "node/synchrony.hpp"
#include "node/voters.hpp"
#include "node/wake_up.hpp"

namespace primgr {

struct Node_Settings {
  std::string node_name;  // this node's name in repmgr.nodes
  std::string conninfo = "host=/var/run/postgresql dbname=repmgr user=primgr";
  std::size_t max_connections_in_pool = 3;
  Time db_timeout = std::chrono::seconds(5);
  Time peer_timeout = std::chrono::seconds(1);
  Time refresh_interval = std::chrono::seconds(1);
  Time cache_ttl = std::chrono::seconds(20);
  Time vote_lease = std::chrono::seconds(4);   // for how long this node promises its vote
  Time check_delay = std::chrono::seconds(1);  // how long a node may be used after its last 200
  bool consensus_cluster = false;  // all nodes of the cluster vote, not only those of the site
  bool candidate = true;  // false (--once): reads whom the others name, and asks for no votes
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
  // What it knew of lists of voters before it started, and what stores that; empty: nothing, and
  // nothing. store_voters is called by the refresher, and must not block.
  Voter_Lists voters;
  std::function<void(const Voter_Lists&)> store_voters;
  // What is known of earlier runs, and what is told of each change of state: the last in the
  // history. on_change is called by the refresher, and must not block. If it throws std::bad_alloc,
  // it is called again.
  History history = {};
  std::function<void(const History&)> on_change = nullptr;
  Wall_Clock wall_clock = std::chrono::system_clock::now;
};

// Thread-safe, but for run(), learn(), refresh() and poll_other_nodes(), which belong to one
// thread, the refresher. mutex_ guards all members below it: the results of the database, the lists
// of voters, the decision, what is known of handovers, and what was logged of them. Nothing waits
// for the database, a peer, the promise or the log while it is held: log lines are made under it
// and written after it.
//
// Lock order: the mutexes of Peers, Connection_Pool and Promise are taken while mutex_ is held,
// never the other way round; of Promise only unbound_since() is called. A caller may hold
// Cluster::Collection::mutex.
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

  // As configured.
  const std::string& name() const { return settings_.node_name; }
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
  // Promise::vote(). `list`: the list of voters that the candidate has confirmed, as for
  // after_hearing(); none: it does not tell. If the cache does not name the candidate, makes run()
  // look again. Blocks for 100 ms at most.
  Ballot grant_vote(std::string_view candidate, Time lease,
                    const std::optional<std::string>& shown = std::nullopt,
                    const std::optional<std::string>& list = std::nullopt);
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
  Time max_peer_age() const { return 3 * settings_.refresh_interval + settings_.peer_timeout; }
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
  // What the handlers read: the decision, and when the look that it rests on began.
  struct Cache {
    Time looked_at{};
    Decision decision{State::down, Time::max(), "the database was not asked yet"};
    // It rests on a whole look, and on an answer, or a failure, of each voter.
    bool complete = false;
  };
  using Log_Line = std::pair<Log_Level, std::string>;
  using Log_Lines = std::vector<Log_Line>;

  void wait(Time due);
  void age_votes(Time now);
  void vote_for_itself(const Node& self, bool alone);
  void hand_votes_back(const std::vector<Node>& others);
  void write_cache();
  void write_log(const Log_Lines& lines) const;
  void store_voters();
  Time straggler_timeout() const;

  // These REQUIRE mutex_.
  Time refresh_due(const std::vector<Node>& others, const std::vector<Node>& voters) const;
  std::optional<Time> nodes_age(Time now) const;
  bool nodes_stale() const;
  std::string nodes_problem() const;  // why the list in use is stale; empty: it is not
  Log_Lines database_messages();
  const Node* candidate() const;
  bool names_itself() const;
  const Node* followed() const;
  const Node* sync_source() const;
  void watch_staleness(Time now);
  std::optional<Interval> time_without_primary(Time now) const;
  bool just_promoted(Time now) const;
  Lag lag_at(Time now) const;
  Votes all_votes() const;
  State state_at(Time now) const;
  Decision decision_at(Time now) const;
  Time poll_interval() const;
  Time vote_interval() const;
  std::optional<Time> votes_over_at() const;
  std::vector<std::vector<Voter>> voters_at(Time now) const;
  std::vector<std::string> claimants(Time now) const;
  Voter_List list_of_facts() const;
  void use_lists();
  void take_list();
  void confirm_list(Time now, Log_Lines& lines);
  void judge_lost(Log_Lines& lines);
  void watch_lost(Time now, Log_Lines& lines);
  void report_rivals(Log_Lines& lines);
  std::vector<std::string> rivals() const;
  bool all_answered(Peers::Kind kind) const;
  std::vector<Node> stragglers(const std::vector<Node>& voters, const Node& self, Time now) const;
  Time decision_over_at(Time now) const;
  std::string change_message(const Decision& decision, Time now, Time changed_at);
  void record_change(const Decision& decision, const std::string& votes, Time at);

  const Node_Settings settings_;
  const Lease lease_;
  const Clock clock_;
  const Logger log_;
  const Wake_Up wake_up_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> look_wanted_{false};
  std::atomic<Time> refreshed_at_;
  std::atomic<Time> sync_wanted_at_{Time(std::chrono::hours(-1))};  // by get_synchrony()
  Database database_;
  Promise promise_;
  Peers peers_;
  const std::function<void(const Voter_Lists&)> store_voters_;
  const std::function<void(const History&)> on_change_;
  const Wall_Clock wall_clock_;

  mutable std::mutex mutex_;
  Facts facts_;              // of the last look
  bool looked_ = false;      // the first look is over
  std::vector<Node> nodes_;  // the list of nodes as last read, also when the database is down
  // Which lists of voters count besides the one in facts_, what of it was stored last, and since
  // when the list in facts_ is as it is.
  Voter_Lists lists_, stored_lists_;
  Voter_List read_;         // the list in facts_, see list_of_facts()
  std::string own_digest_;  // of that
  // By use_lists(): the lists of which it needs a majority each, all their voters, lost ones too,
  // and which nodes it asks though repmgr.nodes does not list them.
  std::vector<Voter_List> required_;
  Voter_List voters_, unlisted_;
  Time read_since_{};
  Lost_Declaration declaration_;     // the last one
  std::optional<Time> declared_at_;  // of that, until it is judged
  std::optional<Vote> own_vote_;
  std::string own_token_;  // of the promise to itself
  Cache cache_;
  std::optional<Time> last_200_;  // by decisions before this one: the last was not later
  // When the last promise to another node ends, or ended early.
  std::optional<Time> bound_until_;
  std::optional<Time> freed_at_;  // when the last promise was handed back
  Promise_History history_;
  std::optional<Time> named_since_;  // since when names_itself() is true
  std::optional<Handover> handover_;
  Stop_Detector stop_detector_;  // restarted by age_votes()
  Replay_History replay_;
  Staleness staleness_;
  std::string server_started_;       // as Replication has it
  std::optional<Time> answered_at_;  // when the database was asked the last time that it answered
  // The state that was last decided, and since when.
  State state_ = State::down;
  std::optional<Time> state_since_;
  std::uint64_t looks_ = 0, failed_looks_ = 0;
  Time look_time_{};
  // What was logged, so that each change is logged once.
  bool superuser_logged_ = false;
  // When the list was read that was logged to be stale; empty: none is.
  std::optional<Time> stale_since_;
  std::vector<std::string> logged_rivals_, logged_alive_;
  std::string logged_;  // state and reason
  State logged_state_ = State::down;
  std::optional<Time> logged_since_;
  std::optional<Drain> drain_;
  History changes_;      // each change of logged_state_
  bool untold_ = false;  // on_change_ was not told of the last; used by the refresher only
};

}  // namespace primgr
