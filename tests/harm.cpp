// Harm to a real database, by others and by primgr.

#include <doctest/doctest.h>
#include <libpq-fe.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/file.hpp"
#include "base/json.hpp"
#include "tests/lab.hpp"

using namespace primgr;

namespace {

// No other state was ever answered.
void check_only(const Watcher& watcher, int status) {
  for (const int other : {200, 202, 503, 509}) {
    if (other == status) continue;
    CAPTURE(other);
    CHECK_FALSE(watcher.ever(other));
  }
}

// A real cluster whose primary database is harmed, while a thread counts primgr's backends on it:
// never more than max_connections_in_pool, and no lock that others wait for longer than db_timeout.
// `make harm HARM_SECONDS=600` takes ten minutes for each test instead of some seconds.
class Harm {
 public:
  explicit Harm(const std::string& options = "")
      : lab("--no-repmgrd --no-haproxy --state-file " + options),
        data_(lab.conf("n1", "data")),
        socket_(lab.conf("n1", "socket")) {
    for (const char* node : {"n2", "n3"}) REQUIRE(lab.answers(node, 202));
    REQUIRE(lab.answers("n1", 200));
    REQUIRE(eventually(20, [&] { return backends() > 0; }));
    counter_ = std::thread([this] {
      while (!ending_) {
        most_ = std::max(most_.load(), backends());
        std::this_thread::sleep_for(10ms);
      }
    });
  }
  ~Harm() {
    ending_ = true;
    counter_.join();
  }

  static double seconds() {
    const char* told = getenv("HARM_SECONDS");
    return told ? std::max(1.0, std::atof(told)) : 8;
  }
  // Does `round` again and again, for seconds().
  static void for_a_while(const std::function<void()>& round) {
    const auto start = Steady::now();
    do round();
    while (seconds_since(start) < seconds());
  }
  // The harm goes on for seconds().
  static void wait_a_while() {
    for_a_while([] { std::this_thread::sleep_for(100ms); });
  }

  std::unique_ptr<PGconn, void (*)(PGconn*)> connect(const std::string& user = "postgres",
                                                     const std::string& database = "repmgr") const {
    const std::string conninfo = "host=" + socket_ + " dbname=" + database + " user=" + user;
    std::unique_ptr<PGconn, void (*)(PGconn*)> made(PQconnectdb(conninfo.c_str()), PQfinish);
    PQsetNoticeProcessor(
        made.get(), [](void*, const char*) {}, nullptr);
    return made;
  }
  // Runs SQL; its error, empty without one.
  static std::string run(PGconn* connection, const std::string& sql) {
    PGresult* result = PQexec(connection, sql.c_str());
    const ExecStatusType status = PQresultStatus(result);
    const std::string error = PQresultErrorMessage(result);
    PQclear(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? "" : error + " ";
  }
  std::string sql(const std::string& statements) const {
    const auto connection = connect();
    return run(connection.get(), statements);
  }

  // Backends that serve primgr, by their process titles: a server that is stopped cannot be asked.
  std::size_t backends() const {
    std::size_t n = 0;
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", gone)) {
      const std::string path = entry.path();
      if (path.find_first_of("0123456789") == std::string::npos) continue;
      if (std::filesystem::read_symlink(path + "/cwd", gone) != data_) continue;
      std::string title;
      std::getline(std::ifstream(path + "/cmdline"), title, '\0');
      n += title.find(" primgr repmgr ") != std::string::npos;
    }
    return n;
  }
  std::size_t most() const { return most_; }
  // Lines of the server's log that have `what`.
  std::size_t logged(const std::string& what) const {
    return count(read_file(lab.conf("n1", "log")), what);
  }
  // How often the server was asked for a connection, by the lines of its log, while primgr was not
  // let in. Not more than once a refresh_interval (1 s).
  double check_attempts(const std::vector<std::string>& words) const {
    const auto lines = [&] {
      std::size_t n = 0;
      for (const std::string& what : words) n += logged(what);
      return n;
    };
    const auto start = Steady::now();
    const std::size_t before = lines();
    wait_a_while();
    const double attempts = static_cast<double>(lines() - before);
    CHECK(attempts <= 1.2 * seconds_since(start) + 2);
    CHECK(lab.ask("n1").status == 503);
    return attempts;
  }
  // What every test ends with: primgr works, never had too many backends, and holds no lock.
  void check_harmless() const {
    CHECK(lab.answers("n1", 200));
    CHECK(eventually(20, [&] { return backends() == 2; }));
    MESSAGE("backends of primgr at most: ", most());
    CHECK(most() <= 3);
    CHECK(sql("SET lock_timeout = '5s'; LOCK TABLE repmgr.nodes IN ACCESS EXCLUSIVE MODE") == "");
  }

