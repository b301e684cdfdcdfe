// SIGHUP: what of the configuration changes while the daemon runs.

#include "daemon/config/reload.hpp"
#include "base/error.hpp"

#include <doctest/doctest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <new>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/file.hpp"
#include "daemon/cli/options.hpp"
#include "daemon/http/http.hpp"
#include "tests/lab.hpp"
#include "tests/raw_server.hpp"
#include "tests/state_folder.hpp"
#include "tests/world.hpp"

using namespace primgr;

namespace {

// Whether a piece of a document says that the keys in it change on reload.
bool says_reload(const std::string& text) {
  return text.find("hanges on reload") != text.npos;
}

// The pieces of a text, each from a line that `begins` one up to the next.
std::vector<std::string> pieces(const std::string& text,
                                const std::function<bool(const std::string& line)>& begins) {
  std::vector<std::string> found(1);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (begins(line)) found.emplace_back();
    found.back() += line + "\n";
  }
  return found;
}

// Exactly one of the pieces is about the key, as `shown` there, and says whether it is reloaded.
void check_told(const std::vector<std::string>& all, const std::string& shown, Change change) {
  CAPTURE(shown);
  std::vector<std::string> about;
  for (const std::string& piece : all) {
    if (piece.find(shown) != piece.npos) about.push_back(piece);
  }
  REQUIRE(about.size() == 1);
  CAPTURE(about[0]);
  CHECK(says_reload(about[0]) == (change == Change::reload));
}

Config parsed(const std::string& text) {
  Config config = parse_config("node_name = n1\n" + text, "f");
  config.file = "f";
  return config;
}

std::string printed(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += word + ";";
  return text;
}

// A Reload of a configuration that the test sets, and what it has logged.
struct Reloaded {
  explicit Reloaded(const std::string& started)
      : reload(
            parsed(started),
            [this] {
              if (!error.empty()) throw Input_Error(error);
              return read;
            },
            [this](Log_Level at, const std::string& message) { log.emplace_back(at, message); }) {
    reload.add([this](const Config& config) {
      if (no_memory > 0 && no_memory-- == 1) throw std::bad_alloc();
      peer_port = config.peers.port;
    });
    reload.add([this](const Config& config) { level = config.log_level; });
  }
  // What it logs when it reads that.
  std::string on(const std::string& text) {
    read = parsed(text);
    return run();
  }
  std::string run(bool asked = true) {
    log.clear();
    reload.run(asked);
    std::string said;
    for (const auto& [told_at, message] : log) {
      said += log_level_names[static_cast<int>(told_at)] + std::string(": ") + message + "\n";
    }
    return said;
  }

  Config read;
  std::string error;
  int no_memory = 0;  // the first Apply has none when it is called for that time
  int peer_port = 0;
  Log_Level level = Log_Level::info;
  std::vector<std::pair<Log_Level, std::string>> log;
  Reload reload;
};

}  // namespace

TEST_SUITE_BEGIN("reload");

TEST_CASE("the documents say of each key whether it changes on reload") {
  const auto blank = [](const std::string& line) { return line.empty(); };
  const auto example = pieces(read_file("primgr.conf.example"), blank);
  const auto row = [](const std::string& line) { return line.starts_with("| "); };
  const auto readme = pieces(read_file("README.md"), row);
  std::string page = read_file("deploy/primgr.8");
  page = page.substr(page.find(".SH CONFIGURATION"));
  page = page.substr(0, page.find(".SH HTTP"));
  const auto tagged = [](const std::string& line) { return line == ".TP"; };
  std::vector<std::string> man;
  for (const std::string& piece : pieces(page, tagged)) {
    // Only its heading names the keys; the text may speak of others.
    const auto end = piece.find('\n', 4);
    if (piece.starts_with(".TP\n")) {
      man.push_back(" " + piece.substr(4, end - 4) + " " +
                    (says_reload(piece) ? "changes on reload" : ""));
    }
  }
  for (const Config_Key& key : config_keys()) {
    const std::string name = key.name;
    check_told(example, "\n#" + name + " = ", key.change);
    std::vector<std::string> rows;
    for (const std::string& piece : readme) {
      // A row's first cell, and whether the row says it.
      if (piece.starts_with("| `")) {
        rows.push_back(piece.substr(0, piece.find(" |", 2)) +
                       (says_reload(piece.substr(0, piece.find('\n'))) ? "changes on reload" : ""));
      }
    }
    check_told(rows, "`" + name + "`", key.change);
    check_told(man, " " + name + " ", key.change);
  }
  check_told(example, "\n#peer.n2 = ", peers_change);
  check_told(readme, "| `peer.<name>` |", peers_change);
  check_told(man, " peer. name ", peers_change);
}

