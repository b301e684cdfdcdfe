#include "node/database.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "node/conninfo.hpp"
#include "node/text.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// How long a look waits for its survey once the pulse is there, so that both are told together.
constexpr Time survey_grace = 100ms;

// How often a second connection is tried that the server has refused.
constexpr Time refused_interval = 1min;

// How often an exchange starts anew because its connection broke.
constexpr int max_lost = 10;

struct Result_Deleter {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, Result_Deleter>;

// What each new connection is told first. A statement that waits for a lock gives up soon, so that
// the replication that is asked for after it stays fresh; none outlives db_timeout. Where there is
// one connection for both exchanges, a slow survey must leave the pulse its time. Nothing is found
// by a search_path that others may have set, and nothing is written.
std::string make_preparation(Time timeout, std::size_t max_connections) {
  const Time statement = max_connections > 1 ? timeout * 9 / 10 : timeout / 2;
  const Time lock = std::min<Time>(500ms, timeout / 2);
  return "SET statement_timeout = " + print_milliseconds(statement) +
         "; SET lock_timeout = " + print_milliseconds(lock) +
         "; SET search_path = pg_catalog, pg_temp; SET default_transaction_read_only = on;"
         " PREPARE primgr_pulse AS SELECT pg_catalog.pg_is_in_recovery()";
}

}  // namespace

Database::Database(std::string conninfo, Time timeout, std::size_t max_connections, Resolve resolve)
    : conninfo_(std::move(conninfo)),
      timeout_(timeout),
      max_connections_(max_connections),
      preparation_(make_preparation(timeout, max_connections)),
      resolve_(std::move(resolve)),
      pool_(max_connections) {}

Database::~Database() {
  close();
}

void Database::close() {
  for (Exchange* exchange : {&pulse_, &survey_}) {
    // What is on its way is cancelled by its timeout, as nobody is left to wait for it.
    if (exchange->connection) pool_.discard(std::exchange(exchange->connection, nullptr));
    exchange->phase = Phase::idle;
  }
  pool_.close();
  looking_ = false;
}

void Database::begin(Time now, bool urgent) {
  looking_ = survey_due_ = true;
  urgent_ = urgent;
  no_place_ = false;
  start(pulse_, &pulse_statement, &pulse_statement + 1, now);
  if (!take_idle(pulse_)) return;
  // A server that hung right after its last answer is to be told db_timeout after that, not a
  // whole interval later; but a look has half of db_timeout for itself.
  pulse_.deadline = std::max(answered_at_ + timeout_, now + timeout_ / 2);
  // With a connection for each, both go at once.
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
      told_until_ = now + survey_grace;
      // The survey opens a connection of its own, if it may, while the pulse still has the
      // other.
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
    // What is blocked is not waited for, but replication is.
    const bool survey_may_come =
        reachable_ && survey_.phase != Phase::idle &&
        (found_.blocked.empty() || found_.replication.asked_at < survey_.asked_at);
    if (survey_may_come && now < told_until_) return std::nullopt;
    looking_ = false;
    return facts();
  }
  if (surveyed && reachable_) return facts();
  return std::nullopt;
}

bool Database::changed() {
  const bool lost = pool_.drop_lost();
  pool_.collect();
  return lost || (no_place_ && pool_.open() < max_connections_);
}

Time Database::deadline() const {
  Time earliest = Time::max();
  for (const Exchange* exchange : {&pulse_, &survey_}) {
    if (exchange->phase != Phase::idle) earliest = std::min(earliest, exchange->deadline);
  }
  const bool waits = looking_ && pulse_.phase == Phase::idle;
  return waits ? std::min(earliest, told_until_) : earliest;
}

void Database::watch(std::vector<pollfd>& into) const {
  for (const Exchange* exchange : {&pulse_, &survey_}) {
    if (exchange->connection) into.push_back({PQsocket(exchange->connection), exchange->events, 0});
  }
  pool_.watch(into);
}

