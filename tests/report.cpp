#include <doctest/doctest.h>

#include "node/rules/report.hpp"
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
  CHECK(problems() == Problems{"a vote is missing: n3: connection refused. n3: is primgr running "
                               "there, on that port?"});
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

TEST_CASE("only voters that are silent may be lost; of the others there is something to check") {
  World world;
  const auto problem = [&](const std::string& n2, const std::string& n3) {
    world.primaries["n2"] = {0, "", n2, {}};
    world.primaries["n3"] = {0, "", n3, {}};
    world.pass(5s);
    world.look(make_facts(make_site(3)));
    CHECK(world.node.get_state() == State::unknown);
    return find_problems(world.node.get_report()).at(0);
  };
  const auto advises = [](const std::string& text, const std::string& what) {
    INFO(text);
    return text.find(what) != text.npos;
  };
  for (const char* silent : {"timed out", "host unreachable", "silent, and not waited for"}) {
    CAPTURE(silent);
    CHECK(advises(problem(silent, "timed out"), "primgr --lost n2 n3"));
  }
  const std::pair<std::string, std::string> living[] = {
      {"connection refused at 10.0.0.2:5999", "is primgr running there, on that port?"},
      {"the name db2 does not resolve", "is the name right in peer.NAME"},
      {"this host cannot ask it: Network is unreachable", "the routes of this host"},
      {"TLS handshake failed", "tls_cert"},
      {"its certificate is not signed by tls_ca (expired)", "tls_ca"},
      {"names none, its state is Down", "is PostgreSQL running there?"},
      {"no valid HTTP reply", "is it primgr"}};
  for (const auto& [why, check] : living) {
    const std::string which(why);
    CAPTURE(which);
    const std::string one = problem(why, "timed out"), both = problem(why, why);
    CHECK(advises(one, ". n2: "));
    CHECK(advises(one, check));
    CHECK_FALSE(advises(one, "--lost"));
    CHECK(advises(both, ". n2, n3: "));
    CHECK_FALSE(advises(both, "--lost"));
  }
  CHECK_FALSE(advises(problem("out of memory", "timed out"), "--lost"));
}

TEST_CASE("a node that is not Primary says which rows of repmgr.nodes are why, and both ways out") {
  World world;
  const auto problem = [&](std::vector<Node> nodes) {
    world.look(make_facts(std::move(nodes)));
    world.pass(5s);
    CHECK(world.node.get_state() == State::unknown);
    return find_problems(world.node.get_report()).at(0);
  };
  const auto has = [](const std::string& text, const std::string& what) {
    INFO(text);
    CHECK(text.find(what) != text.npos);
  };
  for (const char* peer : {"n2", "n3"}) {
    world.primaries[peer] = {503, R"({"state":"Unknown"})", ""};
  }
  auto nodes = make_site(3);
  nodes[0].active = false;
  std::string text = problem(nodes);
  has(text, "repmgr.nodes has no active primary row (not active: n1)");
  has(text, "repmgr primary register --force");
  has(text, "repmgr node rejoin");
  CHECK(world.logged("repmgr.nodes has no active primary row (not active: n1)") == 1);
  nodes[0].active = true;
  nodes[2].type = "primary";
  text = problem(nodes);
  has(text, "repmgr.nodes has 2 active primary rows (n1, n3)");
  has(text, "repmgr primary register --force");
  has(text, "repmgr node rejoin");
  // It was promoted past repmgr.
  nodes[0].type = "standby";
  text = problem(nodes);
  has(text, "If n3, which its repmgr.nodes names, is to be");
  has(text, "repmgr primary register --force");
  // An old primary that is back.
  nodes = make_site(3);
  for (const char* peer : {"n2", "n3"}) world.names(peer, "n2");
  world.states["n2"] = {200, R"({"state":"Primary"})", ""};
  text = problem(nodes);
  has(text,
      "n2 is Primary. If that is right, stop PostgreSQL on this host and run: repmgr node "
      "rejoin");
  CHECK(text.find("register") == text.npos);
  // Two names that count as one, of which neither is known; and none.
  nodes[1].name = "N1";
  World fresh;
  fresh.look(make_facts(nodes));
  has(find_problems(fresh.node.get_report()).at(0),
      "repmgr.nodes lists n1 and N1, which differ only in case");
  has(problem({make_node(2, "n2", "primary")}), "repmgr.nodes lists no node named \"n1\"");
}

TEST_CASE("a standby says that repmgr.nodes names no primary") {
  World world;
  Facts facts = standby_facts(0x1000, 0x1000, 0x1000);
  facts.nodes[1].type = "primary";
  world.look(facts);
  CHECK(find_problems(world.node.get_report()) ==
        std::vector<std::string>{"in recovery: repmgr.nodes has 2 active primary rows (n1, n2)"});
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