TEST_CASE("what has changed: at once, or on a restart, by name and without what is secret") {
  const Config started = parsed("peer.n2 = a\npeer.n3 = b:1");
  const auto changes = [&](const std::string& text) {
    const Config_Changes found = compare(started, started, parsed(text));
    return printed(found.at_once) + "/" + printed(found.on_restart);
  };
  CHECK(changes("peer.n3 = b:1\npeer.n2 = a\nlog_level = info") == "/");
  CHECK(changes("peer.n2 = a\npeer.n3 = b:2\npeer.n4 = [::1]:3") ==
        "peer.n3 = b:2;peer.n4 = [::1]:3;/");
  CHECK(changes("peer.n3 = b:1\nlog_level = debug\npeer_port = 1") ==
        "peer_port = 1;log_level = debug;peer.n2 is not set;/");
  CHECK(changes("peer.n2 = a\npeer.n3 = b:1\nlisten = [::]:1\nconsensus = cluster") ==
        "/listen;consensus;");
  // Each key is compared.
  for (const Config_Key& key : config_keys()) {
    CAPTURE(key.name);
    const std::string name = key.name;
    Config read = started;
    const std::string value = key.print(read);
    key.parse(read, name == "listen"      ? "[::1]:1"
                    : name == "consensus" ? "cluster"
                    : name == "log_level" ? "error"
                    : name == "on_change" ? "/bin/true"
                    : name == "conninfo"  ? "host=/elsewhere"
                    : value == "3"        ? "2"
                    : value == "256"      ? "255"
                                          : "11");
    const Config_Changes found = compare(started, started, read);
    CHECK(printed(found.at_once) + printed(found.on_restart) ==
          (key.change == Change::reload ? name + " = " + key.print(read) : name) + ";");
  }
  const Config_Changes found = compare(parsed("conninfo = 'password=hush'"), started,
                                       parsed("peer.n2 = a\npeer.n3 = b:1\n"
                                              "conninfo = 'password=silent'"));
  CHECK(printed(found.at_once) + "/" + printed(found.on_restart) == "/conninfo;");
}

TEST_CASE("a reload puts into force what it may, and names what takes a restart, each time") {
  Reloaded n1("");
  CHECK(n1.run(false).empty());
  CHECK(n1.on("") == "info: reload: nothing has changed\n");
  CHECK(n1.on("log_level = debug\npeer_port = 7") ==
        "info: reload: in force now: peer_port = 7, log_level = debug\n");
  CHECK(n1.peer_port == 7);
  CHECK(n1.level == Log_Level::debug);
  for (int i = 0; i < 2; ++i) {
    CHECK(n1.on("log_level = debug\npeer_port = 7\nmax_clients = 128") ==
          "warning: reload: max_clients has changed: restart primgr for this\n");
  }
  CHECK(n1.on("log_level = debug\nlisten = *:1\nconninfo = host=x") ==
        "info: reload: in force now: peer_port = 5999\n"
        "warning: reload: listen, conninfo have changed: restart primgr for these\n");
  // What was taken back needs no restart.
  CHECK(n1.on("log_level = debug") == "info: reload: nothing has changed\n");
}

TEST_CASE("a configuration that cannot be read changes nothing, and the log says why") {
  Reloaded n1("");
  CHECK(n1.on("peer_port = 7") == "info: reload: in force now: peer_port = 7\n");
  n1.read = parsed("peer_port = 8\nlog_level = debug");
  n1.error = "f:3: unknown key \"frob\"";
  CHECK(n1.run() ==
        "error: reload: f:3: unknown key \"frob\" (nothing has changed: mend it, then reload "
        "again)\n");
  n1.error.clear();
  // What is read where no file is named and there is none: the defaults.
  n1.read.file.clear();
  CHECK(n1.run().starts_with("error: reload: f: it is gone (nothing has changed: "));
  CHECK(n1.peer_port == 7);
  CHECK(n1.level == Log_Level::info);
  CHECK(n1.on("peer_port = 8") == "info: reload: in force now: peer_port = 8\n");
}

