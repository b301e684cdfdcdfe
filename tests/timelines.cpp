// Votes never go back in time: two nodes and a witness that answer each other, whose databases are
// cut off, promoted, rebuilt, or name an old primary again.

#include <doctest/doctest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "daemon/api/endpoints.hpp"
#include "node/peers/lists_text.hpp"
#include "tests/world.hpp"

using namespace primgr;

namespace {

struct Server {
  std::string names = "n1";  // as primary
  bool in_recovery = true, up = true;
  int timeline = 1;
  std::uint64_t system = 7;
};

// n1, the primary; n2, its standby; and w, a witness with a server of its own. On one clock.
struct Pair {
  std::map<std::string, std::unique_ptr<World>> worlds;
  std::map<std::string, Server> servers;
  std::set<std::pair<std::string, std::string>> cut;  // both ways
  std::string primaries;                              // who was Primary, once each, in order

  explicit Pair(const Voter_Lists& known = known_site(3)) {
    for (const char* name : {"n1", "n2", "w"}) start(name, known);
    servers["n1"].in_recovery = false;
    servers["w"] = {"n1", false, true, 1, 99};
    turn(4);
  }
  void start(const std::string& name, const Voter_Lists& known) {
    const Time now = worlds.empty() ? 1000s : worlds.begin()->second->now;
    auto& world = worlds[name];
    world = std::make_unique<World>(World::named(name),
                                    Grant_Store{[] { return Grant{}; }, nullptr}, History{}, known);
    world->now = now;
    world->answers = [this, name](const std::string& peer, const std::string& target) {
      return ask(name, peer, target);
    };
  }
  // As a host that is booted: it knows what it has stored, and has promised nothing.
  void reboot(const std::string& name) { start(name, Voter_Lists((*this)[name].stored)); }
  World& operator[](const std::string& name) { return *worlds.at(name); }
  const Voter_Lists& stored(const std::string& name) { return (*this)[name].stored; }

  Http_Reply ask(const std::string& from, const std::string& to, const std::string& target) {
    if (cut.contains({from, to}) || !worlds.contains(to)) return {0, {}, "timed out"};
    Repmgr_Node& node = (*this)[to].node;
    const Answer said =
        target.starts_with("/primary") ? get_reported_primary(node, parameters(target))
        : target.starts_with("/lists") ? get_lists(node, parameters(target))
                                       : get_reported_state(node, parameters(target));
    return {said.status, said.body, {}};
  }
  void separate(const std::string& name) {
    for (const auto& [other, world] : worlds) {
      if (other != name) cut.insert({{name, other}, {other, name}});
    }
  }
  static Facts facts_of(const Server& server) {
    std::vector<Node> rows = {make_node(1, "n1"), make_node(2, "n2"), make_node(3, "w", "witness")};
    for (Node& row : rows) {
      if (row.name == server.names) row.type = "primary";
    }
    Facts facts = make_facts(rows, server.in_recovery);
    facts.system = server.system;
    facts.replication.known = true;
    facts.replication.timeline = server.timeline;
    facts.replication.position = 100;
    return server.up ? facts : Facts();
  }
  // Each looks, one after the other, and half a second passes.
  void turn(int times = 1) {
    for (; times > 0; --times) {
      for (auto& [name, world] : worlds) {
        world->look(facts_of(servers[name]));
        const bool primary = world->node.get_state() == State::primary;
        if (primary && !primaries.ends_with(name)) primaries += name;
      }
      for (auto& [name, world] : worlds) world->now += 500ms;
    }
  }
  State state(const std::string& name) { return (*this)[name].node.get_state(); }
  void promote(const std::string& name, int timeline) {
    servers[name].in_recovery = false;
    servers[name].names = servers["w"].names = name;
    servers[name].timeline = timeline;
  }
  // n1 is cut off, and n2 is promoted, and Primary for a while.
  void fail_over() {
    REQUIRE(state("n1") == State::primary);
    separate("n1");
    promote("n2", 2);
    turn(20);
    REQUIRE(state("n2") == State::primary);
  }
  // n1 can be reached again, and repmgrd on the witness finds it first.
  void go_back() {
    cut.clear();
    servers["w"].names = "n1";
  }
};

}  // namespace

