// How long a handover took, as the new Primary tells it.

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <set>

#include "daemon/api/endpoints.hpp"
#include "daemon/api/metrics.hpp"
#include "daemon/api/node_document.hpp"
#include "node/rules/handover.hpp"
#include "tests/world.hpp"

namespace {

// A site of three in simulated time, whose clocks are the same, and whose nodes answer each other
// at once. n1 is Primary from the start.
struct Site {
  Site() {
    for (const char* name : {"n1", "n2", "n3"}) start(name);
    for (const char* name : {"n2", "n3", "n1"}) look(name);
    REQUIRE(at("n1").node.get_state() == State::primary);
  }
  World& at(const std::string& name) { return *worlds.at(name); }
  // Starts a node, or starts it again.
  void start(const std::string& name) {
    worlds[name] = std::make_unique<World>(World::named(name));
    at(name).now = now;
    at(name).answers = [this](const std::string& peer, const std::string& target) {
      if (gone.contains(peer)) return Http_Reply{0, {}, "connection refused"};
      Repmgr_Node& node = at(peer).node;
      const Answer answer = target.starts_with("/state")
                                ? get_reported_state(node, parameters(target))
                                : get_reported_primary(node, parameters(target));
      return Http_Reply{answer.status, answer.body, ""};
    };
  }
  // The node looks at its database, which follows `leader`.
  void look(const std::string& name) {
    auto nodes = make_site(3);
    nodes[0].type = "standby";
    find(nodes, leader).type = "primary";
    at(name).look(make_facts(nodes, name != leader));
  }
  void pass(Time time) {
    now += time;
    for (auto& [name, world] : worlds) world->now = now;
    for (auto& [name, world] : worlds) {
      if (!gone.contains(name)) world->pass(0s);
    }
  }
  // n2 is promoted, and the others hear of it.
  void promote_n2() {
    leader = "n2";
    look("n3");
    look("n2");
  }
  // n1's server is stopped, n2 promoted 0.4 s later. n3's answer takes 50 ms once it is free.
  void hand_over() {
    pass(500ms);
    at("n1").look({});
    pass(400ms);
    promote_n2();
    at("n2").hold = true;
    pass(610ms);
    pass(50ms);
    at("n2").hold = false;
    at("n2").release();
    pass(0s);
    REQUIRE(at("n2").node.get_state() == State::primary);
  }
  std::optional<Handover> handover() { return at("n2").node.get_report().handover; }

  Time now = 1000s;
  std::string leader = "n1";
  std::set<std::string> gone;
  std::map<std::string, std::unique_ptr<World>> worlds;

 private:
  static Node& find(std::vector<Node>& nodes, const std::string& name) {
    return *std::find_if(nodes.begin(), nodes.end(),
                         [&](const Node& node) { return node.name == name; });
  }
};

Json node_document(World& world) {
  return make_node_document(world.node, {boottime(), 3, ""});
}

std::string metrics(World& world) {
  Metrics metrics;
  write_node_metrics(metrics, world.node.get_report(), {boottime(), 3, ""},
                     world.node.get_history());
  return std::move(metrics).text();
}

void check_parts(const Handover& handover, bool handed_back, Time database, Time promise,
                 Time votes) {
  CHECK(handover.from == "n1");
  CHECK(handover.handed_back == handed_back);
  CHECK(handover.database == database);
  CHECK(handover.promise == promise);
  CHECK(handover.votes == votes);
}

Promise_Terms terms_of(const std::string& body) {
  std::string why;
  Promise_Terms terms;
  http_node_reports_primary({200, body, ""}, why, &terms);
  return terms;
}

}  // namespace

TEST_SUITE_BEGIN("handover");

