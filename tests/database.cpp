#include <doctest/doctest.h>

#include <algorithm>
#include <optional>

#include "node/database/database.hpp"
#include "tests/fake_postgres.hpp"
#include "tests/world.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("database");

namespace {

// A server that answers what the test says, and a Database that looks at it in virtual time.
struct Faked {
  explicit Faked(std::size_t connections = 3) : database(server.conninfo(), 1s, connections, {}) {}

  // The answer to each statement, by the words it begins with; the longest that fits.
  std::map<std::string, std::optional<std::string>> answers = {
      {"", pg_error("42601", "what?") + pg_ready()},
      {"SELECT pg_catalog.pg_backend_pid()",
       pg_table(1, {{std::to_string(Fake_Postgres::backend)}})},
      {"EXECUTE primgr_pulse", pg_table(1, {{"f"}})},
      {"SELECT CASE",
       pg_table(11, {{"0/10", "000000020000000000000001", {}, {}, {}, {}, {}, {}, {}, {}, {}}})},
      {"SELECT application_name", pg_table(6, {})},
      {"SELECT node_id", pg_table(6, {{"1", "n1", "s", "primary", "t", "host=10.0.0.1"}})}};
  std::vector<std::string> asked;
  // What comes before the first statement of each connection is apart.
  std::string preparation_answer = pg_complete("BEGIN") + pg_complete("SET") + pg_complete("SET") +
                                   pg_complete("PREPARE") + pg_complete("COMMIT");
  std::vector<std::string> preparations;
  // How many statements began with that.
  std::ptrdiff_t count_asked(const std::string& words) const {
    return std::count_if(asked.begin(), asked.end(),
                         [&](const std::string& sql) { return sql.starts_with(words); });
  }
  Fake_Postgres server{[this](std::string sql) -> std::optional<std::string> {
    const std::string end = "COMMIT; ";
    const auto at = sql.starts_with("BEGIN;") ? sql.find(end) + end.size() : 0;
    if (at) preparations.push_back(sql.substr(0, at));
    sql.erase(0, at);
    asked.push_back(sql);
    const auto* best = &*answers.begin();
    for (const auto& answer : answers) {
      if (sql.starts_with(answer.first)) best = &answer;
    }
    if (!at || !best->second) return best->second;
    if (preparation_answer.ends_with(pg_ready())) return preparation_answer;  // it fails
    return preparation_answer + *best->second;
  }};
  Database database;
  Time now = 1000s;

  // Drives both sides until a look is over, and a little longer: the facts.
  Facts look() {
    now += 1s;
    database.begin(now);
    for (int i = 0; i < 3000; ++i, now += 1ms) {
      server.step();
      auto facts = database.advance(now);
      if (!facts) continue;
      const auto later = wait(20ms);  // the survey may come after the pulse
      return later ? *later : *facts;
    }
    FAIL("a look takes 3 s at a timeout of 1 s");
    return {};
  }
  // Goes on for so long: the last facts, if any.
  std::optional<Facts> wait(Time time) {
    std::optional<Facts> last;
    for (const Time end = now + time; now < end; now += 1ms) {
      server.step();
      if (auto facts = database.advance(now)) last = facts;
      if (!database.looking()) database.look_needed();
    }
    return last;
  }
};

}  // namespace

TEST_CASE("a look reads the state, the nodes and replication, on two connections") {
  Faked faked;
  const Facts facts = faked.look();
  CHECK(facts.reachable);
  CHECK_FALSE(facts.in_recovery);
  CHECK_FALSE(facts.superuser);
  REQUIRE(facts.nodes_known);
  REQUIRE(facts.nodes.size() == 1);
  CHECK(facts.nodes[0].name == "n1");
  CHECK(facts.nodes[0].host == "10.0.0.1");
  CHECK(facts.blocked == "");
  CHECK(facts.replication.known);
  CHECK(facts.replication.position == Lsn{0x10});
  CHECK(facts.replication.timeline == 2);
  CHECK(faked.database.connections() == 2);
  CHECK(faked.look().nodes_known);
  CHECK(faked.database.connections() == 2);
  // The pulse has its connection for itself.
  CHECK(std::count(faked.asked.begin(), faked.asked.end(), "EXECUTE primgr_pulse") == 2);
}

