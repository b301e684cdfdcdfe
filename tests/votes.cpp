#include <doctest/doctest.h>

#include <fstream>

#include "tests/world.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("votes");

TEST_CASE(
    "a grant binds: the voter names its choice until it expires, also when its database moved on") {
  World world(World::named("n3"));
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  CHECK(world.node.grant_vote("n1", 3s) == "n1");
  CHECK(world.node.grant_vote("n2", 3s) == "n1");
  nodes[0].active = false;
  nodes[1].type = "primary";
  world.look(make_facts(nodes, true));
  CHECK(world.node.get_primary() == "n2");         // the plain question grants nothing …
  CHECK(world.node.grant_vote("n2", 3s) == "n1");  // … and does not break a promise either
  CHECK(world.node.grant_vote("n1", 3s) == "n2");
  world.now += 2999ms;
  CHECK(world.node.grant_vote("n2", 3s) == "n1");
  world.now += 1ms;
  CHECK(world.node.grant_vote("n2", 3s) == "n2");
  CHECK(world.node.grant_vote("n1", 3s) == "n2");
}

TEST_CASE("a candidate that counts a vote for longer than it is granted gets none") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  CHECK_FALSE(world.node.grant_vote("n1", 3001ms));
  CHECK(world.node.grant_vote("n1", 2s) == "n1");
}

TEST_CASE("where vote_lease differs, the shorter of the voter's and the candidate's counts") {
  CHECK(vote_expiry({10s, "n1", "", Time::max()}, 2970ms) == 12970ms);  // an older voter says none
  CHECK(vote_expiry({10s, "n1", "", 5s}, 2970ms) == 12970ms);
  CHECK(vote_expiry({10s, "n1", "", 2s}, 2970ms) == 11980ms);
  const auto lease = [](const char* body) { return http_node_reports_lease({200, body, ""}); };
  CHECK(lease(R"({"Primary":"n1"})") == Time::max());
  CHECK(lease(R"({"Primary":"n1","lease":2500})") == 2500ms);
  CHECK(lease(R"({"lease":18446744073709551615})") <= 1h);
  for (const char* odd : {"0", "-1", "2.5", "null", "\"2500\"", "[]", "1e300"}) {
    CAPTURE(odd);
    CHECK(lease((R"({"Primary":"n1","lease":)" + std::string(odd) + "}").c_str()) == Time::zero());
  }

  World world;
  world.primaries["n2"] = {200, R"({"Primary":"n1","lease":1000})", ""};
  world.look(make_facts(make_site(3)));
  REQUIRE(world.node.get_state() == State::primary);
  world.primaries.clear();
  world.now += 989ms;
  CHECK(world.node.get_state() == State::primary);
  world.now += 1ms;
  CHECK(world.node.get_state() == State::unknown);
}

TEST_CASE("a node that voted for another does not vote for itself before that has expired") {
  World world(World::named("n2"));
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  REQUIRE(world.node.grant_vote("n1", 3s) == "n1");
  nodes[0].active = false;
  nodes[1].type = "primary";
  world.names("n3", "n2");
  world.look(make_facts(nodes));
  CHECK(world.node.get_state() == State::unknown);
  CHECK(world.log.back().find("n2 (this node) names n1") != std::string::npos);
  world.pass(3s);
  CHECK(world.node.get_state() == State::primary);
}

TEST_CASE("a voter that does not know what it promised is silent for one vote_lease") {
  World world(World::named("n1"), {});
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  CHECK_FALSE(world.node.grant_vote("n1", 3s));
  CHECK(world.node.get_primary() == "n1");
  CHECK(world.node.get_state() == State::unknown);
  world.now += 2999ms;
  CHECK_FALSE(world.node.grant_vote("n1", 3s));
  world.pass(1ms);
  CHECK(world.node.grant_vote("n1", 3s) == "n1");
  CHECK(world.node.get_state() == State::primary);

  World alone(World::named("n1"), {});  // a site of one has nobody else to vote for
  alone.look(make_facts(make_site(1)));
  CHECK(alone.node.get_state() == State::primary);
}

TEST_CASE("a promise is written before it is given, and not given if it cannot be written") {
  std::optional<Grant> kept;
  bool works = true;
  int writes = 0;
  World world(World::named("n2"), {[] { return Grant{}; },
                                   [&](const Grant& grant, Deadline) {
                                     ++writes;
                                     if (works) kept = grant;
                                     return works ? grant : Grant{};
                                   }});
  world.look(make_facts(make_site(3), true));
  CHECK(world.node.grant_vote("n1", 3s) == "n1");
  REQUIRE(kept);
  CHECK(kept->to == "n1");
  CHECK(kept->until >= world.now + 3s);
  const int before = writes;
  for (int i = 0; i < 100; ++i, world.now += 1ms) CHECK(world.node.grant_vote("n1", 3s) == "n1");
  CHECK(writes - before <= 1);
  CHECK(kept->until >= world.now - 1ms + 3s);
  works = false;
  world.now += 10s;
  world.look(make_facts(make_site(3), true));
  CHECK_FALSE(world.node.grant_vote("n1", 3s));
  CHECK(world.node.get_primary() == "n1");
}

TEST_CASE("a promise that cannot be written leaves the vote before it valid") {
  Time saved_until{};
  bool fails = false;
  World world(World::named("n1"), {[] { return Grant{}; },
                                   [&](const Grant& grant, Deadline) {
                                     if (fails) return Grant{};
                                     saved_until = grant.until;
                                     return grant;
                                   }});
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  REQUIRE(world.node.get_state() == State::primary);
  fails = true;
  const Time begun = world.now;
  while (world.now < begun + 2s) {
    world.pass(100ms);
    INFO(votes_of(world.node));
    CHECK(world.node.get_state() == State::primary);
  }
  // That vote counts until it expires, and no longer.
  while (world.now <= saved_until) world.pass(100ms);
  CHECK(world.node.get_state() == State::unknown);
  CHECK(votes_of(world.node).find("n1 (this node): its promise cannot be kept in state_file") !=
        std::string::npos);
}

TEST_SUITE_END();
