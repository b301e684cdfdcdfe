// deploy/haproxy.cfg and what belongs to it, with a real HAProxy: each of its lines does what its
// comment says.

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <regex>
#include <sstream>
#include <vector>

#include "base/file.hpp"
#include "repmgr_node.hpp"
#include "tests/haproxy_watch.hpp"
#include "tests/lab.hpp"
#include "tests/lab_nodes.hpp"
#include "tests/libpq.hpp"
#include "tests/row_writers.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

constexpr int writes = 5000, reads = 5001;
const double check_delay = std::chrono::duration<double>(Node_Settings().check_delay).count();

// Rounds of the tests that look for what is rare: HAPROXY_ROUNDS=50.
std::uint64_t rounds(std::uint64_t otherwise) {
  return from_environment("HAPROXY_ROUNDS", otherwise);
}

// A HAProxy that has checked all of a Fake_Cluster.
struct Checked_Front : Front {
  explicit Checked_Front(const Edits& edits = {}, bool drop_in = true) : Front(edits) {
    start(drop_in);
    REQUIRE(has("start/first_checks DOWN"));
  }
};

// Starts HAProxy under clients of both ports, again and again, until some have reads.
void check_starts(Fake_Cluster& cluster, const std::string& reader) {
  const Clients writers(writes, 20), readers(reads, 10);
  Front front;
  for (std::uint64_t i = 0; i < rounds(4); ++i) {
    const std::size_t before = readers.on(reader);
    front.start();
    CHECK(eventually(20, [&] { return readers.on(reader) >= before + 20; }));
    front.stop();
  }
  INFO("writers: " << writers.seen());
  INFO("readers: " << readers.seen());
  INFO(front.log());
  CHECK(writers.on("n2") == 0);
  CHECK(writers.on("n3") == 0);
  CHECK(readers.on("n3") == 0);
  CHECK(cluster[3].connections() == 0);
}

}  // namespace

// ---- start --------------------------------------------------------------------------------------

TEST_CASE("haproxy.cfg: a start sends nobody to a server that was not checked") {
  if (!lab_possible("the start of HAProxy")) return;
  Fake_Cluster cluster;
  SUBCASE("with a Primary") {
    check_starts(cluster, "n2");
    CHECK(cluster[1].connections() > 0);
  }
  // With three servers and two found down, the third is the only one, checked or not.
  SUBCASE("without") {
    cluster[1].standby();
    check_starts(cluster, "n1");
  }
  SUBCASE("the Primary comes last") {
    cluster[1].unknown();
    cluster[3].primary();
    const Clients writers(writes, 10), readers(reads, 10);
    const Checked_Front front;
    CHECK(eventually(20, [&] { return writers.on("n3") > 0 && readers.on("n2") > 0; }));
    INFO(writers.seen() << readers.seen());
    CHECK(writers.on("n2") == 0);
    CHECK(cluster[1].connections() == 0);
  }
}

// ---- reload -------------------------------------------------------------------------------------

TEST_CASE(
    "haproxy.cfg: a reload costs no error, ends the sessions for writes, and keeps the others") {
  if (!lab_possible("the reload of HAProxy")) return;
  Fake_Cluster cluster;
  Checked_Front front;
  Session read(reads);
  CHECK(read.server() == "n2");
  const Clients writers(writes, 4), readers(reads, 4);
  REQUIRE(eventually(20, [&] { return writers.on("n1") > 0 && readers.on("n2") > 0; }));
  for (std::uint64_t i = 0; i < rounds(10); ++i) {
    Session write(writes);
    CHECK(write.commits());
    const bool reloaded = front.reload();
    INFO(front.log());
    REQUIRE(reloaded);
    CHECK(write.ends(1));
    CHECK(read.commits());
    // The process that takes the connections now has checked all of its servers.
    CHECK(front.has("postgres_write/n2 DOWN"));
    const std::size_t before = writers.on("n1");
    CHECK(eventually(20, [&] { return writers.on("n1") > before + 10; }));
  }
  INFO("writers: " << writers.seen());
  INFO("readers: " << readers.seen());
  INFO(front.log());
  // A client whose session is being ended has an error, and no other has.
  CHECK(writers.on("") == 0);
  CHECK(readers.on("") == 0);
  CHECK(writers.on("n2") == 0);
  CHECK(cluster[3].connections() == 0);
}

