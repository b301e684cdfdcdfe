// What Database asks, and how it reads each answer.

#include <charconv>
#include <string_view>
#include <utility>

#include "node/conninfo.hpp"
#include "node/database.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// While repmgr.nodes is blocked, how often it is asked for: each attempt that fails is a line in
// PostgreSQL's log.
constexpr Time blocked_interval = 5s;

std::optional<double> number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(value >= 0 && value < 1e9)) return std::nullopt;
  return value;
}

// Seconds as extract(epoch …) writes them. Clocks that differ may make them negative: then zero.
std::optional<Time> seconds(const std::string& text) {
  if (text.starts_with('-')) return Time::zero();
  const auto value = number(text);
  if (!value) return std::nullopt;
  return std::chrono::duration_cast<Time>(std::chrono::duration<double>(*value));
}

// A field as text; empty for NULL, and for what the server did not send.
std::string field(const PGresult* rows, int row, int column) {
  if (row >= PQntuples(rows) || column >= PQnfields(rows)) return {};
  const char* value = PQgetvalue(rows, row, column);
  return value ? std::string(value, static_cast<std::size_t>(PQgetlength(rows, row, column)))
               : std::string();
}

Replication read_replication(const PGresult* rows) {
  Replication into;
  const auto text = [&](int column) { return field(rows, 0, column); };
  into.known = PQntuples(rows) == 1;
  if (!into.known) {
    into.problem = std::to_string(PQntuples(rows)) + " rows of replication instead of one";
    return into;
  }
  into.position = parse_lsn(text(0));
  int timeline = 0;
  const std::string file = text(1).substr(0, 8), received = text(4);
  // The first eight digits of a WAL file's name are its timeline.
  const auto [end, error] =
      file.empty() ? std::from_chars(received.data(), received.data() + received.size(), timeline)
                   : std::from_chars(file.data(), file.data() + file.size(), timeline, 16);
  if (error == std::errc()) into.timeline = timeline;
  into.receiving = PQgetisnull(rows, 0, 2) == 0;
  into.status = text(3);
  into.from = text(5);
  into.sender_at = parse_lsn(text(6));
  into.received = parse_lsn(text(7));
  into.since_commit = seconds(text(8));
  into.paused = text(9) == "t";
  return into;
}

std::vector<Attached> read_attached(const PGresult* rows) {
  std::vector<Attached> attached;
  for (int r = 0; r < PQntuples(rows); ++r) {
    const auto text = [&](int column) { return field(rows, r, column); };
    attached.push_back({text(0), text(1), text(2), text(3), parse_lsn(text(4)), seconds(text(5))});
  }
  return attached;
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
    node.host = conninfo_host(text(5));
    nodes.push_back(std::move(node));
  }
  return nodes;
}

}  // namespace

const Database::Statement Database::pulse_statement = {
    "EXECUTE primgr_pulse", 1,
    [](Database& into, const PGresult* rows) {
      const std::string answer = field(rows, 0, 0);
      if (PQntuples(rows) != 1 || (answer != "t" && answer != "f")) {
        into.pulse_.error = "pg_is_in_recovery() is neither true nor false";
        return;
      }
      const char* superuser = PQparameterStatus(into.pulse_.connection, "is_superuser");
      into.superuser_ = superuser && superuser == std::string_view("on");
      into.in_recovery_ = answer == "t";
      into.reachable_ = true;
      into.problem_.clear();
    },
    [](Database& into, const std::string&, const std::string& message) {
      into.pulse_.error = message;
    },
    nullptr};

// The list of nodes comes last, since it alone can be blocked by others.
const Database::Statement Database::survey_statements[] = {
    {"SELECT CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn()"
     " ELSE pg_catalog.pg_current_wal_lsn() END,"
     " CASE WHEN NOT r THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END,"
     " w.pid, w.status, w.received_tli, w.sender_host, w.latest_end_lsn,"
     " pg_catalog.pg_last_wal_receive_lsn(), CASE WHEN r THEN extract(epoch FROM"
     " pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END,"
     " CASE WHEN r THEN pg_catalog.pg_is_wal_replay_paused() END"
     " FROM pg_catalog.pg_is_in_recovery() AS r"
     " LEFT JOIN pg_catalog.pg_stat_wal_receiver AS w ON true",
     10,
     [](Database& into, const PGresult* rows) {
       auto attached = std::move(into.found_.replication.attached);  // until they are read anew
       into.found_.replication = read_replication(rows);
       into.found_.replication.attached = std::move(attached);
       into.found_.replication.asked_at = into.survey_.asked_at;
     },
     [](Database& into, const std::string&, const std::string& message) {
       into.found_.replication = {};
       into.found_.replication.problem = message;
       into.found_.replication.asked_at = into.survey_.asked_at;
     },
     nullptr},
    {"SELECT application_name, client_addr, state, sync_state, replay_lsn,"
     " extract(epoch FROM replay_lag) FROM pg_catalog.pg_stat_replication"
     " ORDER BY application_name, pid LIMIT 32",
     6,
     [](Database& into, const PGresult* rows) {
       into.found_.replication.attached = read_attached(rows);
       into.found_.attached_due = {};
     },
     [](Database& into, const std::string& sqlstate, const std::string& message) {
       into.found_.replication.attached.clear();
       into.found_.replication.problem = message;
       if (is_blocked(sqlstate)) {
         into.found_.attached_due = into.survey_.asked_at + blocked_interval;
       }
     },
     &Found::attached_due},
    // Bounded, whatever stands there.
    {"SELECT node_id, left(node_name, 256), left(location, 256), left(type, 256), active,"
     " CASE WHEN octet_length(conninfo) <= 8192 THEN conninfo END"
     " FROM repmgr.nodes ORDER BY node_id LIMIT 10000",
     6,
     [](Database& into, const PGresult* rows) {
       into.found_.nodes = read_nodes(rows);
       into.found_.nodes_known = true;
       into.found_.nodes_read_at = into.survey_.asked_at;
       into.found_.nodes_due = {};
       into.found_.blocked.clear();
       into.found_.problem.clear();
     },
     [](Database& into, const std::string& sqlstate, const std::string& message) {
       if (is_blocked(sqlstate)) {
         into.found_.blocked = message;
         into.found_.nodes_due = into.survey_.asked_at + blocked_interval;
         return;
       }
       into.found_.nodes_known = false;
       into.found_.nodes.clear();
       into.found_.blocked.clear();
       into.found_.problem = message;
     },
     &Found::nodes_due}};

// What the server may answer to a statement that nothing is wrong with: PostgreSQL's error classes
// 40 (rolled back, as by a conflict with recovery), 53 (resources), 57 (operator intervention,
// timeouts too), and a lock that was not to be had.
bool Database::is_blocked(const std::string& sqlstate) {
  return sqlstate.starts_with("40") || sqlstate.starts_with("53") || sqlstate.starts_with("57") ||
         sqlstate == "55P03";
}

}  // namespace primgr
