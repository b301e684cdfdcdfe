// What operators do to the membership of a cluster: the Primary answers 200 all the while.

#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/json.hpp"
#include "tests/lab.hpp"
#include "tests/row_writers.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

Json node_document(const Lab& lab, const std::string& node) {
  return parse_json(lab.ask(node, "/node").body, 8);
}

// "2 of 3": the votes that count for a node, of its voters.
std::string votes_on(const Lab& lab, const std::string& node) {
  const Json document = node_document(lab, node);
  const Json& votes = at(document, "votes");
  return at(votes, "counted").dump() + " of " + at(votes, "of").dump();
}

// Waits until each voter of the node names its primary by that name: a node that is restarted
// before its voters know its new name waits for a lease.
bool all_name(const Lab& lab, const std::string& node, const std::string& primary) {
  return eventually(20, [&] {
    const Json document = node_document(lab, node);
    const Json& voters = at(at(document, "votes"), "voters");
    return !voters.empty() && std::all_of(voters.begin(), voters.end(), [&](const Json& voter) {
      return at(voter, "names") == primary;
    });
  });
}

// Waits until the node holds a list of so many voters, and no other one is pending.
bool holds_list(const Lab& lab, const std::string& node, std::size_t voters) {
  return eventually(20, [&] {
    const Json held = parse_json(lab.ask(node, "/lists?node=" + node + "&site=default").body, 8);
    return at(at(held, "current"), "members").size() == voters && at(held, "pending").is_null();
  });
}

// A key of a configuration file of a node: primgr_conf or repmgr_conf.
void configure(const Lab& lab, const std::string& node, const std::string& file,
               const std::string& key, const std::string& value) {
  const std::string path = lab.conf(node, file);
  const std::string line = key + " = " + quoted(value);
  REQUIRE(shell("sed -i '/^" + key + " *=/d' " + path + " && echo " + quoted(line) + " >>" + path)
              .status == 0);
}

// Starts primgr of a node that has lost its list of voters.
void start_with_damaged_list(const Lab& lab, const std::string& node) {
  const Ran folder = shell("sed -n 's/^state_directory = //p' " + lab.conf(node, "primgr_conf"));
  const std::string file = folder.output.substr(0, folder.output.find('\n')) + "/voters";
  REQUIRE(shell("echo damaged > " + file).status == 0);
  lab.run("primgr " + node + " start");
  REQUIRE(eventually(
      20, [&] { return lab.log(node).find("remove that file on each") != std::string::npos; }));
}

// A Primary that is asked all the while, and that rows are written to through HAProxy.
class Steady_Primary {
 public:
  Steady_Primary(const Lab& lab, std::string name, const Row_Writers& writers)
      : lab_(lab), name_(std::move(name)), writers_(writers), watcher_(lab, name_) {
    REQUIRE(watcher_.seen(200, {}, 20) >= 0);
  }
  // Does what an operator does, and waits until the votes on the Primary show that.
  void during(const std::string& verb, const std::string& votes) const {
    during(verb, votes, [&] { lab_.run(verb); });
  }
  void during(const std::string& step, const std::string& votes,
              const std::function<void()>& work) const {
    std::string last;
    CAPTURE(step);
    CAPTURE(last);
    INFO("the nodes:\n", lab_.attempt("status").output);
    INFO("the log of ", name_, ":\n", lab_.log(name_));
    work();
    const bool shown = eventually(20, [&] { return (last = votes_on(lab_, name_)) == votes; });
    const double since = seconds_now();
    const bool written = eventually(
        20, [&] { return writers_.first_after(lab_.address(name_), since).has_value(); });
    REQUIRE(shown);
    CHECK(written);
    for (const int status : {202, 503, 509}) {
      CAPTURE(status);
      REQUIRE_FALSE(watcher_.ever(status));
    }
  }

 private:
  const Lab& lab_;
  const std::string name_;
  const Row_Writers& writers_;
  const Watcher watcher_;
};

