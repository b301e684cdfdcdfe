// What others set for the sessions of a database: none of it changes what primgr says.

#include <doctest/doctest.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "base/json.hpp"
#include "tests/lab.hpp"
#include "tests/libpq.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

struct Setting {
  std::string name, value;
};
using Settings = std::vector<Setting>;

std::string in_quotes(const std::string& text, char quote) {
  std::string all(1, quote);
  for (const char c : text) all += c == quote ? std::string(2, c) : std::string(1, c);
  return all + quote;
}

// A cluster whose sessions are set up in odd ways, and a superuser on each node whose own sessions
// are not.
class Odd_Sessions {
 public:
  Odd_Sessions() : lab("--no-repmgrd --no-haproxy --state-file") {
    for (const std::string& node : lab.nodes()) {
      REQUIRE(lab.answers(node, node == "n1" ? 200 : 202));
      admins_[node] = open_connection(
          "host=" + lab.conf(node, "socket") +
          " user=postgres dbname=postgres options='-c default_transaction_read_only=off -c"
          " statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 -c"
          " default_transaction_deferrable=off -c default_transaction_isolation=read\\\\ "
          "committed'");
      REQUIRE(admins_[node]);
    }
  }

  // Runs SQL on a node; whether it succeeded.
  bool run(const std::string& node, const std::string& sql) const {
    const Result result(PQexec(admins_.at(node).get(), sql.c_str()));
    const ExecStatusType status = PQresultStatus(result.get());
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
  }
  std::string value(const std::string& node, const std::string& sql) const {
    const Result rows = query(admins_.at(node), sql);
    return rows && PQntuples(rows.get()) == 1 ? PQgetvalue(rows.get(), 0, 0) : "no value";
  }
  Settings settings(const std::string& sql) const {
    const Result rows = query(admins_.at("n1"), sql);
    REQUIRE(rows);
    Settings found;
    for (int r = 0; r < PQntuples(rows.get()); ++r) {
      found.push_back({PQgetvalue(rows.get(), r, 0), PQgetvalue(rows.get(), r, 1)});
    }
    return found;
  }

  // Gives all sessions that begin from here on these settings: those of primgr's role, and, unless
  // `role_only`, all in its database and all of each server. Those that this version does not know,
  // or that cannot be set there, are left out. Returns how many are in force for the role.
  std::size_t set(const Settings& all, bool role_only) const {
    std::size_t number = 0;
    for (const auto& [name, value] : all) {
      const std::string to =
          " SET " + in_quotes(name, '"') + " = " + (value.empty() ? "''" : in_quotes(value, '\''));
      number += run("n1", "ALTER ROLE primgr" + to);
      if (role_only) continue;
      run("n1", "ALTER DATABASE repmgr" + to);
      for (const auto& [node, admin] : admins_) run(node, "ALTER SYSTEM" + to);
    }
    follow();
    return number;
  }
  void reset(const Settings& all) const {
    run("n1", "ALTER ROLE primgr RESET ALL");
    run("n1", "ALTER DATABASE repmgr RESET ALL");
    for (const auto& [name, value] : all) {  // not RESET ALL: repmgr has settings there
      for (const auto& [node, admin] : admins_) {
        run(node, "ALTER SYSTEM RESET " + in_quotes(name, '"'));
      }
    }
    follow();
  }