TEST_SUITE_BEGIN("timelines");

TEST_CASE("a witness whose database goes back to an old primary stays with the Primary") {
  Pair nodes;
  nodes.fail_over();
  nodes.servers["w"].names = "n1";  // before n1 can be heard
  for (int i = 0; i < 10; ++i) {
    nodes.turn();
    CHECK(nodes.state("n2") == State::primary);
  }
  nodes.go_back();
  for (int i = 0; i < 40; ++i) {
    nodes.turn();
    CHECK(nodes.state("n2") == State::primary);
  }
  CHECK(nodes.primaries == "n1n2");
  CHECK(
      nodes["w"].logged("the database names n1 as primary, whose WAL is on an older timeline than "
                        "2: it is out of date. The vote stays with n2") == 1);
  CHECK(nodes["w"].node.get_primary() == "n1");  // what the database names, all the same
  // n1 cannot be reached any more, or its server is down: what it said stands.
  nodes.separate("n1");
  nodes.turn(20);
  CHECK(nodes.state("n2") == State::primary);
  nodes.cut.clear();
  nodes.servers["n1"].up = false;
  nodes.turn(20);
  CHECK(nodes.state("n2") == State::primary);
  // n1 is rebuilt as a standby and promoted in its turn.
  nodes.servers["n1"] = {"n2", true, true, 2, 7};
  nodes.turn(4);
  nodes.servers["n2"].up = false;
  nodes.promote("n1", 3);
  nodes.turn(20);
  CHECK(nodes.state("n1") == State::primary);
}

TEST_CASE("a voter that has voted for a Primary votes for none on an older timeline") {
  Pair nodes;
  nodes.fail_over();
  CHECK(nodes.stored("w").voted == Primary_Timeline{7, 2, 2});
  nodes.separate("n2");
  nodes.cut.clear();
  nodes.separate("n2");
  nodes.servers["w"].names = "n1";
  SUBCASE("at once") {}
  SUBCASE("after a reboot") {
    nodes.reboot("w");
  }
  nodes.turn(40);
  CHECK(nodes.primaries == "n1n2");
  CHECK(nodes.state("n1") == State::unknown);
  CHECK(
      nodes["w"].logged("n1 gets no vote: its WAL is on timeline 1, and this node has voted for a "
                        "Primary on timeline 2") == 1);
  CHECK(nodes["w"].logged("primgr --forget-timeline") == 1);
  CHECK(
      votes_of(nodes["n1"].node).find("w: has voted for a Primary on timeline 2, which is newer") !=
      std::string::npos);

  // The operator knows better.
  nodes["w"].node.forget_timeline();
  nodes.turn(20);
  CHECK(nodes.state("n1") == State::primary);
  CHECK(nodes["w"].logged("--forget-timeline: this node may vote again for a Primary on a timeline "
                          "before 2") == 1);
  CHECK(nodes.stored("w").voted == Primary_Timeline{7, 1, 1});
}

TEST_CASE("a node that was Primary itself is none on an older timeline") {
  Pair nodes;
  CHECK(nodes.stored("n1").voted == Primary_Timeline{7, 1, 1});
  nodes.servers["n1"].timeline = 4;
  nodes.turn(4);
  CHECK(nodes.stored("n1").voted == Primary_Timeline{7, 4, 1});
  nodes.servers["n1"].timeline = 3;  // it is rebuilt from a backup
  nodes.turn(20);
  CHECK(nodes.state("n1") == State::unknown);
  CHECK(votes_of(nodes["n1"].node).find("(this node): has voted for a Primary on timeline 4") !=
        std::string::npos);
  for (const char* name : {"n1", "n2", "w"}) nodes[name].node.forget_timeline();
  nodes.turn(20);
  CHECK(nodes.state("n1") == State::primary);
}

