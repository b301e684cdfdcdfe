// What a real cluster does to the state of a node.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <sstream>
#include <thread>

#include "base/file.hpp"
#include "base/json.hpp"
#include "tests/http_client.hpp"
#include "tests/lab.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

// What the lab configures is the same when it is read again; n1 asks n2 where the file now says.
void check_reload(const Lab& lab) {
  const std::string conf = lab.conf("n1", "primgr_conf"), before = read_file(conf);
  const auto reload = [&](const std::string& text, const std::string& expected) {
    const std::size_t seen = lab.log("n1").size();
    std::ofstream(conf) << text;
    lab.run("primgr n1 hup");
    std::string told;
    const bool came = eventually(20, [&] {
      return (told = lab.log("n1").substr(seen)).find("reload: " + expected) != told.npos;
    });
    CAPTURE(expected);
    INFO(told);
    REQUIRE(came);
  };
  const auto votes = [&](double number) {
    return eventually(20, [&] { return lab.metric("n1", "primgr_votes") == number; });
  };
  CHECK(votes(3));
  reload(before, "nothing has changed");
  reload(before + "\npeer.n2 = 127.0.0.1:1\nconsensus = cluster\n",
         "consensus has changed: restart primgr for this");
  CHECK(votes(2));
  CHECK(lab.ask("n1").status == 200);
  reload(before, "in force now: peer.n2 is not set");
  CHECK(votes(3));
}

}  // namespace

TEST_CASE("lab: three nodes, one 200, two 202, and HAProxy follows") {
  if (!lab_possible("three nodes")) return;
  const Lab lab;
  lab.run("shipped");
  CHECK(lab.answers("n1", 200));
  CHECK(lab.answers("n2", 202));
  CHECK(lab.answers("n3", 202));
  CHECK(lab.ask("n1").body == R"({"state":"Primary"})");
  for (const char* node : {"n1", "n2", "n3"}) {
    CHECK(lab.answers(node, 200, "/realPrimary"));
    CHECK(lab.ask(node, "/primary").body == R"({"Primary":"n1"})");
    CHECK(lab.ask(node, "/realPrimary").body == R"({"realPrimary":"n1"})");
  }
  CHECK(eventually(20, [&] { return lab.server("write") == "n1"; }));
  CHECK(eventually(20, [&] { return lab.server("read") == "n2"; }));
  CHECK(eventually(20, [&] { return lab.server("read") == "n3"; }));

  // The role has CONNECT, USAGE on the schema and SELECT on repmgr.nodes, and nothing else of it.
  CHECK(lab.sql("n1",
                "SELECT rolsuper OR rolreplication OR rolcreatedb FROM pg_roles"
                " WHERE rolname = 'primgr'") == "f");
  CHECK(
      lab.sql("n1",
              "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'primgr'") ==
      "primgr");
  CHECK(lab.sql("n1",
                "SELECT string_agg(table_name || ' ' || privilege_type, ',')"
                " FROM information_schema.role_table_grants WHERE grantee = 'primgr'") ==
        "nodes SELECT");
  check_reload(lab);
}