  const Lab lab;

 private:
  const std::filesystem::path data_;
  const std::string socket_;
  std::atomic<std::size_t> most_{0};
  std::atomic<bool> ending_{false};
  std::thread counter_;
};

}  // namespace

TEST_SUITE_BEGIN("lab");

TEST_CASE("harm: a lock on repmgr.nodes changes no answer, and the last list stays in use") {
  if (!lab_possible("a locked list of nodes")) return;
  const Harm harm("--set 'db_timeout = 1s'");
  {
    const Watcher n1(harm.lab, "n1"), n2(harm.lab, "n2"), n3(harm.lab, "n3");
    const auto locker = harm.connect();
    CHECK(Harm::run(locker.get(), "BEGIN; LOCK TABLE repmgr.nodes IN ACCESS EXCLUSIVE MODE") == "");
    // With the next WAL that is written, the standbys take the lock too.
    CHECK(harm.sql("SELECT txid_current()") == "");
    CHECK(eventually(20, [&] {
      for (const char* node : {"n1", "n2", "n3"}) {
        if (count(harm.lab.log(node), "repmgr.nodes is blocked") == 0) return false;
      }
      return true;
    }));
    Harm::wait_a_while();
    const Json told = Json::parse(harm.lab.ask("n1", "/node").body);
    CHECK(told.value("nodesAgeSeconds", 0.0) >= 3);
    CHECK(told.value("nodesProblem", "") == "canceling statement due to lock timeout");
    CHECK(harm.lab.ask("n1", "/metrics").body.find("\nprimgr_nodes_age_seconds ") !=
          std::string::npos);
    // Reads are routed by lag all the while.
    const Answer reads = harm.lab.ask("n2", "/replica?lag=16MB&delay=10s");
    INFO(reads.body);
    CHECK(reads.status == 200);
    CHECK(Harm::run(locker.get(), "COMMIT") == "");
    for (const char* node : {"n1", "n2", "n3"}) {
      CAPTURE(node);
      CHECK(eventually(20, [&] {
        return count(harm.lab.log(node), "repmgr.nodes is read again, after ") == 1;
      }));
      CHECK(count(harm.lab.log(node), "repmgr.nodes is blocked") == 1);
    }
    check_only(n1, 200);
    check_only(n2, 202);
    check_only(n3, 202);
  }
  harm.check_harmless();
}

TEST_CASE("harm: DDL on repmgr.nodes does not wait, nor does its replay on a standby") {
  if (!lab_possible("DDL")) return;
  const Harm harm("--set 'refresh_interval = 20ms'");
  // Replay cancels a query that conflicts with it at once.
  harm.lab.sql("n2", "ALTER SYSTEM SET max_standby_streaming_delay = 0");
  harm.lab.sql("n2", "SELECT pg_reload_conf()");
  const Watcher n1(harm.lab, "n1"), n2(harm.lab, "n2");
  double longest = 0;
  const auto connection = harm.connect();
  Harm::for_a_while([&] {
    const auto start = Steady::now();
    CHECK(Harm::run(connection.get(),
                    "BEGIN; LOCK TABLE repmgr.nodes IN ACCESS EXCLUSIVE MODE; SELECT"
                    " txid_current(); COMMIT") == "");
    longest = std::max(longest, seconds_since(start));
  });
  MESSAGE("waited for the lock for at most ", longest, " s");
  CHECK(longest < 5);
  check_only(n1, 200);
  check_only(n2, 202);
  harm.check_harmless();
}

