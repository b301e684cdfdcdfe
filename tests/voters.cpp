// A node and its lists of voters while repmgr.nodes changes: nodes that answer each other, and one
// among made-up peers of an earlier version, which say nothing of lists.

#include <doctest/doctest.h>

#include <memory>
#include <set>
#include <string>

#include "daemon/api/endpoints.hpp"
#include "daemon/state/voters_file.hpp"
#include "node/rules/voting.hpp"
#include "tests/world.hpp"

using namespace primgr;
using lists::Members;

namespace {

// n<i> for each id.
Voter_List list(std::initializer_list<int> ids) {
  Voter_List nodes;
  for (const int id : ids) nodes.push_back(make_node(id, "n" + std::to_string(id)));
  return nodes;
}

// A World whose n1 has been Primary by the votes of n2 and n3, which a cut leaves alone.
struct Alone : World {
  Alone() {
    names("n2", "n1");
    names("n3", "n1");
    look(with_primary({1, 2, 3}));
    for (const char* peer : {"n2", "n3"}) primaries[peer] = states[peer] = {0, "", "timed out"};
    pass(10s);
    look(with_primary({1, 2, 3}));
  }
  static Facts with_primary(std::initializer_list<int> ids) {
    auto nodes = list(ids);
    nodes[0].type = "primary";
    return make_facts(nodes);
  }
};

// Nodes on one clock that answer each other. n1, n2 and n3 have been voters for long; the nodes of
// other sites have not.
struct Nodes {
  struct One {
    std::unique_ptr<World> world;
    std::vector<Node> rows;  // what its database lists
    std::string primary = "n1";
  };
  std::map<std::string, One> all;
  std::set<std::pair<std::string, std::string>> cut;  // both ways
  std::string questions;                              // for votes, all of them
  std::map<std::string, std::string> renamed;         // by its new name
  std::map<std::string, std::string> leads_to;        // a wrong address, by whose it should be

  explicit Nodes(std::initializer_list<int> ids = {1, 2, 3}) {
    for (const int id : ids) start(id, id <= 3 ? known_site(3) : Voter_Lists());
    registers(list({1, 2, 3}));
  }
  void start(int id, const Voter_Lists& known) {
    const std::string name = "n" + std::to_string(id);
    const std::vector<Node> rows = all.contains(name) ? all[name].rows : std::vector<Node>();
    const Time now = all.empty() ? 1000s : all.begin()->second.world->now;
    Node_Settings settings = World::named(name);
    settings.node_id = id;
    all[name].world = std::make_unique<World>(
        settings, Grant_Store{[] { return Grant{}; }, nullptr}, History{}, known);
    all[name].rows = rows;
    all[name].world->now = now;
    all[name].world->answers = [this, name](const std::string& peer, const std::string& target) {
      return ask(name, peer, target);
    };
  }
  World& operator[](const std::string& name) { return *all.at(name).world; }
  // All databases list these.
  void registers(const std::vector<Node>& rows) {
    for (auto& [name, one] : all) one.rows = rows;
  }
  void separate(const std::string& a, const std::string& b) { cut.insert({{a, b}, {b, a}}); }

  Http_Reply ask(const std::string& from, const std::string& called, const std::string& target) {
    std::string to = renamed.contains(called) ? renamed[called] : called;
    if (leads_to.contains(to)) to = leads_to[to];
    if (cut.contains({from, to}) || !all.contains(to)) return {0, {}, "timed out"};
    Repmgr_Node& node = (*this)[to].node;
    Answer said;
    if (target.starts_with("/primary")) {
      questions += target + "\n";
      said = get_reported_primary(node, parameters(target));
    } else if (target.starts_with("/lists")) {
      said = get_lists(node, parameters(target));
    } else {
      said = get_reported_state(node, parameters(target));
    }
    return {said.status, said.body, {}};
  }