TEST_CASE("lab: the primary is killed: 503 at once, failover, and it comes back as 509") {
  if (!lab_possible("kill")) return;
  const Lab lab;
  REQUIRE(lab.answers("n1", 200));
  REQUIRE(eventually(20, [&] { return lab.server("write") == "n1"; }));
  lab.run("write 'CREATE TABLE t (i int); INSERT INTO t VALUES (1)'");
  // A standby hears with a question for its vote that n3 was confirmed as a voter. Before, it needs
  // the vote of n1 too.
  for (const std::string voter : {"n2", "n3"}) {
    const std::string answers =
        "primgr_peer_requests_total{peer=\"" + voter + "\",question=\"vote\",result=\"ok\"}";
    const double before = lab.metric("n1", answers);
    REQUIRE(before >= 0);
    REQUIRE(eventually(20, [&] { return lab.metric("n1", answers) >= before + 2; }));
  }
  {
    const Watcher n1(lab, "n1");
    REQUIRE(n1.seen(200, {}, 20) >= 0);
    const std::string log = lab.conf("n1", "primgr_log");
    const std::size_t before = count(primgr::read_file(log), "state Down");
    const auto start = Steady::now();
    lab.run("kill n1");
    const double verb = seconds_since(start);
    // How soon it may be: see the test of event notifications, where no look is due.
    const bool noticed =
        eventually(20, [&] { return count(primgr::read_file(log), "state Down") > before; });
    const double logged = seconds_since(start), down = n1.seen(503, start, 20);
    MESSAGE("a killed server was Down in the log after ", logged, " s, answered 503 after ", down,
            " s; the kill itself took ", verb, " s");
    const std::string text = primgr::read_file(log);
    INFO("its log: ", text);
    CHECK(noticed);
    CHECK(down >= 0);
    std::string leader;
    CHECK(eventually(30, [&] {
      for (const char* node : {"n2", "n3"}) {
        if (lab.ask(node).status == 200) leader = node;
      }
      return !leader.empty();
    }));
    REQUIRE_FALSE(leader.empty());
    CHECK(eventually(20,
                     [&] { return lab.attempt("write 'INSERT INTO t VALUES (2)'").status == 0; }));
    CHECK(lab.server("write") == leader);
  }
  {
    // It starts as a primary again, but nobody follows it any more.
    const Watcher n1(lab, "n1");
    lab.run("start n1");
    CHECK(lab.answers("n1", 509));
    for (int i = 0; i < 10; ++i) CHECK(lab.server("write") != "n1");
    CHECK_FALSE(n1.ever(200));
    CHECK(lab.log("n1").find("no majority votes for it") != std::string::npos);
  }
  lab.run("rejoin n1");
  CHECK(lab.answers("n1", 202));
  CHECK(eventually(20, [&] { return lab.run("psql n1 -d postgres -qAtc 'TABLE t'") == "1\n2"; }));
}

TEST_CASE("lab: a primary without a network is 509, and 200 again if nobody took over") {
  if (!lab_possible("cut")) return;
  const Lab lab("--no-repmgrd");
  REQUIRE(lab.answers("n1", 200));
  std::string inside;
  lab.run("cut n1");
  const bool is_unknown = eventually(20, [&] {
    inside = lab.run("exec-node n1 curl -s http://127.0.0.1:5999/state");
    return inside == R"({"state":"Unknown"})";
  });
  INFO(inside);
  CHECK(is_unknown);
  CHECK(lab.sql("n1", "SELECT 1") == "1");
  lab.run("heal n1");
  CHECK(lab.answers("n1", 200));
  lab.run("cut n1 n2");
  lab.run("cut n1 n3 --oneway");
  CHECK(lab.answers("n1", 509));
  lab.run("heal n1 n3");
  CHECK(lab.answers("n1", 200));  // two of three are enough
  lab.run("heal");
}

TEST_CASE("lab: vote_lease is changed node by node, and the Primary answers 200 throughout") {
  if (!lab_possible("another vote_lease")) return;
  const Lab lab("--no-repmgrd --state-file");
  REQUIRE(lab.answers("n1", 200));
  lab.run("write 'CREATE TABLE t (n int)'");
  const Watcher n1(lab, "n1");
  std::size_t rows = 0;
  // The Primary's is the longer meanwhile.
  const std::pair<const char*, std::vector<const char*>> changes[] = {{"6s", {"n1", "n2", "n3"}},
                                                                      {"5s", {"n2", "n3", "n1"}}};
  for (const auto& [lease, order] : changes) {
    for (const char* node : order) {
      CAPTURE(lease);
      CAPTURE(node);
      const std::string conf = lab.conf(node, "primgr_conf");
      shell("sed -i '/^vote_lease/d' " + conf + " && echo vote_lease = " + lease + " >>" + conf);
      lab.run("primgr " + std::string(node) + " restart");
      CHECK(lab.answers(node, node == std::string("n1") ? 200 : 202));
      // HAProxy may have marked it down while it was restarted.
      CHECK(eventually(
          10, [&] { return lab.attempt("write 'INSERT INTO t VALUES (1)'").status == 0; }));
      ++rows;
    }
  }
  INFO(lab.log("n1"));
  for (const int status : {202, 503, 509}) {
    CAPTURE(status);
    CHECK_FALSE(n1.ever(status));
  }
  CHECK(lab.run("psql n1 -d postgres -qAtc 'SELECT count(*) FROM t'") == std::to_string(rows));
}