Facts Database::facts() const {
  Facts facts;
  facts.asked_at = pulse_.asked_at;
  facts.reachable = reachable_;
  if (!reachable_) {
    facts.problem = problem_;
    return facts;
  }
  facts.in_recovery = in_recovery_;
  facts.superuser = superuser_;
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

// Takes an idle connection, if the exchange may.
bool Database::take_idle(Exchange& exchange) {
  // The pulse always has one for itself, where there may be two: what holds up the survey must
  // not hold up the pulse. Only if the server lets in no second one, and lets none hang, they
  // share.
  const bool shares = max_connections_ == 1 || (!survey_refused_.empty() && !survey_hung_);
  if (&exchange == &survey_ && !pulse_.connection && pool_.idle() < 2 && !shares) return false;
  exchange.connection = pool_.take();
  if (!exchange.connection) return false;
  exchange.reused = true;
  send(exchange);
  return true;
}

// Begins to open a connection, unless that was refused before, or there is no place for it.
bool Database::open(Exchange& exchange, Time now) {
  if (!exchange.refused.empty()) return false;
  // Each attempt is a line in PostgreSQL's log.
  if (&exchange == &survey_ && !survey_refused_.empty() && now < survey_open_due_) return false;
  pool_.collect();
  // The survey leaves a place to the pulse.
  const bool pulse_needs_one = &exchange == &survey_ && looking_ && !pulse_.connection;
  if (!pool_.reserve(pulse_needs_one ? 1 : 0)) return false;
  connect(exchange, exchange.deadline - now);
  return exchange.connection != nullptr;
}

// REQUIRES: it waits for a connection. True when it has one, or is over.
bool Database::find_connection(Exchange& exchange, Time now) {
  if (take_idle(exchange) || open(exchange, now)) return true;
  // The one that the other exchange has may come back in time.
  const Exchange& other = &exchange == &pulse_ ? survey_ : pulse_;
  if (other.phase == Phase::asking || other.phase == Phase::preparing) return false;
  if (other.phase == Phase::connecting && exchange.refused.empty()) return false;
  if (!exchange.refused.empty()) return fail(exchange, exchange.refused);
  if (&exchange == &survey_ && !survey_refused_.empty()) return fail(exchange, survey_refused_);
  if (&exchange == &pulse_) no_place_ = true;
  const std::string before = &exchange == &pulse_ ? problem_ : found_.blocked;
  return fail(exchange,
              before.empty() ? "the server has not closed the connections before" : before);
}

// Starts to connect. libpq would look a host name up with a getaddrinfo() that blocks for as
// long as name service pleases, so the name is looked up here and libpq is given the addresses.
// REQUIRES: a place was reserved.
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
    if (hostaddr.empty()) {  // libpq would look it up itself, and wait
      exchange.refused = "no address found for " + name;
      pool_.discard(nullptr);
      return;
    }
  }
  std::vector<const char*> keys = {"dbname", "fallback_application_name", "client_encoding"};
  std::vector<const char*> values = {conninfo_.c_str(), "primgr", "UTF8"};
  if (!hostaddr.empty()) {
    keys.insert(keys.end(), {"host", "hostaddr"});
    values.insert(values.end(), {host.c_str(), hostaddr.c_str()});
  }
  keys.push_back(nullptr);
  values.push_back(nullptr);
  exchange.connection = PQconnectStartParams(keys.data(), values.data(), 1);
  if (!exchange.connection) {
    exchange.refused = "out of memory";
    pool_.discard(nullptr);
    return;
  }
  PQsetNoticeProcessor(
      exchange.connection, [](void*, const char*) {}, nullptr);
  exchange.phase = Phase::connecting;
  exchange.reused = false;
  exchange.events = POLLOUT;  // libpq: as if PQconnectPoll() had returned PGRES_POLLING_WRITING
} catch (const std::bad_alloc&) {
  pool_.discard(nullptr);
  exchange.refused = "out of memory";
}

// A failure to send shows in the connection's status, which advance() reads.
void Database::prepare(Exchange& exchange) {
  survey_refused_.clear();  // the server lets somebody in again
  exchange.phase = Phase::preparing;
  exchange.events = POLLIN | POLLOUT;
  if (PQsetnonblocking(exchange.connection, 1) == 0) {
    PQsendQuery(exchange.connection, preparation_.c_str());
  }
}

void Database::send(Exchange& exchange) {
  exchange.phase = Phase::asking;
  exchange.events = POLLIN | POLLOUT;
  PQsendQuery(exchange.connection, exchange.statement->sql);
}

// The connection failed. One that was there once is worth another attempt, since the server may
// be there all the same; and if that fails, one more, since it may have been ended like the
// first.
void Database::broken(Exchange& exchange) {
  const bool was_open = exchange.phase != Phase::connecting;
  const bool again = was_open ? exchange.lost++ < max_lost
                              : exchange.lost > 0 && !std::exchange(exchange.refused_once, true);
  if (was_open) exchange.refused_once = false;
  if (!again) {
    const std::string problem = one_line(PQerrorMessage(exchange.connection));
    // libpq has no words for a socket() that fails.
    exchange.refused = problem.empty() ? "no connection, and libpq does not say why" : problem;
    if (&exchange == &survey_) {
      survey_refused_ = exchange.refused;
      survey_open_due_ = exchange.asked_at + refused_interval;
    }
  }
  pool_.discard(std::exchange(exchange.connection, nullptr));
  exchange.phase = Phase::waiting;
  exchange.error.clear();
}

