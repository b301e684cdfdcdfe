// deploy/examples on a real cluster, with the real keepalived and PgBouncer; and on_change there.

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <iostream>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

#include "base/file.hpp"
#include "base/text.hpp"
#include "tests/http_client.hpp"
#include "tests/lab.hpp"
#include "tests/libpq.hpp"
#include "tests/raw_server.hpp"
#include "tests/state_folder.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// A file of deploy/examples with what an operator puts in place of its examples, each found once.
std::string example(const std::string& name, const Pairs& edits) {
  std::string text = read_file("deploy/examples/" + name);
  for (const auto& [from, to] : edits) {
    CAPTURE(from);
    REQUIRE(count(text, from) == 1);
    text.replace(text.find(from), from.size(), to);
  }
  return text;
}

// Puts a program in the place of another, which may be running.
void put_program(const std::string& path, const std::string& text) {
  std::ofstream(path + ".new") << text;
  REQUIRE(::chmod((path + ".new").c_str(), 0755) == 0);
  REQUIRE(::rename((path + ".new").c_str(), path.c_str()) == 0);
}

// As fence.sql says.
void set_up_fence(const Lab& lab) {
  // On standard input: psql runs as postgres, which may be unable to enter the checkout.
  lab.run("psql n1 -q -v ON_ERROR_STOP=1 <" +
          quoted(std::string(::get_current_dir_name()) + "/deploy/examples/fence.sql"));
  std::string rules;
  std::istringstream lines(read_file("deploy/examples/fence.sql"));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with(" reject")) rules += line.substr(2) + "\n";
  }
  REQUIRE(count(rules, "\n") == 2);
  for (const std::string& node : lab.nodes()) {
    const std::string data = lab.conf(node, "data"), hba = data + "/pg_hba.conf";
    REQUIRE(shell("install -o postgres -g postgres -m 600 /dev/null " + data + "/primgr_fence")
                .status == 0);
    const std::string text = rules + read_file(hba);
    std::ofstream(hba) << text;
    lab.sql(node, "SELECT pg_reload_conf()");
    CHECK(lab.sql(node,
                  "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NULL AND auth_method = "
                  "'reject'") == "2");
  }
}

// A client that has one session on n1 and commits a row each 10 ms, as long as it may.
class Committer {
 public:
  Committer(const Lab& lab, const std::string& database)
      : psql_("psql -X -qAt -h " + lab.conf("n1", "socket") + " -U postgres -d " + database) {
    REQUIRE(shell(psql_ + " -c 'CREATE TABLE rows_of_client (at float)' 2>&1").status == 0);
    std::ofstream{going_};
    thread_ = std::thread([this] {
      said_ = shell("while [ -e " + going_ +
                    " ]; do echo 2>&- 'INSERT INTO rows_of_client VALUES (extract(epoch FROM"
                    " clock_timestamp()));' || break; sleep 0.01; done | " +
                    psql_ + " 2>&1");
    });
  }
  ~Committer() { end(); }
  // Ends the session, and returns what it was told.
  std::string end() {
    unlink(going_.c_str());
    if (thread_.joinable()) thread_.join();
    return said_.output;
  }
  // When its last row was committed; the database must let the test in. 0: never.
  double last() const {
    return std::stod(
        shell(psql_ + " -c 'SELECT coalesce(max(at), 0) FROM rows_of_client' || echo 0").output);
  }

 private:
  const std::string psql_;
  const State_Folder folder_;
  const std::string going_ = folder_.path("going");
  Ran said_{};
  std::thread thread_;
};

// Asks n1 beside itself until it answers otherwise; when it last answered 200.
double last_200(const Lab& lab) {
  const In_Namespace there(lab.conf("n1", "netns"));
  double last = 0;
  const bool over = eventually(20, [&] {
    Client client("127.0.0.1", 5999);
    const int status = client.send("GET", "/state", "Connection: close\r\n").status;
    if (status == 200) last = now();
    return last > 0 && status != 200;
  });
  CHECK(over);
  return last;
}