TEST_CASE("harm: a view that sleeps in place of repmgr.nodes changes no answer") {
  if (!lab_possible("a view that sleeps")) return;
  const Harm harm("--set 'db_timeout = 2s'");
  {
    const Watcher n1(harm.lab, "n1");
    CHECK(harm.sql("ALTER TABLE repmgr.nodes RENAME TO kept; CREATE VIEW repmgr.nodes AS"
                   " SELECT k.* FROM repmgr.kept k, (SELECT pg_sleep(60)) s;"
                   " GRANT SELECT ON repmgr.nodes TO primgr") == "");
    CHECK(
        eventually(20, [&] { return count(harm.lab.log("n1"), "repmgr.nodes is blocked") == 1; }));
    Harm::wait_a_while();
    CHECK(harm.sql("DROP VIEW repmgr.nodes; ALTER TABLE repmgr.kept RENAME TO nodes") == "");
    CHECK(eventually(
        20, [&] { return count(harm.lab.log("n1"), "repmgr.nodes is read again, after ") == 1; }));
    check_only(n1, 200);
  }
  harm.check_harmless();
}

TEST_CASE("harm: backends that hang while they read repmgr.nodes change no answer") {
  if (!lab_possible("hanging backends")) return;
  const Harm harm("--set 'db_timeout = 1s'");
  std::set<pid_t> hanging;
  const auto resume = [&] {
    for (const pid_t pid : std::exchange(hanging, {})) kill(pid, SIGCONT);
  };
  struct At_End {
    std::function<void()> work;
    ~At_End() { work(); }
  } const at_end{resume};
  {
    const Watcher n1(harm.lab, "n1");
    const auto locker = harm.connect(), watcher = harm.connect();
    CHECK(Harm::run(locker.get(), "BEGIN; LOCK TABLE repmgr.nodes IN ACCESS EXCLUSIVE MODE") == "");
    // A backend that is stopped is like one that waits for its disk for ever.
    const auto stop = [&] {
      PGresult* result = PQexec(watcher.get(),
                                "SELECT pid FROM pg_stat_activity WHERE usename = 'primgr'"
                                " AND state = 'active' AND query LIKE 'SELECT node_id%'");
      for (int r = 0; r < PQntuples(result); ++r) {
        const pid_t pid = std::atoi(PQgetvalue(result, r, 0));
        if (hanging.insert(pid).second) kill(pid, SIGSTOP);
      }
      PQclear(result);
      return hanging.size() >= 2;  // as many as there may be beside the pulse's
    };
    CHECK(eventually(30, stop));
    Harm::for_a_while([&] {
      stop();
      std::this_thread::sleep_for(20ms);
    });
    CHECK(hanging.size() == 2);
    CHECK(Harm::run(locker.get(), "COMMIT") == "");
    resume();
    check_only(n1, 200);
  }
  harm.check_harmless();
}

TEST_CASE("harm: a server that is paused and resumed keeps no backend") {
  if (!lab_possible("pauses")) return;
  const Harm harm("--set 'db_timeout = 1s'");
  Harm::for_a_while([&] {
    harm.lab.run("pause n1");
    CHECK(harm.lab.answers("n1", 503));
    // Three failed looks take every place for a connection; then three more find none.
    const auto failed = [&] { return harm.lab.metric("n1", "primgr_database_errors_total"); };
    const double before = failed();
    CHECK(eventually(60, [&] { return failed() >= before + 6; }));
    harm.lab.run("resume n1");
    CHECK(harm.lab.answers("n1", 200));
  });
  harm.check_harmless();
}

TEST_CASE("harm: pg_terminate_backend changes no answer, and in a loop leaves nothing behind") {
  if (!lab_possible("ended backends")) return;
  const Harm harm;
  const auto connection = harm.connect();
  const std::string end =
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'primgr'";
  {
    const Watcher n1(harm.lab, "n1");
    Harm::for_a_while([&] {
      CHECK(Harm::run(connection.get(), end) == "");
      // Until the next pulse was answered.
      CHECK(eventually(20, [&] {
        return Harm::run(connection.get(),
                         "SELECT 1 / count(*) FROM pg_stat_activity WHERE usename = 'primgr'"
                         " AND state = 'idle' AND query LIKE 'EXECUTE%'") == "";
      }));
    });
    check_only(n1, 200);
  }
  Harm::for_a_while([&] { CHECK(Harm::run(connection.get(), end) == ""); });
  harm.check_harmless();
}