TEST_CASE("haproxy.cfg: a reload as Debian's unit does it ends all sessions, soon") {
  if (!lab_possible("Debian's reload of HAProxy")) return;
  Fake_Cluster cluster;
  Checked_Front front({}, false);
  Session write(writes), read(reads);
  CHECK(write.commits());
  CHECK(read.commits());
  front.reload_alone();
  CHECK(write.ends(10));
  CHECK(read.ends(10));
}

TEST_CASE("haproxy.cfg: a reload right before a takeover adds nothing to check_delay") {
  if (!lab_possible("takeovers and reloads")) return;
  Fake_Cluster cluster;
  Checked_Front front;
  double latest = 0;
  std::minstd_rand random(1);
  int old = 1, next = 2;
  const Clients writers(writes, 4);
  for (std::uint64_t i = 0; i < rounds(5); ++i, std::swap(old, next)) {
    std::unique_ptr<Session> session;
    const bool began = eventually(20, [&] {
      session = std::make_unique<Session>(writes);
      return session->server() == "n" + std::to_string(old);
    });
    INFO(front.servers() << "\n" << front.log());
    REQUIRE(began);
    std::atomic<bool> over = false;
    std::thread commits([&] {
      while (!over && session->commits()) std::this_thread::sleep_for(2ms);
    });
    std::thread takeover([&, pause = std::chrono::milliseconds(random() % 300)] {
      std::this_thread::sleep_for(pause);
      cluster[old].unknown();
    });
    const bool reloaded = front.reload();
    takeover.join();
    CHECK(reloaded);
    // Nothing comes for a while: it is over.
    CHECK(eventually(20, [&] {
      return seconds_now() > std::max(cluster[old].last_200(), cluster[old].last_byte()) + 1.5;
    }));
    over = true;
    commits.join();
    latest = std::max(latest, cluster[old].last_byte() - cluster[old].last_200());
    cluster[next].primary();
    cluster[old].standby();
  }
  MESSAGE("an old primary was used for ", latest, " s after its last 200 at most");
  INFO(front.log());
  CHECK(latest > 0);
  CHECK(latest <= check_delay);
}

// ---- writes -------------------------------------------------------------------------------------

TEST_CASE("haproxy.cfg: writes go to the one Primary, soon, and to none where there are two") {
  if (!lab_possible("writes")) return;
  Fake_Cluster cluster;
  const Checked_Front front;
  Session session(writes);
  CHECK(session.server() == "n1");

  // on-marked-down: an old primary's sessions end.
  cluster[1].unknown();
  CHECK(session.ends(5));
  CHECK(front.has("postgres_write/n1 DOWN"));
  CHECK(Session(writes).server() == "");

  // downinter: a server that is down is asked more often than one that is up.
  const auto checks = [&] { return cluster[3].checks("/state"); };
  const std::size_t seen = checks().size();
  REQUIRE(eventually(20, [&] { return checks().size() > seen + 20; }));
  const auto all = checks();
  double least = 1;
  for (std::size_t i = seen + 1; i < all.size(); ++i)
    least = std::min(least, all[i].when - all[i - 1].when);
  CHECK(least < 0.1);

  cluster[2].primary();
  CHECK(eventually(20, [] { return Session(writes).server() == "n2"; }));
  cluster[3].primary();
  CHECK(front.has("postgres_write/n3 UP"));
  CHECK(Session(writes).server() == "");
  cluster[3].standby();
  CHECK(eventually(20, [] { return Session(writes).server() == "n2"; }));

  // retries 0: an error at once, while the server is still up.
  bool at_once = false;
  CHECK(eventually(20, [&] {
    cluster[2].listen(false);
    const auto start = Steady::now();
    at_once = Session(writes).server() == "" && seconds_since(start) < 0.5;
    const bool up = front.has("postgres_write/n2 UP", 0);
    cluster[2].listen(true);
    return at_once && up;
  }));
  CHECK(at_once);
}

