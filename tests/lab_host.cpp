// The program on its host: shell scripts, signals, systemd, files, --look.

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>

#include "base/file.hpp"
#include "tests/lab.hpp"
#include "tests/raw_server.hpp"
#include "tests/state_folder.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

// `primgr --once` on a node: its output and exit status.
struct Once {
  std::string operator()(const std::string& node, const std::string& arguments) const {
    const Ran ran = lab.attempt("exec-node " + node + " " + program() + " --config " +
                                lab.conf(node, "primgr_conf") + " --once " + arguments);
    return ran.output + " " + std::to_string(ran.status);
  }
  const Lab& lab;
};

// A connection from the hub to a node's primgr.
int connect_from_hub(const Lab& lab, const std::string& node) {
  const In_Namespace there(lab.hub());
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(5999);
  inet_pton(AF_INET, lab.address(node).c_str(), &to.sin_addr);
  REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  return fd;
}

// Also with a request that is never finished, for which the deadline is 5 s.
void check_that_signal_ends(const Lab& lab, const std::string& name) {
  CAPTURE(name);
  const int fd = connect_from_hub(lab, "n3");
  REQUIRE(send_all(fd, "GET /st"));
  const std::string pid = lab.conf("n3", "primgr_pid"), stat = "/proc/" + pid + "/stat";
  const auto ended = [&] {  // it may stay a zombie until its parent reaps it
    std::string text;
    return !std::getline(std::ifstream(stat), text) || text.find(") Z ") != text.npos;
  };
  CHECK_FALSE(ended());
  const auto start = Steady::now();
  shell("kill -" + name + " " + pid);
  CHECK(eventually(20, ended));
  const double took = seconds_since(start);
  if (is_shipped()) CHECK(took <= 3);
  ::close(fd);
  lab.attempt("primgr n3 start");
  CHECK(lab.answers("n3", 202));
}

// The daemon is asked first, so anybody may ask, also who is not let into the database. Without a
// daemon, which n1 has none of then, a look that is refused says why.
void check_refused_looks(const Lab& lab, const Once& once) {
  const std::string hba = lab.conf("n1", "data") + "/pg_hba.conf";
  lab.run("exec-node n1 sed -i '1i local repmgr primgr peer' " + hba);
  lab.sql("n1", "SELECT pg_reload_conf()");
  CHECK(once("n1", "") == "Primary 0");
  CHECK(lab.run("exec-node n1 setpriv --reuid nobody --clear-groups " + lab.conf("n1", "dir") +
                "/../primgr --config " + lab.conf("n1", "primgr_conf") + " --once") == "Primary");
  lab.run("primgr n1 stop");
  const std::string refused = once("n1", "");
  CHECK(refused.find("the server is up, but does not let primgr look: ") != refused.npos);
  CHECK(refused.ends_with("Down 3"));
  lab.run("exec-node n1 sed -i 1d " + hba);
  lab.sql("n1", "ALTER ROLE primgr NOLOGIN; SELECT pg_reload_conf()");
  CHECK(once("n1", "").find("role \"primgr\" is not permitted to log in") != std::string::npos);
  lab.sql("n1",
          "ALTER ROLE primgr LOGIN; REVOKE ALL ON SCHEMA repmgr FROM primgr; "
          "SELECT pg_reload_conf()");
  const std::string unreadable = once("n1", "");
  CHECK(unreadable.find("permission denied") != unreadable.npos);
  CHECK(unreadable.ends_with("Unknown 2"));
  lab.sql("n1", "GRANT USAGE ON SCHEMA repmgr TO primgr");
  // Rights are replicated, so the others' daemons had none either, until they look again.
  for (const char* node : {"n2", "n3"}) CHECK(lab.answers(node, 200, "/primary"));
}

// The commands in the README's section on shell scripts.
std::vector<std::string> readme_commands() {
  const std::string readme = read_file("README.md"), heading = "\n## In shell scripts\n";
  const auto begin = readme.find(heading);
  REQUIRE(begin != readme.npos);
  const auto from = begin + heading.size();
  std::istringstream section(readme.substr(from, readme.find("\n## ", from) - from));
  std::vector<std::string> commands;
  for (std::string line; std::getline(section, line);) {
    if (line.starts_with("    ") && line[4] != '#') commands.push_back(line.substr(4));
  }
  return commands;
}

