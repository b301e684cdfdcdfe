// The SQL of Database, and how it reads each result.

#include <charconv>
#include <cstdint>
#include <string_view>
#include <utility>

#include "node/database/conninfo.hpp"
#include "node/database/database.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// How long a statement that was blocked is skipped: each failed attempt is a line in PostgreSQL's
// log.
constexpr Time blocked_interval = 5s;

// A number from 0 to 1e9; none otherwise.
std::optional<double> number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(value >= 0 && value < 1e9)) return std::nullopt;
  return value;
}

// Seconds as extract(epoch …) writes them. If two hosts' clocks differ, they may be negative: then
// the result is zero.
std::optional<Time> seconds(const std::string& text) {
  if (text.starts_with('-')) return Time::zero();
  const auto value = number(text);
  if (!value) return std::nullopt;
  return std::chrono::duration_cast<Time>(std::chrono::duration<double>(*value));
}

// A field as text; empty if it is NULL or not in the result.
std::string field(const PGresult* rows, int row, int column) {
  if (row >= PQntuples(rows) || column >= PQnfields(rows)) return {};
  const char* value = PQgetvalue(rows, row, column);
  return value ? std::string(value, static_cast<std::size_t>(PQgetlength(rows, row, column)))
               : std::string();
}

Replication read_replication(const PGresult* rows) {
  Replication replication;
  const auto text = [&](int column) { return field(rows, 0, column); };
  replication.known = PQntuples(rows) == 1;
  if (!replication.known) {
    replication.problem = std::to_string(PQntuples(rows)) + " rows of replication instead of one";
    return replication;
  }
  replication.position = parse_lsn(text(0));
  int timeline = 0;
  const std::string file = text(1).substr(0, 8), received = text(4);
  // The first eight digits of a WAL file's name are its timeline.
  const auto [end, error] =
      file.empty() ? std::from_chars(received.data(), received.data() + received.size(), timeline)
                   : std::from_chars(file.data(), file.data() + file.size(), timeline, 16);
  if (error == std::errc()) replication.timeline = timeline;
  replication.receiving = PQgetisnull(rows, 0, 2) == 0;
  replication.status = text(3);
  replication.from = text(5);
  replication.sender_lsn = parse_lsn(text(6));
  replication.received = parse_lsn(text(7));
  replication.since_commit = seconds(text(8));
  replication.paused = text(9) == "t";
  replication.server_started = text(10);
  return replication;
}

// SQL shows the identifier as a signed number, although it is unsigned in PostgreSQL. Zero: the
// text is not a number.
std::uint64_t read_system(const std::string& text) {
  std::int64_t system = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), system);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole ? static_cast<std::uint64_t>(system) : 0;
}

std::vector<Attached_Standby> read_standbys(const PGresult* rows) {
  std::vector<Attached_Standby> standbys;
  for (int r = 0; r < PQntuples(rows); ++r) {
    const auto text = [&](int column) { return field(rows, r, column); };
    standbys.push_back({text(0), text(1), text(2), text(3), parse_lsn(text(4)), seconds(text(5))});
  }
  return standbys;
}

std::vector<Node> read_nodes(const PGresult* rows) {
  std::vector<Node> nodes;
  for (int r = 0; r < PQntuples(rows); ++r) {
    const auto text = [&](int column) { return field(rows, r, column); };
    Node node;
    const std::string id = text(0);
    std::from_chars(id.data(), id.data() + id.size(), node.id);
    node.name = text(1);
    node.site = text(2);
    node.type = text(3);
    node.active = text(4) == "t";
    Conninfo_Host host = conninfo_host(text(5));
    node.host = std::move(host.name);
    node.hostaddr = std::move(host.address);
    nodes.push_back(std::move(node));
  }
  return nodes;
}

}  // namespace

const Database::Statement Database::pulse_statement = {
    "EXECUTE primgr_pulse", 1,
    [](Database& database, const PGresult* rows) {
      const std::string answer = field(rows, 0, 0);
      if (PQntuples(rows) != 1 || (answer != "t" && answer != "f")) {
        database.pulse_.error = "pg_is_in_recovery() is neither true nor false";
        return;
      }
      const char* superuser = PQparameterStatus(database.pulse_.connection, "is_superuser");
      database.superuser_ = superuser && superuser == std::string_view("on");
      database.in_recovery_ = answer == "t";
      database.reachable_ = true;
      database.problem_.clear();
    },
    [](Database& database, const std::string&, const std::string& message) {
      database.pulse_.error = message;
    },
    nullptr};