TEST_CASE("README.md: a PgBouncer behind HAProxy that is absent is noticed") {
  if (!lab_possible("a PgBouncer behind HAProxy")) return;
  Fake_Cluster cluster;
  const std::string readme = read_file("README.md");
  const auto begin = readme.find("    option httpchk\n    http-check connect port 5999\n");
  REQUIRE(begin != readme.npos);
  std::string lines = readme.substr(begin, readme.find("\n\n", begin) + 1 - begin);
  lines.replace(lines.find("6432"), 4, "5432");  // the port that can be shut here
  const Checked_Front front(
      {{"    option httpchk OPTIONS /state\n    http-check expect status 200\n", lines}});
  CHECK(Session(writes).server() == "n1");
  cluster[1].listen(false);
  CHECK(front.has("postgres_write/n1 DOWN"));
  cluster[1].listen(true);
  CHECK(eventually(20, [] { return Session(writes).server() == "n1"; }));
  cluster[1].unknown();
  CHECK(front.has("postgres_write/n1 DOWN"));
}

TEST_CASE("haproxy.cfg: each check says what HAProxy makes of the server") {
  if (!lab_possible("send-state")) return;
  Fake_Cluster cluster;
  const Checked_Front front;
  const auto told = [&](const char* path, const std::string& begin, const std::string& name) {
    std::string last;
    const bool came = eventually(20, [&] {
      last = cluster[1].checks(path).back().state;
      return last.starts_with(begin) && last.find("; name=" + name + ";") != last.npos;
    });
    INFO(last);
    CHECK(came);
  };
  told("/state", "UP", "postgres_write/n1");
  told("/replica", "DOWN", "postgres_read/n1");
  cluster[1].unknown();
  told("/state", "DOWN", "postgres_write/n1");
}

TEST_CASE("haproxy.cfg: two HAProxys agree, and neither is in the other's way") {
  if (!lab_possible("two HAProxys")) return;
  Fake_Cluster cluster;
  const Checked_Front first, second({{"*:5000", "*:6000"}, {"*:5001", "*:6001"}});
  Session one(writes), other(6000);
  CHECK(one.server() == "n1");
  CHECK(other.server() == "n1");
  CHECK(Session(reads).server() == "n2");
  CHECK(Session(6001).server() == "n2");
  cluster[1].unknown();
  CHECK(one.ends(5));
  CHECK(other.ends(5));
  cluster[2].primary();
  CHECK(eventually(20, [] { return Session(writes).server() == "n2"; }));
  CHECK(eventually(20, [] { return Session(6000).server() == "n2"; }));
}

TEST_CASE("haproxy-wait.lua: clients wait for the one Primary, and get no error") {
  if (!lab_possible("haproxy-wait.lua")) return;
  Fake_Cluster cluster;
  std::istringstream example(read_file("deploy/examples/haproxy-wait.lua"));
  std::string lines, reject = "    tcp-request connection reject if { ";
  for (std::string line; std::getline(example, line);) {
    if (line.starts_with("--     tcp-request ")) lines += line.substr(2) + "\n";
  }
  Front front({{"    maxconn 2000\n",
                "    maxconn 2000\n    lua-load " +
                    std::filesystem::absolute("deploy/examples/haproxy-wait.lua").string() + "\n"},
               {reject + "srv_is_up(start/first_checks) }\n", lines},
               {reject + "nbsrv(postgres_write) gt 1 }\n", ""}});
  front.start();
  REQUIRE(eventually(20, [] { return Session(reads).server() == "n2"; }));
  CHECK(Session(writes).server() == "n1");
  {
    const Clients writers(writes, 8);
    REQUIRE(eventually(20, [&] { return writers.on("n1") > 50; }));
    cluster[1].unknown();
    CHECK(front.has("postgres_write/n1 DOWN"));
    const auto start = Steady::now();
    CHECK(eventually(5, [&] { return seconds_since(start) > 1; }));
    // Who had a session when n1 was marked down has lost it.
    const std::size_t lost = writers.on("");
    CHECK(lost <= 8);
    cluster[3].primary();
    CHECK(eventually(20, [&] { return writers.on("n3") > 50; }));
    CHECK(writers.on("") == lost);
    CHECK(front.reload());
    const auto goes_on = [&] {
      const std::size_t before = writers.on("n3");
      CHECK(eventually(20, [&] { return writers.on("n3") > before + 50; }));
    };
    goes_on();
    INFO(writers.seen() << front.log());
    // So has who had one in the old process, which ended with it. Nobody else has lost one.
    const std::size_t all = writers.on("");
    CHECK(all <= lost + 8);
    goes_on();
    CHECK(writers.on("") == all);
    CHECK(writers.on("n2") == 0);
  }
  // Not for ever.
  cluster[3].unknown();
  CHECK(front.has("postgres_write/n3 DOWN"));
  const auto start = Steady::now();
  CHECK(Session(writes, 30).server() == "");
  CHECK(seconds_since(start) < 15);
}