// n1 is cut off. A client of the database postgres, which the fence closes, is compared with one of
// the database repmgr, which it leaves alone.
void check_fence(const Lab& lab) {
  Committer fenced(lab, "postgres"), free(lab, "repmgr");
  REQUIRE(eventually(20, [&] { return fenced.last() > 0 && free.last() > 0; }));
  lab.run("cut n1");
  const double over = last_200(lab);
  CHECK(eventually(20, [&] {
    return lab.log("n1").find("on_change: closed: true, sessions ended: 1") != std::string::npos;
  }));
  CHECK(eventually(20, [&] { return free.last() > over + 2; }));
  const Ran refused = lab.attempt("psql n1 -d postgres -c 'SELECT 1'");
  CHECK(refused.output.find("pg_hba.conf rejects connection") != std::string::npos);
  CHECK(fenced.end().find("terminating connection due to administrator command") !=
        std::string::npos);
  lab.run("heal n1");
  CHECK(lab.answers("n1", 200));
  CHECK(
      eventually(20, [&] { return lab.attempt("psql n1 -d postgres -c 'SELECT 1'").status == 0; }));
  const double with = fenced.last() - over, without = free.last() - over;
  std::cout << "  after the last 200, a client went on committing for " << with
            << " s with the fence, and without it " << without << " s, until the test ended\n";
  CHECK(with < 2);
  CHECK(without >= 2);
}

// A process in a namespace, ended by its pid. What it prints goes to `log`.
class Beside {
 public:
  Beside(const std::string& netns, const std::string& command, const std::string& log) {
    const In_Namespace there(netns);
    pid_ = shell("setsid " + command + " </dev/null >" + log + " 2>&1 & echo $!").output;
  }
  ~Beside() { shell("kill " + pid_); }

 private:
  std::string pid_;
};

// PgBouncer beside n1, before its database. `more`: lines of its pgbouncer.ini.
class Pooler {
 public:
  Pooler(const Lab& lab, const std::string& more) : lab_(lab) {
    REQUIRE(::chmod(folder_.folder.c_str(), 0755) == 0);
    const std::string ini = folder_.path("ini"), users = folder_.path("users");
    std::ofstream(users) << "\"primgr\" \"\"\n";
    std::ofstream(ini) << "[databases]\n* = host=" << lab.conf("n1", "socket")
                       << "\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = 6432\n"
                          "unix_socket_dir =\nauth_type = trust\nauth_file = "
                       << users << "\n"
                       << more;
    std::ofstream(folder_.path("conf"))
        << "conninfo = host=127.0.0.1 port=6432 dbname=repmgr user=primgr\nnode_name = n1\n"
           "listen = 127.0.0.1:6999\n";
    pooler_.emplace(lab.conf("n1", "netns"),
                    "setpriv --reuid postgres --regid postgres --clear-groups pgbouncer " + ini,
                    folder_.path("log"));
    const bool up = eventually(20, [&] { return client("SELECT 1") == "1"; });
    INFO(read_file(folder_.path("log")));
    REQUIRE(up);
  }
  // What a client is answered.
  std::string client(const std::string& sql) const {
    return lab_
        .attempt("exec-node n1 psql -X -At -h 127.0.0.1 -p 6432 -U primgr -d repmgr -c " +
                 quoted(sql))
        .output;
  }
  // What a primgr says whose conninfo leads here.
  Ran once() const {
    return lab_.attempt("exec-node n1 " + program() + " --once --config " + folder_.path("conf"));
  }

 private:
  const Lab& lab_;
  const State_Folder folder_;
  std::optional<Beside> pooler_;
};

