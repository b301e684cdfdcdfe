#include <doctest/doctest.h>

#include <algorithm>
#include <optional>

#include "tests/world.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("votes");

TEST_CASE(
    "a grant binds: the voter names its choice until it expires, also when its database moved on") {
  World world(World::named("n3"));
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  CHECK(world.node.grant_vote("n1", 3s).names == "n1");
  CHECK(world.node.grant_vote("n2", 3s).names == "n1");
  nodes[0].active = false;
  nodes[1].type = "primary";
  world.look(make_facts(nodes, true));
  CHECK(world.node.get_primary() == "n2");               // the plain question grants nothing …
  CHECK(world.node.grant_vote("n2", 3s).names == "n1");  // … and does not break a promise either
  CHECK(world.node.grant_vote("n1", 3s).names == "n2");
  world.now += 3999ms;
  CHECK(world.node.grant_vote("n2", 3s).names == "n1");
  world.now += 1ms;
  CHECK(world.node.grant_vote("n2", 3s).names == "n2");
  CHECK(world.node.grant_vote("n1", 3s).names == "n2");
}

TEST_CASE("a candidate that counts a vote for longer than it is granted gets none") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  CHECK(world.node.grant_vote("n1", 4001ms).names.empty());
  CHECK(world.node.grant_vote("n1", 2s).names == "n1");
}

TEST_CASE("where vote_lease differs, the shorter of the voter's and the candidate's counts") {
  const Lease own{4s, 1s};
  CHECK(vote_expiry({10s, "n1", "", Time::max()}, own) == 12960ms);  // an older voter says none
  CHECK(vote_expiry({10s, "n1", "", 5s}, own) == 12960ms);
  CHECK(vote_expiry({10s, "n1", "", 2s}, own) == 10980ms);
  CHECK(vote_expiry({10s, "n1", "", 1s}, own) < 10s);  // no time is left: it never counts
  const auto lease = [](const char* body) {
    std::string why;
    Promise_Terms terms;
    http_node_reports_primary({200, body, ""}, why, &terms);
    return terms.lease;
  };
  CHECK(lease(R"({"Primary":"n1"})") == Time::max());
  CHECK(lease(R"({"Primary":"n1","lease":2500})") == 2500ms);
  CHECK(lease(R"({"lease":18446744073709551615})") <= 1h);
  for (const char* odd : {"0", "-1", "2.5", "null", "\"2500\"", "[]", "1e300"}) {
    CAPTURE(odd);
    CHECK(lease((R"({"Primary":"n1","lease":)" + std::string(odd) + "}").c_str()) == Time::zero());
  }

  World world;  // its check_delay is 1 s
  world.primaries["n2"] = {200, R"({"Primary":"n1","lease":2000})", ""};
  world.look(make_facts(make_site(3)));
  REQUIRE(world.node.get_state() == State::primary);
  world.primaries.clear();
  world.now += 979ms;
  CHECK(world.node.get_state() == State::primary);
  world.now += 1ms;
  CHECK(world.node.get_state() == State::unknown);
}

TEST_CASE("a node that voted for another does not vote for itself before that has expired") {
  World world(World::named("n2"));
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  REQUIRE(world.node.grant_vote("n1", 3s).names == "n1");
  nodes[0].active = false;
  nodes[1].type = "primary";
  world.names("n3", "n2");
  world.look(make_facts(nodes));
  CHECK(world.node.get_state() == State::unknown);
  CHECK(world.log.back().find("n2 (this node) names n1") != std::string::npos);
  world.pass(4s);
  CHECK(world.node.get_state() == State::primary);
}

