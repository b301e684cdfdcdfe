#include "daemon/state/kept.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/file.hpp"
#include "daemon/state/drain_file.hpp"
#include "daemon/state/history_file.hpp"
#include "daemon/state/voters_file.hpp"
#include "node/peers/lists_text.hpp"
#include "tests/state_folder.hpp"
#include "tests/support.hpp"
#include "tests/world.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("kept");

namespace {

// What a daemon that starts in a folder knows.
struct Started {
  explicit Started(const State_Folder& state) {
    Config config;
    config.state_directory = state.folder;
    config.node.node_name = "n1";
    Kept kept([this](Log_Level, const std::string& line) { log += line + "\n"; });
    status = kept.open(config);
    known = kept.environment();
    drain = kept.drain();
  }
  std::string log;
  int status = -1;
  Node_Environment known;
  std::optional<Drain> drain;
};

void write(const State_Folder& state, const char* name, const std::string& contents) {
  REQUIRE(State_Directory::write(state.path(name), contents, 0600) == "");
}

}  // namespace

TEST_CASE("a first start knows of no list, no history and no drain, and complains of nothing") {
  const State_Folder state;
  const Started first(state);
  CHECK(first.status == 0);
  CHECK(first.log == "");
  CHECK(first.known.voters == Voter_Lists());
  CHECK(first.known.history.empty());
  CHECK_FALSE(first.drain);
}

TEST_CASE("what was kept is known at the next start") {
  const State_Folder state;
  Voter_Lists lists;
  lists::Held held;
  held.scope.site = "default";
  held.current = lists::first_list({1, 2, 3});
  lists.held.push_back(held);
  State_Change change;
  change.at = Wall_Time(1s);
  change.to = State::primary;
  write(state, voters_file, print_held(lists));
  write(state, history_file, print_history({change}, "n1"));
  write(state, drain_file, print_drain({"why", "then"}));
  const Started again(state);
  CHECK(again.log == "");
  CHECK(again.known.voters.held == lists.held);
  CHECK(again.known.voters.unreadable == "");
  REQUIRE(again.known.history.size() == 2);  // with the end of that run
  CHECK_FALSE(again.known.history.back().to);
  CHECK(again.drain == Drain{"why", "then"});
}

TEST_CASE("lists of voters that cannot be read are said to be so, and not taken for none") {
  const State_Folder state;
  SUBCASE("damaged") {
    write(state, voters_file, "{");
  }
  SUBCASE("empty") {
    write(state, voters_file, "");
  }
  SUBCASE("of a later version") {
    write(state, voters_file, R"({"version":"primgr 3","lists":[],"addresses":[]})");
  }
  SUBCASE("no file") {
    std::filesystem::create_directory(state.path(voters_file));
  }
  const Started node(state);
  CHECK(node.status == 0);
  CAPTURE(node.log);
  CHECK(node.log.find("remove that file on each") != std::string::npos);
  CHECK(node.known.voters.held.empty());
  CHECK(node.known.voters.unreadable.starts_with("state_directory: voters: "));
}

TEST_CASE("a history that cannot be read, or is another node's, begins anew, and is not lost") {
  const State_Folder state;
  std::string text;
  SUBCASE("damaged") {
    text = "{";
  }
  SUBCASE("of a later version") {
    text = R"({"version":"primgr 2","changes":[]})";
  }
  SUBCASE("of another node") {
    State_Change change;
    change.to = State::primary;
    text = print_history({change}, "n2");
  }
  SUBCASE("no file") {
    std::filesystem::create_directory(state.path(history_file));
  }
  if (!text.empty()) write(state, history_file, text);
  const Started node(state);
  CHECK(eventually(10, [&] { return !std::filesystem::exists(state.path(history_file)); }));
  const std::string aside = state.path("history.set-aside");
  CHECK(text.empty() ? std::filesystem::is_directory(aside) : read_file(aside) == text);
  CHECK(node.status == 0);
  CHECK(node.known.history.empty());
  CHECK(node.log.find("the history of this node begins anew") != std::string::npos);
}

TEST_CASE(
    "what a command leaves counts if it is a regular file that can be read; else it is logged") {
  const State_Folder state;
  std::string heeded = "logged";
  SUBCASE("empty") {
    write(state, drain_file, "");
    heeded = "drained";
  }
  SUBCASE("garbage") {
    write(state, drain_file, "garbage");
    heeded = "drained";
  }
  SUBCASE("a folder") {
    std::filesystem::create_directory(state.path(drain_file));
  }
  SUBCASE("a FIFO") {
    REQUIRE(mkfifo(state.path(drain_file).c_str(), 0600) == 0);
  }
  SUBCASE("no text") {
    write(state, drain_file, std::string("a\0b", 3));
  }
  const Started node(state);
  CAPTURE(node.log);
  CHECK(node.drain.has_value() == (heeded == "drained"));
  CHECK((node.log.find("drained is not heeded") != std::string::npos) == (heeded == "logged"));
}

TEST_SUITE_END();