  // Each looks, one after the other.
  void turn(int times = 1) {
    for (; times > 0; --times) {
      for (auto& [name, one] : all) {
        Facts facts = make_facts(one.rows, one.primary != name);
        for (Node& row : facts.nodes) {
          const auto now = renamed.find(row.name);
          if ((now == renamed.end() ? row.name : now->second) == one.primary) row.type = "primary";
        }
        one.world->look(facts);
      }
      for (auto& [name, one] : all) one.world->now += 500ms;
    }
  }
  // Of that site; its list.
  Members members(const std::string& name, const std::string& site) {
    return (*this)[name].node.get_lists({site})->first.held.current.members;
  }
  std::size_t asked_in(const std::string& site) const {
    const std::string parameter = "&site=" + site + "&";
    std::size_t count = 0;
    for (auto at = questions.find(parameter); at != questions.npos;
         at = questions.find(parameter, at + 1)) {
      ++count;
    }
    return count;
  }
  // Who is Primary.
  std::string primaries() {
    std::string names;
    for (auto& [name, one] : all) {
      if (one.world->node.get_state() == State::primary) names += name;
    }
    return names;
  }
  // Which members the current list of that node has.
  Members members(const std::string& name) {
    return (*this)[name].node.get_lists({"default"})->first.held.current.members;
  }
};

}  // namespace

TEST_SUITE_BEGIN("voters");

TEST_CASE("a list of voters changes while its Primary stays Primary") {
  Nodes nodes({1, 2, 3, 4});
  nodes.turn(3);
  CHECK(nodes.primaries() == "n1");
  nodes.registers(list({1, 2, 3, 4}));
  for (int i = 0; i < 10; ++i) {
    nodes.turn();
    CHECK(nodes.primaries() == "n1");
  }
  for (const char* name : {"n1", "n2", "n3", "n4"}) {
    CAPTURE(name);
    CHECK(nodes.members(name) == Members{1, 2, 3, 4});
    CHECK(nodes[name].stored.held.size() == 1);
  }
  CHECK(nodes["n1"].logged("the voters are now n1, n2, n3, n4; they were n1, n2, n3") == 1);
  nodes.registers(list({1, 4}));
  nodes.turn(10);
  CHECK(nodes.primaries() == "n1");
  CHECK(nodes.members("n1") == Members{1, 4});
  CHECK(nodes.members("n4") == Members{1, 4});
}

TEST_CASE("a row with the name of a known node, but for case, is left out") {
  Nodes nodes({1, 2, 3, 4});
  nodes.turn(3);
  auto rows = list({1, 2, 3, 4});
  for (const char* namesake : {"N1", "N_1", "N2"}) {
    rows[0].name = std::string("n1");
    rows[3].name = namesake;
    nodes.registers(rows);
    for (int i = 0; i < 10; ++i) {
      nodes.turn();
      CHECK(nodes.primaries() == "n1");
    }
  }
  CHECK(nodes["n1"].logged("repmgr.nodes has node_id 4 with the name of n1, but for") == 1);
  CHECK(nodes["n1"].node.get_all_nodes().size() == 3);
  rows[3].name = "n4";
  nodes.registers(rows);
  nodes.turn(10);
  CHECK(nodes.members("n1") == Members{1, 2, 3, 4});
}

TEST_CASE("the Primary makes the lists of other sites, and hands the votes for that back") {
  Nodes nodes({1, 2, 3, 4, 5, 6});
  auto rows = list({1, 2, 3, 4, 5});
  rows[3].site = rows[4].site = "b";
  nodes.registers(rows);
  nodes.turn(10);
  CHECK(nodes.primaries() == "n1");
  CHECK(nodes.members("n4", "b") == Members{4, 5});
  CHECK(nodes.members("n5", "b") == Members{4, 5});
  CHECK(nodes.members("n2", "b").empty());
  for (const char* voter : {"n4", "n5"}) {
    CAPTURE(voter);
    CHECK(nodes.questions.find("&handback=") != std::string::npos);
    CHECK(nodes[voter].node.get_state_report().unbound);
  }
  // All is done, so nobody there is asked any more.
  nodes.questions.clear();
  nodes.turn(10);
  CHECK(nodes.asked_in("b") == 0);
  // Until that list is to change; while a node there is not up.
  auto more = list({1, 2, 3, 4, 5, 6});
  more[3].site = more[4].site = more[5].site = "b";
  nodes.registers(more);
  nodes.separate("n1", "n5");
  nodes.turn(10);
  CHECK(nodes.members("n1", "b") == Members{4, 5});
  CHECK(nodes.primaries() == "n1");
  nodes.cut.clear();
  nodes.turn(12);
  for (const char* voter : {"n1", "n4", "n5", "n6"}) {
    CAPTURE(voter);
    CHECK(nodes.members(voter, "b") == Members{4, 5, 6});
  }
  // A node of that site that is promoted starts from that, whatever its database lists.
  for (const char* left : {"n1", "n2", "n3", "n5", "n6"}) nodes.separate(left, "n4");
  nodes.all["n4"].rows = {more[3]};
  nodes.all["n4"].primary = "n4";
  for (int i = 0; i < 20; ++i) {
    nodes.turn();
    CHECK(nodes.primaries() == "n1");
  }
}

