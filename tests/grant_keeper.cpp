#include <doctest/doctest.h>

#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>

#include "daemon/state/grant_keeper.hpp"
#include "tests/state_folder.hpp"
#include "tests/world.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("grant_keeper");

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
    return eventually(20, [&] { return world.node.grant_vote(candidate, 3s).names == candidate; });
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex);
    return log;
  }
  bool tells(const std::string& line) {
    return eventually(20, [&] {
      world.node.grant_vote("n1", 3s);
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

TEST_CASE("a state file for which there is no memory: no vote, until there is some") {
  bool scarce = true;
  std::vector<std::string> lines;
  Grant_Keeper keeper({[](std::string&) { return Grant{}; },
                       [&](const Grant&) -> std::string {
                         if (scarce) throw std::bad_alloc();
                         return "";
                       }},
                      [&](Log_Level, const std::string& line) { lines.push_back(line); });
  const auto save = [&] {
    return keeper.save({"n1", 5s}, std::chrono::steady_clock::now() + 20s).to;
  };
  CHECK(save() == "");
  REQUIRE(lines.size() == 1);
  CHECK(lines[0] == "state_file: out of memory: this node votes for nobody until it can be kept");
  scarce = false;
  CHECK(save() == "n1");
}

TEST_CASE("a state file that hangs: no vote, the reason is logged, and nothing stalls") {
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
  world.now += 10s;  // what was written ahead has expired
  // It goes on although the store hangs, however often it is asked.
  for (int i = 0; i < 20; ++i) world.look(make_facts(make_site(3)));
  CHECK(world.node.grant_vote("n1", 3s).names.empty());
  CHECK(store.writes() == writes);
  CHECK(world.node.get_state() == State::unknown);
  INFO(votes_of(world.node));
  CHECK(votes_of(world.node).find("n1 (this node): its promise cannot be kept in state_file") !=
        std::string::npos);
  CHECK(kept.lines().size() == lines + 1);
  CHECK(kept.lines().back() == no_answer);
  store.hang(false);
  CHECK(eventually(20, is_primary));
  CHECK(kept.lines().back() == "state_file is written again");
}

TEST_CASE(
    "a grant that is written too late is not given, and after a failed write nothing counts as "
    "kept") {
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
  world.now += 4s;
  const std::size_t before = store.writes();
  store.hang(true);
  world.look(make_facts(nodes, true));
  CHECK(world.node.grant_vote("n3", 3s).names.empty());
  // It follows n1 again, before the grant to n3 is written. What was written ahead for n1 no longer
  // counts.
  nodes[0].active = true;
  nodes[2].type = "standby";
  world.look(make_facts(nodes, true));
  world.now -= 3900ms;
  CHECK(world.node.grant_vote("n1", 3s).names.empty());
  world.now += 3900ms;
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
  CHECK(world.node.grant_vote("n1", 3s).names.empty());
  CHECK(kept.tells("state_file: disk full: this node votes for nobody until it can be kept"));
  // The failed write may have destroyed what was there, so that covers no vote any more.
  world.now -= 3500ms;
  CHECK(world.node.grant_vote("n1", 3s).names.empty());
  {
    const std::lock_guard lock(store.mutex);
    store.error.clear();
  }
  CHECK(kept.votes_for("n1"));
  CHECK(kept.lines().back() == "state_file is written again");
}

TEST_CASE("a state file that is always late is written ahead, and votes are given") {
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
      CHECK(world.node.grant_vote("n1", 3s).names.empty());
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

TEST_CASE("a state file that hangs at startup: no votes, and shutdown does not wait for it") {
  const auto shared = std::make_shared<Hanging_Store>();
  Hanging_Store& store = *shared;
  store.hang(true);
  std::size_t writes;
  {
    Kept_World kept(store, "n2", 10ms);
    kept.world.look(make_facts(make_site(3), true));
    CHECK(kept.world.node.grant_vote("n1", 3s).names.empty());
    CHECK(kept.world.node.get_primary() == "n1");
    CHECK(kept.lines() == std::vector<std::string>{no_answer});
    kept.world.now += 4s;
    CHECK(kept.world.node.grant_vote("n1", 3s).names.empty());  // it could not be kept
    store.hang(false);
    CHECK(kept.votes_for("n1"));
    writes = store.writes();
    store.hang(true);
    kept.world.now += 10s;
    CHECK(kept.world.node.grant_vote("n1", 3s).names.empty());
  }  // it does not wait for the store
  store.hang(false);
  CHECK(eventually(20, [&] { return store.writes() > writes; }));
}

TEST_CASE("a state file that hangs: many candidates at once are all refused") {
  const auto shared = std::make_shared<Hanging_Store>();
  Hanging_Store& store = *shared;
  Kept_World kept(store);
  kept.world.look(make_facts(make_site(3), true));
  store.hang(true);
  std::vector<std::thread> candidates;
  std::atomic<int> refused = 0;
  for (int i = 0; i < 8; ++i) {
    candidates.emplace_back([&] { refused += kept.world.node.grant_vote("n1", 3s).names.empty(); });
  }
  for (auto& candidate : candidates) candidate.join();
  CHECK(refused == 8);
  store.hang(false);
  CHECK(kept.votes_for("n1"));
}

TEST_SUITE_END();
