#include "node/core/core.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <new>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "node/core/journal.hpp"
#include "tests/world.hpp"

using namespace primgr;

namespace {

constexpr Time start = 1000s;

Core make_core(const std::string& name, bool stores = false) {
  Core_Settings settings;
  settings.node_name = name;
  return {settings,
          Promise({settings.vote_lease, settings.check_delay}, Grant{},
                  stores ? std::optional(Grant{}) : std::nullopt),
          known_site(3)};
}

Effects look(Core& core, const Facts& facts, Time now) {
  Facts read = facts;
  read.asked_at = read.nodes_read_at = now;
  return step(core, Facts_Read{read}, now);
}

// All events of a turn, in order; returns the questions.
std::vector<Question> turn(Core& core, Time now) {
  std::vector<Question> asked;
  const auto take = [&](Effects effects) {
    if (effects.store) step(core, Grant_Stored{*effects.store}, now);
    if (effects.store_lists) step(core, Lists_Stored{true}, now);
    asked.insert(asked.end(), effects.ask.begin(), effects.ask.end());
  };
  take(step(core, Tick{Part::begin, "own", {}}, now));
  if (const auto [others, voters, candidate, all] = core.turn; !candidate.empty()) {
    take(step(core, Votes_Wanted{voters, candidate, {}}, now));
    take(step(core, Answers_Late{voters, candidate}, now));
  }
  for (const Part part : {Part::states, Part::decision, Part::lists, Part::hand_back}) {
    take(step(core, Tick{part, "", {}}, now));
  }
  return asked;
}

// The files of a pure unit: its own, and what they include.
std::set<std::string> files_behind(const std::string& file) {
  std::set<std::string> files, found = {file};
  while (!found.empty()) {
    const std::string next = *found.begin();
    found.erase(found.begin());
    if (!files.insert(next).second) continue;
    std::ifstream in(next);
    INFO(next);
    REQUIRE(in);
    for (std::string line; std::getline(in, line);) {
      if (!line.starts_with("#include \"")) continue;
      const std::string included = line.substr(10, line.rfind('"') - 10);
      if (!files.contains(included)) found.insert(included);
      const std::string unit = included.substr(0, included.size() - 3) + "cpp";
      if (std::ifstream(unit) && !files.contains(unit)) found.insert(unit);
    }
  }
  return files;
}

}  // namespace

TEST_SUITE_BEGIN("core");

TEST_CASE("the core has no clock, thread, lock, log, file or socket") {
  const std::set<std::string> allowed = {"algorithm",
                                         "array",
                                         "cctype",
                                         "charconv",
                                         "chrono",
                                         "climits",
                                         "compare",
                                         "cmath",
                                         "cstddef",
                                         "cstdint",
                                         "cstdio",
                                         "deque",
                                         "functional",
                                         "initializer_list",
                                         "iterator",
                                         "limits",
                                         "list",
                                         "map",
                                         "new",
                                         "nlohmann/json.hpp",
                                         "nlohmann/json_fwd.hpp",
                                         "optional",
                                         "queue",
                                         "set",
                                         "stdexcept",
                                         "string",
                                         "string_view",
                                         "time.h",
                                         "utility",
                                         "variant",
                                         "vector"};
  std::set<std::string> files;
  for (const char* unit :
       {"node/core/core.cpp", "node/core/core_votes.cpp", "node/core/core_lists.cpp",
        "node/core/core_sites.cpp", "node/core/core_timelines.cpp", "node/core/core_reads.cpp",
        "node/core/journal.cpp"}) {
    files.merge(files_behind(unit));
  }
  CHECK(files.contains("node/rules/voting.cpp"));
  CHECK(files.contains("node/peers/wire.cpp"));
  // The one unit with a clock: boottime(), which none of the others may call.
  files.erase("base/time.cpp");
  for (const std::string& file : files) {
    CAPTURE(file);
    CHECK((file.starts_with("node/") || file.starts_with("base/")));
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
      CAPTURE(line);
      if (line.starts_with("#include <")) {
        CHECK(allowed.contains(line.substr(10, line.rfind('>') - 10)));
      }
      for (const char* word :
           {"::now(", "boottime()", "clock_gettime(", "fopen(", "printf(stderr", "std::cerr"}) {
        const bool declared = file == "base/time.hpp" || file == "node/rules/history.hpp";
        if (!declared) CHECK(line.find(word) == line.npos);
      }
    }
  }
}