TEST_CASE("lab: a server that hangs is 503 within db_timeout, and nothing leaks") {
  if (!lab_possible("pause")) return;
  {
    const Lab lab("--no-repmgrd --no-haproxy");
    REQUIRE(lab.answers("n1", 200));
    const Watcher n1(lab, "n1");
    const auto start = Steady::now();
    lab.run("pause n1");
    const double verb = seconds_since(start);
    const double down = n1.seen(503, start, 20);
    MESSAGE("hung server answered 503 after ", down, " s, the pause itself took ", verb, " s");
    CHECK(down >= 0);
    CHECK(down <= verb + 5 + 3);  // db_timeout, and what a busy machine takes
    const auto resumed = Steady::now();
    lab.run("resume n1");
    CHECK(n1.seen(200, resumed, 20) >= 0);
  }
  const Lab lab(
      "--no-repmgrd --no-haproxy --set 'db_timeout = 300ms' --set 'refresh_interval = 100ms'");
  REQUIRE(lab.answers("n1", 200));
  const std::string proc = "/proc/" + lab.conf("n1", "primgr_pid");
  const auto entries = [&](const char* what) {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(proc + what)) ++n;
    return n;
  };
  const auto resident_pages = [&] {
    std::ifstream statm(proc + "/statm");
    long all = 0, resident = 0;
    statm >> all >> resident;
    return resident;
  };
  const auto round = [&] {
    lab.run("pause n1");
    CHECK(lab.answers("n1", 503));
    lab.run("resume n1");
    CHECK(lab.answers("n1", 200));
  };
  for (int i = 0; i < 5; ++i) round();
  // A question to a peer may be under way, so the least of several counts is taken.
  const auto least = [&](const char* what) {
    std::size_t n = entries(what);
    for (int i = 0; i < 50; ++i, std::this_thread::sleep_for(2ms)) n = std::min(n, entries(what));
    return n;
  };
  const std::size_t threads = least("/task"), sockets = least("/fd");
  const long pages = resident_pages();
  for (int i = 0; i < 50; ++i) round();
  // Connection threads are started when needed and end 5 s after their last job: some may be left.
  CHECK(eventually(20, [&] { return least("/task") <= threads + 8; }));
  CHECK(eventually(20, [&] { return least("/fd") <= sockets; }));
  if (is_shipped()) CHECK(resident_pages() <= pages + 128);  // half a megabyte
}