// A form that is posted to the hub: the request, as it came.
class Webhook {
 public:
  explicit Webhook(const Lab& lab) {
    const In_Namespace there(lab.hub());
    server_.emplace(
        [this](int fd) {
          std::string request = read_request(fd);
          const auto length = request.find("Content-Length: ");
          const std::size_t whole =
              request.find("\r\n\r\n") + 4 +
              (length == request.npos ? 0 : std::stoul(request.substr(length + 16)));
          for (char byte; request.size() < whole && ::recv(fd, &byte, 1, 0) == 1;) request += byte;
          {
            const std::lock_guard lock(mutex_);
            posted_ += url_decoded(request).value_or(request) + "\n";
          }
          send_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        },
        INADDR_ANY);
  }
  int port() const { return server_->port(); }
  std::string posted() const {
    const std::lock_guard lock(mutex_);
    return posted_;
  }

 private:
  mutable std::mutex mutex_;
  std::string posted_;
  std::optional<Raw_Server> server_;
};

// A program that floods the log and does not end delays no answer, and not the end.
void check_hanging_program(const Lab& lab) {
  const std::string dir = lab.conf("n3", "dir");
  put_program(dir + "/on_change", "#!/bin/sh\ntrap '' TERM\necho $$ >" + dir +
                                      "/running\nyes told $1 $2\nwhile :; do :; done\n");
  lab.run("primgr n3 restart");
  CHECK(lab.answers("n3", 202));
  CHECK(eventually(20, [&] {
    return lab.log("n3").find("on_change: told none Standby\n") != std::string::npos;
  }));
  for (int i = 0; i < 20; ++i) CHECK(lab.ask("n3").status == 202);
  const std::string pid = shell("cat " + dir + "/running").output;
  REQUIRE_FALSE(pid.empty());
  const auto start = Steady::now();
  lab.run("primgr n3 stop");
  const double took = seconds_since(start);
  if (is_shipped()) CHECK(took < 3);
  CHECK(eventually(20, [&] {
    return shell("! grep -q '^State:.[^Z]' /proc/" + pid + "/status 2>/dev/null").status == 0;
  }));
  unlink((dir + "/on_change").c_str());
  lab.run("primgr n3 start");
}

// keepalived.conf for a node, with addresses and names of the lab, and keepalived-check beside it.
std::string keepalived_conf(const Lab& lab, const std::string& node, const std::string& other) {
  const std::string check = lab.conf(node, "dir") + "/keepalived-check";
  put_program(check, example("keepalived-check",
                             {{"primgr --once", lab.conf(node, "dir") + "/../primgr --config " +
                                                    lab.conf(node, "primgr_conf") + " --once"}}));
  return example("keepalived.conf",
                 {{"\"/usr/local/lib/primgr/keepalived-check\"", "\"" + check + "\""},
                  {"script_user primgr", "script_user postgres"},
                  {"unicast_src_ip 10.0.0.1", "unicast_src_ip " + lab.address(node)},
                  {"        10.0.0.2\n        10.0.0.3\n", "        " + lab.address(other) + "\n"},
                  {"10.0.0.100/24", "10.99.0.100/24"}});
}

// One client of the address, a connection after another, while this lives.
class Client_Of_Address {
 public:
  explicit Client_Of_Address(const std::string& hub)
      : thread_([this, hub] {
          const In_Namespace there(hub);
          double last = seconds_now();
          while (!ending_) {
            // What the address left behind when it moved may never be answered.
            if (open_connection("host=10.99.0.100 port=5432 user=app dbname=postgres"
                                " connect_timeout=5")) {
              longest_ = std::max(longest_.load(), seconds_now() - last);
              last = seconds_now();
              ++connections_;
            }
            std::this_thread::sleep_for(20ms);
          }
        }) {}
  ~Client_Of_Address() {
    ending_ = true;
    thread_.join();
  }
  std::size_t connections() const { return connections_; }
  // The longest time between two connections.
  double longest() const { return longest_; }