TEST_CASE("a handover takes from the last 200 of the old Primary to the first of the new one") {
  Site site;
  CHECK(node_document(site.at("n2"))["handover"].is_null());
  site.hand_over();
  const auto handover = site.handover();
  REQUIRE(handover);
  check_parts(*handover, true, 400ms, 610ms, 50ms);
  CHECK(handover->total() == 1060ms);
  CHECK(site.at("n2").log.back().ends_with(
      "; took over from n1 1.1 s after its last 200 (0.4 s for the database, 0.6 s until it handed "
      "its votes back, 0.1 s for votes)"));
  site.pass(2s);
  CHECK(node_document(site.at("n2"))["handover"].dump() ==
        R"({"from":"n1","seconds":1.06,"databaseSeconds":0.4,"promiseSeconds":0.61,)"
        R"("votesSeconds":0.05,"handedBack":true,"agoSeconds":2.0})");
  const std::string shown = metrics(site.at("n2"));
  CHECK(shown.find("\nprimgr_last_handover_seconds 1.06\n") != shown.npos);
  for (const char* line :
       {R"({for="database"} 0.4)", R"({for="promise"} 0.61)", R"({for="votes"} 0.05)"}) {
    CAPTURE(line);
    CHECK(count(shown, "\nprimgr_last_handover_wait_seconds" + std::string(line) + "\n") == 1);
  }
  CHECK(metrics(site.at("n1")).find("last_handover") == std::string::npos);
  // What shows whether the two overlapped.
  CHECK(shown.find("\nprimgr_last_primary_began_seconds 2\n") != shown.npos);
  CHECK(shown.find("\nprimgr_last_primary_ended_seconds 0\n") != shown.npos);
  const std::string before = metrics(site.at("n1")), ended = "\nprimgr_last_primary_ended_seconds ";
  REQUIRE(before.find(ended) != before.npos);
  CHECK(std::stod(before.substr(before.find(ended) + ended.size())) > 2);
}

TEST_CASE("a Primary that is gone had its last 200 check_delay before its promises end") {
  Site site;
  site.gone = {"n1"};
  site.pass(1500ms);
  site.promote_n2();
  site.pass(2500ms);
  REQUIRE(site.at("n2").node.get_state() == State::primary);
  const auto handover = site.handover();
  REQUIRE(handover);
  check_parts(*handover, false, 0s, 1s, 0s);
  CHECK(site.at("n2").logged("0.0 s for the database, 1.0 s until its lease expired, 0.0 s for "
                             "votes)") == 1);
}

TEST_CASE("a promotion that is late is what was waited for") {
  Site site;
  site.gone = {"n1"};
  site.pass(10s);
  site.promote_n2();
  REQUIRE(site.handover());
  CHECK(site.handover()->database == 7s);
  CHECK(site.handover()->total() == 7s);
}

TEST_CASE("there was no handover if no voter knows of another Primary") {
  World world(World::named("n2"));
  auto nodes = make_site(3);
  nodes[0].type = "standby";
  nodes[1].type = "primary";
  world.primaries["n3"] = {200, R"({"Primary":"n2","lease":4000,"token":"t"})", ""};
  world.look(make_facts(nodes));
  REQUIRE(world.node.get_state() == State::primary);
  CHECK_FALSE(world.node.get_report().handover);
  CHECK(world.logged("took over") == 0);
}

TEST_CASE("a Primary that starts again takes nothing over") {
  Site site;
  site.start("n1");
  site.look("n1");
  REQUIRE(site.at("n1").node.get_state() == State::primary);
  CHECK_FALSE(site.at("n1").node.get_report().handover);
}

TEST_CASE("a new Primary that is short of votes for a while, or starts again, takes nothing over") {
  Site site;
  site.hand_over();
  const auto handover = site.handover();
  REQUIRE(handover);
  site.gone = {"n1", "n3"};
  for (int i = 0; i < 4; ++i) site.pass(1s);
  REQUIRE(site.at("n2").node.get_state() == State::unknown);
  site.gone = {"n1"};
  site.pass(1s);
  REQUIRE(site.at("n2").node.get_state() == State::primary);
  CHECK(site.handover()->at == handover->at);
  // n3 has heard that n2 is Primary, and tells its successor of the same name nothing.
  site.pass(1s);
  site.start("n2");
  site.look("n2");
  REQUIRE(site.at("n2").node.get_state() == State::primary);
  CHECK_FALSE(site.handover());
}