namespace {

// A cluster whose database of n1 is disturbed, and what n1 logs of that.
struct Disturbed {
  // What the log of n1 gained while `work` was done, up to a line that has `last`.
  std::string logged(const std::function<void()>& work, const std::string& last) const {
    const std::size_t before = lab.log("n1").size();
    work();
    std::string lines;
    const bool complete = eventually(20, [&] {
      lines = lab.log("n1").substr(before);
      return lines.find(last) != std::string::npos;
    });
    INFO(lines);
    CHECK(complete);
    check_changes(lines);
    return lines;
  }
  // A state and its reason are logged when they change: no line repeats the one before it.
  static void check_changes(const std::string& lines) {
    std::istringstream log(lines);
    std::string before;
    for (std::string line; std::getline(log, line);) {
      const auto at = line.find(": state ");
      if (at == line.npos) continue;
      line.erase(0, at + 2);
      line.erase(std::min(line.find("; was "), line.size()));
      line = std::regex_replace(line, std::regex(" \\([0-9]+ of [0-9]+ votes.*"), "");
      CHECK(line != before);
      before = line;
    }
  }
  // Whether `cause` makes n1 log a line with `what`.
  bool logs(const std::string& what, const std::function<void()>& cause) const {
    const std::size_t before = count(lab.log("n1"), what);
    cause();
    return eventually(20, [&] { return count(lab.log("n1"), what) > before; });
  }
  void drop_connections() const {
    lab.sql("n1",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'primgr'");
  }

  const Lab lab{"--no-repmgrd --no-haproxy"};
};

void terminate_backends(const Disturbed& n1) {
  const Watcher watcher(n1.lab, "n1");
  REQUIRE(watcher.seen(200, {}, 20) >= 0);
  const std::string pid = "SELECT pid FROM pg_stat_activity WHERE application_name = 'primgr'";
  const std::string before = n1.lab.sql("n1", pid);
  const std::string lines = n1.logged(
      [&] {
        n1.drop_connections();
        CHECK(eventually(20, [&] {
          const std::string now = n1.lab.sql("n1", pid);
          return !now.empty() && now != before;
        }));
      },
      "");
  CHECK_FALSE(watcher.ever(503));
  CHECK(lines == "");
}

void restart_server(const Disturbed& n1) {
  const std::string lines = n1.logged(
      [&] {
        n1.lab.run("stop n1");
        CHECK(n1.lab.answers("n1", 503));
        n1.lab.run("start n1");
        CHECK(n1.lab.answers("n1", 200));
      },
      "state Primary");
  // How many lines depends on what is seen: a server that ends, has no socket, starts up.
  CHECK(count(lines, "state Down") >= 1);
  CHECK(count(lines, "state Primary") == 1);
}

void start_without_hot_standby(const Disturbed& cluster) {
  const Lab& lab = cluster.lab;
  const std::string settings = lab.conf("n2", "data") + "/postgresql.auto.conf";
  lab.run("stop n2");
  CHECK(lab.answers("n2", 503));
  // With hot_standby off it replays for ever and lets nobody in.
  lab.run("exec-node n2 sh -c " + quoted("echo 'hot_standby = off' >> " + settings));
  lab.attempt("start n2");
  CHECK(eventually(
      20, [&] { return lab.log("n2").find("the database system is") != std::string::npos; }));
  CHECK(lab.ask("n2").status == 503);
  lab.attempt("stop n2");
  lab.run("exec-node n2 sed -i '/hot_standby/d' " + settings);
  lab.run("start n2");
  CHECK(lab.answers("n2", 202));
}

void limit_connections(const Disturbed& n1) {
  const std::string lines = n1.logged(
      [&] {
        n1.lab.sql("n1", "ALTER ROLE primgr CONNECTION LIMIT 0");
        n1.drop_connections();
        CHECK(n1.lab.answers("n1", 503));
        n1.lab.sql("n1", "ALTER ROLE primgr CONNECTION LIMIT -1");
        CHECK(n1.lab.answers("n1", 200));
      },
      "state Primary");
  CHECK(count(lines, "state Down") == 1);
  CHECK(count(lines, "too many connections") == 1);
}

void ask_for_password(const Disturbed& n1) {
  const std::string hba = n1.lab.conf("n1", "data") + "/pg_hba.conf";
  const std::string lines = n1.logged(
      [&] {
        n1.lab.run("exec-node n1 sed -i '1i local repmgr primgr scram-sha-256' " + hba);
        n1.lab.sql("n1", "ALTER ROLE primgr PASSWORD 'right'; SELECT pg_reload_conf()");
        n1.drop_connections();
        CHECK(n1.lab.answers("n1", 503));
        n1.lab.run("exec-node n1 sed -i '1d' " + hba);
        n1.lab.sql("n1", "SELECT pg_reload_conf()");
        CHECK(n1.lab.answers("n1", 200));
      },
      "state Primary");
  CHECK(count(lines, "state Down") == 1);
  CHECK(count(lines, "password") >= 1);
}

void rename_schema(const Disturbed& n1) {
  const std::string unreadable = "repmgr.nodes cannot be read";
  const std::string lines = n1.logged(
      [&] {
        CHECK(n1.logs(unreadable, [&] { n1.lab.sql("n1", "ALTER SCHEMA repmgr RENAME TO gone"); }));
        CHECK(n1.lab.answers("n1", 509));
        CHECK(n1.lab.ask("n1", "/primary").body == R"({"state":"Unknown"})");
        CHECK(n1.lab.ask("n2").status == 202);  // still a standby
        n1.lab.sql("n1", "ALTER SCHEMA gone RENAME TO repmgr");
        CHECK(n1.lab.answers("n1", 200));
      },
      "state Primary");
  // The voters lose the schema too, sooner or later than n1: "no majority" may be logged beside it.
  CHECK(count(lines, unreadable) == 1);
}

void revoke_select(const Disturbed& n1) {
  n1.lab.sql("n1", "REVOKE SELECT ON repmgr.nodes FROM primgr");
  CHECK(n1.lab.answers("n1", 509));
  n1.lab.sql("n1", "GRANT SELECT ON repmgr.nodes TO primgr");
  CHECK(n1.lab.answers("n1", 200));
}

// With its node_id from repmgr_conf it would go on under the other name.
void rename_node(const Disturbed& n1) {
  const std::string missing = "lists no node named \"n1\"";
  const std::string conf = n1.lab.conf("n1", "primgr_conf");
  REQUIRE(shell("sed -i 's/^repmgr_conf/node_name = n1\\n#&/' " + conf).status == 0);
  n1.lab.run("primgr n1 restart");
  CHECK(n1.lab.answers("n1", 200));
  const std::string lines = n1.logged(
      [&] {
        // If the voters see it first, n1 is Unknown without a majority, before it misses its row.
        CHECK(n1.logs(missing, [&] {
          n1.lab.sql("n1", "UPDATE repmgr.nodes SET node_name = 'other' WHERE node_name = 'n1'");
        }));
        CHECK(n1.lab.answers("n1", 509));
        n1.lab.sql("n1", "UPDATE repmgr.nodes SET node_name = 'n1' WHERE node_name = 'other'");
        CHECK(n1.lab.answers("n1", 200));
      },
      "state Primary");
  CHECK(count(lines, missing) == 1);
}

}  // namespace

TEST_CASE("lab: what can be wrong with a database: the right state, one log line, recovery") {
  if (!lab_possible("faults of the database")) return;
  const Disturbed n1;
  REQUIRE(n1.lab.answers("n1", 200));
  SUBCASE("pg_terminate_backend on the pooled connection") {
    terminate_backends(n1);
  }
  SUBCASE("a restart of the server") {
    restart_server(n1);
  }
  SUBCASE("a server that is still starting up") {
    start_without_hot_standby(n1);
  }
  SUBCASE("too many connections") {
    limit_connections(n1);
  }
  SUBCASE("a wrong password") {
    ask_for_password(n1);
  }
  SUBCASE("no repmgr schema") {
    rename_schema(n1);
  }
  SUBCASE("no right to read repmgr.nodes") {
    revoke_select(n1);
  }
  SUBCASE("no row for this node") {
    rename_node(n1);
  }
}

TEST_CASE("lab: two sites: only the primary's site votes, a witness too; two claimants are named") {
  if (!lab_possible("two sites")) return;
  const Lab lab("--site a:2 --site b:2 --witness a --no-repmgrd --no-haproxy");
  std::string witness;
  for (const std::string& node : lab.nodes()) {
    if (lab.conf(node, "kind") == "witness") witness = node;
  }
  REQUIRE_FALSE(witness.empty());
  REQUIRE(lab.answers("n1", 200));
  CHECK(lab.answers(witness, 509));
  CHECK(lab.answers(witness, 200, "/primary"));
  CHECK(lab.ask(witness, "/primary").body == R"({"Primary":"n1"})");

  // n1, n2 and the witness vote: two of them are enough, whichever.
  lab.run("primgr n2 stop");
  CHECK(eventually(20, [&] { return lab.metric("n1", "primgr_votes") == 2; }));
  CHECK(lab.ask("n1").status == 200);
  lab.run("primgr " + witness + " stop");
  CHECK(lab.answers("n1", 509));  // although the other site is complete
  CHECK(lab.ask("n3").status == 202);
  CHECK(lab.ask("n4").status == 202);
  lab.run("primgr " + witness + " start");
  CHECK(lab.answers("n1", 200));
  lab.run("primgr n2 start");

  // Cut off, the other site promotes a primary of its own; then the sites see each other again.
  lab.run("partition n1,n2," + witness + " / n3,n4");
  lab.run("promote n3");
  lab.run("follow n4");
  lab.run("heal");
  CHECK(lab.answers("n3", 200));
  CHECK(lab.answers("n1", 200));
  for (const char* node : {"n1", "n2", "n3", "n4"}) {
    CAPTURE(node);
    CHECK(lab.answers(node, 509, "/realPrimary"));
    CHECK(lab.ask(node, "/realPrimary").body == R"({"realPrimary":null,"claimants":["n1","n3"]})");
  }
}

TEST_CASE("lab: reads go to standbys whose lag and delay are within what the check allows") {
  if (!lab_possible("/replica")) return;
  const Lab lab("--no-repmgrd");
  const std::string bounded = "/replica?lag=16MB&delay=10s";  // as deploy/haproxy.cfg asks
  for (const char* node : {"n2", "n3"}) CHECK(lab.answers(node, 200, bounded));
  CHECK(lab.ask("n1", bounded).status == 503);
  CHECK(lab.ask("n1", "/read-only?lag=4MB").status == 200);
  CHECK(eventually(20, [&] { return lab.server("read") == "n2"; }));

  // With an idle primary there is no delay, however long ago the last commit was.
  CHECK(eventually(20, [&] {
    return lab.sql("n3", "SELECT now() - pg_last_xact_replay_timestamp() > '3s'") == "t";
  }));
  CHECK(lab.answers("n3", 200, "/replica?lag=0&delay=1s"));

  lab.sql("n2", "SELECT pg_wal_replay_pause()");
  lab.sql("n1", "CREATE TABLE load (line text)");
  CHECK(eventually(20, [&] {
    lab.sql("n1", "INSERT INTO load SELECT repeat('x', 1000) FROM generate_series(1, 2000)");
    return lab.ask("n2", bounded).status == 503;
  }));
  CHECK(Json::parse(lab.ask("n2", bounded).body)["reason"].get<std::string>().find(
            "bytes of WAL to replay") != std::string::npos);
  CHECK(lab.answers("n2", 503, "/replica?delay=1s"));
  CHECK(lab.ask("n2", "/replica").status == 200);
  CHECK(lab.ask("n2").status == 202);
  CHECK(lab.answers("n3", 200, bounded));
  CHECK(eventually(20, [&] {
    for (int i = 0; i < 4; ++i) {
      if (lab.server("read") != "n3") return false;
    }
    return true;
  }));
  lab.sql("n2", "SELECT pg_wal_replay_resume()");
  CHECK(lab.answers("n2", 200, bounded));
  CHECK(eventually(20, [&] { return lab.server("read") == "n2"; }));
}

namespace {

// Asks a node for /replica as deploy/haproxy.cfg does, again and again.
class Replica_Watch {
 public:
  Replica_Watch(const Lab& lab, const std::string& node) : address_(lab.address(node)) {
    thread_ = std::thread([this, hub = lab.hub()] {
      const In_Namespace there(hub);
      while (!ending_) {
        Client client(address_, 5999);
        const auto response =
            client.send("GET", "/replica?lag=16MB&delay=10s", "Connection: close\r\n");
        {
          const std::lock_guard lock(mutex_);
          answers_.emplace_back(Steady::now(), response.status);
          if (response.status != 200) last_refusal_ = response.body;
        }
        std::this_thread::sleep_for(20ms);
      }
    });
  }
  ~Replica_Watch() {
    ending_ = true;
    thread_.join();
  }
  // When it was refused first at or after `from`; none: it never was.
  std::optional<Steady::time_point> refused(Steady::time_point from) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [at, status] : answers_) {
      if (at >= from && status != 200) return at;
    }
    return std::nullopt;
  }
  std::string last_refusal() const {
    const std::lock_guard lock(mutex_);
    return last_refusal_;
  }