// Each of them as it stands there, on the Primary n1 and on a standby, as root and as another user.
void check_readme_commands(const Lab& lab) {
  const std::pair<const char*, std::pair<const char*, const char*>> expected[] = {
      {"primgr --once ", {"Primary\n0", "Standby\n1"}},
      {"primgr --once primary ", {"n1\n0", "n1\n0"}},
      {"primgr --once real-primary ", {"n1\n0", "n1\n0"}},
      {"primgr --once state --json ", {"{\"state\":\"Primary\"}\n0", "{\"state\":\"Standby\"}\n1"}},
      {"primgr --once >/dev/null || exit 0", {"0", ""}},
      {"primary=$(primgr --once real-primary) || ", {"0", "0"}},
  };
  const std::vector<std::string> commands = readme_commands();
  REQUIRE(commands.size() == std::size(expected));
  for (std::size_t i = 0; i < commands.size(); ++i) {
    CAPTURE(commands[i]);
    CHECK(commands[i].starts_with(expected[i].first));
    for (const char* user : {"root", "nobody"}) {
      for (const char* node : {"n1", "n2"}) {
        CAPTURE(user);
        CAPTURE(node);
        // An alias works in a non-interactive shell of POSIX from the next line on.
        const std::string script = "alias primgr='" + lab.conf(node, "dir") +
                                   "/../primgr --config " + lab.conf(node, "primgr_conf") + "'\n" +
                                   commands[i] + "\necho $?";
        CHECK(lab.attempt("exec-node " + std::string(node) + " setpriv --reuid " + user +
                          " --clear-groups sh -c " + quoted(script))
                  .output ==
              (node == std::string("n1") ? expected[i].second.first : expected[i].second.second));
      }
    }
  }
}

}  // namespace

TEST_CASE("lab: --once in a shell script, with and without a daemon; signals") {
  if (!lab_possible("--once")) return;
  // A peer_timeout that a busy machine does not exceed.
  const Lab lab("--no-repmgrd --no-haproxy --set 'peer_timeout = 5s' --set 'vote_lease = 8s'");
  REQUIRE(lab.answers("n1", 200));
  // A standby hears of the Primary by its next poll.
  for (const char* node : {"n2", "n3"}) REQUIRE(lab.answers(node, 200, "/realPrimary"));
  check_readme_commands(lab);
  const Once once{lab};
  CHECK(once("n1", "") == "Primary 0");
  CHECK(once("n2", "state") == "Standby 1");
  CHECK(once("n2", "primary") == "n1 0");
  CHECK(once("n2", "real-primary") == "n1 0");
  CHECK(once("n1", "state --json") == R"({"state":"Primary"} 0)");
  CHECK(once("n2", "primary --json") == R"({"Primary":"n1"} 0)");
  CHECK(once("n3", "real-primary --json") == R"({"realPrimary":"n1"} 0)");
  CHECK(once("n1", "frob").ends_with(" 64"));
  for (const char* name : {"TERM", "INT"}) check_that_signal_ends(lab, name);

  check_refused_looks(lab, once);

  // Without a daemon on the host: the other nodes' votes can still be read.
  CHECK(once("n1", "") == "Primary 0");
  CHECK(once("n1", "real-primary") == "n1 0");
  // Nobody votes, so it is not Primary; and no daemon answers that it is.
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
    unshare(CLONE_NEWNET);  // the port may be in use here
    std::system("ip link set lo up");
    execl(binary.c_str(), "primgr", "--config", conf.c_str(), "--log-level", "error", nullptr);
    _exit(127);
  }
  CHECK(told() == "READY=1");
  CHECK(told() == "WATCHDOG=1");
  CHECK(told().starts_with("STATUS=Down: "));
  kill(pid, SIGTERM);
  std::string last;
  while ((last = told()) == "WATCHDOG=1" || last.starts_with("STATUS=")) {
  }
  CHECK(last == "STOPPING=1");
  int status = 0;
  waitpid(pid, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  ::close(fd);
  std::filesystem::remove_all(folder);
}

