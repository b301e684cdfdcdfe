// How stale a standby's data may be: the rules, and what a node makes of its peers' answers.

#include <doctest/doctest.h>

#include <memory>
#include <random>

#include "node/rules/staleness.hpp"
#include "node/rules/voting.hpp"
#include "tests/world.hpp"

using namespace primgr;

namespace {

constexpr Time recent = 4s;  // by the defaults

// n3, a standby of n1 that has voted for it. Its load balancer asks for /replica?delay=10s.
struct Standby {
  Standby() {
    world.primary_reports(1000);
    reports("n2", "null");
    look(1000);
    REQUIRE(serves());
    REQUIRE(world.node.grant_vote("n1", 0s, "").granted);
  }
  // `unbound`: since when it is, in ms, or null.
  void reports(const std::string& peer, const std::string& unbound) {
    world.states[peer] = {
        202, R"({"state":"Standby","unbound":)" + unbound + R"(,"list":")" + list + "\"}", {}};
  }
  // It has received so much; streaming: from whom it is no matter.
  void look(Lsn received, bool streaming = true) {
    Facts facts = standby_facts(received, received, received);
    if (!streaming) {
      facts.replication.receiving = false;
      facts.replication.status.clear();
      facts.replication.sender_lsn.reset();
    }
    world.look(facts);
  }
  Lag lag() const { return world.node.get_lag().value(); }
  std::string problem() const {
    return lag_problem(lag(), Lsn{16} << 20, 10s, world.node.max_peer_age());
  }
  bool serves() const { return problem().empty(); }

  std::string list = digest({1, 2, 3});  // the voters by the databases of the others
  World world{World::named("n3")};
};

}  // namespace

TEST_SUITE_BEGIN("staleness");

TEST_CASE("a standby is fresh as of the question to which the Primary reported what it received") {
  Staleness staleness;
  CHECK_FALSE(staleness.at(0s));
  CHECK(staleness.rule(0s, recent) == Staleness_Rule::unknown);
  staleness.holds(100, 100, 1);
  CHECK_FALSE(staleness.at(0s));
  staleness.reported(10s, 100, 1);
  CHECK(staleness.at(12s) == 2s);
  CHECK(staleness.rule(14s, recent) == Staleness_Rule::fresh);
  CHECK(staleness.rule(15s, recent) == Staleness_Rule::counting);
  // What the Primary has written since counts from the last question before.
  staleness.reported(11s, 200, 1);
  staleness.reported(12s, 300, 1);
  CHECK(staleness.at(13s) == 3s);
  // Received is enough: what waits for replay has a measure of its own.
  staleness.holds(100, 250, 1);
  CHECK(staleness.at(13s) == 2s);
  staleness.holds(100, 300, 1);
  CHECK(staleness.at(13s) == 1s);
  // An idle primary makes nobody stale.
  for (int i = 13; i < 100; ++i) staleness.reported(std::chrono::seconds(i), 300, 1);
  CHECK(staleness.at(100s) == 1s);
  // An answer that comes late, or twice, makes it no older and no fresher.
  staleness.reported(50s, 300, 1);
  CHECK(staleness.at(100s) == 1s);
}

TEST_CASE("a position on another timeline proves nothing") {
  Staleness staleness;
  staleness.holds(500, 500, 1);
  staleness.reported(10s, 400, 2);  // the old primary's WAL went on beyond the fork
  CHECK_FALSE(staleness.at(10s));
  staleness.holds(400, 400, std::nullopt);
  CHECK_FALSE(staleness.at(10s));
  Staleness followed;
  followed.reported(10s, 400, 2);
  followed.holds(390, 390, 1);
  CHECK_FALSE(followed.at(10s));
  followed.holds(390, 410, 2);
  CHECK(followed.at(11s) == 1s);
  // Without a WAL receiver the timeline of the last checkpoint is told, which may be an earlier
  // one.
  followed.reported(12s, 410, 2);
  followed.holds(400, 410, 1);
  CHECK(followed.at(12s) == 0s);
}

