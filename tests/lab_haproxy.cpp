// deploy/haproxy.cfg and what belongs to it, with a real HAProxy: each of its lines does what its
// comment says.

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <random>

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
  const Clients writers(writes, 10), readers(reads, 10);
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
  const Checked_Front front;
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

TEST_SUITE_END();
