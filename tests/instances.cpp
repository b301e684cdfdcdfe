// Several daemons on one host: a command acts on the one whose configuration it has.

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "base/json.hpp"
#include "daemon/state/note_folder.hpp"
#include "daemon/state/state_directory.hpp"
#include "tests/lab.hpp"
#include "tests/state_folder.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("instances");

namespace {

Own_Daemon silent() {
  Own_Daemon daemon;
  daemon.address = "127.0.0.1:6999";
  daemon.why = "connection refused";
  return daemon;
}

Own_Daemon with_folder(const Json& folder) {
  Own_Daemon daemon = silent();
  daemon.answered = true;
  daemon.node = {{"name", "n1"}, {"stateDirectory", folder}};
  return daemon;
}

std::string found(const Config& config, const Own_Daemon& daemon) {
  std::string why;
  const std::string folder = find_note_folder(config, daemon, why);
  CHECK(folder.empty() != why.empty());
  return folder.empty() ? why : folder;
}

bool has(const std::string& text, const char* part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("a command acts on the folder of the daemon that answers, if that is one") {
  const State_Folder state, other;
  Config config;
  std::ofstream(state.path(alive_file)).flush();
  CHECK(found(config, with_folder(state.folder)) == state.folder);
  CHECK(has(found(config, with_folder(other.folder)), "no daemon has written there"));
  CHECK(has(found(config, with_folder(nullptr)), "has no state_directory"));
  config.state_directory = state.folder + "/";
  CHECK(found(config, with_folder(state.folder)) == state.folder);
  config.state_directory = other.folder;
  CHECK(has(found(config, with_folder(state.folder)), "not the configured"));

  Own_Daemon another = silent();
  another.answered = true;
  another.why = "another node answers at its address: n2";
  CHECK(has(found(config, another), "n2: is this the configuration of this host's daemon?"));
  // One of 1.0.
  another.node = {{"name", "n1"}};
  CHECK(found(config, another) == other.folder);
}

TEST_CASE("while no daemon answers, a command acts on the folder that its configuration has") {
  const State_Folder state;
  Config config;
  CHECK(found(config, silent()) == "/var/lib/primgr");
  config.file = "/etc/primgr.conf";
  CHECK(found(config, silent()) == "/var/lib/primgr");
  config.file = "/etc/primgr/b.conf";
  CHECK(found(config, silent()) == "/var/lib/primgr/b");
  config.file = "/srv/b.conf";
  CHECK(has(found(config, silent()), "/srv/b.conf does not set state_directory"));
  config.state_directory = state.folder;
  CHECK(found(config, silent()) == state.folder);
  State_Directory daemon(state.folder, {"note"}, [](Log_Level, const std::string&) {});
  bool in_use = false;
  REQUIRE(daemon.lock(std::chrono::seconds(10), in_use) == "");
  CHECK(has(found(config, silent()), "but none answers at 127.0.0.1:6999"));
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("lab");

namespace {

// Two daemons without a database, run by nobody in one network.
struct Instances {
  Instances() {
    std::filesystem::permissions(state.folder, std::filesystem::perms(0755));
    std::filesystem::copy_file(program_path(), state.path("primgr"));
    network = fork();
    if (network == 0) {
      signal(SIGTERM, SIG_DFL);  // doctest has a handler
      if (unshare(CLONE_NEWNET) != 0 || std::system("ip link set lo up") != 0) _exit(127);
      std::ofstream(state.path("ready")).flush();
      pause();
      _exit(0);
    }
    CHECK(eventually(20, [&] { return std::filesystem::exists(state.path("ready")); }));
    start("a", 5999);
    start("b", 6999);
  }
  ~Instances() {
    for (const pid_t pid : {daemons["a"], daemons["b"], network}) stop(pid);
  }
  static void stop(pid_t pid) {
    if (pid <= 0) return;
    kill(pid, SIGTERM);
    waitpid(pid, nullptr, 0);
  }
  std::string enter() const {
    return "nsenter --net=/proc/" + std::to_string(network) + "/ns/net ";
  }
  void start(const std::string& name, int port) {
    const std::string folder = state.path(name);
    std::filesystem::create_directory(folder);
    REQUIRE(chown(folder.c_str(), 65534, 65534) == 0);
    std::ofstream(state.path(name + ".conf"))
        << "node_name = " << name << "\nconninfo = host=/nonexistent\nlisten = 127.0.0.1:" << port
        << "\n";
    const pid_t pid = fork();
    if (pid == 0) {
      const std::string command = "exec " + enter() + "setpriv --reuid 65534 --regid 65534 " +
                                  "--clear-groups env STATE_DIRECTORY=" + folder + " " +
                                  state.path("primgr") + " --config " + state.path(name + ".conf") +
                                  " 2>>" + folder + ".log";
      execlp("sh", "sh", "-c", command.c_str(), nullptr);
      _exit(127);
    }
    daemons[name] = pid;
    CHECK(eventually(20, [&] { return std::filesystem::exists(folder + "/alive"); }));
    CHECK(eventually(20, [&] { return !node_of(port).is_null(); }));
  }
  Json node_of(int port) const {
    return parse_json(
        shell(enter() + "curl -s --max-time 20 http://127.0.0.1:" + std::to_string(port) + "/node")
            .output,
        8);
  }
  Ran operator()(const std::string& name, const std::string& arguments) const {
    return shell(enter() + state.path("primgr") + " --config " + state.path(name + ".conf") + " " +
                 arguments + " 2>&1");
  }

  const State_Folder state;
  pid_t network = -1;
  std::map<std::string, pid_t> daemons;
};

}  // namespace

TEST_CASE("lab: commands act on the one of several daemons whose configuration they have") {
  if (!lab_possible("several daemons on a host")) return;
  Instances host;
  const auto done = [&](const std::string& name, const std::string& arguments) {
    const Ran ran = host(name, arguments);
    CHECK_MESSAGE(ran.status == 0, ran.output);
  };
  done("b", "--drain a new disk");
  CHECK(host.node_of(5999)["drain"].is_null());
  CHECK(host.node_of(6999)["drain"]["reason"] == "a new disk");
  done("b", "--undrain");
  CHECK(host.node_of(6999)["drain"].is_null());
  done("b", "--forget-timeline");
  done("b", "--found");
  CHECK(host.node_of(5999)["lost"]["declared"].is_null());
  CHECK_FALSE(host.node_of(6999)["lost"]["declared"].is_null());

  // At once: one after the other.
  const Ran both = host("a", "--drain one & first=$!; " + host.enter() + host.state.path("primgr") +
                                 " --config " + host.state.path("a.conf") +
                                 " --drain two; second=$?; wait $first && exit $second");
  CHECK_MESSAGE(both.status == 0, both.output);
  done("a", "--undrain");

  // Its own daemon does not run, and the other's folder is not touched.
  Instances::stop(std::exchange(host.daemons["b"], -1));
  Ran ran = host("b", "--drain");
  CHECK_MESSAGE(ran.status == 69, ran.output);
  CHECK(ran.output.find("does not set state_directory") != std::string::npos);
  std::ofstream(host.state.path("b.conf"), std::ios::app)
      << "state_directory = " << host.state.path("a") << "\n";
  ran = host("b", "--forget-timeline");
  CHECK_MESSAGE(ran.status == 69, ran.output);
  CHECK(ran.output.find("but none answers at 127.0.0.1:6999") != std::string::npos);
  ran =
      shell(host.enter() + "setpriv --reuid 65533 --regid 65533 --clear-groups " +
            host.state.path("primgr") + " --config " + host.state.path("a.conf") + " --found 2>&1");
  CHECK_MESSAGE(ran.status == 69, ran.output);
  CHECK(ran.output.find("as root, or as the daemon's user") != std::string::npos);
  CHECK(host.node_of(5999)["drain"].is_null());
}

TEST_SUITE_END();
