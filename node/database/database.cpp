#include "node/database/database.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <set>
#include <sstream>
#include <utility>

#include "base/text.hpp"
#include "node/database/conninfo.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// How long a query waits for its survey after the pulse, so that both are reported together.
constexpr Time survey_grace = 100ms;

// After the server refused a connection for the survey, the next attempt is made after this time.
// Each attempt is a line in PostgreSQL's log.
constexpr Time connect_interval = 1min;

// How many times an exchange is repeated after a lost connection or a blocked statement.
constexpr int max_retries = 10;

struct Result_Deleter {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, Result_Deleter>;

// SQLSTATE of a server that is starting up or shutting down (ERRCODE_CANNOT_CONNECT_NOW).
constexpr const char* cannot_connect_now = "57P03";

// If no connection can be opened, only libpq's verbose message has the SQLSTATE: "FATAL:  57P03:
// the database system is starting up", and a line "LOCATION:  …". Returns the SQLSTATEs in
// `message`, and changes `message` to what libpq has without being verbose.
std::set<std::string> take_sqlstates(std::string& message) {
  std::set<std::string> states;
  std::string plain;
  std::istringstream lines(message);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("LOCATION:  ")) continue;
    const auto at = line.find(":  ");
    if (at != line.npos && line.size() > at + 10 && line.compare(at + 8, 2, ": ") == 0) {
      states.insert(line.substr(at + 3, 5));
      line.erase(at + 3, 7);
    }
    plain += line + "\n";
  }
  message = std::move(plain);
  return states;
}

// The error of a connection whose other end is not the backend that answers.
constexpr const char* pooled =
    "conninfo leads to a connection pooler, such as PgBouncer, which gives a session to several "
    "clients: let it lead to PostgreSQL itself";

// The settings of each session, for libpq's `options`. They are sent with the request for the
// connection. So they are in force from its first moment, and override the settings of the server,
// the database and the role.
// - statement_timeout: no statement runs longer than db_timeout. If one connection serves both
//   exchanges, a slow survey must leave time for the pulse.
// - lock_timeout: a statement that waits for a lock fails soon, so that the next survey, with the
//   state of replication, is not late.
// - default_transaction_…: primgr writes nothing; a hot standby refuses serializable transactions,
//   and deferrable ones wait for those of others.
// - search_path, row_security: what a name means, and which rows are visible.
// - DateStyle, TimeZone, extra_float_digits: how results are written.
// - exit_on_error: an error would end the session.
// - jit, max_parallel_workers_per_gather: with these, the server could compile each of these small
//   statements, and start a process for it.
// - client_min_messages: nobody reads these messages.
// Not changed: `role`, by which an operator may give rights, and settings that make no difference
// to these statements.
std::string make_session_options(Time timeout, std::size_t max_connections) {
  const Time statement = max_connections > 1 ? timeout * 9 / 10 : timeout / 2;
  const Time lock = std::min<Time>(500ms, timeout / 2);
  return "-c statement_timeout=" + print_milliseconds(statement) +
         " -c lock_timeout=" + print_milliseconds(lock) +
         " -c default_transaction_read_only=on -c default_transaction_isolation=read\\ committed"
         " -c default_transaction_deferrable=off -c search_path=pg_catalog,pg_temp"
         " -c row_security=on -c DateStyle=ISO -c TimeZone=UTC -c extra_float_digits=0"
         " -c exit_on_error=off -c jit=off -c max_parallel_workers_per_gather=0"
         " -c client_min_messages=error";
}

// The statements before the first statement on a new connection, sent with it in one query. Some
// settings do not exist in each version; as session options they would make such a server refuse
// the connection.
std::string preparation(const PGconn* connection) {
  constexpr int version_14 = 140000, version_17 = 170000;
  const int version = PQserverVersion(connection);
  return std::string("BEGIN;") + (version >= version_14 ? " SET idle_session_timeout = 0;" : "") +
         (version >= version_17 ? " SET transaction_timeout = 0;" : "") +
         " PREPARE primgr_pulse AS SELECT pg_catalog.pg_is_in_recovery(); COMMIT; ";
}

// The `options` of the connection string, or else of PGOPTIONS; they precede those of the session.
std::string given_options(const Conninfo& options) {
  const std::string given = conninfo_option(options, "options");
  const char* environment = getenv("PGOPTIONS");
  return given.empty() && environment ? environment : given;
}

}  // namespace