// repmgr.nodes comes last: it is a table, so other sessions may lock it, and the other statements
// must not wait for it.
const Database::Statement Database::survey_statements[] = {
    {"SELECT CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn()"
     " ELSE pg_catalog.pg_current_wal_lsn() END,"
     " CASE WHEN NOT r THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END,"
     " w.pid, w.status, CASE WHEN r THEN coalesce(w.received_tli,"
     " (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())) END, w.sender_host,"
     " w.latest_end_lsn,"
     " pg_catalog.pg_last_wal_receive_lsn(), CASE WHEN r THEN extract(epoch FROM"
     " pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END,"
     " CASE WHEN r THEN pg_catalog.pg_is_wal_replay_paused() END,"
     " pg_catalog.pg_postmaster_start_time()"
     " FROM pg_catalog.pg_is_in_recovery() AS r"
     " LEFT JOIN pg_catalog.pg_stat_wal_receiver AS w ON true",
     11,
     [](Database& database, const PGresult* rows) {
       // Leaves the standbys as they are until they are read by a later statement.
       Replication before = std::move(database.found_.replication);
       database.found_.replication = read_replication(rows);
       if (before.server_started != database.found_.replication.server_started) {
         database.found_.system = 0;
         database.found_.system_due = {};
       }
       database.found_.replication.standbys = std::move(before.standbys);
       database.found_.replication.standbys_asked_at = before.standbys_asked_at;
       database.found_.replication.asked_at = database.survey_.asked_at;
     },
     [](Database& database, const std::string&, const std::string& message) {
       database.found_.replication = {};
       database.found_.replication.problem = message;
       database.found_.replication.asked_at = database.survey_.asked_at;
       database.found_.system_due = {};
     },
     nullptr},
    // A statement of its own, so that a server that denies this right can still answer the others.
    // The identifier does not change while the server runs.
    {"SELECT system_identifier FROM pg_catalog.pg_control_system()", 1,
     [](Database& database, const PGresult* rows) {
       database.found_.system = read_system(field(rows, 0, 0));
       database.found_.system_due = Time::max();
     },
     [](Database& database, const std::string& sqlstate, const std::string&) {
       if (is_blocked(sqlstate)) {
         database.found_.system_due = database.survey_.asked_at + blocked_interval;
         return;
       }
       database.found_.system = 0;
       database.found_.system_due = Time::max();
     },
     &Found::system_due},
    {"SELECT application_name, client_addr, state, sync_state, replay_lsn,"
     " extract(epoch FROM replay_lag) FROM pg_catalog.pg_stat_replication"
     " ORDER BY application_name, pid LIMIT 32",
     6,
     [](Database& database, const PGresult* rows) {
       database.found_.replication.standbys = read_standbys(rows);
       database.found_.replication.standbys_asked_at = database.survey_.asked_at;
       database.found_.standbys_due = {};
     },
     [](Database& database, const std::string& sqlstate, const std::string& message) {
       database.found_.replication.standbys.clear();
       database.found_.replication.problem = message;
       if (is_blocked(sqlstate)) {
         database.found_.standbys_due = database.survey_.asked_at + blocked_interval;
       }
     },
     &Found::standbys_due},
    // Rows and fields are bounded, so that no content of the table can exhaust this process's
    // memory.
    {"SELECT node_id, left(node_name, 256), left(location, 256), left(type, 256), active,"
     " CASE WHEN octet_length(conninfo) <= 8192 THEN conninfo END"
     " FROM repmgr.nodes ORDER BY node_id LIMIT 10000",
     6,
     [](Database& database, const PGresult* rows) {
       database.found_.nodes = read_nodes(rows);
       database.found_.nodes_known = true;
       database.found_.nodes_read_at = database.survey_.asked_at;
       database.found_.nodes_due = {};
       database.found_.blocked.clear();
       database.found_.problem.clear();
     },
     [](Database& database, const std::string& sqlstate, const std::string& message) {
       if (is_blocked(sqlstate)) {
         database.found_.blocked = message;
         database.found_.nodes_due = database.survey_.asked_at + blocked_interval;
         return;
       }
       database.found_.nodes_known = false;
       database.found_.nodes.clear();
       database.found_.blocked.clear();
       database.found_.problem = message;
     },
     &Found::nodes_due}};

// PostgreSQL's error classes 40 (transaction rollback, as by a conflict with recovery), 53
// (insufficient resources) and 57 (operator intervention, which includes statement_timeout), and
// 55P03 (lock_not_available). See PostgreSQL's manual, appendix A.
bool Database::is_blocked(const std::string& sqlstate) {
  return sqlstate.starts_with("40") || sqlstate.starts_with("53") || sqlstate.starts_with("57") ||
         sqlstate == "55P03";
}

}  // namespace primgr