TEST_CASE("a reload for which there was no memory comes again by itself") {
  Reloaded n1("");
  n1.read = parsed("peer_port = 7\nlog_level = debug");
  n1.no_memory = 1;
  CHECK_THROWS_AS(n1.run(), std::bad_alloc);
  CHECK(n1.run(false) == "info: reload: in force now: peer_port = 7, log_level = debug\n");
  CHECK(n1.level == Log_Level::debug);
  CHECK(n1.run(false).empty());
}

TEST_CASE("the command line still counts first, and the environment makes no difference") {
  const State_Folder folder;
  Options options;
  options.config_file = folder.path("conf");
  options.listen = "127.0.0.1:7";
  options.log_level = "debug";
  setenv("RUNTIME_DIRECTORY", "/run/primgr", 1);
  setenv("STATE_DIRECTORY", "/var/lib/primgr", 1);
  const auto read = [&](const std::string& text) {
    std::ofstream(options.config_file) << text;
    return load_config(options);
  };
  const Config started = read("");
  const auto changes = [&](const std::string& text) {
    const Config_Changes found = compare(started, started, read(text));
    return printed(found.at_once) + "/" + printed(found.on_restart);
  };
  CHECK(changes("") == "/");
  CHECK(changes("listen = 1.2.3.4:5\nlog_level = error\n") == "/");
  CHECK(changes("node_name = another\nstate_file = /x") == "/node_name;state_file;");
  std::ofstream(folder.path("repmgr.conf")) << "node_name = db1\n";
  CHECK(changes("repmgr_conf = " + folder.path("repmgr.conf")) == "/node_name;repmgr_conf;");
  unsetenv("RUNTIME_DIRECTORY");
  unsetenv("STATE_DIRECTORY");
}