TEST_CASE("harm: others use up all connections: no answer changes, attempts do not pile up") {
  if (!lab_possible("used up connections")) return;
  const Harm harm;
  const auto superuser = harm.connect();
  std::vector<std::unique_ptr<PGconn, void (*)(PGconn*)>> others;
  std::string refused;
  const auto use_up = [&] {
    for (;;) {
      auto other = harm.connect("app", "postgres");
      if (PQstatus(other.get()) != CONNECTION_OK) {
        refused = PQerrorMessage(other.get());
        break;
      }
      others.push_back(std::move(other));
    }
  };
  {
    const Watcher n1(harm.lab, "n1");
    use_up();
    INFO(refused);
    REQUIRE(others.size() > 10);
    Harm::wait_a_while();
    check_only(n1, 200);
  }
  // Without a connection of its own it asks for one once a refresh_interval.
  CHECK(Harm::run(superuser.get(), "ALTER ROLE primgr CONNECTION LIMIT 0") == "");
  CHECK(Harm::run(superuser.get(),
                  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                  " WHERE usename = 'primgr'") == "");
  CHECK(harm.lab.answers("n1", 503));
  use_up();
  CHECK(Harm::run(superuser.get(), "ALTER ROLE primgr CONNECTION LIMIT -1") == "");
  CHECK(harm.check_attempts({"FATAL"}) > 0);
  others.clear();
  harm.check_harmless();
}

TEST_CASE("harm: a user-defined operator is not run as primgr's role") {
  if (!lab_possible("search_path")) return;
  const Harm harm;
  // A standby's survey subtracts such times; the owner of the database sets search_path.
  CHECK(harm.sql("CREATE SCHEMA own; GRANT USAGE ON SCHEMA own TO PUBLIC; CREATE FUNCTION"
                 " own.minus(timestamptz, timestamptz) RETURNS interval LANGUAGE plpgsql AS"
                 " 'BEGIN RAISE EXCEPTION ''own operator run''; END'; CREATE OPERATOR own.-"
                 " (FUNCTION = own.minus, LEFTARG = timestamptz, RIGHTARG = timestamptz)") == "");
  CHECK(harm.sql("ALTER DATABASE repmgr SET search_path = own, pg_catalog") == "");
  const std::string setting =
      "SELECT count(*) FROM pg_db_role_setting WHERE 'search_path=own, pg_catalog' = ANY"
      " (setconfig)";
  REQUIRE(eventually(20, [&] { return harm.lab.sql("n2", setting) == "1"; }));
  harm.lab.sql("n2",
               "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
               " WHERE usename = 'primgr'");
  // New connections have the setting; their looks succeed.
  CHECK(eventually(20, [&] {
    return harm.lab.sql("n2",
                        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'primgr'"
                        " AND query LIKE 'SELECT node_id%'") == "1";
  }));
  CHECK(harm.lab.answers("n2", 200, "/replica?lag=16MB"));
  INFO(harm.lab.ask("n2", "/replica?lag=16MB").body);
  CHECK(count(read_file(harm.lab.conf("n2", "log")), "own operator run") == 0);
  CHECK(harm.sql("ALTER DATABASE repmgr RESET search_path; DROP SCHEMA own CASCADE") == "");
}

TEST_CASE("harm: a refused login is tried once a refresh_interval, and leaves nothing behind") {
  if (!lab_possible("a wrong password, a line that rejects")) return;
  const Harm harm;
  const std::string hba = harm.lab.conf("n1", "data") + "/pg_hba.conf";
  std::string line;
  SUBCASE("a wrong password") {
    line = "local repmgr primgr scram-sha-256";
    CHECK(harm.sql("ALTER ROLE primgr PASSWORD 'right'") == "");
  }
  SUBCASE("pg_hba.conf rejects") {
    line = "local repmgr primgr reject";
  }
  harm.lab.run("exec-node n1 sed -i " + quoted("1i " + line) + " " + hba);
  CHECK(harm.sql("SELECT pg_reload_conf(), pg_terminate_backend(pid) FROM pg_stat_activity"
                 " WHERE usename = 'primgr'") == "");
  CHECK(harm.lab.answers("n1", 503));
  harm.check_attempts({"connection authorized", "FATAL"});
  harm.lab.run("exec-node n1 sed -i 1d " + hba);
  CHECK(harm.sql("SELECT pg_reload_conf()") == "");
  harm.check_harmless();
}

TEST_SUITE_END();