// A lab whose Primary n1 takes rows through HAProxy.
struct Written_Lab {
  explicit Written_Lab(const std::string& options) : lab(options) {
    lab.run("write 'CREATE TABLE written (n bigint PRIMARY KEY)'");
    writers.emplace(lab.hub());
  }
  // Whether exactly one node of the cluster is Primary, as `node` sees it.
  void check_status(const std::string& node, const std::string& name) const {
    const std::string status = lab.run("exec-node " + node + " " + program() + " --config " +
                                       lab.conf(node, "primgr_conf") + " --status");
    CHECK(status.find("\nPrimary: " + name + " ") != status.npos);
  }

  const Lab lab;
  std::optional<Row_Writers> writers;
};

}  // namespace

TEST_CASE("lab: two nodes become three, then three others, then one: the Primary answers 200") {
  if (!lab_possible("other members")) return;
  const Written_Lab cluster("--nodes 2 --no-repmgrd");
  const Lab& lab = cluster.lab;
  {
    const Steady_Primary n1(lab, "n1", *cluster.writers);
    n1.during("add n3", "3 of 3");
    n1.during("add n4 n5", "5 of 5");
    n1.during("kill n3, and its primgr", "4 of 5", [&] {
      lab.run("kill n3");
      lab.run("primgr n3 kill");
    });
    n1.during("repmgr n1 standby unregister --node-id=3", "4 of 4");
    n1.during("repmgr n2 standby unregister", "3 of 3");
    n1.during("haproxy restart", "3 of 3");
  }
  lab.run("stop n1");
  lab.run("takeover n4");
  REQUIRE(lab.answers("n4", 200));
  lab.run("rejoin n1 n4");
  REQUIRE(lab.answers("n1", 202));
  const Steady_Primary n4(lab, "n4", *cluster.writers);
  n4.during("repmgr n1 standby unregister", "2 of 2");
  n4.during("add n6", "3 of 3");
  n4.during("unregister two of three at once", "1 of 1",
            [&] { lab.sql("n4", "DELETE FROM repmgr.nodes WHERE node_name IN ('n5', 'n6')"); });
  cluster.check_status("n4", "n4");
}

TEST_CASE(
    "lab: another site, another name, a witness, another consensus: the Primary answers 200") {
  if (!lab_possible("members that change")) return;
  const Written_Lab cluster("--site a:3 --site b:1 --no-repmgrd --state-file");
  const Lab& lab = cluster.lab;
  const Steady_Primary n1(lab, "n1", *cluster.writers);
  for (const auto& [site, votes] : {std::pair("b", "2 of 2"), std::pair("a", "3 of 3")}) {
    n1.during("n3 moves to the site " + std::string(site), votes, [&] {
      configure(lab, "n3", "repmgr_conf", "location", site);
      lab.run("repmgr n3 standby register --force");
    });
  }

  const auto rename = [&](const std::string& node, const std::string& role,
                          const std::string& name) {
    n1.during(node + " is renamed", "3 of 3", [&] {
      configure(lab, node, "repmgr_conf", "node_name", name);
      lab.run("repmgr " + node + " " + role + " register --force");
      const std::string line = "repmgr.nodes has this node as " + name + " now; it was " + node;
      CHECK(eventually(20, [&] { return lab.log(node).find(line) != std::string::npos; }));
      if (node == "n1") CHECK(all_name(lab, node, name));
    });
    n1.during("primgr " + node + " restart", "3 of 3");
  };
  rename("n3", "standby", "db-three");
  rename("n1", "primary", "db-one");

  n1.during("primgr n2 stop", "2 of 3");
  n1.during("n2 has lost its list, and the Primary has it", "3 of 3",
            [&] { start_with_damaged_list(lab, "n2"); });

  n1.during("add --witness w5", "4 of 4");
  n1.during("repmgr w5 witness unregister", "3 of 3");

  for (const auto& [consensus, votes] :
       {std::pair("cluster", "4 of 4"), std::pair("site", "3 of 3")}) {
    for (const std::string node : {"n1", "n2", "n3", "n4"}) {
      n1.during("consensus = " + std::string(consensus) + " on " + node, votes, [&] {
        configure(lab, node, "primgr_conf", "consensus", consensus);
        lab.run("primgr " + node + " restart");
        CHECK(lab.answers(node, node == "n1" ? 200 : 202));
      });
    }
  }
  cluster.check_status("n1", "db-one");
}