TEST_CASE("a node that is cut off and lists itself in another site is no Primary there") {
  Nodes nodes;
  nodes.turn(3);
  auto rows = list({1, 2, 3});
  for (const bool known_there : {false, true}) {
    CAPTURE(known_there);
    if (known_there) {  // it was a node of that site, and came back
      rows[2].site = "b";
      nodes.registers(rows);
      nodes.turn(12);
      CHECK(nodes.primaries() == "n1");
      CHECK(nodes.members("n3", "b") == Members{3});
      CHECK(nodes.members("n3") == Members{1, 2});  // it knows that it is no voter here any more
      rows[2].site = "default";
      nodes.registers(rows);
      nodes.turn(12);
      CHECK(nodes.members("n3") == Members{1, 2, 3});
    }
    nodes.separate("n3", "n1");
    nodes.separate("n3", "n2");
    rows[2].site = "b";
    nodes.all["n3"].rows = rows;
    nodes.all["n3"].primary = "n3";
    for (int i = 0; i < 20; ++i) {
      nodes.turn();
      CHECK(nodes.primaries() == "n1");
    }
    nodes.cut.clear();
    rows[2].site = "default";
    nodes.registers(rows);
    nodes.all["n3"].primary = "n1";
    nodes.turn(10);
  }
}

TEST_CASE("a Primary that is moved to another site stays Primary") {
  Nodes nodes;
  nodes.turn(3);
  auto rows = list({1, 2, 3});
  rows[0].site = "b";
  nodes.registers(rows);
  for (int i = 0; i < 20; ++i) {
    nodes.turn();
    if (i > 3) CHECK(nodes.primaries() == "n1");
  }
}

namespace {

// Everybody's location becomes "b".
std::vector<Node> moved(std::initializer_list<int> ids) {
  auto rows = list(ids);
  for (Node& row : rows) row.site = "b";
  return rows;
}

}  // namespace

TEST_CASE("a site whose location is renamed changes its voters as ever, and may lose them") {
  Nodes nodes({1, 2, 3, 4, 5});
  nodes.turn(3);
  nodes.registers(moved({1, 2, 3}));
  nodes.turn(12);
  CHECK(nodes.primaries() == "n1");
  nodes.registers(moved({1, 2, 3, 4, 5}));
  nodes.turn(16);
  for (const char* site : {"default", "b"}) {
    CAPTURE(site);
    CHECK(nodes.members("n1", site) == Members{1, 2, 3, 4, 5});
    CHECK(nodes.members("n4", site) == Members{1, 2, 3, 4, 5});
  }
  // n2 and n3 are unregistered, one after the other, and gone.
  nodes.registers(moved({1, 3, 4, 5}));
  nodes.turn(12);
  nodes.separate("n1", "n2");
  nodes.registers(moved({1, 4, 5}));
  nodes.turn(12);
  nodes.separate("n1", "n3");
  for (int i = 0; i < 20; ++i) {
    nodes.turn();
    CHECK(nodes.primaries() == "n1");
  }
  CHECK(nodes.members("n1", "default") == Members{1, 4, 5});
  CHECK(nodes["n1"].node.get_report().lists.size() == 1);  // it needs one majority, not two
  // All is done, so nobody is asked about that any more.
  nodes.questions.clear();
  nodes.turn(5);
  CHECK(nodes.asked_in("default") == 0);
}

TEST_CASE("--lost also goes for the voters of a location that was renamed") {
  for (const bool known : {false, true}) {
    CAPTURE(known);  // whether there was time to change the list of the old location
    Nodes nodes;
    nodes.turn(3);
    nodes.registers(moved({1, 2, 3}));
    nodes.turn(known ? 12 : 3);
    nodes.separate("n3", "n1");
    nodes.separate("n3", "n2");
    nodes.all["n3"].primary = "n3";
    nodes.turn(20);
    CHECK(nodes["n3"].node.get_state() == State::unknown);
    nodes["n3"].node.declare_lost({{"n1", "n2"}, "now"});
    nodes.turn(10);
    CHECK(nodes["n3"].node.get_state() == State::primary);
  }
}