TEST_CASE("each session begins with its settings") {
  setenv("PGOPTIONS", "-c geqo=off", 1);
  Faked faked;
  faked.look();
  unsetenv("PGOPTIONS");
  REQUIRE(faked.server.started.size() == 2);
  for (const std::string& started : faked.server.started) {
    const auto at = started.find(std::string("\0options\0-c geqo=off ", 21));
    REQUIRE(at != started.npos);
    const std::string options = started.c_str() + at + 9;
    CHECK(options.find(" -c statement_timeout=900 ") != options.npos);
    CHECK(options.find(" -c lock_timeout=500 ") != options.npos);
    CHECK(options.find(" -c search_path=pg_catalog,pg_temp ") != options.npos);
    CHECK(options.find(" -c default_transaction_isolation=read\\ committed ") != options.npos);
  }
  CHECK(faked.preparations ==
        std::vector<std::string>(
            2,
            "BEGIN; SET idle_session_timeout = 0; SET transaction_timeout = 0; PREPARE "
            "primgr_pulse AS SELECT pg_catalog.pg_is_in_recovery(); COMMIT; "));
  CHECK(faked.count_asked("SELECT pg_catalog.pg_backend_pid()") == 2);

  Faked older;
  older.server.version = "16.9";
  older.preparation_answer =
      pg_complete("BEGIN") + pg_complete("SET") + pg_complete("PREPARE") + pg_complete("COMMIT");
  CHECK(older.look().reachable);
  CHECK(older.preparations.at(0).find("transaction_timeout") == std::string::npos);

  Faked refusing;
  refusing.preparation_answer = pg_error("57014", "no such thing") + pg_ready();
  const Facts facts = refusing.look();
  CHECK_FALSE(facts.reachable);
  CHECK(facts.problem == "no such thing");
  CHECK(refusing.database.connections() <= 1);
}

TEST_CASE("a connection pooler is refused before anything is set in its sessions") {
  Faked faked;
  faked.answers["SELECT pg_catalog.pg_backend_pid()"] = pg_table(1, {{"8"}});
  for (int i = 0; i < 3; ++i) {
    const Facts facts = faked.look();
    CHECK_FALSE(facts.reachable);
    CHECK_FALSE(facts.gone);
    CHECK(facts.problem.find("connection pooler, such as PgBouncer") != std::string::npos);
  }
  CHECK(faked.preparations.empty());
  CHECK(faked.asked == std::vector<std::string>(3, "SELECT pg_catalog.pg_backend_pid()"));
  for (const std::string& answer :
       {pg_ready(), pg_complete("SELECT 0") + pg_ready(), pg_table(1, {}),
        pg_table(1, {{"7"}, {"7"}}), pg_table(2, {{"7", "7"}}), pg_table(1, {{std::nullopt}}),
        pg_error("57014", "x") + pg_ready()}) {
    CAPTURE(answer);
    Faked other;
    other.answers["SELECT pg_catalog.pg_backend_pid()"] = answer;
    const Facts facts = other.look();
    CHECK_FALSE(facts.reachable);
    CHECK(facts.problem != "");
    CHECK(other.preparations.empty());
  }
}

TEST_CASE("with one connection allowed, pulse and survey share it") {
  Faked faked(1);
  const Facts facts = faked.look();
  CHECK(facts.nodes_known);
  CHECK(faked.database.connections() == 1);
  CHECK(faked.server.started.at(0).find("-c statement_timeout=500 ") != std::string::npos);
  // The survey gets no answer: the pulse waits for the connection, and gives up in time.
  faked.answers["SELECT node_id"] = "";
  CHECK(faked.look().reachable);
  CHECK_FALSE(faked.look().reachable);
  CHECK(faked.database.connections() <= 1);
}

