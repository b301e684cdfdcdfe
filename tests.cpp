// The tests: the rules, the configuration, the endpoints, peers that misbehave, a simulated
// cluster, and, on a real one that lab/ brings up, what all of it is for.
//
// `build/tests` runs everything; `build/tests -tse=lab` all that needs no cluster. The shipped
// sources are compiled in, so that what is tested is what is shipped.

#define PRIMGR_NO_MAIN
#include "primgr.cpp"

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <filesystem>
#include <future>
#include <random>

#include "tests/fake_postgres.hpp"

using namespace primgr;

namespace {

using Steady = std::chrono::steady_clock;

// Waits for a condition; whether it came true in time.
bool eventually(double seconds, const std::function<bool()>& condition) {
  const auto deadline = Steady::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (Steady::now() >= deadline) return false;
    std::this_thread::sleep_for(10ms);
  }
  return true;
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

double seconds_since(Steady::time_point start) {
  return std::chrono::duration<double>(Steady::now() - start).count();
}

Node make_node(int id, const std::string& name, const std::string& type = "standby",
               const std::string& site = "default") {
  Node node;
  node.id = id;
  node.name = name;
  node.site = site;
  node.type = type;
  node.active = true;
  node.host = "127.0.0.1";
  return node;
}

// A site of `size` nodes n1, n2, …, of which n1 is the primary.
std::vector<Node> make_site(int size) {
  std::vector<Node> nodes;
  for (int i = 1; i <= size; ++i) {
    nodes.push_back(make_node(i, "n" + std::to_string(i), i == 1 ? "primary" : "standby"));
  }
  return nodes;
}

Facts make_facts(std::vector<Node> nodes, bool in_recovery = false, Time asked_at = 0s) {
  Facts facts;
  facts.asked_at = facts.nodes_read_at = asked_at;
  facts.reachable = facts.nodes_known = true;
  facts.in_recovery = in_recovery;
  facts.nodes = std::move(nodes);
  return facts;
}

// A node in a made-up world: its clock stands until it is moved, its database says what the test
// says, its peers answer what the test lays down, at once or when the test lets them.
struct World {
  // Unless told, it starts knowing that it promised nothing.
  explicit World(Node_Settings settings = named("n1"),
                 Grant_Store grants = {[] { return Grant{}; }, nullptr})
      : node(
            std::move(settings),
            [this](const Node& peer, const std::string& target, Time,
                   std::function<void(Http_Reply)> done) {
              asked.emplace_back(peer.name, target.substr(0, target.find("&lease")));
              if (hold) {
                held.push_back({peer.name, target, now, std::move(done)});
              } else {
                done(reply(peer.name, target, now));
              }
            },
            nullptr, [this] { return now; },
            [this](Log_Level, const std::string& line) { log.push_back(line); }, std::move(grants),
            nullptr, {[this] { return now + stopped; }}) {}
  ~World() { release(); }

  static Node_Settings named(const std::string& name) {
    Node_Settings settings;
    settings.node_name = name;
    return settings;
  }

  Http_Reply reply(const std::string& peer, const std::string& target, Time sent_at) const {
    const auto& replies = target.starts_with("/state") ? states : primaries;
    const auto found = replies.find(peer);
    Http_Reply reply =
        found == replies.end() ? Http_Reply{0, {}, "connection refused"} : found->second;
    reply.sent_at = sent_at;
    return reply;
  }
  void names(const std::string& voter, const std::string& primary) {
    primaries[voter] = {200, dump({{"Primary", primary}}), {}};
  }
  void release() {
    for (auto& question : std::exchange(held, {})) {
      question.done(reply(question.peer, question.target, question.sent_at));
    }
  }
  // Takes in facts as of now, asks, and takes in the answers.
  void look(Facts facts) {
    facts.asked_at = facts.nodes_read_at = facts.replication.asked_at = now;
    node.learn(std::move(facts));
    node.refresh();
    node.refresh();
  }
  void pass(Time time) {
    now += time;
    node.refresh();
    node.refresh();
  }

  Time now = 1000s;
  Time stopped{};  // how much further another clock is
  bool hold = false;
  std::map<std::string, Http_Reply> primaries, states;
  std::vector<std::pair<std::string, std::string>> asked;
  struct Question {
    std::string peer, target;
    Time sent_at;
    std::function<void(Http_Reply)> done;
  };
  std::vector<Question> held;
  std::vector<std::string> log;
  Repmgr_Node node;
};

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Config_Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

// ---- the rules ----------------------------------------------------------------------------------

TEST_SUITE_BEGIN("rules");

TEST_CASE("names are compared without case, and _ equals -") {
  CHECK(names_equal("DB_Node-1", "db-node_1"));
  CHECK_FALSE(names_equal("n1", "n10"));
  CHECK_FALSE(names_equal("n10", "n1"));
  CHECK_FALSE(names_equal("n1", "n2"));
  CHECK_FALSE(names_equal("n1", ""));
}

TEST_CASE("a majority is floor(n/2)+1") {
  CHECK(votes_needed(1) == 1);
  CHECK(votes_needed(2) == 2);
  CHECK(votes_needed(3) == 2);
  CHECK(votes_needed(4) == 3);
  CHECK(votes_needed(5) == 3);
  CHECK(check_consensus(2, 2));
  CHECK_FALSE(check_consensus(1, 2));
}

TEST_CASE("the host of a conninfo is hostaddr, else host, and never a socket folder") {
  CHECK(conninfo_host("host=db1 port=5432") == "db1");
  CHECK(conninfo_host("host=db1 hostaddr=10.0.0.1") == "10.0.0.1");
  CHECK(conninfo_host("postgresql://u@db2:6432/repmgr") == "db2");
  CHECK(conninfo_host("host=db1,db2") == "db1");
  CHECK(conninfo_host("host=/run/postgresql") == "");
  CHECK(conninfo_host("host=@abstract") == "");
  CHECK(conninfo_host("dbname=repmgr") == "");
  CHECK(conninfo_host("this is = no ' conninfo") == "");
}

TEST_CASE("the named primary is the one active primary row") {
  auto nodes = make_site(3);
  REQUIRE(named_primary(nodes));
  CHECK(named_primary(nodes)->name == "n1");
  nodes[0].active = false;
  CHECK_FALSE(named_primary(nodes));
  nodes[1].type = "primary";
  CHECK(named_primary(nodes)->name == "n2");
  nodes[0].active = true;
  CHECK_FALSE(named_primary(nodes));  // two: it names none
}

TEST_CASE("a name that two rows share after folding is nobody's") {
  const std::vector<Node> nodes = {make_node(1, "db_1"), make_node(2, "DB-1"),
                                   make_node(3, "db_2")};
  CHECK_FALSE(find_node(nodes, "db_1"));
  CHECK(find_node(nodes, "DB-2")->id == 3);
}

TEST_CASE("every registered node of the site votes: inactive ones and witnesses too") {
  std::vector<Node> nodes = {make_node(1, "n1", "primary", "a"), make_node(2, "n2", "standby", "a"),
                             make_node(3, "w", "witness", "a"), make_node(4, "n4", "standby", "b")};
  nodes[1].active = false;
  CHECK(electorate(nodes, nodes[0], false).size() == 3);
  CHECK(electorate(nodes, nodes[3], false).size() == 1);
  CHECK(electorate(nodes, nodes[0], true).size() == 4);
}

TEST_CASE("decide: down, standby and the reasons for unknown") {
  const Votes none;
  Facts down;
  down.problem = "refused";
  Decision decision = decide(down, "n1", false, none, 3s, 0s);
  CHECK(decision.state == State::down);
  CHECK(decision.reason == "refused");

  CHECK(decide(make_facts(make_site(3), true), "n2", false, none, 3s, 0s).state == State::standby);
  // A standby is one whatever repmgr.nodes says: reads need no vote.
  CHECK(decide(make_facts({}, true), "n2", false, none, 3s, 0s).state == State::standby);

  Facts unreadable = make_facts({});
  unreadable.nodes_known = false;
  unreadable.problem = "relation \"repmgr.nodes\" does not exist";
  decision = decide(unreadable, "n1", false, none, 3s, 0s);
  CHECK(decision.state == State::unknown);
  CHECK(decision.reason.find("does not exist") != std::string::npos);

  decision = decide(make_facts(make_site(3)), "n9", false, none, 3s, 0s);
  CHECK(decision.state == State::unknown);
  CHECK(decision.reason.find("\"n9\"") != std::string::npos);

  const std::vector<Node> witnessed = {make_node(1, "w", "witness")};
  CHECK(decide(make_facts(witnessed), "w", false, none, 3s, 0s).state == State::unknown);
}

TEST_CASE("decide: a majority of all registered nodes, not of those that answer") {
  const Facts facts = make_facts(make_site(5));
  Votes votes = {{"n1", {10s, "n1", ""}}};
  CHECK(decide(facts, "n1", false, votes, 3s, 10s).state == State::unknown);
  votes["n2"] = {10s, "N1", ""};
  CHECK(decide(facts, "n1", false, votes, 3s, 10s).state == State::unknown);
  votes["n3"] = {9s, "n1", ""};
  votes["n9"] = {10s, "n1", ""};  // not registered
  const Decision decision = decide(facts, "n1", false, votes, 3s, 10s);
  CHECK(decision.state == State::primary);
  CHECK(decision.until == 12s);  // the third vote is the first to expire
  const Node& n1 = facts.nodes[0];
  CHECK(tell_votes(tell_voters(facts.nodes, n1, votes, 3s, 10s))
            .starts_with("3 of 5 votes, 3 needed: n1 (t"));
  CHECK(decide(facts, "n1", false, votes, 3s, 12s).state == State::unknown);
  votes["n4"] = {10s, "n1", ""};  // one to spare: the oldest does not matter
  CHECK(decide(facts, "n1", false, votes, 3s, 10s).until == 13s);
}

TEST_CASE("decide: votes for others, and votes of other sites, do not count") {
  std::vector<Node> nodes = make_site(3);
  nodes.push_back(make_node(4, "n4", "standby", "b"));
  nodes.push_back(make_node(5, "n5", "standby", "b"));
  const Votes votes = {{"n1", {10s, "n1", ""}},
                       {"n2", {10s, "n3", ""}},
                       {"n4", {10s, "n1", ""}},
                       {"n5", {10s, "n1", ""}}};
  CHECK(decide(make_facts(nodes), "n1", false, votes, 3s, 10s).state == State::unknown);
  CHECK(decide(make_facts(nodes), "n1", true, votes, 3s, 10s).state == State::primary);
}

TEST_CASE("a voter votes for whom its database names, and keeps to it for as long as it promised") {
  const Grant none;
  CHECK(cast_vote(none, "n1", "n1", 10s).granted);
  CHECK(cast_vote(none, "N_1", "n-1", 10s).granted);
  CHECK_FALSE(cast_vote(none, "n1", "n2", 10s).granted);
  CHECK(cast_vote(none, "n1", "n2", 10s).names == "n1");
  CHECK_FALSE(cast_vote(none, "", "", 10s).granted);
  CHECK(cast_vote(none, "", "n1", 10s).names == "");

  const Grant to_n1{"n1", 13s};
  CHECK(cast_vote(to_n1, "n1", "N1", 12s).granted);  // renewed
  CHECK_FALSE(cast_vote(to_n1, "n2", "n2", 12s).granted);
  CHECK(cast_vote(to_n1, "n2", "n2", 12s).names == "n1");
  CHECK(cast_vote(to_n1, "n2", "n2", 13s).granted);        // it has expired
  CHECK(cast_vote(to_n1, "n2", "n1", 12s).names == "n2");  // no longer for n1, and not yet for n2

  const Grant silence{"", 13s};
  CHECK(cast_vote(silence, "n1", "n1", 12s).names == "");
  CHECK(cast_vote(silence, "n1", "n1", 13s).granted);
  CHECK(vote_lifetime(3s) == 2970ms);
}

TEST_CASE("what a peer's reply to /primary names") {
  std::string why;
  const auto named = [&](int status, const std::string& body) {
    return http_node_reports_primary({status, body, "silence"}, why).value_or("-");
  };
  CHECK(named(200, R"({"Primary":"n1"})") == "n1");
  CHECK(named(503, R"({"Primary":"n1"})") == "-");
  CHECK(named(503, R"({"State":"Down"})") == "-");
  CHECK(why == "names none, its state is Down");
  CHECK(named(0, "") == "-");
  CHECK(why == "silence");
  for (const char* body : {"", "n1", "[]", "null", "{", R"({"Primary":42})", R"({"Primary":null})",
                           R"({"Primary":""})", R"({"Primary":["n1"]})", R"({"primary":"n1"})",
                           R"(["Primary","n1"])", "{\"Primary\":\"\xff\"}"}) {
    CAPTURE(body);
    CHECK(named(200, body) == "-");
  }
  CHECK(named(302, R"({"Primary":"n1"})") == "-");
  CHECK(named(200, R"({"Primary":"n1"})" + std::string(1010, ' ')) == "-");
  CHECK(named(200, std::string(1024, '[')) == "-");
}

TEST_CASE("what a peer's reply to /state reports") {
  const auto state = [](int status, const std::string& body) {
    return http_node_reports_state({status, body, ""});
  };
  CHECK(state(200, R"({"state":"Primary"})") == State::primary);
  CHECK(state(200, R"({"State":"Primary"})") == State::primary);  // the original implementation
  CHECK(state(202, R"({"State":"Standby"})") == State::standby);
  CHECK(state(503, R"({"state":"Down"})") == State::down);
  CHECK(state(509, R"({"state":"Unknown"})") == State::unknown);
  CHECK(state(509, R"({"state":"Primary"})") == State::unknown);
  CHECK(state(200, R"({"state":"Standby"})") == State::unknown);
  CHECK(state(200, R"({"state":7})") == State::unknown);
  CHECK(state(200, "OK") == State::unknown);
  CHECK(state(0, "") == State::unknown);
}

TEST_SUITE_END();

// ---- the node -----------------------------------------------------------------------------------

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

TEST_CASE("a standby asks nobody for a vote") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  CHECK(world.node.get_state() == State::standby);
  CHECK(world.node.get_is_in_recovery_mode());
  for (const auto& [peer, target] : world.asked) CHECK(target == "/state");
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
  world.now += 2969ms;
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
  CHECK(std::count_if(world.log.begin(), world.log.end(), [](const std::string& line) {
          return line.find("was stopped for 10.0 s") != line.npos;
        }) == 1);
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

TEST_CASE("a vote lasts out its time also when the voter's database goes down") {
  World world;
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  world.primaries["n2"] = {503, R"({"state":"Down"})", ""};
  world.pass(1s);
  CHECK(world.node.get_state() == State::primary);
  world.pass(1970ms);
  CHECK(world.node.get_state() == State::unknown);
  CHECK(world.node.get_votes().find("n2: names none, its state is Down") != std::string::npos);
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

TEST_CASE("a node that is unregistered is forgotten") {
  World world;
  world.names("n2", "n1");
  world.names("n3", "n1");
  world.look(make_facts(make_site(3)));
  REQUIRE(world.node.get_state() == State::primary);
  world.look(make_facts(make_site(1)));
  CHECK(world.node.get_state() == State::primary);
  CHECK(world.node.get_votes().starts_with("1 of 1"));
}

TEST_CASE(
    "a grant binds: the voter names its choice until it expires, also when its database moved on") {
  World world(World::named("n3"));
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  CHECK(world.node.get_primary("n1", 3s) == "n1");
  CHECK(world.node.get_primary("n2", 3s) == "n1");
  nodes[0].active = false;
  nodes[1].type = "primary";
  world.look(make_facts(nodes, true));
  CHECK(world.node.get_primary() == "n2");          // the plain question grants nothing …
  CHECK(world.node.get_primary("n2", 3s) == "n1");  // … and does not break a promise either
  CHECK(world.node.get_primary("n1", 3s) == "n2");
  world.now += 2999ms;
  CHECK(world.node.get_primary("n2", 3s) == "n1");
  world.now += 1ms;
  CHECK(world.node.get_primary("n2", 3s) == "n2");
  CHECK(world.node.get_primary("n1", 3s) == "n2");
}

TEST_CASE("a candidate that counts a vote for longer than it is granted gets none") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  CHECK_FALSE(world.node.get_primary("n1", 3001ms));
  CHECK(world.node.get_primary("n1", 2s) == "n1");
}

TEST_CASE("a node that voted for another does not vote for itself before that has expired") {
  World world(World::named("n2"));
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  REQUIRE(world.node.get_primary("n1", 3s) == "n1");
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
  CHECK_FALSE(world.node.get_primary("n1", 3s));
  CHECK(world.node.get_primary() == "n1");
  CHECK(world.node.get_state() == State::unknown);
  world.now += 2999ms;
  CHECK_FALSE(world.node.get_primary("n1", 3s));
  world.pass(1ms);
  CHECK(world.node.get_primary("n1", 3s) == "n1");
  CHECK(world.node.get_state() == State::primary);

  World alone(World::named("n1"), {});  // a site of one has no other voter to surprise
  alone.look(make_facts(make_site(1)));
  CHECK(alone.node.get_state() == State::primary);
}

TEST_CASE("a promise is kept before it is given, and not given if it cannot be kept") {
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
  CHECK(world.node.get_primary("n1", 3s) == "n1");
  REQUIRE(kept);
  CHECK(kept->to == "n1");
  CHECK(kept->until >= world.now + 3s);
  const int before = writes;
  for (int i = 0; i < 100; ++i, world.now += 1ms) CHECK(world.node.get_primary("n1", 3s) == "n1");
  CHECK(writes - before <= 1);
  CHECK(kept->until >= world.now - 1ms + 3s);
  works = false;
  world.now += 10s;
  world.look(make_facts(make_site(3), true));
  CHECK_FALSE(world.node.get_primary("n1", 3s));
  CHECK(world.node.get_primary() == "n1");
}

TEST_CASE("--once reads votes and asks for none") {
  Node_Settings settings = World::named("n1");
  settings.candidate = false;
  World world(settings, {});
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  CHECK(world.node.get_state() == State::primary);
  for (const auto& [peer, target] : world.asked)
    CHECK((target == "/primary?voter=" + peer || target == "/state"));
}

TEST_CASE("the state file: what is written is read back, anything else is not believed") {
  const Grant grant{"Node 1", 5s};
  const std::string text = Grant_File::print(grant, "boot", "Me");
  std::string why;
  const auto read = [&](std::string_view t) { return Grant_File::parse(t, "boot", "me", 4s, why); };
  REQUIRE(read(text));
  CHECK(read(text)->to == "Node 1");
  CHECK(read(text)->until == 5s);
  CHECK(why.empty());
  CHECK(text.size() == Grant_File::record_size);
  CHECK(read(Grant_File::print({"", 5s}, "boot", "me"))->to == "");
  std::string every_byte;
  for (int c = 0; c < 256; ++c) every_byte += static_cast<char>(c);
  CHECK(Grant_File::parse(Grant_File::print({every_byte, 5s}, "boot", every_byte), "boot",
                          every_byte, 4s, why)
            ->to == every_byte);
  CHECK_FALSE(Grant_File::parse(text, "other boot", "me", 4s, why));
  CHECK(why == "is of an earlier boot");
  CHECK_FALSE(Grant_File::parse(text, "", "me", 4s, why));
  CHECK_FALSE(Grant_File::parse(text, "boot", "n2", 4s, why));
  CHECK(why == "is of the node \"Me\", not of this one");
  CHECK_FALSE(read(Grant_File::print({"n1", 1h}, "boot", "me")));  // longer than any lease
  CHECK_FALSE(read(Grant_File::print({"n1", -5ns}, "boot", "me")));
  for (std::size_t n = 0; n < text.size(); ++n) {
    CAPTURE(n);
    CHECK_FALSE(read(text.substr(0, n)));
    // Torn: the first bytes are of one record, the others of the one before.
    const std::string before = Grant_File::print({"Node 2", 4s}, "boot", "Me");
    const std::string mixed = text.substr(0, n) + before.substr(n);
    if (mixed != text && mixed != before) CHECK_FALSE(read(mixed));
  }
  CHECK_FALSE(read(text + " "));
  CHECK_FALSE(read("primgr 1 boot 5000000000 n1\n"));
  CHECK(why == "is damaged, or of another version");
  std::string changed = text;
  changed[100] = 'x';
  CHECK_FALSE(read(changed));
}

namespace {

// A folder of its own for a state file, gone afterwards.
struct State_Folder {
  ~State_Folder() { std::filesystem::remove_all(folder); }
  std::string path(const std::string& name = "grants") const { return folder + "/" + name; }
  const std::string folder = [] {
    char made[] = "/tmp/primgr-state-XXXXXX";
    return std::string(mkdtemp(made));
  }();
};

}  // namespace

TEST_CASE("the state file is one node's, and what cannot be kept is told") {
  const State_Folder folder;
  const std::string path = folder.path();
  std::string why;
  {
    Grant_File file(path, "n1");
    CHECK_FALSE(file.load(why));
    CHECK(why.empty());  // there was none
    REQUIRE(file.save({"n1", boottime() + 3s}).empty());
    REQUIRE(file.load(why));
    CHECK(file.load(why)->to == "n1");
    CHECK(file.save({std::string(5000, 'x'), 5s}).find("too long") != std::string::npos);
    CHECK(file.load(why)->to == "n1");
  }
  CHECK(std::filesystem::status(path).permissions() == std::filesystem::perms(0600));
  {
    Grant_File other(path, "n2");
    CHECK_FALSE(other.load(why));
    CHECK(why == path + " is of the node \"n1\", not of this one");
    REQUIRE(other.save({"n1", boottime() + 3s}).empty());
  }
  Grant_File file(path, "n1");
  CHECK_FALSE(file.load(why));  // again another's
  // Nothing stays behind a record that was shorter.
  std::ofstream(path, std::ios::app) << std::string(9999, 'x');
  CHECK_FALSE(file.load(why));
  REQUIRE(file.save({"n1", boottime() + 3s}).empty());
  REQUIRE(file.load(why));
  // The file was taken away: the next promise is in a new one.
  std::filesystem::remove(path);
  REQUIRE(file.save({"n3", boottime() + 3s}).empty());
  CHECK(std::filesystem::file_size(path) == Grant_File::record_size);
  // Or it was replaced.
  std::filesystem::rename(path, path + "-old");
  std::ofstream(path) << "noise";
  const std::string foreign =
      " holds something else than a promise: name a file that is this primgr's alone";
  CHECK(file.save({"n3", boottime() + 3s}) == path + foreign);
  CHECK(read_file(path) == "noise");
  CHECK(error_of([&] { Grant_File(path, "n1").load(why); }) == "state_file: " + path + foreign);
  std::filesystem::remove(path);
  REQUIRE(file.save({"n3", boottime() + 3s}).empty());
  CHECK(file.load(why)->to == "n3");

  Grant_File nowhere("/nonexistent/grants", "n1");
  CHECK_FALSE(nowhere.load(why));
  CHECK(why == "cannot open /nonexistent/grants: No such file or directory");
  CHECK(nowhere.save({"n1", 5s}) == why);
  if (access("/dev/full", W_OK) == 0) {
    // A full file system, which is as small as they come.
    const std::string mount = folder.path("full");
    std::filesystem::create_directory(mount);
    if (std::system(("mount -t tmpfs -o size=4k tmpfs " + mount + " 2>/dev/null").c_str()) == 0) {
      std::ofstream(mount + "/other") << "x";
      Grant_File full(mount + "/grants", "n1");
      CHECK_FALSE(full.load(why));
      CHECK(full.save({"n1", 5s}).ends_with("No space left on device"));
      std::filesystem::remove(mount + "/other");
      CHECK(full.save({"n1", 5s}).empty());
      CHECK(std::system(("umount -l " + mount).c_str()) == 0);
    }
  }
}

TEST_CASE("the state file is held by one process") {
  const State_Folder folder;
  const std::string path = folder.path();
  std::string why;
  Grant_File file(path, "n1");
  REQUIRE_FALSE(file.load(why));
  REQUIRE(file.save({"n1", boottime() + 3s}).empty());
  Grant_File second(path, "n1");
  std::string error;
  try {
    second.load(why);
  } catch (const In_Use& in_use) {
    error = in_use.what();
  }
  CHECK(error == "state_file: " + path + " is in use by another process (pid " +
                     std::to_string(getpid()) + ")");
  CHECK(second.save({"n2", boottime() + 3s}).find("in use") != std::string::npos);
  CHECK(file.load(why)->to == "n1");
}

TEST_CASE("nothing but a regular file is a state file, whenever it comes to be there") {
  const State_Folder folder;
  const std::string target = folder.path("target"), path = folder.path();
  const std::map<std::string, std::function<void()>> kinds = {
      {"link", [&] { std::filesystem::create_symlink(target, path); }},
      {"dangling link", [&] { std::filesystem::create_symlink(folder.path("none"), path); }},
      {"fifo", [&] { REQUIRE(mkfifo(path.c_str(), 0600) == 0); }},
      {"folder", [&] { std::filesystem::create_directory(path); }},
      {"device",
       [&] {
         if (mknod(path.c_str(), S_IFCHR | 0600, makedev(1, 3)) != 0)
           std::filesystem::create_directory(path);
       }},
      {"socket",
       [&] {
         const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
         sockaddr_un at{};
         at.sun_family = AF_UNIX;
         path.copy(at.sun_path, sizeof at.sun_path - 1);
         REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
         ::close(fd);
       }},
  };
  for (const auto& [kind, make] : kinds) {
    CAPTURE(kind);
    std::filesystem::remove_all(path);
    std::ofstream(target) << "precious";
    std::string why;
    Grant_File before(path, "n1");
    REQUIRE_FALSE(before.load(why));
    REQUIRE(before.save({"n1", boottime() + 3s}).empty());
    std::filesystem::remove(path);
    make();
    const auto type = std::filesystem::symlink_status(path).type();
    const std::string complaint =
        kind.ends_with("link") ? " is a link: name a file" : " is not a regular file: name a file";
    Grant_File at_start(path, "n1");
    for (const std::string& error :
         {error_of([&] { at_start.load(why); }), error_of([&] { Grant_File::check(path); })}) {
      CHECK(error.find("state_file: " + path + complaint) == 0);
    }
    CHECK(at_start.save({"n1", boottime() + 3s}) == path + " is no longer a regular file");
    CHECK(before.save({"n1", boottime() + 3s}) == path + " is no longer a regular file");
    CHECK(std::filesystem::symlink_status(path).type() == type);
    CHECK(read_file(target) == "precious");
    CHECK_FALSE(std::filesystem::exists(folder.path("none")));
  }
}

namespace {

// A store that hangs when the test says so, until the test lets it go on. Shared with the thread
// that uses it, which a keeper does not wait for.
struct Hanging_Store : std::enable_shared_from_this<Hanging_Store> {
  Grant_Keeper::Store store() {
    return {[self = shared_from_this()](std::string&) {
              self->pass();
              return std::optional(Grant{});
            },
            [self = shared_from_this()](const Grant& grant) {
              self->pass();
              const std::lock_guard lock(self->mutex);
              if (self->error.empty()) self->kept.push_back(grant);
              return self->error;
            }};
  }
  void pass() {
    std::unique_lock lock(mutex);
    ++entered;
    changed.wait(lock, [this] { return !hangs; });
  }
  void hang(bool now) {
    const std::lock_guard lock(mutex);
    hangs = now;
    changed.notify_all();
  }
  std::size_t writes() {
    const std::lock_guard lock(mutex);
    return kept.size();
  }
  std::size_t entries() {
    const std::lock_guard lock(mutex);
    return entered;
  }
  std::mutex mutex;
  std::condition_variable changed;
  bool hangs = false;
  std::size_t entered = 0;
  std::string error;
  std::vector<Grant> kept;
};

// A node whose promises such a store keeps. What the store does in time on a busy machine is waited
// for: a vote that comes to nothing is asked for again, as a candidate would.
struct Kept_World {
  explicit Kept_World(Hanging_Store& store, const std::string& name = "n2",
                      std::chrono::milliseconds patience = 20s)
      : keeper(store.store(),
               [this](Log_Level, const std::string& line) {
                 const std::lock_guard lock(mutex);
                 log.push_back(line);
               }),
        world(World::named(name),
              {[this, patience] { return keeper.load(patience); },
               [this](const Grant& grant, Deadline until) { return keeper.save(grant, until); }}) {}
  bool votes_for(const std::string& candidate) {
    return eventually(20, [&] { return world.node.get_primary(candidate, 3s) == candidate; });
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex);
    return log;
  }
  bool tells(const std::string& line) {
    return eventually(20, [&] {
      world.node.get_primary("n1", 3s);
      const auto told = lines();
      return !told.empty() && told.back() == line;
    });
  }
  std::mutex mutex;
  std::vector<std::string> log;
  Grant_Keeper keeper;
  World world;
};

constexpr const char* no_answer =
    "state_file does not answer: this node votes for nobody until it does";

}  // namespace

TEST_CASE("a state file that hangs costs the vote, told as such, and stalls nothing") {
  const auto shared = std::make_shared<Hanging_Store>();
  Hanging_Store& store = *shared;
  Kept_World kept(store, "n1");
  World& world = kept.world;
  world.names("n2", "n1");
  const auto is_primary = [&] {
    world.look(make_facts(make_site(3)));
    return world.node.get_state() == State::primary;
  };
  REQUIRE(eventually(20, is_primary));
  store.hang(true);
  const std::size_t writes = store.writes(), lines = kept.lines().size();
  world.now += 10s;  // what was kept ahead is over
  // It goes on although the store hangs, however often it is asked.
  for (int i = 0; i < 20; ++i) world.look(make_facts(make_site(3)));
  CHECK_FALSE(world.node.get_primary("n1", 3s));
  CHECK(store.writes() == writes);
  CHECK(world.node.get_state() == State::unknown);
  INFO(world.node.get_votes());
  CHECK(world.node.get_votes().find("n1 (this node): its promise cannot be kept in state_file") !=
        std::string::npos);
  CHECK(kept.lines().size() == lines + 1);
  CHECK(kept.lines().back() == no_answer);
  store.hang(false);
  CHECK(eventually(20, is_primary));
  CHECK(kept.lines().back() == "state_file is written again");
}

TEST_CASE("a grant that is kept late was not given, and one that fails leaves nothing to rest on") {
  const auto shared = std::make_shared<Hanging_Store>();
  Hanging_Store& store = *shared;
  Kept_World kept(store);
  World& world = kept.world;
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  REQUIRE(kept.votes_for("n1"));
  // Its database follows n3 now; the promise to n1 is over.
  nodes[0].active = false;
  nodes[2].type = "primary";
  world.now += 3s;
  const std::size_t before = store.writes();
  store.hang(true);
  world.look(make_facts(nodes, true));
  CHECK_FALSE(world.node.get_primary("n3", 3s));
  // And n1's again, before the grant to n3 is written: what was ahead for n1 is not to be rested
  // on.
  nodes[0].active = true;
  nodes[2].type = "standby";
  world.look(make_facts(nodes, true));
  world.now -= 2900ms;
  CHECK_FALSE(world.node.get_primary("n1", 3s));
  world.now += 2900ms;
  store.hang(false);
  CHECK(kept.votes_for("n1"));
  {
    const std::lock_guard lock(store.mutex);
    REQUIRE(store.kept.size() > before + 1);
    CHECK(store.kept[before].to == "n3");
    CHECK(store.kept.back().to == "n1");
    CHECK(store.kept.back().until >= world.now + 3s);
    store.error = "disk full";
  }
  world.now += 3500ms;
  CHECK_FALSE(world.node.get_primary("n1", 3s));
  CHECK(kept.tells("state_file: disk full: this node votes for nobody until it can be kept"));
  // What was there before may be gone: it does not serve for a vote that it would cover.
  world.now -= 3500ms;
  CHECK_FALSE(world.node.get_primary("n1", 3s));
  {
    const std::lock_guard lock(store.mutex);
    store.error.clear();
  }
  CHECK(kept.votes_for("n1"));
  CHECK(kept.lines().back() == "state_file is written again");
}

TEST_CASE("a state file that is always late is kept ahead, and votes are given") {
  const auto shared = std::make_shared<Hanging_Store>();
  Hanging_Store& store = *shared;
  Kept_World kept(store);
  World& world = kept.world;
  world.look(make_facts(make_site(3), true));
  for (int i = 0; i < 3; ++i) {
    CAPTURE(i);
    world.now += 5s;
    world.look(make_facts(make_site(3), true));
    store.hang(true);
    const std::size_t entered = store.entries();
    CHECK(eventually(20, [&] {
      CHECK_FALSE(world.node.get_primary("n1", 3s));
      return store.entries() > entered;
    }));
    const std::size_t late = store.writes();
    store.hang(false);
    CHECK(eventually(20, [&] { return store.writes() > late; }));
    // What was written late reaches beyond a vote that is given a little later.
    store.hang(true);
    world.now += 200ms;
    CHECK(kept.votes_for("n1"));
    const std::size_t later = store.writes();
    store.hang(false);
    CHECK(eventually(20, [&] { return store.writes() > later; }));
  }
}

TEST_CASE("a state file that hangs at the start: silence, and an end in time") {
  const auto shared = std::make_shared<Hanging_Store>();
  Hanging_Store& store = *shared;
  store.hang(true);
  std::size_t writes;
  {
    Kept_World kept(store, "n2", 10ms);
    kept.world.look(make_facts(make_site(3), true));
    CHECK_FALSE(kept.world.node.get_primary("n1", 3s));
    CHECK(kept.world.node.get_primary() == "n1");
    CHECK(kept.lines() == std::vector<std::string>{no_answer});
    kept.world.now += 3s;
    CHECK_FALSE(kept.world.node.get_primary("n1", 3s));  // it could not be kept
    store.hang(false);
    CHECK(kept.votes_for("n1"));
    writes = store.writes();
    store.hang(true);
    kept.world.now += 10s;
    CHECK_FALSE(kept.world.node.get_primary("n1", 3s));
  }  // it does not wait for the store
  store.hang(false);
  CHECK(eventually(20, [&] { return store.writes() > writes; }));
}

