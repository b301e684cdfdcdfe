// Real nodes and their peers.

#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/json.hpp"
#include "base/size.hpp"
#include "node/rules/voting.hpp"
#include "tests/dashboard.hpp"
#include "tests/http_client.hpp"
#include "tests/lab.hpp"
#include "tests/raw_server.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

void register_node(const Lab& lab, int id, const std::string& name, const std::string& host) {
  lab.sql("n1",
          "INSERT INTO repmgr.nodes (node_id, node_name, type, location, conninfo, repluser,"
          " config_file) VALUES (" +
              std::to_string(id) + ", '" + name + "', 'standby', 'default', 'host=" + host +
              " dbname=repmgr', 'repmgr', '')");
}

// Lines for n1's primgr.conf, each with its \n.
void add_lines(const Lab& lab, const std::string& lines) {
  lab.run("exec-node n1 sh -c " +
          quoted("printf '" + lines + "' >> " + lab.conf("n1", "primgr_conf")));
}

using Servers = std::vector<std::unique_ptr<Raw_Server>>;

// A server in the hub, where every node can reach it.
void add_server(const Lab& lab, Servers& servers, Raw_Server::Behave behave) {
  const In_Namespace hub(lab.hub());
  servers.push_back(std::make_unique<Raw_Server>(std::move(behave), INADDR_ANY));
}

std::string override_of(const std::string& name, const Raw_Server& server) {
  return "peer." + name + " = 10.99.0.254:" + std::to_string(server.port()) + "\\n";
}

// Registers nodes that give no vote: one for each misbehaviour, and four that cannot be reached.
void register_bad_peers(const Lab& lab, Servers& servers) {
  std::string overrides;
  for (Misbehaviour& peer : misbehaviours()) {
    const std::string name = "bad" + std::to_string(servers.size());
    register_node(lab, 100 + static_cast<int>(servers.size()), name, "10.99.0.254");
    add_server(lab, servers, std::move(peer.behave));
    overrides += override_of(name, *servers.back());
  }
  register_node(lab, 201, "refuses", "10.99.0.254");
  register_node(lab, 202, "blackhole", "10.99.0.77");
  register_node(lab, 203, "nowhere", "no-such-host.invalid");
  register_node(lab, 204, "folder", "/tmp");
  add_lines(lab, overrides);
}

// Registers 3 nodes that run the original implementation, at addresses that only the overrides
// know.
void register_originals(const Lab& lab, Servers& servers) {
  const auto original = [](int fd) {
    send_all(fd, read_request(fd).starts_with("GET /primary") ? http_ok(R"({"Primary": "N1"})")
                                                              : http_ok(R"({"State": "Primary"})"));
  };
  for (int i = 0; i < 3; ++i) {
    const std::string name = "original" + std::to_string(i);
    register_node(lab, 301 + i, name, "10.99.0.77");
    add_server(lab, servers, original);
    add_lines(lab, override_of(name, *servers.back()));
  }
}

}  // namespace