 private:
  std::atomic<bool> ending_ = false;
  std::atomic<double> longest_ = 0;
  std::atomic<std::size_t> connections_ = 0;
  std::thread thread_;
};

constexpr const char* pgbouncer_ini =
    "[databases]\n* = host=10.99.0.100 port=5432\n[pgbouncer]\nlisten_addr = 10.99.0.254\n"
    "listen_port = 6432\nunix_socket_dir =\nauth_type = trust\nadmin_users = primgr\n"
    "pool_mode = transaction\nserver_login_retry = 0.1\nserver_connect_timeout = 1\n";

// The address is on the Primary, PgBouncer in the hub connects to it, and both follow a takeover.
void check_address_and_pooler(const Lab& lab) {
  const State_Folder folder;
  REQUIRE(::chmod(folder.folder.c_str(), 0755) == 0);
  const auto file = [&](const std::string& name, const std::string& text) {
    std::ofstream(folder.path(name)) << text;
    return folder.path(name);
  };
  const auto keepalived = [&](const std::string& node, const std::string& other) {
    const std::string conf = file(node + ".conf", keepalived_conf(lab, node, other));
    return "keepalived -n -l -D -P -f " + conf + " -p " + folder.path(node + ".pid") + " -r " +
           folder.path(node + ".vrrp");
  };
  const Beside first(lab.conf("n1", "netns"), keepalived("n1", "n2"), folder.path("n1.log"));
  const Beside second(lab.conf("n2", "netns"), keepalived("n2", "n1"), folder.path("n2.log"));
  const std::string users = file("users", "\"app\" \"\"\n\"primgr\" \"\"\n"),
                    ini = file("pgbouncer.ini", pgbouncer_ini + ("auth_file = " + users + "\n"));
  const Beside pooler(lab.hub(),
                      "setpriv --reuid postgres --regid postgres --clear-groups pgbouncer " + ini,
                      folder.path("pgbouncer.log"));
  put_program(lab.conf("n2", "dir") + "/on_change",
              example("pgbouncer", {{"'10.0.0.11:6432 10.0.0.12:6432'", "10.99.0.254:6432"},
                                    {" address=10.0.0.100", " address=10.99.0.100"}}));
  const auto has_address = [&](const std::string& node) {
    return lab.run("exec-node " + node + " ip -o address show to 10.99.0.100") != "";
  };
  const auto reaches = [&] {
    return lab
        .attempt(
            "exec psql -X -At -h 10.99.0.254 -p 6432 -U app -d postgres -c 'SHOW cluster_name'")
        .output;
  };
  CHECK(eventually(20, [&] { return reaches() == "n1"; }));
  CHECK(has_address("n1"));
  CHECK_FALSE(has_address("n2"));
  const Client_Of_Address client(lab.hub());
  REQUIRE(eventually(20, [&] { return client.connections() > 0; }));
  const auto start = Steady::now();
  lab.run("takeover n2");
  bool twice = false;
  CHECK(eventually(20, [&] {
    const bool there = has_address("n2");
    twice = twice || (there && has_address("n1"));
    return there;
  }));
  std::cout << "  the address has moved " << seconds_since(start) << " s after a promotion\n";
  CHECK_FALSE(twice);
  const std::size_t before = client.connections();
  CHECK(eventually(20, [&] { return client.connections() > before + 10; }));
  std::cout << "  one client of the address could not connect for " << client.longest() << " s\n";
  CHECK(eventually(20, [&] { return reaches() == "n2"; }));
  CHECK(eventually(20, [&] {
    return read_file(folder.path("pgbouncer.log")).find("RECONNECT") != std::string::npos;
  }));
  CHECK(eventually(20, [&] {
    return lab.log("n2").find("on_change (Unknown, Primary) has ended") != std::string::npos;
  }));
  INFO(read_file(folder.path("n1.log"))
       << read_file(folder.path("n2.log")) << read_file(folder.path("pgbouncer.log"))
       << lab.log("n2"));
  CHECK(lab.metric("n2", "primgr_on_change_runs_total") >= 2);
}

}  // namespace