TEST_CASE("a site that is gone holds up nobody else's list") {
  Nodes nodes({1, 2, 3, 4, 5, 6});
  auto rows = list({1, 2, 3, 4, 5, 6});
  rows[4].site = rows[5].site = "b";
  for (const char* left : {"n1", "n2", "n3", "n4"}) {
    for (const char* right : {"n5", "n6"}) nodes.separate(left, right);
  }
  nodes.turn(3);
  for (const char* name : {"n1", "n2", "n3", "n4"}) nodes.all[name].rows = rows;
  for (int i = 0; i < 20; ++i) {
    nodes.turn();
    CHECK(nodes.primaries() == "n1");
  }
  CHECK(nodes.members("n4") == Members{1, 2, 3, 4});
}

TEST_CASE("a voter that is renamed is called by its new name, also where that is stored") {
  Nodes nodes;
  nodes.turn(4);
  auto rows = list({1, 2, 3});
  rows[2].name = "db-three";
  nodes.all["n1"].rows = rows;
  nodes.turn(2);
  CHECK(nodes["n1"].stored.addresses[3].name == "db-three");
  CHECK(nodes.members("n1") == Members{1, 2, 3});
  nodes["n1"].node.declare_lost({{"db-three"}, "then"});
  nodes.turn(10);
  CHECK(nodes["n1"].logged("no voters any more: db-three") == 1);
}

TEST_CASE(
    "a node is its node_id: it is renamed, in one database after the other, and all goes on") {
  const std::vector<std::string> orders[] = {
      {"n1", "n2", "n3"}, {"n2", "n3", "n1"}, {"n3", "n1", "n2"}};
  for (const int renamed : {1, 2}) {
    for (const auto& order : orders) {
      CAPTURE(renamed);
      CAPTURE(order[0]);
      Nodes nodes;
      auto rows = list({1, 2, 3});
      // A majority needs each of two.
      nodes.separate("n1", "n3");
      nodes.separate("n2", "n3");
      nodes.turn(4);
      const std::string old = "n" + std::to_string(renamed), name = "db-" + old;
      nodes.renamed[name] = old;
      rows[static_cast<std::size_t>(renamed) - 1].name = name;
      for (const std::string& database : order) {
        nodes.all[database].rows = rows;
        for (int i = 0; i < 2; ++i) {
          nodes.turn();
          CAPTURE(database);
          CAPTURE(nodes["n1"].node.get_report().decision.reason);
          CHECK(nodes.primaries() == "n1");
        }
      }
      nodes.turn(10);
      CHECK(nodes.primaries() == "n1");
      CHECK(nodes[old].node.name() == name);
      CHECK(nodes[old].logged("repmgr.nodes has this node as " + name + " now; it was " + old) ==
            1);
    }
  }
}

TEST_CASE(
    "another node with the node_id of the Primary waits until the promise to that has ended") {
  Nodes nodes({1, 2, 3, 4});
  nodes.turn(4);
  CHECK(nodes.primaries() == "n1");
  // n4 takes its place on another host, while n1 is cut off and Primary yet.
  auto rows = list({1, 2, 3});
  rows[0].name = "n4";
  for (const char* other : {"n2", "n3", "n4"}) {
    nodes.separate("n1", other);
    nodes.all[other].rows = rows;
    nodes.all[other].primary = "n4";
  }
  for (int i = 0; i < 30; ++i) {
    nodes.turn();
    CHECK(nodes.primaries().size() <= 2);  // one name
  }
  CHECK(nodes.primaries() == "n4");
}

TEST_CASE("a cluster that begins takes what is read, and nodes that are not up change nothing") {
  Nodes nodes;
  for (const int id : {1, 2, 3}) nodes.start(id, {});
  nodes.turn(4);
  CHECK(nodes.primaries() == "n1");
  CHECK(nodes.members("n1") == Members{1, 2, 3});
  CHECK(nodes["n1"].logged("the voters are now") == 0);
  nodes.registers(list({1, 2, 3, 4, 5, 6, 7}));
  nodes.turn(6);
  CHECK(nodes.primaries() == "n1");
  CHECK(nodes.members("n1") == Members{1, 2, 3});
}

