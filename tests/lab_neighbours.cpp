// A real cluster among programs that were there before primgr: load balancers that are set up for
// Patroni, or to ask PostgreSQL itself, and nodes that run the original of the same name.

#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/json.hpp"
#include "tests/lab.hpp"
#include "tests/original.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

// ---- load balancers -----------------------------------------------------------------------------

// A section of HAProxy's configuration, with a server for each node.
std::string section(const Lab& lab, const std::string& head, const std::string& check) {
  std::string text = "\nlisten " + head + "\n";
  for (const std::string& node : lab.nodes()) {
    text += "    server " + node + " " + lab.address(node) + ":5432 " + check + "\n";
  }
  return text;
}

// What Patroni's template for HAProxy generates, but for Patroni's port, 8008; beside it the older
// name of the check, one that says nothing of what to expect, and one that asks PostgreSQL.
std::string patroni_template(const Lab& lab) {
  const std::string times =
      "\n    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions";
  const auto http = [&](const std::string& name, const std::string& bind, const char* path) {
    return section(lab,
                   name + "\n    bind " + bind + "\n    option httpchk OPTIONS " + path +
                       "\n    http-check expect status 200" + times,
                   "maxconn 100 check port 5999");
  };
  return "global\n    maxconn 100\n\ndefaults\n    mode tcp\n    retries 2\n"
         "    timeout client 30m\n    timeout connect 4s\n    timeout server 30m\n"
         "    timeout check 5s\n" +
         http("primary", "*:5000", "/primary") + http("replicas", "*:5001", "/replica") +
         http("master", "*:5002", "/master") +
         section(lab, "bare\n    bind *:5004\n    option httpchk", "check inter 1s port 5999") +
         section(lab, "postgres\n    bind *:5003\n    option pgsql-check user app",
                 "check inter 1s");
}

// The servers of a section that are up by a check, not only since none was made yet.
std::string found_up(const Lab& lab, const std::string& name) {
  const std::string socket = lab.run("env | sed -n 's/^LAB_DIR=//p'") + "/haproxy.stats";
  const Ran ran =
      shell("curl -s --max-time 2 --unix-socket " + socket + " 'http://haproxy/;csv' |" +
            " awk -F, '$1 == \"" + name + "\" && $18 == \"UP\" && $37 ~ /OK$/ {" +
            " printf \"%s%s\", at++ ? \" \" : \"\", $2 }'");
  return ran.output;
}

void check_load_balancers(const Lab& lab) {
  std::ofstream(lab.run("env | sed -n 's/^LAB_DIR=//p'") + "/haproxy.cfg") << patroni_template(lab);
  lab.run("haproxy start");
  const std::map<std::string, std::string> expected = {{"primary", "DB_1"},
                                                       {"replicas", "Db_2 db-3"},
                                                       {"master", "DB_1"},
                                                       {"bare", "DB_1 Db_2 db-3"},
                                                       {"postgres", "DB_1 Db_2 db-3"}};
  for (const auto& [name, up] : expected) {
    CAPTURE(name);
    const bool came = eventually(20, [&] { return found_up(lab, name) == up; });
    INFO("up: " << found_up(lab, name));
    CHECK(came);
  }
  CHECK(lab.server("write") == "DB_1");
  const std::string reads = lab.server("read");
  CHECK((reads == "Db_2" || reads == "db-3"));
  lab.run("haproxy stop");
}

// ---- synchronous standbys
// ------------------------------------------------------------------------

// Which of Db_2 and db-3 answer /sync, and which /async, with 200, while the primary has these
// synchronous_standby_names.
void check_synchrony(const Lab& lab, const std::string& names, const std::string& expected) {
  CAPTURE(names);
  lab.run("psql DB_1 -qAtc " +
          quoted("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'") +
          " -c 'SELECT pg_reload_conf()'");
  std::string seen;
  const bool came = eventually(20, [&] {
    seen.clear();
    for (const char* path : {"/sync", "/async", "/read-only-sync"}) {
      seen += path;
      for (const std::string& node : lab.nodes()) {
        if (lab.ask(node, path).status == 200) seen += " " + node;
      }
      seen += "; ";
    }
    return seen == expected;
  });
  INFO(seen);
  CHECK(came);
}

void check_synchrony(const Lab& lab) {
  check_synchrony(lab, "FIRST 1 (\"db-3\", \"Db_2\")",
                  "/sync db-3; /async Db_2; /read-only-sync DB_1 db-3; ");
  check_synchrony(lab, "ANY 1 (\"Db_2\", \"db-3\")",
                  "/sync Db_2 db-3; /async; /read-only-sync DB_1 Db_2 db-3; ");
  check_synchrony(lab, "", "/sync; /async Db_2 db-3; /read-only-sync DB_1; ");
  // Nobody tells any more, and the standbys are standbys all the same.
  lab.run("primgr DB_1 stop");
  check_synchrony(lab, "", "/sync; /async; /read-only-sync; ");
  const std::string why = lab.ask("db-3", "/async").body;
  INFO(why);
  CHECK(why.find("DB_1 does not tell whether it is synchronous: ") != why.npos);
  CHECK(lab.ask("db-3", "/replica").status == 200);
  lab.run("primgr DB_1 start");
  REQUIRE(lab.answers("DB_1", 200));
}

// ---- node by node -------------------------------------------------------------------------------