TEST_CASE("a question alone teaches a voter no timeline") {
  Pair nodes;
  nodes.turn(4);
  const Voter_Lists before = nodes.stored("w");
  for (const char* system : {"", "&system=7", "&system=8"}) {
    const std::string target =
        "/primary?candidate=n1&accepts=less&id=1&round=1&current=1.0.0&site=default&timeline=9";
    get_reported_primary(nodes["w"].node, parameters(target + system + "&voter=w"));
    nodes.turn(4);
    CHECK(nodes.state("n1") == State::primary);
    CHECK(nodes.stored("w") == before);
  }
  // Nor does a refusal bind it.
  const Answer said = get_reported_primary(
      nodes["w"].node, parameters("/primary?candidate=n1&accepts=less&id=1&round=1&current=1.0.0&"
                                  "site=default&timeline=0&voter=w"));
  CHECK(said.status == 503);  // for its list
  nodes.turn(4);
  CHECK(nodes.state("n1") == State::primary);
}

TEST_CASE("a voter that only heard of a Primary notes nothing") {
  Pair nodes;
  nodes.servers["n2"].names = "n2";  // it votes for nobody else
  nodes.turn(20);
  nodes.servers["n1"].timeline = 5;
  nodes.turn(10);
  CHECK(nodes.state("n1") == State::primary);
  CHECK(nodes.stored("w").voted.number == 5);
  CHECK(nodes.stored("n2").voted.number == 1);
}

TEST_CASE("a candidate that says nothing of timelines has a vote, as one of an earlier version") {
  Pair nodes;
  nodes.fail_over();
  nodes.separate("n2");
  nodes.servers["w"].names = "n1";
  nodes.turn(20);
  CHECK(nodes["w"].node.grant_vote("n1", 3s).granted);
}

TEST_CASE("lists that were held without a system identifier are those of this cluster") {
  for (const bool late : {false, true}) {
    CAPTURE(late);
    Pair nodes;
    if (late) {
      // The primary of the first hours cannot say which cluster it is.
      for (const char* name : {"n1", "n2", "w"}) nodes.start(name, known_site(3));
      nodes.servers["n1"].system = nodes.servers["n2"].system = 0;
      nodes.turn(20);
      CHECK(nodes.state("n1") == State::primary);
      CHECK(nodes.stored("w").voted == Primary_Timeline{0, 1, 1});
      nodes.servers["n2"].system = 7;
      nodes.turn(4);
      CHECK(nodes.state("n1") == State::primary);
      nodes.servers["n1"].system = 7;
    }
    for (int i = 0; i < 20; ++i) {
      nodes.turn();
      CHECK(nodes.state("n1") == State::primary);
    }
    for (const char* name : {"n1", "n2", "w"}) {
      CAPTURE(name);
      const Voter_Lists& stored = nodes.stored(name);
      REQUIRE(stored.held.size() == 1);
      CHECK(stored.held[0].scope == lists::Scope{"default", 7});
      CHECK(stored.held[0].current.members == lists::Members{1, 2, 3});
      CHECK(stored.voted == Primary_Timeline{7, 1, 1});
    }
  }
}

TEST_CASE("a new cluster on the same hosts has nothing to do with the old one") {
  Voter_Lists known = known_site(3);
  known.held[0].current = {{{900, 2}, 3}, false, {1, 2, 3, 4}};  // of which n4 is gone
  known.held[0].noted = {950, 4};
  known.held[0].scope.system = 7;
  known.voted = {7, 12, 2};
  Pair nodes(known);
  CHECK(nodes.state("n1") == State::unknown);  // it is that cluster, on an older timeline
  nodes.servers["n1"].system = nodes.servers["n2"].system = 8;
  nodes.turn(20);
  CHECK(nodes.state("n1") == State::primary);
  for (const char* name : {"n1", "n2", "w"}) {
    CAPTURE(name);
    const Voter_Lists& stored = nodes.stored(name);
    REQUIRE(stored.held.size() == 1);
    CHECK(stored.held[0].scope == lists::Scope{"default", 8});
    CHECK(stored.held[0].current.members == lists::Members{1, 2, 3});
    CHECK(stored.voted == Primary_Timeline{8, 1, 1});
    CHECK(nodes[name].logged("the system identifier of the cluster is now 8; it was 7") == 1);
    nodes.reboot(name);
  }
  nodes.turn(20);
  CHECK(nodes.state("n1") == State::primary);
}