TEST_CASE("the next question goes to the address of a peer that was changed, and others too") {
  const Raw_Server one(reply_with(http_ok("{\"n\":1}"))), two(reply_with(http_ok("{\"n\":2}")));
  Config config;
  config.peers.by_name["n2"] = {"127.0.0.1", one.port()};
  config.peers.port = two.port();
  const Stderr_Log log(Log_Level::none);
  const Tls tls(config.tls, log);
  Resolver resolver;
  const auto client = cpp_httplib().make_client(config.peers, resolver, tls);
  Node peer = make_node(2, "n2");
  peer.host = "127.0.0.1";
  const auto ask = [&] {
    std::atomic<bool> done = false;
    Http_Reply reply;
    client->get(peer, "/primary", 20s, [&](Http_Reply r) {
      reply = std::move(r);
      done = true;
    });
    CHECK(eventually(60, [&] { return done.load(); }));
    return reply.body;
  };
  CHECK(ask() == "{\"n\":1}");
  config.peers.by_name.clear();  // the client has its own
  CHECK(ask() == "{\"n\":1}");
  client->use_addresses(config.peers);
  CHECK(ask() == "{\"n\":2}");
  config.peers.port = one.port();
  client->use_addresses(config.peers);
  CHECK(ask() == "{\"n\":1}");
  config.peers.by_name["N2"] = {"127.0.0.1", two.port()};
  client->use_addresses(config.peers);
  CHECK(ask() == "{\"n\":2}");
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("lab");

namespace {

// The program as a daemon without a database, run by nobody in a network of its own.
struct Daemon {
  Daemon() {
    std::filesystem::permissions(folder.folder, std::filesystem::perms(0755));
    std::filesystem::copy_file(program_path(), program);
    std::ofstream(log).flush();
    configure("");
    pid = fork();
    if (pid == 0) {
      unshare(CLONE_NEWNET);  // the port may be in use here
      std::system("ip link set lo up");
      if (!freopen(log.c_str(), "a", stderr)) _exit(127);
      execlp("setpriv", "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
             program.c_str(), "--config", conf.c_str(), nullptr);
      _exit(127);
    }
  }
  ~Daemon() {
    kill(pid, SIGTERM);
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  void configure(const std::string& more) const {
    std::ofstream(conf) << "node_name = n1\nconninfo = host=/nonexistent\n"
                        << (more.find("listen") == more.npos ? "listen = 127.0.0.1:5999\n" : "")
                        << more;
  }
  // A new line of the log has that.
  void wait_for(const std::string& text) {
    std::string all;
    const bool came =
        eventually(20, [&] { return (all = read_file(log)).find(text, seen) != all.npos; });
    CAPTURE(text);
    INFO(all);
    REQUIRE(came);
    seen = all.find(text, seen) + text.size();
  }
  void reload(const std::string& expected) {
    kill(pid, SIGHUP);
    wait_for(expected);
  }
  // What systemd does at a reload: each ExecReload of the unit, until one fails. Its exit status.
  int systemctl_reload() const {
    std::string script = "set -e; MAINPID=" + std::to_string(pid) + "; ";
    std::istringstream unit(read_file("deploy/primgr.service"));
    for (std::string line; std::getline(unit, line);) {
      const std::string key = "ExecReload=", path = "/usr/local/bin/primgr";
      if (!line.starts_with(key)) continue;
      line.erase(0, key.size());
      if (line.starts_with(path)) line.replace(0, path.size(), program + " --config " + conf);
      script += line + "; ";
    }
    return shell("(" + script + ") >/dev/null 2>&1").status;
  }
  // Whether it logs at `debug`: each request is.
  bool logs_requests() const {
    const std::size_t before = read_file(log).size();
    const Ran ran = shell("nsenter --net=/proc/" + std::to_string(pid) +
                          "/ns/net curl -s --max-time 20 http://127.0.0.1:5999/state");
    CHECK(ran.output == R"({"state":"Down"})");
    return read_file(log).find("GET /state 503", before) != std::string::npos;
  }

  const State_Folder folder;
  const std::string log = folder.path("log"), conf = folder.path("conf"),
                    program = folder.path("primgr");
  pid_t pid = -1;
  std::size_t seen = 0;
};

}  // namespace

TEST_CASE("lab: SIGHUP reads the configuration again; a bad one changes nothing") {
  if (!lab_possible("SIGHUP")) return;
  Daemon n1;
  n1.wait_for("answers for node \"n1\" on 127.0.0.1:5999");
  CHECK_FALSE(n1.logs_requests());
  n1.reload("info: reload: nothing has changed");
  n1.configure("log_level = debug\npeer.n2 = 10.0.0.2\n");
  n1.reload("info: reload: in force now: log_level = debug, peer.n2 = 10.0.0.2");
  CHECK(n1.logs_requests());
  n1.configure("log_level = debug\nlisten = 127.0.0.1:6000\nvote_lease = 5s\n");
  n1.reload("info: reload: in force now: peer.n2 is not set");
  n1.wait_for("warning: reload: listen, vote_lease have changed: restart primgr for these");
  CHECK(n1.logs_requests());  // where it listened before

  // log_level would be info.
  n1.configure("\nfrob = 1\n");
  CHECK(n1.systemctl_reload() == 78);  // and no signal is sent
  CHECK(read_file(n1.log).find("frob") == std::string::npos);
  n1.reload("error: reload: " + n1.conf + ":5: unknown key \"frob\"; primgr.conf.example shows");
  n1.configure("vote_lease = 1s\n");
  n1.reload("error: reload: " + n1.conf + ":4: vote_lease (1s) less 1 % and check_delay");
  std::filesystem::remove(n1.conf);
  n1.reload("error: reload: " + n1.conf + ": cannot read it: No such file or directory");
  n1.configure("");
  std::filesystem::permissions(n1.conf, std::filesystem::perms::none);
  n1.reload("error: reload: " + n1.conf +
            ": cannot read it: Permission denied (nothing has changed: mend it, then reload "
            "again)");
  CHECK(n1.logs_requests());

  std::filesystem::permissions(n1.conf, std::filesystem::perms(0644));
  for (int i = 0; i < 20; ++i) kill(n1.pid, SIGHUP);
  n1.wait_for("info: reload: in force now: log_level = info");
  CHECK(n1.systemctl_reload() == 0);
  n1.wait_for("info: reload: nothing has changed");
  CHECK_FALSE(n1.logs_requests());
}

TEST_SUITE_END();
