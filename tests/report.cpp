#include <doctest/doctest.h>

#include "node/report.hpp"
#include "tests/world.hpp"

TEST_SUITE_BEGIN("report");

TEST_CASE("each problem of a node is listed, and a healthy node has none") {
  using Problems = std::vector<std::string>;
  World world;
  const auto problems = [&] { return find_problems(world.node.get_report()); };
  CHECK(problems() == Problems{"the database was not asked yet"});
  world.look(make_facts(make_site(3)));
  CHECK(problems().at(0).starts_with("no majority votes for it (1 of 3 votes, 2 needed: "));
  world.names("n2", "n1");
  world.pass(1s);
  CHECK(problems() == Problems{"a vote is missing: n3: connection refused"});
  world.names("n3", "n2");
  world.pass(1s);
  CHECK(problems() == Problems{"a vote is missing: n3: names n2"});
  world.names("n3", "n1");
  world.pass(1s);
  CHECK(problems().empty());
  world.states["n3"] = {200, R"({"state":"Primary"})", "", {}};
  world.pass(1s);
  CHECK(problems() == Problems{"n3 claims to be Primary too"});

  // A standby, whose database has not heard of the failover.
  world.look(standby_facts(0x1000, 0x1000, 0x1000));
  CHECK(problems() == Problems{"its database names n1 as primary, and not n3"});
  world.states.clear();
  world.pass(1s);
  CHECK(problems().empty());
  Facts facts = standby_facts(0x1000, 0x1000, 0x1000);
  facts.replication.paused = true;
  facts.replication.status = "waiting";
  world.look(facts);
  CHECK(problems() == Problems{"its WAL receiver is waiting, not streaming", "replay is paused"});

  // A witness is Unknown, and has no problem.
  auto nodes = make_site(3);
  nodes[0].type = "witness";
  nodes[1].type = "primary";
  world.look(make_facts(nodes));
  CHECK(world.node.get_state() == State::unknown);
  CHECK(problems().empty());
}

TEST_CASE("an old list of nodes is a problem") {
  Report report;
  report.decision.state = State::standby;
  CHECK(find_problems(report).empty());
  report.nodes_problem = "locked";
  report.nodes_age = 75s;
  CHECK(find_problems(report) ==
        std::vector<std::string>{"repmgr.nodes is blocked (locked): the list of 1 min 15 s ago "
                                 "stands"});
}

TEST_SUITE_END();
