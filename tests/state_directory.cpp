#include "daemon/state/state_directory.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/file.hpp"
#include "tests/state_folder.hpp"
#include "tests/support.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("state_directory");

namespace {

struct Logged {
  std::mutex mutex;
  std::string text;
  Logger logger() {
    return [this](Log_Level, const std::string& line) {
      const std::lock_guard lock(mutex);
      text += line + "\n";
    };
  }
  bool has(const std::string& what) {
    const std::lock_guard lock(mutex);
    return text.find(what) != std::string::npos;
  }
};

bool holds(const std::string& path, const std::string& contents) {
  return eventually(10,
                    [&] { return access(path.c_str(), R_OK) == 0 && read_file(path) == contents; });
}

// As commands do it: whoever reads the file reads all of it.
void write_file(const std::string& path, const std::string& contents) {
  REQUIRE(State_Directory::write(path, contents, 0600) == "");
}

}  // namespace

TEST_CASE("what is saved is there for the next process, whole and private") {
  const State_Folder state;
  Logged log;
  {
    State_Directory directory(state.folder, {"note"}, log.logger());
    CHECK_FALSE(directory.load("voters", 10s));
    for (const char* contents : {"1", "2", "3"}) directory.save("voters", contents);
    directory.save("other", "x");
  }
  CHECK(holds(state.path("voters"), "3"));
  CHECK(holds(state.path("other"), "x"));
  struct stat status {};
  REQUIRE(stat(state.path("voters").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  State_Directory again(state.folder, {"note"}, log.logger());
  CHECK(again.load("voters", 10s) == "3");
  CHECK(log.text == "");
}

TEST_CASE("what a process that was killed has left does no harm, nor does a link in its place") {
  const State_Folder state;
  write_file(state.path("victim"), "kept");
  REQUIRE(symlink(state.path("victim").c_str(), state.path("voters.new").c_str()) == 0);
  CHECK(State_Directory::write(state.path("voters"), "new", 0600) == "");
  CHECK(read_file(state.path("voters")) == "new");
  CHECK(read_file(state.path("victim")) == "kept");
  CHECK_FALSE(std::filesystem::exists(state.path("voters.new")));
}

TEST_CASE("a note is taken once, and removed") {
  const State_Folder state;
  Logged log;
  State_Directory directory(state.folder, {"note"}, log.logger());
  write_file(state.path("note"), "lost");
  std::optional<std::string> note;
  REQUIRE(eventually(10, [&] { return (note = directory.take_note("note")).has_value(); }));
  CHECK(note == "lost");
  CHECK_FALSE(directory.take_note("note"));
  CHECK_FALSE(std::filesystem::exists(state.path("note")));
}

TEST_CASE("a note that is no regular file is logged once, and not taken") {
  const State_Folder state;
  Logged log;
  std::filesystem::create_directory(state.path("note"));
  State_Directory directory(state.folder, {"note"}, log.logger());
  const auto told = [&] {
    CHECK_FALSE(directory.take_note("note"));
    return log.has("note: not a regular file: note is not heeded");
  };
  CHECK(eventually(10, told));
  CHECK_FALSE(directory.take_note("note"));
  CHECK(log.text.find("not heeded") == log.text.rfind("not heeded"));
  std::filesystem::remove(state.path("note"));
  write_file(state.path("note"), "now");
  CHECK(eventually(10, [&] { return directory.take_note("note") == "now"; }));
}

TEST_CASE(
    "a file that commands write and remove is watched; one that cannot be read changes nothing") {
  const State_Folder state;
  Logged log;
  write_file(state.path("drained"), "1");
  State_Directory directory(state.folder, {"note"}, log.logger());
  CHECK_FALSE(directory.watched());
  directory.watch("drained", 10s);
  CHECK(directory.watched() == "1");
  write_file(state.path("drained"), "2");
  CHECK(eventually(10, [&] { return directory.watched() == "2"; }));
  std::filesystem::remove(state.path("drained"));
  CHECK(eventually(10, [&] { return !directory.watched(); }));
  write_file(state.path("drained"), "3");
  CHECK(eventually(10, [&] { return directory.watched() == "3"; }));
  std::filesystem::remove(state.path("drained"));
  std::filesystem::create_directory(state.path("drained"));
  write_file(state.path("note"), "now");
  CHECK(eventually(
      10, [&] { return directory.take_note("note").has_value(); }));  // it looked once more
  CHECK(directory.watched() == "3");
}

TEST_CASE("a folder that cannot be used is an error of the configuration") {
  const State_Folder folder;
  State_Directory::check(folder.path("."));
  CHECK(error_of([&] { State_Directory::check(folder.path("absent")); }) ==
        "state_directory: " + folder.path("absent") +
            ": No such file or directory: make the folder, and give it to primgr's user");
  std::ofstream(folder.path("file")) << "x";
  CHECK(error_of([&] { State_Directory::check(folder.path("file")); }) ==
        "state_directory: " + folder.path("file") + " is not a folder");
}

TEST_CASE("one process has the folder, until it ends") {
  const State_Folder state;
  Logged log;
  bool in_use = false;
  std::optional<State_Directory> first(std::in_place, state.folder,
                                       std::vector<std::string>{"note"}, log.logger());
  CHECK(first->lock(10s, in_use) == "");
  State_Directory second(state.folder, {"note"}, log.logger());
  CHECK(second.lock(10s, in_use) ==
        state.folder + "/ is in use by another process: each daemon " + "needs its own");
  CHECK(in_use);
  first.reset();
  CHECK(second.lock(10s, in_use) == "");
  CHECK_FALSE(in_use);
}

TEST_CASE("the folder says when a daemon was alive in it for the last time") {
  const State_Folder state;
  Logged log;
  bool in_use = false;
  std::optional<State_Directory> first(std::in_place, state.folder,
                                       std::vector<std::string>{"note"}, log.logger());
  CHECK(first->lock(10s, in_use) == "");
  CHECK_FALSE(first->last_alive());
  CHECK(eventually(10, [&] { return std::filesystem::exists(state.path("alive")); }));
  first.reset();
  const timespec times[] = {{1000, 0}, {1000, 5}};
  REQUIRE(utimensat(AT_FDCWD, state.path("alive").c_str(), times, 0) == 0);
  State_Directory second(state.folder, {"note"}, log.logger());
  CHECK(second.lock(10s, in_use) == "");
  REQUIRE(second.last_alive());
  CHECK(*second.last_alive() == std::chrono::system_clock::time_point(1000s + 5ns));
  // It is alive itself.
  CHECK(eventually(10, [&] {
    struct stat status {};
    return stat(state.path("alive").c_str(), &status) == 0 && status.st_mtim.tv_sec > 1000;
  }));
}

TEST_CASE("a folder that cannot be used is told, once, and tried again") {
  State_Folder state;
  Logged log;
  const std::string folder = state.path("missing");
  State_Directory directory(folder, {"note"}, log.logger());
  bool in_use = true;
  CHECK(directory.lock(10s, in_use) == "cannot open " + folder + "/: No such file or directory");
  CHECK_FALSE(in_use);
  CHECK_FALSE(directory.load("voters", 10s));
  directory.save("voters", "1");
  const auto told = [&](const char* what) {
    return eventually(10, [&] {
      directory.take_note("note");  // logs what went wrong
      return log.has(what);
    });
  };
  CHECK(told("cannot write "));
  std::filesystem::create_directory(folder);
  CHECK(told("state_directory is written again"));
  CHECK(holds(folder + "/voters", "1"));
  INFO(log.text);
  CHECK(log.text.find("cannot write ") == log.text.rfind("cannot write "));
}

TEST_CASE("what is no readable file is told, and counts as none") {
  const State_Folder state;
  Logged log;
  std::filesystem::create_directory(state.path("voters"));
  State_Directory directory(state.folder, {"note"}, log.logger());
  CHECK_FALSE(directory.load("voters", 10s));
  CHECK(log.has("voters: not a regular file"));
}

TEST_SUITE_END();