// To be run by itself once a list of voters that one node alone has changed does not count.
namespace {

// A node that was unregistered by none but itself is told by an operator that the others are lost,
// though they live, just before it starts; then what it knew of them is damaged. It says why it is
// not Primary.
void check_restarts(const Lab& lab, const std::string& node) {
  const auto logs = [&](const std::string& what) {
    const bool found =
        eventually(20, [&] { return lab.log(node).find(what) != std::string::npos; });
    INFO("the log of ", node, ":\n", lab.log(node));
    CHECK_MESSAGE(found, what);
  };
  const std::string conf = lab.conf(node, "primgr_conf");
  const std::string lost =
      "exec-node " + node + " " + program() + " --config " + conf + " --lost n1 n2";
  lab.run("primgr " + node + " kill");
  const Ran early = lab.attempt(lost);
  CHECK_MESSAGE(early.status == 0, early.output);
  CHECK_MESSAGE(early.output.find("No daemon answers here") != std::string::npos, early.output);
  lab.run("primgr " + node + " start");
  logs("n1, n2 answer, so they are not lost");
  const Ran told = lab.attempt(lost);
  CHECK_MESSAGE(told.status == 69, told.output);
  CHECK_MESSAGE(told.output.find("not declared lost") != std::string::npos, told.output);

  // What it knew is damaged. Its database lists no node that could tell it.
  lab.run("primgr " + node + " stop");
  start_with_damaged_list(lab, node);
  CHECK(lab.answers(node, 509));
}

}  // namespace

TEST_CASE("lab: a node that is cut off and unregisters all others in its own list never is 200") {
  if (!lab_possible("a list of one's own")) return;
  const Lab lab("--no-repmgrd --no-haproxy --state-file");
  REQUIRE(lab.answers("n1", 200));
  // A node that was cut off before it held a list has none that could count.
  REQUIRE(holds_list(lab, "n3", 3));
  lab.run("cut n3 n1");
  lab.run("cut n3 n2");
  lab.run("promote n3");
  REQUIRE(lab.answers("n3", 509));
  REQUIRE(
      eventually(20, [&] { return lab.log("n3").find("no majority votes") != std::string::npos; }));
  const Watcher n1(lab, "n1"), n3(lab, "n3");
  const auto check = [&] {
    // Undecided, it looks five times a second: 6 s.
    const double enough = lab.metric("n3", "primgr_refresh_seconds_count") + 30;
    const bool looked = eventually(60, [&] {
      return n3.ever(200) || lab.metric("n3", "primgr_refresh_seconds_count") >= enough;
    });
    INFO("the nodes:\n", lab.attempt("status").output);
    INFO("/node of n3: ", lab.ask("n3", "/node").body);
    INFO("the log of n1:\n", lab.log("n1"));
    INFO("the log of n3:\n", lab.log("n3"));
    CHECK(looked);
    REQUIRE_FALSE(n3.ever(200));
    for (const int status : {202, 503, 509}) {
      CAPTURE(status);
      CHECK_FALSE(n1.ever(status));
    }
  };
  lab.sql("n3", "DELETE FROM repmgr.nodes WHERE node_name IN ('n1', 'n2')");
  check();
  CHECK(votes_on(lab, "n3") == "1 of 3");
  lab.run("heal");
  const auto n1_hears_n3 = [&] {
    const Json document = node_document(lab, "n1");
    for (const Json& voter : at(at(document, "votes"), "voters")) {
      if (at(voter, "name") == "n3") return at(voter, "names") == "n3";
    }
    return false;
  };
  REQUIRE(eventually(20, n1_hears_n3));
  check();
  check_restarts(lab, "n3");
  CHECK_FALSE(n3.ever(200));
  CHECK_FALSE(n1.ever(509));
}