TEST_CASE("a state file that hangs, and many that want a vote") {
  const auto shared = std::make_shared<Hanging_Store>();
  Hanging_Store& store = *shared;
  Kept_World kept(store);
  kept.world.look(make_facts(make_site(3), true));
  store.hang(true);
  std::vector<std::thread> candidates;
  std::atomic<int> refused = 0;
  for (int i = 0; i < 8; ++i) {
    candidates.emplace_back([&] { refused += !kept.world.node.get_primary("n1", 3s); });
  }
  for (auto& candidate : candidates) candidate.join();
  CHECK(refused == 8);
  store.hang(false);
  CHECK(kept.votes_for("n1"));
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

TEST_SUITE_END();

// ---- the local database -------------------------------------------------------------------------

TEST_SUITE_BEGIN("database");

namespace {

// A server that says what the test lays down, and looks at it in virtual time.
struct Faked {
  explicit Faked(std::size_t connections = 3) : database(server.conninfo(), 1s, connections, {}) {}

  // The answer to each statement, by the words it begins with; the longest that fits.
  std::map<std::string, std::optional<std::string>> answers = {
      {"", pg_error("42601", "what?") + pg_ready()},
      {"SET ", pg_complete("SET") + pg_complete("PREPARE") + pg_ready()},
      {"EXECUTE primgr_pulse", pg_table(1, {{"f"}})},
      {"SELECT CASE",
       pg_table(10, {{"0/10", "000000020000000000000001", {}, {}, {}, {}, {}, {}, {}, {}}})},
      {"SELECT application_name", pg_table(6, {})},
      {"SELECT node_id", pg_table(6, {{"1", "n1", "s", "primary", "t", "host=10.0.0.1"}})}};
  std::vector<std::string> asked;
  Fake_Postgres server{[this](const std::string& sql) {
    asked.push_back(sql);
    const auto* best = &*answers.begin();
    for (const auto& answer : answers) {
      if (sql.starts_with(answer.first)) best = &answer;
    }
    return best->second;
  }};
  Database database;
  Time now = 1000s;

  // Drives both sides until a look is over, and a little longer: the facts.
  Facts look() {
    now += 1s;
    database.begin(now);
    for (int i = 0; i < 3000; ++i, now += 1ms) {
      server.step();
      auto facts = database.advance(now);
      if (!facts) continue;
      const auto later = wait(20ms);  // the survey may come after the pulse
      return later ? *later : *facts;
    }
    FAIL("a look takes 3 s at a timeout of 1 s");
    return {};
  }
  // Goes on for so long: the last facts, if any.
  std::optional<Facts> wait(Time time) {
    std::optional<Facts> last;
    for (const Time end = now + time; now < end; now += 1ms) {
      server.step();
      if (auto facts = database.advance(now)) last = facts;
      if (!database.looking()) database.changed();
    }
    return last;
  }
};

}  // namespace

TEST_CASE("a look reads the state, the nodes and replication, on two connections") {
  Faked faked;
  const Facts facts = faked.look();
  CHECK(facts.reachable);
  CHECK_FALSE(facts.in_recovery);
  CHECK_FALSE(facts.superuser);
  REQUIRE(facts.nodes_known);
  REQUIRE(facts.nodes.size() == 1);
  CHECK(facts.nodes[0].name == "n1");
  CHECK(facts.nodes[0].host == "10.0.0.1");
  CHECK(facts.blocked == "");
  CHECK(facts.replication.known);
  CHECK(facts.replication.position == Lsn{0x10});
  CHECK(facts.replication.timeline == 2);
  CHECK(faked.database.connections() == 2);
  CHECK(faked.look().nodes_known);
  CHECK(faked.database.connections() == 2);
  // The pulse has its connection for itself.
  CHECK(std::count(faked.asked.begin(), faked.asked.end(), "EXECUTE primgr_pulse") == 2);
}

TEST_CASE("each connection is told its timeouts and a search_path before anything is asked") {
  Faked faked;
  faked.look();
  const std::string& first = faked.asked.at(0);
  CHECK(first.find("SET statement_timeout = 900;") != first.npos);
  CHECK(first.find("SET lock_timeout = 500;") != first.npos);
  CHECK(first.find("SET search_path = pg_catalog, pg_temp;") != first.npos);
  CHECK(std::count(faked.asked.begin(), faked.asked.end(), first) == 2);
  faked.answers["SET "] = pg_error("22023", "no such thing") + pg_ready();
  Faked refusing;
  refusing.answers["SET "] = faked.answers["SET "];
  const Facts facts = refusing.look();
  CHECK_FALSE(facts.reachable);
  CHECK(facts.problem == "no such thing");
  CHECK(std::count(refusing.asked.begin(), refusing.asked.end(), "EXECUTE primgr_pulse") == 0);
}

TEST_CASE("one connection does for both, if there may be no more") {
  Faked faked(1);
  const Facts facts = faked.look();
  CHECK(facts.nodes_known);
  CHECK(faked.database.connections() == 1);
  CHECK(faked.asked.at(0).find("SET statement_timeout = 500;") != std::string::npos);
  // The survey gets no answer: the pulse waits for the connection, and gives up in time.
  faked.answers["SELECT node_id"] = "";
  CHECK(faked.look().reachable);
  CHECK_FALSE(faked.look().reachable);
  CHECK(faked.database.connections() <= 1);
}

TEST_CASE("what is only blocked lets the last list stand; an error does not") {
  Faked faked;
  CHECK(faked.look().nodes_known);
  const Time read_at = faked.now;
  for (const std::string sqlstate : {"55P03", "57014", "40001", "53200"}) {
    CAPTURE(sqlstate);
    faked.answers["SELECT node_id"] = pg_error(sqlstate, "later") + pg_ready();
    const Facts facts = faked.look();
    CHECK(facts.reachable);
    REQUIRE(facts.nodes_known);
    CHECK(facts.nodes.size() == 1);
    CHECK(facts.nodes_read_at <= read_at);
    CHECK(facts.blocked == "later");
    CHECK(facts.replication.known);
  }
  for (const std::string sqlstate : {"42501", "42P01", "3F000", "XX001"}) {
    CAPTURE(sqlstate);
    faked.answers["SELECT node_id"] = pg_error(sqlstate, "no") + pg_ready();
    const Facts facts = faked.look();
    CHECK(facts.reachable);
    CHECK_FALSE(facts.nodes_known);
    CHECK_FALSE(facts.nodes_pending);
    CHECK(facts.nodes.empty());
    CHECK(facts.problem == "no");
  }
  // What was forgotten is not remembered because of a block.
  faked.answers["SELECT node_id"] = pg_error("55P03", "later") + pg_ready();
  const Facts facts = faked.look();
  CHECK_FALSE(facts.nodes_known);
  CHECK(facts.problem == "it is blocked, and was not read before: later");
}

TEST_CASE("while repmgr.nodes is blocked it is asked for now and then, or when it is urgent") {
  Faked faked;
  faked.answers["SELECT node_id"] = pg_error("55P03", "later") + pg_ready();
  const auto asked = [&] {
    return std::count_if(faked.asked.begin(), faked.asked.end(),
                         [](const std::string& sql) { return sql.starts_with("SELECT node_id"); });
  };
  const auto look = [&](bool urgent) {
    faked.now += 1s;
    faked.database.begin(faked.now, urgent);
    faked.wait(10ms);
    CHECK_FALSE(faked.database.looking());
  };
  look(false);
  CHECK(asked() == 1);
  look(false);
  look(false);
  CHECK(asked() == 1);
  look(true);
  CHECK(asked() == 2);
  for (int i = 0; i < 5; ++i) look(false);
  CHECK(asked() == 3);
}

TEST_CASE("a survey without an answer holds up no pulse, and its late answer is told") {
  Faked faked;
  faked.look();
  faked.answers["SELECT node_id"] = "";
  for (int i = 0; i < 8; ++i) {
    const Facts facts = faked.look();
    CHECK(facts.reachable);
    CHECK(facts.nodes_known);
    CHECK(facts.replication.known);
    CHECK(faked.database.connections() <= 3);
    CHECK(faked.server.clients() <= 3);
  }
  // The replication behind it is not told for ever.
  faked.answers["SELECT CASE"] = "";
  faked.wait(3s);
  faked.look();
  faked.wait(2s);
  const Facts facts = faked.look();
  CHECK(facts.reachable);
  CHECK_FALSE(facts.replication.known);
  CHECK(facts.replication.problem == "no answer within db_timeout (1000 ms)");
}

TEST_CASE("a survey that hangs never takes the pulse's connection") {
  for (const std::size_t most : {2, 3}) {
    CAPTURE(most);
    // It closes nothing while `stuck`, like a backend that waits for its disk.
    Faked faked(most);
    faked.look();
    bool stuck = true;
    faked.answers["SELECT node_id"] = "";
    for (int i = 0; i < 12; ++i) {
      faked.database.begin(faked.now);
      std::optional<Facts> last;
      for (int step = 0; step < 1000; ++step, faked.now += 1ms) {
        // A client that has asked for the list is served no more: its end is not seen.
        faked.server.step([&](const std::string& asked_last) {
          return !(stuck && asked_last.starts_with("SELECT node_id"));
        });
        if (auto facts = faked.database.advance(faked.now)) last = facts;
      }
      REQUIRE(last);
      CHECK(last->reachable);
      CHECK(last->nodes_known);
      CHECK(faked.database.connections() <= most);
    }
    // Once on each connection but the pulse's.
    CHECK(std::count_if(faked.asked.begin(), faked.asked.end(), [](const std::string& sql) {
            return sql.starts_with("SELECT node_id");
          }) == static_cast<std::ptrdiff_t>(most) - 1);
    stuck = false;
    faked.answers["SELECT node_id"] = pg_table(6, {{"1", "n1", "s", "primary", "t", "host=h"}});
    faked.wait(100ms);
    CHECK(faked.look().blocked == "");
  }
}

TEST_CASE(
    "where the server lets in one connection only, both share it, and others are rarely tried") {
  Faked faked;
  std::size_t refused = 0;
  faked.server.admit = [&](std::size_t clients) {
    if (clients < 1) return true;
    ++refused;
    return false;
  };
  for (int i = 0; i < 30; ++i) {
    const Facts facts = faked.look();
    CHECK(facts.reachable);
    CHECK(facts.nodes_known);
    CHECK(facts.blocked == "");
    CHECK(facts.replication.known);
  }
  CHECK(refused >= 1);
  CHECK(refused <= 3);
}

TEST_CASE("what is blocked is asked for now and then: the list of standbys too") {
  Faked faked;
  faked.answers["SELECT application_name"] = pg_error("55P03", "later") + pg_ready();
  for (int i = 0; i < 5; ++i) {
    faked.now += 1s;
    faked.database.begin(faked.now, false);
    const auto facts = faked.wait(10ms);
    REQUIRE(facts);
    CHECK(facts->replication.known);
    CHECK(facts->nodes_known);
  }
  CHECK(std::count_if(faked.asked.begin(), faked.asked.end(), [](const std::string& sql) {
          return sql.starts_with("SELECT application_name");
        }) == 1);
}

TEST_CASE("no place is taken anew before the server has closed the connection before") {
  Faked faked;
  faked.look();
  // It reads nothing more, and closes nothing.
  const auto hang = [&](int looks) {
    for (int i = 0; i < looks; ++i) {
      faked.now += 1s;
      faked.database.begin(faked.now);
      std::optional<Facts> facts;
      for (int step = 0; step < 3000 && !facts; ++step, faked.now += 1ms) {
        facts = faked.database.advance(faked.now);
      }
      REQUIRE(facts);
      CHECK_FALSE(facts->reachable);
      CHECK(facts->problem.find("within db_timeout (1000 ms)") != std::string::npos);
      CHECK(faked.database.connections() <= 3);
    }
  };
  hang(6);
  CHECK(faked.database.connections() == 3);
  CHECK_FALSE(faked.database.changed());
  // It wakes up: each connection that was given up ends, and the next look finds places.
  faked.server.step();
  CHECK(eventually(10, [&] {
    faked.server.step();
    return faked.database.changed();
  }));
  CHECK(faked.look().reachable);
  CHECK(faked.look().nodes_known);
  CHECK(faked.database.connections() == 2);
}

TEST_CASE("a connection that breaks is replaced within the look, some times at most") {
  Faked faked;
  faked.look();
  const std::string sound = *faked.answers["EXECUTE primgr_pulse"];
  faked.answers["EXECUTE primgr_pulse"].reset();  // ends the connection
  faked.asked.clear();
  faked.now += 1s;
  faked.database.begin(faked.now);
  std::optional<Facts> facts;
  for (int i = 0; i < 2000 && !facts; ++i, faked.now += 1ms) {
    faked.server.step();
    if (std::count(faked.asked.begin(), faked.asked.end(), "EXECUTE primgr_pulse") == 3)
      faked.answers["EXECUTE primgr_pulse"] = sound;
    facts = faked.database.advance(faked.now);
  }
  REQUIRE(facts);
  CHECK(facts->reachable);
  faked.answers["EXECUTE primgr_pulse"].reset();
  const Facts down = faked.look();
  CHECK_FALSE(down.reachable);
  CHECK(down.problem != "");
}

TEST_CASE("answers of any other shape are told, and no harm") {
  const Pg_Row six(6, "1");
  for (const std::string& answer :
       {pg_table(0, {{}}), pg_table(5, {Pg_Row(5, "1")}), pg_table(7, {Pg_Row(7, "1")}),
        pg_columns(6) + pg_row(Pg_Row(2, "1")) + pg_complete("SELECT 1") + pg_ready(),
        pg_row(six) + pg_complete("SELECT 1") + pg_ready(), pg_complete("SELECT 0") + pg_ready(),
        pg_ready(), pg_error("", "") + pg_ready(), pg_message('G', big_endian(0, 3)) + pg_ready(),
        pg_message('H', big_endian(0, 3)), pg_message('W', big_endian(0, 3)),
        pg_message('I', "") + pg_ready(), pg_message('3', "") + pg_ready(),
        pg_table(6, {Pg_Row(6, std::nullopt)}), pg_table(6, {Pg_Row(6, std::string(70000, 'x'))}),
        std::string("\0\0\0\0\0", 5), std::string("T\xff\xff\xff\xff")}) {
    for (const std::string statement : {"EXECUTE primgr_pulse", "SELECT CASE",
                                        "SELECT application_name", "SELECT node_id", "SET "}) {
      Faked faked;
      faked.answers[statement] = answer;
      CAPTURE(statement);
      CAPTURE(answer.substr(0, 100));
      const Facts facts = faked.look();
      faked.wait(3s);
      CHECK(faked.database.connections() <= 3);
      if (!facts.reachable) CHECK(facts.problem != "");
      if (!facts.nodes_known) CHECK(facts.nodes.empty());
      if (statement.starts_with("SELECT")) CHECK(facts.reachable);
    }
  }
  // NULL is no true, no name and no position.
  Faked faked;
  faked.answers["EXECUTE primgr_pulse"] = pg_table(1, {{std::nullopt}});
  CHECK_FALSE(faked.look().reachable);
  faked.answers["EXECUTE primgr_pulse"] = pg_table(1, {{"t"}, {"t"}});
  CHECK_FALSE(faked.look().reachable);
  faked.answers["EXECUTE primgr_pulse"] = pg_table(1, {{"f"}});
  faked.answers["SELECT CASE"] = pg_table(10, {});
  const Facts facts = faked.look();
  CHECK(facts.reachable);
  CHECK(facts.replication.problem == "0 rows of replication instead of one");
}

TEST_CASE("a list of nodes that is always slow is told once") {
  World world;
  const auto look = [&](Time age) {
    world.now += 1s;
    Facts facts = make_facts(make_site(1), false, world.now);
    facts.nodes_read_at = world.now - age;
    world.node.learn(facts);
    world.node.refresh();
  };
  const auto told = [&](const std::string& what) {
    return std::count_if(world.log.begin(), world.log.end(),
                         [&](const std::string& line) { return line.find(what) != line.npos; });
  };
  for (int i = 0; i < 20; ++i) look((i % 10) * 1s);
  CHECK(told("repmgr.nodes") == 0);
  for (int i = 0; i < 60; ++i) look(5s + (i % 12) * 1s);
  CHECK(told("repmgr.nodes is blocked (no answer yet): the list of 14.0 s ago stands") == 1);
  CHECK(told("repmgr.nodes") == 1);
  look(1s);
  CHECK(told("repmgr.nodes is read again") == 1);
}

TEST_CASE("a promise that cannot be kept costs the vote before it nothing") {
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
    INFO(world.node.get_votes());
    CHECK(world.node.get_state() == State::primary);
  }
  // It lasts out its time, and no longer; nothing is given on what could not be kept.
  while (world.now <= saved_until) world.pass(100ms);
  CHECK(world.node.get_state() == State::unknown);
  CHECK(world.node.get_votes().find("n1 (this node): its promise cannot be kept in state_file") !=
        std::string::npos);
}

TEST_CASE("a superuser is told once") {
  World world;
  Facts facts = make_facts(make_site(1));
  facts.superuser = true;
  world.look(facts);
  world.look(facts);
  CHECK(std::count_if(world.log.begin(), world.log.end(), [](const std::string& line) {
          return line.find("superuser") != std::string::npos;
        }) == 1);
}

TEST_CASE("a list of nodes that is blocked stands, and is told once with its age") {
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
  const auto told = [&](const std::string& what) {
    return std::count_if(world.log.begin(), world.log.end(), [&](const std::string& line) {
      return line.find(what) != std::string::npos;
    });
  };
  blocked(1s);
  blocked(2s);
  CHECK(told("blocked") == 0);  // a busy server is nothing to tell
  for (int i = 0; i < 60; ++i) blocked(4s + i * 1s);
  CHECK(world.node.get_state() == State::primary);
  CHECK(told("repmgr.nodes is blocked (locked): the list of 4.0 s ago stands") == 1);
  CHECK(told("blocked") == 1);
  CHECK(world.node.get_report().nodes_problem == "locked");
  CHECK(world.node.get_report().nodes_age == 63s);
  world.look(make_facts(make_site(3)));
  CHECK(told("repmgr.nodes is read again, after 1 min 3 s") == 1);
  CHECK(world.node.get_report().nodes_problem == "");
  CHECK(told("state ") == 1);
}

TEST_SUITE_END();

// ---- configuration and command line -------------------------------------------------------------

TEST_SUITE_BEGIN("config");

TEST_CASE("values, quotes, comments") {
  const Config config = parse_config(
      "# a comment\n\n  listen=[::]:6000   # trailing\n"
      "conninfo = 'host=/tmp password=''a#b'' dbname=x'\r\n"
      "db_timeout = 1.5s\npeer_timeout = 200ms\nrefresh_interval = '500 ms'\ncache_ttl=20\n"
      "node_name = DB#1\npeer.N_2 = 10.0.0.2\npeer.n3 = [fe80::1]:7000\nconsensus = cluster\n"
      "http_threads = 4\nmax_connections_in_pool = 1\nlog_level = debug\npeer_port = 1",
      "f");
  CHECK(config.listen.host == "::");
  CHECK(config.listen.port == 6000);
  CHECK(config.node.conninfo == "host=/tmp password='a#b' dbname=x");
  CHECK(config.node.db_timeout == 1500ms);
  CHECK(config.node.peer_timeout == 200ms);
  CHECK(config.node.refresh_interval == 500ms);
  CHECK(config.node.cache_ttl == 20s);
  CHECK(config.node.node_name == "DB#1");
  CHECK(config.peers.at("N_2").host == "10.0.0.2");
  CHECK(config.peers.at("n3").port == 7000);
  CHECK(config.node.consensus_cluster);
  CHECK(config.log_level == Log_Level::debug);
}

TEST_CASE("what is wrong is told with file and line") {
  const auto error = [](const std::string& text) {
    return error_of([&] { parse_config(text, "f"); });
  };
  CHECK(error("listen = 1:1\n\nfoo = 1") ==
        "f:3: unknown key \"foo\"; primgr.conf.example shows every key");
  CHECK(error("db_timeout = 1s\ndb_timeout = 2s") ==
        "f:2: key \"db_timeout\" was set before, at f:1");
  CHECK(error("peer.n_1 = a\npeer.N-1 = b") == "f:2: key \"peer.N-1\" was set before, at f:1");
  CHECK(error("listen") == "f:1: not of the form key = value");
  CHECK(error("= 3") == "f:1: not of the form key = value");
  CHECK(error("db_timeout 3s").starts_with("f:1: not of the form"));
  CHECK(error("node_name = 'a").ends_with("the closing quote is missing"));
  CHECK(error("node_name = 'a' b").ends_with("there is more after the closing quote"));
  CHECK(error("node_name =").ends_with("the value is empty"));
  CHECK(error("peer. = x").ends_with("the value is empty"));
  CHECK(error("cache_ttl = 1s\nrefresh_interval = 1s")
            .starts_with("f:1: cache_ttl (1s) must be longer than refresh_interval (1s)"));
  CHECK(error("\nvote_lease = 2s")
            .starts_with(
                "f:2: vote_lease (2s) must be longer than refresh_interval + peer_timeout (2s)"));
  CHECK(error("peer_timeout = 2s").starts_with("f:1: vote_lease (3s) must be longer than"));
  CHECK(error("conninfo = 'hots=x'").starts_with("f:1: conninfo: not a libpq connection string: "));
  for (const char* line :
       {"conninfo = 'password=not hush'", "conninfo = 'scram_client_key=not hush'",
        "conninfo = postgresql://u:p@[hush"}) {
    CAPTURE(line);
    CHECK(error(line).starts_with("f:1: conninfo: not a libpq connection string"));
    CHECK(error(line).find("hush") == std::string::npos);
  }
  for (const char* line : {"listen = 5999",
                           "listen = :5999",
                           "listen = a:",
                           "listen = a:0",
                           "listen = a:65536",
                           "listen = ::1:5999",
                           "listen = [::1",
                           "listen = [[x]:1",
                           "listen = [::1]5999",
                           "peer.a = b c",
                           "peer.a =",
                           "db_timeout = 5 parsecs",
                           "db_timeout = s",
                           "db_timeout = -1s",
                           "db_timeout = 0",
                           "db_timeout = nan",
                           "db_timeout = inf",
                           "db_timeout = 1e99s",
                           "db_timeout = 9h",
                           "cache_ttl = 21s",
                           "peer_timeout = 2min",
                           "max_connections_in_pool = 4",
                           "max_connections_in_pool = 0",
                           "http_threads = 1x",
                           "http_threads = 99999999999",
                           "consensus = Site",
                           "log_level = loud",
                           "peer_port = -1"}) {
    CAPTURE(line);
    CHECK(error(line).starts_with("f:1: "));
  }
}

TEST_CASE("durations are those of postgresql.conf") {
  const auto read = [](const char* text) { return parse_duration(text, 0s, 1000h); };
  CHECK(read("3") == 3s);
  CHECK(read("3s") == 3s);
  CHECK(read("3 s") == 3s);
  CHECK(read("200ms") == 200ms);
  CHECK(read("1500us") == 1500us);
  CHECK(read("2min") == 120s);
  CHECK(read("1h") == 1h);
  CHECK(read("1d") == 24h);
  CHECK(read("0.5s") == 500ms);
  CHECK(print_duration(1500ms) == "1500ms");
  CHECK(print_duration(60s) == "1min");
}

TEST_CASE("what --check-config prints reads back as the same, and shows no secret") {
  const Config config = parse_config(
      "conninfo = 'host=/tmp password=hu''sh user=''a b'' dbname=''\tc'' scram_server_key=hush'\n"
      "peer.n2 = [::1]:7\nnode_name = '#o''x'",
      "f");
  const std::string text = print_config(config);
  CHECK(text.find("dbname=''\tc''") != std::string::npos);
  CHECK(text.find("hush") == std::string::npos);
  CHECK(text.find("hu'sh") == std::string::npos);
  const Config again = parse_config(text, "printed");
  CHECK(again.node.node_name == "#o'x");
  CHECK(print_config(again) == text);
}

TEST_CASE("primgr.conf.example shows every key with its default") {
  const std::string example = read_file("primgr.conf.example");
  const Config defaults = parse_config(example, "primgr.conf.example");
  std::string uncommented;
  for_each_line(example, "", [&](const std::string& line, const std::string&) {
    if (line.starts_with("#") && line.size() > 1 && line[1] != ' ')
      uncommented += line.substr(1) + "\n";
  });
  const Config shown = parse_config(uncommented, "example");
  for (const Config_Key& key : config_keys) {
    CAPTURE(key.name);
    CHECK(uncommented.find(std::string(key.name) + " = ") != std::string::npos);
    const std::string name = key.name;
    if (name != "node_name" && name != "repmgr_conf" && name != "state_file" &&
        !name.starts_with("tls_"))
      CHECK(key.print(shown) == key.print(defaults));
    CHECK(key.print(defaults) == key.print(Config()));
  }
  CHECK(shown.peers.size() == 2);
}

TEST_CASE("what may be the rest of a password is not shown") {
  CHECK(error_of([] { parse_config("conninfo = postgresql://u:my@secret@h/db\n", "f"); }) ==
        "f:1: conninfo: its host has an @: in a URL, write that of a password as %40");
  CHECK(print_conninfo("postgresql://u:12/secret@h/db").find("secret") == std::string::npos);
  CHECK(print_conninfo("dbname='password=secret x=1'").find("secret") == std::string::npos);
  CHECK(print_conninfo("host=@abstract dbname=db").find("host=@abstract") != std::string::npos);
  CHECK(conninfo_host("postgresql://u:my@secret@h/db") == "");
}

TEST_CASE("files that are no configuration are told apart") {
  CHECK(error_of([] {
          read_file("/nonexistent/x");
        }).starts_with("/nonexistent/x: cannot read it: "));
  CHECK(error_of([] { read_file("/"); }) == "/: not a regular file");
  CHECK(error_of([] { read_file("/dev/zero"); }) == "/dev/zero: not a regular file");
  const std::string path = "build/test-file";
  std::filesystem::remove(path);
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);  // nobody writes to it
  CHECK(error_of([&] { read_file(path); }) == path + ": not a regular file");
  CHECK(error_of([&] { load_config(path); }) == path + ": not a regular file");
  CHECK(error_of([&] { read_repmgr_conf(path); }) == path + ": not a regular file");
  std::filesystem::remove(path);
  std::ofstream(path) << std::string(1 << 20, '#');
  CHECK(read_file(path).size() == 1 << 20);
  std::ofstream(path, std::ios::app) << '#';
  CHECK(error_of([&] { read_file(path); }).starts_with(path + ": larger than 1 MB"));
  std::filesystem::remove(path);
  CHECK(error_of([] { read_file("build/tests"); }).starts_with("build/tests: "));
}

TEST_CASE("node_name from a repmgr.conf") {
  const std::string path = "build/test-repmgr.conf";
  const auto name_in = [&](const std::string& text) {
    std::ofstream(path) << text;
    return read_repmgr_conf(path);
  };
  CHECK(name_in("node_id=1\nnode_name='Node_1' # x\nconninfo='host=a'") == "Node_1");
  CHECK(name_in("node_name=n2\n#node_name=n3") == "n2");
  CHECK(name_in("  node_name   n4\ninclude 'x'\nwhat ever") == "n4");
  CHECK(error_of([&] { name_in("node_names = x"); }).ends_with("has no node_name"));
  CHECK(error_of([&] { name_in("node_name = 'x"); }).starts_with(path + ":1: "));
  std::filesystem::remove(path);
}

TEST_CASE("under systemd the state file is in the unit's runtime directory, unless told") {
  const std::string path = "build/test.conf";
  std::ofstream(path) << "node_name = n1\n";
  CHECK(load_config(path).state_file == "");
  setenv("RUNTIME_DIRECTORY", "/run/primgr", 1);
  CHECK(load_config(path).state_file == "/run/primgr/grants");
  std::ofstream(path) << "node_name = n1\nstate_file = /tmp/x\n";
  CHECK(load_config(path).state_file == "/tmp/x");
  unsetenv("RUNTIME_DIRECTORY");
  std::filesystem::remove(path);
}

TEST_CASE("the command line") {
  const auto parse = [](std::vector<std::string> words) {
    words.insert(words.begin(), "primgr");
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    return parse_options(static_cast<int>(words.size()), argv.data());
  };
  CHECK(parse({}).what == Options::What::daemon);
  CHECK(parse({"--once"}).question == "state");
  CHECK(parse({"--once", "primary", "--json"}).json);
  CHECK(parse({"--json", "--once", "real-primary"}).question == "real-primary");
  CHECK(parse({"--config", "a", "--check-config"}).config_file == "a");
  CHECK(parse({"--look", "--listen", "[::]:1"}).what == Options::What::look);
  for (const auto& words : std::vector<std::vector<std::string>>{{"x"},
                                                                 {"--once", "x"},
                                                                 {"--json"},
                                                                 {"--config"},
                                                                 {"--frob"},
                                                                 {"-x"},
                                                                 {"--once", "state", "primary"},
                                                                 {"--config", ""},
                                                                 {"--listen", ""},
                                                                 {"--listen", "x"},
                                                                 {"--log-level", ""},
                                                                 {"--url", ""},
                                                                 {"--once", "--status"},
                                                                 {"--status", "--check-config"},
                                                                 {"--look", "--once"},
                                                                 {"--look", "--json"},
                                                                 {"--look", "x"},
                                                                 {"--help", "--version"}}) {
    CAPTURE(words[0]);
    CHECK(error_of([&] { parse(words); }) != "no error");
  }
  CHECK(error_of([&] { parse({"-s", "-1"}); }) == "--once and --status do not go together");
  CHECK(error_of([&] { parse({"--listen", ""}); }).starts_with("--listen: "));
  CHECK(parse({"--once", "--once"}).what == Options::What::once);
}