TEST_CASE("a blocked repmgr.nodes keeps the last list in use; an error does not") {
  Faked faked;
  CHECK(faked.look().nodes_known);
  const Time read_at = faked.now;
  for (const std::string sqlstate : {"55P03", "57014", "40001", "53200"}) {
    CAPTURE(sqlstate);
    faked.answers["SELECT node_id"] = pg_error(sqlstate, "later") + pg_ready();
    const Facts facts = faked.look();
    CHECK(facts.reachable);
    REQUIRE(facts.nodes_known);
    CHECK(facts.nodes.size() == 1);
    CHECK(facts.nodes_read_at <= read_at);
    CHECK(facts.blocked == "later");
    CHECK(facts.replication.known);
  }
  for (const std::string sqlstate : {"42501", "42P01", "3F000", "XX001"}) {
    CAPTURE(sqlstate);
    faked.answers["SELECT node_id"] = pg_error(sqlstate, "no") + pg_ready();
    const Facts facts = faked.look();
    CHECK(facts.reachable);
    CHECK_FALSE(facts.nodes_known);
    CHECK_FALSE(facts.nodes_pending);
    CHECK(facts.nodes.empty());
    CHECK(facts.problem == "no");
  }
  // A list that an error made unknown does not come back when the table is blocked.
  faked.answers["SELECT node_id"] = pg_error("55P03", "later") + pg_ready();
  const Facts facts = faked.look();
  CHECK_FALSE(facts.nodes_known);
  CHECK(facts.problem == "it is blocked, and was not read before: later");
}

TEST_CASE("a blocked repmgr.nodes is read every 5 s, or at once by an urgent look") {
  Faked faked;
  faked.answers["SELECT node_id"] = pg_error("55P03", "later") + pg_ready();
  const auto asked = [&] { return faked.count_asked("SELECT node_id"); };
  const auto look = [&](bool urgent) {
    faked.now += 1s;
    faked.database.begin(faked.now, urgent);
    faked.wait(10ms);
    CHECK_FALSE(faked.database.looking());
  };
  look(false);
  CHECK(asked() == 1);
  look(false);
  look(false);
  CHECK(asked() == 1);
  look(true);
  CHECK(asked() == 2);
  for (int i = 0; i < 5; ++i) look(false);
  CHECK(asked() == 3);
}

TEST_CASE(
    "a survey without an answer does not delay the pulse; in the end replication is unknown") {
  Faked faked;
  faked.look();
  faked.answers["SELECT node_id"] = "";
  for (int i = 0; i < 8; ++i) {
    const Facts facts = faked.look();
    CHECK(facts.reachable);
    CHECK(facts.nodes_known);
    CHECK(facts.replication.known);
    CHECK(faked.database.connections() <= 3);
    CHECK(faked.server.clients() <= 3);
  }
  // Replication comes from the same survey: an old answer is not reported for ever.
  faked.answers["SELECT CASE"] = "";
  faked.wait(3s);
  faked.look();
  faked.wait(2s);
  const Facts facts = faked.look();
  CHECK(facts.reachable);
  CHECK_FALSE(facts.replication.known);
  CHECK(facts.replication.problem == "no answer within db_timeout (1000 ms)");
}

TEST_CASE("a survey that hangs never takes the pulse's connection") {
  for (const std::size_t most : {2, 3}) {
    CAPTURE(most);
    // It closes nothing while `stuck`, like a backend that waits for its disk.
    Faked faked(most);
    faked.look();
    bool stuck = true;
    faked.answers["SELECT node_id"] = "";
    for (int i = 0; i < 12; ++i) {
      faked.database.begin(faked.now);
      std::optional<Facts> last;
      for (int step = 0; step < 1000; ++step, faked.now += 1ms) {
        // A client that has asked for the list is served no more: its end is not seen.
        faked.server.step([&](const std::string& asked_last) {
          return !(stuck && asked_last.starts_with("SELECT node_id"));
        });
        if (auto facts = faked.database.advance(faked.now)) last = facts;
      }
      REQUIRE(last);
      CHECK(last->reachable);
      CHECK(last->nodes_known);
      CHECK(faked.database.connections() <= most);
    }
    // Once on each connection but the pulse's.
    CHECK(faked.count_asked("SELECT node_id") == static_cast<std::ptrdiff_t>(most) - 1);
    stuck = false;
    faked.answers["SELECT node_id"] = pg_table(6, {{"1", "n1", "s", "primary", "t", "host=h"}});
    faked.wait(100ms);
    CHECK(faked.look().blocked == "");
  }
}