Database::Database(std::string conninfo, Time timeout, std::size_t max_connections, Resolve resolve)
    : conninfo_(std::move(conninfo)),
      timeout_(timeout),
      max_connections_(max_connections),
      session_options_(make_session_options(timeout, max_connections)),
      resolve_(std::move(resolve)),
      pool_(max_connections) {}

Database::~Database() {
  close();
}

void Database::close() {
  for (Exchange* exchange : {&pulse_, &survey_}) {
    // The pool closes the socket at once, so only statement_timeout ends a running statement.
    if (exchange->connection) pool_.discard(std::exchange(exchange->connection, nullptr));
    exchange->phase = Phase::idle;
  }
  pool_.close();
  looking_ = false;
}

void Database::begin(Time now, bool urgent) {
  looking_ = survey_due_ = true;
  urgent_ = urgent;
  no_slot_ = false;
  start(pulse_, &pulse_statement, &pulse_statement + 1, now);
  if (!take_idle(pulse_)) return;
  // If the server hung right after its last answer, this must be noticed db_timeout after that
  // answer, not a refresh_interval later. But each query has at least half of db_timeout.
  pulse_.deadline = std::max(answered_at_ + timeout_, now + timeout_ / 2);
  // If a second connection is idle, both exchanges start at once.
  if (survey_.phase != Phase::idle || pool_.idle() == 0) return;
  begin_survey(now);
  take_idle(survey_);
}

void Database::begin_survey(Time now) {
  survey_due_ = false;
  if (survey_.phase != Phase::idle) return;
  start(survey_, std::begin(survey_statements), std::end(survey_statements), now);
}

void Database::start(Exchange& exchange, const Statement* first, const Statement* end, Time now) {
  exchange = {};
  exchange.phase = Phase::waiting;
  exchange.statement = first;
  exchange.end = end;
  exchange.asked_at = now;
  exchange.deadline = now + timeout_;
}

std::optional<Facts> Database::advance(Time now) {
  bool surveyed = false;
  for (bool again = true; again;) {
    again = pulse_.phase != Phase::idle && advance(pulse_, now);
    if (again && reachable_) {
      answered_at_ = now;
      survey_awaited_until_ = now + survey_grace;
      // The survey takes a connection before the pulse returns its own, so that the survey opens a
      // second one if it may.
      if (survey_due_) {
        begin_survey(now);
        if (survey_.phase == Phase::waiting && !take_idle(survey_)) open(survey_, now);
      }
      pool_.put(std::exchange(pulse_.connection, nullptr));
    }
    if (survey_.phase != Phase::idle && advance(survey_, now)) {
      surveyed = true;
      if (survey_.connection) {
        survey_hung_ = false;
        pool_.put(std::exchange(survey_.connection, nullptr));
      }
      again = again || pulse_.phase == Phase::waiting;
    }
  }
  if (looking_) {
    if (pulse_.phase != Phase::idle) return std::nullopt;
    // Waits for the state of replication, but not for a list of nodes that was blocked before.
    const bool survey_may_come =
        reachable_ && survey_.phase != Phase::idle &&
        (found_.blocked.empty() || found_.replication.asked_at < survey_.asked_at);
    if (survey_may_come && now < survey_awaited_until_) return std::nullopt;
    looking_ = false;
    return facts();
  }
  if (surveyed && reachable_) return facts();
  return std::nullopt;
}

bool Database::look_needed() {
  const bool lost = pool_.discard_lost();
  pool_.reap_closed();
  return lost || (no_slot_ && pool_.open() < max_connections_);
}

Time Database::deadline() const {
  Time earliest = Time::max();
  for (const Exchange* exchange : {&pulse_, &survey_}) {
    if (exchange->phase != Phase::idle) earliest = std::min(earliest, exchange->deadline);
  }
  const bool waits = looking_ && pulse_.phase == Phase::idle;
  return waits ? std::min(earliest, survey_awaited_until_) : earliest;
}

void Database::add_pollfds(std::vector<pollfd>& pollfds) const {
  for (const Exchange* exchange : {&pulse_, &survey_}) {
    if (exchange->connection)
      pollfds.push_back({PQsocket(exchange->connection), exchange->events, 0});
  }
  pool_.add_pollfds(pollfds);
}