// ---- reads --------------------------------------------------------------------------------------

TEST_CASE(
    "haproxy.cfg: a standby that is late or promoted keeps its sessions, and gets no new ones") {
  if (!lab_possible("reads")) return;
  Fake_Cluster cluster;
  const Checked_Front front;
  Session session(reads);
  CHECK(session.server() == "n2");
  cluster[3].standby();
  CHECK(front.has("postgres_read/n3 UP"));
  cluster[2].late();
  CHECK(front.has("postgres_read/n2 DOWN"));
  CHECK(Session(reads).server() == "n3");
  CHECK(session.commits());
  cluster[1].unknown();
  cluster[2].primary();
  CHECK(front.has("postgres_write/n2 UP"));
  CHECK(session.commits());
  CHECK(Session(reads).server() == "n3");
}

TEST_CASE(
    "haproxy.cfg: who meets a server for reads that has just stopped is sent to another at once") {
  if (!lab_possible("redispatch")) return;
  Fake_Cluster cluster;
  cluster[3].standby();
  const Checked_Front front;
  REQUIRE(front.has("postgres_read/n3 UP"));
  cluster[2].listen(false);
  double longest = 0;
  for (int i = 0; i < 20; ++i) {
    const auto start = Steady::now();
    CHECK(Session(reads).server() == "n3");
    longest = std::max(longest, seconds_since(start));
  }
  CHECK(longest < 0.4);
  CHECK(front.has("postgres_read/n2 UP"));  // it was still taken for well
}

TEST_CASE("haproxy.cfg: without a standby reads go to the Primary, whose sessions end with it") {
  if (!lab_possible("reads from the Primary")) return;
  Fake_Cluster cluster;
  Checked_Front front;
  CHECK(Session(reads).server() == "n2");
  // A client that comes while the last standby refuses waits for `timeout connect`; that is down
  // then.
  double least = 10;
  CHECK(eventually(20, [&] {
    cluster[2].listen(true);
    cluster[2].standby();
    if (!front.has("postgres_read/n2 UP")) return false;
    cluster[2].listen(false);
    cluster[2].late();
    const auto start = Steady::now();
    if (Session(reads).server() != "n1") return false;
    least = std::min(least, seconds_since(start));
    return least < 0.9;
  }));
  CAPTURE(least);
  // They can write: they do not outlive a reload.
  Session before(reads);
  CHECK(before.server() == "n1");
  CHECK(front.reload());
  CHECK(before.ends(1));
  Session session(reads);
  CHECK(session.server() == "n1");
  CHECK(session.commits());
  cluster[1].unknown();
  CHECK(session.ends(5));
  CHECK(front.has("postgres_read/primary1 DOWN"));
  CHECK(Session(reads).server() == "");
  cluster[2].listen(true);
  cluster[2].standby();
  CHECK(eventually(20, [] { return Session(reads).server() == "n2"; }));
}

// ---- on a cluster -------------------------------------------------------------------------------