TEST_CASE("lab: on_change: a notification, a fence, PgBouncer; an address that keepalived moves") {
  if (!lab_possible("examples")) return;
  const Lab lab(
      "--no-repmgrd --no-haproxy --set 'on_change = %d/on_change' --set 'check_delay = 1500ms'"
      " --set 'vote_lease = 4500ms'");
  REQUIRE(lab.answers("n1", 200));
  // There is no such program yet: that is told, and nothing else is the matter.
  const std::string told =
      "error: on_change: " + lab.conf("n1", "dir") + "/on_change: No such file";
  CHECK(eventually(20, [&] { return lab.log("n1").find(told) != std::string::npos; }));
  CHECK(eventually(20, [&] { return lab.metric("n1", "primgr_on_change_failures_total") >= 1; }));
  const std::string check =
      "exec-node n1 " + program() + " --check-config --config " + lab.conf("n1", "primgr_conf");
  CHECK(lab.attempt(check).status == 78);
  CHECK(lab.attempt(check).output.find(
            "/on_change: No such file or directory: set it to a program") != std::string::npos);
  const Webhook webhook(lab);
  set_up_fence(lab);
  const std::string dir = lab.conf("n1", "dir");
  put_program(dir + "/fence", example("fence", {}));
  put_program(
      dir + "/notify",
      example("notify", {{"https://chat.example.com/hooks/databases",
                          "http://10.99.0.254:" + std::to_string(webhook.port()) + "/hook"}}));
  put_program(dir + "/on_change",
              "#!/bin/sh\n" + dir + "/fence \"$@\"\nexec " + dir + "/notify \"$@\"\n");
  CHECK(lab.attempt(check).status == 0);
  check_fence(lab);
  const bool came = eventually(20, [&] {  // curl writes a blank as %20, or as +
    std::string text = webhook.posted();
    std::replace(text.begin(), text.end(), '+', ' ');
    return text.find("text=n1 is Primary (was: Unknown), its database names n1") != text.npos;
  });
  INFO(webhook.posted());
  CHECK(came);
  CHECK(webhook.posted().starts_with("POST /hook "));
  check_hanging_program(lab);
  const bool can_move = shell("type keepalived pgbouncer").status == 0;
  if (!can_move)
    skipped.push_back("keepalived, PgBouncer: they are not installed (make check does)");
  if (can_move) check_address_and_pooler(lab);
}

TEST_CASE("lab: a pooler is refused, and those who share its sessions notice nothing") {
  if (!lab_possible("a pooler")) return;
  if (shell("type pgbouncer").status != 0) {
    skipped.push_back("a pooler: PgBouncer is not installed (make check does)");
    return;
  }
  const Lab lab("--nodes 1 --no-repmgrd --no-haproxy");
  const std::string of_session =
      "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
      " current_setting('search_path'), current_setting('default_transaction_read_only'),"
      " (SELECT count(*) FROM pg_prepared_statements)";
  for (const std::string more :
       {"pool_mode = transaction\n",
        "pool_mode = transaction\nignore_startup_parameters = options\n",
        "pool_mode = session\nignore_startup_parameters = options\nserver_reset_query =\n"}) {
    CAPTURE(more);
    const Pooler pooler(lab, "default_pool_size = 2\n" + more);
    const std::string before = pooler.client(of_session);
    CHECK(before == "0|0|\"$user\", public|off|0");
    for (int i = 0; i < 3; ++i) {
      const Ran ran = pooler.once();
      CAPTURE(ran.output);
      CHECK(ran.status == 3);
      CHECK(ran.output.find("let it lead to PostgreSQL itself") != ran.output.npos);
    }
    for (int i = 0; i < 6; ++i) CHECK(pooler.client(of_session) == before);
  }
}

TEST_SUITE_END();