 private:
  const std::string address_;
  mutable std::mutex mutex_;
  std::vector<std::pair<Steady::time_point, int>> answers_;
  std::string last_refusal_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

std::string stale_by(const Lab& lab, const std::string& node) {
  const Json body = Json::parse(lab.ask(node, "/replica").body, nullptr, false);
  return body.is_object() && body.contains("staleBy") ? body["staleBy"].get<std::string>() : "";
}

}  // namespace

// With PostgreSQL's defaults, which the lab shortens: a WAL receiver notices a dead connection
// after a minute, and one that was refused tries again after 5 s.
TEST_CASE("lab: a standby serves reads until it has missed a living primary for delay=") {
  if (!lab_possible("staleness")) return;
  const Lab lab("--no-repmgrd --no-haproxy --state-file");
  for (const char* node : {"n1", "n2", "n3"}) {
    lab.sql(node, "ALTER SYSTEM SET wal_receiver_timeout = '60s'");
    lab.sql(node, "ALTER SYSTEM SET wal_retrieve_retry_interval = '5s'");
    lab.sql(node, "SELECT pg_reload_conf()");
  }
  for (const char* node : {"n2", "n3"}) {
    CHECK(lab.answers(node, 200, "/replica?lag=16MB&delay=10s"));
    CHECK(eventually(20, [&] { return stale_by(lab, node) == "fresh"; }));
  }
  const Replica_Watch n2(lab, "n2"), n3(lab, "n3");
  auto from = Steady::now();

  // The primary's server restarts: it is looked at ten times as often until it is back.
  const double failed = lab.metric("n1", "primgr_database_errors_total");
  lab.run("stop n1");
  CHECK(eventually(
      5, [&] { return lab.metric("n1", "primgr_database_errors_total") >= failed + 10; }));
  lab.run("start n1");
  CHECK(lab.answers("n1", 200));
  CHECK(lab.sql("n2", "SELECT count(*) FROM pg_stat_wal_receiver") == "0");
  CHECK(eventually(20, [&] { return stale_by(lab, "n2") == "fresh"; }));
  CHECK_MESSAGE(!n2.refused(from), n2.last_refusal());
  CHECK_MESSAGE(!n3.refused(from), n3.last_refusal());
  for (const char* node : {"n2", "n3"}) {
    CHECK(eventually(
        20, [&] { return lab.sql(node, "SELECT count(*) FROM pg_stat_wal_receiver") == "1"; }));
  }

  // n3 alone is cut off from everybody but those that it serves; its WAL receiver does not notice.
  from = Steady::now();
  lab.run("cut n3 n1");
  lab.run("cut n3 n2");
  CHECK(eventually(30, [&] { return n3.refused(from).has_value(); }));
  if (const auto refused = n3.refused(from)) {
    const double after = std::chrono::duration<double>(*refused - from).count();
    MESSAGE("a standby that was cut off from a living primary was 503 after ", after, " s");
    CHECK(after > 8);
    CHECK(after < 12);
  }
  CHECK(lab.sql("n3", "SELECT count(*) FROM pg_stat_wal_receiver") == "1");
  CHECK(n3.last_refusal().find("n1 does not answer") != std::string::npos);
  CHECK(stale_by(lab, "n3") == "counting");
  CHECK(lab.ask("n3").status == 202);
  CHECK_MESSAGE(!n2.refused(from), n2.last_refusal());
  lab.run("heal");
  CHECK(lab.answers("n3", 200, "/replica?lag=16MB&delay=10s", 40));

  // The primary is gone, and nobody is promoted: nothing newer can be read anywhere.
  CHECK(eventually(20, [&] { return stale_by(lab, "n3") == "fresh"; }));
  from = Steady::now();
  lab.run("cut n1");
  lab.run("kill n1");
  for (const char* node : {"n2", "n3"}) {
    CHECK(eventually(20, [&] { return stale_by(lab, node) == "no primary"; }));
  }
  CHECK(eventually(30, [&] { return Steady::now() > from + 16s; }));
  CHECK_MESSAGE(!n2.refused(from), n2.last_refusal());
  CHECK_MESSAGE(!n3.refused(from), n3.last_refusal());
  CHECK(lab.ask("n2", "/sync").status == 503);
  // n2 is promoted. n3 does not hear of it, as it hears from nobody any more.
  lab.run("cut n3 n2");
  lab.run("takeover n2 only");
  CHECK(eventually(30, [&] { return n3.refused(from).has_value(); }));
}

TEST_CASE("lab: without pg_read_all_stats only the lag is unknown, and the reason says so") {
  if (!lab_possible("pg_read_all_stats")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  CHECK(lab.answers("n2", 200, "/replica"));
  lab.sql("n1", "REVOKE pg_read_all_stats FROM primgr");
  CHECK(lab.answers("n2", 503, "/replica"));
  CHECK(Json::parse(lab.ask("n2", "/replica").body)["reason"] ==
        "its WAL receiver is not shown: GRANT pg_read_all_stats TO primgr's role");
  CHECK(lab.ask("n2").status == 202);
  CHECK(lab.ask("n1").status == 200);
}

TEST_SUITE_END();
