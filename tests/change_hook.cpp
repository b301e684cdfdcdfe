// on_change: what a program of the operator's is told, and that it delays nobody whatever it does.

#include "daemon/hook/change_hook.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <mutex>
#include <sstream>
#include <vector>

#include "tests/state_folder.hpp"
#include "tests/support.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("change_hook");

namespace {

// A hook whose program is a script, and what it logs. Of bash, as dash unblocks signals by itself.
class Hooked {
 public:
  explicit Hooked(const std::string& script, Time timeout = 1h) {
    write("hook", "#!/bin/bash\ncd " + folder.folder + "\n" + script + "\n");
    hook.configure(path("hook"), timeout);
  }
  std::string path(const std::string& name) const { return folder.path(name); }
  void write(const std::string& name, const std::string& text, mode_t mode = 0755) const {
    std::ofstream(path(name)) << text;
    ::chmod(path(name).c_str(), mode);
  }
  std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(path(name)).rdbuf();
    return text.str();
  }
  void tell(State state, const std::string& primary = "n1", const std::string& reason = "why") {
    State_Change change;
    change.to = state;
    change.primary = primary;
    change.reason = reason;
    hook.tell(change);
  }
  std::string log() const {
    const std::lock_guard lock(mutex);
    return logged;
  }
  // Waits until that is logged; whether it came.
  bool logs(const std::string& text) const {
    if (eventually(60, [&] { return log().find(text) != std::string::npos; })) return true;
    MESSAGE("not logged: ", text, "; logged:\n", log());
    return false;
  }

  State_Folder folder;
  mutable std::mutex mutex;
  std::string logged;
  Change_Hook hook{"n1", "host=/here", [this](Log_Level level, const std::string& message) {
                     const std::lock_guard lock(mutex);
                     logged +=
                         std::string(level == Log_Level::error ? "error: " : "") + message + "\n";
                   }};
};

// A process that is gone, or a zombie that nobody reaps.
bool is_gone(const std::string& pid) {
  std::string stat;
  return !std::getline(std::ifstream("/proc/" + pid + "/stat"), stat) ||
         stat.find(") Z ") != stat.npos;
}

std::string trimmed_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

// The failures that are counted while this lives.
struct Counted {
  Change_Hook::Counts before = Change_Hook::counts();
  std::uint64_t runs() const { return Change_Hook::counts().runs - before.runs; }
  std::uint64_t failures() const { return Change_Hook::counts().failures - before.failures; }
};

}  // namespace

TEST_CASE("the program is told the change by arguments and by environment, and inherits nothing") {
  const int open_here = ::fcntl(STDERR_FILENO, F_DUPFD, 50);  // without FD_CLOEXEC
  const auto ignored = ::signal(SIGPIPE, SIG_IGN);
  ::setenv("NOTIFY_SOCKET", "/nowhere", 1);
  ::setenv("PRIMGR_OLD", "not this", 1);
  sigset_t some, before;
  sigemptyset(&some);
  for (const int signal : {SIGTERM, SIGUSR1}) sigaddset(&some, signal);
  pthread_sigmask(SIG_BLOCK, &some, &before);
  Counted counted;
  Hooked hooked(
      "echo \"$#|$1|$2|$3|$4|$5\"\n"
      "echo "
      "\"$PRIMGR_OLD|$PRIMGR_NEW|$PRIMGR_NODE|$PRIMGR_PRIMARY|$PRIMGR_REASON|$PRIMGR_CONNINFO\"\n"
      "echo \"notify: $NOTIFY_SOCKET\" >&2\n"
      "for fd in /proc/$$/fd/*; do echo \"open ${fd##*/}.\"; done\n"
      "grep -E 'Sig(Blk|Ign)' /proc/self/status\n"
      "readlink /proc/self/fd/0\n"
      "read -r _ _ _ _ group _ </proc/$$/stat; [ $group = $$ ] && echo leads its group");
  hooked.tell(State::primary, "n\x1b", "a 'b'\n $(c) \"d\" *");
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  CHECK(hooked.logs("(none, Primary) has ended after"));
  const std::string log = hooked.log();
  INFO(log);
  for (const char* line :
       {"on_change: 5|none|Primary|n1|n\\x1b|a 'b' $(c) \"d\" *\n",
        "on_change: none|Primary|n1|n\\x1b|a 'b' $(c) \"d\" *|host=/here\n",
        "on_change: notify: \n", "on_change: open 2.\n", "on_change: SigBlk:\t0000000000000000\n",
        "on_change: /dev/null\n", "on_change: leads its group\n"}) {
    CAPTURE(line);
    CHECK(log.find(line) != log.npos);
  }
  // Two signals that glibc keeps for itself may be ignored.
  const auto ignores = log.find("SigIgn:\t");
  REQUIRE(ignores != log.npos);
  CHECK((std::stoull(log.substr(ignores + 8, 16), nullptr, 16) & 0x7fffffff) == 0);
  CHECK(log.find("open " + std::to_string(open_here) + ".") == log.npos);
  CHECK(counted.runs() == 1);
  CHECK(counted.failures() == 0);
  ::signal(SIGPIPE, ignored);
  ::unsetenv("NOTIFY_SOCKET");
  ::unsetenv("PRIMGR_OLD");
  ::close(open_here);
}

