#include <doctest/doctest.h>

#include <algorithm>
#include <optional>

#include "daemon/api/endpoints.hpp"
#include "node/rules/voting.hpp"
#include "tests/world.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("node");

TEST_CASE("before the first look the state is Down, and nothing is named") {
  World world;
  CHECK(world.node.get_state() == State::down);
  CHECK_FALSE(world.node.get_primary());
  CHECK_FALSE(world.node.get_real_primary().nodes_known);
  CHECK_FALSE(world.node.settled());
}

TEST_CASE("a primary asks its site and is Primary by majority") {
  World world;
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  CHECK(world.node.get_state() == State::primary);
  CHECK(world.node.get_primary() == "n1");
  CHECK(world.node.get_node_site() == "default");
  CHECK(world.node.get_all_other_nodes_in_site().size() == 2);
  CHECK(world.node.get_all_nodes().size() == 3);
  CHECK_FALSE(world.node.get_is_in_recovery_mode());
  CHECK(std::find(world.asked.begin(), world.asked.end(),
                  std::pair<std::string, std::string>("n2", "/primary?candidate=n1")) !=
        world.asked.end());
  CHECK(world.node.poll_other_nodes(world.node.get_all_other_nodes_in_site(), "n1", 3));
  CHECK_FALSE(world.node.poll_other_nodes(world.node.get_all_other_nodes_in_site(), "n1", 5));
}

TEST_CASE(
    "of two processes of one name, the one at the node's address in repmgr.nodes is the node") {
  Node_Settings settings = World::named("n1");
  settings.instance = "mine";
  World world(settings);
  world.names("n2", "n1");
  const auto answers_there = [&](const std::string& instance) {
    State_Report report;
    report.state = State::primary;
    report.instance = instance;
    const Reply reply = state_reply(report);
    world.states["n1"] = {reply.status, reply.body, ""};
  };
  const auto state = [&] {
    world.pass(2s);
    world.look(make_facts(make_site(3)));
    return world.node.get_report().decision;
  };
  world.hold = true;
  CHECK(state().state == State::unknown);
  answers_there("mine");
  world.hold = false;
  world.release();
  CHECK(state().state == State::primary);
  CHECK(state().state == State::primary);
  CHECK(world.logged("is Primary too") == 0);
  answers_there("another");
  CHECK(state().reason.find("another primgr answers for n1 at ") == 0);
  answers_there("mine");
  CHECK(state().state == State::primary);
  // It may be that this node cannot reach its own address, or that a gateway answers there.
  answers_there("");
  CHECK(state().state == State::primary);
  answers_there("another");
  CHECK(state().state == State::unknown);
  world.states["n1"] = {0, "", "timed out"};
  CHECK(state().state == State::primary);
}

TEST_CASE("answers that came after the last decision do not settle it") {
  World world;
  world.names("n2", "n1");
  world.names("n3", "n1");
  world.hold = true;
  world.node.learn(make_facts(make_site(3), false, world.now));
  CHECK_FALSE(world.node.settled());
  world.node.refresh();
  world.release();
  CHECK(world.node.get_state() == State::unknown);
  CHECK_FALSE(world.node.settled());
  world.node.refresh();
  CHECK(world.node.get_state() == State::primary);
  CHECK(world.node.settled());
}

TEST_CASE("a standby is settled when its first look was decided on, not when it has ended") {
  World world(World::named("n2"));
  world.node.learn(make_facts(make_site(3), true, world.now));
  CHECK_FALSE(world.node.settled());
  world.node.refresh();
  CHECK(world.node.settled());
}

TEST_CASE("a standby asks nobody for a vote") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  CHECK(world.node.get_state() == State::standby);
  CHECK(world.node.get_is_in_recovery_mode());
  for (const auto& [peer, target] : world.asked) CHECK(target == "/state?node=" + peer);
}

TEST_CASE("the candidate's name is escaped in the question") {
  World world(World::named("n &?1"));
  auto nodes = make_site(2);
  nodes[0].name = "n &?1";
  world.look(make_facts(nodes));
  CHECK(std::find(world.asked.begin(), world.asked.end(),
                  std::pair<std::string, std::string>("n2", "/primary?candidate=n%20%26%3F1")) !=
        world.asked.end());
}

TEST_CASE("a vote expires by itself, also when no peer answers any more") {
  World world;
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  world.primaries.clear();  // both peers are gone
  REQUIRE(world.node.get_state() == State::primary);
  world.now += 2959ms;
  CHECK(world.node.get_state() == State::primary);  // one lost reply takes nothing back
  world.now += 1ms;
  CHECK(world.node.get_state() == State::unknown);  // no refresh was needed for that
}