TEST_CASE(
    "lab: haproxy.cfg: no row goes to an old primary after the new one's first, with reloads") {
  if (!lab_possible("takeovers and reloads on a cluster")) return;
  const Lab lab("--no-repmgrd --state-file");
  REQUIRE(eventually(20, [&] {
    return lab.attempt("write 'CREATE TABLE written (n bigint PRIMARY KEY)'").status == 0;
  }));
  const Row_Writers writers(lab.hub());
  std::string old = "n1", next = "n2";
  const auto writes_to = [&](const std::string& node) {
    const double since = seconds_now();
    return eventually(30,
                      [&] { return writers.first_after(lab.address(node), since).has_value(); });
  };
  for (std::uint64_t i = 0; i < rounds(2); ++i, std::swap(old, next)) {
    REQUIRE(writes_to(old));
    // HAProxy reaches the old primary, its peers do not.
    lab.run("cut " + old + " n3");
    lab.run("cut " + old + " " + next);
    std::thread reload([&] { CHECK(lab.attempt("haproxy reload").status == 0); });
    lab.run("takeover " + next);
    reload.join();
    const bool took = writes_to(next);
    INFO(lab.run("status"));
    REQUIRE(took);
    lab.run("heal");
    REQUIRE(eventually(60, [&] {
      lab.attempt("rejoin " + old + " " + next);
      return lab.answers(old, 202, "/state", 5);
    }));
    CHECK(lab.answers("n3", 200, "/replica"));
  }
  const auto stale = stale_rows(writers.rows());
  MESSAGE(writers.rows().size(), " rows, ", stale.size(),
          " to an old primary after the new one's first");
  for (const auto& [row, newer] : stale)
    MESSAGE("row ", row.number, " sent to ", row.server, " at ", row.sent, ", after ", newer.server,
            " acknowledged at ", newer.acknowledged);
  CHECK(stale.empty());
  lab.run("shipped");
}

namespace {

// A session through the port for reads, on that server.
Connection session_on(const Lab& lab, const std::string& node) {
  const In_Namespace there(lab.hub());
  Connection connection;
  // Sessions on the other server, which is sent no more than this one: leastconn.
  std::vector<Connection> others;
  const bool came = eventually(20, [&] {
    if (connection) others.push_back(std::move(connection));
    connection =
        open_connection("host=10.99.0.254 port=5001 user=app dbname=postgres connect_timeout=2");
    const Result on = connection ? query(connection, "SELECT host(inet_server_addr())") : nullptr;
    return on && PQgetvalue(on.get(), 0, 0) == lab.address(node);
  });
  REQUIRE(came);
  return connection;
}

}  // namespace

TEST_CASE(
    "lab: haproxy.cfg: a session for reads ends in seconds when its host is gone, and no other") {
  if (!lab_possible("a host that is gone")) return;
  const Lab lab("--no-repmgrd");
  const Connection idle = session_on(lab, "n2"), waiting = session_on(lab, "n2"),
                   asking = session_on(lab, "n2"), other = session_on(lab, "n3");
  REQUIRE(PQsendQuery(waiting.get(), "SELECT pg_sleep(100)") == 1);
  lab.run("cut n2");
  const auto start = Steady::now();
  REQUIRE(PQsendQuery(asking.get(), "SELECT 1") == 1);
  const std::pair<std::string, const Connection*> sessions[] = {
      {"idle", &idle}, {"waiting for a result", &waiting}, {"asking", &asking}};
  for (const auto& [what, session] : sessions) {
    CAPTURE(what);
    CHECK(eventually(20, [&] {
      PQconsumeInput(session->get());
      return PQstatus(session->get()) == CONNECTION_BAD;
    }));
    const double took = seconds_since(start);
    MESSAGE(what, ": ended ", took, " s after the host was gone");
    CHECK(took < 10);
  }
  CHECK(query(other, "SELECT 1"));
  lab.run("heal");
}