TEST_CASE("control characters do not reach the terminal") {
  CHECK(printable("a\nb\x1b[31m\x7f") == "a\\x0ab\\x1b[31m\\x7f");
  CHECK(printable("Grün") == "Grün");
  CHECK(printable("\u009b31m\u202en1\u2066\u061c\u200f\u2029") ==
        "\\u009b31m\\u202en1\\u2066\\u061c\\u200f\\u2029");
  CHECK(printable("€ \U0001F418 \u05d0 \u00a0") == "€ \U0001F418 \u05d0 \u00a0");
  // No UTF-8: a lone byte of C1, cut short, written too long, a surrogate, beyond Unicode.
  CHECK(printable("\x9b") == "\\x9b");
  CHECK(printable("a\xe2\x80") == "a\\xe2\\x80");
  CHECK(printable("\xc0\x9b") == "\\xc0\\x9b");
  CHECK(printable("\xe0\x82\x9b") == "\\xe0\\x82\\x9b");
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(printable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
}

TEST_CASE("control characters do not reach the terminal in JSON either") {
  const std::string name = "\u009b31m\u202e\u2028\x7f\x1b ü€";
  const std::string text = dump(name);
  CHECK(text == R"("\u009b31m\u202e\u2028\u007f\u001b ü€")");
  CHECK(Json::parse(text) == name);
  CHECK(dump("\x9b") == "\"\xef\xbf\xbd\"");
  // What another daemon says is passed on.
  CHECK(printable_json("{\"a\":\n\"\u202e\"}") == "{\"a\":\n\"\\u202e\"}");
}

TEST_CASE("a complaint about a connection string quotes nothing of a password") {
  const auto error = [](const std::string& text) {
    return error_of([&] { parse_config(text, "f"); });
  };
  for (const char* line : {"conninfo = 'user:hush@host/db'",
                           "conninfo = 'user:hush@host/db host=x'",
                           "conninfo = 'user:hush@host/db=x'",
                           "conninfo = 'host=x hush@y'",
                           "conninfo = 'hush'",
                           "conninfo = 'user=x password=a hush=b'",
                           "conninfo = 'host=''x hush'",
                           "conninfo = postgresql://u:hush@h:x/db?foo=1",
                           "conninfo = postgresql://u:%zzhush@h/db",
                           "conninfo = postgresql://u:hush/db",
                           "conninfo = postgres://u:p@h/db?hush",
                           "conninfo = postgresql://u:p@h/db?hush=1",
                           "conninfo = 'dbname=postgresql://u:hush@h/db'",
                           "conninfo = 'host=postgresql://u:hush@h/db'",
                           "postgresql://u:hush@h/db?sslmode=require",
                           "postgresql://u:hush@h/db",
                           "conninfo: 'password=hush'",
                           "password hush",
                           "conninfo = 'password=hush",
                           "conninfo = 'password=hush' hush",
                           "conninfo = host=x\nu:hush@h=1\nu:hush@h=1"}) {
    CAPTURE(line);
    const std::string told = error(line);
    CHECK(told.starts_with("f:"));
    CHECK(told.find("hush") == told.npos);
  }
  CHECK(error("conninfo = 'hots=x'") ==
        "f:1: conninfo: not a libpq connection string: libpq knows no option \"hots\"");
  CHECK(error("conninfo = 'host'").find("not of the form keyword=value") != std::string::npos);
  CHECK(error("conninfo = postgresql://u@h:65433,g:1/db") == "no error");
  const Config config =
      parse_config("conninfo = postgresql://u:hush%3A@h/db?sslpassword=hush", "f");
  CHECK(print_config(config).find("hush") == std::string::npos);
}

TEST_SUITE_END();

// ---- the endpoints ------------------------------------------------------------------------------

TEST_SUITE_BEGIN("http");

namespace {

// All that comes until the other side ends the connection.
std::string read_answer(int fd) {
  std::string all;
  char buffer[4096];
  for (ssize_t n; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) {
    all.append(buffer, static_cast<std::size_t>(n));
  }
  return all;
}

// The shipped server on a free port of 127.0.0.1, over a made-up world.
struct Served {
  explicit Served(World& world, Config with = {}, Http_Get peers = nullptr)
      : config(std::move(with)),
        tls(config, log),
        server(config, world.node, tls, log, std::move(peers)) {
    port = server.bind_to_any_port("127.0.0.1");
    REQUIRE(port > 0);
    thread = std::thread([this] { server.run(); });
  }
  ~Served() {
    server.stop();
    thread.join();
  }
  httplib::Response ask(const std::string& method, const std::string& path,
                        const httplib::Headers& headers = {}) const {
    httplib::Client client("127.0.0.1", port);
    httplib::Request request;
    request.method = method;
    request.path = path;
    request.headers = headers;
    const auto result = client.send(request);
    REQUIRE(result);
    return *result;
  }
  // Sends bytes as they are; everything that comes back until the server closes.
  std::string raw(const std::string& bytes) const {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
    REQUIRE(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0);
    ::shutdown(fd, SHUT_WR);
    const std::string all = read_answer(fd);
    ::close(fd);
    return all;
  }

  Config config;
  Stderr_Log log{Log_Level::error};
  Tls tls;
  Http_Server server;
  int port = 0;
  std::thread thread;
};

}  // namespace

TEST_CASE("the four states, on /state and /, by GET, HEAD and OPTIONS") {
  World world;
  const Served served(world);
  const auto check = [&](int status, const std::string& body) {
    for (const char* path : {"/state", "/"}) {
      for (const char* method : {"GET", "HEAD", "OPTIONS"}) {
        CAPTURE(path);
        CAPTURE(method);
        const auto response = served.ask(method, path);
        CHECK(response.status == status);
        CHECK(response.body == (std::string(method) == "HEAD" ? "" : body));
        CHECK(response.get_header_value("Content-Type") == "application/json");
        CHECK(response.get_header_value("Cache-Control") == "no-store");
        CHECK(response.get_header_value("Content-Length") == std::to_string(body.size()));
      }
    }
  };
  check(503, R"({"state":"Down"})");
  world.look(make_facts(make_site(3), true));
  check(202, R"({"state":"Standby"})");
  world.look(make_facts(make_site(3)));
  check(509, R"({"state":"Unknown"})");
  world.names("n2", "N1");
  world.pass(1s);
  check(200, R"({"state":"Primary"})");
}

TEST_CASE("/primary") {
  World world(World::named("n2"));
  const Served served(world);
  CHECK(served.ask("GET", "/primary").status == 503);
  CHECK(served.ask("GET", "/primary").body == R"({"state":"Down"})");
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  CHECK(served.ask("GET", "/primary").status == 200);
  CHECK(served.ask("GET", "/primary?candidate=n3").body == R"({"Primary":"n1"})");
  CHECK(served.ask("GET", "/primary?candidate=n1&lease=3001").body == R"({"state":"Unknown"})");
  CHECK(served.ask("GET", "/primary?candidate=n1&lease=3000").body == R"({"Primary":"n1"})");
  CHECK(served.ask("GET", "/primary?candidate=%00&lease=-9e99x").body == R"({"Primary":"n1"})");
  // A question that was meant for another node is told nobody, and granted nothing.
  CHECK(served.ask("GET", "/primary?voter=N2").body == R"({"Primary":"n1"})");
  CHECK(served.ask("GET", "/primary?voter=n3").body == R"({"state":"Unknown"})");
  CHECK(served.ask("GET", "/primary?candidate=n1&voter=N2").body == R"({"Primary":"n1"})");
  CHECK(served.ask("GET", "/primary?candidate=n1&voter=n3").body == R"({"state":"Unknown"})");
  nodes[0].active = false;
  world.look(make_facts(nodes, true));
  CHECK(served.ask("GET", "/primary").status == 503);
  CHECK(served.ask("GET", "/primary").body == R"({"state":"Unknown"})");
}

TEST_CASE("/realPrimary") {
  World world(World::named("n2"));
  const Served served(world);
  CHECK(served.ask("GET", "/realPrimary").status == 503);
  CHECK(served.ask("GET", "/realPrimary").body == R"({"realPrimary":null,"state":"Down"})");
  world.look(make_facts(make_site(3), true));
  CHECK(served.ask("GET", "/realPrimary").status == 503);
  CHECK(served.ask("GET", "/realPrimary").body == R"({"realPrimary":null,"state":"Unknown"})");
  world.states["n1"] = {200, R"({"state":"Primary"})", ""};
  world.pass(1s);
  CHECK(served.ask("GET", "/realPrimary").status == 200);
  CHECK(served.ask("GET", "/realPrimary").body == R"({"realPrimary":"n1"})");
  world.states["n3"] = {200, R"({"state":"Primary"})", ""};
  world.pass(1s);
  CHECK(served.ask("GET", "/realPrimary").status == 509);
  CHECK(served.ask("GET", "/realPrimary").body ==
        R"({"realPrimary":null,"claimants":["n1","n3"]})");
}

TEST_CASE("an answer is 1,024 bytes at most, whatever the nodes are called") {
  World world(World::named("n1"));
  auto nodes = make_site(100);
  nodes[0].name = "n1";
  for (auto& node : nodes) {
    if (node.id != 1) node.name = "claimant-with-quite-a-long-name-" + std::to_string(node.id);
    world.states[node.name] = {200, R"({"state":"Primary"})", ""};
  }
  world.look(make_facts(nodes, true));
  const Answer answer = get_reported_real_primary(world.node);
  CHECK(answer.status == 509);
  CHECK(answer.body.size() <= max_reply_size);
  CHECK(Json::parse(answer.body)["claimants"].size() > 10);

  World strange(World::named("n2"));
  nodes = make_site(2);
  nodes[0].name = std::string(2000, 'x');
  strange.look(make_facts(nodes, true));
  CHECK(get_reported_primary(strange.node, "", "").status == 503);
  nodes[0].name = "\xff\"\\\n";
  strange.look(make_facts(nodes, true));
  CHECK(get_reported_primary(strange.node, "", "").status == 200);
  CHECK(Json::accept(get_reported_primary(strange.node, "", "").body));
}

namespace {

// Facts of a standby that streams: `received` has arrived of what its sender has, and `replayed`.
Facts standby_facts(Lsn sender_at, Lsn received, Lsn replayed) {
  Facts facts = make_facts(make_site(3), true);
  facts.replication.known = facts.replication.receiving = true;
  facts.replication.status = "streaming";
  facts.replication.from = "10.0.0.1";
  facts.replication.sender_at = sender_at;
  facts.replication.received = received;
  facts.replication.position = replayed;
  facts.replication.timeline = 3;
  return facts;
}

}  // namespace

TEST_CASE("positions in the WAL") {
  CHECK(parse_lsn("16/B374D848") == Lsn{0x16'B374D848});
  CHECK(parse_lsn("0/0") == Lsn{0});
  CHECK(parse_lsn("FFFFFFFF/FFFFFFFF") == ~Lsn{0});
  CHECK(print_lsn(0x16'B374D848) == "16/B374D848");
  for (const char* text : {"", "/", "1", "1/", "/1", "1/2/3", "1/g", "100000000/1", "-1/1", "1/ 1"})
    CHECK_FALSE(parse_lsn(text));
}

TEST_CASE("sizes are those of postgresql.conf") {
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("1024") == 1024);
  CHECK(parse_size("16kB") == 16 << 10);
  CHECK(parse_size("1.5MB") == 3 << 19);
  CHECK(parse_size("2GB") == 2LL << 30);
  CHECK(parse_size("1TB") == 1LL << 40);
  for (const char* text :
       {"", "MB", "16mb", "16 MB", "-1", "1e30", "nan", "inf", "0x10", "16MBB"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_size(text), Config_Error);
  }
}

TEST_CASE("a stretch of time in words") {
  CHECK(tell_time(-1s) == "0.0 s");
  CHECK(tell_time(59'940ms) == "59.9 s");
  CHECK(tell_time(60s) == "1 min 0 s");
  CHECK(tell_time(192s) == "3 min 12 s");
  CHECK(tell_time(24h + 61min) == "1 d 1 h");
  CHECK(tell_time(3h + 4min + 5s) == "3 h 4 min");
}

TEST_CASE("replay is late for as long as WAL has been waiting, by this node's clock") {
  Replay_History history;
  CHECK_FALSE(history.delay(0s, 0));
  history.saw(100s, 1000, 1000);
  CHECK(history.delay(500s, 1000) == 0s);  // an idle primary makes nobody late
  history.saw(500s, 2000, 1000);
  CHECK(history.delay(500s, 1000) == 0s);
  history.saw(501s, 3000, 1000);
  CHECK(history.delay(502s, 1000) == 2s);  // since 500 s there has been something to replay
  CHECK(history.delay(502s, 2000) == 1s);
  CHECK(history.delay(502s, 3000) == 0s);
  history.saw(503s, 3000, 2500);
  CHECK(history.delay(503s, 2500) == 2s);
  // What was waiting before the history began is not known.
  Replay_History late;
  late.saw(100s, 5000, 1000);
  CHECK_FALSE(late.delay(101s, 1000));
  CHECK(late.delay(101s, 5000) == 0s);
  // Another sender, which is behind: what was known of the first means nothing.
  history.saw(504s, 1500, 1500);
  CHECK(history.delay(505s, 1500) == 0s);
  // Paused for a day: bounded, and as late as it is, to a minute or two.
  Replay_History paused;
  paused.saw(0s, 1, 1);
  for (int i = 1; i <= 86'400; ++i) paused.saw(std::chrono::seconds(i), Lsn(i) + 1, 1);
  CHECK(paused.size() <= 1024);
  CHECK(paused.delay(86'400s, 1).value() >= 86'400s - 3min);
  CHECK(paused.delay(86'400s, 43'200).value() >= 43'200s - 3min);
  CHECK(paused.delay(86'400s, 43'200).value() <= 43'200s + 3min);
}

TEST_CASE("lag: what is not known is unbounded, never zero") {
  Replay_History history;
  history.saw(0s, 100, 100);
  Lag lag = measure_lag(standby_facts(100, 100, 100), history);
  CHECK(lag.streaming);
  CHECK(lag.receive == 0U);
  CHECK(lag.replay == 0U);
  CHECK(lag.delay == 0s);
  CHECK(lag.problem.empty());
  CHECK(too_late(lag, 0, 0s).empty());

  lag = measure_lag(standby_facts(1000, 600, 100), history);
  CHECK(lag.receive == 400U);
  CHECK(lag.replay == 900U);
  CHECK(too_late(lag, 900, std::nullopt).empty());
  CHECK(too_late(lag, 899, std::nullopt) == "it has 900 bytes of WAL to replay, more than 899");
  // More was flushed than its sender was last heard to have.
  CHECK(measure_lag(standby_facts(100, 600, 100), history).replay == 500U);

  const auto unbounded = [&](const std::function<void(Replication&)>& change) {
    Facts facts = standby_facts(100, 100, 100);
    change(facts.replication);
    const Lag found = measure_lag(facts, history);
    CHECK_FALSE(found.replay);
    CHECK_FALSE(found.delay);
    CHECK_FALSE(too_late(found, 1 << 30, std::nullopt).empty());
    CHECK_FALSE(too_late(found, std::nullopt, 24h).empty());
    return found;
  };
  CHECK(unbounded([](auto& r) { r = {}; }).problem == "replication could not be looked at");
  CHECK(unbounded([](auto& r) {
          r.receiving = false;
          r.status.clear();
        }).problem == "there is no WAL receiver: nothing is streamed to it");
  CHECK(unbounded([](auto& r) { r.status.clear(); }).problem.find("pg_read_all_stats") !=
        std::string::npos);
  CHECK(unbounded([](auto& r) { r.status = "waiting"; }).problem ==
        "its WAL receiver is waiting, not streaming");
  CHECK(unbounded([](auto& r) { r.sender_at.reset(); }).streaming);
  CHECK(unbounded([](auto& r) { r.position.reset(); }).streaming);

  // Before the history: the last commit tells, and nothing if there was none.
  Facts facts = standby_facts(1000, 1000, 100);
  facts.replication.since_commit = 7s;
  CHECK(measure_lag(facts, {}).delay == 7s);
  facts.replication.since_commit.reset();
  CHECK_FALSE(measure_lag(facts, {}).delay);
  CHECK(too_late(measure_lag(facts, {}), 1 << 20, std::nullopt).empty());
  CHECK(too_late(measure_lag(facts, {}), std::nullopt, 1h) == "it is not known how late it is");
}

TEST_CASE("/replica, /read-only, /readiness: who may be read from") {
  World world(World::named("n2"));
  const Served served(world);
  const auto status = [&](const std::string& path) { return served.ask("GET", path).status; };
  for (const char* path : {"/replica", "/read-only", "/readiness"}) {
    CAPTURE(path);
    CHECK(status(path) == 503);
  }
  world.look(standby_facts(1 << 20, 1 << 20, 1 << 20));
  CHECK(status("/replica") == 200);
  CHECK(status("/read-only") == 200);
  CHECK(status("/readiness?lag=0") == 200);
  world.now += 60s;
  world.look(standby_facts(17 << 20, 17 << 20, 1 << 20));
  CHECK(status("/replica?lag=16MB") == 200);
  world.now += 11s;
  world.look(standby_facts(18 << 20, 17 << 20, 1 << 20));
  const auto late = served.ask("GET", "/replica?lag=16MB");
  CHECK(late.status == 503);
  CHECK(Json::parse(late.body)["reason"] ==
        "it has 17825792 bytes of WAL to replay, more than 16777216");
  CHECK(Json::parse(late.body)["replayLagSeconds"] == 11);
  CHECK(status("/replica?lag=17MB&delay=11s") == 200);
  CHECK(status("/replica?delay=10s") == 503);
  CHECK(status("/replica") == 200);
  CHECK(status("/readiness?lag=16MB") == 503);
  CHECK(served.ask("OPTIONS", "/replica?lag=16MB").status == 503);

  for (const char* query :
       {"lag=", "lag=16", "delay=x", "lag=1&lag=2", "lagg=1MB", "lag=-1", "x"}) {
    CAPTURE(query);
    const auto refused = served.ask("GET", "/replica?" + std::string(query));
    const bool fine = std::string(query) == "lag=16";
    CHECK(refused.status == (fine ? 503 : 400));
    CHECK(Json::parse(refused.body).contains(fine ? "reason" : "error"));
  }
  CHECK(served.ask("GET", "/replica?lag=" + std::string(3000, 'x')).body.size() <= max_reply_size);

  // Nothing that is older than cache_ttl.
  world.now += 21s;
  CHECK(status("/replica") == 503);
  // A primary is no replica, and may be read from; without its votes it may not.
  World first;
  const Served primary(first);
  first.look(make_facts(make_site(3)));
  CHECK(primary.ask("GET", "/read-only").status == 503);
  first.names("n2", "n1");
  first.pass(1s);
  CHECK(primary.ask("GET", "/replica").status == 503);
  CHECK(primary.ask("GET", "/read-only?lag=1MB").status == 200);
  CHECK(primary.ask("GET", "/readiness").status == 200);
}

TEST_CASE("/health and /liveness") {
  World world;
  const Served served(world);
  CHECK(served.ask("GET", "/health").status == 503);
  CHECK(served.ask("GET", "/liveness").status == 200);
  world.look(make_facts(make_site(3)));
  CHECK(served.ask("GET", "/health").status == 200);  // Unknown, but PostgreSQL answers
  CHECK(served.ask("GET", "/health").body == R"({"state":"Unknown"})");
  world.now += 21s;  // nobody refreshes
  CHECK(served.ask("GET", "/liveness").status == 503);
  CHECK(served.ask("GET", "/health").status == 503);
}

TEST_CASE("/node tells a candidate's votes, and a standby's lag") {
  World world;
  const Served served(world);
  const auto node = [&] {
    const auto response = served.ask("GET", "/node");
    CHECK(response.status == 200);
    return Json::parse(response.body);
  };
  CHECK(node()["state"] == "Down");
  CHECK(node()["site"].is_null());
  CHECK(node()["primary"].is_null());
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  world.now += 500ms;
  Json told = node();
  CHECK(told["name"] == "n1");
  CHECK(told["id"] == 1);
  CHECK(told["site"] == "default");
  CHECK(told["role"] == "primary");
  CHECK(told["state"] == "Primary");
  CHECK(told["stateSeconds"] == 0.5);
  CHECK(told["nodesAgeSeconds"] == 0.5);
  CHECK(told["nodesProblem"].is_null());
  CHECK(told["primary"] == "n1");
  CHECK(told["reason"] ==
        "a majority votes for it (2 of 3 votes, 2 needed: n1 (this node) names n1, "
        "n2 names n1, n3: connection refused)");
  CHECK(told["votes"]["counted"] == 2);
  CHECK(told["votes"]["needed"] == 2);
  CHECK(told["votes"]["of"] == 3);
  CHECK(told["votes"]["leaseSeconds"] == 2.47);
  CHECK(
      told["votes"]["voters"][1].dump() ==
      R"({"name":"n2","counts":true,"names":"n1","ageSeconds":0.5,"leaseSeconds":2.47,"error":null})");
  CHECK(told["votes"]["voters"][2]["error"] == "connection refused");
  CHECK(told["replication"].is_null());
  CHECK(told["version"] == PRIMGR_VERSION);
  CHECK(told["connections"]["most"] == 3);

  Facts facts = standby_facts(0x2000, 0x1800, 0x1000);
  facts.replication.attached = {{"n9", "10.0.0.9", "streaming", "async", Lsn{0x800}, 20ms}};
  world.look(facts);
  told = node();
  CHECK(told["state"] == "Standby");
  CHECK(told["stateSeconds"] == 0);
  CHECK(told["votes"].is_null());
  CHECK(told["timeline"] == 3);
  CHECK(told["position"] == "0/1000");
  CHECK(told["replication"]["receiveLagBytes"] == 0x800);
  CHECK(told["replication"]["replayLagBytes"] == 0x1000);
  CHECK(
      told["standbys"].dump() ==
      R"([{"name":"n9","address":"10.0.0.9","state":"streaming","sync":"async","lagBytes":2048,"lagSeconds":0.02}])");
}

TEST_CASE("/node is bounded, and what is wrong comes first") {
  World world;
  const Served served(world);
  auto nodes = make_site(500);
  for (int i = 2; i <= 499; ++i) world.names("n" + std::to_string(i), "n1");
  world.look(make_facts(nodes));
  const auto response = served.ask("GET", "/node");
  CHECK(response.body.size() < max_node_size / 2);
  const Json told = Json::parse(response.body);
  CHECK(told["votes"]["counted"] == 499);
  CHECK(told["votes"]["voters"].size() == most_told);
  CHECK(told["votes"]["voters"][0]["name"] == "n500");
}

TEST_CASE("/cluster: every node, those that do not answer with the reason") {
  World world(World::named("n2"));
  std::map<std::string, Http_Reply> replies;
  std::atomic<int> asked = 0;
  const Served served(
      world, {},
      [&](const Node& peer, const std::string& target, Time, std::function<void(Http_Reply)> done) {
        CHECK(target == "/node");
        ++asked;
        const auto found = replies.find(peer.name);
        done(found == replies.end() ? Http_Reply{0, {}, "refused", {}} : found->second);
      });
  const auto cluster = [&](int status) {
    // An answer is told on for a moment.
    httplib::Response response;
    const int before = asked;
    CHECK(eventually(10, [&] {
      response = served.ask("GET", "/cluster");
      return asked > before || status == 503;
    }));
    CHECK(response.status == status);
    return Json::parse(response.body);
  };
  Json told = cluster(503);  // the node list was never read
  CHECK(told["realPrimary"].is_null());
  CHECK(told["sites"][0]["nodes"][0]["name"] == "n2");
  CHECK(told["sites"][0]["nodes"][0]["state"] == "Down");

  auto nodes = make_site(4);
  nodes[3].site = "east";
  world.look(make_facts(nodes, true));
  replies["n1"] = {200, R"({"name":"N1","state":"Primary","id":77,"reachable":false})", "", {}};
  replies["n3"] = {404, "", "", {}};
  told = cluster(200);
  CHECK(told["from"] == "n2");
  CHECK(told["realPrimary"] == "n1");
  CHECK_FALSE(told.contains("claimants"));
  REQUIRE(told["sites"].size() == 2);
  CHECK(told["sites"][1]["site"] == "east");
  const Json& site = told["sites"][0]["nodes"];
  REQUIRE(site.size() == 3);
  CHECK(site[0].dump() ==
        R"({"name":"n1","id":1,"site":"default","reachable":true,"state":"Primary"})");
  CHECK(site[1]["state"] == "Standby");
  CHECK(
      site[2].dump() ==
      R"({"name":"n3","id":3,"site":"default","reachable":false,"role":"standby","error":"HTTP status 404 to /node: another version?"})");
  CHECK(told["sites"][1]["nodes"][0]["error"] == "refused");

  // Two claimants; then what is hostile.
  replies["n4"] = {200, R"({"name":"n4","state":"Primary"})", "", {}};
  told = cluster(200);
  CHECK(told["realPrimary"].is_null());
  CHECK(told["claimants"].dump() == R"(["n1","n4"])");
  const auto error_of_n4 = [&](std::string body) {
    replies["n4"] = {200, std::move(body), "", {}};
    const Json node = cluster(200)["sites"][1]["nodes"][0];
    return node.value("error", Json()).is_string() ? node["error"].get<std::string>() : "";
  };
  CHECK(error_of_n4(R"({"name":"n1","state":"Primary"})") ==
        "another node answers at its address: n1");
  for (const std::string& body :
       {std::string("[]"), std::string("{}"), std::string(R"({"name":4})"),
        std::string(50'000, '['), std::string("{\"name\":\"n4\""), std::string("\xff")}) {
    CHECK(error_of_n4(body) == "its answer to /node is none");
  }
  CHECK(error_of_n4(R"({"name":"n4","state":5,"votes":[[[[[[[[1]]]]]]]]})").empty());
  std::string deep = R"({"name":"n4","x":)";
  for (int i = 0; i < 10'000; ++i) deep += R"({"a":)";
  deep += "1" + std::string(10'001, '}');
  CHECK(error_of_n4(deep).empty());

  // Down: from the node list as last read.
  Facts down;
  down.problem = "gone";
  world.look(down);
  CHECK(cluster(200)["sites"][0]["nodes"].size() == 3);
}

TEST_CASE("/cluster: however many ask, the peers are asked once") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(2), true));
  std::mutex mutex;
  std::vector<std::function<void(Http_Reply)>> held;
  Config config;
  config.node.peer_timeout = 20s;
  const Served served(
      world, config,
      [&](const Node&, const std::string&, Time, std::function<void(Http_Reply)> done) {
        const std::lock_guard lock(mutex);
        held.push_back(std::move(done));
      });
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0;
  for (int i = 0; i < 20; ++i) {
    clients.emplace_back([&] {
      const auto response = served.ask("GET", "/cluster");
      if (response.body.find("\"realPrimary\":\"n1\"") != std::string::npos) ++answered;
    });
  }
  CHECK(eventually(10, [&] {
    const std::lock_guard lock(mutex);
    return !held.empty();
  }));
  CHECK(served.ask("GET", "/state").status == 202);  // nobody waits for them
  {
    const std::lock_guard lock(mutex);
    CHECK(held.size() == 1);
    held[0]({200, R"({"name":"n1","state":"Primary"})", "", {}});
    held.clear();
  }
  // Those who came too late for that answer, if any, start another.
  CHECK(eventually(20, [&] {
    const std::lock_guard lock(mutex);
    for (auto& done : std::exchange(held, {}))
      done({200, R"({"name":"n1","state":"Primary"})", "", {}});
    return answered == 20;
  }));
  for (auto& client : clients) client.join();
}

TEST_CASE("/metrics tells the state, the votes, the peers and the requests") {
  World world;
  const Served served(world);
  world.names("n2", "n1");
  auto nodes = make_site(3);
  nodes[2].name = "n\"3\\\n\xff";
  world.look(make_facts(nodes));
  served.ask("GET", "/state");
  served.ask("GET", "/nope");
  const auto response = served.ask("GET", "/metrics");
  CHECK(response.status == 200);
  CHECK(response.get_header_value("Content-Type") == "text/plain; version=0.0.4; charset=utf-8");
  const auto has = [&](const std::string& line) {
    INFO(response.body);
    CHECK(response.body.find("\n" + line + "\n") != std::string::npos);
  };
  has(R"(primgr_state{state="Primary"} 1)");
  has(R"(primgr_state{state="Down"} 0)");
  has("primgr_votes 2");
  has("primgr_votes_needed 2");
  has("primgr_voters 3");
  has("primgr_vote_lease_seconds 2.97");
  has("primgr_claimants 1");
  has(R"(primgr_peer_requests_total{peer="n2",question="vote",result="ok"} 1)");
  has("primgr_peer_requests_total{peer=\"n\\\"3\\\\\\n\xef\xbf\xbd\",question=\"vote\",result="
      "\"failed\"} 1");
  has("primgr_refresh_seconds_count 1");
  has("primgr_database_errors_total 0");
  has(R"(primgr_http_requests_total{path="/state",code="200"} 1)");
  has(R"(primgr_http_requests_total{path="other",code="404"} 1)");
  CHECK(response.body.find("replay_lag") == std::string::npos);
  world.look(standby_facts(2000, 1500, 1000));
  const std::string standby = served.ask("GET", "/metrics").body;
  CHECK(standby.find("\nprimgr_replay_lag_bytes 1000\n") != std::string::npos);
  CHECK(standby.find("\nprimgr_receive_lag_bytes 500\n") != std::string::npos);
  CHECK(standby.find("\nprimgr_votes ") == std::string::npos);
}

TEST_CASE("/ is a page for a browser, and its status is that of /state") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  const auto ask = [&](const char* accept) { return served.ask("GET", "/", {{"Accept", accept}}); };
  for (const char* accept :
       {"*/*", "application/json", "application/json, text/html", "text/plain"}) {
    CAPTURE(accept);
    CHECK(ask(accept).body == R"({"state":"Standby"})");
  }
  const auto shown = ask("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
  CHECK(shown.status == 202);
  CHECK(shown.body == page);
  CHECK(shown.get_header_value("Content-Type") == "text/html; charset=utf-8");
  CHECK(shown.get_header_value("Vary") == "Accept");
  const std::string policy = shown.get_header_value("Content-Security-Policy");
  CHECK(policy.starts_with("default-src 'none'; style-src 'sha256-"));
  CHECK(policy.find("unsafe") == std::string::npos);
  CHECK(served.ask("HEAD", "/", {{"Accept", "text/html"}}).status == 202);
  // The policy knows the one style and the one script by their tags.
  for (const char* tag : {"<style", "<script"}) {
    CHECK(count(std::string(page), tag) == 1);
    CHECK(count(std::string(page), std::string(tag) + ">") == 1);
  }
  // Nothing is fetched from elsewhere.
  CHECK(page.find("src=") == page.npos);
  CHECK(page.find("@import") == page.npos);
  CHECK(page.find("innerHTML") == page.npos);
}

TEST_CASE("--status: a table, and in words what is not as it should be") {
  const Json cluster = Json::parse(R"json({"from":"n2","at":"now","realPrimary":"n1","sites":[
    {"site":"default","nodes":[
      {"name":"n1","role":"primary","reachable":true,"state":"Primary","stateSeconds":61,
       "reason":"a majority votes for it (why)","votes":{"counted":2,"of":3},"timeline":2,
       "position":"0/3","nodesAgeSeconds":75,"nodesProblem":"locked"},
      {"name":"n2","role":"standby","reachable":true,"state":"Standby","stateSeconds":1,
       "replication":{"streaming":true,"replayLagBytes":20480,"replayLagSeconds":1.5,
                      "replayPaused":true,"problem":null}},
      {"name":"n\u001b[31m3","role":"standby","reachable":false,"error":"refused"},
      {"name":"n4","reachable":true,"state":"Standby","replication":{"problem":"no receiver"}}]}]})json");
  const std::string text = print_status(cluster, false);
  INFO(text);
  CHECK(text.find(
            " default | n1         | primary | Primary     | 1 min 1 s | 2 of 3 | 2        | 0/3 "
            "     |\n") != std::string::npos);
  CHECK(text.find("20 kB, 1.5 s\n") != std::string::npos);
  CHECK(text.find("\nn1: votes are missing: a majority votes for it (why)\n") != std::string::npos);
  CHECK(text.find("\nn1: repmgr.nodes is blocked (locked): the list of 1 min 15 s ago stands\n") !=
        std::string::npos);
  CHECK(text.find("\nn2: replay is paused\n") != std::string::npos);
  CHECK(text.find("\nn\\x1b[31m3: unreachable: refused\n") != std::string::npos);
  CHECK(text.find("\nn4: no receiver\n") != std::string::npos);
  CHECK(text.ends_with("\nPrimary: n1 (seen from n2 at now)\n"));
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(print_status(cluster, true).find("\x1b[1;32mPrimary\x1b[0m") != std::string::npos);
  // Anything may come from elsewhere.
  for (
      const char* hostile :
      {"null", "[]", "{}", R"({"sites":[1,{},{"nodes":3},{"nodes":[1,null,{"name":{}}]}]})",
       R"({"sites":[{"site":1,"nodes":[{"reachable":true,"state":[],"votes":{"counted":"x","of":1e300},)"
       R"("stateSeconds":1e308,"timeline":-1e300,"replication":[]}]}],"claimants":[1,"a"]})"}) {
    CAPTURE(hostile);
    CHECK_FALSE(print_status(Json::parse(hostile), true).empty());
  }
}

TEST_CASE("--url") {
  CHECK(parse_url("http://db1").address.port == 5999);
  CHECK_FALSE(parse_url("http://db1:80/").tls);
  CHECK(parse_url("https://[::1]:7").tls);
  CHECK(parse_url("https://[::1]:7").address.host == "::1");
  for (const char* url :
       {"", "db1:5999", "ftp://x", "http://", "http://a/b", "http://a:b", "http://u@h"}) {
    CAPTURE(url);
    CHECK_THROWS_AS(parse_url(url), Config_Error);
  }
}

TEST_CASE("each line of the log as JSON") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const int before = dup(STDERR_FILENO);
  dup2(ends[1], STDERR_FILENO);
  Stderr_Log(Log_Level::info, Log_Format::json)(Log_Level::warning, "a \"b\"\n\xff");
  dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(ends[1]);
  char text[512];
  const ssize_t n = read(ends[0], text, sizeof text);
  ::close(ends[0]);
  REQUIRE(n > 0);
  std::string line(text, static_cast<std::size_t>(n));
  CHECK(line.ends_with("}\n"));
  CHECK(count(line, "\n") == 1);
  if (line.starts_with("<")) line.erase(0, 3);  // under a journal
  const Json told = Json::parse(line);
  CHECK(told["level"] == "warning");
  CHECK(told["message"] == "a \"b\"\n\xef\xbf\xbd");
  CHECK(told["time"].get<std::string>().size() == 24);
}

namespace {

// Standard error is `fd` while this lives; where it is not read, the log is made meanwhile.
class Standard_Error {
 public:
  explicit Standard_Error(int fd) : before_(dup(STDERR_FILENO)) { dup2(fd, STDERR_FILENO); }
  ~Standard_Error() {
    dup2(before_, STDERR_FILENO);
    ::close(before_);
  }
  Standard_Error(const Standard_Error&) = delete;
  Standard_Error& operator=(const Standard_Error&) = delete;

 private:
  const int before_;
};

// What can be read from `fd` without waiting.
std::string read_all(int fd) {
  std::string all;
  char buffer[4096];
  pollfd ready{fd, POLLIN, 0};
  while (::poll(&ready, 1, 0) > 0) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n <= 0) break;
    all.append(buffer, static_cast<std::size_t>(n));
  }
  return all;
}

}  // namespace

TEST_CASE("the log does not wait for who reads it, and says how many lines were lost") {
  for (const std::string kind : {"pipe", "socket", "terminal"}) {
    CAPTURE(kind);
    int ends[2];  // to read from, to write to
    if (kind == "pipe") {
      REQUIRE(pipe(ends) == 0);
      fcntl(ends[1], F_SETPIPE_SZ, 4096);
    } else if (kind == "socket") {
      REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
      const int size = 4096;
      setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    } else {
      ends[0] = posix_openpt(O_RDWR | O_NOCTTY);
      REQUIRE(grantpt(ends[0]) == 0);
      REQUIRE(unlockpt(ends[0]) == 0);
      ends[1] = open(ptsname(ends[0]), O_RDWR | O_NOCTTY);
      REQUIRE(ends[1] >= 0);
    }
    std::string told;
    {
      const Standard_Error to(ends[1]);
      const Stderr_Log log(Log_Level::info);
      std::atomic<bool> done = false;
      std::thread writer([&] {
        for (int i = 0; i < 2000; ++i) log(Log_Level::info, std::string(100, 'x'));
        done = true;
      });
      const bool went_on = eventually(20, [&] { return done.load(); });
      while (!done) told += read_all(ends[0]);
      writer.join();
      CHECK(went_on);
      told += read_all(ends[0]);
      // A line that was torn is ended before the next.
      CHECK(eventually(20, [&] {
        log(Log_Level::info, "after");
        told += read_all(ends[0]);
        return told.find("info: after") != told.npos;
      }));
    }
    INFO(told);
    std::size_t taken = 0, lost = 0, others = 0;
    std::istringstream lines(told);
    for (std::string line; std::getline(lines, line);) {
      if (line.ends_with('\r')) line.pop_back();
      const auto at = line.find(": ");
      REQUIRE(at != line.npos);
      const std::string message = line.substr(at + 2);
      if (message == std::string(100, 'x')) {
        ++taken;
      } else if (message.find(" lines of this log were lost") != message.npos) {
        lost += std::stoul(message);
      } else {
        CHECK(message == "after");
        ++others;
      }
    }
    CHECK(others > 0);
    CHECK(taken > 0);
    CHECK(lost >= 2000 - taken);  // some that come after, too
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

TEST_CASE("a line of the log fits into a pipe, and stays JSON") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  for (const Log_Format format : {Log_Format::text, Log_Format::json}) {
    for (const std::string& part : {std::string("a"), std::string("\x01"), std::string("€")}) {
      std::string message;
      while (message.size() < 9000) message += part;
      const Standard_Error to(ends[1]);
      Stderr_Log(Log_Level::info, format)(Log_Level::info, message);
      const std::string line = read_all(ends[0]);
      INFO(line);
      CHECK(line.size() <= PIPE_BUF);
      CHECK(line.size() > PIPE_BUF - 100);
      CHECK(line.find("...") != line.npos);
      CHECK(line.ends_with('\n'));
      if (format == Log_Format::json) CHECK(Json::parse(line.substr(line.find('{'))).is_object());
    }
  }
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("other methods are 405, other paths 404, both in JSON") {
  World world;
  const Served served(world);
  for (const char* method : {"POST", "PUT", "DELETE", "PATCH", "TRACE"}) {
    CAPTURE(method);
    const auto response = served.ask(method, "/state");
    CHECK(response.status == 405);
    CHECK(response.get_header_value("Allow") == "GET, HEAD, OPTIONS");
    CHECK(Json::accept(response.body));
  }
  CHECK(served.raw("FROB /state HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
  for (const char* path : {"/nope", "/state/", "/State", "//state", "/state%00", "/..", "*"}) {
    CAPTURE(path);
    const auto response = served.ask("GET", path);
    CHECK(response.status == 404);
    CHECK(Json::accept(response.body));
  }
  CHECK(served.ask("GET", "/state?x=y#z").status == 503);
}

namespace {

// A connection to `port`, from an address of the loopback network.
int connect_from(const char* from, int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  REQUIRE(inet_pton(AF_INET, from, &address.sin_addr) == 1);
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

// Connects, and waits 20 s at most for anything; -1 if that fails. For threads, where a test cannot
// be ended.
int try_connect(const char* from, int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  inet_pton(AF_INET, from, &address.sin_addr);
  const timeval patience{20, 0};
  bool done = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
              ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  done = done && ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  if (done) return fd;
  ::close(fd);
  return -1;
}

// A check as a load balancer makes it, from that address; what came, nothing for none.
std::string check_from(const char* from, int port) {
  static constexpr std::string_view check = "OPTIONS /state HTTP/1.0\r\n\r\n";
  const int fd = try_connect(from, port);
  if (fd < 0) return {};
  ::send(fd, check.data(), check.size(), MSG_NOSIGNAL);
  const std::string all = read_answer(fd);
  ::close(fd);
  return all;
}

// Threads that ask one thing from one address without end, while this lives. `open`: each leaves so
// many of its connections open.
class Crowd {
 public:
  Crowd(const char* from, int port, std::string request, int threads, std::size_t open = 0) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([=, this] {
        std::deque<int> left;
        while (!ending_) {
          const int fd = try_connect(from, port);
          if (fd < 0) {
            std::this_thread::sleep_for(1ms);
            continue;
          }
          ::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
          left.push_back(fd);
          if (left.size() <= open) continue;
          if (open == 0) took(read_answer(left.front()));
          ::close(left.front());
          left.pop_front();
        }
        for (const int fd : left) ::close(fd);
      });
    }
  }
  ~Crowd() { end(); }
  void end() {
    ending_ = true;
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }
  // How many answers with that in them there were.
  std::size_t answers(const std::string& with) const {
    const std::lock_guard lock(mutex_);
    std::size_t n = 0;
    for (const auto& [answer, times] : answers_) n += answer.find(with) == answer.npos ? 0 : times;
    return n;
  }

 private:
  void took(const std::string& answer) {
    const std::lock_guard lock(mutex_);
    ++answers_[answer];
  }
  std::atomic<bool> ending_ = false;
  mutable std::mutex mutex_;
  std::map<std::string, std::size_t> answers_;
  std::vector<std::thread> threads_;
};

// Whether the other side has ended the connection.
bool is_ended(int fd) {
  char buffer[512];
  ssize_t n;
  while ((n = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0) {
  }
  return n == 0 || errno != EAGAIN;
}

}  // namespace

TEST_CASE("of many connections from one address, the longest waiting end; others are not touched") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  Config config;
  config.http_threads = 1;  // 32 connections at a time, 8 from an address
  const Served served(world, config);
  const int other = connect_from("127.0.0.3", served.port);
  std::vector<int> fds;
  for (int i = 0; i < 100; ++i) {
    fds.push_back(connect_from("127.0.0.2", served.port));
    if (i % 2) CHECK(::send(fds.back(), "GET /sta", 8, MSG_NOSIGNAL) == 8);
  }
  // Served while they are all there.
  CHECK(served.ask("GET", "/state").status == 202);
  CHECK(eventually(30, [&] { return std::count_if(fds.begin(), fds.end(), is_ended) == 92; }));
  CHECK(std::none_of(fds.end() - 8, fds.end(), is_ended));
  CHECK_FALSE(is_ended(other));
  CHECK(::send(other, "GET /state HTTP/1.1\r\n\r\n", 23, MSG_NOSIGNAL) == 23);
  char answer[15] = "";
  CHECK(::recv(other, answer, 12, MSG_WAITALL) == 12);
  CHECK(std::string(answer) == "HTTP/1.1 202");
  fds.push_back(other);
  for (const int fd : fds) ::close(fd);
}

TEST_CASE("of those who wait for something, a few of each address may") {
  Waiting waiting(3, 2);
  std::optional<Waiting::Place> first(std::in_place, waiting, "a");
  const Waiting::Place second(waiting, "a");
  CHECK(bool(*first));
  CHECK(bool(second));
  CHECK_FALSE(bool(Waiting::Place(waiting, "a")));
  const Waiting::Place other(waiting, "b");
  CHECK(bool(other));
  CHECK_FALSE(bool(Waiting::Place(waiting, "c")));
  first.reset();
  CHECK(bool(Waiting::Place(waiting, "c")));
  CHECK(bool(Waiting::Place(waiting, "a")));
}

TEST_CASE("who asks for /cluster holds nothing that a check needs") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(2), true));
  std::mutex mutex;
  bool silent = true;
  std::vector<std::function<void(Http_Reply)>> held;
  const Http_Reply told{200, R"({"name":"n1","state":"Primary"})", "", {}};
  Config config;
  config.http_threads = 1;  // 32 connections at a time, 8 from an address
  config.node.peer_timeout = 1min;
  const Served served(
      world, config,
      [&](const Node&, const std::string&, Time, std::function<void(Http_Reply)> done) {
        {
          const std::lock_guard lock(mutex);
          if (silent) return held.push_back(std::move(done));
        }
        done(told);
      });
  Crowd crowd("127.0.0.2", served.port, "GET /cluster HTTP/1.1\r\nConnection: close\r\n\r\n", 60);
  CHECK(eventually(20, [&] { return crowd.answers("\r\nRetry-After: 60\r\n") >= 100; }));
  // The peer is silent all the while: who waits for it is still there.
  int answered = 0;
  for (int i = 0; i < 50; ++i)
    answered += check_from("127.0.0.3", served.port).starts_with("HTTP/1.1 202");
  CHECK(answered == 50);
  // Another address may wait for the same collection.
  std::thread other([&] {
    const auto response = served.ask("GET", "/cluster");
    CHECK(response.status == 200);
    CHECK(Json::parse(response.body)["realPrimary"] == "n1");
  });
  CHECK(crowd.answers("\"sites\"") == 0);
  {
    const std::lock_guard lock(mutex);
    silent = false;
    CHECK(held.size() == 1);
    for (auto& done : held) done(told);
  }
  other.join();
  CHECK(eventually(20, [&] { return crowd.answers("\"realPrimary\":\"n1\"") > 0; }));
  // The last answer is for those who may not wait, while it is recent.
  {
    const std::lock_guard lock(mutex);
    silent = true;
    held.clear();
  }
  CHECK(eventually(20, [&] {
    const std::lock_guard lock(mutex);
    return !held.empty();
  }));
  const std::size_t before = crowd.answers("\"realPrimary\":\"n1\"");
  CHECK(eventually(20, [&] { return crowd.answers("\"realPrimary\":\"n1\"") > before + 100; }));
  {
    const std::lock_guard lock(mutex);
    silent = false;
    for (auto& done : held) done(told);
  }
  crowd.end();
}

TEST_CASE("who asks for a vote that cannot be written holds nothing that a check needs") {
  std::promise<void> let_go;
  const auto written = let_go.get_future().share();
  std::atomic<int> saving = 0;
  World world(World::named("n2"), {[] { return Grant{}; },
                                   [&](const Grant& grant, Deadline) {
                                     ++saving;
                                     written.wait();
                                     return grant;
                                   }});
  world.look(make_facts(make_site(3), true));
  Config config;
  config.http_threads = 1;
  const Served served(world, config);
  Crowd crowd("127.0.0.2", served.port,
              "GET /primary?candidate=n1 HTTP/1.1\r\nConnection: close\r\n\r\n", 60);
  CHECK(eventually(20, [&] { return crowd.answers("HTTP/1.1 503 ") >= 100; }));
  int answered = 0;
  for (int i = 0; i < 50; ++i)
    answered += check_from("127.0.0.3", served.port).starts_with("HTTP/1.1 202");
  CHECK(answered == 50);
  CHECK(saving == 1);
  CHECK(crowd.answers("HTTP/1.1 200 ") == 0);
  let_go.set_value();
  CHECK(eventually(20, [&] { return crowd.answers("HTTP/1.1 200 ") > 0; }));
}

TEST_CASE("a pool of threads: what a job throws is lost, and the pool is not") {
  std::atomic<int> done = 0;
  {
    Threads threads({2, 4, 256 * 1024, 0});
    for (int i = 0; i < 20; ++i) {
      threads.run([&] {
        ++done;
        throw std::bad_alloc();
      });
    }
  }
  CHECK(done == 20);
  // There is no room for more than `least`: the jobs are done all the same, in turn.
  {
    Threads threads({1, 4, 256 * 1024, std::size_t{1} << 62});
    for (int i = 0; i < 20; ++i) threads.run([&] { ++done; });
  }
  CHECK(done == 40);
}

TEST_CASE("of connections from many addresses too, the longest waiting ends") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  Config config;
  config.http_threads = 1;
  const Served served(world, config);
  std::vector<int> fds;
  for (int i = 0; i < 40; ++i) {
    fds.push_back(connect_from(("127.0.1." + std::to_string(1 + i)).c_str(), served.port));
  }
  CHECK(eventually(30, [&] { return std::count_if(fds.begin(), fds.end(), is_ended) == 8; }));
  CHECK(std::all_of(fds.begin(), fds.begin() + 8, is_ended));
  CHECK(served.ask("GET", "/state").status == 202);
  for (const int fd : fds) ::close(fd);
}

TEST_CASE("clients never have more than half of the file descriptors") {
  World world(World::named("n2"));
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit few{48, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &few);
  const Served served(world);  // 24 connections at a time, 6 from an address
  setrlimit(RLIMIT_NOFILE, &before);
  std::vector<int> fds;
  for (int i = 0; i < 40; ++i) {
    fds.push_back(connect_from(("127.0.1." + std::to_string(1 + i)).c_str(), served.port));
  }
  CHECK(eventually(30, [&] { return std::count_if(fds.begin(), fds.end(), is_ended) == 16; }));
  for (const int fd : fds) ::close(fd);
}

TEST_CASE("a request has one deadline, however steadily its bytes come") {
  World world;
  const Served served(world);
  const int fd = connect_from("127.0.0.2", served.port);
  // A byte every 100 ms: a deadline for each read would never come.
  const bool ended = eventually(60, [&] {
    std::this_thread::sleep_for(100ms);
    ::send(fd, "x", 1, MSG_NOSIGNAL);
    return is_ended(fd);
  });
  CHECK(ended);
  ::close(fd);
}

TEST_CASE("requests that come at once are answered in turn") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  const std::string get = "GET /state HTTP/1.1\r\n\r\n";
  const auto answers = [&](const std::string& bytes) {
    const std::string all = served.raw(bytes);
    std::size_t n = 0;
    for (auto at = all.find("HTTP/1.1 "); at != all.npos; at = all.find("HTTP/1.1 ", at + 1)) ++n;
    return n;
  };
  CHECK(answers(get + get + get) == 3);
  CHECK(answers("GET /state HTTP/1.1\r\nConnection: close\r\n\r\n" + get) == 1);
}

TEST_CASE("a client that waits for 100 Continue is told to go on") {
  World world(World::named("n2"));
  const Served served(world);
  const int fd = connect_from("127.0.0.2", served.port);
  const std::string post =
      "POST /state HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
  REQUIRE(::send(fd, post.data(), post.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(post.size()));
  char answer[13] = "";
  CHECK(::recv(fd, answer, 12, MSG_WAITALL) == 12);
  CHECK(std::string(answer) == "HTTP/1.1 100");
  ::close(fd);
}

TEST_CASE("HAProxy's bare httpchk: OPTIONS / HTTP/1.0 without a Host header, then the end") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  const std::string answer = served.raw("OPTIONS / HTTP/1.0\r\n\r\n");
  CHECK(answer.starts_with("HTTP/1.1 202 "));
  CHECK(answer.ends_with("\r\n\r\n{\"state\":\"Standby\"}"));
}

namespace {

// An answer as it came.
struct Raw_Answer {
  int status = 0;
  std::string head, body;
};

// All answers that came on a connection. `without_body`: the first so many are to HEAD.
std::vector<Raw_Answer> parse_answers(std::string all, std::size_t without_body = 0) {
  INFO(all);
  std::vector<Raw_Answer> answers;
  while (!all.empty()) {
    Raw_Answer answer;
    const auto end = all.find("\r\n\r\n");
    REQUIRE(end != all.npos);
    REQUIRE(all.starts_with("HTTP/1.1 "));
    answer.status = std::stoi(all.substr(9, 3));
    answer.head = all.substr(0, end + 2);
    all.erase(0, end + 4);
    if (answer.status == 100) continue;
    const auto length = answer.head.find("\r\nContent-Length: ");
    REQUIRE(length != answer.head.npos);
    if (without_body > 0) {
      --without_body;
    } else {
      const auto size = std::stoul(answer.head.substr(length + 18));
      REQUIRE(all.size() >= size);
      answer.body = all.substr(0, size);
      all.erase(0, size);
    }
    answers.push_back(std::move(answer));
  }
  return answers;
}

struct Refused {
  int status;
  std::string bytes;
};

// Requests that are not understood, or not allowed: each is to get one answer, with this status,
// whatever follows it. Many hide a second request from one reader and not from another.
std::vector<Refused> refused_requests() {
  const std::string get = "GET /state HTTP/1.1\r\n", post = "POST /state HTTP/1.1\r\n";
  const std::string inner = "\r\n\r\nGET /node HTTP/1.1\r\n\r\n";
  const std::string chunked = get + "Transfer-Encoding: chunked\r\n\r\n";
  return {
      {400, "FROB /state HTTP/1.1\r\nGET /node HTTP/1.1\r\n\r\n"},
      {405, "FROB /state HTTP/1.1\r\n\r\n"},
      {405, "get /state HTTP/1.1\r\n\r\n"},
      {405, post + "Content-Length: 3\r\n\r\nabc"},
      {405, "CONNECT db1:5999 HTTP/1.1\r\n\r\n"},
      {400, get + "Content-Length: +36" + inner},
      {400, get + "Content-Length: 36x" + inner},
      {400, get + "Content-Length: 0x24" + inner},
      {400, get + "Content-Length: -1" + inner},
      {400, get + "Content-Length: 36, 36" + inner},
      {400, get + "Content-Length: " + inner},
      {400, get + "Content-Length: 3 6" + inner},
      {400, get + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"},
      {413, get + "Content-Length: 1025\r\n\r\n"},
      {413, get + "Content-Length: 18446744073709551617" + inner},
      {501, get + "Transfer-Encoding: gzip, chunked" + inner},
      {501, get + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked" + inner},
      {501, get + "Transfer-Encoding: identity" + inner},
      {501, get + "Transfer-Encoding: xchunked" + inner},
      {501, get + "Transfer-Encoding: chunked;q=1" + inner},
      {400, get + "Transfer-Encoding: chunked, chunked" + inner},
      {400, get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked" + inner},
      {400, get + "Transfer-Encoding:" + inner},
      {400, get + "Transfer-Encoding : chunked" + inner},
      {400, get +
                "Transfer-Encoding: \x0b"
                "chunked" +
                inner},
      {400, get + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"},
      {400, get + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"},
      {400, "GET /state HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {400, chunked + "zz\r\n"},
      {400, chunked + "-1\r\n\r\n"},
      {400, chunked + "0x3\r\nabc\r\n0\r\n\r\n"},
      {400, chunked + "3\nabc\r\n0\r\n\r\n"},
      {400, chunked + "3\r\nabcd\r\n0\r\n\r\n"},
      {400, chunked + "3\r\nabc\r0\r\n\r\n"},
      {400, chunked + "0\r\nno field\r\n\r\n"},
      {400, chunked + "0\r\nA: b\n\r\n\r\n"},
      {413, chunked + "401\r\n"},
      {413, chunked + "200\r\n" + std::string(512, 'x') + "\r\n201\r\n"},
      {413, chunked + "fffffffffffffffff\r\n"},
      {413, chunked + "1;" + std::string(9000, 'e')},
      {400, "GET /state HTTP/1.1\n\n"},
      {400, "GET /state HTTP/1.1\r\nA: b\n\r\n"},
      {400, "GET /state HTTP/1.1\r\nA: b\rC: d\r\n\r\n"},
      {400, get + std::string("A: b\0c\r\n\r\n", 10)},
      {400, get + "A: b\x7f\r\n\r\n"},
      {400, get + "A : b\r\n\r\n"},
      {400, get + " A: b\r\n\r\n"},
      {400, get + "A: b\r\n c\r\n\r\n"},
      {400, get + "A: b\r\n\tc\r\n\r\n"},
      {400, get + ": b\r\n\r\n"},
      {400, get + "A\r\n\r\n"},
      {400, get + "A(: b\r\n\r\n"},
      {400, get + "Host: a\r\nhost: a\r\n\r\n"},
      {400, get + "Host: a b\r\n\r\n"},
      {400, get + "Host: a/b\r\n\r\n"},
      {400, "rubbish\r\n"},
      {400, "GET\r\n\r\n"},
      {400, "GET /state\r\n\r\n"},
      {400, " GET /state HTTP/1.1\r\n\r\n"},
      {400, "GET  /state HTTP/1.1\r\n\r\n"},
      {400, "GET /state  HTTP/1.1\r\n\r\n"},
      {400, "GET /state HTTP/1.1 \r\n\r\n"},
      {400, "GET\t/state HTTP/1.1\r\n\r\n"},
      {400, "GET /st\tate HTTP/1.1\r\n\r\n"},
      {400, "GET /st\xc3\xa4te HTTP/1.1\r\n\r\n"},
      {400, "GET state HTTP/1.1\r\n\r\n"},
      {400, "GET ftp://db1/state HTTP/1.1\r\n\r\n"},
      {400, "GET http:///state HTTP/1.1\r\n\r\n"},
      {400, "GET http://u@db1/state HTTP/1.1\r\n\r\n"},
      {400, "GET /state http/1.1\r\n\r\n"},
      {400, "GET /state HTTP/1.10\r\n\r\n"},
      {400, "GET /state HTTP/1.x\r\n\r\n"},
      {505, "GET /state HTTP/9.9\r\n\r\n"},
      {505, "GET /state HTTP/0.9\r\n\r\n"},
      {505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
      {400, "\r\n\r\n\r\n\r\n\r\nGET /state HTTP/1.1\r\n\r\n"},
      {400, "\nGET /state HTTP/1.1\r\n\r\n"},
      {400, std::string(100, '\0')},
      {400, std::string("\x16\x03\x01\x02\x00\x01\x00", 7)},
      {414, std::string(5000, 'a')},
      {414, "GET /" + std::string(4096, 'a') + " HTTP/1.1\r\n\r\n"},
      {414, "GET /" + std::string(20'000, 'a')},
      {431, get + std::string(20'000, 'h') + ": x\r\n\r\n"},
      {431, get + "A: " + std::string(20'000, 'h')},
  };
}

}  // namespace

TEST_CASE("a request's head is understood to the byte, or refused, however it comes in") {
  // What is returned looks into `bytes`.
  const auto check = [](const std::string& bytes, int status) {
    INFO(bytes);
    // Of each part of it, what is known already does not change with what follows.
    Request_Head whole;
    for (std::size_t n = 0; n <= bytes.size(); n += bytes.size() < 2000 ? 1 : 61) {
      const Request_Head head = parse_head(std::string_view(bytes).substr(0, n));
      CAPTURE(n);
      CHECK_FALSE((head.size && head.status));
      if (whole.size || whole.status) {
        CHECK(head.size == whole.size);
        CHECK(head.status == whole.status);
      }
      whole = head;
    }
    whole = parse_head(bytes);
    CHECK(whole.status == status);
    return whole;
  };
  for (const Refused& refused : refused_requests()) {
    const Request_Head head = parse_head(refused.bytes);
    check(refused.bytes, head.status);
    CAPTURE(refused.bytes);
    CHECK((head.status == refused.status || (head.status == 0 && head.size > 0)));
  }
  const std::string plain = "GET /state?a=b HTTP/1.1\r\nHost: a:1\r\n\r\nGET";
  const Request_Head head = check(plain, 0);
  CHECK(head.size == 38);
  CHECK(head.method == "GET");
  CHECK(head.target == "/state?a=b");
  CHECK(head.keep_alive);
  CHECK(head.length == 0);
  CHECK_FALSE(check("GET / HTTP/1.1\r\nConnection: x ,, ClosE\r\n\r\n", 0).keep_alive);
  CHECK_FALSE(check("GET / HTTP/1.0\r\n\r\n", 0).keep_alive);
  CHECK(check("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 0).keep_alive);
  CHECK(check("GET / HTTP/1.2\r\n\r\n", 0).keep_alive);
  CHECK(check("GET / HTTP/1.1\r\nCONTENT-LENGTH:\t007 \r\n\r\n", 0).length == 7);
  CHECK(check("GET / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", 0).chunked);
  CHECK(check("GET / HTTP/1.1\r\nExpect: 100-Continue\r\n\r\n", 0).expects_continue);
  CHECK_FALSE(check("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", 0).expects_continue);
  CHECK(check("GET / HTTP/1.1\r\nAccept: a\r\naccept: b\r\n\r\n", 0).accept == "a,b");
  CHECK(served_target("/state?x") == "/state?x");
  CHECK(served_target("*") == "*");
  CHECK(served_target("HTTP://db1:5999/state?x") == "/state?x");
  CHECK(served_target("http://db1?x") == "?x");
  CHECK(served_target("https://db1") == "");
  for (const char* other :
       {"", "state", "http:/state", "http:///state", "http://u@db1/", "x://db1/"})
    CHECK_FALSE(served_target(other));
  CHECK(check("\r\n\r\nGET / HTTP/1.1\r\n\r\n", 0).size == 22);
  CHECK(check("GET /" + std::string(4080, 'a') + " HTTP/1.1\r\n\r\n", 0).size > 0);
  CHECK(check("GET / HTTP/1.1\r\nA: " + std::string(15'000, '\xe4') + "\r\n\r\n", 0).size > 0);
}

TEST_CASE("a chunked body is understood to the byte, or refused") {
  const auto parse = [](const std::string& bytes) {
    const Chunked_Body body = parse_chunked(bytes);
    return body.status ? -body.status : static_cast<int>(body.size);
  };
  CHECK(parse("0\r\n\r\nGET") == 5);
  CHECK(parse("3\r\nabc\r\n0\r\n\r\n") == 13);
  CHECK(parse("003 ; a=\"b\"\r\n\r\n\r\r\n0\r\nA: b\r\n\r\n") == 29);
  CHECK(parse("400\r\n" + std::string(1024, 'x') + "\r\n0\r\n\r\n") == 1036);
  const std::string whole = "3;x\r\nabc\r\nA\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
  for (std::size_t n = 0; n < whole.size(); ++n) CHECK(parse(whole.substr(0, n)) == 0);
  CHECK(parse(whole) == static_cast<int>(whole.size()));
}

TEST_CASE("what is not understood gets one answer, and the connection ends") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  const std::string get = "GET /state HTTP/1.1\r\n\r\n";
  const auto check = [](const std::string& all, const Refused& refused) {
    INFO("sent: " << refused.bytes << "\ngot: " << all);
    const auto answers = parse_answers(all);
    REQUIRE(answers.size() == 1);
    CHECK(answers[0].status == refused.status);
    CHECK(answers[0].head.find("\r\nConnection: close\r\n") != std::string::npos);
    CHECK(answers[0].head.find("\r\nContent-Type: application/json\r\n") != std::string::npos);
    CHECK(answers[0].head.find("\r\nCache-Control: no-store\r\n") != std::string::npos);
    const bool allow =
        answers[0].head.find("\r\nAllow: GET, HEAD, OPTIONS\r\n") != std::string::npos;
    CHECK(allow == (refused.status == 405));
    CHECK(Json::parse(answers[0].body).contains("error"));
  };
  for (const Refused& refused : refused_requests()) {
    check(served.raw(refused.bytes + get), refused);
    // The answer does not wait for more.
    const int fd = connect_from("127.0.0.2", served.port);
    REQUIRE(::send(fd, refused.bytes.data(), refused.bytes.size(), MSG_NOSIGNAL) > 0);
    const std::string answer = read_answer(fd);
    ::close(fd);
    check(answer, refused);
  }
  // After an answered request too.
  for (const Refused& refused : refused_requests()) {
    CAPTURE(refused.bytes);
    const auto answers = parse_answers(served.raw(get + refused.bytes + get));
    REQUIRE(answers.size() == 2);
    CHECK(answers[0].status == 202);
    CHECK(answers[1].status == refused.status);
  }
  // A request that its client cuts short is none.
  for (const std::string& part :
       {std::string("G"), std::string("GET /state HTTP/1.1\r\n"), get.substr(0, get.size() - 1),
        std::string("GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab")}) {
    check(served.raw(part), {400, part});
  }
  CHECK(served.raw("\r\n\r\n").empty());
  // HEAD never gets a body.
  for (const char* rest : {"\r\nA\r\n\r\n", "\r\nContent-Length: x\r\n\r\n", " \r\n\r\n"}) {
    CHECK(served.raw("HEAD /state HTTP/1.1" + std::string(rest) + get).ends_with("\r\n\r\n"));
  }
  CHECK(served.raw("HEAD /" + std::string(5000, 'a')).ends_with("\r\n\r\n"));
  CHECK(served.ask("GET", "/metrics")
            .body.find("\nprimgr_http_requests_total{path=\"other\",code=\"405\"} ") !=
        std::string::npos);
}

TEST_CASE("what is understood is answered, and the connection goes on") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  const std::string line = "GET /state HTTP/1.1\r\n", get = line + "\r\n";
  const std::string chunked = line + "Transfer-Encoding: chunked\r\n\r\n";
  for (const std::string& bytes : {
           get,
           "\r\n" + get,
           line + "Content-Length: 3\r\n\r\nabc",
           line + "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
           line + "Content-Length: 1024\r\n\r\n" + std::string(1024, '\r'),
           chunked + "0\r\n\r\n",
           chunked + "3;a\r\nGET\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
           line + "Accept: application/json,\r\n\r\n",
           line + "Accept: ,;q=x, \"\r\n\r\n",
           line + "Accept-Encoding: gzip, \xff\r\n\r\n",
           line + "Range: items=1-2\r\n\r\n",
           line + "Range: bytes=500-\r\n\r\n",
           line + "Range: bytes=0-1\r\n\r\n",
           line + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
           line + "X-Forwarded-For: x\r\nHost: [fe80::1]:5999\r\n\r\n",
           std::string("GET http://db1:5999/state HTTP/1.1\r\nHost: db2\r\n\r\n"),
           std::string("GET HTTPS://db1 HTTP/1.1\r\n\r\n"),
           std::string("OPTIONS http://db1?x=y HTTP/1.1\r\n\r\n"),
           std::string("GET /state#x HTTP/1.1\r\n\r\n"),
           std::string("GET /state HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
           std::string("GET /state HTTP/1.3\r\n\r\n"),
       }) {
    const std::string all = served.raw(bytes + get);
    INFO("sent: " << bytes << "\ngot: " << all);
    const auto answers = parse_answers(all);
    REQUIRE(answers.size() == 2);
    for (const Raw_Answer& answer : answers) {
      CHECK(answer.status == 202);
      CHECK(answer.body == R"({"state":"Standby"})");
    }
  }
  // HEAD's answer has no body; a path that there is not, and states, do not end the connection.
  auto answers = parse_answers(served.raw("HEAD /state HTTP/1.1\r\n\r\n" + get), 1);
  CHECK(answers.size() == 2);
  answers = parse_answers(served.raw("GET /nope HTTP/1.1\r\n\r\n" + get));
  REQUIRE(answers.size() == 2);
  CHECK(answers[0].status == 404);
  CHECK(answers[0].head.find("Connection: close") == std::string::npos);
  CHECK(parse_answers(served.raw("GET /state HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc" + get))
            .size() == 1);
}

TEST_CASE("who is refused is not reset before the answer is read") {
  World world;
  const Served served(world);
  // More than the buffers of both sides hold.
  const std::string post =
      "POST /state HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n" + std::string(8'000'000, 'x');
  const auto answers = parse_answers(served.raw(post));
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].status == 413);
}

TEST_CASE("Accept: a browser gets the page, whatever else is in it") {
  for (const char* page_wanted :
       {"text/html", "TEXT/HTML", "text/html;level=1", "text/html;q=0.5", ", ,text/html,",
        "text/html, application/json", "application/json;q=0.5, text/html;q=0.6",
        "x;q=y, text/html", "text/html;q=0.9, */*", "application/json;q=0, text/html;q=0.1",
        "\"\\, text/html"}) {
    CAPTURE(page_wanted);
    CHECK(wants_page(page_wanted));
  }
  for (const char* none :
       {"", "*/*", "text/*", "application/json,", "application/json, text/html", "text/html;q=0",
        "text/html;q=0.5, application/json", "text/html;q=x", "text/html;q=2", "text/html;q=nan",
        "text/html;q=-1", "text/htm", "text/html2", ";text/html", ",", ";q=1", "text/html;q="}) {
    CAPTURE(none);
    CHECK_FALSE(wants_page(none));
  }
}

TEST_CASE("every one of many clients that keep their connections is served") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0, leaving = 0;
  constexpr int many = 60;  // more than http_threads, and as many as may be from one address
  for (int i = 0; i < many; ++i) {
    clients.emplace_back([&] {
      httplib::Client client("127.0.0.1", served.port);
      client.set_keep_alive(true);
      client.set_read_timeout(20s);
      const auto result = client.Get("/state");
      answered += result && result->status == 202;
      ++leaving;
      while (leaving < many) std::this_thread::sleep_for(1ms);  // nobody makes room for another
    });
  }
  for (auto& client : clients) client.join();
  CHECK(answered == many);
}

TEST_CASE("a second server cannot have the port") {
  World world;
  const Served served(world);
  Http_Server second(served.config, world.node, served.tls, served.log);
  CHECK_FALSE(second.bind({"127.0.0.1", served.port}));
}

TEST_SUITE_END();

// ---- peers that misbehave -----------------------------------------------------------------------

namespace {

// A TCP server that does with each connection what the test says, in a thread a connection.
class Raw_Server {
 public:
  using Behave = std::function<void(int fd)>;
  explicit Raw_Server(Behave behave, in_addr_t address = INADDR_LOOPBACK, int backlog = 64)
      : behave_(std::move(behave)), fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(address);
    socklen_t size = sizeof at;
    REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&at), size) == 0);
    REQUIRE(::listen(fd_, backlog) == 0);
    REQUIRE(::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size) == 0);
    port_ = ntohs(at.sin_port);
    if (behave_) acceptor_ = std::thread([this] { accept(); });
  }
  ~Raw_Server() {
    ::shutdown(fd_, SHUT_RDWR);
    if (acceptor_.joinable()) acceptor_.join();
    for (const int fd : accepted_) ::shutdown(fd, SHUT_RDWR);  // ends what behave_ waits for
    for (auto& thread : threads_) thread.join();
    for (const int fd : accepted_) ::close(fd);
    ::close(fd_);
  }
  int port() const { return port_; }

 private:
  void accept() {
    for (int fd; (fd = ::accept(fd_, nullptr, nullptr)) >= 0;) {
      accepted_.push_back(fd);
      threads_.emplace_back([this, fd] {
        behave_(fd);
        ::shutdown(fd, SHUT_RDWR);
      });
    }
  }
  const Behave behave_;
  const int fd_;
  int port_ = 0;
  std::vector<int> accepted_;  // the acceptor's, then the destructor's
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

// Reads up to the end of the request's header.
void read_request(int fd) {
  std::string request;
  char byte;
  while (!request.ends_with("\r\n\r\n") && ::recv(fd, &byte, 1, 0) == 1) request += byte;
}

// Waits, without a deadline of its own, until the other side closes.
void wait_for_close(int fd) {
  char buffer[1024];
  while (::recv(fd, buffer, sizeof buffer, 0) > 0) {
  }
}

Raw_Server::Behave reply_with(std::string bytes) {
  return [bytes = std::move(bytes)](int fd) {
    read_request(fd);
    send_all(fd, bytes);
    ::shutdown(fd, SHUT_WR);
    wait_for_close(fd);
  };
}

std::string http_ok(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

// Sends a byte of `bytes` at a time, `pause` apart.
Raw_Server::Behave drip(std::string bytes, std::chrono::milliseconds pause) {
  return [=](int fd) {
    read_request(fd);
    for (const char byte : bytes) {
      if (!send_all(fd, {&byte, 1})) return;
      pollfd closed{fd, POLLIN, 0};
      if (::poll(&closed, 1, static_cast<int>(pause.count())) > 0) return;
    }
  };
}

// Sends without an end.
Raw_Server::Behave flood(std::string start, std::string repeated) {
  return [=](int fd) {
    read_request(fd);
    if (!send_all(fd, start)) return;
    while (send_all(fd, repeated)) {
    }
  };
}

struct Misbehaviour {
  const char* name;
  Raw_Server::Behave behave;
};

// What a peer may do instead of answering; none of it is a vote.
std::vector<Misbehaviour> misbehaviours() {
  const std::string vote = http_ok(R"({"Primary":"n1"})");
  return {
      {"silent", [](int fd) { wait_for_close(fd); }},
      {"closes at once", [](int) {}},
      {"drips its header", drip(vote, 100ms)},
      {"drips its body",
       drip("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + std::string(900, ' '), 20ms)},
      {"10 MB", flood("HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n{\"Primary\":\"n1\"}",
                      std::string(65536, ' '))},
      {"10 MB in chunks", flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                                "400\r\n" + std::string(1024, ' ') + "\r\n")},
      {"an endless body", flood("HTTP/1.1 200 OK\r\n\r\n", std::string(4096, ' '))},
      {"a header without end",
       flood("HTTP/1.1 200 OK\r\n", "X-Y: " + std::string(1000, 'z') + "\r\n")},
      {"a line without end", flood("HTTP/1.1 200 ", std::string(4096, 'z'))},
      {"interim replies without end", flood("", "HTTP/1.1 100 Continue\r\n\r\n")},
      {"huge Content-Length",
       reply_with("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{}")},
      {"negative Content-Length", reply_with("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}")},
      {"bad chunk", reply_with("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")},
      {"a redirect", reply_with("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n"
                                "Content-Length: 16\r\n\r\n{\"Primary\":\"n1\"}")},
      {"invalid JSON", reply_with(http_ok("{\"Primary\":\"n1\""))},
      {"a number", reply_with(http_ok(R"({"Primary":42})"))},
      {"deep JSON", reply_with(http_ok(std::string(1000, '[')))},
      {"too long by one", reply_with(http_ok(R"({"Primary":"n1"})" + std::string(1009, ' ')))},
      {"no HTTP", reply_with("220 mail.example.com ESMTP\r\n")},
      {"NUL bytes", reply_with(std::string(500, '\0'))},
      {"503", reply_with("HTTP/1.1 503 X\r\nContent-Length: 16\r\n\r\n{\"Primary\":\"n1\"}")},
  };
}

}  // namespace

TEST_SUITE_BEGIN("client");

namespace {

// Asks one peer, through the shipped client.
struct Asker {
  Http_Reply ask(const Address& address, Time timeout, const std::string& host = "") {
    Config asking = config;
    asking.peers["peer"] = address;
    const Stderr_Log log(Log_Level::error);
    const Tls tls(asking, log);
    Http_Client client(asking, resolver, tls);
    std::atomic<bool> done = false;
    Http_Reply reply;
    Node peer = make_node(1, "peer");
    if (!host.empty()) {
      asking.peers.clear();
      asking.peer_port = address.port;
      peer.host = host;
    }
    const auto start = Steady::now();
    client.get(peer, "/primary", timeout, [&](Http_Reply r) {
      reply = std::move(r);
      done = true;
    });
    CHECK(eventually(60, [&] { return done.load(); }));
    took = seconds_since(start);
    return reply;
  }
  Config config;
  Resolver resolver;
  double took = 0;
};

}  // namespace

TEST_CASE("a peer that answers") {
  Asker asker;
  std::string why;
  for (const std::string& good :
       {http_ok(R"({"Primary":"n1"})"), std::string("HTTP/1.0 200 OK\r\n\r\n{\"Primary\":\"n1\"}"),
        std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: "
                    "chunked\r\n\r\n10\r\n{\"Primary\":\"n1\"}\r\n0\r\n\r\n"),
        http_ok(R"({"Primary":"n1"})" + std::string(1008, ' ')),
        "HTTP/1.1 100 Continue\r\n\r\n" + http_ok(R"({"Primary":"n1"})")}) {
    CAPTURE(good);
    const Raw_Server server(reply_with(good));
    CHECK(http_node_reports_primary(asker.ask({"127.0.0.1", server.port()}, 5s), why) == "n1");
    CHECK(http_node_reports_primary(asker.ask({"x", server.port()}, 5s, "127.0.0.1"), why) == "n1");
  }
}

namespace {

// Certificates made on the spot: two authorities, and what each signed.
struct Certificates {
  Certificates() {
    sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9"
       " -subj /CN=ca -keyout ca.key -out ca.crt");
    sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9"
       " -subj /CN=ca -keyout other-ca.key -out other-ca.crt");
    sign("node", "ca", "IP:127.0.0.1,DNS:localhost");
    sign("elsewhere", "ca", "DNS:elsewhere.example");
    sign("stranger", "other-ca", "IP:127.0.0.1");
  }
  ~Certificates() { std::filesystem::remove_all(folder); }
  void sign(const std::string& name, const std::string& ca, const std::string& san,
            int days = 9) const {
    sh("openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=" + name +
       " -addext subjectAltName=" + san + " -keyout " + name + ".key -out " + name + ".csr");
    sh("openssl x509 -req -days " + std::to_string(days) + " -copy_extensions copy -in " + name +
       ".csr -CA " + ca + ".crt -CAkey " + ca + ".key -CAcreateserial -out " + name + ".crt");
  }
  void sh(const std::string& command) const {
    REQUIRE(std::system(("cd " + folder + " && { " + command + "; } >log 2>&1").c_str()) == 0);
  }
  Config config(const std::string& name, bool with_ca = true) const {
    Config made;
    made.tls_cert = folder + "/" + name + ".crt";
    made.tls_key = folder + "/" + name + ".key";
    if (with_ca) made.tls_ca = folder + "/ca.crt";
    return made;
  }
  const std::string folder = [] {
    char made[] = "/tmp/primgr-tls-XXXXXX";
    return std::string(mkdtemp(made));
  }();
};

}  // namespace

TEST_CASE("TLS: peers know each other by tls_ca; who has no such certificate learns nothing") {
  const Certificates certificates;
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world, certificates.config("node"));
  std::string why;
  const auto ask = [&](const Config& as, const std::string& host = "127.0.0.1") {
    Asker asker;
    asker.config = as;
    return http_node_reports_primary(asker.ask({host, served.port}, 10s), why);
  };
  CHECK(ask(certificates.config("node")) == "n1");
  CHECK(ask(certificates.config("node"), "localhost") == "n1");
  CHECK(ask(certificates.config("elsewhere")) == "n1");  // a client's name does not matter
  CHECK_FALSE(ask(certificates.config("stranger")));
  CHECK_FALSE(ask(Config()));  // plain HTTP
  Config trusting_another = certificates.config("node");
  trusting_another.tls_ca = certificates.folder + "/other-ca.crt";
  CHECK_FALSE(ask(trusting_another));
  CHECK(why.find("tls_ca") != std::string::npos);
  // No certificate at all.
  httplib::SSLClient nobody("127.0.0.1", served.port);
  nobody.enable_server_certificate_verification(false);
  CHECK_FALSE(nobody.Get("/state"));
  // A server is to be who it was asked as.
  const Served impostor(world, certificates.config("elsewhere"));
  Asker asker;
  asker.config = certificates.config("node");
  CHECK_FALSE(http_node_reports_primary(asker.ask({"127.0.0.1", impostor.port}, 10s), why));
  CHECK(why.find("another host") != std::string::npos);
}

TEST_CASE("TLS without tls_ca: any client, no peer is verified; nothing below TLS 1.2") {
  const Certificates certificates;
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world, certificates.config("node", false));
  httplib::SSLClient client("127.0.0.1", served.port);
  client.set_ca_cert_path(certificates.folder + "/ca.crt");
  const auto answer = client.Get("/state");
  REQUIRE(answer);
  CHECK(answer->status == 202);
  Asker asker;
  asker.config = certificates.config("stranger", false);
  CHECK(asker.ask({"127.0.0.1", served.port}, 10s).status == 200);
  httplib::SSLClient old("127.0.0.1", served.port);
  old.enable_server_certificate_verification(false);
  auto* context = static_cast<SSL_CTX*>(old.tls_context());
  SSL_CTX_set_security_level(context, 0);
  REQUIRE(SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION));
  CHECK_FALSE(old.Get("/state"));
}

TEST_CASE("TLS: files that change are read again, and what is no pair leaves the old in use") {
  const Certificates certificates;
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  Served served(world, certificates.config("node", false));
  const auto shown = [&] {
    httplib::SSLClient client("127.0.0.1", served.port);
    client.enable_server_certificate_verification(false);
    std::string name;
    client.set_session_verifier([&](httplib::tls::session_t session) {
      X509* cert = SSL_get1_peer_certificate(static_cast<SSL*>(session));
      char text[64] = "";
      X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, text, sizeof text);
      X509_free(cert);
      name = text;
      return httplib::SSLVerifierResponse::NoDecisionMade;
    });
    CHECK(client.Get("/state"));
    return name;
  };
  CHECK(shown() == "node");
  served.tls.renew(false);
  certificates.sh("cp elsewhere.crt node.crt");
  served.tls.renew(false);
  CHECK(shown() == "node");
  certificates.sh("cp elsewhere.key node.key");
  served.tls.renew(false);
  CHECK(shown() == "elsewhere");
}

namespace {

// A node that asks itself over TLS, with one set of files for both directions.
struct Both_Ways {
  explicit Both_Ways(const Config& config)
      : world(World::named("n2")),
        served(world, config),
        client(served.config, resolver, served.tls) {
    world.look(make_facts(make_site(3), true));
    served.config.peer_port = served.port;
  }
  Http_Reply ask(const std::string& host = "127.0.0.1") {
    Node peer = make_node(1, "peer");
    peer.host = host;
    std::promise<Http_Reply> reply;
    client.get(peer, "/primary", 20s, [&](Http_Reply r) { reply.set_value(std::move(r)); });
    return reply.get_future().get();
  }
  World world;
  Served served;
  Resolver resolver;
  Http_Client client;
};

}  // namespace

TEST_CASE("TLS: what does not fit together is used in neither direction, what does in both") {
  const Certificates certificates;
  certificates.sh("mkdir used");
  const auto use = [&](const std::string& cert, const std::string& key, const std::string& ca) {
    certificates.sh("rm -rf used/*; cp " + cert + " used/crt; cp " + key + " used/key; cp " + ca +
                    " used/ca");
  };
  use("node.crt", "node.key", "ca.crt");
  Config config;
  config.tls_cert = certificates.folder + "/used/crt";
  config.tls_key = certificates.folder + "/used/key";
  config.tls_ca = certificates.folder + "/used/ca";
  Both_Ways both(config);
  REQUIRE(both.ask().status == 200);
  const auto in_use = both.served.tls.context();

  std::atomic<bool> ending = false;
  std::mutex mutex;
  std::set<std::string> failures;  // of questions that go on all the while
  std::thread asking([&] {
    while (!ending) {
      if (const Http_Reply reply = both.ask(); reply.status != 200) {
        const std::lock_guard lock(mutex);
        failures.insert(reply.error);
      }
    }
  });
  certificates.sh("cat node.crt ca.crt >chain.crt; cat ca.crt ca.crt >ca2.crt");
  certificates.sign("expired", "ca", "IP:127.0.0.1", -1);
  for (const std::string change : {"cp elsewhere.crt used/crt",
                                   "cp elsewhere.key used/key",
                                   "cp stranger.crt used/crt",
                                   "rm used/ca",
                                   "rm used/crt",
                                   "rm used/key",
                                   "rm used/*",
                                   ": >used/ca",
                                   ": >used/crt",
                                   ": >used/key",
                                   "cp node.key used/ca",
                                   "cp node.crt used/key",
                                   "head -c 300 node.crt >used/crt",
                                   "head -c 150 node.key >used/key",
                                   "head -c 300 ca.crt >used/ca",
                                   "head -c -40 chain.crt >used/crt",
                                   "head -c -40 ca2.crt >used/ca",
                                   "rm used/ca; mkfifo used/ca",
                                   "rm used/key; mkdir used/key",
                                   "cp other-ca.crt used/ca",
                                   "cp stranger.crt used/crt; cp stranger.key used/key",
                                   "cp expired.crt used/crt; cp expired.key used/key"}) {
    CAPTURE(change);
    use("node.crt", "node.key", "ca.crt");
    certificates.sh(change);
    for (const bool now : {false, true}) {
      both.served.tls.renew(now);
      const Http_Reply reply = both.ask();
      CAPTURE(reply.error);
      CHECK(reply.status == 200);
      CHECK(both.served.tls.context() == in_use);
    }
  }
  ending = true;
  asking.join();
  for (const std::string& failure : failures) FAIL_CHECK(failure);

  // All of it is another authority's now: in both directions, or the question would fail.
  use("stranger.crt", "stranger.key", "other-ca.crt");
  both.served.tls.renew(false);
  const Http_Reply reply = both.ask();
  CAPTURE(reply.error);
  CHECK(reply.status == 200);
  Asker old;
  old.config = certificates.config("node");
  CHECK(old.ask({"127.0.0.1", both.served.port}, 20s).error.find("not signed by tls_ca") !=
        std::string::npos);
}

TEST_CASE("TLS: certificates in between are shown in both directions") {
  const Certificates certificates;
  certificates.sh(
      "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=between"
      " -addext basicConstraints=critical,CA:TRUE -keyout between.key -out between.csr");
  certificates.sh(
      "openssl x509 -req -days 9 -copy_extensions copy -in between.csr -CA ca.crt"
      " -CAkey ca.key -CAcreateserial -out between.crt");
  certificates.sign("leaf", "between", "IP:127.0.0.1");
  certificates.sh("cat leaf.crt between.crt >chained.crt; cp leaf.key chained.key");
  Both_Ways chained(certificates.config("chained"));
  const Http_Reply reply = chained.ask();
  CAPTURE(reply.error);
  CHECK(reply.status == 200);
  // Who does not show it is not known: as a server, and as a client.
  Both_Ways alone(certificates.config("leaf"));
  CHECK(alone.ask().error.find("not signed by tls_ca") != std::string::npos);
  Asker asker;
  asker.config = certificates.config("leaf");
  CHECK(asker.ask({"127.0.0.1", chained.served.port}, 20s).status == 0);
}

TEST_CASE("TLS: the system's authorities are not believed where tls_ca is set") {
  const Certificates certificates;
  // OpenSSL's own place for them.
  setenv("SSL_CERT_FILE", (certificates.folder + "/other-ca.crt").c_str(), 1);
  World world(World::named("n2"));
  const Served impostor(world, certificates.config("stranger", false));
  Asker asker;
  asker.config = certificates.config("node");
  CHECK(asker.ask({"127.0.0.1", impostor.port}, 20s).error.find("not signed by tls_ca") !=
        std::string::npos);
  unsetenv("SSL_CERT_FILE");
}

TEST_CASE("TLS: files that cannot be used are named") {
  const Certificates certificates;
  const Stderr_Log log(Log_Level::error);
  const auto error_with = [&](const Config& config) {
    return error_of([&] { const Tls tls(config, log); });
  };
  Config config = certificates.config("node");
  config.tls_cert = "/nonexistent";
  CHECK(error_with(config).find("tls_cert: ") == 0);
  config = certificates.config("node");
  config.tls_key = certificates.folder + "/stranger.key";
  CHECK(error_with(config).find("tls_key: " + config.tls_key +
                                " is not the key of the certificate in " + config.tls_cert) == 0);
  certificates.sh("openssl ec -in node.key -aes128 -passout pass:x -out locked.key");
  config.tls_key = certificates.folder + "/locked.key";
  CHECK(error_with(config).find("passphrase") != std::string::npos);
  config = certificates.config("node");
  config.tls_ca = certificates.folder + "/node.key";
  CHECK(error_with(config).find("tls_ca: cannot read a certificate from ") == 0);
  config = certificates.config("node");
  config.tls_key = certificates.folder + "/fifo";
  REQUIRE(mkfifo(config.tls_key.c_str(), 0600) == 0);
  CHECK(error_with(config) == "tls_key: " + config.tls_key + ": not a regular file");
  CHECK(error_of([] { parse_config("tls_cert = /x\n", "f"); }) ==
        "f:1: tls_cert and tls_key go together: set tls_key too");
  CHECK(error_of([] { parse_config("\ntls_ca = /x\n", "f"); }).find("f:2: tls_ca goes with") == 0);
}

TEST_CASE("a peer that misbehaves is no vote, in time and without harm") {
  Asker asker;
  for (const Misbehaviour& peer : misbehaviours()) {
    CAPTURE(peer.name);
    const Raw_Server server(peer.behave);
    std::string why;
    const Http_Reply reply = asker.ask({"127.0.0.1", server.port()}, 400ms);
    CHECK_FALSE(http_node_reports_primary(reply, why));
    CHECK_FALSE(why.empty());
    CHECK(asker.took < 0.4 + 0.2);
  }
}

TEST_CASE("a peer that is not there") {
  Asker asker;
  int port;
  {
    const Raw_Server closed(nullptr);
    port = closed.port();
  }
  CHECK(asker.ask({"127.0.0.1", port}, 5s).error == "connection refused or host unreachable");
  // A full backlog drops SYNs, as a blackhole does.
  const Raw_Server full(nullptr, INADDR_LOOPBACK, 0);
  std::vector<int> fds;
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(full.port()));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int i = 0; i < 4; ++i) {
    fds.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    ::connect(fds.back(), reinterpret_cast<sockaddr*>(&to), sizeof to);
  }
  CHECK(asker.ask({"127.0.0.1", full.port()}, 300ms).error == "timed out");
  CHECK(asker.took < 0.3 + 0.2);
  for (const int fd : fds) ::close(fd);
  CHECK(asker.ask({"", 1}, 1s).error.find("set peer.peer") != std::string::npos);
  CHECK(asker.ask({"no-such-host.invalid", 1}, 300ms).error ==
        "no address found for no-such-host.invalid");
  CHECK(asker.took < 0.3 + 0.2);
}

TEST_CASE("every address of a host name is tried") {
  // localhost is ::1 first where IPv6 is there; the peer listens on 127.0.0.1 alone.
  const Raw_Server server(reply_with(http_ok("{}")));
  Asker asker;
  CHECK(asker.ask({"localhost", server.port()}, 5s).status == 200);
}

TEST_SUITE_END();

// ---- a simulated cluster
// --------------------------------------------------------------------------

// Runs the shipped Repmgr_Node and the shipped answers of many nodes against each other in virtual
// time, one event after the other, from a seed: what fails is replayed by SIM_SEED=<seed>.

namespace {

class Simulation {
 public:
  // A rule of the leases broken from outside, to see that the simulation notices.
  enum class Broken {
    nothing,
    start_up_silence,
    counted_from_arrival,
    grants_ignored,
    wall_clock,
    one_clock
  };

  explicit Simulation(std::uint64_t seed, Broken broken = Broken::nothing)
      : random_(seed), broken_(broken), cluster_(chance(0.25)), tempo_(0.3 + 3 * uniform()) {
    const int sites = chance(0.5) ? 1 : 2;
    const int size = 1 + static_cast<int>(random_() % 7);
    hosts_.resize(static_cast<std::size_t>(size));
    for (int i = 0; i < size; ++i) {
      Host& host = hosts_[static_cast<std::size_t>(i)];
      host.site = sites == 2 && i % 2 ? "b" : "a";
      host.rate = 1 + (uniform() - 0.5) * 0.005;  // any two are 0.5 % apart at most
      host.offset = uniform() * 1e6;
      host.file = chance(0.5);
      rows_.push_back(make_node(i + 1, "n" + std::to_string(i + 1), "standby", host.site));
      if (i == size - 1 && size > 2 && chance(0.1)) rows_.back().type = "witness";
    }
    for (std::size_t i = 0; i < hosts_.size(); ++i) start(i);
    follow(0, 0);
  }
  ~Simulation() {
    for (std::size_t i = 0; i < hosts_.size(); ++i) crash(i);
  }

  // Faults for `seconds`, then none, until the node that its site follows has had its time to be
  // Primary. False at a violation; what() tells.
  bool run(double seconds) {
    at(uniform(), [this] { fault(); });
    faults_end_ = seconds;
    while (now_ < seconds) {
      if (!step()) return false;
    }
    settle();
    const double bound = now_ + settle_bound();
    const auto leader = [&] { return is_primary(leader_); };
    while (now_ < bound && !leader()) {
      if (!step()) return false;
    }
    if (!leader()) {
      what_ = "n" + std::to_string(leader_ + 1) + " is not Primary " +
              std::to_string(settle_bound()) +
              " s after the last fault: " + hosts_[leader_].node->get_votes();
      return false;
    }
    return true;
  }

  long steps() const { return steps_; }
  long primaries() const { return primaries_; }
  const std::string& what() const { return what_; }

  // All that may stand in the way of the first 200: a promise to another or a silence, with what
  // the state file runs ahead (lease + lease/4), the voter's next look, a question that was under
  // way in vain, and the next one's way there and back.
  static double settle_bound() {
    const Node_Settings settings;
    const Time bound = settings.vote_lease + settings.vote_lease / 4 + settings.refresh_interval +
                       settings.peer_timeout + 500ms;
    return std::chrono::duration<double>(bound).count();
  }

 private:
  struct Host {
    std::string site;
    double rate = 1, offset = 0, jump = 0;  // its clock: offset + jump + rate * true time …
    double stopped = 0;                     // … without the time that it was stopped for
    std::optional<double> stopped_at;       // since when it is
    bool file = false;                      // has a state_file
    std::optional<Grant> kept;              // what that holds
    bool started = false;                   // once before
    std::unique_ptr<Repmgr_Node> node;      // null: crashed
    int life = 0;                           // how often it crashed
    bool paused = false;
    double slow = 0;  // its messages take up to so many seconds
    bool db_up = true, in_recovery = true;
    std::size_t names = 0;  // whom its database names
    Time look_due{};
    std::uint64_t turn = 0;  // the one turn that is scheduled
    std::map<std::uint64_t, std::function<void(Http_Reply)>> asked;
  };

  double uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }
  bool chance(double p) { return uniform() < p; }
  std::size_t any_host() { return random_() % hosts_.size(); }
  std::size_t a_primary() {
    for (std::size_t i = 0; i < hosts_.size(); ++i) {
      if (is_primary(i)) return i;
    }
    return any_host();
  }
  std::size_t another_of_its_site(std::size_t i) {
    std::vector<std::size_t> others;
    for (std::size_t k = 0; k < hosts_.size(); ++k) {
      if (k != i && hosts_[k].site == hosts_[i].site) others.push_back(k);
    }
    return others.empty() ? i : others[random_() % others.size()];
  }

  void at(double time, std::function<void()> event) { events_.emplace(time, std::move(event)); }
  Time clock(std::size_t i) const {
    const Host& host = hosts_[i];
    const double counted = host.stopped_at.value_or(now_) - host.stopped;
    return Time(std::llround((host.offset + host.jump + host.rate * counted) * 1e9));
  }
  // A hypervisor stops the machine, and its clock with it; another clock goes on. What is shorter
  // than a second may go unnoticed.
  void pause(Host& host) {
    host.paused = true;
    if (chance(0.5)) host.stopped_at = now_;
  }
  void resume(Host& host) {
    host.paused = false;
    if (!host.stopped_at) return;
    if (now_ - *host.stopped_at >= 1) host.stopped += now_ - *host.stopped_at;
    host.stopped_at.reset();
  }
  bool is_primary(std::size_t i) const {
    const Host& host = hosts_[i];
    return host.node && !host.paused && host.node->get_state() == State::primary;
  }

  bool step() {
    if (events_.empty()) return false;
    auto first = events_.extract(events_.begin());
    now_ = first.key();
    first.mapped()();
    ++steps_;
    std::map<std::string, std::size_t> primary;
    for (std::size_t i = 0; i < hosts_.size(); ++i) {
      if (!is_primary(i)) continue;
      ++primaries_;
      const auto [other, only] = primary.emplace(cluster_ ? "" : hosts_[i].site, i);
      if (!only) {
        what_ = "n" + std::to_string(other->second + 1) + " and n" + std::to_string(i + 1) +
                " are both Primary at " + std::to_string(now_) + " s";
        return false;
      }
    }
    return true;
  }

  void start(std::size_t i) {
    Host& host = hosts_[i];
    Node_Settings settings;
    settings.node_name = rows_[i].name;
    settings.consensus_cluster = cluster_;
    Grant_Store store;
    if (host.file) {
      store.load = [&host] { return host.kept; };
      store.save = [&host](const Grant& grant, Deadline) {
        host.kept = grant;
        return grant;
      };
    }
    // The first start of all is a silence too, as nobody knows what came before.
    if (broken_ == Broken::start_up_silence) store.load = [] { return Grant{}; };
    host.node = std::make_unique<Repmgr_Node>(
        settings,
        [this, i](const Node& peer, const std::string& target, Time timeout,
                  std::function<void(Http_Reply)> done) {
          ask(i, peer, target, timeout, std::move(done));
        },
        nullptr, [this, i] { return clock(i); }, [](Log_Level, const std::string&) {},
        std::move(store), nullptr,
        broken_ == Broken::one_clock ? std::vector<Clock>()
                                     : std::vector<Clock>{[this, rate = host.rate] {
                                         return Time(std::llround(rate * now_ * 1e9));
                                       }});
    host.look_due = clock(i);
    wake(i);
  }

  void crash(std::size_t i) {
    Host& host = hosts_[i];
    if (!host.node) return;
    for (auto& [id, done] : std::exchange(host.asked, {})) done({0, {}, "crashed"});
    host.node.reset();
    ++host.life;
    resume(host);
    ++host.turn;
  }

  // What run() does: a look if it is due, a refresh, and again when that says.
  void wake(std::size_t i, double after = 0) {
    const std::uint64_t turn = ++hosts_[i].turn;
    at(now_ + after, [this, i, turn] {
      Host& host = hosts_[i];
      if (host.turn != turn || !host.node) return;
      if (host.paused) return wake(i, 0.01);
      if (clock(i) >= host.look_due) {
        Facts facts = host.db_up ? make_facts(rows_, host.in_recovery) : Facts{};
        facts.asked_at = clock(i);
        if (rows_[i].type == "witness") facts.in_recovery = false;
        if (host.db_up) {
          if (facts.nodes[host.names].type != "witness") facts.nodes[host.names].type = "primary";
        }
        host.look_due += 1s;
        at(now_ + uniform() * uniform() * slowness_, [this, i, life = host.life, facts]() mutable {
          Host& looked = hosts_[i];
          if (looked.life != life || looked.paused) return;
          looked.node->learn(std::move(facts));
          wake(i);
        });
      }
      const Time due = std::min(host.node->refresh(), host.look_due);
      const double seconds = std::chrono::duration<double>(due - clock(i)).count() / host.rate;
      wake(i, std::max(seconds, 1e-6));
    });
  }

  void ask(std::size_t i, const Node& peer, const std::string& target, Time timeout,
           std::function<void(Http_Reply)> done) {
    if (!target.starts_with("/primary")) return done({0, {}, "not simulated"});
    const auto j = static_cast<std::size_t>(peer.id - 1);
    const Time sent_at = clock(i);
    const std::uint64_t id = ++ids_;
    hosts_[i].asked[id] = std::move(done);
    at(now_ + std::chrono::duration<double>(timeout).count(), [=, this] {
      answer(i, id, {0, {}, "timed out"});
    });
    for (int copies = chance(0.05) ? 2 : 1; copies > 0; --copies) {
      if (chance(loss_) || cut_.contains({i, j})) continue;
      at(now_ + delay(i), [=, this] { serve(i, j, id, target, sent_at); });
    }
  }

  // The request arrives; the voter answers by the shipped endpoint.
  void serve(std::size_t i, std::size_t j, std::uint64_t id, const std::string& target,
             Time sent_at) {
    Host& voter = hosts_[j];
    if (!voter.node) return;
    if (voter.paused) return at(now_ + 0.01, [=, this] { serve(i, j, id, target, sent_at); });
    const auto name = target.find("candidate="), lease = target.find("&lease=");
    const Answer said =
        broken_ == Broken::grants_ignored
            ? get_reported_primary(*voter.node, "", "")
            : get_reported_primary(*voter.node, target.substr(name + 10, lease - name - 10),
                                   target.substr(lease + 7, target.find("&voter=") - lease - 7),
                                   target.substr(target.find("&voter=") + 7));
    if (chance(loss_) || cut_.contains({j, i})) return;
    at(now_ + delay(i), [=, this] { answer(i, id, {said.status, said.body, "", sent_at}); });
  }

  void answer(std::size_t i, std::uint64_t id, Http_Reply reply) {
    Host& host = hosts_[i];
    if (host.paused && host.asked.contains(id)) {
      return at(now_ + 0.01, [=, this] { answer(i, id, reply); });
    }
    const auto asked = host.asked.extract(id);
    if (asked.empty()) return;
    if (broken_ == Broken::counted_from_arrival) reply.sent_at = clock(i);
    asked.mapped()(std::move(reply));
    wake(i);
  }

  double delay(std::size_t i) {
    const double share = uniform();  // one after the other, so that every build draws the same
    return share * std::max(uniform() * slowness_, hosts_[i].slow);
  }

  // The databases of a site come to follow host p, one after the other, within `seconds`.
  void follow(std::size_t p, double seconds) {
    hosts_[p].in_recovery = false;
    for (std::size_t i = 0; i < hosts_.size(); ++i) {
      at(now_ + (i == p ? 0 : uniform() * seconds), [this, i, p] { hosts_[i].names = p; });
    }
  }

  void fault() {
    if (now_ >= faults_end_) return;
    const std::size_t i = any_host(), j = any_host();
    Host& host = hosts_[i];
    switch (random_() % 18) {
      case 0:
      case 1:
      case 2:  // a failover; the old primary may not know
        follow(i, uniform() * 4);
        break;
      case 3:  // a database changes its mind
        host.names = j;
        host.in_recovery = chance(0.5);
        break;
      case 4:
        host.db_up = !host.db_up;
        break;
      case 5:
      case 6:
        if (host.node) {
          crash(i);
        } else {
          start(i);
        }
        break;
      case 7:  // a restart, which is quick
        crash(i);
        start(i);
        break;
      case 8:
        if (host.paused) {
          resume(host);
        } else if (host.node) {
          pause(host);
        }
        break;
      case 9:
        if (i != j && !cut_.insert({i, j}).second) cut_.erase({i, j});
        break;
      case 10:
      case 11:
        loss_ = chance(0.5) ? 0 : uniform() * 0.5;
        slowness_ = chance(0.5) ? 0.05 : uniform() * 2;
        break;
      case 12:  // somebody sets the wall clock
        if (broken_ == Broken::wall_clock) host.jump += (uniform() - 0.5) * 10;
        break;
      case 13:
      case 14: {  // the primary's network gets slow, then fails, and another of its site is
                  // followed
        const std::size_t p = a_primary(), next = another_of_its_site(p);
        hosts_[p].slow = uniform();
        at(now_ + 1 + uniform(), [this, p, next] {
          if (now_ >= faults_end_) return;
          for (std::size_t k = 0; k < hosts_.size(); ++k) cut_.insert({{p, k}, {k, p}});
          follow(next, 1);
        });
        break;
      }
      default:  // somebody mends something
        cut_.clear();
        for (std::size_t k = 0; k < hosts_.size(); ++k) {
          hosts_[k].slow = 0;
          resume(hosts_[k]);
          hosts_[k].db_up = true;
          if (!hosts_[k].node) start(k);
        }
    }
    at(now_ + uniform() * tempo_, [this] { fault(); });
  }

  void settle() {
    cut_.clear();
    loss_ = 0;
    slowness_ = 0.05;
    do leader_ = any_host();
    while (rows_[leader_].type == "witness");
    for (std::size_t i = 0; i < hosts_.size(); ++i) {
      Host& host = hosts_[i];
      host.slow = 0;
      resume(host);
      if (!host.node) start(i);
      host.db_up = true;
      host.in_recovery = i != leader_;
      host.names = leader_;
    }
    // What was on its way when the faults ended must not undo that.
    for (std::size_t i = 0; i < hosts_.size(); ++i) {
      for (const double t : {1.0, 2.0, 3.0, 4.0})
        at(now_ + t, [this, i] { hosts_[i].names = leader_; });
    }
  }

  std::mt19937_64 random_;
  const Broken broken_;
  const bool cluster_;  // consensus = cluster
  const double tempo_;  // a fault comes within so many seconds of the last
  double now_ = 0, faults_end_ = 0;
  double loss_ = 0, slowness_ = 0.05;
  std::set<std::pair<std::size_t, std::size_t>> cut_;
  std::vector<Host> hosts_;
  std::vector<Node> rows_;
  std::multimap<double, std::function<void()>> events_;
  std::uint64_t ids_ = 0;
  std::size_t leader_ = 0;
  long steps_ = 0, primaries_ = 0;
  std::string what_;
};

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace

TEST_SUITE_BEGIN("simulation");

TEST_CASE("never two primaries in a site, and the one that is followed becomes Primary in time") {
  const std::uint64_t first = from_environment("SIM_SEED", 1);
  const std::uint64_t seeds = getenv("SIM_SEED") ? 1 : from_environment("SIM_SEEDS", 2000);
  long steps = 0, primaries = 0;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    Simulation simulation(seed);
    const bool held = simulation.run(15);
    steps += simulation.steps();
    primaries += simulation.primaries();
    INFO("replay with SIM_SEED=" << seed << ": " << simulation.what());
    REQUIRE(held);
  }
  MESSAGE(seeds, " seeds, ", steps, " steps, in ", primaries, " of them a Primary; 0 violations");
  if (seeds >= 2000) CHECK(steps >= 1'000'000);
  CHECK(primaries > steps / 20);  // it is no proof if nobody ever is Primary
}

TEST_CASE("each rule of the leases is needed: without it the simulation finds two primaries") {
  const std::pair<const char*, Simulation::Broken> rules[] = {
      {"the silence after a start", Simulation::Broken::start_up_silence},
      {"a vote counts from its sending, not from its arrival",
       Simulation::Broken::counted_from_arrival},
      {"a grant binds until it expires", Simulation::Broken::grants_ignored},
      {"the clock is not the wall clock", Simulation::Broken::wall_clock},
      {"another clock tells that the machine was stopped", Simulation::Broken::one_clock},
  };
  for (const auto& [rule, broken] : rules) {
    std::string found;
    std::uint64_t seed = 1;
    for (; seed <= 5000 && found.empty(); ++seed) {
      Simulation simulation(seed, broken);
      if (!simulation.run(15) && simulation.what().find("both Primary") != std::string::npos) {
        found = simulation.what();
      }
    }
    INFO(std::string(rule));
    CHECK_FALSE(found.empty());
    MESSAGE("without \"" << std::string(rule) << "\": seed " << seed - 1 << ": " << found);
  }
}

TEST_SUITE_END();

// ---- a real cluster -----------------------------------------------------------------------------

namespace {

std::vector<std::string> skipped;  // why, for each

// A shell command's output and exit status.
struct Ran {
  std::string output;
  int status;
};

Ran shell(const std::string& command) {
  Ran ran{{}, -1};
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe);
  char buffer[4096];
  while (const std::size_t n = fread(buffer, 1, sizeof buffer, pipe)) ran.output.append(buffer, n);
  const int status = pclose(pipe);
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  while (ran.output.ends_with('\n')) ran.output.pop_back();
  return ran;
}

std::string quoted(const std::string& text) {
  std::string safe = "'";
  for (const char c : text) safe += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return safe + "'";
}

// The program under test, as a word for the shell.
std::string program_path() {
  const char* path = getenv("PRIMGR");
  return std::filesystem::absolute(path ? path : "primgr").string();
}
std::string program() {
  return quoted(program_path());
}

// Whether that is the shipped program, whose memory and time mean something, not a sanitizer's.
bool is_shipped() {
  return !getenv("PRIMGR");
}

// While it lives, its thread opens its sockets in a network namespace.
class In_Namespace {
 public:
  explicit In_Namespace(const std::string& name)
      : home_(::open("/proc/thread-self/ns/net", O_RDONLY)) {
    const int there = ::open(("/run/netns/" + name).c_str(), O_RDONLY);
    if (there < 0 || setns(there, CLONE_NEWNET) != 0)
      throw std::runtime_error("no namespace " + name);
    ::close(there);
  }
  ~In_Namespace() {
    setns(home_, CLONE_NEWNET);
    ::close(home_);
  }
  In_Namespace(const In_Namespace&) = delete;
  In_Namespace& operator=(const In_Namespace&) = delete;

 private:
  const int home_;
};

// A cluster of lab/lab, up while this lives. Verbs are run as a user would.
class Lab {
 public:
  explicit Lab(const std::string& options = "") {
    const Ran up = attempt("up " + options);
    INFO(up.output);
    REQUIRE(up.status == 0);
    hub_ = run("env | sed -n 's/^HUB_NS=//p'");
  }
  ~Lab() { attempt("down"); }

  Ran attempt(const std::string& verb) const {
    const auto start = Steady::now();
    Ran ran = shell("export LAB=check-" + std::to_string(getpid()) + "; { lab/lab " + verb +
                    "; } 2>&1 </dev/null");
    if (seconds_since(start) > 5) MESSAGE("lab/lab ", verb, " took ", seconds_since(start), " s");
    return ran;
  }
  std::string run(const std::string& verb) const {
    const Ran ran = attempt(verb);
    INFO("lab/lab " << verb << "\n" << ran.output);
    REQUIRE(ran.status == 0);
    return ran.output;
  }
  // SQL on a node, as superuser.
  std::string sql(const std::string& node, const std::string& statement) const {
    return run("psql " + node + " -qAtc " + quoted(statement));
  }
  // A line of `lab conf`.
  std::string conf(const std::string& node, const std::string& key) const {
    return run("conf " + node + " | sed -n 's/^" + key + "=//p'");
  }
  std::string log(const std::string& node) const { return read_file(conf(node, "primgr_log")); }

  // What a node's primgr answers; status 0: nothing.
  Answer ask(const std::string& node, const std::string& path = "/state") const {
    return ask_at(address(node), path);
  }
  Answer ask_at(const std::string& address, const std::string& path) const {
    const In_Namespace there(hub_);
    httplib::Client client(address, 5999);
    client.set_connection_timeout(1s);
    client.set_read_timeout(1s);
    client.set_keep_alive(false);
    const auto result = client.Get(path);
    return result ? Answer{result->status, result->body} : Answer{0, {}};
  }
  bool answers(const std::string& node, int status, double seconds = 10,
               const std::string& path = "/state") const {
    const std::string at = address(node);
    return eventually(seconds, [&] { return ask_at(at, path).status == status; });
  }
  std::string address(const std::string& node) const {
    if (const auto known = addresses_.find(node); known != addresses_.end()) return known->second;
    return addresses_[node] = conf(node, "address");
  }
  const std::string& hub() const { return hub_; }

  // Which node HAProxy's port leads to; empty: none.
  std::string server(const std::string& port) const {
    const Ran ran = attempt(port + " 'SELECT inet_server_addr()' | tail -n 1");
    for (const std::string& node : nodes()) {
      if (ran.output.find(address(node)) != std::string::npos) return node;
    }
    return {};
  }
  std::vector<std::string> nodes() const {
    if (nodes_.empty()) {
      std::istringstream names(run("nodes"));
      for (std::string name; names >> name;) nodes_.push_back(name);
    }
    return nodes_;
  }

 private:
  std::string hub_;
  mutable std::map<std::string, std::string> addresses_;
  mutable std::vector<std::string> nodes_;
};

// Asks a node's /state all the time, and remembers each change of its status.
class Watcher {
 public:
  Watcher(const Lab& lab, const std::string& node)
      : address_(lab.address(node)), thread_([this, &lab] {
          while (!ending_) {
            const int status = lab.ask_at(address_, "/state").status;
            {
              const std::lock_guard lock(mutex_);
              if (changes_.empty() || changes_.back().second != status) {
                changes_.emplace_back(Steady::now(), status);
              }
            }
            std::this_thread::sleep_for(5ms);
          }
        }) {}
  ~Watcher() {
    ending_ = true;
    thread_.join();
  }
  // Waits for a status; how many seconds after `start` it was first seen, -1: not in time.
  double seen(int status, Steady::time_point start, double seconds) const {
    double after = -1;
    eventually(seconds, [&] {
      const std::lock_guard lock(mutex_);
      for (const auto& [when, what] : changes_) {
        if (what == status && when >= start) {
          after = std::chrono::duration<double>(when - start).count();
          return true;
        }
      }
      return false;
    });
    return after;
  }
  bool ever(int status) const {
    const std::lock_guard lock(mutex_);
    return std::any_of(changes_.begin(), changes_.end(),
                       [&](const auto& change) { return change.second == status; });
  }

 private:
  const std::string address_;
  mutable std::mutex mutex_;
  std::vector<std::pair<Steady::time_point, int>> changes_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

// A headless Chromium, driven through chromedriver by W3C WebDriver. Leaves nothing behind but
// build/screenshots/.
class Browser {
 public:
  // `network`: the namespace to run in; empty: this one.
  explicit Browser(const std::string& network = "") : network_(network) {
    char made[] = "/tmp/primgr-browser-XXXXXX";
    home_ = mkdtemp(made);
    {
      const auto there = enter();
      port_ = Raw_Server(nullptr).port();  // free
      driver_ = fork();
      if (driver_ == 0) {
        setpgid(0, 0);
        setenv("HOME", home_.c_str(), 1);
        setenv("TMPDIR", home_.c_str(), 1);
        const std::string port = "--port=" + std::to_string(port_);
        execlp("chromedriver", "chromedriver", port.c_str(), "--log-level=OFF", nullptr);
        _exit(127);
      }
    }
    std::string last = "chromedriver does not answer";
    const bool started = eventually(60, [&] {
      try {
        const Json arguments = {"--headless=new", "--no-sandbox", "--disable-gpu",
                                "--disable-dev-shm-usage", "--hide-scrollbars"};
        const Json options = {{"browserName", "chrome"},
                              {"goog:loggingPrefs", {{"browser", "ALL"}}},
                              {"goog:chromeOptions", {{"args", arguments}}}};
        const Json session =
            call("POST", "/session", {{"capabilities", {{"alwaysMatch", options}}}});
        session_ = "/session/" + session["sessionId"].get<std::string>();
      } catch (const std::runtime_error& error) {
        last = error.what();
      }
      return !session_.empty();
    });
    if (!started) end();
    INFO(last);
    REQUIRE(started);
  }
  ~Browser() { end(); }
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  void open(const std::string& url) { command("POST", "/url", {{"url", url}}); }
  std::string title() { return command("GET", "/title").get<std::string>(); }

  // What is to be seen of each element that a CSS selector finds.
  std::vector<std::string> texts(const std::string& selector) {
    std::vector<std::string> all;
    for (const std::string& element : find(selector)) {
      all.push_back(command("GET", element + "/text").get<std::string>());
    }
    return all;
  }
  std::string text(const std::string& selector) {
    const auto all = texts(selector);
    return all.empty() ? "" : all.front();
  }
  // Waits until that is among what is to be seen there.
  void shows(const std::string& selector, const std::string& what) {
    std::string last;
    const bool shown =
        eventually(20, [&] { return (last = text(selector)).find(what) != std::string::npos; });
    INFO(selector, " is to show: ", what, "\nbut shows: ", last);
    CHECK(shown);
  }
  // Waits until the page shows an answer that was asked for after now.
  void shows_more() {
    for (int i = 0; i < 2; ++i) {
      const Json before = run("return live.received");
      CHECK(eventually(20, [&] { return run("return live.received") != before; }));
    }
  }
  // Types into an element; a key as WebDriver has it.
  void type(const std::string& selector, const std::string& keys) {
    command("POST", find(selector).at(0) + "/value", {{"text", keys}});
  }
  Json run(const std::string& script) {
    return command("POST", "/execute/sync", {{"script", script}, {"args", Json::array()}});
  }
  // What the browser has complained of since it was last asked.
  std::string complaints() {
    std::string all;
    for (const Json& line : command("POST", "/se/log", {{"type", "browser"}})) {
      all += line["message"].get<std::string>() + "\n";
    }
    return all;
  }
  bool has_dialog() {
    try {
      command("GET", "/alert/text");
      return true;
    } catch (const std::runtime_error&) {
      return false;
    }
  }

  // The whole page in build/screenshots/, as a desk sees it by night and a phone by day.
  void screenshot(const std::string& name) {
    take(name, 1280, 800, "dark");
    take(name + "-phone", 360, 740, "light");
  }

 private:
  std::optional<In_Namespace> enter() const {
    if (network_.empty()) return std::nullopt;
    return std::optional<In_Namespace>(std::in_place, network_);
  }
  // Throws std::runtime_error with what WebDriver says is wrong.
  Json call(const std::string& method, const std::string& path, const Json& body = Json::object()) {
    const auto there = enter();
    httplib::Client client("127.0.0.1", port_);
    client.set_read_timeout(60s);
    const std::string sent = body.dump();
    const auto result = method == "GET"      ? client.Get(path)
                        : method == "DELETE" ? client.Delete(path)
                                             : client.Post(path, sent, "application/json");
    if (!result) throw std::runtime_error(httplib::to_string(result.error()));
    Json value = Json::parse(result->body, nullptr, false);
    if (result->status != 200) throw std::runtime_error(result->body.substr(0, 1000));
    return value.at("value");
  }
  Json command(const std::string& method, const std::string& path,
               const Json& body = Json::object()) {
    return call(method, session_ + path, body);
  }
  std::vector<std::string> find(const std::string& selector) {
    std::vector<std::string> elements;
    for (const Json& found :
         command("POST", "/elements", {{"using", "css selector"}, {"value", selector}})) {
      elements.push_back("/element/" + found.front().get<std::string>());
    }
    return elements;
  }
  Json devtools(const std::string& name, const Json& parameters) {
    return command("POST", "/goog/cdp/execute", {{"cmd", name}, {"params", parameters}});
  }
  void take(const std::string& name, int width, int height, const std::string& scheme) {
    devtools(
        "Emulation.setDeviceMetricsOverride",
        {{"width", width}, {"height", height}, {"deviceScaleFactor", 1}, {"mobile", width < 500}});
    const Json feature = {{"name", "prefers-color-scheme"}, {"value", scheme}};
    devtools("Emulation.setEmulatedMedia", {{"features", Json::array({feature})}});
    CHECK(run("return document.documentElement.scrollWidth <= innerWidth") == true);
    const std::string base64 =
        devtools("Page.captureScreenshot", {{"captureBeyondViewport", true}})["data"];
    std::string png(base64.size(), '\0');
    const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(png.data()),
                                     reinterpret_cast<const unsigned char*>(base64.data()),
                                     static_cast<int>(base64.size()));
    REQUIRE(size > 0);
    png.resize(static_cast<std::size_t>(size));
    std::filesystem::create_directories("build/screenshots");
    std::ofstream("build/screenshots/" + name + ".png", std::ios::binary) << png;
  }
  void end() {
    if (driver_ <= 0) return;
    try {
      if (!session_.empty()) call("DELETE", session_);
    } catch (const std::runtime_error&) {
    }
    kill(-driver_, SIGKILL);
    waitpid(driver_, nullptr, 0);
    driver_ = -1;
    // A helper of Chromium's may still be ending.
    std::error_code busy;
    eventually(5, [&] { return std::filesystem::remove_all(home_, busy) == 0 && !busy; });
  }

  const std::string network_;
  std::string home_;
  int port_ = 0;
  pid_t driver_ = -1;
  std::string session_;
};

// Whether tests on the lab can run; if not, says why, once a test.
bool lab_possible(const char* test) {
  if (geteuid() == 0) return true;
  skipped.push_back(std::string(test) + ": network namespaces need root");
  return false;
}

bool browser_possible(const char* test) {
  if (shell("command -v chromedriver").status == 0) return true;
  skipped.push_back(std::string(test) + ": no chromedriver: install chromium and chromium-driver");
  return false;
}

}  // namespace

TEST_SUITE_BEGIN("limits");

namespace {

// The program under test as a process of its own, with limits that the test sets, on a free port of
// 127.0.0.1. Its database is nowhere.
class Daemon {
 public:
  // `limit` is run in the child, between fork() and exec: system calls only.
  explicit Daemon(const std::function<void()>& limit) {
    const int free = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    REQUIRE(::bind(free, reinterpret_cast<sockaddr*>(&at), size) == 0);
    REQUIRE(::getsockname(free, reinterpret_cast<sockaddr*>(&at), &size) == 0);
    port_ = ntohs(at.sin_port);
    ::close(free);
    folder_ =
        std::filesystem::temp_directory_path() / ("primgr-limits-" + std::to_string(getpid()));
    std::filesystem::create_directory(folder_);
    const std::string config = folder_ / "conf", log = folder_ / "log",
                      listen = "127.0.0.1:" + std::to_string(port_);
    std::ofstream(config) << "conninfo = 'host=127.0.0.1 port=1 dbname=x'\nnode_name = n1\n";
    const int binary = ::open(program_path().c_str(), O_PATH | O_CLOEXEC);
    REQUIRE(binary >= 0);
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    const char* argv[] = {"primgr",   "--config",     config.c_str(),
                          "--listen", listen.c_str(), nullptr};
    char* environment[] = {nullptr};
    pid_ = fork();
    if (pid_ == 0) {
      dup2(out, STDERR_FILENO);
      limit();
      fexecve(binary, const_cast<char**>(argv), environment);
      _exit(127);
    }
    for (const int fd : {binary, out}) ::close(fd);
    INFO(this->log());
    const bool up =
        eventually(20, [&] { return ended() || !check_from("127.0.0.9", port_).empty(); });
    CHECK(up);
    CHECK_FALSE(ended());
  }
  ~Daemon() {
    if (!ended()) kill(pid_, SIGKILL);
    if (!ended()) waitpid(pid_, nullptr, 0);
    std::filesystem::remove_all(folder_);
  }
  int port() const { return port_; }
  std::string log() const { return read_file(folder_ / "log"); }
  bool ended() {
    if (!status_) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
    }
    return status_.has_value();
  }
  // Ends it as an operator does; its wait status, -1 if it goes on.
  int end() {
    kill(pid_, SIGTERM);
    return eventually(20, [&] { return ended(); }) ? *status_ : -1;
  }

 private:
  int port_ = 0;
  pid_t pid_ = -1;
  std::optional<int> status_;
  std::filesystem::path folder_;
};

// Whether the test is to be left out, for a reason that is told.
bool has_no_program(const char* test) {
  if (!is_shipped()) {
    skipped.push_back(std::string(test) + ": a sanitizer needs what is limited");
    return true;
  }
  if (access(program_path().c_str(), X_OK) == 0) return false;
  skipped.push_back(std::string(test) + ": there is no ./primgr: make");
  return true;
}

void limit_to(decltype(RLIMIT_AS) what, rlim_t value) {
  const rlimit limit{value, value};
  setrlimit(what, &limit);
}

}  // namespace

TEST_CASE("out of memory, primgr goes on, and ends as it should") {
  if (has_no_program("out of memory")) return;
  for (const rlim_t limit : {60'000, 80'000, 100'000, 120'000, 150'000, 200'000}) {
    CAPTURE(limit);
    Daemon daemon([&] { limit_to(RLIMIT_AS, limit * 1024); });
    const std::string request =
        "GET /node HTTP/1.1\r\nCookie: " + std::string(3000, 'x') + "\r\n\r\n";
    std::vector<int> fds;
    for (int i = 0; i < 3 * 320 && !daemon.ended(); ++i) {
      const auto from = "127.0." + std::to_string(1 + i % 40) + ".1";
      const int fd = try_connect(from.c_str(), daemon.port());
      if (fd < 0) continue;
      ::send(fd, request.data(), request.size() - i % 2, MSG_NOSIGNAL);
      fds.push_back(fd);
    }
    INFO(daemon.log());
    CHECK_FALSE(daemon.ended());
    CHECK(eventually(
        20, [&] { return check_from("127.0.0.9", daemon.port()).starts_with("HTTP/1.1 503 "); }));
    CHECK(daemon.end() == 0);
    for (const int fd : fds) ::close(fd);
  }
}

namespace {

// Checks from another address than that of a flood, all to be answered.
void check_under_flood(Daemon& daemon) {
  for (const char* request : {"GET /sta", "GET /state HTTP/1.1\r\nConnection: close\r\n\r\n"}) {
    CAPTURE(request);
    const bool whole = std::string_view(request).ends_with("\r\n\r\n");
    Crowd crowd("127.0.0.2", daemon.port(), request, 8, whole ? 0 : 20);
    int answered = 0;
    for (int i = 0; i < 100; ++i) {
      answered += check_from("127.0.0.3", daemon.port()).starts_with("HTTP/1.1 503 ");
    }
    INFO(daemon.log());
    CHECK(answered == 100);
  }
  CHECK(daemon.end() == 0);
}

}  // namespace

TEST_CASE("with few file descriptors, checks are answered under a flood from another address") {
  if (has_no_program("few file descriptors")) return;
  for (const rlim_t limit : {16, 24}) {
    CAPTURE(limit);
    Daemon daemon([&] { limit_to(RLIMIT_NOFILE, limit); });
    CHECK(daemon.log().find("(raise LimitNOFILE)") != std::string::npos);
    check_under_flood(daemon);
  }
}

TEST_CASE("with few threads, checks are answered under a flood from another address") {
  if (has_no_program("few threads")) return;
  if (geteuid() != 0) {
    skipped.push_back("few threads: a user without other processes is needed, and so root");
    return;
  }
  Daemon daemon([] {
    limit_to(RLIMIT_NPROC, 12);
    [[maybe_unused]] const int set = setgid(54'321) + setuid(54'321);
  });
  check_under_flood(daemon);
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("lab");

TEST_CASE("lab: three nodes, one 200, two 202, and HAProxy follows") {
  if (!lab_possible("three nodes")) return;
  const Lab lab;
  CHECK(lab.answers("n1", 200));
  CHECK(lab.answers("n2", 202));
  CHECK(lab.answers("n3", 202));
  CHECK(lab.ask("n1").body == R"({"state":"Primary"})");
  for (const char* node : {"n1", "n2", "n3"}) {
    CHECK(lab.answers(node, 200, 5, "/realPrimary"));
    CHECK(lab.ask(node, "/primary").body == R"({"Primary":"n1"})");
    CHECK(lab.ask(node, "/realPrimary").body == R"({"realPrimary":"n1"})");
  }
  CHECK(eventually(10, [&] { return lab.server("write") == "n1"; }));
  CHECK(eventually(10, [&] { return lab.server("read") == "n2"; }));
  CHECK(eventually(10, [&] { return lab.server("read") == "n3"; }));

  // The role has CONNECT, USAGE on the schema and SELECT on repmgr.nodes, and nothing else of it.
  CHECK(lab.sql("n1",
                "SELECT rolsuper OR rolreplication OR rolcreatedb FROM pg_roles"
                " WHERE rolname = 'primgr'") == "f");
  CHECK(
      lab.sql("n1",
              "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'primgr'") ==
      "primgr");
  CHECK(lab.sql("n1",
                "SELECT string_agg(table_name || ' ' || privilege_type, ',')"
                " FROM information_schema.role_table_grants WHERE grantee = 'primgr'") ==
        "nodes SELECT");
}

TEST_CASE("lab: the primary is killed: 503 at once, failover, and it comes back as 509") {
  if (!lab_possible("kill")) return;
  const Lab lab;
  REQUIRE(lab.answers("n1", 200));
  REQUIRE(eventually(10, [&] { return lab.server("write") == "n1"; }));
  lab.run("write 'CREATE TABLE t (i int); INSERT INTO t VALUES (1)'");
  {
    const Watcher n1(lab, "n1");
    REQUIRE(n1.seen(200, {}, 5) >= 0);
    const auto start = Steady::now();
    lab.run("kill n1");
    const double verb = seconds_since(start);
    const double down = n1.seen(503, start, 5);
    CHECK(down >= 0);
    CHECK(down <= verb + 0.5);
    MESSAGE("killed server answered 503 after ", down, " s, the kill itself took ", verb, " s");
    std::string leader;
    CHECK(eventually(30, [&] {
      for (const char* node : {"n2", "n3"}) {
        if (lab.ask(node).status == 200) leader = node;
      }
      return !leader.empty();
    }));
    REQUIRE_FALSE(leader.empty());
    CHECK(eventually(10,
                     [&] { return lab.attempt("write 'INSERT INTO t VALUES (2)'").status == 0; }));
    CHECK(lab.server("write") == leader);
  }
  {
    // It starts as it was: a primary that nobody follows any more.
    const Watcher n1(lab, "n1");
    lab.run("start n1");
    CHECK(lab.answers("n1", 509));
    for (int i = 0; i < 10; ++i) CHECK(lab.server("write") != "n1");
    CHECK_FALSE(n1.ever(200));
    CHECK(lab.log("n1").find("no majority votes for it") != std::string::npos);
  }
  lab.run("rejoin n1");
  CHECK(lab.answers("n1", 202, 20));
  CHECK(eventually(10, [&] { return lab.run("psql n1 -d postgres -qAtc 'TABLE t'") == "1\n2"; }));
}

TEST_CASE("lab: a primary without a network is 509, and 200 again if nobody took over") {
  if (!lab_possible("cut")) return;
  const Lab lab("--no-repmgrd");
  REQUIRE(lab.answers("n1", 200));
  const auto inside = [&] { return lab.run("exec-node n1 curl -s http://127.0.0.1:5999/state"); };
  lab.run("cut n1");
  CHECK(eventually(5, [&] { return inside() == R"({"state":"Unknown"})"; }));
  CHECK(lab.sql("n1", "SELECT 1") == "1");
  lab.run("heal n1");
  CHECK(lab.answers("n1", 200));
  lab.run("cut n1 n2");
  lab.run("cut n1 n3 --oneway");
  CHECK(lab.answers("n1", 509, 5));
  lab.run("heal n1 n3");
  CHECK(lab.answers("n1", 200));  // two of three are enough
  lab.run("heal");
}

TEST_CASE("lab: a server that hangs is 503 within db_timeout, and nothing leaks") {
  if (!lab_possible("pause")) return;
  {
    const Lab lab("--no-repmgrd --no-haproxy");
    REQUIRE(lab.answers("n1", 200));
    const Watcher n1(lab, "n1");
    const auto start = Steady::now();
    lab.run("pause n1");
    const double verb = seconds_since(start);
    const double down = n1.seen(503, start, 10);
    CHECK(down >= 0);
    CHECK(down <= verb + 5 + 1);
    const auto resumed = Steady::now();
    lab.run("resume n1");
    CHECK(n1.seen(200, resumed, 10) >= 0);
  }
  const Lab lab(
      "--no-repmgrd --no-haproxy --set 'db_timeout = 300ms' --set 'refresh_interval = 100ms'");
  REQUIRE(lab.answers("n1", 200));
  const std::string proc = "/proc/" + lab.conf("n1", "primgr_pid");
  const auto entries = [&](const char* what) {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(proc + what)) ++n;
    return n;
  };
  const auto resident_pages = [&] {
    std::ifstream statm(proc + "/statm");
    long all = 0, resident = 0;
    statm >> all >> resident;
    return resident;
  };
  const auto round = [&] {
    lab.run("pause n1");
    CHECK(lab.answers("n1", 503, 5));
    lab.run("resume n1");
    CHECK(lab.answers("n1", 200, 5));
  };
  for (int i = 0; i < 5; ++i) round();
  // At rest there is one question to each peer now and then: the least that is seen counts.
  const auto least = [&](const char* what) {
    std::size_t n = entries(what);
    for (int i = 0; i < 50; ++i, std::this_thread::sleep_for(2ms)) n = std::min(n, entries(what));
    return n;
  };
  const std::size_t threads = least("/task"), sockets = least("/fd");
  const long pages = resident_pages();
  for (int i = 0; i < 50; ++i) round();
  // http_threads of them are started as they are needed, and kept.
  CHECK(eventually(5, [&] { return least("/task") <= threads + 8; }));
  CHECK(eventually(5, [&] { return least("/fd") <= sockets; }));
  if (is_shipped()) CHECK(resident_pages() <= pages + 128);  // half a megabyte
}

TEST_CASE("lab: what can be wrong with a database: the right state, one log line, recovery") {
  if (!lab_possible("faults of the database")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  REQUIRE(lab.answers("n1", 200));
  // What the log of n1 gained while `work` was done.
  const auto logged = [&](const std::function<void()>& work) {
    const std::size_t before = lab.log("n1").size();
    work();
    return lab.log("n1").substr(before);
  };
  const auto drop_connection = [&] {
    lab.sql(
        "n1",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'primgr'");
  };

  SUBCASE("pg_terminate_backend on the pooled connection") {
    const Watcher n1(lab, "n1");
    REQUIRE(n1.seen(200, {}, 5) >= 0);
    const std::string pid = "SELECT pid FROM pg_stat_activity WHERE application_name = 'primgr'";
    const std::string before = lab.sql("n1", pid);
    const std::string lines = logged([&] {
      drop_connection();
      CHECK(eventually(5, [&] {
        const std::string now = lab.sql("n1", pid);
        return !now.empty() && now != before;
      }));
    });
    CHECK_FALSE(n1.ever(503));
    CHECK(lines.empty());
  }
  SUBCASE("a restart of the server") {
    const std::string lines = logged([&] {
      lab.run("stop n1");
      CHECK(lab.answers("n1", 503, 1));
      lab.run("start n1");
      CHECK(lab.answers("n1", 200));
    });
    // Refused by a dying server and by its missing socket are two reasons at most.
    CHECK(count(lines, "state Down") >= 1);
    CHECK(count(lines, "state Down") <= 3);
    CHECK(count(lines, "state Primary") == 1);
  }
  SUBCASE("a server that is still starting up") {
    const std::string data = lab.conf("n2", "data");
    lab.run("stop n2");
    CHECK(lab.answers("n2", 503, 1));
    // With hot_standby off it replays for ever and lets nobody in.
    lab.run("exec-node n2 sh -c " +
            quoted("echo 'hot_standby = off' >> " + data + "/postgresql.auto.conf"));
    lab.attempt("start n2");
    CHECK(eventually(
        5, [&] { return lab.log("n2").find("the database system is") != std::string::npos; }));
    CHECK(lab.ask("n2").status == 503);
    lab.attempt("stop n2");
    lab.run("exec-node n2 sed -i '/hot_standby/d' " + data + "/postgresql.auto.conf");
    lab.run("start n2");
    CHECK(lab.answers("n2", 202));
  }
  SUBCASE("too many connections") {
    const std::string lines = logged([&] {
      lab.sql("n1", "ALTER ROLE primgr CONNECTION LIMIT 0");
      drop_connection();
      CHECK(lab.answers("n1", 503, 5));
      lab.sql("n1", "ALTER ROLE primgr CONNECTION LIMIT -1");
      CHECK(lab.answers("n1", 200, 5));
    });
    CHECK(count(lines, "state Down") == 1);
    CHECK(count(lines, "too many connections") == 1);
  }
  SUBCASE("a wrong password") {
    const std::string hba = lab.conf("n1", "data") + "/pg_hba.conf";
    const std::string lines = logged([&] {
      lab.run("exec-node n1 sed -i '1i local repmgr primgr scram-sha-256' " + hba);
      lab.sql("n1", "ALTER ROLE primgr PASSWORD 'right'; SELECT pg_reload_conf()");
      drop_connection();
      CHECK(lab.answers("n1", 503, 5));
      lab.run("exec-node n1 sed -i '1d' " + hba);
      lab.sql("n1", "SELECT pg_reload_conf()");
      CHECK(lab.answers("n1", 200, 5));
    });
    CHECK(count(lines, "state Down") == 1);
    CHECK(count(lines, "password") >= 1);
  }
  SUBCASE("no repmgr schema") {
    const std::string lines = logged([&] {
      lab.sql("n1", "ALTER SCHEMA repmgr RENAME TO gone");
      CHECK(lab.answers("n1", 509, 5));
      CHECK(lab.ask("n1", "/primary").body == R"({"state":"Unknown"})");
      CHECK(lab.ask("n2").status == 202);  // still a standby
      lab.sql("n1", "ALTER SCHEMA gone RENAME TO repmgr");
      CHECK(lab.answers("n1", 200, 5));
    });
    // The voters lost the schema too, and may be a moment later in finding it again.
    CHECK(count(lines, "state Unknown") <= 2);
    CHECK(count(lines, "repmgr.nodes cannot be read") == 1);
  }
  SUBCASE("no right to read repmgr.nodes") {
    lab.sql("n1", "REVOKE SELECT ON repmgr.nodes FROM primgr");
    CHECK(lab.answers("n1", 509, 5));
    lab.sql("n1", "GRANT SELECT ON repmgr.nodes TO primgr");
    CHECK(lab.answers("n1", 200, 5));
  }
  SUBCASE("no row for this node") {
    const std::string lines = logged([&] {
      lab.sql("n1", "UPDATE repmgr.nodes SET node_name = 'other' WHERE node_name = 'n1'");
      CHECK(lab.answers("n1", 509, 5));
      lab.sql("n1", "UPDATE repmgr.nodes SET node_name = 'n1' WHERE node_name = 'other'");
      CHECK(lab.answers("n1", 200, 5));
    });
    CHECK(count(lines, "state Unknown") <= 2);  // as above
    CHECK(count(lines, "does not list exactly one node named \"n1\"") == 1);
  }
}

TEST_CASE("lab: two sites: only the primary's votes, a witness votes, two claimants are told") {
  if (!lab_possible("two sites")) return;
  const Lab lab("--site a:2 --site b:2 --witness a --no-repmgrd --no-haproxy");
  std::string witness;
  for (const std::string& node : lab.nodes()) {
    if (lab.conf(node, "kind") == "witness") witness = node;
  }
  REQUIRE_FALSE(witness.empty());
  REQUIRE(lab.answers("n1", 200));
  CHECK(lab.answers(witness, 509));
  CHECK(lab.answers(witness, 200, 10, "/primary"));
  CHECK(lab.ask(witness, "/primary").body == R"({"Primary":"n1"})");

  // n1, n2 and the witness vote: two of them are enough, whichever.
  lab.run("primgr n2 stop");
  std::this_thread::sleep_for(3500ms);  // as long as a vote lasts: nothing may change
  CHECK(lab.ask("n1").status == 200);
  lab.run("primgr " + witness + " stop");
  CHECK(lab.answers("n1", 509, 6));  // although the other site is whole
  CHECK(lab.ask("n3").status == 202);
  CHECK(lab.ask("n4").status == 202);
  lab.run("primgr " + witness + " start");
  CHECK(lab.answers("n1", 200));
  lab.run("primgr n2 start");

  // Apart, the other site goes its own way; then the sites see each other again.
  lab.run("partition n1,n2," + witness + " / n3,n4");
  lab.run("promote n3");
  lab.run("follow n4");
  lab.run("heal");
  CHECK(lab.answers("n3", 200));
  CHECK(lab.answers("n1", 200));
  for (const char* node : {"n1", "n2", "n3", "n4"}) {
    CAPTURE(node);
    CHECK(lab.answers(node, 509, 5, "/realPrimary"));
    CHECK(lab.ask(node, "/realPrimary").body == R"({"realPrimary":null,"claimants":["n1","n3"]})");
  }
}

TEST_CASE("lab: node names with capitals, - and _, and host names from repmgr.conf") {
  if (!lab_possible("names")) return;
  const Lab lab("--names DB-One,db_Two,N3 --no-repmgrd --no-haproxy");
  CHECK(lab.answers("DB-One", 200));
  CHECK(lab.answers("db_Two", 202));
  CHECK(lab.ask("N3", "/primary").body == R"({"Primary":"DB-One"})");
  lab.run("exec-node DB-One sh -c " + quoted("sed -i 's/^repmgr_conf.*/node_name = db_one/' " +
                                             lab.conf("DB-One", "primgr_conf")));
  lab.run("primgr DB-One restart");
  CHECK(lab.answers("DB-One", 200));
}

TEST_CASE(
    "lab: peers that misbehave take no vote and no time; overrides and the original are "
    "understood") {
  if (!lab_possible("misbehaving peers")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  REQUIRE(lab.answers("n1", 200));
  const std::string conf = lab.conf("n1", "primgr_conf");
  const auto registered = [&](int id, const std::string& name, const std::string& host) {
    lab.sql("n1",
            "INSERT INTO repmgr.nodes (node_id, node_name, type, location, conninfo, repluser,"
            " config_file) VALUES (" +
                std::to_string(id) + ", '" + name + "', 'standby', 'default', 'host=" + host +
                " dbname=repmgr', 'repmgr', '')");
  };
  const auto add_lines = [&](const std::string& lines) {
    lab.run("exec-node n1 sh -c " + quoted("printf '" + lines + "' >> " + conf));
  };

  const auto peers = misbehaviours();
  std::vector<std::unique_ptr<Raw_Server>> servers;
  std::string overrides;
  {
    const In_Namespace hub(lab.hub());
    for (const Misbehaviour& peer : peers) {
      servers.push_back(std::make_unique<Raw_Server>(peer.behave, INADDR_ANY));
    }
  }
  for (std::size_t i = 0; i < servers.size(); ++i) {
    const std::string name = "bad" + std::to_string(i);
    registered(100 + static_cast<int>(i), name, "10.99.0.254");
    overrides += "peer." + name + " = 10.99.0.254:" + std::to_string(servers[i]->port()) + "\\n";
  }
  registered(201, "refuses", "10.99.0.254");
  registered(202, "blackhole", "10.99.0.77");
  registered(203, "nowhere", "no-such-host.invalid");
  registered(204, "folder", "/tmp");
  add_lines(overrides);

  // What --once needs is what one poll of the whole site takes, and a little for its own start.
  const auto start = Steady::now();
  const Ran once =
      lab.attempt("exec-node n1 " + program() + " --once --log-level info --config " + conf);
  const double took = seconds_since(start);
  INFO(once.output);
  CHECK(once.status == 2);
  CHECK(once.output.find("3 of 28 votes, 15 needed") != std::string::npos);
  if (is_shipped()) CHECK(took <= 1 + 0.2 + 0.15);
  MESSAGE("a poll of 27 peers, 25 of them bad, took ", took, " s");

  lab.run("primgr n1 restart");
  CHECK(lab.answers("n1", 509));
  const std::string pid = lab.conf("n1", "primgr_pid");
  std::this_thread::sleep_for(2s);  // a few polls more
  CHECK(lab.ask("n1").status == 509);
  CHECK(lab.conf("n1", "primgr_pid") == pid);

  // Peers that run the original implementation, at an address that only the override knows.
  lab.sql("n1", "DELETE FROM repmgr.nodes WHERE node_id >= 100");
  CHECK(lab.answers("n1", 200));
  std::vector<std::unique_ptr<Raw_Server>> originals;
  {
    const In_Namespace hub(lab.hub());
    const auto original = [](int fd) {
      std::string request;
      char byte;
      while (!request.ends_with("\r\n\r\n") && ::recv(fd, &byte, 1, 0) == 1) request += byte;
      send_all(fd, request.starts_with("GET /primary") ? http_ok(R"({"Primary": "N1"})")
                                                       : http_ok(R"({"State": "Primary"})"));
    };
    for (int i = 0; i < 3; ++i)
      originals.push_back(std::make_unique<Raw_Server>(original, INADDR_ANY));
  }
  for (int i = 0; i < 3; ++i) {
    const std::string name = "original" + std::to_string(i);
    registered(301 + i, name, "10.99.0.77");
    add_lines("peer." + name + " = 10.99.0.254:" +
              std::to_string(originals[static_cast<std::size_t>(i)]->port()) + "\\n");
  }
  lab.run("primgr n2 stop");
  lab.run("primgr n3 stop");
  lab.run("primgr n1 restart");
  CHECK(lab.answers("n1", 200));  // 4 of 6: itself and the originals
  CHECK(lab.answers("n1", 509, 5, "/realPrimary"));
  CHECK(lab.ask("n1", "/realPrimary").body ==
        R"({"realPrimary":null,"claimants":["n1","original0","original1","original2"]})");
}

TEST_CASE("lab: 200 clients at full speed cost the database nothing") {
  if (!lab_possible("200 clients")) return;
  // More than one address may have by default: a quarter of 32 times http_threads.
  const Lab lab("--no-repmgrd --no-haproxy --set 'http_threads = 32'");
  REQUIRE(lab.answers("n1", 200));
  lab.sql("n1", "ALTER ROLE primgr SET log_statement = 'all'");
  lab.sql(
      "n1",
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'primgr'");
  const std::string log = lab.conf("n1", "log");
  const auto rounds = [&] {
    return std::stoi(shell("grep -c 'statement: EXECUTE primgr_pulse' " + log).output);
  };
  REQUIRE(eventually(5, [&] { return rounds() > 0; }));
  const std::string address = lab.address("n1");
  std::atomic<bool> ending = false;
  std::atomic<long> answered = 0, wrong = 0;
  std::vector<std::thread> clients;
  const int before = rounds();
  const auto start = Steady::now();
  for (int i = 0; i < 200; ++i) {
    clients.emplace_back([&, i] {
      const In_Namespace there(lab.hub());
      const char* paths[] = {"/state", "/primary", "/realPrimary", "/"};
      httplib::Client client(address, 5999);
      client.set_keep_alive(i % 2 == 0);
      for (int n = i; !ending; ++n) {
        const auto result = client.Get(paths[n % 4]);
        ++(result && result->status == 200 ? answered : wrong);
      }
    });
  }
  int most = 0;
  while (seconds_since(start) < 10) {
    most = std::max(most, std::stoi(lab.sql("n1",
                                            "SELECT count(*) FROM pg_stat_activity"
                                            " WHERE usename = 'primgr'")));
  }
  const double took = seconds_since(start);
  const int asked = rounds() - before;
  ending = true;
  for (auto& client : clients) client.join();
  MESSAGE(answered.load(), " answers, ", asked, " rounds of queries in ", took,
          " s, connections: ", most);
  CHECK(wrong == 0);
  CHECK(answered > 1000);
  CHECK(most >= 1);
  CHECK(most <= 3);
  CHECK(asked <= took + 2);  // one round an interval

  // A voter asked for somebody whom its cache does not name looks at once, every 100 ms at most.
  const int unasked = rounds();
  const auto second = Steady::now();
  while (seconds_since(second) < 2) lab.ask_at(address, "/primary?candidate=n2");
  CHECK(rounds() - unasked > 4);
  CHECK(rounds() - unasked <= seconds_since(second) * 10 + 2);
  CHECK(eventually(5, [&] {  // SIGUSR1: now
    const int seen = rounds();
    const auto start_of_look = Steady::now();
    lab.run("primgr n1 usr1");
    return eventually(0.3, [&] { return rounds() > seen; }) && seconds_since(start_of_look) < 0.5;
  }));
}

TEST_CASE("lab: --once in a shell script, with and without a daemon; signals") {
  if (!lab_possible("--once")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  REQUIRE(lab.answers("n1", 200));
  const std::string primgr = program();
  const auto once = [&](const std::string& node, const std::string& what) {
    const Ran ran = lab.attempt("exec-node " + node + " " + primgr + " --config " +
                                lab.conf(node, "primgr_conf") + " --once " + what);
    return ran.output + " " + std::to_string(ran.status);
  };
  CHECK(once("n1", "") == "Primary 0");
  CHECK(once("n2", "state") == "Standby 1");
  CHECK(once("n2", "primary") == "n1 0");
  CHECK(once("n2", "real-primary") == "n1 0");
  CHECK(once("n1", "state --json") == R"({"state":"Primary"} 0)");
  CHECK(once("n2", "primary --json") == R"({"Primary":"n1"} 0)");
  CHECK(once("n3", "real-primary --json") == R"({"realPrimary":"n1"} 0)");
  CHECK(once("n1", "frob").ends_with(" 64"));

  // SIGTERM and SIGINT end it within a second, also with a request that is never finished.
  for (const char* name : {"TERM", "INT"}) {
    const int fd = [&] {
      const In_Namespace there(lab.hub());
      const int made = ::socket(AF_INET, SOCK_STREAM, 0);
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(5999);
      inet_pton(AF_INET, lab.address("n3").c_str(), &to.sin_addr);
      REQUIRE(::connect(made, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
      return made;
    }();
    REQUIRE(send_all(fd, "GET /st"));
    const std::string stat = "/proc/" + lab.conf("n3", "primgr_pid") + "/stat";
    const auto ended = [&] {  // it may stay a zombie until somebody reaps it
      std::string text;
      return !std::getline(std::ifstream(stat), text) || text.find(") Z ") != text.npos;
    };
    CHECK_FALSE(ended());
    const auto start = Steady::now();
    shell("kill -" + std::string(name) + " $(basename $(dirname " + stat + "))");
    CHECK(eventually(5, ended));
    if (is_shipped()) CHECK(seconds_since(start) <= 1);
    ::close(fd);
    lab.attempt("primgr n3 start");
    CHECK(lab.answers("n3", 202));
  }

  // Without a daemon on the host: the other nodes' votes are still there to read.
  lab.run("primgr n1 stop");
  CHECK(once("n1", "") == "Primary 0");
  CHECK(once("n1", "real-primary") == "n1 0");
  // Nobody votes: not Primary; no daemon calls itself Primary but this one's own look.
  lab.run("primgr n2 stop");
  lab.run("primgr n3 stop");
  CHECK(once("n1", "") == "Unknown 2");
  CHECK(once("n1", "state --json") == R"({"state":"Unknown"} 2)");
  CHECK(once("n1", "real-primary") == "Unknown 2");
  CHECK(once("n2", "real-primary --json") == R"({"realPrimary":null,"state":"Unknown"} 2)");
  lab.sql("n1", "UPDATE repmgr.nodes SET active = false WHERE node_name = 'n1'");
  CHECK(once("n1", "primary") == "Unknown 2");
  CHECK(once("n1", "primary --json") == R"({"state":"Unknown"} 2)");
  lab.run("stop n1");
  CHECK(once("n1", "") == "Down 3");
  CHECK(once("n1", "primary") == "Down 3");
  CHECK(once("n1", "real-primary") == "Down 3");
  CHECK(once("n1", "primary --json") == R"({"state":"Down"} 3)");
  lab.run("exec-node n2 sh -c " + quoted("echo frob = 1 >> " + lab.conf("n2", "primgr_conf")));
  const std::string bad = once("n2", "");
  CHECK(bad.find("unknown key \"frob\"") != std::string::npos);
  CHECK(bad.ends_with(" 78"));
}

TEST_CASE("lab: reads go to standbys that are late by no more than is asked for") {
  if (!lab_possible("/replica")) return;
  const Lab lab("--no-repmgrd");
  const std::string bounded = "/replica?lag=4MB&delay=10s";
  for (const char* node : {"n2", "n3"}) CHECK(lab.answers(node, 200, 10, bounded));
  CHECK(lab.ask("n1", bounded).status == 503);
  CHECK(lab.ask("n1", "/read-only?lag=4MB").status == 200);
  CHECK(eventually(10, [&] { return lab.server("read") == "n2"; }));

  // An idle primary makes nobody late, however long ago the last commit was.
  CHECK(eventually(20, [&] {
    return lab.sql("n3", "SELECT now() - pg_last_xact_replay_timestamp() > '3s'") == "t";
  }));
  CHECK(lab.ask("n3", "/replica?lag=0&delay=1s").status == 200);

  lab.sql("n2", "SELECT pg_wal_replay_pause()");
  lab.sql("n1", "CREATE TABLE load (line text)");
  CHECK(eventually(20, [&] {
    lab.sql("n1", "INSERT INTO load SELECT repeat('x', 1000) FROM generate_series(1, 2000)");
    return lab.ask("n2", bounded).status == 503;
  }));
  CHECK(Json::parse(lab.ask("n2", bounded).body)["reason"].get<std::string>().find(
            "bytes of WAL to replay") != std::string::npos);
  CHECK(lab.answers("n2", 503, 10, "/replica?delay=1s"));
  CHECK(lab.ask("n2", "/replica").status == 200);
  CHECK(lab.ask("n2").status == 202);
  CHECK(lab.answers("n3", 200, 10, bounded));
  CHECK(eventually(20, [&] {
    for (int i = 0; i < 4; ++i) {
      if (lab.server("read") != "n3") return false;
    }
    return true;
  }));
  lab.sql("n2", "SELECT pg_wal_replay_resume()");
  CHECK(lab.answers("n2", 200, 10, bounded));
  CHECK(eventually(20, [&] { return lab.server("read") == "n2"; }));

  // Without a sender the lag is unbounded, not zero.
  lab.run("kill n1");
  CHECK(lab.answers("n3", 503, 10, "/replica?lag=1TB"));
  CHECK(Json::parse(lab.ask("n3", "/replica").body)["reason"].get<std::string>().find(
            "WAL receiver") != std::string::npos);
  CHECK(lab.ask("n3").status == 202);
}

TEST_CASE("lab: without the right to see statistics only lag is unknown, and told so") {
  if (!lab_possible("pg_read_all_stats")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  CHECK(lab.answers("n2", 200, 10, "/replica"));
  lab.sql("n1", "REVOKE pg_read_all_stats FROM primgr");
  CHECK(lab.answers("n2", 503, 10, "/replica"));
  CHECK(Json::parse(lab.ask("n2", "/replica").body)["reason"] ==
        "its WAL receiver is not shown: GRANT pg_read_all_stats TO primgr's role");
  CHECK(lab.ask("n2").status == 202);
  CHECK(lab.ask("n1").status == 200);
}

TEST_CASE("lab: the cluster at a glance, also while the local database is down") {
  if (!lab_possible("/cluster")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  const std::string n2 = "exec-node n2 " + program() + " --config " + lab.conf("n2", "primgr_conf");
  const auto status = [&](const std::string& more = "") {
    const Ran ran = lab.attempt(n2 + " --status " + more);
    return ran.output + "\n" + std::to_string(ran.status);
  };
  const auto shows = [&](const std::string& text, const std::string& more = "") {
    std::string last;
    const bool shown =
        eventually(15, [&] { return (last = status(more)).find(text) != std::string::npos; });
    INFO(last);
    CHECK(shown);
    return last;
  };
  const std::string well = shows("3 of 3");
  CHECK(well.find("\nPrimary: n1 (seen from n2 at ") != std::string::npos);
  CHECK(well.ends_with("\n0"));
  CHECK(count(well, "| Standby |") == 2);

  const auto cluster = [&](const std::string& node = "n2") {
    return Json::parse(lab.ask(node, "/cluster").body);
  };
  CHECK(eventually(15, [&] {
    const Json n1 = cluster()["sites"][0]["nodes"][0];
    return n1["standbys"].size() == 2 && n1["standbys"][1]["state"] == "streaming" &&
           n1["standbys"][1]["lagBytes"] == 0;
  }));
  const Json first = cluster()["sites"][0]["nodes"][0];
  CHECK(first["standbys"][0]["name"] == "n2");
  CHECK(first["timeline"] == 1);
  CHECK(parse_lsn(first["position"].get<std::string>()));
  const Json second = cluster("n3")["sites"][0]["nodes"][1];
  CHECK(second["replication"]["streaming"] == true);
  CHECK(second["replication"]["from"] == lab.address("n1"));

  if (const char* promtool = getenv("PROMTOOL")) {
    for (const char* node : {"n1", "n2"}) {
      const Ran checked = shell("printf %s " + quoted(lab.ask(node, "/metrics").body) + " | " +
                                quoted(promtool) + " check metrics 2>&1");
      INFO(checked.output);
      CHECK(checked.status == 0);
    }
  } else {
    MESSAGE("promtool does not check /metrics here: `make check` says where it is in PROMTOOL");
  }

  lab.run("primgr n3 stop");
  const std::string two = shows("n1: votes are missing");
  CHECK(two.find("n3: unreachable: connection refused") != std::string::npos);
  CHECK(two.ends_with("\n0"));

  lab.run("stop n2");
  shows("n2: Down: ");
  CHECK(cluster()["realPrimary"] == "n1");
  const auto real = [&] {
    const Ran ran = lab.attempt(n2 + " --once real-primary");
    return ran.output + " " + std::to_string(ran.status);
  };
  CHECK(real() == "n1 0");  // its daemon knows
  lab.run("stop n1");
  shows("No primary (seen from n2");
  CHECK(status().ends_with("\n2"));
  CHECK(status("--json").find("\"realPrimary\":null") != std::string::npos);
  CHECK(eventually(5, [&] { return real() == "Unknown 2"; }));
  lab.run("primgr n2 stop");
  CHECK(real() == "Down 3");
  CHECK(status().ends_with("(is primgr running here? --url asks another node)\n69"));
  CHECK(status("--url http://" + lab.address("n1") + ":5999").ends_with("\n2"));
}

TEST_CASE("lab: the page in a browser, before, during and after a failover") {
  if (!lab_possible("the page")) return;
  if (!browser_possible("the page")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  Browser page(lab.hub());
  const std::string n1 = "[data-node=n1]", n2 = "[data-node=n2]", n3 = "[data-node=n3]";

  page.open("http://" + lab.address("n2") + ":5999/");
  page.shows("h1", "Primary: n1");
  page.shows("#summary", "All 3 nodes are well.");
  page.shows("#seen", "Live, seen from n2 at ");
  CHECK(page.title() == "n1 Primary - primgr");
  CHECK(page.texts("h2") == std::vector<std::string>{"Site default"});
  CHECK(page.texts("li h3") ==
        std::vector<std::string>{"n1\nPrimary", "n2\nStandby", "n3\nStandby"});
  CHECK(page.text("#stale").empty());
  page.shows(n1, "Votes: 3 of 3, 2 needed");
  page.shows(n1, "Attached standbys: n2, n3");
  page.shows(n1, "Role\nprimary");
  page.shows(n2, "From\n" + lab.address("n1"));
  page.shows(n2, "Replay lag\n0 B");
  page.shows(n2, "timeline 1");
  // The votes are unfolded by keyboard, and stay so, with the focus, while the page goes on.
  CHECK(page.text(n1 + " tbody").empty());
  page.type(n1 + " summary", "\ue007");
  page.shows(n1 + " thead", "Voter Vote Age Lease left");
  page.shows_more();
  CHECK(count(page.text(n1 + " tbody"), "counts") == 3);
  CHECK(page.run("return document.activeElement.textContent") == "Votes: 3 of 3, 2 needed");
  CHECK(page.complaints().empty());
  page.screenshot("page-before");

  lab.run("kill n1");
  page.shows("h1", "No primary");
  page.shows(n1 + " h3", "Down");
  page.shows(n1 + " .problem", "connection");
  page.shows(n2 + " .problem", "there is no WAL receiver");
  page.shows(n2, "Replay lag\nunbounded");
  page.shows("#summary", "To look at: n1, n2, n3 (3 of 3).");
  page.shows("#told", "No primary");
  lab.run("primgr n1 stop");
  page.shows(n1 + " h3", "Unreachable");
  page.shows(n1 + " .problem", "connection refused or host unreachable");
  page.shows(n1, "Last seen\nDown, ");
  CHECK(page.title() == "No primary - primgr");
  page.screenshot("page-during");

  lab.run("promote n2");
  lab.run("follow n3");
  page.shows("h1", "Primary: n2");
  page.shows(n2 + " h3", "Primary");
  page.shows(n2, "timeline 2");
  page.shows(n2, "Votes: 2 of 3, 2 needed");
  page.shows(n2 + " .problem", "A vote is missing: n1: connection refused");
  page.shows(n3, "Replay lag\n0 B");
  page.shows("#summary", "To look at: n1, n2 (2 of 3).");
  CHECK(page.title() == "n2 Primary - primgr");
  page.screenshot("page-after");

  // The page's own node goes away, and comes back.
  lab.run("primgr n2 stop");
  page.shows("#stale", "Not live: last answer ");
  page.shows("#stale", " s ago (no connection to primgr)");
  page.shows("#seen", "Was seen from n2 at ");
  CHECK(page.title() == "Not live: n2 Primary - primgr");
  page.screenshot("page-not-live");
  lab.run("primgr n2 start");
  page.shows("#seen", "Live, seen from n2 at ");
  page.shows("h1", "Primary: n2");
  CHECK(page.text("#stale").empty());
  lab.run("primgr n2 pause");
  page.shows("#stale", "(no answer ");
  lab.run("primgr n2 resume");
  page.shows("#seen", "Live, seen from n2 at ");
  page.shows("h1", "Primary: n2");

  // A name with markup is text.
  page.complaints();
  const std::string name = "<img src=x onerror=alert(1)>";
  lab.sql("n2", "UPDATE repmgr.nodes SET node_name = '" + name + "' WHERE node_name = 'n1'");
  page.shows("li h3", name + "\nUnreachable");
  page.shows("#summary", "To look at: " + name + ", n2 (2 of 3).");
  CHECK_FALSE(page.has_dialog());
  CHECK(page.run("return document.images.length") == 0);
  CHECK(page.complaints().empty());
}

TEST_CASE("lab: the page with two primaries, and with peers that say anything") {
  if (!browser_possible("hostile peers on the page")) return;
  // What n3, n4, … say when they are hostile.
  const std::string markup = "<img src=x onerror=alert(1)><script>alert(2)</script>";
  const auto node_of = [](const char* state, const Json& value) {
    Json node = {{"state", state}};
    for (const char* key :
         {"role", "since", "stateSeconds", "reason", "primary", "votes", "timeline", "position",
          "replication", "standbys", "cacheAgeSeconds", "nodesAgeSeconds", "nodesProblem",
          "connections", "version", "uptimeSeconds"}) {
      node[key] = value;
    }
    return node;
  };
  std::vector<Json> hostile = {node_of("Down", markup)};
  hostile[0]["votes"] = {
      {"counted", 1}, {"of", 3}, {"voters", {{{"name", markup}, {"error", markup}}}}};
  hostile[0]["standbys"] = {{{"name", markup}, {"state", markup}, {"address", markup}}};
  for (const Json& value : {Json(nullptr), Json(true), Json(-1), Json(1e308), Json("x"),
                            Json::array({nullptr, 1, "x"}), Json{{"x", 1}}}) {
    for (const char* state : {"Primary", "Standby", "Unknown"}) {
      hostile.push_back(node_of(state, value));
    }
  }
  World world(World::named("n2"));
  auto nodes = make_site(2 + static_cast<int>(hostile.size()));
  nodes[2].site = "east";
  world.look(make_facts(nodes, true));
  std::atomic<bool> are_hostile = false;
  const Served served(world, {}, [&](const Node& peer, const std::string&, Time, const auto& done) {
    Json told = {{"state", peer.id == 1 || peer.id == 3 ? "Primary" : "Standby"}};
    if (peer.id == 4) told["nodesProblem"] = "locked", told["nodesAgeSeconds"] = 75;
    if (are_hostile && peer.id >= 3) told = hostile[static_cast<std::size_t>(peer.id) - 3];
    told["name"] = peer.name;
    done({200, told.dump(), "", {}});
  });

  Browser page;
  page.open("http://127.0.0.1:" + std::to_string(served.port) + "/");
  page.shows("h1", "Two primaries: n1, n3");
  CHECK(page.title() == "Two primaries: n1, n3 - primgr");
  page.shows("#summary", "Writes may go to each of them.");
  page.shows("[data-node=n1] .problem", "Claims to be Primary, and so does n3");
  page.shows("[data-node=n4] .problem", "repmgr.nodes is blocked: locked");
  page.shows("[data-node=n4] .problem", "the list stands that was read 1 min 15 s ago");
  CHECK(page.texts("h2") == std::vector<std::string>{"Site default", "Site east"});
  page.screenshot("page-two-primaries");

  are_hostile = true;
  page.shows("[data-node=n3] .problem", markup);
  page.shows("h1", "8 primaries: n1, n4, n7");
  CHECK(page.text("[data-node=n1] h3") == "n1\nPrimary");
  CHECK(page.text("[data-node=n2] h3") == "n2\nStandby");
  CHECK(page.texts("li").size() == nodes.size());
  CHECK(page.text("#stale").empty());
  CHECK(count(page.text("[data-node=n3]"), markup) > 3);
  page.shows_more();
  page.screenshot("page-hostile");
  CHECK_FALSE(page.has_dialog());
  CHECK(page.run("return document.images.length + document.scripts.length") == 1);
  CHECK(page.complaints().empty());
}

TEST_CASE("lab: systemd is told that primgr is ready, alive, and ending") {
  if (!lab_possible("systemd")) return;
  char folder[] = "/tmp/primgr-notify-XXXXXX";
  REQUIRE(mkdtemp(folder));
  const std::string path = std::string(folder) + "/socket", conf = std::string(folder) + "/conf";
  std::ofstream(conf) << "listen = 127.0.0.1:5999\nconninfo = host=/nonexistent\n";
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  const auto told = [&] {
    char text[64] = "";
    pollfd ready{fd, POLLIN, 0};
    if (::poll(&ready, 1, 20'000) > 0) [[maybe_unused]]
      const auto n = ::recv(fd, text, sizeof text - 1, 0);
    return std::string(text);
  };
  const std::string binary = program_path();
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("NOTIFY_SOCKET", path.c_str(), 1);
    unshare(CLONE_NEWNET);  // the port may be another's
    std::system("ip link set lo up");
    execl(binary.c_str(), "primgr", "--config", conf.c_str(), "--log-level", "error", nullptr);
    _exit(127);
  }
  CHECK(told() == "READY=1");
  CHECK(told() == "WATCHDOG=1");
  kill(pid, SIGTERM);
  std::string last;
  while ((last = told()) == "WATCHDOG=1") {
  }
  CHECK(last == "STOPPING=1");
  int status = 0;
  waitpid(pid, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  ::close(fd);
  std::filesystem::remove_all(folder);
}

TEST_CASE("lab: over TLS a failover goes as without, and who has no certificate learns nothing") {
  if (!lab_possible("TLS")) return;
  const Lab lab("--tls --no-repmgrd");  // it is up once HAProxy, too, sees every node as it is
  const std::string conf = lab.conf("n2", "primgr_conf");
  CHECK(lab.attempt("exec-node n2 " + program() + " --config " + conf + " --once real-primary")
            .output == "n1");
  const Ran shown = lab.attempt("exec-node n2 " + program() + " --config " + conf + " --status");
  INFO(shown.output);
  CHECK(shown.status == 0);
  CHECK(count(shown.output, "unreachable") == 0);
  CHECK(lab.attempt("exec-node n2 " + program() + " --config " + conf + " --status --url https://" +
                    lab.address("n1"))
            .status == 0);
  const std::string url = "https://" + lab.address("n1") + ":5999/state";
  CHECK(lab.attempt("exec-node n2 curl -q -sk --max-time 5 " + url).status != 0);
  lab.run("kill n1");
  lab.run("promote n2");
  lab.run("follow n3");
  lab.run("wait n2 Primary 20");
  // A certificate that is replaced is in use at SIGHUP; rubbish in its place changes nothing.
  const std::string folder = conf.substr(0, conf.rfind('/'));
  lab.run("exec-node n2 sh -c " + quoted("echo rubbish > " + folder + "/tls.crt"));
  lab.run("primgr n2 hup");
  CHECK(eventually(10, [&] {
    return lab.attempt("exec-node n2 grep 'certificate read before stays' " + folder +
                       "/primgr.log")
               .status == 0;
  }));
  lab.run("wait n2 Primary 5");
}

TEST_CASE("lab: --look reaches the daemon of the port, whosever it is, and costs it one look") {
  if (!lab_possible("--look")) return;
  const State_Folder folder;
  const std::string conf = folder.path("conf"), log = folder.path("log");
  // It looks every 19 s by itself. Nobody but root may read its key, or whatever repmgr_conf is.
  std::ofstream(conf) << "listen = 127.0.0.1:5999\nconninfo = host=/nonexistent\nnode_name = n1\n"
                         "refresh_interval = 19s\nvote_lease = 1min\nlog_level = debug\n";
  std::filesystem::permissions(folder.folder, std::filesystem::perms(0755));
  const std::string copy = folder.path("primgr");
  std::filesystem::copy_file(program_path(), copy);
  const std::string run = copy + " --config " + conf;
  const std::string as_another =
      "setpriv --reuid nobody --regid 65534 --clear-groups " + run + " --look";
  const std::string looks =
      "curl -s http://127.0.0.1:5999/metrics | sed -n 's/^primgr_refresh_seconds_count //p'";
  const Ran ran =
      shell("exec 2>&1; timeout -k 5 120 unshare -n sh -c " +
            quoted("ip link set lo up; " + as_another + "; echo none: $?; " + run + " 2>" + log +
                   " & daemon=$!; until grep -q 'answers for' " + log + " && [ \"$(" + looks +
                   ")\" ]; do sleep 0.05; done; "
                   // Five rounds of its own would take 95 s; each of these waits for one more look.
                   "for i in 1 2 3 4 5; do before=$(" +
                   looks + "); " + as_another +
                   "; echo told: $?; n=0; "
                   "until [ \"$(" +
                   looks +
                   ")\" -gt \"$before\" ]; do sleep 0.05; n=$((n + 1)); "
                   "[ $n -lt 200 ] || { echo no look; break; }; done; done; "
                   "echo by port: $(" +
                   copy +
                   " --look --listen 0.0.0.0:5999; echo $?); "
                   "echo another: $(" +
                   copy +
                   " --look --listen 127.0.0.1:6000 2>/dev/null; echo $?); "
                   // A flood is a look each 100 ms, and signals are heard meanwhile.
                   "before=$(" +
                   looks + "); for i in $(seq 200); do " + run +
                   " --look; done; "
                   "kill $daemon; wait $daemon; echo ended: $?; " +
                   as_another + "; echo gone: $?"));
  INFO(ran.output);
  CHECK(ran.output.find("none answers for port 5999") != ran.output.npos);
  CHECK(ran.output.find("none: 69\n") != ran.output.npos);
  CHECK(count(ran.output, "told: 0\n") == 5);
  CHECK(ran.output.find("no look") == ran.output.npos);
  CHECK(ran.output.find("by port: 0\n") != ran.output.npos);
  CHECK(ran.output.find("another: 69\n") != ran.output.npos);
  CHECK(ran.output.find("ended: 0\n") != ran.output.npos);
  CHECK(ran.output.ends_with("gone: 69"));
}

TEST_CASE("lab: repmgrd tells a primgr of another user, which looks between its own looks") {
  if (!lab_possible("event notification")) return;
  const Lab lab(
      "--nodes 2 --no-haproxy --no-wait --primgr-user nobody --set 'refresh_interval = 15s'"
      " --set 'vote_lease = 50s' --set 'log_level = debug' --repmgr-set " +
      quoted("event_notification_command = '%d/../primgr --config %d/primgr.conf --look'"));
  const auto told = [&] { return count(lab.log("n2"), "told to look (--look)"); };
  CHECK(lab.run("exec-node n2 ps -o user= -p " + lab.conf("n2", "primgr_pid")) == "nobody");
  // repmgrd's start is an event.
  CHECK(eventually(30, [&] { return told() > 0; }));
  CHECK(lab.answers("n2", 202, 60));
  // A promotion leaves the connection to the database as it is: nothing else tells of it.
  const std::size_t before = told();
  lab.run("kill n1");
  CHECK(eventually(60, [&] { return lab.ask("n2").status != 202; }));
  CHECK(eventually(30, [&] { return told() > before; }));
  INFO(lab.log("n2"));
  CHECK(lab.log("n2").find("cannot") == std::string::npos);
}

TEST_CASE("lab: a state file is one daemon's, and a regular file") {
  if (!lab_possible("state file")) return;
  const State_Folder folder;
  const std::string conf = folder.path("conf"), log = folder.path("log");
  const auto configure = [&](const std::string& state_file) {
    std::ofstream(conf) << "listen = 127.0.0.1:5999\nconninfo = host=/nonexistent\nnode_name = n1\n"
                        << "state_file = " << state_file << "\n";
  };
  configure(folder.path());
  const std::string run = program() + " --config " + conf;
  // In a network of its own, so that the port is free.
  const auto alone = [](const std::string& script) {
    return shell("exec 2>&1; timeout -k 5 120 unshare -n sh -c " +
                 quoted("ip link set lo up; " + script));
  };
  const Ran two = alone(run + " 2>" + log + " & first=$!; until grep -q 'answers for' " + log +
                        "; do sleep 0.05; done; " + run + " --listen 127.0.0.1:6000; echo $?; " +
                        run + " --once; echo $?; " + run +
                        " --check-config >/dev/null; echo $?; kill $first; "
                        "wait $first; echo $?; echo $first");
  INFO(two.output);
  std::istringstream lines(two.output.substr(two.output.find("state_file: ")));
  std::string error, second, word, once, check, first, pid;
  std::getline(lines, error);
  lines >> second >> word >> once >> check >> first >> pid;
  CHECK(error ==
        "state_file: " + folder.path() + " is in use by another process (pid " + pid + ")");
  CHECK(second == "69");
  CHECK(word + once == "Down3");
  CHECK(check == "0");
  CHECK(first == "0");
  // Killed, it leaves what it promised, and the lock to the next.
  const Ran killed = alone(run + " 2>" + log + " & until grep -q 'answers for' " + log +
                           "; do sleep 0.05; done; kill -9 $!; " + run + " 2>" + log +
                           "2 & until grep -q 'answers for' " + log +
                           "2; do sleep 0.05; done; kill $!; cat " + log + "2");
  INFO(killed.output);
  CHECK(killed.output.find("state_file") == killed.output.npos);

  const std::string device = folder.path("device"), fifo = folder.path("fifo");
  REQUIRE(mknod(device.c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0);
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  for (const std::string& path : {device, fifo, folder.folder}) {
    configure(path);
    for (const char* mode : {"", " --check-config"}) {
      const Ran ran = alone("timeout 20 " + run + mode);
      INFO(ran.output);
      CHECK(ran.status == 78);
      CHECK(ran.output.find("state_file: " + path + " is not a regular file: name a file") !=
            std::string::npos);
    }
  }
  CHECK(std::filesystem::is_character_file(device));
  CHECK(std::filesystem::is_fifo(fifo));
}

TEST_CASE("lab: what cannot be printed is no success") {
  const std::string conf = "build/test-print.conf";
  std::ofstream(conf) << "listen = 127.0.0.1:5999\nconninfo = host=/nonexistent\n";
  for (const char* what : {"--help", "--version", "--check-config", "--once"}) {
    const Ran ran = shell(program() + " --config " + conf + " " + what + " 2>&1 >/dev/full");
    CAPTURE(what);
    CHECK(ran.status == 69);
    CHECK(ran.output == "primgr: cannot write to standard output: No space left on device");
  }
  std::filesystem::remove(conf);
}

TEST_CASE("lab: signals for the daemon do not end who asks something") {
  // A database and a daemon that do not answer: who asks them is there until they are closed.
  const std::string conf = "build/test-signals.conf", binary = program_path();
  const auto ask = [&](const char* mode, int expected) {
    CAPTURE(mode);
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&at), size) == 0);
    REQUIRE(::listen(listener, 1) == 0);
    REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size) == 0);
    const std::string port = std::to_string(ntohs(at.sin_port));
    std::ofstream(conf) << "listen = 127.0.0.1:" << port
                        << "\ndb_timeout = 1min\nconninfo = host=127.0.0.1 port=" << port << "\n";
    const pid_t pid = fork();
    if (pid == 0) {
      freopen("/dev/null", "w", stderr);
      freopen("/dev/null", "w", stdout);
      execl(binary.c_str(), "primgr", "--config", conf.c_str(), mode, nullptr);
      _exit(127);
    }
    pollfd ready{listener, POLLIN, 0};
    CHECK(::poll(&ready, 1, 20'000) == 1);
    const int asked = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    kill(pid, SIGUSR1);
    kill(pid, SIGHUP);
    ::close(listener);
    ::close(asked);
    int status = 0;
    waitpid(pid, &status, 0);
    CAPTURE(status);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == expected);
  };
  ask("--once", 3);
  ask("--status", 69);
  std::filesystem::remove(conf);
}

TEST_CASE("lab: two claimants: --once real-primary exits with 2 and names both in JSON") {
  if (!lab_possible("claimants")) return;
  const Lab lab("--site a:1 --site b:1 --no-repmgrd --no-haproxy");
  REQUIRE(lab.answers("n1", 200));
  lab.run("cut n1 n2");
  lab.run("promote n2");
  lab.run("heal");
  CHECK(lab.answers("n2", 200));
  const Ran ran = lab.attempt("exec-node n1 " + program() + " --config " +
                              lab.conf("n1", "primgr_conf") + " --once real-primary --json");
  CHECK(ran.output == R"({"realPrimary":null,"claimants":["n1","n2"]})");
  CHECK(ran.status == 2);
}

TEST_SUITE_END();

// ---- the fault campaign
// ---------------------------------------------------------------------------

// Random faults on a real cluster, while every node is watched and rows are written through
// HAProxy. `make faults FAULTS=300 NODES=5 FAULT_SEED=7`; a short one is part of every test run.

namespace {

struct Connection_Deleter {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
using Connection = std::unique_ptr<PGconn, Connection_Deleter>;

double percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<std::size_t>(p * static_cast<double>(values.size())))];
}

class Campaign {
 public:
  Campaign(int nodes, std::uint64_t seed)
      : random_(seed), lab_("--nodes " + std::to_string(nodes) + " --state-file") {
    std::size_t i = 0;
    for (const std::string& name : lab_.nodes()) {
      auto node = std::make_unique<Watched>();
      node->name = name;
      node->netns = lab_.conf(name, "netns");
      node->socket = lab_.conf(name, "socket");
      node->address = lab_.address(name);
      nodes_.push_back(std::move(node));
    }
    lab_.run("write 'CREATE TABLE written (n bigint PRIMARY KEY)'");
    for (; i < nodes_.size(); ++i) {
      threads_.emplace_back([this, i] { watch(*nodes_[i]); });
      threads_.emplace_back([this, i] { watch_database(*nodes_[i]); });
    }
    threads_.emplace_back([this] { write_rows(); });
  }
  ~Campaign() {
    ending_ = true;
    for (auto& thread : threads_) thread.join();
  }

  void run(int faults) {
    converge("the start");
    for (int i = 0; i < faults && trouble_.empty(); ++i) fault();
  }

  // Quiet minutes under load: whatever the primary answers but 200 is a false alarm.
  void quiet(double seconds) {
    if (!trouble_.empty()) return;  // there is no primary whose answers could be false
    const std::size_t leader = this->leader();
    const double start = now();
    while (now() - start < seconds) std::this_thread::sleep_for(100ms);
    false_alarms_ += not_200(leader, start, now());
    quiet_ += seconds;
  }

  // Compares what was promised with what was seen, and tells the figures.
  void report() {
    const double end = now();
    const std::string final_rows = [&] {
      const auto connection = connect(*nodes_[leader()], "postgres");
      std::string rows = ",";
      if (!connection) return rows;
      PGresult* result = PQexec(connection.get(), "SELECT n FROM written ORDER BY n");
      for (int r = 0; r < PQntuples(result); ++r)
        rows += std::string(PQgetvalue(result, r, 0)) + ",";
      PQclear(result);
      return rows;
    }();
    std::size_t lost = 0, misrouted = 0;
    const std::lock_guard lock(mutex_);
    for (const Row& row : rows_) {
      lost += final_rows.find("," + std::to_string(row.number) + ",") == final_rows.npos;
      // HAProxy has seen two failed checks for certain if the node answered nothing but 509 and 503
      // for so long before the row was sent.
      const double blind = 2.0;
      bool refused = false, other = false;
      for (const Sample& s : samples_) {
        // A moment later counts too: HAProxy may have asked between two of these samples.
        if (nodes_[s.node]->address != row.server || s.received < row.sent - blind ||
            s.sent > row.sent + 0.1) {
          continue;
        }
        (s.status == 509 || s.status == 503 ? refused : other) = true;
      }
      misrouted += refused && !other;
    }
    MESSAGE(kinds_.size(), " kinds of faults, ", total_, " faults in ", end - begun_, " s");
    for (const auto& [kind, n] : kinds_) MESSAGE("  ", kind, ": ", n);
    MESSAGE("violations: ", violations(), "; false alarms: ", false_alarms_,
            " (quiet seconds under load: ", quiet_, "); samples: ", samples_.size());
    const auto figure = [&](const std::string& what, const std::vector<double>& values) {
      MESSAGE(what, ": median ", percentile(values, 0.5), " s, p95 ", percentile(values, 0.95),
              " s, max ", percentile(values, 1), " s, n ", values.size());
    };
    figure("crashed primary, last 200 to first other answer", crashed_);
    figure("isolated primary, cut to 509", isolated_);
    figure("hung server, pause to other answer", hung_);
    figure("new primary, from a majority of databases and old leases out to 200", taken_over_);
    MESSAGE("rows acknowledged: ", rows_.size(), ", lost by asynchronous failover: ", lost,
            ", accepted by a server that primgr refused: ", misrouted);
    MESSAGE("repmgr's own: ", repmgr_trouble_);
    CHECK(violations() == 0);
    CHECK(false_alarms_ == 0);
    CHECK(misrouted == 0);
    CHECK(percentile(crashed_, 0.95) <= 0.3);
    CHECK(percentile(isolated_, 1) <= 3.5);
    CHECK(percentile(hung_, 1) <= 5.5);
    CHECK(percentile(taken_over_, 0.95) <= 0.5);
    CHECK(trouble_ == "");
  }

 private:
  struct Watched {
    std::string name, netns, socket, address;
    std::atomic<int> status{0};
    std::atomic<bool> reachable{false}, in_recovery{true};
    std::mutex mutex;  // guards names
    std::string names;
  };
  struct Sample {
    double sent, received;
    std::size_t node;
    int status;
  };
  struct Row {
    long number;
    double sent;
    std::string server;
  };

  double now() const { return std::chrono::duration<double>(Steady::now() - zero_).count(); }

  // Asks a node's primgr every 20 ms, from its own namespace, where no cut is in the way.
  void watch(Watched& node) {
    const In_Namespace there(node.netns);
    const std::size_t index =
        static_cast<std::size_t>(std::find_if(nodes_.begin(), nodes_.end(),
                                              [&](const auto& n) { return n.get() == &node; }) -
                                 nodes_.begin());
    while (!ending_) {
      httplib::Client client("127.0.0.1", 5999);
      client.set_connection_timeout(1s);
      client.set_read_timeout(1s);
      client.set_keep_alive(false);
      const double sent = now();
      const auto result = client.Get("/state");
      node.status = result ? result->status : 0;
      if (result) {
        const std::lock_guard lock(mutex_);
        samples_.push_back({sent, now(), index, result->status});
      }
      std::this_thread::sleep_for(20ms);
    }
  }

  // Servers say a lot while they are killed.
  static void hush(PGconn* connection) {
    if (connection)
      PQsetNoticeProcessor(
          connection, [](void*, const char*) {}, nullptr);
  }

  static Connection connect(const Watched& node, const char* database) {
    Connection connection(PQconnectdb(
        ("host=" + node.socket + " user=postgres connect_timeout=2 dbname=" + database).c_str()));
    if (PQstatus(connection.get()) != CONNECTION_OK) connection.reset();
    hush(connection.get());
    return connection;
  }

  // Asks a node's database every 20 ms whom it names. A hung server holds this thread, no other.
  void watch_database(Watched& node) {
    Connection connection;
    while (!ending_) {
      if (!connection) connection = connect(node, "repmgr");
      std::string names;
      bool reachable = false;
      if (connection) {
        const std::unique_ptr<PGresult, decltype(&PQclear)> result(
            PQexec(connection.get(),
                   "SELECT pg_is_in_recovery(), (SELECT string_agg(node_name, ',') FROM"
                   " repmgr.nodes WHERE type = 'primary' AND active)"),
            PQclear);
        reachable = PQresultStatus(result.get()) == PGRES_TUPLES_OK;
        if (reachable) {
          node.in_recovery = *PQgetvalue(result.get(), 0, 0) == 't';
          names = PQgetvalue(result.get(), 0, 1);
        } else {
          connection.reset();
        }
      }
      node.reachable = reachable;
      {
        const std::lock_guard lock(node.mutex);
        node.names = names;
      }
      note_majority();
      std::this_thread::sleep_for(20ms);
    }
  }

  // When a majority of databases came to name another node.
  void note_majority() {
    std::map<std::string, std::size_t> count;
    for (const auto& node : nodes_) {
      const std::lock_guard lock(node->mutex);
      if (!node->names.empty()) ++count[node->names];
    }
    const std::lock_guard lock(mutex_);
    for (const auto& [name, n] : count) {
      if (n < votes_needed(nodes_.size()) || majority_ == name) continue;
      majority_ = name;
      majority_since_ = now();
    }
  }

  void write_rows() {
    const In_Namespace there(lab_.hub());
    Connection connection;
    for (long number = 1; !ending_; ++number) {
      if (!connection) {
        connection.reset(
            PQconnectdb("host=10.99.0.254 port=5000 user=app dbname=postgres connect_timeout=2"
                        " tcp_user_timeout=3000"));
        if (PQstatus(connection.get()) != CONNECTION_OK) {
          connection.reset();
          std::this_thread::sleep_for(50ms);
          continue;
        }
        hush(connection.get());
      }
      const double sent = now();
      const std::unique_ptr<PGresult, decltype(&PQclear)> result(
          PQexec(connection.get(), ("INSERT INTO written VALUES (" + std::to_string(number) +
                                    ") RETURNING host(inet_server_addr())")
                                       .c_str()),
          PQclear);
      if (PQresultStatus(result.get()) == PGRES_TUPLES_OK) {
        const std::lock_guard lock(mutex_);
        rows_.push_back({number, sent, PQgetvalue(result.get(), 0, 0)});
      } else {
        connection.reset();
      }
      std::this_thread::sleep_for(20ms);
    }
  }

  std::size_t leader() const {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i]->status == 200) return i;
    }
    return 0;
  }
  std::size_t other_than(std::size_t i) {
    const std::size_t other = random_() % (nodes_.size() - 1);
    return other < i ? other : other + 1;
  }
  const std::string& name(std::size_t i) const { return nodes_[i]->name; }
  bool healthy() const {
    int primaries = 0, standbys = 0;
    for (const auto& node : nodes_) {
      primaries += node->status == 200;
      standbys += node->status == 202;
    }
    return primaries == 1 && primaries + standbys == static_cast<int>(nodes_.size());
  }
  void hold(double least, double most) {
    const double until =
        now() + least + (most - least) * static_cast<double>(random_() % 1000) / 1000;
    while (now() < until) std::this_thread::sleep_for(10ms);
  }

  // The seconds from `since` to the first answer of the node that is not 200; none: no such answer.
  std::optional<double> first_other(std::size_t node, double since, double seconds) {
    std::optional<double> after;
    eventually(seconds, [&] {
      const std::lock_guard lock(mutex_);
      for (auto s = samples_.rbegin(); s != samples_.rend() && s->received >= since; ++s) {
        if (s->node == node && s->status != 200 && s->sent >= since) after = s->received - since;
      }
      return after.has_value();
    });
    return after;
  }
  std::size_t not_200(std::size_t node, double from, double to) {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(
        std::count_if(samples_.begin(), samples_.end(), [&](const Sample& s) {
          return s.node == node && s.status != 200 && s.sent >= from && s.received <= to;
        }));
  }
  // Answers of 200 by A, then B, then A again within one lease.
  std::size_t violations() const {
    std::size_t found = 0;
    std::vector<double> last_before(nodes_.size(), -1e9);
    std::vector<Sample> primaries;
    for (const Sample& s : samples_) {
      if (s.status == 200) primaries.push_back(s);
    }
    std::sort(primaries.begin(), primaries.end(),
              [](const Sample& a, const Sample& b) { return a.sent < b.sent; });
    for (std::size_t k = 0; k < primaries.size(); ++k) {
      const Sample& b = primaries[k];
      for (std::size_t i = k; i-- > 0 && primaries[i].sent > b.sent - 3;) {
        const Sample& a = primaries[i];
        if (a.node == b.node || a.received > b.sent) continue;
        for (std::size_t j = k + 1; j < primaries.size() && primaries[j].sent < a.received + 2.9;
             ++j) {
          if (primaries[j].node == a.node && primaries[j].sent >= b.received) {
            ++found;
            break;
          }
        }
        break;
      }
    }
    return found;
  }

  void fault() {
    const std::size_t p = leader(), other = other_than(p);
    const double start = now();
    std::string kind;
    bool quiet_for_primary = false;
    const auto apply = [&](const std::string& what, const std::string& verb) {
      kind = what;
      lab_.attempt(verb);
    };
    // How long the primary goes on answering 200 from now.
    const auto measure = [&](std::vector<double>& into) {
      if (const auto took = first_other(p, now(), 10)) into.push_back(*took);
    };
    switch (random_() % 14) {
      case 0:
      case 1:
        apply("kill the primary", "kill " + name(p));
        if (first_other(p, start, 5)) crashed_.push_back(std::max(0.0, first_other_after_200(p)));
        hold(0, 8);
        break;
      case 2:
        apply("stop the primary", "stop " + name(p));
        hold(0, 8);
        break;
      case 3:
      case 4:
        apply("pause the primary", "pause " + name(p));
        measure(hung_);
        hold(0, 6);
        lab_.attempt("resume " + name(p));
        break;
      case 5:
      case 6:
        apply("cut the primary off", "cut " + name(p));
        measure(isolated_);
        hold(0, 8);
        lab_.attempt("heal");
        break;
      case 7:
        apply("cut one link of the primary", "cut " + name(p) + " " + name(other));
        quiet_for_primary = nodes_.size() > 2;
        hold(1, 6);
        lab_.attempt("heal");
        break;
      case 8:
        apply("cut one direction", "cut " + name(other) + " " + name(p) + " --oneway");
        hold(1, 6);
        lab_.attempt("heal");
        break;
      case 9: {
        std::string rest;
        for (std::size_t i = 0; i < nodes_.size(); ++i) {
          if (i != p && i != other) rest += (rest.empty() ? "" : ",") + name(i);
        }
        apply("partition in two", "partition " + name(p) + "," + name(other) + " / " + rest);
        if (nodes_.size() > 4) measure(isolated_);
        hold(1, 8);
        lab_.attempt("heal");
        break;
      }
      case 10:
        apply("promote by hand while the primary lives",
              "psql " + name(other) + " -c 'SELECT pg_promote()'");
        hold(1, 4);
        break;
      case 11:
        apply("kill a standby", "kill " + name(other));
        quiet_for_primary = true;
        hold(1, 4);
        break;
      default: {
        const std::size_t victim = random_() % 2 ? p : other;
        const bool term = random_() % 2;
        apply(std::string("restart primgr with ") + (term ? "SIGTERM" : "SIGKILL"),
              "primgr " + name(victim) + (term ? " stop" : " kill"));
        lab_.attempt("primgr " + name(victim) + " start");
        quiet_for_primary = true;
        hold(1, 4);
        break;
      }
    }
    ++kinds_[kind];
    ++total_;
    if (quiet_for_primary) {
      const std::size_t alarms = not_200(p, start, now());
      if (alarms)
        MESSAGE("false alarm: ", kind, ": ", alarms, " answers other than 200 from ", name(p));
      false_alarms_ += alarms;
    }
    converge(kind);
    const std::size_t heir = leader();
    if (getenv("FAULT_TRACE")) {
      MESSAGE(kind, ": ", name(p), " -> ", name(heir), ", named by a majority: ", majority_, " ",
              majority_since_ - start, " s after, mended in ", now() - start, " s");
    }
    if (heir != p && majority_ == name(heir) && majority_since_ > start) {
      double first = -1;
      {
        const std::lock_guard lock(mutex_);
        for (const Sample& s : samples_) {
          if (first < 0 && s.node == heir && s.status == 200 && s.sent >= start) first = s.received;
        }
      }
      const double old_leases_out = last_before(p, first) + 3;
      taken_over_.push_back(std::max(0.0, first - std::max(majority_since_, old_leases_out)));
    }
  }

  // The last 200 of a node to its first other answer.
  double first_other_after_200(std::size_t node) {
    const double last = last_before(node, now());
    const std::lock_guard lock(mutex_);
    for (const Sample& s : samples_) {
      if (s.node == node && s.status != 200 && s.received >= last) return s.received - last;
    }
    return 0;
  }
  // When a node last answered 200 before `time`.
  double last_before(std::size_t node, double time) {
    const std::lock_guard lock(mutex_);
    double last = 0;
    for (const Sample& s : samples_) {
      if (s.node == node && s.status == 200 && s.received < time) last = s.received;
    }
    return last;
  }

  // Leaves repmgrd its time, then mends what it did not, until one node is 200 and the others 202.
  void converge(const std::string& after) {
    lab_.attempt("heal");
    const double start = now();
    double patience = 20;
    while (!healthy() || now() - start < 1) {
      if (now() - start > 150) {
        trouble_ = "after " + after + " the cluster does not come back";
        return;
      }
      const bool led = nodes_[leader()]->status == 200;
      // A server that is down comes back as it was; while nobody leads, only after repmgrd had its
      // time.
      for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const bool late = now() - start > patience;
        if (nodes_[i]->status == 0) lab_.attempt("primgr " + name(i) + " start");
        if (!led && !late) continue;
        if (nodes_[i]->status == 503) lab_.attempt("start " + name(i));
        if (led && nodes_[i]->status == 509 && nodes_[i]->reachable && !nodes_[i]->in_recovery) {
          lab_.attempt("rejoin " + name(i) + " " + name(leader()));
        }
        if (led && late && nodes_[i]->status == 202) {
          std::string names;
          {
            const std::lock_guard lock(nodes_[i]->mutex);
            names = nodes_[i]->names;
          }
          if (names != name(leader())) {
            ++repmgr_trouble_;
            lab_.attempt("rejoin " + name(i) + " " + name(leader()));
          }
        }
      }
      if (!led && now() - start > patience + 10) {  // repmgrd has given up, too
        ++repmgr_trouble_;
        patience += 40;
        mend_without_leader();
      }
      std::this_thread::sleep_for(100ms);
    }
    // Every standby names the leader before the next fault, or repmgr had no chance.
    eventually(15, [&] {
      for (const auto& node : nodes_) {
        const std::lock_guard lock(node->mutex);
        if (node->names != name(leader())) return false;
      }
      return true;
    });
  }

  // repmgr can leave a cluster in pieces that follow different servers, none a majority. What an
  // operator does: the others follow the server of the newest timeline; there is one, or one is
  // made.
  void mend_without_leader() {
    std::size_t chosen = nodes_.size();
    int newest = 0;
    for (std::size_t k = 0; k < nodes_.size(); ++k) {
      if (!nodes_[k]->reachable || nodes_[k]->in_recovery) continue;
      const Ran ran = lab_.attempt("psql " + name(k) +
                                   " -qAtc 'SELECT timeline_id FROM pg_control_checkpoint()'");
      const int timeline = std::atoi(ran.output.c_str());
      if (timeline > newest) {
        newest = timeline;
        chosen = k;
      }
    }
    if (chosen == nodes_.size()) {
      for (std::size_t k = 0; k < nodes_.size(); ++k) {
        if (!nodes_[k]->reachable) continue;
        lab_.attempt("promote " + name(k));
        return;
      }
      return;
    }
    for (std::size_t k = 0; k < nodes_.size(); ++k) {
      if (k != chosen) lab_.attempt("rejoin " + name(k) + " " + name(chosen));
    }
  }

  std::mt19937_64 random_;
  const Steady::time_point zero_ = Steady::now();
  const Lab lab_;
  const double begun_ = now();
  std::vector<std::unique_ptr<Watched>> nodes_;
  std::atomic<bool> ending_{false};
  mutable std::mutex mutex_;  // guards samples_, rows_, majority_*
  std::vector<Sample> samples_;
  std::vector<Row> rows_;
  std::string majority_;
  double majority_since_ = 0;
  std::map<std::string, int> kinds_;
  int total_ = 0, repmgr_trouble_ = 0;
  std::size_t false_alarms_ = 0;
  double quiet_ = 0;
  std::vector<double> crashed_, isolated_, hung_, taken_over_;
  std::string trouble_;
  std::vector<std::thread> threads_;
};

}  // namespace

TEST_SUITE_BEGIN("lab");

TEST_CASE("faults: never two primaries, no false alarm, and every time within its bound") {
  if (!lab_possible("faults")) return;
  const std::uint64_t seed = from_environment("FAULT_SEED", 1);
  const int faults = static_cast<int>(from_environment("FAULTS", 8));
  MESSAGE("seed ", seed);
  Campaign campaign(static_cast<int>(from_environment("NODES", 3)), seed);
  campaign.run(faults);
  campaign.quiet(static_cast<double>(from_environment("QUIET", 10)));
  campaign.report();
}

TEST_SUITE_END();

// ---- harm to the database -----------------------------------------------------------------------

namespace {

// It has never been seen to answer another of the states.
void check_only(const Watcher& watcher, int status) {
  for (const int other : {200, 202, 503, 509}) {
    if (other == status) continue;
    CAPTURE(other);
    CHECK_FALSE(watcher.ever(other));
  }
}

// A real cluster whose primary is maltreated, while somebody counts what primgr has on it: never
// more backends than max_connections_in_pool, and no lock that keeps anybody waiting for longer
// than db_timeout. `make harm SECONDS=600` takes ten minutes for each test instead of some seconds.
class Harm {
 public:
  explicit Harm(const std::string& options = "")
      : lab("--no-repmgrd --no-haproxy --state-file " + options),
        data_(lab.conf("n1", "data")),
        socket_(lab.conf("n1", "socket")) {
    for (const char* node : {"n2", "n3"}) REQUIRE(lab.answers(node, 202));
    REQUIRE(lab.answers("n1", 200));
    REQUIRE(eventually(10, [&] { return backends() > 0; }));
    counter_ = std::thread([this] {
      while (!ending_) {
        most_ = std::max(most_.load(), backends());
        std::this_thread::sleep_for(10ms);
      }
    });
  }
  ~Harm() {
    ending_ = true;
    counter_.join();
  }

  static double seconds() {
    const char* told = getenv("HARM_SECONDS");
    return told ? std::max(1.0, std::atof(told)) : 8;
  }
  // Does `round` again and again, for as long as the test is to take.
  static void for_a_while(const std::function<void()>& round) {
    const auto start = Steady::now();
    do round();
    while (seconds_since(start) < seconds());
  }

  std::unique_ptr<PGconn, void (*)(PGconn*)> connect(const std::string& user = "postgres",
                                                     const std::string& database = "repmgr") const {
    const std::string conninfo = "host=" + socket_ + " dbname=" + database + " user=" + user;
    std::unique_ptr<PGconn, void (*)(PGconn*)> made(PQconnectdb(conninfo.c_str()), PQfinish);
    PQsetNoticeProcessor(
        made.get(), [](void*, const char*) {}, nullptr);
    return made;
  }
  // Runs SQL as superuser; what is wrong with it, or nothing.
  static std::string run(PGconn* connection, const std::string& sql) {
    PGresult* result = PQexec(connection, sql.c_str());
    const ExecStatusType status = PQresultStatus(result);
    const std::string error = PQresultErrorMessage(result);
    PQclear(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? "" : error + " ";
  }
  std::string sql(const std::string& statements) const {
    const auto connection = connect();
    return run(connection.get(), statements);
  }

  // Processes of the server that serve primgr. By what they call themselves: a server that is
  // stopped cannot be asked.
  std::size_t backends() const {
    std::size_t n = 0;
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", gone)) {
      const std::string path = entry.path();
      if (path.find_first_of("0123456789") == std::string::npos) continue;
      if (std::filesystem::read_symlink(path + "/cwd", gone) != data_) continue;
      std::string title;
      std::getline(std::ifstream(path + "/cmdline"), title, '\0');
      n += title.find(" primgr repmgr ") != std::string::npos;
    }
    return n;
  }
  std::size_t most() const { return most_; }
  // Lines of the server's log that have `what`.
  std::size_t logged(const std::string& what) const {
    return count(read_file(lab.conf("n1", "log")), what);
  }
  // What every test ends with: the primary is there, is watched, and nothing was left behind.
  void check_harmless() const {
    CHECK(lab.answers("n1", 200));
    CHECK(eventually(20, [&] { return backends() == 2; }));
    MESSAGE("backends of primgr at most: ", most());
    CHECK(most() <= 3);
    CHECK(sql("SET lock_timeout = '5s'; LOCK TABLE repmgr.nodes IN ACCESS EXCLUSIVE MODE") == "");
  }

  const Lab lab;

 private:
  const std::filesystem::path data_;
  const std::string socket_;
  std::atomic<std::size_t> most_{0};
  std::atomic<bool> ending_{false};
  std::thread counter_;
};

}  // namespace

TEST_SUITE_BEGIN("lab");

TEST_CASE("harm: a lock on repmgr.nodes changes no answer, and the last list stands") {
  if (!lab_possible("a locked list of nodes")) return;
  const Harm harm("--set 'db_timeout = 1s'");
  {
    const Watcher n1(harm.lab, "n1"), n2(harm.lab, "n2"), n3(harm.lab, "n3");
    const auto locker = harm.connect();
    CHECK(Harm::run(locker.get(), "BEGIN; LOCK TABLE repmgr.nodes IN ACCESS EXCLUSIVE MODE") == "");
    // What is written after it makes the standbys take the lock too.
    CHECK(harm.sql("SELECT txid_current()") == "");
    CHECK(eventually(20, [&] {
      for (const char* node : {"n1", "n2", "n3"}) {
        if (count(harm.lab.log(node), "repmgr.nodes is blocked") == 0) return false;
      }
      return true;
    }));
    Harm::for_a_while([] { std::this_thread::sleep_for(100ms); });
    const Json told = Json::parse(harm.lab.ask("n1", "/node").body);
    CHECK(told.value("nodesAgeSeconds", 0.0) >= 3);
    CHECK(told.value("nodesProblem", "") == "canceling statement due to lock timeout");
    CHECK(harm.lab.ask("n1", "/metrics").body.find("\nprimgr_nodes_age_seconds ") !=
          std::string::npos);
    // Reads are routed by lag all the while.
    const Answer reads = harm.lab.ask("n2", "/replica?lag=16MB&delay=10s");
    INFO(reads.body);
    CHECK(reads.status == 200);
    CHECK(Harm::run(locker.get(), "COMMIT") == "");
    for (const char* node : {"n1", "n2", "n3"}) {
      CAPTURE(node);
      CHECK(eventually(20, [&] {
        return count(harm.lab.log(node), "repmgr.nodes is read again, after ") == 1;
      }));
      CHECK(count(harm.lab.log(node), "repmgr.nodes is blocked") == 1);
    }
    check_only(n1, 200);
    check_only(n2, 202);
    check_only(n3, 202);
  }
  harm.check_harmless();
}

TEST_CASE("harm: DDL on repmgr.nodes is not kept waiting, nor its replay on a standby") {
  if (!lab_possible("DDL")) return;
  const Harm harm("--set 'refresh_interval = 20ms'");
  // Replay cancels at once what is in its way.
  harm.lab.sql("n2", "ALTER SYSTEM SET max_standby_streaming_delay = 0");
  harm.lab.sql("n2", "SELECT pg_reload_conf()");
  const Watcher n1(harm.lab, "n1"), n2(harm.lab, "n2");
  double longest = 0;
  const auto connection = harm.connect();
  Harm::for_a_while([&] {
    const auto start = Steady::now();
    CHECK(Harm::run(connection.get(),
                    "BEGIN; LOCK TABLE repmgr.nodes IN ACCESS EXCLUSIVE MODE; SELECT"
                    " txid_current(); COMMIT") == "");
    longest = std::max(longest, seconds_since(start));
  });
  MESSAGE("waited for the lock for at most ", longest, " s");
  CHECK(longest < 5);
  check_only(n1, 200);
  check_only(n2, 202);
  harm.check_harmless();
}

TEST_CASE("harm: a view that sleeps in place of repmgr.nodes changes no answer") {
  if (!lab_possible("a view that sleeps")) return;
  const Harm harm("--set 'db_timeout = 2s'");
  {
    const Watcher n1(harm.lab, "n1");
    CHECK(harm.sql("ALTER TABLE repmgr.nodes RENAME TO kept; CREATE VIEW repmgr.nodes AS"
                   " SELECT k.* FROM repmgr.kept k, (SELECT pg_sleep(60)) s;"
                   " GRANT SELECT ON repmgr.nodes TO primgr") == "");
    CHECK(
        eventually(20, [&] { return count(harm.lab.log("n1"), "repmgr.nodes is blocked") == 1; }));
    Harm::for_a_while([] { std::this_thread::sleep_for(100ms); });
    CHECK(harm.sql("DROP VIEW repmgr.nodes; ALTER TABLE repmgr.kept RENAME TO nodes") == "");
    CHECK(eventually(
        20, [&] { return count(harm.lab.log("n1"), "repmgr.nodes is read again, after ") == 1; }));
    check_only(n1, 200);
  }
  harm.check_harmless();
}

TEST_CASE("harm: backends that hang while they read repmgr.nodes change no answer") {
  if (!lab_possible("hanging backends")) return;
  const Harm harm("--set 'db_timeout = 1s'");
  std::set<pid_t> hanging;
  const auto resume = [&] {
    for (const pid_t pid : std::exchange(hanging, {})) kill(pid, SIGCONT);
  };
  struct At_End {
    std::function<void()> work;
    ~At_End() { work(); }
  } const at_end{resume};
  {
    const Watcher n1(harm.lab, "n1");
    const auto locker = harm.connect(), watcher = harm.connect();
    CHECK(Harm::run(locker.get(), "BEGIN; LOCK TABLE repmgr.nodes IN ACCESS EXCLUSIVE MODE") == "");
    // Stopped, a backend that waits for the lock is like one that waits for its disk for ever.
    const auto stop = [&] {
      PGresult* result = PQexec(watcher.get(),
                                "SELECT pid FROM pg_stat_activity WHERE usename = 'primgr'"
                                " AND state = 'active' AND query LIKE 'SELECT node_id%'");
      for (int r = 0; r < PQntuples(result); ++r) {
        const pid_t pid = std::atoi(PQgetvalue(result, r, 0));
        if (hanging.insert(pid).second) kill(pid, SIGSTOP);
      }
      PQclear(result);
      return hanging.size() >= 2;  // as many as there may be beside the pulse's
    };
    CHECK(eventually(30, stop));
    Harm::for_a_while([&] {
      stop();
      std::this_thread::sleep_for(20ms);
    });
    CHECK(hanging.size() == 2);
    CHECK(Harm::run(locker.get(), "COMMIT") == "");
    resume();
    check_only(n1, 200);
  }
  harm.check_harmless();
}

TEST_CASE("harm: a server that is paused and resumed keeps no backend") {
  if (!lab_possible("pauses")) return;
  const Harm harm("--set 'db_timeout = 1s'");
  Harm::for_a_while([&] {
    harm.lab.run("pause n1");
    CHECK(harm.lab.answers("n1", 503));
    // Until every place for a connection is taken, and then for some looks more.
    std::this_thread::sleep_for(6s);
    harm.lab.run("resume n1");
    CHECK(harm.lab.answers("n1", 200));
  });
  harm.check_harmless();
}

TEST_CASE("harm: pg_terminate_backend changes no answer, and in a loop leaves nothing behind") {
  if (!lab_possible("ended backends")) return;
  const Harm harm;
  const auto connection = harm.connect();
  const std::string end =
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'primgr'";
  {
    const Watcher n1(harm.lab, "n1");
    Harm::for_a_while([&] {
      CHECK(Harm::run(connection.get(), end) == "");
      // Until the next pulse was answered.
      CHECK(eventually(20, [&] {
        return Harm::run(connection.get(),
                         "SELECT 1 / count(*) FROM pg_stat_activity WHERE usename = 'primgr'"
                         " AND state = 'idle' AND query LIKE 'EXECUTE%'") == "";
      }));
    });
    check_only(n1, 200);
  }
  Harm::for_a_while([&] { CHECK(Harm::run(connection.get(), end) == ""); });
  harm.check_harmless();
}

TEST_CASE("harm: connections that others have used up change no answer, nor do attempts add up") {
  if (!lab_possible("used up connections")) return;
  const Harm harm;
  const auto superuser = harm.connect();
  std::vector<std::unique_ptr<PGconn, void (*)(PGconn*)>> others;
  std::string refused;
  const auto use_up = [&] {
    for (;;) {
      auto other = harm.connect("app", "postgres");
      if (PQstatus(other.get()) != CONNECTION_OK) {
        refused = PQerrorMessage(other.get());
        break;
      }
      others.push_back(std::move(other));
    }
  };
  {
    const Watcher n1(harm.lab, "n1");
    use_up();
    INFO(refused);
    REQUIRE(others.size() > 10);
    Harm::for_a_while([] { std::this_thread::sleep_for(100ms); });
    check_only(n1, 200);
  }
  // Without its own, it asks for one once a refresh_interval, and leaves nothing behind.
  CHECK(Harm::run(superuser.get(), "ALTER ROLE primgr CONNECTION LIMIT 0") == "");
  CHECK(Harm::run(superuser.get(),
                  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                  " WHERE usename = 'primgr'") == "");
  CHECK(harm.lab.answers("n1", 503));
  use_up();
  CHECK(Harm::run(superuser.get(), "ALTER ROLE primgr CONNECTION LIMIT -1") == "");
  const std::size_t before = harm.logged("FATAL");
  const auto start = Steady::now();
  Harm::for_a_while([] { std::this_thread::sleep_for(100ms); });
  const double attempts = static_cast<double>(harm.logged("FATAL") - before);
  CHECK(attempts > 0);
  CHECK(attempts <= 1.2 * seconds_since(start) + 2);
  CHECK(harm.lab.ask("n1").status == 503);
  others.clear();
  harm.check_harmless();
}

TEST_CASE("harm: an operator of somebody's own is not run as primgr's role") {
  if (!lab_possible("search_path")) return;
  const Harm harm;
  // The standbys subtract such times; whoever owns the database says where operators are found.
  CHECK(harm.sql("CREATE SCHEMA own; GRANT USAGE ON SCHEMA own TO PUBLIC; CREATE FUNCTION"
                 " own.minus(timestamptz, timestamptz) RETURNS interval LANGUAGE plpgsql AS"
                 " 'BEGIN RAISE EXCEPTION ''own operator run''; END'; CREATE OPERATOR own.-"
                 " (FUNCTION = own.minus, LEFTARG = timestamptz, RIGHTARG = timestamptz)") == "");
  CHECK(harm.sql("ALTER DATABASE repmgr SET search_path = own, pg_catalog") == "");
  const std::string setting =
      "SELECT count(*) FROM pg_db_role_setting WHERE 'search_path=own, pg_catalog' = ANY"
      " (setconfig)";
  REQUIRE(eventually(20, [&] { return harm.lab.sql("n2", setting) == "1"; }));
  harm.lab.sql("n2",
               "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
               " WHERE usename = 'primgr'");
  // New connections have the setting; their looks succeed.
  CHECK(eventually(20, [&] {
    return harm.lab.sql("n2",
                        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'primgr'"
                        " AND query LIKE 'SELECT node_id%'") == "1";
  }));
  const Answer reads = harm.lab.ask("n2", "/replica?lag=16MB");
  INFO(reads.body);
  CHECK(reads.status == 200);
  CHECK(count(read_file(harm.lab.conf("n2", "log")), "own operator run") == 0);
  CHECK(harm.sql("ALTER DATABASE repmgr RESET search_path; DROP SCHEMA own CASCADE") == "");
}

TEST_CASE("harm: who is not let in asks once a refresh_interval, and leaves nothing behind") {
  if (!lab_possible("a wrong password, a line that rejects")) return;
  const Harm harm;
  const std::string hba = harm.lab.conf("n1", "data") + "/pg_hba.conf";
  std::string line;
  SUBCASE("a wrong password") {
    line = "local repmgr primgr scram-sha-256";
    CHECK(harm.sql("ALTER ROLE primgr PASSWORD 'right'") == "");
  }
  SUBCASE("pg_hba.conf rejects") {
    line = "local repmgr primgr reject";
  }
  harm.lab.run("exec-node n1 sed -i " + quoted("1i " + line) + " " + hba);
  CHECK(harm.sql("SELECT pg_reload_conf(), pg_terminate_backend(pid) FROM pg_stat_activity"
                 " WHERE usename = 'primgr'") == "");
  CHECK(harm.lab.answers("n1", 503));
  const std::size_t before = harm.logged("connection authorized") + harm.logged("FATAL");
  const auto start = Steady::now();
  Harm::for_a_while([] { std::this_thread::sleep_for(100ms); });
  const double attempts =
      static_cast<double>(harm.logged("connection authorized") + harm.logged("FATAL") - before);
  CHECK(attempts <= 1.2 * seconds_since(start) + 2);
  CHECK(harm.lab.ask("n1").status == 503);
  harm.lab.run("exec-node n1 sed -i 1d " + hba);
  CHECK(harm.sql("SELECT pg_reload_conf()") == "");
  harm.check_harmless();
}

TEST_SUITE_END();

// ---- main ---------------------------------------------------------------------------------------

namespace {

// Counts, for the line that main() ends with.
struct Summary : doctest::IReporter {
  static inline std::size_t run = 0, failed = 0;
  explicit Summary(const doctest::ContextOptions&) {}
  void test_run_end(const doctest::TestRunStats& stats) override {
    run = stats.numTestCasesPassingFilters;
    failed = stats.numTestCasesFailed;
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("summary", 1, Summary);

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  doctest::Context context(argc, argv);
  const int status = context.run();
  if (context.shouldExit()) return status;  // it only listed something
  for (const std::string& why : skipped) std::cout << "skipped: " << why << '\n';
  std::cout << Summary::run - Summary::failed - skipped.size() << " passed, " << Summary::failed
            << " failed";
  if (!skipped.empty()) std::cout << ", " << skipped.size() << " skipped";
  std::cout << std::endl;
  return status;
}