TEST_CASE("a primary that unregisters the voters that it lacks is not Primary by that") {
  Nodes nodes;
  nodes.turn(3);
  nodes.separate("n1", "n2");
  nodes.separate("n1", "n3");
  nodes.turn(10);
  nodes.all["n1"].rows = list({1});
  nodes.turn(10);
  CHECK(nodes.primaries() == "");
  CHECK(nodes.members("n1") == Members{1, 2, 3});
  const auto problems = find_problems(nodes["n1"].node.get_report());
  REQUIRE(problems.size() == 1);
  CAPTURE(problems[0]);
  CHECK(problems[0].find("1 of 3 votes, 2 needed") != std::string::npos);
  CHECK(problems[0].find("primgr --lost n2 n3") != std::string::npos);
  nodes.cut.clear();
  nodes.turn(10);
  CHECK(nodes.primaries() == "n1");
  CHECK(nodes.members("n1") == Members{1});
}

TEST_CASE("a voter that was replaced while it was cut off has no votes, whatever it lists") {
  Nodes nodes({1, 2, 3, 4});
  nodes.turn(3);
  for (const char* other : {"n1", "n3", "n4"}) nodes.separate("n2", other);
  for (const char* name : {"n1", "n3", "n4"}) nodes.all[name].rows = list({1, 3, 4});
  nodes.turn(10);
  CHECK(nodes.primaries() == "n1");
  CHECK(nodes.members("n3") == Members{1, 3, 4});
  // It is promoted on its side of a cut, with n3, whose database follows it.
  nodes.cut.clear();
  for (const char* left : {"n1", "n4"}) {
    for (const char* right : {"n2", "n3"}) nodes.separate(left, right);
  }
  for (const char* name : {"n2", "n3"}) {
    nodes.all[name].rows = list({1, 2, 3});
    nodes.all[name].primary = "n2";
  }
  for (int i = 0; i < 20; ++i) {
    nodes.turn();
    CHECK(nodes.primaries() == "n1");
  }
  CHECK(nodes.members("n2") == Members{1, 3, 4});  // it has learnt so from n3
}

TEST_CASE("a question alone changes nothing that lasts, and is short") {
  Nodes nodes;
  nodes.turn(4);
  const Voter_Lists before = nodes["n2"].stored;
  Params forged = parameters(
      "/primary?candidate=n1&accepts=less&id=1&round=1000000000000000&current=900000.7.0&"
      "pending=900001.7.0&site=default&voter=n2");
  const Answer said = get_reported_primary(nodes["n2"].node, forged);
  CHECK(said.status == 503);
  CHECK(said.body.find(R"("vote":false)") != std::string::npos);
  nodes.turn(4);
  CHECK(nodes["n2"].stored == before);
  CHECK(nodes.primaries() == "n1");
  std::istringstream lines(nodes.questions);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() < 300);
}

TEST_CASE("a node whose store fails says nothing that rests on it, and a Primary stays Primary") {
  Nodes nodes({1, 2, 3, 4});
  nodes.turn(4);
  nodes["n2"].store_fails = true;
  nodes.registers(list({1, 2, 3, 4}));
  nodes.turn(10);
  CHECK(nodes.primaries() == "n1");
  CHECK(nodes["n2"].stored.held[0].current.members == Members{1, 2, 3});
  CHECK_FALSE(nodes["n2"].node.get_lists({"default"}));
  nodes["n2"].store_fails = false;
  nodes.turn(10);
  CHECK(nodes.members("n2") == Members{1, 2, 3, 4});
}

TEST_CASE("what a node holds of lists outlives a restart") {
  Nodes nodes({1, 2, 3, 4});
  nodes.turn(3);
  nodes.registers(list({1, 3, 4}));
  nodes.turn(10);
  CHECK(nodes.members("n3") == Members{1, 3, 4});
  nodes.start(3, nodes["n3"].stored);
  CHECK(nodes["n3"].node.get_lists({"default"})->first.held.current.members == Members{1, 3, 4});
}

