// What this node of a repmgr cluster knows and decides.
//
// Repmgr_Node keeps a cache true: it looks at the local database, asks the other nodes whom their
// databases name as primary, and decides from both what this node is. Everything that others see
// (HTTP, --once) is read from that cache, without waiting for a database or a peer.
//
// It speaks to its own database through libpq; it reaches its peers through a function handed to it
// and reads time through a clock handed to it, so that tests run this very code in simulated time.

#pragma once

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace primgr {

// A point on, or a stretch of, the clock that CLOCK_BOOTTIME is: it does not jump and it counts
// time spent suspended. Readings of different hosts are never compared.
using Time = std::chrono::nanoseconds;
using Clock = std::function<Time()>;

// Reads CLOCK_BOOTTIME. Thread-safe.
Time boottime();

// A stretch of time in words: "0.4 s", "3 min 12 s", "2 d 5 h".
std::string tell_time(Time time);

// What a node is right now. The numbers are the exit statuses of `primgr --once state`.
enum class State { primary = 0, standby = 1, unknown = 2, down = 3 };

// "Primary", "Standby", "Unknown" or "Down": the words of the HTTP contract.
const char* to_string(State state);

enum class Log_Level { error, warning, info, debug };
using Logger = std::function<void(Log_Level, const std::string&)>;

// One row of repmgr.nodes.
struct Node {
  int id = 0;
  std::string name;
  std::string site;  // column "location"
  std::string type;  // "primary", "standby" or "witness"
  bool active = false;
  std::string
      host;  // where conninfo says the node is: hostaddr, else host; empty: nowhere TCP goes
};

// A position in the WAL, in bytes; PostgreSQL writes it as "16/B374D848".
using Lsn = std::uint64_t;
std::optional<Lsn> parse_lsn(std::string_view text);
std::string print_lsn(Lsn lsn);

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

// A decision, and how long it may be told to others.
struct Decision {
  State state = State::down;
  Time until = Time::max();  // from here on, a Primary is Unknown: too few votes are unexpired
  std::string reason;        // in words; the same words for the same cause
};

// ---- the rules: pure functions, without I/O -----------------------------------------------------

// Names are compared without case, and '_' equals '-'.
bool names_equal(std::string_view a, std::string_view b);

// The host of a libpq connection string (the first, if it lists several): hostaddr, else host.
// Empty if there is none, if it is a socket folder, or if the string cannot be parsed.
std::string conninfo_host(const std::string& conninfo);

// The one row that is the active primary; null if there is none or more than one.
const Node* named_primary(const std::vector<Node>& nodes);

// The one row with that name; null if there is none, or if several names are equal to it.
const Node* find_node(const std::vector<Node>& nodes, std::string_view name);

// Those that vote on `self`, itself included: the nodes of its site, or of the whole cluster.
// Every registered node counts, active or not, witnesses too: a majority of the living is none.
std::vector<Node> electorate(const std::vector<Node>& nodes, const Node& self, bool whole_cluster);

// How many votes are a majority of `voters`: floor(n/2)+1.
std::size_t votes_needed(std::size_t voters);

// Whether the votes counted are enough.
bool check_consensus(std::size_t votes_counted, std::size_t votes_needed);

// The rule of the voter: whom it names to `candidate`, and whether that is a vote, granted for
// vote_lease from `now`. `named` is whom its own database names, empty for none.
//
// Never two primaries: a vote counts for a candidate only while the voter that gave it is bound by
// a grant (count_votes() below ends the one before the other, whatever the network does); two
// majorities of one electorate share a voter; and what binds a voter names one node. Clocks are
// compared with themselves only, so all that is assumed of them is that they tick at nearly one
// rate.
struct Ballot {
  std::string names;     // empty: none
  bool granted = false;  // `names` is the candidate, and the voter is to keep to it
  bool kept = true;      // false: it would be, but the promise cannot be kept over a restart
};
Ballot cast_vote(const Grant& last, std::string_view named, std::string_view candidate, Time now);

// For how long a vote counts: vote_lease less 1 %, a margin for clocks that tick at different
// rates.
Time vote_lifetime(Time vote_lease);

// The rule of the candidate: when each of the votes of `voters` for `self`, one of them, expires;
// only those that count at `now`. A vote counts for `lifetime` from the moment its question was
// sent, never from its arrival: the voter's promise began in between.
std::vector<Time> count_votes(const std::vector<Node>& voters, const Node& self, const Votes& votes,
                              Time lifetime, Time now);

// A voter as others are told of it.
struct Voter {
  std::string name;
  bool self = false;
  bool counts = false;
  std::string names;              // empty: none that is unexpired
  std::string why;                // why it names nobody
  std::optional<Time> age, left;  // of the name: since it was asked for, and until it expires
};
std::vector<Voter> tell_voters(const std::vector<Node>& voters, const Node& self,
                               const Votes& votes, Time lifetime, Time now);

std::size_t votes_counted(const std::vector<Voter>& voters);

// The same in words: how many votes count, and what each voter says.
std::string tell_votes(const std::vector<Voter>& voters);

// What the node `self_name` is, from what is known at `now` (section "States" of the README).
Decision decide(const Facts& facts, const std::string& self_name, bool whole_cluster,
                const Votes& votes, Time lifetime, Time now);

// How far a standby is behind; none: unbounded, for want of a sender or of knowledge.
struct Lag {
  bool streaming = false;
  std::optional<Lsn> receive, replay;  // bytes that its sender has and it has not flushed, replayed
  std::optional<Time> delay;           // how long the oldest WAL not replayed has been there
  std::string problem;                 // why it is not streaming, or why the rest is none
};

// Since when WAL has been waiting for its replay, by this node's own clock: an idle primary makes
// nobody late, and clocks of two hosts are not compared as long as the history reaches back.
class Replay_History {
 public:
  // At `now` the sender was at `sender_at` and the standby had replayed up to `replayed`.
  void saw(Time now, Lsn sender_at, Lsn replayed);
  // How long the oldest WAL beyond `replayed` has been known at `now`: to one look. None if that is
  // longer than the history.
  std::optional<Time> delay(Time now, Lsn replayed) const;
  void forget() { seen_.clear(); }
  std::size_t size() const { return seen_.size(); }

 private:
  struct Seen {
    Time at;
    Lsn lsn;
  };
  std::deque<Seen> seen_;  // the first is replayed, if that is known; bounded
  Time step_{};            // from one to the next, at least
};

Lag measure_lag(const Facts& facts, const Replay_History& history);

// What keeps a standby from being read from when it may be at most so far behind; empty: nothing.
std::string too_late(const Lag& lag, std::optional<Lsn> most_bytes, std::optional<Time> most_delay);

// ---- peers --------------------------------------------------------------------------------------

// What a peer answered over HTTP.
struct Http_Reply {
  int status = 0;     // 0: no reply that counts (late, oversized, unreachable, …)
  std::string body;   // at most max_reply_size bytes
  std::string error;  // why there is no reply
  Time sent_at{};     // when the request was sent, or earlier, on the asker's clock
};

// A longer body from a peer is no reply.
inline constexpr std::size_t max_reply_size = 1024;

// Sends `GET target` to a peer and hands over its reply, once, within `timeout`, from any thread;
// returns at once. Must not throw.
using Http_Get = std::function<void(const Node& peer, const std::string& target, Time timeout,
                                    std::function<void(Http_Reply)> done)>;

// Gives such a question up: its `done` is called soon, with no reply that counts. Must not block or
// call `done` itself.
using Http_Drop = std::function<void(const Node& peer, const std::string& target)>;

// The node that a peer's reply to /primary names, or none with `why` set. Never throws.
std::optional<std::string> http_node_reports_primary(const Http_Reply& reply, std::string& why);

// The state that a peer's reply to /state reports; Unknown for any reply that is not the
// contract's. Understands the key "State" of the original implementation. Never throws.
State http_node_reports_state(const Http_Reply& reply);

// Addresses of a host name, best first, within `timeout`; empty: unknown. An address is itself.
using Resolve = std::function<std::vector<std::string>(const std::string& host, Time timeout)>;

// ---- the local database -------------------------------------------------------------------------

// The connections to the local database, `max` at most. One counts until the *server* has closed
// its end: a backend that hangs goes on existing, and holding its locks, however its client left.
//
// Thread-safe: the mutex guards all that is below it; nothing blocks while it is held. A connection
// is used by the one who took it.
class Connection_Pool {
 public:
  explicit Connection_Pool(std::size_t max) : max_(max) { leaving_.reserve(max); }
  ~Connection_Pool();
  Connection_Pool(const Connection_Pool&) = delete;
  Connection_Pool& operator=(const Connection_Pool&) = delete;

  // An idle connection, or null. Give it back with put() or discard().
  PGconn* take();
  // Leave to open one more connection; false if that would leave less than `spare` for others.
  // Follow with put() or discard().
  bool reserve(std::size_t spare = 0);
  void put(PGconn* connection);
  // Gives a connection up (null: gives a reservation back): cancels its statement and ends our side
  // of it. Its place is free when collect() finds that the server has ended the other.
  void discard(PGconn* connection);
  // Goes on with what discard() began. Returns whether a place became free.
  bool collect();
  // Discards the idle connections that are gone. Returns whether there were any.
  bool drop_lost();
  // Adds what to poll(2) for, for collect() and drop_lost().
  void watch(std::vector<pollfd>& into) const;
  // Closes all that nobody has taken, and waits for nothing.
  void close();
  std::size_t open() const;
  std::size_t idle() const;  // of those

 private:
  // A connection that was given up, and the request to cancel its statement.
  struct Leaving {
    PGconn* connection;
    PGcancelConn* cancel;
    short cancel_events;
  };
  static void advance_cancel(Leaving& leaving);

  const std::size_t max_;
  mutable std::mutex mutex_;
  std::deque<PGconn*> idle_;
  std::vector<Leaving> leaving_;
  std::size_t open_ = 0;
};

// Looks at the local database without ever blocking on it: libpq's asynchronous calls, driven by
// the caller's poll(2) loop, with a deadline over connecting and answering together.
//
// A look is two exchanges, on a connection each where there may be two. The pulse asks for
// pg_is_in_recovery() and nothing else, so that no lock, slow view or slow disk behind the other
// holds it up: it alone says whether the server is there, and whether it is in recovery. The survey
// reads replication and repmgr.nodes; where it gets no answer, what it last read stands.
//
// First do no harm: all statements have statement_timeout and lock_timeout of their own, are sent
// one by one, each in a transaction of its own, and what is given up is cancelled.
//
// Not thread-safe: the refresher's alone.
class Database {
 public:
  Database(std::string conninfo, Time timeout, std::size_t max_connections, Resolve resolve);
  ~Database();

  // Starts a look. `urgent`: asks for repmgr.nodes also if it was blocked a moment ago. REQUIRES:
  // !looking().
  void begin(Time now, bool urgent = true);
  bool looking() const { return looking_; }
  // Goes as far as it can. The facts, when the look is over: answered, failed or out of time; and
  // again if the survey gets its answers later than that.
  std::optional<Facts> advance(Time now);
  // Between looks: whether a new one is worth it at once, since a connection is gone, or since a
  // place for one became free that the last look lacked.
  bool changed();
  // Gives up a look and closes every connection.
  void close();

  // Adds what to poll(2) for. And when to call advance() at the latest.
  void watch(std::vector<pollfd>& into) const;
  Time deadline() const;

  // Thread-safe.
  std::size_t connections() const { return pool_.open(); }

 private:
  // What the survey found last.
  struct Found {
    Replication replication;
    bool nodes_known = false;
    std::vector<Node> nodes;
    Time nodes_read_at{};
    Time attached_due{}, nodes_due{};  // not to be asked for again before that
    std::string blocked, problem;      // as in Facts
  };
  // A statement, and what becomes of its answer.
  struct Statement {
    const char* sql;
    int columns;
    void (*read)(Database& into, const PGresult* rows);  // REQUIRES: rows of `columns` columns
    void (*failed)(Database& into, const std::string& sqlstate, const std::string& message);
    Time Found::*due;  // left out before that; null: never
  };
  enum class Phase { idle, waiting, connecting, preparing, asking };
  // Statements on their way, one after the other, on one connection.
  struct Exchange {
    Phase phase = Phase::idle;
    PGconn* connection = nullptr;
    bool reused = false;  // the connection was idle before
    short events = 0;
    const Statement* statement = nullptr;  // the current one
    const Statement* end = nullptr;
    Time asked_at{}, deadline{};
    bool answered = false;      // the current statement was
    std::string refused;        // why no connection can be opened
    std::string error;          // why it fails, once the server has said all
    bool repeat = false;        // … unless another attempt may do
    int lost = 0;               // connections that broke, and attempts to repeat
    bool refused_once = false;  // since the last of them
  };

  static const Statement pulse_statement, survey_statements[3];
  static bool is_blocked(const std::string& sqlstate);

  void start(Exchange& exchange, const Statement* first, const Statement* end, Time now);
  void begin_survey(Time now);
  // Goes as far as it can. True when it is over, well or not.
  bool advance(Exchange& exchange, Time now);
  bool take_idle(Exchange& exchange);
  bool open(Exchange& exchange, Time now);
  bool find_connection(Exchange& exchange, Time now);
  void connect(Exchange& exchange, Time budget);
  void prepare(Exchange& exchange);
  void send(Exchange& exchange);
  bool read_answers(Exchange& exchange);
  void take_answer(Exchange& exchange, const PGresult* result);
  void broken(Exchange& exchange);
  bool fail(Exchange& exchange, const std::string& problem);
  std::string too_late(Phase phase) const;
  Facts facts() const;

  const std::string conninfo_;
  const Time timeout_;
  const std::size_t max_connections_;
  const std::string preparation_;  // the first message on a new connection
  const Resolve resolve_;
  Connection_Pool pool_;
  Exchange pulse_, survey_;
  Found found_;
  bool looking_ = false;
  bool survey_due_ = false, urgent_ = false;
  bool no_place_ = false;       // the pulse found no place for a connection
  bool survey_hung_ = false;    // the last survey had a connection, and no answer in time
  std::string survey_refused_;  // why the server lets in no connection for the survey
  Time survey_open_due_{};      // then: when to try again
  Time answered_at_{};          // when the pulse was answered last
  Time told_until_{};           // the look waits for its survey until then
  // What the pulse told last, and why it failed since.
  bool reachable_ = false, in_recovery_ = false, superuser_ = false;
  std::string problem_;
};

// ---- the node -----------------------------------------------------------------------------------

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

// Where a voter's promise outlives the process. Both may be null: then a voter that has just
// started is silent for one vote_lease.
struct Grant_Store {
  std::function<std::optional<Grant>()> load;  // none: it is not known what was promised
  // Keeps a grant. Returns by `until`, done or not, what a restart would find at the least: this
  // grant; or, where it could not be kept (in time), an earlier one; an empty one: not known.
  std::function<Grant(const Grant&, std::chrono::steady_clock::time_point until)> save;
};

// Who is Primary in the whole cluster, as far as this node was told.
struct Real_Primary {
  bool nodes_known = false;            // the node list was read at least once
  std::vector<std::string> claimants;  // the nodes whose /state is Primary, by node_id
};

// How the questions of one kind to one peer went.
struct Question_Count {
  std::string peer;
  const char* kind = "";  // "vote" or "state"
  std::uint64_t replied = 0, failed = 0;
  Time taken{};
};

// All that a node can tell about itself, at one moment.
struct Report {
  std::string name;
  std::optional<Node> self;  // its row of repmgr.nodes as last read
  Decision decision;
  Time state_for{};           // how long it has been in that state
  std::string primary;        // whom its own database names; empty: none
  std::vector<Voter> voters;  // of a candidate; of others none
  Time lease{};               // of a Primary: until too few votes are left
  bool in_recovery = false;
  Replication replication;
  Lag lag;
  Time cache_age{};
  std::optional<Time> nodes_age;  // since repmgr.nodes was read; none: it is not known
  std::string nodes_problem;      // why it is an old list that stands; empty: it is not
  std::size_t connections = 0;
  std::size_t claimants = 0;
  std::uint64_t looks = 0, failed_looks = 0;
  Time looked_for{};  // all of them together
  std::vector<Question_Count> questions;
};

// Thread-safe, but for run(), learn() and refresh(), which are the refresher's (one thread). One
// mutex guards all that is known (facts, votes, reports, cache) and is held for short, bounded work
// only: never while the database, a peer or the log is waited for. Replies of peers arrive in
// threads of the Http_Get; they store what they bring and wake the refresher.
class Repmgr_Node {
 public:
  // `other_clocks`: clocks that go on, or are set right, when a hypervisor has stopped the machine
  // and `clock` with it. They may jump; each is compared with itself only.
  Repmgr_Node(Node_Settings settings, Http_Get http_get, Resolve resolve, Clock clock, Logger log,
              Grant_Store grants = {}, Http_Drop http_drop = {},
              std::vector<Clock> other_clocks = {});
  ~Repmgr_Node();
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
  // This node's vote: what it answers to a candidate that counts votes for `lease`. It is granted
  // for vote_lease if the candidate is returned. If the cache does not name the candidate, the node
  // looks again.
  std::optional<std::string> get_primary(std::string_view candidate, Time lease);
  // Whether the local database answered pg_is_in_recovery() with true when last asked.
  bool get_is_in_recovery_mode() const;
  // This node's location in repmgr.nodes as last read; none if it is not listed.
  std::optional<std::string> get_node_site() const;
  // The registered nodes that vote on this one besides itself, as last read.
  std::vector<Node> get_all_other_nodes_in_site() const;
  // Every registered node, as last read: it outlives the database.
  std::vector<Node> get_all_nodes() const;
  // Which nodes of the cluster report to be Primary; this node speaks for itself.
  Real_Primary get_real_primary() const;
  // The decision behind get_state(), with its reason.
  Decision get_decision() const;
  // Who votes for whom, in words; empty if this node is no candidate.
  std::string get_votes() const;
  // How far this node is behind, and none if it is no standby that answers.
  std::optional<Lag> get_lag() const;
  Report get_report() const;

  // Whether the state is as good as it gets: the first look is over and, if votes matter, they
  // suffice or every voter has answered or failed. `cluster`: the same for get_real_primary().
  bool settled(bool cluster = false) const;

  // -- the refresher's steps, apart from run() so that a simulation can take them one by one
  // Takes in what a look at the database told.
  void learn(Facts facts);
  // Asks the peers that are due, decides anew, writes the cache. Returns when it is due again.
  Time refresh();
  // Asks each of nodes_to_poll that is due, in parallel and without waiting, whom it names. Returns
  // whether candidate_node has, now, a majority of the votes of num_in_consensus nodes.
  bool poll_other_nodes(const std::vector<Node>& nodes_to_poll, const std::string& candidate_node,
                        std::size_t num_in_consensus);

 private:
  // One kind of question to one peer: one under way at most.
  struct Question {
    std::optional<Time> asked_at;
    bool under_way = false;
    bool answered = false;  // or failed, at least once since the node became a candidate
    std::uint64_t replied = 0, failed = 0;
    Time taken{};
    Time unseen_before{};  // unseen_ when it was asked
  };
  struct Peer {
    Question vote, state;
    State reported = State::unknown;  // its last answer to /state
  };
  // What the handlers read: the decision, and when the look it rests on began.
  struct Cache {
    Time looked_at{};
    Decision decision{State::down, Time::max(), "the database was not asked yet"};
  };

  // These REQUIRE that mutex_ is held.
  void take_nodes();
  std::optional<Time> nodes_age(Time now) const;
  bool nodes_blocked() const;
  std::string nodes_problem() const;  // why the list that stands is old; empty: it is not
  std::vector<std::pair<Log_Level, std::string>> tell_database();
  const Node* candidate() const;
  State state_at(Time now) const;
  Decision decision_at(Time now) const;
  Time lifetime() const;
  Time unseen(Time now) const;
  Time age_votes(Time now);
  void read_clocks(Time now);
  Time pause() const;
  Time grace() const;
  std::vector<Voter> told_voters(Time now) const;
  std::vector<std::string> claimants(Time now) const;

  bool all_answered(Question Peer::*kind) const;

  void ask(const Node& peer, Question Peer::*kind, const std::string& target, Time interval,
           std::function<void(Peer&, const Http_Reply&)> take);
  Ballot vote(std::string_view named, std::string_view candidate, bool alone);
  Ballot vote_now(std::string_view named, std::string_view candidate, bool alone,
                  std::chrono::steady_clock::time_point until);
  void vote_for_itself(const Node& self, bool alone);
  void write_cache();
  void wake() const;

  const Node_Settings settings_;
  const Http_Get http_get_;
  const Http_Drop http_drop_;
  const Clock clock_;
  const std::vector<Clock> other_clocks_;
  const Logger log_;
  const Grant_Store grants_;
  Database database_;
  const int wake_fd_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> look_wanted_{false};
  std::atomic<Time> turned_at_;

  mutable std::mutex mutex_;
  Facts facts_;              // of the last look
  bool looked_ = false;      // there was one
  std::vector<Node> nodes_;  // the node list as last read, also when the database is gone
  Votes votes_;
  std::map<std::string, Peer> peers_;  // by name: every registered node but this one
  Cache cache_;
  Time clock_read_{};                    // when votes were last aged, by clock_ …
  std::vector<Time> other_clocks_read_;  // … and by the others
  Time unseen_{};                        // all that clock_ did not count
  Replay_History replay_;
  State told_ = State::down;  // what it last was, and since when
  std::optional<Time> told_since_;
  std::uint64_t looks_ = 0, failed_looks_ = 0;
  Time looked_for_{};
  bool superuser_told_ = false;
  std::optional<Time> blocked_since_;  // since when the list that stands was told to be old
  std::string logged_;  // state and reason last logged, so that each change is told once
  State logged_state_ = State::down;
  std::optional<Time> logged_since_;
  std::size_t under_way_ = 0;  // questions to peers; the destructor waits for their end
  std::condition_variable none_under_way_;

  // The promise is the business of one thread at a time, the one that set voting_: it must be kept
  // before it is told, and grants_.save() may take as long as a vote may (vote_patience). Others
  // wait for their turn, no longer than that all told, then do without the vote: a file that hangs
  // stalls votes and nothing else. vote_mutex_ guards voting_ alone.
  std::mutex vote_mutex_;
  std::condition_variable voted_;
  bool voting_ = false;
  Grant grant_;
  // What grants_ holds at the least. Its `until` runs ahead, so that not every vote is a write.
  Grant saved_;
};

}  // namespace primgr