  // Ends primgr's sessions, and checks that it says with the new ones what it said before: the
  // states, that standbys are fresh, and the nodes.
  void check(const std::string& what) const {
    CAPTURE(what);
    std::map<std::string, double> looks;
    for (const std::string& node : lab.nodes()) {
      run(node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'primgr'");
      looks[node] = lab.metric(node, "primgr_refresh_seconds_count");
    }
    for (const std::string& node : lab.nodes()) {
      CAPTURE(node);
      CHECK(eventually(
          30, [&] { return lab.metric(node, "primgr_refresh_seconds_count") >= looks[node] + 3; }));
      const Json shown = parse_json(lab.ask(node, "/node").body, 8);
      CAPTURE(shown.dump());
      CHECK(shown["state"] == (node == "n1" ? "Primary" : "Standby"));
      CHECK(shown["nodesProblem"].is_null());
      CHECK(shown["problems"].empty());
      CHECK(shown["primary"] == "n1");
      if (node != "n1") CHECK(lab.ask(node, "/replica?delay=10s").status == 200);
    }
  }

  const Lab lab;

 private:
  // Waits until standbys know what is set.
  void follow() const {
    for (const auto& [node, admin] : admins_) run(node, "SELECT pg_reload_conf()");
    const std::string end = value("n1", "SELECT pg_current_wal_insert_lsn()");
    for (const char* node : {"n2", "n3"}) {
      CHECK(eventually(30, [&] {
        return value(node, "SELECT pg_last_wal_replay_lsn() >= '" + end + "'") == "t";
      }));
    }
  }

  std::map<std::string, Connection> admins_;
};

const Settings transactions = {{"default_transaction_isolation", "serializable"},
                               {"default_transaction_deferrable", "on"},
                               {"default_transaction_read_only", "on"}};

const Settings times = {{"statement_timeout", "1s"},
                        {"lock_timeout", "1ms"},
                        {"idle_session_timeout", "300ms"},
                        {"idle_in_transaction_session_timeout", "1ms"},
                        {"transaction_timeout", "300ms"}};

const Settings words = {{"search_path", "nowhere"},
                        {"DateStyle", "SQL, DMY"},
                        {"IntervalStyle", "sql_standard"},
                        {"TimeZone", "Asia/Kolkata"},
                        {"client_encoding", "LATIN1"},
                        {"extra_float_digits", "-15"},
                        {"bytea_output", "escape"},
                        {"standard_conforming_strings", "off"},
                        {"client_min_messages", "debug5"},
                        {"row_security", "off"},
                        {"exit_on_error", "on"}};

const Settings work = {{"jit", "on"},
                       {"jit_above_cost", "0"},
                       {"jit_inline_above_cost", "0"},
                       {"jit_optimize_above_cost", "0"},
                       {"force_parallel_mode", "on"},
                       {"debug_parallel_query", "on"},
                       {"parallel_setup_cost", "0"},
                       {"plan_cache_mode", "force_custom_plan"},
                       {"work_mem", "64kB"},
                       {"enable_seqscan", "off"},
                       {"log_min_duration_statement", "0"}};

// Each setting that a session may have, at a value that it does not have now.
const char* const flipped =
    "SELECT name, CASE vartype WHEN 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END"
    " ELSE (SELECT v FROM unnest(enumvals) AS v WHERE v <> setting ORDER BY v DESC LIMIT 1) END"
    " FROM pg_settings WHERE context IN ('user', 'superuser') AND vartype IN ('bool', 'enum')";
const char* const least =
    "SELECT name, min_val FROM pg_settings WHERE context IN ('user', 'superuser')"
    " AND vartype IN ('integer', 'real') AND min_val <> setting";
const char* const most =
    "SELECT name, max_val FROM pg_settings WHERE context IN ('user', 'superuser')"
    " AND vartype IN ('integer', 'real') AND max_val <> setting";

}  // namespace

TEST_CASE("lab: no setting for a server, a database or a role changes a state") {
  if (!lab_possible("settings")) return;
  const Odd_Sessions odd;
  // A deferrable transaction waits for a serializable one that writes.
  const Connection writer =
      open_connection("host=" + odd.lab.conf("n1", "socket") + " user=postgres dbname=postgres");
  PQclear(PQexec(writer.get(), "CREATE TABLE written (i int)"));
  PQclear(PQexec(writer.get(),
                 "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE; SELECT * FROM written;"
                 " INSERT INTO written VALUES (1)"));
  const Watcher n1(odd.lab, "n1"), n2(odd.lab, "n2"), n3(odd.lab, "n3");
  for (const Settings& settings : {transactions, times, words, work}) {
    CHECK(odd.set(settings, false) >= settings.size() - 1);
    odd.check(settings.front().name);
    odd.reset(settings);
  }
  for (const char* sql : {flipped, least, most}) {
    const std::size_t number = odd.set(odd.settings(sql), true);
    std::cout << "  " << number << " settings of the role are odd\n";
    CHECK(number > 20);
    odd.check(sql);
    odd.reset({});
  }
  for (const int status : {503, 509}) {
    CAPTURE(status);
    CHECK_FALSE(n1.ever(status));
    CHECK_FALSE(n2.ever(status));
    CHECK_FALSE(n3.ever(status));
  }
}

TEST_SUITE_END();
