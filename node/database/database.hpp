// Looks at the local database: whether it answers, whether it is in recovery, how far replication
// is, and what repmgr.nodes lists.

#pragma once

#include <libpq-fe.h>
#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node/database/connection_pool.hpp"
#include "node/rules/model.hpp"

namespace primgr {

// Looks at the local database without ever waiting for it: libpq's asynchronous calls, driven by
// the caller's poll(2) loop, with one deadline for connecting and answering together. Only the name
// look-up of the server's host may block, as Resolve does, for `timeout` at most.
//
// A look is two exchanges, each on its own connection if max_connections allows two. The pulse asks
// for pg_is_in_recovery() and nothing else, so that no lock, slow view or slow disk that the survey
// meets can delay it. It alone decides whether the server is reachable, and whether it is in
// recovery. The survey reads replication and repmgr.nodes. If it gets no answer, replication is
// unknown, and the last list of nodes remains in use.
//
// The server must not suffer: each session has its own statement_timeout and lock_timeout,
// statements are sent one by one, each in its own transaction, and an abandoned one is cancelled.
//
// Nor must others that share a session: a connection pooler is found out before anything is changed
// in its sessions, and makes the database unreachable.
//
// Not thread-safe, but for connections(): it belongs to the refresher.
class Database {
 public:
  // `timeout`: of each exchange. `resolve` may be empty: then libpq looks host names up, and
  // blocks.
  Database(std::string conninfo, Time timeout, std::size_t max_connections, Resolve resolve);
  ~Database();

  // Starts a look. `urgent`: also runs statements that were blocked less than 5 s ago. REQUIRES:
  // !looking().
  void begin(Time now, bool urgent = true);
  bool looking() const { return looking_; }
  // Does what can be done without waiting. Returns the facts when the look is over (answered,
  // failed or timed out), and again if the survey ends later than that.
  std::optional<Facts> advance(Time now);
  // Between looks: whether a new one is worth starting at once, because a connection was lost or a
  // slot became free that the last look lacked. Also discards lost and reaps closed connections.
  bool look_needed();
  // Abandons the current look and closes all connections.
  void close();

  // Adds what poll(2) must wait for before the next call of advance() or look_needed().
  void add_pollfds(std::vector<pollfd>& pollfds) const;
  // When to call advance() at the latest; Time::max() if it has nothing to do.
  Time deadline() const;

  // Connections that count against max_connections. Thread-safe.
  std::size_t connections() const { return pool_.open(); }

 private:
  // The last results of the survey.
  struct Found {
    Replication replication;
    std::uint64_t system = 0;  // as in Facts
    bool nodes_known = false;
    std::vector<Node> nodes;
    Time nodes_read_at{};
    // If it was blocked: when to ask again. max(): not as long as the server runs.
    Time standbys_due{}, nodes_due{}, system_due{};
    std::string blocked, problem;  // as in Facts
  };
  // A statement, and the functions that store its result or its error.
  struct Statement {
    const char* sql;
    int columns;
    void (*read)(Database& database, const PGresult* rows);  // REQUIRES: rows of `columns` columns
    void (*failed)(Database& database, const std::string& sqlstate, const std::string& message);
    // Skipped before that time, unless urgent and not max(); null: never skipped.
    Time Found::*due;
  };
  enum class Phase { idle, waiting, connecting, checking, asking };
  // Statements sent one after the other on one connection. Phase::waiting: for a connection.
  // Phase::checking: whether that is the server's own.
  struct Exchange {
    Phase phase = Phase::idle;
    PGconn* connection = nullptr;
    bool prepared = false;  // the connection has had preparation()
    short events = 0;
    const Statement* statement = nullptr;  // the current one
    const Statement* end = nullptr;
    Time asked_at{}, deadline{};
    bool answered = false;             // the current statement has a result or an error
    bool contacted = false;            // something listens there
    std::string connect_error;         // why no connection can be opened
    bool gone = false;                 // as in Facts, of that
    std::string error;                 // of the statement; acted on when its answer is complete
    bool may_retry = false;            // after `error`: it says that the statement was only blocked
    int retries = 0;                   // after a lost connection or a blocked statement
    bool connect_failed_once = false;  // since a connection was lost
  };

  static const Statement pulse_statement, survey_statements[4];
  // Whether the error means that the statement is valid but could not run now.
  static bool is_blocked(const std::string& sqlstate);

  void start(Exchange& exchange, const Statement* first, const Statement* end, Time now);
  void begin_survey(Time now);
  // Does what can be done without waiting. True when the exchange is over, successful or not.
  bool advance(Exchange& exchange, Time now);
  bool take_idle(Exchange& exchange);
  bool open(Exchange& exchange, Time now);
  bool get_connection(Exchange& exchange, Time now);
  void connect(Exchange& exchange, Time budget);
  void check(Exchange& exchange);
  void send(Exchange& exchange);
  bool read_results(Exchange& exchange);
  void take_result(Exchange& exchange, const PGresult* result);
  void connection_lost(Exchange& exchange);
  bool fail(Exchange& exchange, const std::string& problem);
  std::string timeout_message(Phase phase) const;
  Facts facts() const;

  const std::string conninfo_;
  const Time timeout_;
  const std::size_t max_connections_;
  const std::string session_options_;  // of each connection, for the server
  const Resolve resolve_;
  Connection_Pool pool_;
  Exchange pulse_, survey_;
  Found found_;
  bool looking_ = false;
  bool survey_due_ = false, urgent_ = false;
  bool no_slot_ = false;              // the pulse found no free slot for a connection
  bool survey_hung_ = false;          // the last survey had a connection, and no answer in time
  std::string survey_connect_error_;  // why the survey could not connect; empty: it can
  Time survey_connect_due_{};         // if it could not: when to try again
  Time answered_at_{};                // when the pulse was answered last
  Time survey_awaited_until_{};       // how long the look waits for its survey
  // The last results of the pulse. problem_: why it failed, if not reachable_.
  bool reachable_ = false, gone_ = false, in_recovery_ = false, superuser_ = false;
  std::string problem_;
};

}  // namespace primgr