TEST_CASE("lab: two of three are gone for good, or so the operator says") {
  if (!lab_possible("lost voters")) return;
  const Lab lab("--no-repmgrd --no-haproxy --state-file");
  REQUIRE(lab.answers("n1", 200));
  REQUIRE(holds_list(lab, "n3", 3));
  const auto logs = [&](const std::string& node, const std::string& what) {
    const bool found =
        eventually(20, [&] { return lab.log(node).find(what) != std::string::npos; });
    INFO("the log of ", node, ":\n", lab.log(node));
    CHECK_MESSAGE(found, what);
  };
  for (const char* node : {"n1", "n2"}) {
    lab.run(std::string("primgr ") + node + " stop");
    lab.run(std::string("kill ") + node);
  }
  lab.run("promote n3");
  REQUIRE(lab.answers("n3", 509));
  // Their hosts live, so they are not said to be lost.
  logs("n3", "n1, n2: is primgr running there, on that port?");
  CHECK(lab.log("n3").find("--lost") == std::string::npos);
  for (const char* node : {"n1", "n2"}) lab.run(std::string("cut ") + node);
  lab.sql("n3", "DELETE FROM repmgr.nodes WHERE node_name IN ('n1', 'n2')");
  CHECK(eventually(20, [&] { return votes_on(lab, "n3") == "1 of 3"; }));
  // It knows them after a restart, too.
  lab.run("primgr n3 restart");
  REQUIRE(lab.answers("n3", 509));
  logs("n3", "run on this host: primgr --lost n1 n2");
  const std::string primgr = program() + " --config " + lab.conf("n3", "primgr_conf");
  const std::string status = lab.attempt("exec-node n3 " + primgr + " --status").output;
  INFO(status);
  CHECK(status.find("primgr --lost n1 n2") != std::string::npos);
  const Ran told = lab.attempt("exec-node n3 " + primgr + " --lost n1 n2");
  INFO(told.output);
  REQUIRE(told.status == 0);
  CHECK(told.output.find("goes on without the votes of these") != std::string::npos);
  REQUIRE(lab.answers("n3", 200));
  logs("n3", "these are lost for good, so they are no voters any more: n1, n2");

  // But n1 lives.
  for (const char* node : {"n1", "n2"}) lab.run(std::string("heal ") + node);
  lab.run("start n1");
  lab.run("primgr n1 start");
  lab.run("start n2");
  lab.run("primgr n2 start");
  logs("n3", "n1 was declared lost at ");
  // It learns that it is no voter any more.
  logs("n1", "of 1 votes, 1 needed");
  CHECK(lab.answers("n1", 509));
  CHECK(lab.answers("n3", 200));
}

TEST_CASE("lab: a promoted node whose primgr has the Primary's name is never 200") {
  if (!lab_possible("two of one name")) return;
  const Lab lab("--no-repmgrd --no-haproxy --state-file");
  REQUIRE(lab.answers("n1", 200));
  lab.run("primgr n2 stop");
  const std::string conf = lab.conf("n2", "primgr_conf");
  REQUIRE(shell("sed -i '/^node_name/d' " + conf + " && echo 'node_name = n1' >>" + conf).status ==
          0);
  const Watcher n1(lab, "n1"), n2(lab, "n2");
  REQUIRE(n1.seen(200, {}, 20) >= 0);
  lab.sql("n2", "SELECT pg_promote()");
  lab.run("primgr n2 start");
  const double enough = [&] {
    lab.answers("n2", 509);
    return lab.metric("n2", "primgr_refresh_seconds_count") + 30;
  }();
  CHECK(eventually(60, [&] {
    return n2.ever(200) || lab.metric("n2", "primgr_refresh_seconds_count") >= enough;
  }));
  INFO("the log of n2:\n", lab.log("n2"));
  CHECK_FALSE(n2.ever(200));
  CHECK(lab.log("n2").find("another primgr answers for n1 at ") != std::string::npos);
  for (const int status : {202, 503, 509}) {
    CAPTURE(status);
    CHECK_FALSE(n1.ever(status));
  }
}

TEST_SUITE_END();