TEST_CASE("the same events make equal cores, and a copy goes its own way") {
  Core core = make_core("n1");
  look(core, make_facts(make_site(3)), start);
  const Core before = core;
  Core copy = core;
  CHECK(copy == core);
  const auto asked = turn(core, start);
  CHECK_FALSE(core == before);
  CHECK(copy == before);
  turn(copy, start);
  CHECK(copy == core);
  REQUIRE(asked.size() == 4);  // /primary and /state of n2 and n3
  CHECK(core.state_at(start, 0s) == State::unknown);
  Vote_Answer answer;
  answer.sent_at = start;
  answer.named = "n1";
  for (Core* each : {&core, &copy}) {
    CHECK(step(*each, Vote_Replied{{"n2", asked[0].number, true}, answer}, start).accepted);
    turn(*each, start);
    CHECK(each->state_at(start, 0s) == State::primary);
    CHECK(each->state_at(start, 10s) == State::unknown);  // its clock stood still meanwhile
    CHECK(each->state_at(start + 3s, 0s) == State::unknown);
  }
  CHECK(copy == core);
}

TEST_CASE("a ballot leaves when its promise is stored, and none is given meanwhile") {
  Core core = make_core("n2", true);
  look(core, make_facts(make_site(3), true), start);
  turn(core, start);
  const Vote_Asked n1{"n1", 3s, "", {}, "t1"};
  Effects effects = step(core, n1, start);
  REQUIRE(effects.store);
  CHECK_FALSE(effects.ballot);
  CHECK(effects.store->to == "n1");
  CHECK(effects.store->until == start + 5s);  // a quarter of a lease ahead
  CHECK(core.promise.unbound_since(start));   // nobody has heard of it
  CHECK(step(core, n1, start).busy);
  CHECK(step(core, Handed_Back{"n1", "t1", {}}, start).busy);
  const Grant stored = *effects.store;
  effects = step(core, Grant_Stored{stored}, start);
  REQUIRE(effects.ballot);
  CHECK(effects.ballot->granted);
  CHECK(effects.ballot->token == "t1");
  CHECK_FALSE(core.promise.unbound_since(start));
  // Stored ahead, so the next one need not be.
  CHECK(step(core, Vote_Asked{"n1", 3s, "t1", {}, "t2"}, start + 500ms).ballot->granted);

  // A store that holds something else, or failed, stops votes.
  for (const std::optional<Grant>& saved : {std::optional(Grant{}), std::optional<Grant>()}) {
    const Vote_Asked later{"n1", 3s, "t1", {}, "t3"};
    REQUIRE(step(core, later, start + 3s).store);
    effects = step(core, Grant_Stored{saved}, start + 3s);
    REQUIRE(effects.ballot);
    CHECK_FALSE(effects.ballot->stored);
    CHECK(effects.ballot->names.empty());
    CHECK_FALSE(core.promise.awaits_store());
  }
}

TEST_CASE("a node votes for itself by the rule by which it votes for others") {
  Core core = make_core("n1", true);
  look(core, make_facts(make_site(3)), start);
  Effects effects = step(core, Tick{Part::begin, "own", {}}, start);
  REQUIRE(effects.store);
  CHECK_FALSE(core.own_vote);
  CHECK(step(core, Tick{Part::begin, "own", {}}, start).busy);
  step(core, Own_Vote_Late{}, start);
  CHECK(core.own_vote->why == "its promise cannot be kept in state_file");
  step(core, Grant_Stored{*effects.store}, start);
  CHECK(core.own_vote->names == "n1");
  CHECK(core.own_token == "own");
  step(core, Tick{Part::decision, "", {}}, start);
  // Bound to itself, it votes for no other.
  CHECK(step(core, Vote_Asked{"n2", 3s, "", {}, "t"}, start).ballot->names == "n1");
}