TEST_CASE("a machine that was stopped, and its clock with it, asks for votes before it answers") {
  World world;
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  world.names("n3", "n1");
  REQUIRE(world.node.get_state() == State::primary);
  // Clocks differ a little, and one may be set back.
  for (const Time little : {Time(200ms), Time(-1000s), Time()}) {
    world.stopped += little;
    CHECK(world.node.get_state() == State::primary);
    world.pass(10ms);
    CHECK(world.node.get_state() == State::primary);
  }
  // A question from before the stop is answered after it.
  world.hold = true;
  world.pass(1s);
  REQUIRE_FALSE(world.held.empty());
  const std::size_t asked = world.asked.size();
  world.stopped += 10s;
  CHECK(world.node.get_state() == State::unknown);
  world.release();
  CHECK(world.node.get_state() == State::unknown);
  world.node.refresh();
  world.release();
  CHECK(world.asked.size() > asked);
  world.pass(1ms);
  world.release();
  world.pass(1ms);
  CHECK(world.node.get_state() == State::primary);
  CHECK(world.logged("was stopped for 10.0 s") == 1);
}

TEST_CASE("a machine that was stopped does not answer Primary while it writes its promise") {
  std::vector<State> told;
  std::optional<World> world;
  world.emplace(World::named("n1"), Grant_Store{[] { return Grant{}; },
                                                [&](const Grant& grant, Deadline) {
                                                  if (world)
                                                    told.push_back(world->node.get_state());
                                                  return grant;
                                                }});
  world->names("n2", "n1");
  world->look(make_facts(make_site(3)));
  REQUIRE(world->node.get_state() == State::primary);
  told.clear();
  world->stopped = 10s;
  world->node.refresh();
  world->now += 3s;  // more than the promise that is kept ahead
  world->stopped = 20s;
  world->node.refresh();
  REQUIRE_FALSE(told.empty());
  CHECK(std::count(told.begin(), told.end(), State::primary) == 0);
}

TEST_CASE("a vote for somebody else counts at once") {
  World world;
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  world.names("n2", "n3");
  world.pass(1s);
  CHECK(world.node.get_state() == State::unknown);
  CHECK(world.log.back().find("n2 names n3") != std::string::npos);
}

TEST_CASE("a vote stays valid until it expires, also when the voter's database goes down") {
  World world;
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  world.primaries["n2"] = {503, R"({"state":"Down"})", ""};
  world.pass(1s);
  CHECK(world.node.get_state() == State::primary);
  world.pass(1970ms);
  CHECK(world.node.get_state() == State::unknown);
  CHECK(votes_of(world.node).find("n2: names none, its state is Down") != std::string::npos);
}

TEST_CASE("one question of a kind to a peer is under way at most") {
  World world;
  world.hold = true;
  world.look(make_facts(make_site(3)));
  const std::size_t first = world.asked.size();
  CHECK(first == 4);  // /state and /primary to n2 and n3
  for (int i = 0; i < 10; ++i) world.pass(1s);
  CHECK(world.asked.size() == first);
  world.release();
  world.pass(1s);
  CHECK(world.asked.size() == 2 * first);
}

TEST_CASE("an undecided node asks again after 200 ms, a decided one after refresh_interval") {
  World world;
  world.look(make_facts(make_site(3)));
  const auto votes_asked = [&] {
    return std::count_if(world.asked.begin(), world.asked.end(),
                         [](const auto& a) { return a.second.starts_with("/primary"); });
  };
  CHECK(votes_asked() == 2);
  world.pass(150ms);
  CHECK(votes_asked() == 2);
  world.names("n2", "n1");
  world.names("n3", "n1");
  world.pass(50ms);
  CHECK(votes_asked() == 4);
  REQUIRE(world.node.get_state() == State::primary);
  world.pass(900ms);
  CHECK(votes_asked() == 4);
  world.pass(100ms);
  CHECK(votes_asked() == 6);
}

TEST_CASE("an answer older than cache_ttl is not given") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  world.now += 20s;
  CHECK(world.node.get_state() == State::standby);
  world.now += 1ms;
  CHECK(world.node.get_state() == State::down);
  CHECK_FALSE(world.node.get_primary());
}