TEST_CASE("a voter tells who had its vote before, for a minute") {
  Promise_History history(1s);
  history.granted("n1", 10s, 14s);
  CHECK_FALSE(history.before(10s));
  history.granted("N1", 11s, 15s);
  history.granted("n2", 100s, 104s);
  REQUIRE(history.before(100s));
  CHECK(history.before(100s)->name == "n1");
  CHECK(history.before(100s)->last_200 == 14s);
  CHECK_FALSE(history.before(100s)->handed_back);
  history.granted("n2", 159999ms, 163999ms);
  Ballot ballot;
  history.tell(ballot, 159999ms);
  CHECK(ballot.before == "n1");
  CHECK(ballot.since == 145999ms);
  CHECK_FALSE(history.before(160s));

  history.handed_back("n2", 150s);
  history.granted("n3", 170s, 174s);
  REQUIRE(history.before(170s));
  CHECK(history.before(170s)->name == "n2");
  CHECK(history.before(170s)->last_200 == 150s);
  CHECK(history.before(170s)->handed_back);
  // A candidate that never was Primary leaves no trace.
  history.handed_back("n3", std::nullopt);
  history.granted("n1", 171s, 175s);
  REQUIRE(history.before(171s));
  CHECK(history.before(171s)->name == "n2");
  history.arrived(171s);
  CHECK_FALSE(history.before(171s));
  // After an hour it is no handover any more.
  history.granted("n2", 174s + 1h, 178s + 1h);
  CHECK_FALSE(history.before(174s + 1h));

  // Whoever hands a vote back may say anything: the node was seen Primary later than that.
  Promise_History seen(1s);
  seen.granted("n1", 100s, 104s);
  seen.arrived(99s);
  seen.handed_back("n1", 91s);
  seen.granted("n2", 101s, 105s);
  REQUIRE(seen.before(101s));
  CHECK(seen.before(101s)->last_200 == 99s);

  // A voter that has its promise from a file.
  Promise_History fresh(1s);
  fresh.handed_back("n1", 5s);
  fresh.granted("n2", 10s, 14s);
  REQUIRE(fresh.before(10s));
  CHECK(fresh.before(10s)->last_200 == 5s);
}

TEST_CASE("a voter takes a last 200 with a hand-back that ends its promise, and limits it") {
  struct Case {
    const char* ago;
    int since;  // that the next candidate is told, in ms; -1: it is told of nobody
  };
  for (const auto& [ago, since] :
       {Case{"1500", 1500}, Case{"-5", 0}, Case{"3599999", 3'599'999}, Case{"3600000", -1},
        Case{"99999999999999999999", -1}, Case{"", -1}, Case{"x", -1}}) {
    const std::string which(ago);
    CAPTURE(which);
    World world(World::named("n3"));
    const auto ask = [&](const std::string& target) {
      return Json::parse(get_reported_primary(world.node, parameters(target)).body);
    };
    auto nodes = make_site(3);
    world.look(make_facts(nodes, true));
    const std::string token = ask("/primary?candidate=n1&accepts=less")["token"];
    nodes[0].type = "standby";
    nodes[1].type = "primary";
    world.look(make_facts(nodes, true));
    ask("/primary?candidate=n1&handback=x&ago=0");
    CHECK(ask("/primary?candidate=n2&accepts=less")["bound"] == 4000);
    ask("/primary?candidate=n1&ago=" + std::string(ago) + "&handback=" + token);
    const Json vote = ask("/primary?candidate=n2&accepts=less");
    CHECK(vote["lease"] == 4000);
    CHECK(vote.contains("before") == (since >= 0));
    if (since >= 0) {
      CHECK(vote["before"] == "n1");
      CHECK(vote["since"] == since);
      CHECK(vote["handedBack"] == true);
    }
    // Who counts the vote itself is told nothing more, as ever.
    CHECK(ask("/primary?candidate=n2&lease=3000").dump() == R"({"Primary":"n2"})");
  }
}