TEST_CASE("what changes while a program runs is told by one run after it: the latest") {
  Hooked hooked("echo \"$1 $2 $4\" >>told\nwhile [ ! -e go ]; do sleep 0.01; done");
  hooked.tell(State::standby);
  REQUIRE(eventually(60, [&] { return hooked.read("told") == "none Standby n1\n"; }));
  for (int i = 0; i < 1000; ++i) {
    hooked.tell(State::unknown);
    hooked.tell(State::down);
  }
  hooked.tell(State::primary);
  hooked.write("go", "");
  CHECK(eventually(
      60, [&] { return hooked.log().find("(Standby, Primary) has") != std::string::npos; }));
  CHECK(hooked.read("told") == "none Standby n1\nStandby Primary n1\n");
  SUBCASE("what is again as it was told is not told again") {
    unlink(hooked.path("go").c_str());
    hooked.tell(State::standby);
    REQUIRE(eventually(60, [&] { return hooked.read("told").ends_with("Primary Standby n1\n"); }));
    hooked.tell(State::unknown);
    hooked.tell(State::standby);
    hooked.write("go", "");
    CHECK(hooked.logs("(Primary, Standby) has"));
    hooked.tell(State::standby, "n2");  // but another primary is
    CHECK(hooked.logs("(Standby, Standby) has"));
    CHECK(hooked.read("told").ends_with("Primary Standby n1\nStandby Standby n2\n"));
  }
}

TEST_CASE(
    "a program that hangs is ended, also if it ignores SIGTERM, and the next change is told") {
  for (const char* script : {"[ $2 = Down ] || exec sleep 1000",
                             "[ $2 = Down ] || { trap '' TERM; while :; do sleep 0.1; done; }",
                             "[ $2 = Down ] || { exec >&- 2>&-; while :; do sleep 0.1; done; }"}) {
    CAPTURE(script);
    Counted counted;
    Hooked hooked(script, 50ms);
    hooked.tell(State::primary);
    CHECK(hooked.logs(
        "error: on_change: " + hooked.path("hook") +
        " (none, Primary) was ended, since it took longer than on_change_timeout (50ms)"));
    hooked.hook.configure(hooked.path("hook"), 1h);
    hooked.tell(State::down);
    CHECK(hooked.logs("(Primary, Down) has ended after"));
    CHECK(counted.runs() == 2);
    CHECK(counted.failures() == 1);
  }
}

TEST_CASE(
    "what a program leaves in its group is killed; what has left the group is not waited for") {
  Hooked hooked(
      "sleep 1000 & echo $! >child\n"
      "setsid sh -c 'echo $$ >other; exec sleep 1000' &\n"
      "while [ ! -s other ]; do sleep 0.01; done");
  hooked.tell(State::primary);
  CHECK(hooked.logs("has ended after"));
  const std::string child = trimmed_line(hooked.read("child"));
  const std::string other = trimmed_line(hooked.read("other"));
  REQUIRE_FALSE(child.empty());
  CHECK(eventually(60, [&] { return is_gone(child); }));
  CHECK_FALSE(is_gone(other));
  ::kill(std::stoi(other), SIGKILL);
}

TEST_CASE("a flood of output is cut, and the log says so") {
  Hooked hooked("yes 1234567 | head -c 100000000\nexit 3");
  hooked.tell(State::primary);
  CHECK(hooked.logs("has failed with exit status 3"));
  const std::string log = hooked.log();
  CHECK(count(log, "on_change: 1234567\n") == max_output_lines);
  const auto at = log.find(" more bytes of what it printed are left out");
  REQUIRE(at != log.npos);
  // A hundred lines were printed, and the newlines of the others are not counted.
  CHECK(log.substr(0, at).ends_with("on_change: " + std::to_string((100000000 / 8 - 100) * 7)));
  Hooked line("head -c 100000 /dev/zero | tr '\\0' x\nprintf '\\nlast'");
  line.tell(State::primary);
  CHECK(line.logs("has ended after"));
  CHECK(line.log().find("on_change: " + std::string(max_output_line, 'x') + "...\n") !=
        std::string::npos);
  CHECK(line.log().find("on_change: last\n") != std::string::npos);
}