TEST_CASE("a timeline that cannot be stored leaves a Primary Primary") {
  Pair nodes;
  for (const char* name : {"n1", "n2", "w"}) nodes[name].store_fails = true;
  nodes.servers["n1"].timeline = 6;
  for (int i = 0; i < 10; ++i) {
    nodes.turn();
    CHECK(nodes.state("n1") == State::primary);
  }
  CHECK(nodes.stored("w").voted.number == 1);
  for (const char* name : {"n1", "n2", "w"}) nodes[name].store_fails = false;
  nodes.turn(25);
  CHECK(nodes.stored("w").voted.number == 6);
}

TEST_CASE("what is no system identifier or timeline is none, and no crash") {
  Pair nodes;
  const std::string good =
      "/primary?candidate=n1&accepts=less&id=1&round=1&current=1.0.0&site=default&voter=w";
  for (const char* odd :
       {"-1", "1.5", "x", "", "0x1", "%20", "2147483648", "18446744073709551616", "1e3", "7 "}) {
    for (const char* key : {"system", "timeline"}) {
      CAPTURE(key);
      CAPTURE(odd);
      const std::string parameter = "&" + std::string(key) + "=" + odd;
      const auto asked = read_primary_question(parameters(good + parameter));
      const bool large_system = key == std::string("system") && odd == std::string("2147483648");
      CHECK(asked.lists.has_value() == large_system);
      get_reported_primary(nodes["w"].node, parameters(good + parameter));
      const Answer lists = get_lists(nodes["w"].node, parameters("/lists?node=w" + parameter));
      CHECK((lists.status == 400) == (key == std::string("system") && !large_system));
      Json body = {{"state", "Primary"}, {"unbound", nullptr}, {key, odd}};
      State_Report report = read_state_reply({200, dump(body), "", {}});
      CHECK(report.system == (large_system ? 2147483648 : 0));
      CHECK_FALSE(report.timeline);
    }
  }
  for (const Json& odd : {Json(-1), Json(1.5), Json("7"), Json(nullptr), Json::array({7}),
                          Json(2147483648), Json(true), Json::object()}) {
    CAPTURE(odd.dump());
    const Json body = {{"state", "Unknown"},
                       {"unbound", 1},
                       {"timeline", odd},
                       {"system", odd},
                       {"newerTimeline", odd}};
    const State_Report report = read_state_reply({509, dump(body), "", {}});
    CHECK_FALSE(report.timeline);
    CHECK(report.system == (odd == "7" ? 7 : 0));
    std::string why;
    CHECK_FALSE(http_node_reports_primary({503, dump(body), "", {}}, why));
    CHECK(why == "names none, its state is Unknown");
  }
  nodes.turn(4);
  CHECK(nodes.state("n1") == State::primary);
}

TEST_CASE("a file without a system identifier or a timeline has none") {
  std::string why;
  Addresses addresses;
  const std::string list = R"({"noted":[1,0],"current":{"number":[1,0,5],"members":[1]}})";
  const auto read = parse_held(
      R"({"version":"primgr 2","lists":[)" + list + R"(],"addresses":[],"lost":[]})", false, why);
  REQUIRE(read);
  CHECK(read->voted == Primary_Timeline());
  CHECK(read->held.at(0).scope == lists::Scope());
  Voter_Lists lists;
  lists.held.push_back(read->held[0]);
  lists.held[0].scope = {"a", 18446744073709551615U};
  lists.voted = {18446744073709551615U, 2147483647, 3};
  CHECK(parse_held(print_held(lists), false, why) == lists);
  for (const char* voted :
       {"1", "[]", R"({"timeline":-1,"node":1})", R"({"timeline":1})",
        R"({"system":7,"timeline":1,"node":1})", R"({"system":"7x","timeline":1,"node":1})",
        R"({"system":"18446744073709551616","timeline":1,"node":1})"}) {
    CAPTURE(voted);
    CHECK_FALSE(parse_held(R"({"version":"primgr 2","lists":[],"addresses":[],"lost":[],"voted":)" +
                               std::string(voted) + "}",
                           false, why));
    CHECK(why.starts_with("has a damaged "));
  }
}

TEST_SUITE_END();
