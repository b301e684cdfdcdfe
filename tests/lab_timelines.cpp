// Votes never go back in time, on a real cluster of two nodes and a witness.

#include <doctest/doctest.h>

#include "tests/lab.hpp"
#include "tests/row_writers.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

// What repmgrd on the witness writes when it finds that node as the primary.
void witness_names(const Lab& lab, const std::string& primary) {
  lab.sql("w3", "UPDATE repmgr.nodes SET type = CASE node_name WHEN '" + primary +
                    "' THEN 'primary' ELSE 'standby' END, active = (node_name = '" + primary +
                    "') WHERE type <> 'witness'");
}

void check_logs(const Lab& lab, const std::string& node, const std::string& what) {
  const bool found = eventually(20, [&] { return lab.log(node).find(what) != std::string::npos; });
  INFO("the log of ", node, ":\n", lab.log(node));
  CHECK_MESSAGE(found, what);
}

}  // namespace

TEST_CASE("lab: a witness whose database goes back to the old primary deposes nobody") {
  if (!lab_possible("timelines")) return;
  const Lab lab("--nodes 2 --witness --no-repmgrd --state-file");
  REQUIRE(lab.answers("n1", 200));
  REQUIRE(lab.answers("w3", 200, "/primary"));
  lab.run("write 'CREATE TABLE written (n bigint PRIMARY KEY)'");
  const Row_Writers writers(lab.hub());
  lab.run("cut n1 n2");
  lab.run("cut n1 w3");
  lab.run("promote n2");
  witness_names(lab, "n2");
  REQUIRE(lab.answers("n1", 509));
  REQUIRE(lab.answers("n2", 200));
  const double promoted = seconds_now();
  REQUIRE(
      eventually(20, [&] { return writers.first_after(lab.address("n2"), promoted).has_value(); }));

  const Watcher n1(lab, "n1"), n2(lab, "n2");
  witness_names(lab, "n1");
  lab.run("heal");
  check_logs(lab, "w3",
             "the database names n1 as primary, whose WAL is on an older timeline than 2");
  const auto looks_more = [&](const std::string& node, double looks) {
    const double enough = lab.metric(node, "primgr_refresh_seconds_count") + looks;
    return eventually(60,
                      [&] { return lab.metric(node, "primgr_refresh_seconds_count") >= enough; });
  };
  const auto check = [&] {
    CHECK(looks_more("n1", 50));
    INFO("the nodes:\n", lab.attempt("status").output);
    INFO("/node of n1: ", lab.ask("n1", "/node").body);
    INFO("/node of n2: ", lab.ask("n2", "/node").body);
    INFO("the log of w3:\n", lab.log("w3"));
    CHECK_FALSE(n1.ever(200));
    for (const int status : {202, 503, 509}) {
      CAPTURE(status);
      CHECK_FALSE(n2.ever(status));
    }
  };
  check();
  // The witness is booted: it knows what it has voted for.
  lab.run("primgr w3 kill");
  lab.run("primgr w3 start");
  check();
  CHECK(stale_rows(writers.rows()).empty());

  // The Primary is gone: n1 is no replacement for it.
  lab.run("kill n2");
  lab.run("primgr n2 kill");
  check_logs(lab, "w3",
             "n1 gets no vote: its WAL is on timeline 1, and this node has voted for a "
             "Primary on timeline 2");
  CHECK(looks_more("n1", 50));
  CHECK_FALSE(n1.ever(200));
  const auto primgr = [&](const std::string& arguments) {
    return lab.attempt("exec-node w3 " + program() + " --config " + lab.conf("w3", "primgr_conf") +
                       " " + arguments);
  };
  // Unless the operator says so.
  CHECK(primgr("--forget-timeline n1").status == 64);
  const Ran told = primgr("--forget-timeline");
  CHECK_MESSAGE(told.status == 0, told.output);
  check_logs(lab, "w3", "this node may vote again for a Primary on a timeline before 2");
  CHECK(lab.answers("n1", 200));
}

TEST_SUITE_END();