TEST_CASE("lab: TLS is turned on in a running cluster as README.md says, and there is a Primary") {
  if (!lab_possible("TLS turned on")) return;
  const Lab lab("--tls --no-repmgrd --state-file");
  const std::string folder = lab.run("env | sed -n 's/^LAB_DIR=//p'");
  // The keys, and HAProxy's options for a check by TLS, as the lab has made them.
  std::map<std::string, std::string> secure;
  for (const std::string& node : lab.nodes()) {
    const std::string conf = lab.conf(node, "primgr_conf");
    secure[node] = read_file(conf);
    REQUIRE(shell("sed -i '/^tls_/d' " + conf).status == 0);
    lab.run("primgr " + node + " stop");
  }
  std::istringstream lines(read_file(folder + "/haproxy.cfg"));
  std::string options, cfg;
  const std::string by_tls = "    default-server check-ssl";
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(by_tls)) {
      options = line.substr(line.find("check-ssl"));
      continue;
    }
    cfg += line + "\n";
    std::smatch found;
    if (std::regex_match(line, found, std::regex("    server n([0-9]) (.* check.*)"))) {
      cfg += "    server t" + found.str(1) + " " + found.str(2) + " " + options + "\n";
    }
  }
  REQUIRE_FALSE(options.empty());
  std::ofstream(folder + "/haproxy.cfg") << cfg;
  for (const std::string& node : lab.nodes()) lab.run("primgr " + node + " start");
  lab.run("haproxy restart");
  REQUIRE(lab.answers("n1", 200));
  REQUIRE(eventually(20, [&] { return lab.server("write") == "n1"; }));
  lab.run("write 'CREATE TABLE written (n bigint PRIMARY KEY)'");
  const Row_Writers writers(lab.hub());
  const auto turn_on = [&](const std::vector<std::string>& nodes) {
    std::string restart;
    for (const std::string& node : nodes) {
      std::ofstream(lab.conf(node, "primgr_conf")) << secure[node];
      restart += "lab/lab primgr " + node + " restart & ";
    }
    REQUIRE(
        shell("export " + lab_variables() + "; { " + restart + "wait; } >/dev/null 2>&1").status ==
        0);
  };
  const auto unknown = [&] { return count(lab.log("n1"), "state Unknown"); };
  const auto starts = [&](const std::string& node) { return count(lab.log(node), "(TLS)"); };
  const std::size_t before = unknown(), tls_before = starts("n1");
  turn_on({"n3"});
  const auto standby = [&](const std::string& node) {
    return lab.log(node).rfind("state Standby") > lab.log(node).rfind("(TLS)");
  };
  CHECK(eventually(20, [&] { return standby("n3"); }));
  turn_on({"n1", "n2"});
  CHECK(eventually(20, [&] { return standby("n2"); }));
  CHECK(starts("n1") == tls_before + 1);
  const double since = seconds_now();
  CHECK(eventually(20, [&] { return writers.first_after(lab.address("n1"), since).has_value(); }));
  INFO(lab.log("n1"));
  CHECK(unknown() == before);
}

TEST_CASE("lab: haproxy.cfg: over TLS, with a reload and a restart as the examples have them") {
  if (!lab_possible("HAProxy over TLS")) return;
  const Lab lab("--tls --no-repmgrd");
  const std::string folder = lab.run("env | sed -n 's/^LAB_DIR=//p'");
  REQUIRE(eventually(20, [&] { return lab.server("write") == "n1"; }));
  lab.run("haproxy reload");
  CHECK(lab.server("write") == "n1");
  CHECK(lab.server("read") != "n1");
  lab.run("shipped");
  // A mistake in the file changes nothing.
  const std::string cfg = read_file(folder + "/haproxy.cfg");
  std::ofstream(folder + "/haproxy.cfg") << cfg << "nonsense\n";
  CHECK(lab.attempt("haproxy reload").status != 0);
  CHECK(lab.server("write") == "n1");
  std::ofstream(folder + "/haproxy.cfg") << cfg;
  // What was is over.
  std::ofstream(folder + "/haproxy.state") << "1\n";
  lab.run("haproxy restart");
  CHECK_FALSE(std::filesystem::exists(folder + "/haproxy.state"));
  CHECK(eventually(20, [&] { return lab.server("write") == "n1"; }));
}

TEST_SUITE_END();