TEST_CASE("peers of an earlier version leave a Primary Primary") {
  World n1(World::named("n1"), {[] { return Grant{}; }, nullptr}, {}, known_site(3));
  n1.names("n2", "n1");
  n1.look(Alone::with_primary({1, 2, 3}));
  CHECK(n1.node.get_state() == State::primary);
  for (int i = 0; i < 10; ++i) {
    n1.pass(500ms);
    n1.look(Alone::with_primary({1, 2}));
    CHECK(n1.node.get_state() == State::primary);
  }
  CHECK(n1.node.get_lists({"default"})->first.held.current.members == Members{1, 2, 3});
  // A candidate of an earlier version has a vote.
  World n2(World::named("n2"), {[] { return Grant{}; }, nullptr}, {}, known_site(3));
  Facts facts = Alone::with_primary({1, 2, 3});
  facts.in_recovery = true;
  n2.look(facts);
  CHECK(n2.node.grant_vote("n1", 3s).granted);
}

TEST_CASE("an operator who declares voters lost makes it Primary, and is told if one lives") {
  Alone n1;
  n1.node.declare_lost({{"n3", "n2", "n1", "other"}, "2026-11-28T06:00:00Z"});
  n1.pass(1s);
  n1.pass(1s);
  CHECK(n1.logged("these are lost for good, so they are no voters any more: n3, n2") == 1);
  n1.look(Alone::with_primary({1, 2, 3}));
  CHECK(n1.node.get_state() == State::primary);
  CHECK(n1.stored.lost.size() == 2);
  n1.look(Alone::with_primary({1}));
  CHECK(n1.stored.held[0].current.members == Members{1});

  n1.states["n2"] = {200, R"({"state":"Primary"})", ""};
  n1.pass(2s);
  n1.look(Alone::with_primary({1}));
  n1.pass(1s);
  n1.look(Alone::with_primary({1}));
  CHECK(n1.node.get_report().rivals == std::vector<std::string>{"n2"});
  CHECK(n1.logged("n2 is Primary too: two nodes of one site take writes") == 1);
  const std::string alive =
      "n2 was declared lost at 2026-11-28T06:00:00Z, but it answers, and its state is Primary";
  CHECK(n1.logged(alive) == 1);
  const auto problems = find_problems(n1.node.get_report());
  REQUIRE(problems.size() == 2);
  CHECK(problems[0] == "n2 claims to be Primary too");
  CHECK(problems[1].starts_with(alive));
  n1.node.declare_lost({{}, "now"});
  n1.pass(1s);
  CHECK(n1.logged("no voter is taken for lost") == 1);
}

TEST_CASE("a voter that answers is not lost, whatever the operator says") {
  Alone n1;
  n1.states["n2"] = {202, R"({"state":"Standby"})", ""};
  n1.pass(1s);
  n1.look(Alone::with_primary({1}));
  n1.pass(1s);
  n1.look(Alone::with_primary({1}));
  n1.node.declare_lost({{"n2", "n3"}, "then"});
  CHECK(n1.node.get_report().declaration_pending);
  n1.pass(1s);
  n1.pass(1s);
  CHECK(n1.logged("n2 answers, so it is not lost") == 1);
  CHECK_FALSE(n1.node.get_report().declaration_pending);
  n1.look(Alone::with_primary({1}));
  CHECK(n1.node.get_state() == State::unknown);
  REQUIRE(n1.stored.lost.size() == 1);
  CHECK(n1.stored.lost[0].node.name == "n3");
}

TEST_CASE("who was not asked since, or whose packet was lost, is not taken for lost") {
  Alone n1;
  n1.hold = true;  // the questions that are sent now are under way
  n1.pass(1s);
  n1.now += 1ms;
  n1.node.declare_lost({{"n2", "n3"}, "then"});
  n1.look(Alone::with_primary({1}));
  n1.release();
  n1.hold = false;
  n1.pass(1ms);
  CHECK(n1.node.get_report().declaration_pending);
  n1.pass(1s);  // one question has no reply
  CHECK(n1.node.get_report().declaration_pending);
  CHECK(n1.node.get_state() == State::unknown);
  n1.states["n2"] = {202, R"({"state":"Standby"})", ""};
  n1.pass(1s);
  CHECK(n1.node.get_report().lost == std::vector<std::string>{"n3"});
  CHECK(n1.node.get_state() == State::unknown);
}