TEST_CASE(
    "lab: peers that misbehave give no vote and do not delay; overrides and the original work") {
  if (!lab_possible("misbehaving peers")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  REQUIRE(lab.answers("n1", 200));
  Servers servers, originals;
  register_bad_peers(lab, servers);

  // No daemon is at that address, so that it looks itself.
  const auto start = Steady::now();
  const Ran once = lab.attempt("exec-node n1 " + program() +
                               " --listen 127.0.0.1:1 --once --log-level info --config " +
                               lab.conf("n1", "primgr_conf"));
  const double took = seconds_since(start);
  const std::size_t voters = 3 + servers.size() + 4;
  MESSAGE("a poll of ", voters - 1, " peers, of which 2 answer, took ", took, " s");
  INFO(once.output);
  CHECK(once.status == 2);
  CHECK(once.output.find("3 of " + std::to_string(voters) + " votes, " +
                         std::to_string(votes_needed(voters)) + " needed") != std::string::npos);
  // All are asked at the same time, for peer_timeout (1 s) at most. The rest is for a busy machine.
  if (is_shipped()) CHECK(took <= 4);

  // The daemon, which has lost its list with the restart, learns that of n2 and n3.
  lab.run("primgr n1 restart");
  CHECK(lab.answers("n1", 200));
  const std::string pid = lab.conf("n1", "primgr_pid");
  const auto failed = [&](const char* peer) {
    return lab.metric("n1", "primgr_peer_requests_total{peer=\"" + std::string(peer) +
                                "\",question=\"vote\",result=\"failed\"}");
  };
  for (const char* peer : {"bad0", "refuses", "blackhole"}) {
    CAPTURE(peer);
    CHECK(eventually(60, [&] { return failed(peer) >= 3; }));
  }
  CHECK(lab.ask("n1").status == 200);
  CHECK(lab.conf("n1", "primgr_pid") == pid);

  lab.sql("n1", "DELETE FROM repmgr.nodes WHERE node_id >= 100");
  CHECK(lab.answers("n1", 200));
  register_originals(lab, originals);
  lab.run("primgr n2 stop");
  lab.run("primgr n3 stop");
  lab.run("primgr n1 restart");
  CHECK(lab.answers("n1", 200));  // 4 of 6: itself and the originals
  CHECK(lab.answers("n1", 509, "/realPrimary"));
  CHECK(lab.ask("n1", "/realPrimary").body ==
        R"({"realPrimary":null,"claimants":["n1","original0","original1","original2"]})");
}

namespace {

// How often n1's database was asked for its state: each is a line of its log.
class Rounds {
 public:
  explicit Rounds(const Lab& lab) : log_(lab.conf("n1", "log")) {
    lab.sql("n1", "ALTER ROLE primgr SET log_statement = 'all'");
    lab.sql("n1",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'primgr'");
    REQUIRE(eventually(20, [&] { return count() > 0; }));
  }
  int count() const {
    return std::stoi(shell("grep -c 'statement: EXECUTE primgr_pulse' " + log_).output);
  }
  // `nudge` makes the node look at once, every 100 ms at most, and not only once a refresh_interval
  // (1 s).
  void check_hurried_by(const std::function<void()>& nudge) const {
    const auto start = Steady::now();
    const int before = count();
    int rounds = 0;
    eventually(30, [&] {
      nudge();
      return (rounds = count() - before) >= 20;
    });
    const double took = seconds_since(start);
    INFO(rounds, " rounds in ", took, " s");
    CHECK(rounds > took + 4);
    CHECK(rounds <= took * 10 + 2);
  }

 private:
  const std::string log_;
};

// Clients at full speed, with and without keep-alive, while this lives.
class Clients {
 public:
  Clients(const Lab& lab, const std::string& address, int number) {
    for (int i = 0; i < number; ++i) {
      threads_.emplace_back([this, &lab, address, i] {
        const In_Namespace there(lab.hub());
        const char* paths[] = {"/state", "/primary", "/realPrimary", "/"};
        Client client(address, 5999);
        const char* fields = i % 2 == 0 ? "" : "Connection: close\r\n";
        for (int n = i; !ending_; ++n) {
          const int status = client.send("GET", paths[n % 4], fields).status;
          ++(status == 200 ? answered : wrong);
        }
      });
    }
  }
  ~Clients() { end(); }
  void end() {
    ending_ = true;
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }

  std::atomic<long> answered = 0, wrong = 0;

 private:
  std::atomic<bool> ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

TEST_CASE("lab: 200 clients at full speed cost the database nothing") {
  if (!lab_possible("200 clients")) return;
  // 200 clients are more than one address may have by default: a quarter of max_clients.
  const Lab lab("--no-repmgrd --no-haproxy --set 'max_clients = 1024'");
  REQUIRE(lab.answers("n1", 200));
  const Rounds rounds(lab);
  const std::string address = lab.address("n1");
  {
    const auto start = Steady::now();
    const int before = rounds.count();
    Clients clients(lab, address, 200);
    int most = 0;
    while (seconds_since(start) < 10) {
      most = std::max(most, std::stoi(lab.sql("n1",
                                              "SELECT count(*) FROM pg_stat_activity"
                                              " WHERE usename = 'primgr'")));
    }
    const int asked = rounds.count() - before;
    const double took = seconds_since(start);
    clients.end();
    MESSAGE(clients.answered.load(), " answers, ", asked, " rounds of queries in ", took,
            " s, connections: ", most);
    CHECK(clients.wrong == 0);
    CHECK(clients.answered > 1000);
    CHECK(most >= 1);
    CHECK(most <= 3);
    // One round an interval (1 s); one each 200 ms while votes are late on a busy machine.
    CHECK(asked <= took * 5 + 2);
  }

  // A voter asked for a candidate that its cache does not name.
  rounds.check_hurried_by([&] { lab.ask_at(address, "/primary?candidate=n2"); });
  const pid_t pid = std::stoi(lab.conf("n1", "primgr_pid"));
  rounds.check_hurried_by([&] { kill(pid, SIGUSR1); });
}

namespace {

// What an operator reads on n2: /cluster, `primgr --status` and `primgr --once`.
struct Operator {
  std::string run(const std::string& options) const {
    const Ran ran = lab.attempt("exec-node n2 " + program() + " --config " +
                                lab.conf("n2", "primgr_conf") + " " + options);
    return ran.output + "\n" + std::to_string(ran.status);
  }
  std::string status(const std::string& more = "") const { return run("--status " + more); }
  std::string real_primary() const { return run("--once real-primary"); }
  // Waits until --status shows that.
  std::string shows(const std::string& text) const {
    std::string last;
    const bool shown =
        eventually(20, [&] { return (last = status()).find(text) != std::string::npos; });
    INFO(last);
    CHECK(shown);
    return last;
  }
  Json cluster(const std::string& node = "n2") const {
    return Json::parse(lab.ask(node, "/cluster").body);
  }
  const Lab& lab;
};

void check_metrics_with_promtool(const Lab& lab) {
  const char* promtool = getenv("PROMTOOL");
  if (!promtool) {
    MESSAGE("promtool does not check /metrics here: `make check` says where it is in PROMTOOL");
    return;
  }
  for (const char* node : {"n1", "n2"}) {
    const Ran checked = shell("printf %s " + quoted(lab.ask(node, "/metrics").body) + " | " +
                              quoted(promtool) + " check metrics 2>&1");
    INFO(checked.output);
    CHECK(checked.status == 0);
  }
}

}  // namespace

TEST_CASE("lab: --status and /cluster, also while the local database is down") {
  if (!lab_possible("/cluster")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  const Operator n2{lab};
  const std::string healthy = n2.shows("3 of 3");
  CHECK(healthy.find("\nPrimary: n1 (seen from n2 at ") != std::string::npos);
  CHECK(healthy.ends_with("\n0"));
  CHECK(count(healthy, "| Standby |") == 2);

  CHECK(eventually(20, [&] {
    const Json n1 = n2.cluster()["sites"][0]["nodes"][0];
    return n1["standbys"].size() == 2 && n1["standbys"][1]["state"] == "streaming" &&
           n1["standbys"][1]["lagBytes"] == 0;
  }));
  const Json first = n2.cluster()["sites"][0]["nodes"][0];
  CHECK(first["standbys"][0]["name"] == "n2");
  CHECK(first["timeline"] == 1);
  CHECK(parse_lsn(first["position"].get<std::string>()));
  const Json second = n2.cluster("n3")["sites"][0]["nodes"][1];
  CHECK(second["replication"]["streaming"] == true);
  CHECK(second["replication"]["from"] == lab.address("n1"));
  check_metrics_with_promtool(lab);

  lab.run("primgr n3 stop");
  const std::string two = n2.shows("n1: a vote is missing: n3: ");
  CHECK(two.find("n3: unreachable: connection refused") != std::string::npos);
  CHECK(two.ends_with("\n0"));

  lab.run("stop n2");
  n2.shows("n2: connection to server ");
  CHECK(n2.cluster()["realPrimary"] == "n1");
  CHECK(n2.real_primary() == "n1\n0");  // its daemon knows
  lab.run("stop n1");
  n2.shows("No primary (seen from n2");
  CHECK(n2.status().ends_with("\n2"));
  CHECK(n2.status("--json").find("\"realPrimary\":null") != std::string::npos);
  CHECK(eventually(20, [&] { return n2.real_primary() == "Unknown\n2"; }));
  lab.run("primgr n2 stop");
  CHECK(n2.real_primary() == "Down\n3");
  CHECK(n2.status().ends_with("(is primgr running here? --url asks another node)\n69"));
  CHECK(n2.status("--url http://" + lab.address("n1") + ":5999").ends_with("\n2"));
}

TEST_CASE("lab: a failover over TLS, and a client without a certificate is refused") {
  if (!lab_possible("TLS")) return;
  const Lab lab("--tls --no-repmgrd");  // up when HAProxy, which checks over TLS, sees each node
  const std::string conf = lab.conf("n2", "primgr_conf");
  // n2 hears of the Primary by its next poll.
  CHECK(eventually(20, [&] {
    return lab.attempt("exec-node n2 " + program() + " --config " + conf + " --once real-primary")
               .output == "n1";
  }));
  const Ran shown = lab.attempt("exec-node n2 " + program() + " --config " + conf + " --status");
  INFO(shown.output);
  CHECK(shown.status == 0);
  CHECK(count(shown.output, "unreachable") == 0);
  CHECK(lab.attempt("exec-node n2 " + program() + " --config " + conf + " --status --url https://" +
                    lab.address("n1"))
            .status == 0);
  const std::string url = "https://" + lab.address("n1") + ":5999/state";
  CHECK(lab.attempt("exec-node n2 curl -q -sk --max-time 5 " + url).status != 0);
  lab.run("kill n1");
  lab.run("promote n2");
  lab.run("follow n3");
  lab.run("wait n2 Primary 20");
  const auto metrics = [&](const std::string& node) {
    const std::string answer = lab.run("http " + node + " /metrics");
    return answer.substr(answer.find("\r\n\r\n") + 4);
  };
  CHECK(eventually(20, [&] {
    return metrics("n3").find("\nprimgr_replay_lag_seconds ") != std::string::npos &&
           metrics("n2").find("\nprimgr_last_handover_seconds ") != std::string::npos;
  }));
  check_dashboard(
      {{"n1:5999", metrics("n1")}, {"n2:5999", metrics("n2")}, {"n3:5999", metrics("n3")}});
  // SIGHUP reads the certificate again; one that cannot be read changes nothing.
  const std::string folder = conf.substr(0, conf.rfind('/'));
  lab.run("exec-node n2 sh -c " + quoted("echo rubbish > " + folder + "/tls.crt"));
  lab.run("primgr n2 hup");
  CHECK(eventually(20, [&] { return count(lab.log("n2"), "certificate read before stays") > 0; }));
  lab.run("wait n2 Primary 20");
  lab.run("shipped");
}

TEST_CASE("lab: two claimants: --once real-primary exits with 2 and names both in JSON") {
  if (!lab_possible("claimants")) return;
  const Lab lab("--site a:1 --site b:1 --no-repmgrd --no-haproxy");
  REQUIRE(lab.answers("n1", 200));
  lab.run("cut n1 n2");
  lab.run("promote n2");
  lab.run("heal");
  CHECK(lab.answers("n2", 200));
  // The daemon of n1 has yet to hear of it.
  Ran ran{};
  CHECK(eventually(20, [&] {
    ran = lab.attempt("exec-node n1 " + program() + " --config " + lab.conf("n1", "primgr_conf") +
                      " --once real-primary --json");
    return ran.status == 2;
  }));
  CHECK(ran.output == R"({"realPrimary":null,"claimants":["n1","n2"]})");
}

TEST_SUITE_END();