TEST_CASE("each way to fail is told and counted, and what to do") {
  const std::pair<const char*, const char*> failing[] = {
      {"#!/bin/sh\nexit 3\n",
       "(none, Down) has failed with exit status 3: what it printed is above"},
      {"#!/bin/sh\nkill -SEGV $$\n", "was ended by signal Segmentation fault"},
      {"#!/nowhere/sh\n", "cannot be started: No such file or directory: is it there, and the"},
      {"echo no shell is asked\n", "cannot be started: Exec format error: a script begins with"},
  };
  for (const auto& [script, message] : failing) {
    const std::string which(script);
    CAPTURE(which);
    Counted counted;
    Hooked hooked("");
    hooked.write("failing", script);
    hooked.hook.configure(hooked.path("failing"), 1h);
    hooked.tell(State::down);
    CHECK(hooked.logs(message));
    CHECK(counted.runs() == 1);
    CHECK(counted.failures() == 1);
  }
}

TEST_CASE("a program that is missing or cannot be run is told when it is configured, and tried") {
  Hooked hooked("");
  hooked.write("data", "", 0644);
  for (const std::string& path :
       std::vector{hooked.path("missing"), hooked.path("data"), hooked.folder.folder}) {
    CAPTURE(path);
    hooked.hook.configure(path, 1h);
    CHECK(hooked.logs("error: on_change: " + path));
    CHECK(error_of([&] { Change_Hook::check(path); }).starts_with("on_change: " + path));
  }
  hooked.hook.configure(hooked.path("missing"), 1h);
  hooked.tell(State::down);
  CHECK(hooked.logs("(none, Down) cannot be started: No such file or directory"));
  // It need not be there before it is needed.
  hooked.write("missing", "#!/bin/sh\n");
  hooked.tell(State::standby);
  CHECK(hooked.logs("(Down, Standby) has ended after"));
  CHECK(error_of([&] { Change_Hook::check(hooked.path("missing")); }) == "no error");
  CHECK(error_of([] { Change_Hook::check(""); }) == "no error");
}

TEST_CASE("another program is told the present state at once; with none, nothing is run") {
  Hooked hooked("echo \"$1 $2\" >>told");
  hooked.tell(State::standby);
  CHECK(hooked.logs("(none, Standby) has ended after"));
  Counted counted;
  hooked.hook.configure("", 1h);
  hooked.tell(State::primary);
  hooked.write("second", "#!/bin/sh\necho second $1 $2 $5\n");
  hooked.hook.configure(hooked.path("second"), 1h);
  CHECK(hooked.logs("on_change: second none Primary why\n"));
  hooked.tell(State::down);
  CHECK(hooked.logs("on_change: second Primary Down why\n"));
  CHECK(eventually(60, [&] { return counted.runs() == 2; }));
  CHECK(hooked.read("told") == "none Standby\n");
}

TEST_CASE("without a descriptor to run it with, the change waits, and is told when there is one") {
  Hooked hooked("");
  rlimit limit{}, none{};
  getrlimit(RLIMIT_NOFILE, &limit);
  none.rlim_max = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &none);
  hooked.tell(State::primary);
  const bool told =
      eventually(60, [&] { return hooked.log().find("each second") != std::string::npos; });
  setrlimit(RLIMIT_NOFILE, &limit);
  CHECK(told);
  CHECK(hooked.logs("(none, Primary) has ended after"));
}

TEST_CASE("at the end a program that hangs is ended, and nothing is run or logged any more") {
  Hooked hooked("trap '' TERM\necho $$ >pid\nwhile :; do sleep 0.1; done");
  hooked.tell(State::primary);
  REQUIRE(eventually(60, [&] { return !hooked.read("pid").empty(); }));
  hooked.hook.end();
  const std::string log = hooked.log();
  hooked.tell(State::down);
  CHECK(eventually(60, [&] { return is_gone(trimmed_line(hooked.read("pid"))); }));
  CHECK(hooked.log() == log);
}

TEST_SUITE_END();