TEST_CASE(
    "a server that accepts one connection only: pulse and survey share it, more are rarely tried") {
  Faked faked;
  std::size_t refused = 0;
  faked.server.admit = [&](std::size_t clients) {
    if (clients < 1) return true;
    ++refused;
    return false;
  };
  for (int i = 0; i < 30; ++i) {
    const Facts facts = faked.look();
    CHECK(facts.reachable);
    CHECK(facts.nodes_known);
    CHECK(facts.blocked == "");
    CHECK(facts.replication.known);
  }
  CHECK(refused >= 1);
  CHECK(refused <= 3);
}

TEST_CASE("a blocked pg_stat_replication is not read at every look either") {
  Faked faked;
  faked.answers["SELECT application_name"] = pg_error("55P03", "later") + pg_ready();
  for (int i = 0; i < 5; ++i) {
    faked.now += 1s;
    faked.database.begin(faked.now, false);
    const auto facts = faked.wait(10ms);
    REQUIRE(facts);
    CHECK(facts->replication.known);
    CHECK(facts->nodes_known);
  }
  CHECK(faked.count_asked("SELECT application_name") == 1);
}

TEST_CASE("standbys that are awaited anew are told with the time at which they were asked for") {
  Faked faked;
  auto& standbys = faked.answers["SELECT application_name"];
  standbys = pg_table(6, {{"n2", "10.0.0.2", "streaming", "sync", "0/10", {}}});
  const Replication first = faked.look().replication;
  REQUIRE(first.standbys.size() == 1);
  CHECK(first.standbys_asked_at == first.asked_at);
  standbys.reset();  // no answer
  const Replication second = faked.look().replication;
  REQUIRE(second.standbys.size() == 1);
  CHECK(second.asked_at > first.asked_at);
  CHECK(second.standbys_asked_at == first.standbys_asked_at);
}

TEST_CASE("a connection is replaced only when the server has closed it") {
  Faked faked;
  faked.look();
  // It reads nothing more, and closes nothing.
  const auto hang = [&](int looks) {
    for (int i = 0; i < looks; ++i) {
      faked.now += 1s;
      faked.database.begin(faked.now);
      std::optional<Facts> facts;
      for (int step = 0; step < 3000 && !facts; ++step, faked.now += 1ms) {
        facts = faked.database.advance(faked.now);
      }
      REQUIRE(facts);
      CHECK_FALSE(facts->reachable);
      CHECK(facts->problem.find("within db_timeout (1000 ms)") != std::string::npos);
      CHECK(faked.database.connections() <= 3);
    }
  };
  hang(6);
  CHECK(faked.database.connections() == 3);
  CHECK_FALSE(faked.database.look_needed());
  // It wakes up: each connection that was given up ends, and the next look finds places.
  faked.server.step();
  CHECK(eventually(10, [&] {
    faked.server.step();
    return faked.database.look_needed();
  }));
  CHECK(faked.look().reachable);
  CHECK(faked.look().nodes_known);
  CHECK(faked.database.connections() == 2);
}

TEST_CASE("a connection that breaks is replaced within the look, a few times at most") {
  Faked faked;
  faked.look();
  const std::string working = *faked.answers["EXECUTE primgr_pulse"];
  faked.answers["EXECUTE primgr_pulse"].reset();  // ends the connection
  faked.asked.clear();
  faked.now += 1s;
  faked.database.begin(faked.now);
  std::optional<Facts> facts;
  for (int i = 0; i < 2000 && !facts; ++i, faked.now += 1ms) {
    faked.server.step();
    if (std::count(faked.asked.begin(), faked.asked.end(), "EXECUTE primgr_pulse") == 3)
      faked.answers["EXECUTE primgr_pulse"] = working;
    facts = faked.database.advance(faked.now);
  }
  REQUIRE(facts);
  CHECK(facts->reachable);
  faked.answers["EXECUTE primgr_pulse"].reset();
  const Facts down = faked.look();
  CHECK_FALSE(down.reachable);
  CHECK(down.problem != "");
}

