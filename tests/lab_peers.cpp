// Real nodes and their peers.

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/socket.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "daemon/output.hpp"
#include "tests/http_client.hpp"
#include "tests/lab.hpp"
#include "tests/raw_server.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

TEST_CASE(
    "lab: peers that misbehave take no vote and no time; overrides and the original are "
    "understood") {
  if (!lab_possible("misbehaving peers")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  REQUIRE(lab.answers("n1", 200));
  const std::string conf = lab.conf("n1", "primgr_conf");
  const auto registered = [&](int id, const std::string& name, const std::string& host) {
    lab.sql("n1",
            "INSERT INTO repmgr.nodes (node_id, node_name, type, location, conninfo, repluser,"
            " config_file) VALUES (" +
                std::to_string(id) + ", '" + name + "', 'standby', 'default', 'host=" + host +
                " dbname=repmgr', 'repmgr', '')");
  };
  const auto add_lines = [&](const std::string& lines) {
    lab.run("exec-node n1 sh -c " + quoted("printf '" + lines + "' >> " + conf));
  };

  const auto peers = misbehaviours();
  std::vector<std::unique_ptr<Raw_Server>> servers;
  std::string overrides;
  {
    const In_Namespace hub(lab.hub());
    for (const Misbehaviour& peer : peers) {
      servers.push_back(std::make_unique<Raw_Server>(peer.behave, INADDR_ANY));
    }
  }
  for (std::size_t i = 0; i < servers.size(); ++i) {
    const std::string name = "bad" + std::to_string(i);
    registered(100 + static_cast<int>(i), name, "10.99.0.254");
    overrides += "peer." + name + " = 10.99.0.254:" + std::to_string(servers[i]->port()) + "\\n";
  }
  registered(201, "refuses", "10.99.0.254");
  registered(202, "blackhole", "10.99.0.77");
  registered(203, "nowhere", "no-such-host.invalid");
  registered(204, "folder", "/tmp");
  add_lines(overrides);

  // What --once needs is what one poll of the whole site takes, and a little for its own start.
  const auto start = Steady::now();
  const Ran once =
      lab.attempt("exec-node n1 " + program() + " --once --log-level info --config " + conf);
  const double took = seconds_since(start);
  INFO(once.output);
  CHECK(once.status == 2);
  CHECK(once.output.find("3 of 28 votes, 15 needed") != std::string::npos);
  if (is_shipped()) CHECK(took <= 1 + 0.2 + 0.15);
  MESSAGE("a poll of 27 peers, 25 of them bad, took ", took, " s");

  lab.run("primgr n1 restart");
  CHECK(lab.answers("n1", 509));
  const std::string pid = lab.conf("n1", "primgr_pid");
  std::this_thread::sleep_for(2s);  // a few polls more
  CHECK(lab.ask("n1").status == 509);
  CHECK(lab.conf("n1", "primgr_pid") == pid);

  // Peers that run the original implementation, at an address that only the override knows.
  lab.sql("n1", "DELETE FROM repmgr.nodes WHERE node_id >= 100");
  CHECK(lab.answers("n1", 200));
  std::vector<std::unique_ptr<Raw_Server>> originals;
  {
    const In_Namespace hub(lab.hub());
    const auto original = [](int fd) {
      std::string request;
      char byte;
      while (!request.ends_with("\r\n\r\n") && ::recv(fd, &byte, 1, 0) == 1) request += byte;
      send_all(fd, request.starts_with("GET /primary") ? http_ok(R"({"Primary": "N1"})")
                                                       : http_ok(R"({"State": "Primary"})"));
    };
    for (int i = 0; i < 3; ++i)
      originals.push_back(std::make_unique<Raw_Server>(original, INADDR_ANY));
  }
  for (int i = 0; i < 3; ++i) {
    const std::string name = "original" + std::to_string(i);
    registered(301 + i, name, "10.99.0.77");
    add_lines("peer." + name + " = 10.99.0.254:" +
              std::to_string(originals[static_cast<std::size_t>(i)]->port()) + "\\n");
  }
  lab.run("primgr n2 stop");
  lab.run("primgr n3 stop");
  lab.run("primgr n1 restart");
  CHECK(lab.answers("n1", 200));  // 4 of 6: itself and the originals
  CHECK(lab.answers("n1", 509, 5, "/realPrimary"));
  CHECK(lab.ask("n1", "/realPrimary").body ==
        R"({"realPrimary":null,"claimants":["n1","original0","original1","original2"]})");
}

TEST_CASE("lab: 200 clients at full speed cost the database nothing") {
  if (!lab_possible("200 clients")) return;
  // More than one address may have by default: a quarter of 32 times http_threads.
  const Lab lab("--no-repmgrd --no-haproxy --set 'http_threads = 32'");
  REQUIRE(lab.answers("n1", 200));
  lab.sql("n1", "ALTER ROLE primgr SET log_statement = 'all'");
  lab.sql(
      "n1",
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'primgr'");
  const std::string log = lab.conf("n1", "log");
  const auto rounds = [&] {
    return std::stoi(shell("grep -c 'statement: EXECUTE primgr_pulse' " + log).output);
  };
  REQUIRE(eventually(5, [&] { return rounds() > 0; }));
  const std::string address = lab.address("n1");
  std::atomic<bool> ending = false;
  std::atomic<long> answered = 0, wrong = 0;
  std::vector<std::thread> clients;
  const int before = rounds();
  const auto start = Steady::now();
  for (int i = 0; i < 200; ++i) {
    clients.emplace_back([&, i] {
      const In_Namespace there(lab.hub());
      const char* paths[] = {"/state", "/primary", "/realPrimary", "/"};
      Client client(address, 5999);
      const char* fields = i % 2 == 0 ? "" : "Connection: close\r\n";
      for (int n = i; !ending; ++n) {
        const int status = client.send("GET", paths[n % 4], fields).status;
        ++(status == 200 ? answered : wrong);
      }
    });
  }
  int most = 0;
  while (seconds_since(start) < 10) {
    most = std::max(most, std::stoi(lab.sql("n1",
                                            "SELECT count(*) FROM pg_stat_activity"
                                            " WHERE usename = 'primgr'")));
  }
  const double took = seconds_since(start);
  const int asked = rounds() - before;
  ending = true;
  for (auto& client : clients) client.join();
  MESSAGE(answered.load(), " answers, ", asked, " rounds of queries in ", took,
          " s, connections: ", most);
  CHECK(wrong == 0);
  CHECK(answered > 1000);
  CHECK(most >= 1);
  CHECK(most <= 3);
  CHECK(asked <= took + 2);  // one round an interval

  // A voter asked for somebody whom its cache does not name looks at once, every 100 ms at most.
  const int unasked = rounds();
  const auto second = Steady::now();
  while (seconds_since(second) < 2) lab.ask_at(address, "/primary?candidate=n2");
  CHECK(rounds() - unasked > 4);
  CHECK(rounds() - unasked <= seconds_since(second) * 10 + 2);
  CHECK(eventually(5, [&] {  // SIGUSR1: now
    const int seen = rounds();
    const auto start_of_look = Steady::now();
    lab.run("primgr n1 usr1");
    return eventually(0.3, [&] { return rounds() > seen; }) && seconds_since(start_of_look) < 0.5;
  }));
}

TEST_CASE("lab: the cluster at a glance, also while the local database is down") {
  if (!lab_possible("/cluster")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  const std::string n2 = "exec-node n2 " + program() + " --config " + lab.conf("n2", "primgr_conf");
  const auto status = [&](const std::string& more = "") {
    const Ran ran = lab.attempt(n2 + " --status " + more);
    return ran.output + "\n" + std::to_string(ran.status);
  };
  const auto shows = [&](const std::string& text, const std::string& more = "") {
    std::string last;
    const bool shown =
        eventually(15, [&] { return (last = status(more)).find(text) != std::string::npos; });
    INFO(last);
    CHECK(shown);
    return last;
  };
  const std::string well = shows("3 of 3");
  CHECK(well.find("\nPrimary: n1 (seen from n2 at ") != std::string::npos);
  CHECK(well.ends_with("\n0"));
  CHECK(count(well, "| Standby |") == 2);

  const auto cluster = [&](const std::string& node = "n2") {
    return Json::parse(lab.ask(node, "/cluster").body);
  };
  CHECK(eventually(15, [&] {
    const Json n1 = cluster()["sites"][0]["nodes"][0];
    return n1["standbys"].size() == 2 && n1["standbys"][1]["state"] == "streaming" &&
           n1["standbys"][1]["lagBytes"] == 0;
  }));
  const Json first = cluster()["sites"][0]["nodes"][0];
  CHECK(first["standbys"][0]["name"] == "n2");
  CHECK(first["timeline"] == 1);
  CHECK(parse_lsn(first["position"].get<std::string>()));
  const Json second = cluster("n3")["sites"][0]["nodes"][1];
  CHECK(second["replication"]["streaming"] == true);
  CHECK(second["replication"]["from"] == lab.address("n1"));

  if (const char* promtool = getenv("PROMTOOL")) {
    for (const char* node : {"n1", "n2"}) {
      const Ran checked = shell("printf %s " + quoted(lab.ask(node, "/metrics").body) + " | " +
                                quoted(promtool) + " check metrics 2>&1");
      INFO(checked.output);
      CHECK(checked.status == 0);
    }
  } else {
    MESSAGE("promtool does not check /metrics here: `make check` says where it is in PROMTOOL");
  }

  lab.run("primgr n3 stop");
  const std::string two = shows("n1: a vote is missing: n3: ");
  CHECK(two.find("n3: unreachable: connection refused") != std::string::npos);
  CHECK(two.ends_with("\n0"));

  lab.run("stop n2");
  shows("n2: connection to server ");
  CHECK(cluster()["realPrimary"] == "n1");
  const auto real = [&] {
    const Ran ran = lab.attempt(n2 + " --once real-primary");
    return ran.output + " " + std::to_string(ran.status);
  };
  CHECK(real() == "n1 0");  // its daemon knows
  lab.run("stop n1");
  shows("No primary (seen from n2");
  CHECK(status().ends_with("\n2"));
  CHECK(status("--json").find("\"realPrimary\":null") != std::string::npos);
  CHECK(eventually(5, [&] { return real() == "Unknown 2"; }));
  lab.run("primgr n2 stop");
  CHECK(real() == "Down 3");
  CHECK(status().ends_with("(is primgr running here? --url asks another node)\n69"));
  CHECK(status("--url http://" + lab.address("n1") + ":5999").ends_with("\n2"));
}

TEST_CASE("lab: over TLS a failover goes as without, and who has no certificate learns nothing") {
  if (!lab_possible("TLS")) return;
  const Lab lab("--tls --no-repmgrd");  // it is up once HAProxy, too, sees every node as it is
  const std::string conf = lab.conf("n2", "primgr_conf");
  CHECK(lab.attempt("exec-node n2 " + program() + " --config " + conf + " --once real-primary")
            .output == "n1");
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
  // A certificate that is replaced is in use at SIGHUP; rubbish in its place changes nothing.
  const std::string folder = conf.substr(0, conf.rfind('/'));
  lab.run("exec-node n2 sh -c " + quoted("echo rubbish > " + folder + "/tls.crt"));
  lab.run("primgr n2 hup");
  CHECK(eventually(10, [&] {
    return lab.attempt("exec-node n2 grep 'certificate read before stays' " + folder +
                       "/primgr.log")
               .status == 0;
  }));
  lab.run("wait n2 Primary 5");
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
  const Ran ran = lab.attempt("exec-node n1 " + program() + " --config " +
                              lab.conf("n1", "primgr_conf") + " --once real-primary --json");
  CHECK(ran.output == R"({"realPrimary":null,"claimants":["n1","n2"]})");
  CHECK(ran.status == 2);
}

TEST_SUITE_END();