// What both programs answer alike: the original knows neither OPTIONS nor /replica.
std::string migration_checks(const Lab& lab) {
  const auto state = [&](const std::string& head, const char* status) {
    return section(lab,
                   head + "\n    option httpchk GET /state\n    http-check expect status " + status,
                   "check port 5999 inter 200ms");
  };
  return "defaults\n    mode tcp\n    timeout client 30m\n    timeout connect 4s\n"
         "    timeout server 30m\n" +
         state("write\n    bind *:5000", "200") + state("read\n    bind *:5001", "202");
}

// Each node runs primgr or the original.
class Migration {
 public:
  explicit Migration(const Lab& lab) : lab_(lab), nodes_(lab.nodes()), originals_(nodes_.size()) {}

  // Which nodes run the original, a bit each.
  unsigned state() const {
    unsigned bits = 0;
    for (std::size_t i = 0; i < originals_.size(); ++i) bits |= (originals_[i] ? 1U : 0U) << i;
    return bits;
  }
  void exchange(std::size_t i) {
    swapped_at_ = Steady::now();
    if (originals_[i]) {
      originals_[i].reset();
      lab_.run("primgr " + nodes_[i] + " start");
    } else {
      lab_.run("primgr " + nodes_[i] + " stop");
      originals_[i] = std::make_unique<Original>(lab_, nodes_[i], 200ms);
    }
  }
  // Waits until the first node is Primary by the votes of all, asked for since the last exchange,
  // and the others are standbys.
  void check() const {
    std::string seen;
    const bool settled = eventually(20, [&] {
      seen.clear();
      bool right = true;
      for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const Answer answer = lab_.ask(nodes_[i]);
        seen += nodes_[i] + (originals_[i] ? " (original) " : " ") + answer.body + "\n";
        right = right && answer.status == (i == 0 ? 200 : 202);
      }
      return right && votes() == nodes_.size();
    });
    INFO(seen << votes() << " votes");
    CHECK(settled);
    const std::map<std::string, std::string> expected = {{"write", nodes_[0]},
                                                         {"read", nodes_[1] + " " + nodes_[2]}};
    for (const auto& [name, up] : expected) {
      const std::string here = name;
      CAPTURE(here);
      const bool came = eventually(20, [&] { return found_up(lab_, name) == up; });
      INFO("up: " << found_up(lab_, name));
      CHECK(came);
    }
  }

 private:
  std::size_t votes() const {
    if (originals_[0]) return originals_[0]->votes_since(swapped_at_);
    const Json node = Json::parse(lab_.ask(nodes_[0], "/node").body, nullptr, false);
    std::size_t votes = 0;
    for (const Json& voter : node["votes"]["voters"]) {
      const Json& age = voter["ageSeconds"];
      if (voter["counts"] == true && age.is_number() && age < seconds_since(swapped_at_)) ++votes;
    }
    return votes;
  }

  const Lab& lab_;
  const std::vector<std::string> nodes_;
  std::vector<std::unique_ptr<Original>> originals_;
  Steady::time_point swapped_at_ = Steady::now();
};

}  // namespace

TEST_CASE(
    "lab: node names that are no host names; Patroni's load balancers, pgsql-check, the original") {
  if (!lab_possible("neighbours")) return;
  const Lab lab(
      "--no-repmgrd --no-haproxy --state-file --names DB_1,Db_2,db-3"
      " --set 'refresh_interval = 200ms'");
  REQUIRE(lab.answers("DB_1", 200));
  CHECK(lab.ask("Db_2", "/primary").body == R"({"Primary":"db-1","node":"DB_1"})");
  const std::string once =
      "exec-node Db_2 " + program() + " --config " + lab.conf("Db_2", "primgr_conf") + " --once ";
  CHECK(lab.attempt(once + "primary").output == "DB_1");
  CHECK(eventually(20, [&] { return lab.attempt(once + "real-primary").output == "DB_1"; }));
  CHECK(lab.attempt(once + "primary --json").output == R"({"Primary":"db-1","node":"DB_1"})");

  check_load_balancers(lab);
  check_synchrony(lab);

  // Which node is exchanged next: each once in either direction from each mixture of the two
  // programs. So every order in which three nodes are migrated, and taken back, is made of these
  // steps.
  std::ofstream(lab.run("env | sed -n 's/^LAB_DIR=//p'") + "/haproxy.cfg") << migration_checks(lab);
  lab.run("haproxy start");
  Migration migration(lab);
  std::set<std::pair<unsigned, char>> steps;
  for (const char node : std::string("001001200101121221202212")) {
    CAPTURE(migration.state());
    CAPTURE(node);
    CHECK(steps.emplace(migration.state(), node).second);
    migration.exchange(static_cast<std::size_t>(node - '0'));
    migration.check();
  }
  CHECK(steps.size() == 8 * 3);
  CHECK(migration.state() == 0);
  lab.run("haproxy stop");

  // A node that is known by its host name only, as without node_name and repmgr_conf.
  lab.run("exec-node DB_1 sh -c " +
          quoted("sed -i 's/^repmgr_conf.*/node_name = db-1/' " + lab.conf("DB_1", "primgr_conf")));
  lab.run("primgr DB_1 restart");
  CHECK(lab.answers("DB_1", 200));
}

TEST_SUITE_END();