TEST_CASE("the system identifier is asked for once as long as the server runs") {
  Faked faked;
  const std::string statement = "SELECT system_identifier";
  const auto started = [&](const char* when) {
    faked.answers["SELECT CASE"] =
        pg_table(11, {{"0/10", "000000020000000000000001", {}, {}, {}, {}, {}, {}, {}, {}, when}});
  };
  started("10:00");
  faked.answers[statement] = pg_table(1, {{"7412345678901234567"}});
  CHECK(faked.look().system == 7412345678901234567U);
  faked.look();
  faked.look();
  CHECK(faked.count_asked(statement) == 1);
  started("11:00");
  faked.answers[statement] = pg_table(1, {{"-2"}});  // a server has it without a sign
  CHECK(faked.look().system == 18446744073709551614U);
  CHECK(faked.count_asked(statement) == 2);
  // Who may not ask is asked no more, and no other statement fails for it.
  started("12:00");
  faked.answers[statement] = pg_error("42501", "permission denied") + pg_ready();
  for (int i = 0; i < 3; ++i) {
    const Facts facts = faked.look();
    CHECK(facts.system == 0);
    CHECK(facts.reachable);
    CHECK(facts.nodes_known);
    CHECK(facts.replication.timeline == 2);
  }
  CHECK(faked.count_asked(statement) == 3);
  started("13:00");
  for (const char* odd : {"", "7.5", "x7", "7x", "18446744073709551616"}) {
    CAPTURE(odd);
    started(odd);
    faked.answers[statement] = pg_table(1, {{odd}});
    CHECK(faked.look().system == 0);
  }
}

TEST_CASE("malformed answers of the server are reported and do no harm") {
  const Pg_Row six(6, "1");
  for (const std::string& answer :
       {pg_table(0, {{}}), pg_table(5, {Pg_Row(5, "1")}), pg_table(7, {Pg_Row(7, "1")}),
        pg_columns(6) + pg_row(Pg_Row(2, "1")) + pg_complete("SELECT 1") + pg_ready(),
        pg_row(six) + pg_complete("SELECT 1") + pg_ready(), pg_complete("SELECT 0") + pg_ready(),
        pg_ready(), pg_error("", "") + pg_ready(), pg_message('G', big_endian(0, 3)) + pg_ready(),
        pg_message('H', big_endian(0, 3)), pg_message('W', big_endian(0, 3)),
        pg_message('I', "") + pg_ready(), pg_message('3', "") + pg_ready(),
        pg_table(6, {Pg_Row(6, std::nullopt)}), pg_table(6, {Pg_Row(6, std::string(70000, 'x'))}),
        std::string("\0\0\0\0\0", 5), std::string("T\xff\xff\xff\xff")}) {
    for (const std::string statement :
         {"EXECUTE primgr_pulse", "SELECT CASE", "SELECT system_identifier",
          "SELECT application_name", "SELECT node_id", "SELECT pg_catalog.pg_backend_pid()"}) {
      Faked faked;
      faked.answers[statement] = answer;
      CAPTURE(statement);
      CAPTURE(answer.substr(0, 100));
      const Facts facts = faked.look();
      faked.wait(3s);
      CHECK(faked.database.connections() <= 3);
      if (!facts.reachable) CHECK(facts.problem != "");
      if (!facts.nodes_known) CHECK(facts.nodes.empty());
      if (statement.starts_with("SELECT") && statement.find("backend") == statement.npos) {
        CHECK(facts.reachable);
      }
    }
  }
  // NULL is no true, no name and no position.
  Faked faked;
  faked.answers["EXECUTE primgr_pulse"] = pg_table(1, {{std::nullopt}});
  CHECK_FALSE(faked.look().reachable);
  faked.answers["EXECUTE primgr_pulse"] = pg_table(1, {{"t"}, {"t"}});
  CHECK_FALSE(faked.look().reachable);
  faked.answers["EXECUTE primgr_pulse"] = pg_table(1, {{"f"}});
  faked.answers["SELECT CASE"] = pg_table(11, {});
  const Facts facts = faked.look();
  CHECK(facts.reachable);
  CHECK(facts.replication.problem == "0 rows of replication instead of one");
}

TEST_SUITE_END();