TEST_CASE("what is remembered is bounded, and forgetting makes nobody fresher") {
  Staleness staleness, whole;
  staleness.holds(1, 1, 1);
  staleness.reported(0s, 1, 1);
  for (int i = 1; i <= 86'400; ++i) staleness.reported(std::chrono::seconds(i), Lsn(i) + 1, 1);
  CHECK(staleness.size() <= 1024);
  staleness.holds(43'201, 43'201, 1);
  CHECK(staleness.at(86'400s).value() >= 43'200s);
  CHECK(staleness.at(86'400s).value() <= 43'200s + 30min);
}

TEST_CASE("time without a Primary does not count; what comes before, between and after it does") {
  Staleness staleness;
  staleness.no_primary({0s, 100s});  // of a standby that knows nothing: nothing
  CHECK_FALSE(staleness.at(100s));
  staleness.fresh(100s);
  staleness.no_primary({90s, 95s});  // before
  CHECK(staleness.at(101s) == 1s);
  staleness.no_primary({104s, 160s});
  CHECK(staleness.at(160s) == 4s);
  CHECK(staleness.rule(160s, recent) == Staleness_Rule::no_primary);
  CHECK(staleness.at(161s) == 5s);  // what it was told lately is not repeated yet
  staleness.no_primary({104s, 161s});
  CHECK(staleness.at(161s) == 4s);
  staleness.no_primary({164s, 200s});  // a candidate had votes for a while
  CHECK(staleness.at(200s) == 7s);
  CHECK(staleness.rule(204s, recent) == Staleness_Rule::no_primary);
  CHECK(staleness.rule(205s, recent) == Staleness_Rule::counting);
  CHECK(staleness.at(205s) == 12s);
  staleness.fresh(203s);
  CHECK(staleness.at(205s) == 2s);
  staleness.age(60s);  // the machine was stopped
  CHECK(staleness.at(205s) == 62s);
}

TEST_CASE("while a node is Primary time counts, also what was without one before") {
  Staleness staleness;
  staleness.fresh(100s);
  staleness.no_primary({104s, 110s});
  staleness.primary_at(109s);  // an answer that was asked for earlier
  CHECK(staleness.rule(110s, recent) == Staleness_Rule::no_primary);
  staleness.primary_at(111s);
  CHECK(staleness.rule(111s, recent) == Staleness_Rule::counting);
  CHECK(staleness.at(111s) == 5s);
  staleness.no_primary({104s, 111s});  // what is learnt later of the time before
  CHECK(staleness.at(111s) == 5s);
  CHECK(staleness.rule(111s, recent) == Staleness_Rule::counting);
  staleness.no_primary({104s, 113s});
  CHECK(staleness.at(113s) == 5s);
  CHECK(staleness.rule(113s, recent) == Staleness_Rule::no_primary);
}

TEST_CASE("no node can be Primary while more voters than a majority can spare are bound to none") {
  const auto without = [](std::vector<Interval> unbound, std::size_t voters) {
    return time_without_primary(std::move(unbound), voters);
  };
  CHECK_FALSE(without({}, 0));
  CHECK_FALSE(without({}, 3));
  CHECK_FALSE(without({{0s, 10s}}, 3));
  CHECK(without({{0s, 10s}, {5s, 12s}}, 3) == Interval{5s, 10s});
  CHECK_FALSE(without({{0s, 4s}, {5s, 12s}}, 3));  // each was free, but never both
  CHECK(without({{0s, 10s}, {5s, 12s}, {8s, 9s}}, 3) == Interval{5s, 10s});
  CHECK(without({{0s, 10s}, {11s, 12s}, {8s, 9s}}, 3) == Interval{8s, 9s});
  // In a site of two, both have to vote; of four, three.
  CHECK(without({{1s, 2s}}, 2) == Interval{1s, 2s});
  CHECK(without({{1s, 3s}, {2s, 4s}}, 4) == Interval{2s, 3s});
  CHECK_FALSE(without({{1s, 3s}, {2s, 4s}}, 5));
  CHECK(without({{1s, 3s}}, 1) == Interval{1s, 3s});
}

TEST_CASE("time without a Primary: as by trying every majority at every moment") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20'000; ++round) {
    const std::size_t voters = 1 + random() % 6;
    std::vector<Interval> unbound;
    for (std::size_t i = random() % (voters + 1); i > 0; --i) {
      const auto from = static_cast<long>(random() % 8),
                 to = from + static_cast<long>(random() % 8);
      unbound.push_back({Time(from), Time(to)});
    }
    const auto safe = [&](long moment) {
      std::size_t free = 0;
      for (const Interval& time : unbound) {
        free += time.from <= Time(moment) && Time(moment) <= time.to;
      }
      return voters - free < votes_needed(voters);  // who is left is no majority
    };
    const auto found = time_without_primary(unbound, voters);
    long latest = 16;
    while (latest >= 0 && !safe(latest)) --latest;
    REQUIRE(found.has_value() == (latest >= 0));
    if (!found) continue;
    REQUIRE(found->to == Time(latest));
    for (long moment = found->from.count(); moment <= latest; ++moment) REQUIRE(safe(moment));
  }
}

TEST_CASE(
    "a standby serves while its primary's server restarts, and for delay= when it is cut off") {
  Standby n3;
  World& world = n3.world;
  for (int i = 0; i < 20; ++i) {  // an idle primary: its WAL stands still
    world.now += 1s;
    n3.look(1000);
    CHECK(n3.lag().stale.value() <= 1s);
  }
  world.states["n1"] = {503, R"({"state":"Down","unbound":null})", {}};
  for (int i = 0; i < 5; ++i) {
    world.now += 1s;
    n3.look(1000, false);
    CHECK(n3.serves());
  }
  // The primary is back, and the WAL receiver connects only later: wal_retrieve_retry_interval.
  world.primary_reports(1000);
  world.pass(1s);
  CHECK(n3.lag().stale == 0s);
  CHECK(n3.lag().rule == Staleness_Rule::fresh);

  // n3 alone is cut off; n2, which it hears, votes for the living n1. Nobody who answers is
  // Primary.
  world.states.erase("n1");
  for (int i = 1; i <= 10; ++i) {
    world.pass(1s);
    CAPTURE(i);
    CHECK(n3.serves());
    CHECK(n3.lag().stale == std::chrono::seconds(i));
  }
  world.pass(1ms);
  CHECK_FALSE(n3.serves());
  CHECK(n3.lag().rule == Staleness_Rule::counting);
  CHECK(n3.problem().starts_with("its data may be 10001 ms old, more than 10000 ms: n1 does not"));
  // That it is itself bound by no promise by now changes nothing.
  for (int i = 0; i < 60; ++i) {
    world.now += 1s;
    n3.look(1000, false);
    CHECK_FALSE(n3.serves());
  }
  world.primary_reports(1200);
  world.pass(1s);
  CHECK_FALSE(n3.serves());
  CHECK(n3.problem().find("n1 is ahead of it") != std::string::npos);
  n3.look(1200);
  CHECK(n3.serves());
}

TEST_CASE("the primary is gone: its standbys serve for as long as no node can be Primary") {
  Standby n3;
  World& world = n3.world;
  world.states.erase("n1");
  // n2's promise and its own end after a vote_lease.
  for (int i = 1; i <= 120; ++i) {
    n3.reports("n2", i <= 4 ? "null" : std::to_string((i - 4) * 1000));
    world.now += 1s;
    n3.look(1000, false);
    CAPTURE(i);
    CAPTURE(n3.problem());
    CHECK(n3.serves());
    CHECK(n3.lag().stale.value() <= 6s);
  }
  CHECK(n3.lag().rule == Staleness_Rule::no_primary);
  // n2 has the votes of n3 and its own, and does not answer n3: from now on it counts.
  world.states.erase("n2");
  for (int i = 0; i < 4; ++i) world.pass(1s);
  CHECK(n3.serves());
  for (int i = 0; i < 2; ++i) world.pass(1s);
  CHECK_FALSE(n3.serves());
  CHECK(n3.lag().rule == Staleness_Rule::counting);
}

TEST_CASE("a standby that is promoted serves as it did until a node is Primary") {
  const auto promoted = [](const std::vector<std::string>& voters) {
    Facts facts = make_facts(make_site(3));
    facts.nodes[0].type = "standby";
    facts.nodes[2].type = "primary";
    facts.replication.known = true;
    facts.replication.position = 1000;
    facts.replication.timeline = 2;
    auto n3 = std::make_unique<Standby>();
    n3->world.states.erase("n1");
    n3->world.now += 5s;  // its promise to n1 is over
    for (const std::string& voter : voters) n3->world.names(voter, "n3");
    n3->world.look(facts);
    return n3;
  };
  const auto alone = promoted({});
  CHECK(alone->world.node.get_state() == State::unknown);
  CHECK(alone->serves());
  CHECK(alone->lag().stale == 5s);
  alone->world.pass(5s);
  CHECK(alone->serves());
  alone->world.pass(1s);
  CHECK_FALSE(alone->serves());

  const auto elected = promoted({"n2"});
  CHECK(elected->world.node.get_state() == State::primary);
  CHECK_FALSE(elected->world.node.get_lag());

  const auto outvoted = promoted({});
  outvoted->world.primary_reports(1100);
  outvoted->world.pass(1s);
  CHECK(outvoted->world.node.get_state() == State::unknown);
  CHECK_FALSE(outvoted->world.node.get_lag());

  World never_a_standby;
  never_a_standby.look(make_facts(make_site(3)));
  CHECK(never_a_standby.node.get_state() == State::unknown);
  CHECK_FALSE(never_a_standby.node.get_lag());
}

TEST_CASE("a server that was started again may have other data") {
  Standby n3;
  World& world = n3.world;
  world.states.erase("n1");
  Facts facts = standby_facts(1000, 1000, 1000);
  world.now += 1s;
  world.look(facts);
  CHECK(n3.serves());
  // It was cloned from one that is behind, or ahead on a timeline of its own.
  facts.replication.server_started = "2026-01-31 12:00:00+00";
  world.look(facts);
  CHECK_FALSE(n3.serves());
  CHECK(n3.lag().rule == Staleness_Rule::unknown);
  CHECK(n3.problem() == "it is not known how old its data are: n1 does not answer");
  world.primary_reports(1000);
  world.pass(1s);
  CHECK(n3.serves());
}

TEST_CASE("the positions of another cluster say nothing of a standby's data") {
  Standby n3;
  World& world = n3.world;
  Facts facts = standby_facts(1000, 1000, 1000);
  facts.system = 7;
  // n1 was made anew: its WAL begins lower.
  world.states["n1"] = {
      200, R"({"state":"Primary","unbound":null,"position":"0/10","timeline":3,"system":"8"})", {}};
  for (int i = 0; i < 15; ++i) {
    world.now += 1s;
    world.look(facts);
  }
  CHECK_FALSE(n3.serves());
  CHECK(n3.lag().unheard == "n1 is of another cluster than this database: clone this standby");
  world.states["n1"].body.replace(world.states["n1"].body.find("\"8\""), 3, "\"7\"");
  world.pass(1s);
  CHECK(n3.serves());
}

TEST_CASE("a voter that lists other voters, and a Primary of another site, are heeded") {
  Standby other_list, other_site;
  other_list.list = digest({1, 2, 3, 4, 5});
  for (Standby* n3 : {&other_list, &other_site}) {
    n3->world.states.erase("n1");
    for (int i = 1; i <= 14; ++i) {
      n3->reports("n2", i <= 4 ? "null" : std::to_string((i - 4) * 1000));
      n3->world.now += 1s;
      Facts facts = standby_facts(1000, 1000, 1000);
      if (n3 == &other_site) {
        facts.nodes.push_back(make_node(4, "n4", "standby", "other"));
        n3->world.states["n4"] = {200, R"({"state":"Primary"})", {}};
      }
      n3->world.look(facts);
    }
    CHECK_FALSE(n3->serves());
    CHECK(n3->lag().rule == Staleness_Rule::counting);
  }
  // The time in which n4 was Primary counts for ever.
  other_site.world.states.erase("n4");
  other_site.reports("n2", "20000");
  other_site.world.pass(1s);
  other_site.world.pass(1s);
  CHECK(other_site.lag().stale.value() >= 13s);
}

TEST_CASE("what a voter reported of its promise is no news for ever") {
  Standby n3;
  World& world = n3.world;
  world.states.erase("n1");
  world.now += 4s;
  n3.reports("n2", "1000");
  n3.look(1000, false);
  CHECK(n3.serves());
  world.states.erase("n2");  // it may vote for anybody now
  for (int i = 0; i < 12; ++i) world.pass(1s);
  CHECK_FALSE(n3.serves());
}

TEST_CASE("a primary of an earlier version reports no position: a stream from it has to do") {
  Standby n3;
  World& world = n3.world;
  world.states["n1"] = {200, R"({"state":"Primary"})", {}};
  for (int i = 0; i < 30; ++i) {
    world.now += 1s;
    n3.look(1000);
    CHECK(n3.serves());
  }
  for (int i = 0; i < 12; ++i) {
    world.now += 1s;
    n3.look(1000, false);
  }
  CHECK_FALSE(n3.serves());
  // One that reports none though it could does not know it.
  Standby late;
  late.world.states["n1"] = {200, R"({"state":"Primary","unbound":null,"position":null})", {}};
  for (int i = 0; i < 12; ++i) {
    late.world.now += 1s;
    late.look(1000);
  }
  CHECK_FALSE(late.serves());
  CHECK(late.problem().find("n1 does not report the position") != std::string::npos);
}

TEST_CASE("answers to /state that are none") {
  const auto read = [](int status, const std::string& body) {
    return read_state_reply({status, body, ""});
  };
  const std::string primary = R"({"state":"Primary","unbound":7,"position":"1/2","timeline":3})";
  CHECK(read(200, primary).detailed);
  CHECK(read(200, primary).unbound == 7ms);
  CHECK(read(200, primary).position == (Lsn{1} << 32) + 2);
  CHECK(read(200, primary).timeline == 3);
  CHECK_FALSE(read(202, primary).detailed);  // the status and the word do not agree
  CHECK(read(509, R"({"state":"Unknown","unbound":7})").unbound == 7ms);
  CHECK(read(503, R"({"state":"Down","unbound":7})").unbound == 7ms);
  CHECK_FALSE(read(202, R"({"state":"Standby","unbound":null,"position":"1/2"})").position);
  for (const char* body :
       {R"({"state":"Primary","unbound":"x","position":7,"timeline":"3"})",
        R"({"state":"Primary","unbound":1.5,"position":"1/2/3","timeline":3.5})",
        R"({"state":"Primary","unbound":{},"position":null,"timeline":-1})",
        R"({"state":"Primary","unbound":[],"position":"x","timeline":4294967296})"}) {
    CAPTURE(body);
    const State_Report report = read(200, body);
    CHECK(report.state == State::primary);
    CHECK_FALSE(report.unbound);
    CHECK_FALSE(report.position);
    CHECK_FALSE(report.timeline);
  }
  CHECK(read(202, R"({"state":"Standby","unbound":-5})").unbound == 0ms);
  CHECK(read(202, R"({"state":"Standby","unbound":9223372036854775807})").unbound == 1h);
  CHECK(read(200, "[]").state == State::unknown);
  CHECK(read(200, "").state == State::unknown);
  CHECK(read(0, primary).state == State::unknown);
  CHECK(read(200, primary + std::string(max_reply_size, ' ')).state == State::unknown);
}

TEST_SUITE_END();