TEST_CASE("a voter that does not know what it promised is silent for one vote_lease") {
  World world(World::named("n1"), {});
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  CHECK(world.node.grant_vote("n1", 3s).names.empty());
  CHECK(world.node.get_primary() == "n1");
  CHECK(world.node.get_state() == State::unknown);
  world.now += 3999ms;
  CHECK(world.node.grant_vote("n1", 3s).names.empty());
  world.pass(1ms);
  CHECK(world.node.grant_vote("n1", 3s).names == "n1");
  CHECK(world.node.get_state() == State::primary);

  World alone(World::named("n1"), {}, {}, {});  // a site of one has nobody else to vote for
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
  CHECK(world.node.grant_vote("n1", 3s).names == "n1");
  REQUIRE(kept);
  CHECK(kept->to == "n1");
  CHECK(kept->until >= world.now + 4s);
  const int before = writes;
  for (int i = 0; i < 100; ++i, world.now += 1ms)
    CHECK(world.node.grant_vote("n1", 3s).names == "n1");
  CHECK(writes - before <= 1);
  CHECK(kept->until >= world.now - 1ms + 4s);
  works = false;
  world.now += 10s;
  world.look(make_facts(make_site(3), true));
  CHECK(world.node.grant_vote("n1", 3s).names.empty());
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

TEST_CASE("a promise ends for who shows its token, and for nobody else") {
  const Grant first = promise_vote({}, "n1", "", "a", 13s);
  CHECK(first == Grant{"n1", 13s, "a", 0s});
  CHECK(hand_back(first, "N1", "a") == Grant{"n1", 0s, "", 0s});
  CHECK(hand_back(first, "n1", "b") == first);
  CHECK(hand_back(first, "n1", "") == first);
  CHECK(hand_back(first, "n2", "a") == first);
  CHECK(hand_back({"n1", 13s}, "n1", "") == Grant{"n1", 13s});
  // Renewed by who shows the token; nobody shortens it.
  CHECK(promise_vote(first, "n1", "a", "b", 14s) == Grant{"n1", 14s, "a", 0s});
  CHECK(promise_vote(first, "n1", "a", "b", 12s) == Grant{"n1", 13s, "a", 0s});
  // Another who asks in its name gets a token of its own, which ends nothing of before.
  const Grant forged = promise_vote(first, "n1", "", "b", 14s);
  CHECK(forged == Grant{"n1", 14s, "b", 13s});
  CHECK(hand_back(forged, "n1", "a") == forged);
  CHECK(hand_back(forged, "n1", "b") == Grant{"n1", 13s, "", 0s});
  const Grant again = promise_vote(forged, "n1", "a", "c", 15s);
  CHECK(again == Grant{"n1", 15s, "c", 14s});
  CHECK(promise_vote(again, "n1", "c", "d", 16s) == Grant{"n1", 16s, "c", 14s});
  // Who takes no token: nobody can end it.
  CHECK(promise_vote(again, "n1", "", "", 16s) == Grant{"n1", 16s, "", 0s});
  CHECK(promise_vote({"n1", 16s}, "n1", "", "e", 17s) == Grant{"n1", 17s, "e", 16s});
  // Another node: what was promised to the one before is over.
  CHECK(promise_vote(again, "n2", "c", "d", 30s) == Grant{"n2", 30s, "d", 0s});
  CHECK(hand_back_due(10s, 1s) == 11010ms);
}

TEST_CASE("a vote that is handed back frees the voter, once, also after it was restarted") {
  std::optional<Grant> kept = Grant{};
  const Grant_Store store = {[&] { return kept; },
                             [&](const Grant& grant, Deadline) {
                               kept = grant;
                               return grant;
                             }};
  std::optional<World> world;
  world.emplace(World::named("n3"), store);
  auto nodes = make_site(3);
  world->look(make_facts(nodes, true));
  const std::string token = world->node.grant_vote("n1", 0s, "").token;
  CHECK(token.size() == 32);
  CHECK(world->node.grant_vote("n1", 0s, token).token == token);
  nodes[0].active = false;
  nodes[1].type = "primary";
  world->look(make_facts(nodes, true));
  const Ballot bound = world->node.grant_vote("n2", 0s, "");
  CHECK_FALSE(bound.granted);
  CHECK(bound.bound_for == 4s);
  const Time now = world->now;
  world.emplace(World::named("n3"), store);
  world->now = now;
  world->look(make_facts(nodes, true));
  CHECK_FALSE(world->node.grant_vote("n2", 0s, "").granted);
  CHECK_FALSE(world->node.end_promise("n1", (token[0] == '0' ? "1" : "0") + token.substr(1)));
  CHECK_FALSE(world->node.end_promise("n2", token));
  CHECK(world->node.end_promise("n1", token));
  CHECK_FALSE(world->node.end_promise("n1", token));
  const Ballot given = world->node.grant_vote("n2", 0s, "");
  CHECK(given.granted);
  CHECK(given.token != token);
  CHECK_FALSE(world->node.end_promise("n1", token));
  CHECK_FALSE(world->node.grant_vote("n1", 0s, "").granted);
}

namespace {

// A World whose n1 is Primary by the vote of n2, and the questions to n2 that hand a vote back.
struct Primary_World : World {
  Primary_World() {
    primaries["n2"] = {200, R"({"Primary":"n1","lease":4000,"token":"t2"})", ""};
    look(make_facts(make_site(3)));
    REQUIRE(node.get_state() == State::primary);
    asked.clear();
  }
  std::ptrdiff_t handed_back() const {
    return std::count_if(asked.begin(), asked.end(), [](const auto& question) {
      return question.first == "n2" &&
             question.second.starts_with("/primary?candidate=n1&handback=t2&voter=n2&ago=");
    });
  }
};

}  // namespace

TEST_CASE("a Primary whose database is gone hands its votes back check_delay after its last 200") {
  Primary_World world;
  world.pass(1s);
  world.look({});
  CHECK(world.node.get_state() == State::down);
  world.pass(1009ms);
  CHECK(world.handed_back() == 0);
  world.pass(1ms);
  CHECK(world.handed_back() == 1);
  world.pass(1s);
  CHECK(world.handed_back() == 1);  // the voter has answered
  // It does not count what it gave back, though it would not have expired.
  world.primaries.clear();
  world.look(make_facts(make_site(3)));
  INFO(votes_of(world.node));
  CHECK(world.node.get_state() == State::unknown);
}

TEST_CASE("a hand-back without an answer is sent again, until the promise is over by itself") {
  Primary_World world;
  world.look({});
  world.primaries.clear();
  world.pass(1010ms);
  CHECK(world.handed_back() == 1);
  world.pass(199ms);
  CHECK(world.handed_back() == 1);
  world.pass(1ms);
  CHECK(world.handed_back() == 2);
  world.pass(4s);
  CHECK(world.handed_back() == 2);
}

TEST_CASE("a reply to a question from before the hand-back is no vote") {
  Primary_World world;
  world.hold = true;
  world.pass(1s);  // asks again
  const auto before = std::exchange(world.held, {});
  world.look({});
  world.pass(1010ms);
  world.look(make_facts(make_site(3)));
  for (const auto& question : before) {
    question.done(world.reply(question.peer, question.target, question.sent_at));
  }
  INFO(votes_of(world.node));
  CHECK(votes_of(world.node).find("n2 names n1") == std::string::npos);
}

TEST_CASE(
    "a voter that says again and again that it is about to be free is not asked without end") {
  World world(World::named("n1"), {[] { return Grant{}; }, nullptr}, {}, known_site(2));
  world.primaries["n2"] = {200, R"({"Primary":"n3","bound":1})", ""};
  world.look(make_facts(make_site(2)));
  world.asked.clear();
  for (int ms = 0; ms < 1000; ++ms) world.pass(1ms);
  CHECK(std::count_if(world.asked.begin(), world.asked.end(), [](const auto& question) {
          return question.second.starts_with("/primary");
        }) <= 20);
}

TEST_CASE("a Primary keeps its votes over a short failure, and where it is only short of votes") {
  Primary_World world;
  world.look({});
  world.pass(900ms);
  world.look(make_facts(make_site(3)));
  CHECK(world.node.get_state() == State::primary);
  world.pass(500ms);
  CHECK(world.handed_back() == 0);
  world.primaries.clear();  // it is cut off
  world.pass(3s);
  CHECK(world.node.get_state() == State::unknown);
  world.pass(3s);
  CHECK(world.handed_back() == 0);
}

TEST_CASE("a Primary that a majority left hands back what it holds, and so does a standby") {
  Primary_World left;
  left.primaries["n3"] = {200, R"({"Primary":"n2"})", ""};
  left.primaries["n2"] = {200, R"({"Primary":"n2"})", ""};
  left.pass(1s);
  CHECK(left.node.get_state() == State::unknown);
  left.pass(1010ms);
  CHECK(left.handed_back() == 1);

  Primary_World demoted;
  demoted.look(make_facts(make_site(3), true));
  CHECK(demoted.node.get_state() == State::standby);
  demoted.pass(1010ms);
  CHECK(demoted.handed_back() == 1);
}

TEST_CASE("a vote that anybody asks for and hands back makes no node look ten times a second") {
  World world(World::named("n2"));
  const Facts facts = make_facts(make_site(3), true);
  const auto to_next_look = [&] {
    const std::string token = world.node.grant_vote("n1", 0s, "").token;
    CHECK(world.node.end_promise("n1", token, 0s));
    world.node.begin_look();
    return world.node.look_due(world.now) - world.now;
  };
  world.look(facts);
  CHECK(to_next_look() == 100ms);  // n1 is not heard of
  world.primary_reports(100);
  world.pass(1s);
  world.look(facts);
  CHECK(to_next_look() == 1s);
}

TEST_CASE(
    "a voter that is the next candidate asks at once when it is freed, and when a promise ends") {
  World world(World::named("n2"));
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  const std::string token = world.node.grant_vote("n1", 0s, "").token;
  nodes[0].active = false;
  nodes[1].type = "primary";
  world.primaries["n3"] = {200, R"({"Primary":"n1","bound":120})", ""};
  world.look(make_facts(nodes));
  world.asked.clear();
  const auto questions = [&] {
    return std::count_if(world.asked.begin(), world.asked.end(), [](const auto& question) {
      return question.first == "n3" && question.second.starts_with("/primary");
    });
  };
  world.pass(120ms);
  CHECK(questions() == 0);
  world.pass(1ms);
  CHECK(questions() == 1);  // the promise of n3 is over
  world.primaries["n3"] = {200, R"({"Primary":"n2","lease":4000})", ""};
  CHECK(world.node.end_promise("n1", token));
  world.pass(1ms);
  CHECK(questions() == 2);
  INFO(votes_of(world.node));
  CHECK(world.node.get_state() == State::primary);
}

TEST_SUITE_END();