TEST_CASE("the real primary is asked of every node, and outlives the database") {
  World world(World::named("n2"));
  world.states["n1"] = {200, R"({"state":"Primary"})", ""};
  world.states["n3"] = {202, R"({"state":"Standby"})", ""};
  world.look(make_facts(make_site(3), true));
  CHECK(world.node.get_real_primary().claimants == std::vector<std::string>{"n1"});
  world.states["n3"] = {200, R"({"State":"Primary"})", ""};
  Facts down;
  down.problem = "gone";
  world.pass(1s);
  world.look(down);
  CHECK(world.node.get_state() == State::down);
  CHECK(world.node.get_real_primary().claimants == std::vector<std::string>{"n1", "n3"});
  CHECK(get_reported_real_primary(world.node).body ==
        R"({"realPrimary":null,"claimants":["n1","n3"]})");
  world.states.clear();
  world.pass(1s);
  CHECK(world.node.get_real_primary().nodes_known);
  CHECK(world.node.get_real_primary().claimants.empty());
}

TEST_CASE("a node that is unregistered is a voter until a list without it is confirmed") {
  World world;
  world.names("n2", "n1");
  world.names("n3", "n1");
  world.look(make_facts(make_site(3)));
  REQUIRE(world.node.get_state() == State::primary);
  world.look(make_facts(make_site(1)));
  CHECK(world.node.get_state() == State::primary);
  CHECK(votes_of(world.node).starts_with("3 of 3"));
}

TEST_CASE("--once reads votes and asks for none") {
  Node_Settings settings = World::named("n1");
  settings.candidate = false;
  World world(settings, {});
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  CHECK(world.node.get_state() == State::primary);
  for (const auto& [peer, target] : world.asked)
    CHECK((target == "/primary?voter=" + peer || target == "/state?node=" + peer));
}

TEST_CASE("each change is logged once") {
  World world;
  world.names("n2", "n1");
  for (int i = 0; i < 5; ++i) world.look(make_facts(make_site(3)));
  world.pass(2s);
  CHECK(world.log.size() == 1);
  Facts down;
  down.problem = "refused";
  for (int i = 0; i < 5; ++i) world.look(down);
  CHECK(world.log.size() == 2);
  CHECK(world.log.back() == "state Down: refused; was Primary for 2.0 s");
}

TEST_CASE("a list of nodes that is always slow is logged once") {
  World world;
  const auto look = [&](Time age) {
    world.now += 1s;
    Facts facts = make_facts(make_site(1), false, world.now);
    facts.nodes_read_at = world.now - age;
    world.node.learn(facts);
    world.node.refresh();
  };
  for (int i = 0; i < 20; ++i) look((i % 10) * 1s);
  CHECK(world.logged("repmgr.nodes") == 0);
  for (int i = 0; i < 60; ++i) look(5s + (i % 12) * 1s);
  CHECK(world.logged("repmgr.nodes is blocked (no answer yet): the list of 14.0 s ago stands") ==
        1);
  CHECK(world.logged("repmgr.nodes") == 1);
  look(1s);
  CHECK(world.logged("repmgr.nodes is read again") == 1);
}

TEST_CASE("a superuser in conninfo is logged once") {
  World world;
  Facts facts = make_facts(make_site(1));
  facts.superuser = true;
  world.look(facts);
  world.look(facts);
  CHECK(world.logged("superuser") == 1);
}

TEST_CASE("a blocked list of nodes stays in use, and is logged once with its age") {
  World world;
  world.names("n2", "n1");
  world.names("n3", "n1");
  world.look(make_facts(make_site(3)));
  REQUIRE(world.node.get_state() == State::primary);
  const Time read_at = world.now;
  const auto blocked = [&](Time age) {
    world.now = read_at + age;
    Facts facts = make_facts(make_site(3), false, world.now);
    facts.nodes_read_at = read_at;
    facts.blocked = "locked";
    world.node.learn(facts);
    world.node.refresh();
    world.node.refresh();
  };
  blocked(1s);
  blocked(2s);
  CHECK(world.logged("blocked") == 0);  // a busy server is not worth a line
  for (int i = 0; i < 60; ++i) blocked(4s + i * 1s);
  CHECK(world.node.get_state() == State::primary);
  CHECK(world.logged("repmgr.nodes is blocked (locked): the list of 4.0 s ago stands") == 1);
  CHECK(world.logged("blocked") == 1);
  CHECK(world.node.get_report().nodes_problem == "locked");
  CHECK(world.node.get_report().nodes_age == 63s);
  world.look(make_facts(make_site(3)));
  CHECK(world.logged("repmgr.nodes is read again, after 1 min 3 s") == 1);
  CHECK(world.node.get_report().nodes_problem == "");
  CHECK(world.logged("state ") == 1);
}

TEST_SUITE_END();
