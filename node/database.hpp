// One look at the local database: is it there, is it in recovery, what does repmgr.nodes list.

#pragma once

#include <libpq-fe.h>
#include <poll.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "node/connection_pool.hpp"
#include "node/model.hpp"

namespace primgr {

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
  std::string timeout_message(Phase phase) const;
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

}  // namespace primgr