Facts Database::facts() const {
  Facts facts;
  facts.asked_at = pulse_.asked_at;
  facts.reachable = reachable_;
  if (!reachable_) {
    facts.gone = gone_;
    facts.problem = problem_;
    return facts;
  }
  facts.in_recovery = in_recovery_;
  facts.superuser = superuser_;
  facts.system = found_.system;
  facts.nodes_known = found_.nodes_known;
  facts.nodes = found_.nodes;
  facts.nodes_read_at = found_.nodes_read_at;
  facts.blocked = found_.blocked;
  if (!facts.nodes_known) {
    facts.problem = found_.problem;
    facts.nodes_pending = found_.problem.empty() && found_.blocked.empty();
    if (!found_.blocked.empty()) {
      facts.problem = "it is blocked, and was not read before: " + found_.blocked;
    }
  }
  facts.replication = found_.replication;
  return facts;
}

// Takes an idle connection for the exchange; false if there is none that it may use.
bool Database::take_idle(Exchange& exchange) {
  // One connection is reserved for the pulse, so that a delay of the survey cannot delay the pulse.
  // Both share a connection if only one is allowed. They also share it if the server refuses a
  // second one and the last survey did not hang.
  const bool shares = max_connections_ == 1 || (!survey_connect_error_.empty() && !survey_hung_);
  if (&exchange == &survey_ && !pulse_.connection && pool_.idle() < 2 && !shares) return false;
  exchange.connection = pool_.take();
  if (!exchange.connection) return false;
  exchange.prepared = true;
  send(exchange);
  return true;
}

// Starts to open a connection; false if that failed before, or if there is no free slot.
bool Database::open(Exchange& exchange, Time now) {
  if (!exchange.connect_error.empty()) return false;
  if (&exchange == &survey_ && !survey_connect_error_.empty() && now < survey_connect_due_)
    return false;
  pool_.reap_closed();
  // The survey must leave a slot for the pulse.
  const bool pulse_needs_one = &exchange == &survey_ && looking_ && !pulse_.connection;
  if (!pool_.reserve(pulse_needs_one ? 1 : 0)) return false;
  connect(exchange, exchange.deadline - now);
  return exchange.connection != nullptr;
}

// Takes or opens a connection. True when the exchange has one or has failed; false: try again
// later. REQUIRES: Phase::waiting.
bool Database::get_connection(Exchange& exchange, Time now) {
  if (take_idle(exchange) || open(exchange, now)) return true;
  // The connection of the other exchange may become idle in time.
  const Exchange& other = &exchange == &pulse_ ? survey_ : pulse_;
  if (other.phase == Phase::asking || other.phase == Phase::checking) return false;
  if (other.phase == Phase::connecting && exchange.connect_error.empty()) return false;
  if (!exchange.connect_error.empty()) return fail(exchange, exchange.connect_error);
  if (&exchange == &survey_ && !survey_connect_error_.empty())
    return fail(exchange, survey_connect_error_);
  if (&exchange == &pulse_) no_slot_ = true;
  const std::string before = &exchange == &pulse_ ? problem_ : found_.blocked;
  return fail(exchange,
              before.empty() ? "the server has not closed the connections before" : before);
}

// Starts to connect. libpq would look the host name up with getaddrinfo(3), which has no time
// limit. So resolve_ does it, within `budget`, and passes the addresses to libpq. On failure, sets
// connect_error and frees the slot. REQUIRES: a slot was reserved.
void Database::connect(Exchange& exchange, Time budget) try {
  std::string host, hostaddr;
  const Conninfo options(PQconninfoParse(conninfo_.c_str(), nullptr));
  const std::string name = conninfo_option(options, "host");
  if (resolve_ && is_tcp_host(name) && name.find(',') == std::string::npos &&
      conninfo_option(options, "hostaddr").empty()) {
    for (const std::string& address : resolve_(name, budget)) {
      host += (host.empty() ? "" : ",") + name;
      hostaddr += (hostaddr.empty() ? "" : ",") + address;
    }
    if (hostaddr.empty()) {  // libpq would look it up itself, and block
      exchange.connect_error = "no address found for " + name;
      pool_.discard(nullptr);
      return;
    }
  }
  const std::string settings = given_options(options) + " " + session_options_;
  std::vector<const char*> keys = {"dbname", "fallback_application_name", "client_encoding",
                                   "options"};
  std::vector<const char*> values = {conninfo_.c_str(), "primgr", "UTF8", settings.c_str()};
  if (!hostaddr.empty()) {
    keys.insert(keys.end(), {"host", "hostaddr"});
    values.insert(values.end(), {host.c_str(), hostaddr.c_str()});
  }
  keys.push_back(nullptr);
  values.push_back(nullptr);
  exchange.connection = PQconnectStartParams(keys.data(), values.data(), 1);
  if (!exchange.connection) {
    exchange.connect_error = "out of memory";
    pool_.discard(nullptr);
    return;
  }
  PQsetNoticeProcessor(
      exchange.connection, [](void*, const char*) {}, nullptr);
  PQsetErrorVerbosity(exchange.connection, PQERRORS_VERBOSE);  // for take_sqlstates()
  exchange.phase = Phase::connecting;
  exchange.prepared = exchange.contacted = false;
  exchange.events = POLLOUT;  // libpq's manual: as if PQconnectPoll() had returned …_WRITING
} catch (const std::bad_alloc&) {
  pool_.discard(nullptr);
  exchange.connect_error = "out of memory";
}

