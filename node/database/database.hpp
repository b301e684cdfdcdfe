// Queries the local database: whether it answers, whether it is in recovery, how far replication
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

// Queries the local database without ever waiting for it. It uses libpq's asynchronous calls,
// driven by the caller's poll(2) loop, with one deadline for connecting and answering together.
// Only the look-up of the server's host name may block, as Resolve does, for `timeout` at most.
//
// A query of the database ("look" in the identifiers) is two exchanges, each on its own connection
// if max_connections allows two. The pulse asks for pg_is_in_recovery() and nothing else, so no
// lock, slow view or slow disk that delays the survey can delay it. The pulse alone decides whether
// the server is reachable, and whether it is in recovery. The survey reads replication and
// repmgr.nodes. If it gets no answer, replication is unknown, and the last list of nodes remains in
// use.
//
// The server must not suffer: each session has its own statement_timeout and lock_timeout,
// statements are sent one by one, each in its own transaction, and an abandoned statement is
// cancelled.
//
// Other clients that share a session must not suffer either. So a connection pooler is detected
// before anything is changed in its sessions, and then the database counts as unreachable.
//
// Not thread-safe, except for connections(): it belongs to the refresher.
class Database {
 public:
  // `timeout`: the limit of each exchange. `resolve` may be empty: then libpq looks host names up,
  // and blocks.
  Database(std::string conninfo, Time timeout, std::size_t max_connections, Resolve resolve);
  ~Database();

  // Starts a query of the database. `urgent`: also runs statements that were blocked less than 5 s
  // ago. REQUIRES: !looking().
  void begin(Time now, bool urgent = true);
  bool looking() const { return looking_; }
  // Does what can be done without waiting. Returns the facts when the query is over (answered,
  // failed or timed out), and again if the survey ends later.
  std::optional<Facts> advance(Time now);
  // Between two queries: whether a new one should start at once, because a connection was lost, or
  // because a slot became free that the last query needed. Also discards lost connections, and
  // reaps closed ones.
  bool look_needed();
  // Abandons the current query and closes all connections.
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
    // If the query was blocked: when to ask again. max(): not while this server runs.
    Time standbys_due{}, nodes_due{}, system_due{};
    std::string blocked, problem;  // as in Facts
  };
  // A statement, and the functions that store its result or its error.
  struct Statement {
    const char* sql;
    int columns;
    void (*read)(Database& database, const PGresult* rows);  // REQUIRES: rows of `columns` columns
    void (*failed)(Database& database, const std::string& sqlstate, const std::string& message);
    // The statement is skipped before that time. If the query is urgent, it is skipped only if that
    // is max(). Null: never skipped.
    Time Found::*due;
  };
  enum class Phase { idle, waiting, connecting, checking, asking };
  // Statements that are sent one after the other on one connection. Phase::waiting: waits for a
  // connection. Phase::checking: checks whether the connection is to the server itself.
  struct Exchange {
    Phase phase = Phase::idle;
    PGconn* connection = nullptr;
    bool prepared = false;  // preparation() was done on the connection
    short events = 0;
    const Statement* statement = nullptr;  // the current one
    const Statement* end = nullptr;
    Time asked_at{}, deadline{};
    bool answered = false;      // the current statement has a result or an error
    bool contacted = false;     // something listens there
    std::string connect_error;  // why no connection can be opened
    bool gone = false;          // as in Facts, after a failed connection
    // the error of the statement; handled when its answer is complete
    std::string error;
    bool may_retry = false;  // the statement of `error` was only blocked
    // the number of retries after a lost connection or a blocked statement
    int retries = 0;
    bool connect_failed_once = false;  // connecting has failed once since a connection was lost
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
  const std::string session_options_;  // the settings of each session
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
  Time answered_at_{};                // when the last pulse was answered
  Time survey_awaited_until_{};       // until when the query waits for its survey
  // The last results of the pulse. problem_: why it failed, if not reachable_.
  bool reachable_ = false, gone_ = false, in_recovery_ = false, superuser_ = false;
  std::string problem_;
};

}  // namespace primgr