TEST_CASE("who cannot read what it held does not vote until a Primary tells") {
  Nodes nodes;
  nodes.turn(3);
  Voter_Lists unreadable;
  unreadable.unreadable = "voters: damaged";
  nodes.start(3, unreadable);
  nodes.turn();
  CHECK(nodes["n3"].stored == Voter_Lists());  // the file stays as it is
  nodes.turn(4);
  CHECK(nodes.members("n3") == Members{1, 2, 3});
  CHECK(nodes.primaries() == "n1");

  World n1(World::named("n1"), {[] { return Grant{}; }, nullptr}, {}, unreadable);
  n1.names("n2", "n1");
  n1.names("n3", "n1");
  n1.look(make_facts(make_site(3)));
  CHECK(n1.node.get_state() == State::unknown);
  CHECK(n1.node.get_report().decision.reason == "voters: damaged");
}

TEST_CASE("a lost voter that votes again is lost no more") {
  Alone n1;
  n1.node.declare_lost({{"n2", "n3"}, "then"});
  n1.pass(1s);
  n1.pass(1s);
  n1.names("n2", "n1");
  n1.pass(1s);
  n1.look(Alone::with_primary({1, 2, 3}));
  n1.look(Alone::with_primary({1, 2, 3}));
  CHECK(n1.logged("n2 votes again, so it is lost no more") == 1);
  REQUIRE(n1.stored.lost.size() == 1);
  CHECK(n1.stored.lost[0].node.name == "n3");
}

TEST_CASE("an address that leads to the Primary makes no second one") {
  Nodes nodes;
  nodes.leads_to["n3"] = "n1";
  nodes.turn(6);
  CHECK(nodes.primaries() == "n1");
  for (const char* name : {"n1", "n2"}) {
    CAPTURE(name);
    CHECK(nodes[name].node.get_real_primary().claimants == std::vector<std::string>{"n1"});
  }
  CHECK(nodes["n1"].node.get_report().rivals.empty());
  CHECK(nodes["n1"].logged("is Primary too") == 0);
}

TEST_CASE("a rival is one that was asked after this node became Primary") {
  World n1;
  n1.names("n2", "n1");
  n1.states["n3"] = {200, R"({"state":"Primary"})", ""};
  n1.look(Alone::with_primary({1, 2, 3}));
  CHECK(n1.node.get_state() == State::primary);
  CHECK(n1.node.get_report().rivals.empty());
  n1.pass(1s);
  n1.look(Alone::with_primary({1, 2, 3}));
  CHECK(n1.node.get_report().rivals == std::vector<std::string>{"n3"});
  CHECK(n1.logged("n3 is Primary too") == 1);
  n1.states["n3"] = {202, R"({"state":"Standby"})", ""};
  for (int i = 0; i < 3; ++i) n1.pass(1s);
  CHECK(n1.logged("n3 is not known to be Primary any more: until now two nodes of one site took "
                  "writes") == 1);
  CHECK(n1.logged("n3 is Primary too") == 1);
}

TEST_CASE("a rival is logged, and when this node is Primary no more") {
  World n1(World::named("n1"), {[] { return Grant{}; }, nullptr}, {}, known_site(3));
  for (const char* voter : {"n2", "n3"}) n1.names(voter, "n1");
  n1.look(Alone::with_primary({1, 2, 3, 4}));
  n1.pass(1s);
  REQUIRE(n1.node.get_state() == State::primary);
  n1.states["n4"] = {200, R"({"state":"Primary"})", ""};
  n1.pass(2s);
  n1.look(Alone::with_primary({1, 2, 3, 4}));
  CHECK(n1.node.get_report().rivals == std::vector<std::string>{"n4"});
  CHECK(n1.logged("n4 is Primary too") == 1);
  Facts down;
  down.problem = "stopped";
  n1.look(down);
  CHECK(n1.logged("this node is not Primary any more, and n4 was when it was asked last") == 1);
}

TEST_CASE("what --lost leaves for the daemon is read back") {
  for (const char* other : {"{}", "[]", "1", "\xff"}) CHECK_FALSE(parse_lost_note(other));
  const auto note = parse_lost_note(print_lost_note({{"n2", "n\xff"}, "then"}));
  REQUIRE(note);
  CHECK(note->names == std::vector<std::string>{"n2", "n\xff"});
  CHECK(note->since == "then");
}

TEST_SUITE_END();