TEST_CASE("a list stands when it is stored, and nothing else is decided meanwhile") {
  Core core = make_core("n2");
  look(core, make_facts(make_site(3), true), start);
  turn(core, start);
  const lists::Number current = core.part()->held.current.number;
  const Lists_Question numbers{{"default"}, {1, current, 7, {}}};
  const Vote_Asked asked{"n1", 3s, "", numbers, "t1"};
  Effects effects = step(core, asked, start);
  REQUIRE(effects.ballot);
  CHECK(effects.ballot->granted);
  CHECK(effects.ballot->lists->vote);
  CHECK(effects.turn);  // n1 is asked for what it has to tell, at its own address
  std::vector<Question> questions = turn(core, start);
  const auto found = std::find_if(questions.begin(), questions.end(),
                                  [](const Question& q) { return q.kind == Question_Kind::lists; });
  REQUIRE(found != questions.end());
  CHECK(found->peer.name == "n1");
  lists::Served served;
  served.held = core.part()->held;
  served.round = 7;
  step(core, Lists_Replied{{"n1", found->number, true}, served, {}}, start);
  CHECK(core.part()->held.noted.number == 0);

  for (const bool works : {false, true}) {
    effects = step(core, Tick{Part::lists, "", {}}, start);
    REQUIRE(effects.store_lists);
    CHECK(core.awaits_store());
    CHECK(step(core, asked, start).busy);
    CHECK(step(core, Handed_Back{"n1", "t1", {}}, start).busy);
    CHECK(core.part()->held.noted.number == 0);
    step(core, Lists_Stored{works}, start);
    CHECK_FALSE(core.awaits_store());
    CHECK(core.served_lists({"default"}).has_value() == works);
    effects = step(core, asked, start);
    REQUIRE(effects.ballot);
    CHECK(effects.ballot->granted == works);
    CHECK(effects.ballot->lists.has_value() == works);
    // What could not be stored is told again; until then all that stands is stored.
    if (works) break;
    effects = step(core, Tick{Part::lists, "", {}}, start);
    REQUIRE(effects.store_lists);
    step(core, Lists_Stored{true}, start);
    CHECK(core.part()->held.noted.number == 0);
    questions.clear();
    step(core, asked, start);
    core.polls.hurry();
    questions = turn(core, start + 100ms);
    REQUIRE_FALSE(questions.empty());
    const auto again = std::find_if(questions.begin(), questions.end(), [](const Question& q) {
      return q.kind == Question_Kind::lists;
    });
    REQUIRE(again != questions.end());
    step(core, Lists_Replied{{"n1", again->number, true}, served, {}}, start);
  }
  CHECK(core.part()->held.noted == lists::Round{7, 1});
}

TEST_CASE("threads vote in turn while a slow store works, and whoever reads does not wait") {
  std::atomic<int> saving{0}, most{0}, given{0};
  std::atomic<bool> ended{false};
  Node_Settings settings = World::named("n2");
  settings.vote_lease = 1100ms;
  Repmgr_Node node(settings, {.http_get = [](const Node&, const std::string&, Time,
                                             std::function<void(Http_Reply)> done) { done({}); },
                              .http_drop = nullptr,
                              .resolve = nullptr,
                              .clock = boottime,
                              .other_clocks = {boottime},
                              .log = [](Log_Level, const std::string&) {},
                              .grants = {[] { return Grant{}; },
                                         [&](const Grant& grant, Deadline) {
                                           most = std::max<int>(most, ++saving);
                                           std::this_thread::sleep_for(10ms);
                                           --saving;
                                           return grant;
                                         }},
                              .voters = {},
                              .store_voters = nullptr});
  node.learn(make_facts(make_site(3), true, boottime()));
  node.refresh();
  std::vector<std::thread> threads;
  const auto run = [&](const std::function<void()>& work) {
    threads.emplace_back([&ended, work] {
      while (!ended) work();
    });
  };
  for (int i = 0; i < 3; ++i) {
    run([&] {
      const Ballot ballot = node.grant_vote("n1", 0s, "");  // each time under a new token
      if (ballot.granted) ++given;
      node.end_promise("n1", ballot.token);
    });
  }
  double longest = 0;
  std::thread reader([&] {
    while (!ended) {
      const auto began = Steady::now();
      node.get_state();
      node.get_report();
      longest = std::max(longest, seconds_since(began));
    }
  });
  for (int i = 0; i < 30; ++i) {
    node.learn(make_facts(make_site(3), i % 10 < 8, boottime()));
    node.refresh();
    std::this_thread::sleep_for(10ms);
  }
  ended = true;
  for (std::thread& thread : threads) thread.join();
  reader.join();
  CHECK(most == 1);
  CHECK(given > 0);
  CHECK(longest < 5);  // far more than it takes, and on a busy machine too
}

TEST_CASE("a line for which there was no memory is logged with the next turn") {
  World world;
  world.names("n2", "n1");
  Facts facts = make_facts(make_site(3));
  facts.superuser = true;
  world.lost_lines = 1;
  CHECK_THROWS_AS(world.look(facts), std::bad_alloc);
  CHECK(world.log.empty());
  world.lost_lines = 0;
  world.look(facts);
  CHECK(world.logged("superuser") == 1);
  CHECK(world.logged("state Primary") == 1);
  world.lost_lines = 2;
  Facts down;
  down.problem = "refused";
  CHECK_THROWS_AS(world.look(down), std::bad_alloc);
  CHECK_THROWS_AS(world.pass(0s), std::bad_alloc);
  world.pass(0s);
  CHECK(world.logged("state Down: refused; was Primary") == 1);
  CHECK(world.changes.back().to == State::down);
}

TEST_SUITE_END();