bool Database::fail(Exchange& exchange, const std::string& problem) {
  if (&exchange == &survey_ && exchange.connection) survey_hung_ = true;
  if (exchange.connection) pool_.discard(std::exchange(exchange.connection, nullptr));
  exchange.phase = Phase::idle;
  if (&exchange == &pulse_) {
    reachable_ = false;
    problem_ = problem;
    found_.nodes_due = found_.attached_due = {};
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
  const bool connected = phase == Phase::asking || phase == Phase::preparing;
  return std::string(connected ? "no answer" : "no connection") + " within db_timeout (" +
         print_milliseconds(timeout_) + " ms)";
}

bool Database::advance(Exchange& exchange, Time now) {
  // Bounded, so that a server that sends without an end cannot hold the caller.
  for (int i = 0; i < 100; ++i) {
    const bool late = now >= exchange.deadline;
    if (exchange.phase == Phase::waiting) {
      if (late) return fail(exchange, timeout_message(exchange.phase));
      if (!find_connection(exchange, now)) return false;
      if (exchange.phase == Phase::idle) return true;
    }
    if (PQstatus(exchange.connection) == CONNECTION_BAD) {
      broken(exchange);
      continue;
    }
    // What has come is read also if it is this process that is late.
    pollfd ready{PQsocket(exchange.connection), exchange.events, 0};
    const bool is_ready = ::poll(&ready, 1, 0) > 0;
    if (late && (!is_ready || now >= exchange.deadline + timeout_)) {
      return fail(exchange, timeout_message(exchange.phase));
    }
    if (!is_ready) return false;

    if (exchange.phase == Phase::connecting) {
      switch (PQconnectPoll(exchange.connection)) {
        case PGRES_POLLING_OK:
          prepare(exchange);
          break;
        case PGRES_POLLING_READING:
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
    if (read_answers(exchange)) return true;
  }
  return false;
}

// Reads what has come. True when the exchange is over.
bool Database::read_answers(Exchange& exchange) {
  while (!PQisBusy(exchange.connection)) {
    const Result result(PQgetResult(exchange.connection));
    if (result) {
      const ExecStatusType status = PQresultStatus(result.get());
      // The likes of COPY would go on for ever, and nothing here asks for them.
      if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_FATAL_ERROR) {
        return fail(exchange, std::string("the server answered with ") + PQresStatus(status));
      }
      take_answer(exchange, result.get());
      continue;
    }
    // The answer to one message is complete.
    if (PQstatus(exchange.connection) == CONNECTION_BAD) return false;
    if (exchange.phase == Phase::asking && !std::exchange(exchange.answered, false)) {
      exchange.statement->failed(*this, "", "the server answers nothing");
    }
    if (!exchange.error.empty()) {
      const std::string error = std::exchange(exchange.error, {});
      const bool repeat = exchange.repeat && exchange.phase == Phase::asking;
      if (!repeat || exchange.lost++ >= max_lost) return fail(exchange, error);
    } else if (exchange.phase == Phase::asking) {
      // What was blocked a moment ago is left out, unless it is urgent.
      do ++exchange.statement;
      while (exchange.statement != exchange.end && exchange.statement->due && !urgent_ &&
             exchange.asked_at < found_.*exchange.statement->due);
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

void Database::take_answer(Exchange& exchange, const PGresult* result) {
  const bool preparing = exchange.phase == Phase::preparing;
  const ExecStatusType status = PQresultStatus(result);
  if (preparing && status == PGRES_COMMAND_OK) return;
  exchange.answered = true;
  if (!preparing && status == PGRES_TUPLES_OK && PQnfields(result) == exchange.statement->columns) {
    exchange.statement->read(*this, result);
    return;
  }
  const char* sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char* message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  std::string problem = one_line(message ? message : PQresultErrorMessage(result));
  if (status != PGRES_FATAL_ERROR) {
    problem = "the server answered with " + std::to_string(PQnfields(result)) +
              " columns instead of " + std::to_string(exchange.statement->columns);
  } else if (problem.empty()) {
    problem = "the server reports an error without words";
  }
  exchange.repeat = sqlstate && is_blocked(sqlstate);
  if (preparing) {
    exchange.error = problem;
  } else {
    exchange.statement->failed(*this, sqlstate ? sqlstate : "", problem);
  }
}

}  // namespace primgr