TEST_CASE("lab: --look reaches the daemon on the port, of any user, and causes one look") {
  if (!lab_possible("--look")) return;
  const State_Folder folder;
  const std::string conf = folder.path("conf"), log = folder.path("log");
  // It looks every 19 s by itself.
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
                   // Each --look is followed by one more look, long before the next of its own.
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
                   // A stream of --look causes a look each 100 ms; SIGTERM is still handled.
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

TEST_CASE("lab: who may not read repmgr.conf asks the daemon of this host all the same") {
  if (!lab_possible("asking without repmgr.conf")) return;
  const State_Folder folder;
  const std::string conf = folder.path("conf"), log = folder.path("log"),
                    repmgr_conf = folder.path("repmgr.conf"), copy = folder.path("primgr");
  std::ofstream(conf) << "listen = 127.0.0.1:5999\nconninfo = host=/nonexistent\nrepmgr_conf = "
                      << repmgr_conf << "\n";
  std::ofstream(repmgr_conf) << "node_name=n1\nconninfo='host=n1 password=x'\n";
  std::filesystem::permissions(folder.folder, std::filesystem::perms(0755));
  std::filesystem::permissions(repmgr_conf, std::filesystem::perms(0600));
  std::filesystem::copy_file(program_path(), copy);
  const std::string run = copy + " --config " + conf,
                    nobody = "setpriv --reuid nobody --regid 65534 --clear-groups " + run;
  std::string commands;
  for (const std::string what :
       {"--once", "--once primary", "--once real-primary", "--status", "--history"}) {
    commands += nobody + " " + what + "; echo '" + what + "': $?; ";
  }
  const Ran ran = shell(
      "exec 2>&1; timeout -k 5 120 unshare -n sh -c " +
      quoted("ip link set lo up; " + nobody + " --once; echo alone: $?; " + run + " 2>" + log +
             " & daemon=$!; until curl -s -o /dev/null http://127.0.0.1:5999/state; do sleep "
             "0.05; done; " +
             commands + "kill $daemon; wait $daemon"));
  INFO(ran.output);
  CHECK(ran.output.starts_with(
      "primgr: no daemon of this host answers, and this process cannot look itself: repmgr_conf: " +
      repmgr_conf + ": cannot read it: Permission denied"));
  CHECK(ran.output.find("alone: 78\n") != ran.output.npos);
  CHECK(ran.output.find("Down\n--once: 3\n") != ran.output.npos);
  CHECK(ran.output.find("Down\n--once primary: 3\n") != ran.output.npos);
  CHECK(ran.output.find("Down\n--once real-primary: 3\n") != ran.output.npos);
  CHECK(ran.output.find("--status: 2\n") != ran.output.npos);
  CHECK(ran.output.ends_with("--history: 0"));
}

TEST_CASE("lab: an event notification of repmgrd makes a primgr of another user look at once") {
  if (!lab_possible("event notification")) return;
  const Lab lab(
      "--nodes 2 --no-haproxy --no-wait --primgr-user nobody --set 'refresh_interval = 15s'"
      " --set 'vote_lease = 50s' --set 'log_level = debug' --repmgr-set " +
      quoted("event_notification_command = '%d/../primgr --config %d/primgr.conf --look'"));
  const auto told = [&] { return count(lab.log("n2"), "told to look (--look)"); };
  CHECK(lab.run("exec-node n2 ps -o user= -p " + lab.conf("n2", "primgr_pid")) == "nobody");
  // repmgrd's start is an event.
  CHECK(eventually(30, [&] { return told() > 0; }));
  CHECK(lab.answers("n2", 202, "/state", 60));
  // A promotion does not end connections to the database, so that nothing else makes it look.
  const std::size_t before = told();
  REQUIRE(lab.answers("n1", 200, "/state", 60));
  const double looks = lab.metric("n1", "primgr_refresh_seconds_count");
  REQUIRE(eventually(60, [&] { return lab.metric("n1", "primgr_refresh_seconds_count") > looks; }));
  lab.run("kill n1");
  // Its connections end: n1 does not wait for its next look, in 15 s.
  CHECK(eventually(8, [&] { return lab.log("n1").find("state Down") != std::string::npos; }));
  CHECK(eventually(60, [&] { return lab.ask("n2").status != 202; }));
  CHECK(eventually(30, [&] { return told() > before; }));
  INFO(lab.log("n2"));
  CHECK(lab.log("n2").find("cannot") == std::string::npos);
}

TEST_CASE("lab: a state file that is in use, or not a regular file, is refused") {
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
  // After SIGKILL the next one gets the lock, and reads what was promised.
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

TEST_CASE("lab: output that cannot be written is an error") {
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

TEST_CASE("lab: SIGUSR1 and SIGHUP, which are for the daemon, do not end --once and --status") {
  // A database and a daemon that do not answer: the program waits until the connection is closed.
  const std::string conf = "build/test-signals.conf", binary = program_path();
  const auto ask = [&](const char* mode, int expected) {
    CAPTURE(mode);
    std::optional<Raw_Server> listener(std::in_place, nullptr, INADDR_LOOPBACK, 1);
    const std::string port = std::to_string(listener->port());
    std::ofstream(conf) << "listen = 127.0.0.1:" << port
                        << "\ndb_timeout = 1min\nconninfo = host=127.0.0.1 port=" << port << "\n";
    const pid_t pid = fork();
    if (pid == 0) {
      freopen("/dev/null", "w", stderr);
      freopen("/dev/null", "w", stdout);
      execl(binary.c_str(), "primgr", "--config", conf.c_str(), mode, nullptr);
      _exit(127);
    }
    pollfd ready{listener->fd(), POLLIN, 0};
    CHECK(::poll(&ready, 1, 20'000) == 1);
    const int asked = ::accept4(listener->fd(), nullptr, nullptr, SOCK_CLOEXEC);
    kill(pid, SIGUSR1);
    kill(pid, SIGHUP);
    listener.reset();
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

TEST_CASE(
    "lab: the HAProxy section of the README works as it stands, below Debian's defaults too") {
  if (!lab_possible("the README's HAProxy section")) return;
  const Lab lab("--nodes 2 --no-repmgrd --no-haproxy");
  const std::string readme = read_file("README.md");
  const auto begin = readme.find("       listen postgres_write\n");
  REQUIRE(begin != readme.npos);
  std::string section = readme.substr(begin, readme.find("\n\n", begin) + 1 - begin);
  for (const char* node : {"1", "2"}) {
    const std::string shown = std::string("10.0.0.") + node + ":5432";
    REQUIRE(section.find(shown) != section.npos);
    section.replace(
        section.find(shown), shown.size(),
        lab.address(std::string("n") + node) + ":" + lab.conf(std::string("n") + node, "port"));
  }
  const State_Folder folder;
  std::ofstream(folder.path("cfg")) << "defaults\n  mode http\n  option httplog\n"
                                       "  timeout connect 5000\n  timeout client 50000\n"
                                       "  timeout server 50000\n\n"
                                    << section;
  INFO(section);
  const Ran ran = lab.attempt(
      "exec sh -c " +
      quoted("haproxy -db -f " + folder.path("cfg") +
             " & for try in $(seq 100); do PGCONNECT_TIMEOUT=2 psql -X -h 127.0.0.1 -p 5000"
             " -U repmgr -d repmgr -qAtc 'SELECT 42, inet_server_addr()' && break;"
             " sleep 0.1; done; kill $!"));
  INFO(ran.output);
  CHECK(ran.output.find("42|" + lab.address("n1")) != std::string::npos);
}

// Not run by itself: the next test runs it, and it ends that run.
TEST_CASE("is killed with a lab up" * doctest::skip()) {
  const Lab lab("--nodes 1 --no-repmgrd --no-haproxy --no-wait");
  std::cout << "folder: " << lab.conf("n1", "dir") << std::endl;
  const State_Folder secret;  // of mode 0700
  const std::string psql = std::filesystem::absolute("lab/lab").string() + " psql n1 -qAtc ";
  std::cout << "psql: "
            << shell("cd " + secret.folder + " && exec 2>&1; " + lab_variables() + " " + psql +
                     "'SELECT 42'")
                   .output
            << std::endl;
  ::raise(SIGKILL);
}

TEST_CASE("lab: psql in a folder of root's alone; the lab is gone after a run that was killed") {
  if (!lab_possible("a killed run")) return;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  // The process that brings the lab down has the output too, so this waits for it.
  const Ran ran = shell(quoted(self) + " --no-skip -tc='is killed with a lab up' 2>&1");
  INFO(ran.output);
  CHECK(ran.output.find("psql: 42\n") != std::string::npos);
  std::istringstream rest(ran.output.substr(ran.output.find("folder: ") + 8));
  std::string folder;
  rest >> folder;
  CHECK(folder.find("lab-check-") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(std::filesystem::path(folder).parent_path()));
}

TEST_SUITE_END();
