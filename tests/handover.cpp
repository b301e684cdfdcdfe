// What voters tell the new Primary of the old one.

#include <doctest/doctest.h>

#include "daemon/endpoints.hpp"
#include "node/handover.hpp"
#include "tests/world.hpp"

namespace {

Promise_Terms terms_of(const std::string& body) {
  std::string why;
  Promise_Terms terms;
  http_node_reports_primary({200, body, ""}, why, &terms);
  return terms;
}

}  // namespace

TEST_SUITE_BEGIN("handover");

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
  history.arrived();
  CHECK_FALSE(history.before(171s));
  // After an hour it is no handover any more.
  history.granted("n2", 174s + 1h, 178s + 1h);
  CHECK_FALSE(history.before(174s + 1h));

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
    CAPTURE(ago);
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

TEST_SUITE_END();