// Asks for the process ID of the backend that answers: a pooler reports a made-up process ID for
// the connection. advance() notices a failure by the connection's status.
void Database::check(Exchange& exchange) {
  survey_connect_error_.clear();  // the server accepts connections again
  exchange.phase = Phase::checking;
  exchange.events = POLLIN | POLLOUT;
  if (PQsetnonblocking(exchange.connection, 1) == 0) {
    PQsendQuery(exchange.connection, "SELECT pg_catalog.pg_backend_pid()");
  }
}

void Database::send(Exchange& exchange) {
  exchange.phase = Phase::asking;
  exchange.events = POLLIN | POLLOUT;
  const std::string before = exchange.prepared ? "" : preparation(exchange.connection);
  PQsendQuery(exchange.connection, (before + exchange.statement->sql).c_str());
}

// The connection failed. If it was established, another connection is tried, since the server may
// be running. If connecting then fails, it is tried once more: the cause that ended the first
// connection may also have ended the second.
void Database::connection_lost(Exchange& exchange) {
  const bool was_open = exchange.phase != Phase::connecting;
  const bool again =
      was_open ? exchange.retries++ < max_retries
               : exchange.retries > 0 && !std::exchange(exchange.connect_failed_once, true);
  if (was_open) exchange.connect_failed_once = false;
  if (!again) {
    std::string message = PQerrorMessage(exchange.connection);
    const bool starting_or_ending = take_sqlstates(message).contains(cannot_connect_now);
    exchange.gone = !was_open && (!exchange.contacted || starting_or_ending);
    std::string problem = one_line(message);
    // PgBouncer refuses the options of the session, unless it is configured to ignore them.
    if (problem.find("unsupported startup parameter") != problem.npos) {
      problem += std::string(": ") + pooled;
    }
    // libpq gives no message if socket(2) fails.
    exchange.connect_error =
        problem.empty() ? "no connection, and libpq does not say why" : problem;
    if (&exchange == &survey_) {
      survey_connect_error_ = exchange.connect_error;
      survey_connect_due_ = exchange.asked_at + connect_interval;
    }
  }
  pool_.discard(std::exchange(exchange.connection, nullptr));
  exchange.phase = Phase::waiting;
  exchange.error.clear();
}

// Ends the exchange with an error. Returns true: it is over.
bool Database::fail(Exchange& exchange, const std::string& problem) {
  if (&exchange == &survey_ && exchange.connection) survey_hung_ = true;
  if (exchange.connection) pool_.discard(std::exchange(exchange.connection, nullptr));
  exchange.phase = Phase::idle;
  if (&exchange == &pulse_) {
    reachable_ = false;
    gone_ = exchange.gone;
    problem_ = problem;
    found_.nodes_due = found_.standbys_due = found_.system_due = {};
  } else {
    found_.blocked = problem;
    if (found_.replication.asked_at < exchange.asked_at) {
      found_.replication = {};
      found_.replication.asked_at = exchange.asked_at;
      found_.replication.problem = problem;
    }
  }
  return true;
}

std::string Database::timeout_message(Phase phase) const {
  const bool connected = phase == Phase::asking || phase == Phase::checking;
  return std::string(connected ? "no answer" : "no connection") + " within db_timeout (" +
         print_milliseconds(timeout_) + " ms)";
}

