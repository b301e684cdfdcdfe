#include "node/rules/history.hpp"

#include <doctest/doctest.h>

#include "tests/world.hpp"

using namespace primgr;

namespace {

State_Change to_state(State to) {
  State_Change change;
  change.at = Wall_Time(1000s);
  change.to = to;
  return change;
}

}  // namespace

TEST_SUITE_BEGIN("history");

TEST_CASE("the oldest changes are forgotten") {
  History history;
  for (std::size_t i = 0; i < max_changes + 3; ++i) {
    State_Change change = to_state(State::standby);
    change.reason = std::to_string(i);
    add_change(history, change);
  }
  CHECK(history.size() == max_changes);
  CHECK(max_changes >= 64);
  CHECK(history.front().reason == "3");
  CHECK(history.back().reason == std::to_string(max_changes + 2));
}

TEST_CASE("a run has one end") {
  History history;
  end_run(history, Wall_Time(1s), "nothing was");
  CHECK(history.empty());
  add_change(history, to_state(State::primary));
  end_run(history, Wall_Time(1060s), "primgr ended");
  end_run(history, Wall_Time(2000s), "and again");
  REQUIRE(history.size() == 2);
  CHECK(history.back().from == State::primary);
  CHECK_FALSE(history.back().to);
  CHECK(history.back().lasted == 60s);
  CHECK(history.back().reason == "primgr ended");

  SUBCASE("which is not before its last change, though a clock was set back") {
    add_change(history, to_state(State::primary));
    end_run(history, Wall_Time(10s), "primgr ended");
    CHECK(history.back().at == Wall_Time(1000s));
    CHECK(history.back().lasted == 0s);
  }
}

TEST_CASE("a long reason is cut between two characters") {
  CHECK(bounded_reason("short") == "short");
  const std::string umlauts = [] {
    std::string text;
    for (int i = 0; i < 200; ++i) text += "\xc3\xbc";
    return text;
  }();
  for (const std::string& text : {umlauts, "x" + umlauts}) {
    const std::string cut = bounded_reason(text);
    CHECK(cut.size() <= max_reason);
    CHECK(cut.size() >= max_reason - 1);
    CHECK(cut.ends_with("\xbc..."));
  }
}

TEST_CASE("a node remembers each change of its state, and says each once") {
  World world;
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  world.look(make_facts(make_site(3)));
  REQUIRE(world.changes.size() == 1);
  CHECK_FALSE(world.changes[0].from);
  CHECK(world.changes[0].to == State::primary);
  CHECK(world.changes[0].primary == "n1");
  CAPTURE(world.changes[0].reason);
  CHECK(world.changes[0].reason.find("2 of 3") != std::string::npos);

  world.now += 2s;
  Facts down;
  down.asked_at = world.now;
  down.problem = "connection refused";
  world.look(down);
  REQUIRE(world.changes.size() == 2);
  CHECK(world.changes[1].from == State::primary);
  CHECK(world.changes[1].to == State::down);
  CHECK(world.changes[1].lasted == 2s);
  CHECK(world.changes[1].primary.empty());
  CHECK(world.changes[1].reason.find("connection refused") != std::string::npos);
  CHECK(world.node.get_history() == world.changes);
}

TEST_CASE("a change that there was no memory to tell is told later, once") {
  World world;
  world.names("n2", "n1");
  world.scarce = 2;
  CHECK_THROWS_AS(world.look(make_facts(make_site(3))), std::bad_alloc);
  CHECK_THROWS_AS(world.node.refresh(), std::bad_alloc);
  CHECK(world.changes.empty());
  world.node.refresh();
  REQUIRE(world.changes.size() == 1);
  CHECK(world.changes[0].to == State::primary);
  world.changes.clear();
  world.node.refresh();
  CHECK(world.changes.empty());
}

TEST_CASE("what ended while the process stood still ended then, not when it went on") {
  World world;
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  const Time lease = world.node.get_report().lease;
  world.primaries.clear();
  world.now += 30s;
  world.look(make_facts(make_site(3)));
  REQUIRE(world.changes.size() == 2);
  CHECK(world.changes[1].from == State::primary);
  CHECK(world.changes[1].lasted == lease);
  CHECK(world.changes[1].at == world.started + (world.now - 1000s) - (30s - lease));
}

TEST_CASE("what is Unknown until the voters have answered is no change") {
  World world;
  world.names("n2", "n1");
  world.names("n3", "n1");
  world.hold = true;
  world.look(make_facts(make_site(3)));
  CHECK(world.node.get_state() == State::unknown);
  CHECK(world.changes.empty());
  world.release();
  world.node.refresh();
  REQUIRE(world.changes.size() == 1);
  CHECK(world.changes[0].to == State::primary);
}

TEST_SUITE_END();