TEST_CASE("a vote with long names goes without who had it before") {
  World world(World::named("n3"));
  auto nodes = make_site(3);
  nodes[0].name = std::string(700, 'a');
  nodes[1].name = std::string(300, 'b');
  world.look(make_facts(nodes, true));
  const auto vote = [&](const Node& node) {
    const Answer answer =
        get_reported_primary(world.node, {{"candidate", node.name}, {"accepts", "less"}});
    CHECK(answer.body.size() <= max_reply_size);
    return Json::parse(answer.body);
  };
  CHECK(vote(nodes[0]).contains("token"));
  world.now += 4s;
  nodes[0].type = "standby";
  nodes[1].type = "primary";
  world.look(make_facts(nodes, true));
  CHECK(vote(nodes[1]).contains("token"));
  CHECK_FALSE(vote(nodes[1]).contains("before"));
  CHECK(world.node.grant_vote(nodes[1].name, 0s, "").before == nodes[0].name);
}

TEST_CASE("what a voter tells of a handover is limited, or not believed") {
  const auto with = [](const std::string& more) {
    return terms_of(R"({"Primary":"n2","lease":4000,)" + more + "}");
  };
  const Promise_Terms good = with(R"("before":"n1","since":1500,"handedBack":true)");
  CHECK(good.before == "n1");
  CHECK(good.since == 1500ms);
  CHECK(good.handed_back);
  CHECK(with(R"("before":"n1","since":-1,"handedBack":false)").since == 0ms);
  CHECK(with(R"("before":"n1","since":9223372036854775807,"handedBack":false)").since == 1h);
  CHECK(with(R"("before":"n1","since":18446744073709551615,"handedBack":false)").since <= 1h);
  const std::string name(63, 'x');
  CHECK(with(R"("before":")" + name + R"(","since":1,"handedBack":true)").before == name);
  for (const std::string bad :
       {R"("before":"n1","since":1500)", R"("before":"n1","handedBack":true)",
        R"("since":1500,"handedBack":true)", R"("before":7,"since":1500,"handedBack":true)",
        R"("before":"","since":1500,"handedBack":true)",
        R"("before":"n1","since":1.5,"handedBack":true)",
        R"("before":"n1","since":"1500","handedBack":true)",
        R"("before":"n1","since":null,"handedBack":true)",
        R"("before":"n1","since":1500,"handedBack":1)",
        R"("before":["n1"],"since":[1500],"handedBack":[true])"}) {
    CAPTURE(bad);
    CHECK(with(bad).before.empty());
    CHECK(with(bad).lease == 4s);
  }
  CHECK(with(R"("before":"x)" + name + R"(","since":1,"handedBack":true)").before.empty());
}

TEST_CASE("the parts of a handover add up, whatever the voters tell") {
  const auto nodes = make_site(5);
  const Lease lease{4s, 1s};
  const auto vote = [](Time last_200, Time bound_until, const char* before = "n1") {
    return Vote{100s, "n2", "", 4s, Predecessor{before, last_200, false}, bound_until};
  };
  Votes votes = {{"n3", vote(90s, 96s)}, {"n4", vote(93s, 95s)}};
  const auto find = [&](Time named_since = 94s, std::optional<Time> own_last_200 = {}) {
    return find_handover(nodes, {nodes[1], votes, lease, 100s}, named_since, own_last_200);
  };
  REQUIRE(find());
  CHECK(find()->database == 1s);
  CHECK(find()->promise == 2s);
  CHECK(find()->votes == 4s);
  CHECK(find(80s)->database == 0s);
  CHECK(find(99s)->promise == 0s);
  CHECK(find(200s)->database == 7s);
  CHECK(find(200s)->total() == 7s);
  CHECK(find(94s, 92s));
  CHECK_FALSE(find(94s, 93s));  // it was Primary later itself
  votes["n3"].bound_until = 300s;
  CHECK(find()->promise == 6s);
  CHECK(find()->votes == 0s);
  // Only who votes for it is listened to.
  votes["n5"] = vote(99s, 99s, "n4");
  votes["n5"].names = "n4";
  CHECK(find()->from == "n1");
  votes["n5"].names = "n2";
  CHECK(find()->from == "n4");
  votes["n5"] = vote(500s, 0s);
  CHECK(find()->total() == 0s);
  votes["n5"] = vote(99s, 0s, "N2");
  CHECK_FALSE(find());
}

TEST_SUITE_END();