bool Database::advance(Exchange& exchange, Time now) {
  // Bounded, so that a server that sends data without end cannot keep the caller here.
  for (int i = 0; i < 100; ++i) {
    const bool late = now >= exchange.deadline;
    if (exchange.phase == Phase::waiting) {
      if (late) return fail(exchange, timeout_message(exchange.phase));
      if (!get_connection(exchange, now)) return false;
      if (exchange.phase == Phase::idle) return true;
    }
    if (PQstatus(exchange.connection) == CONNECTION_BAD) {
      connection_lost(exchange);
      continue;
    }
    // After the deadline, an answer that has arrived still counts: this process may be late, and
    // not the server.
    pollfd ready{PQsocket(exchange.connection), exchange.events, 0};
    const bool is_ready = ::poll(&ready, 1, 0) > 0;
    if (late && (!is_ready || now >= exchange.deadline + timeout_)) {
      return fail(exchange, timeout_message(exchange.phase));
    }
    if (!is_ready) return false;

    if (exchange.phase == Phase::connecting) {
      switch (PQconnectPoll(exchange.connection)) {
        case PGRES_POLLING_OK:
          check(exchange);
          break;
        case PGRES_POLLING_READING:  // libpq has sent something and waits for the answer
          exchange.contacted = true;
          exchange.events = POLLIN;
          break;
        case PGRES_POLLING_WRITING:
          exchange.events = POLLOUT;
          break;
        default:
          break;  // its status is CONNECTION_BAD now
      }
      continue;
    }
    exchange.events =
        static_cast<short>(PQflush(exchange.connection) > 0 ? POLLIN | POLLOUT : POLLIN);
    if ((ready.revents & ~POLLOUT) && PQconsumeInput(exchange.connection) == 0) continue;
    if (read_results(exchange)) return true;
  }
  return false;
}

// Reads the results that have arrived. True when the exchange is over.
bool Database::read_results(Exchange& exchange) {
  while (!PQisBusy(exchange.connection)) {
    const Result result(PQgetResult(exchange.connection));
    if (result) {
      const ExecStatusType status = PQresultStatus(result.get());
      // In a COPY state, PQgetResult() would return the same result again and again. No statement
      // here asks for COPY, so the server is faulty.
      if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_FATAL_ERROR) {
        return fail(exchange, std::string("the server answered with ") + PQresStatus(status));
      }
      take_result(exchange, result.get());
      continue;
    }
    // A null result: the answer to one query is complete.
    if (PQstatus(exchange.connection) == CONNECTION_BAD) return false;
    if (!std::exchange(exchange.answered, false)) {
      constexpr const char* nothing = "the server answers nothing";
      if (exchange.phase == Phase::asking) exchange.statement->failed(*this, "", nothing);
      if (exchange.phase == Phase::checking) exchange.error = nothing;
    }
    if (!exchange.error.empty()) {
      const std::string error = std::exchange(exchange.error, {});
      if (!exchange.may_retry || exchange.retries++ >= max_retries) return fail(exchange, error);
    } else if (exchange.phase == Phase::asking) {
      // Skips statements that were blocked a moment ago, unless the query is urgent.
      const auto skipped = [&] {
        if (!exchange.statement->due) return false;
        const Time due = found_.*exchange.statement->due;
        return due == Time::max() || (!urgent_ && exchange.asked_at < due);
      };
      do ++exchange.statement;
      while (exchange.statement != exchange.end && skipped());
      if (exchange.statement == exchange.end) {
        exchange.phase = Phase::idle;
        return true;
      }
    }
    send(exchange);
    return false;
  }
  return false;
}

void Database::take_result(Exchange& exchange, const PGresult* result) {
  const bool checking = exchange.phase == Phase::checking;
  const ExecStatusType status = PQresultStatus(result);
  if (!checking && !exchange.prepared && status == PGRES_COMMAND_OK) {
    exchange.prepared = PQcmdStatus(const_cast<PGresult*>(result)) == std::string_view("COMMIT");
    return;
  }
  exchange.answered = true;
  const int columns = checking ? 1 : exchange.statement->columns;
  if (status == PGRES_TUPLES_OK && PQnfields(result) == columns) {
    if (!checking) return exchange.statement->read(*this, result);
    const std::string backend = std::to_string(PQbackendPID(exchange.connection));
    const bool same = PQntuples(result) == 1 && PQgetvalue(result, 0, 0) == backend;
    if (!same) exchange.error = pooled;
    return;
  }
  const char* sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char* message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  std::string problem = one_line(message ? message : PQresultErrorMessage(result));
  if (status != PGRES_FATAL_ERROR) {
    problem = "the server answered with " + std::to_string(PQnfields(result)) +
              " columns instead of " + std::to_string(columns);
  } else if (problem.empty()) {
    problem = "the server reports an error without words";
  }
  const bool ready = !checking && exchange.prepared;
  exchange.may_retry = ready && sqlstate && is_blocked(sqlstate);
  if (!ready) {
    exchange.error = problem;
  } else {
    exchange.statement->failed(*this, sqlstate ? sqlstate : "", problem);
  }
}

}  // namespace primgr
