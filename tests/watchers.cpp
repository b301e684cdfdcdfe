#include <doctest/doctest.h>

#include "tests/cluster_repair.hpp"
#include "tests/cluster_watch.hpp"
#include "tests/haproxy_watch.hpp"
#include "tests/row_writers.hpp"

// The fault campaign is worth what its watchers find; these are the rules that they find it by.

TEST_SUITE_BEGIN("watchers");

TEST_CASE("a server is up that HAProxy has not stopped and nobody has taken out") {
  const std::string heading =
      "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight\n";
  const std::string answer = heading +
                             "3 postgres_write 1 n1 10.99.0.1 2 0 1\n"
                             "3 postgres_write 2 n2 10.99.0.2 0 0 1\n"
                             "3 postgres_write 3 n3 10.99.0.3 2 8 1\n"
                             "3 postgres_write 4 n4 10.99.0.4 3 0 1\n\n> ";
  CHECK(servers_up(answer) == std::vector<std::string>{"n1", "n4"});
  CHECK(servers_up(heading + "\n> ").empty());
  CHECK(servers_up("").empty());
}

TEST_CASE(
    "a row is stale if it was sent to an old primary after the new one's first was acknowledged") {
  const Row first{1, 0.0, 0.1, "a", "00000001"}, taken_over{3, 1.0, 1.1, "b", "00000002"};
  CHECK(stale_rows({}).empty());
  CHECK(stale_rows({first, taken_over}).empty());
  // Sent before the other was acknowledged: it may have been taken before it.
  CHECK(stale_rows({first, taken_over, {5, 1.05, 1.3, "a", "00000001"}}).empty());
  const auto stale = stale_rows({first, taken_over, {5, 1.2, 1.3, "a", "00000001"}});
  REQUIRE(stale.size() == 1);
  CHECK(stale[0].row.number == 5);
  CHECK(stale[0].newer.number == 3);
  // It has become primary again by a takeover of its own.
  CHECK(stale_rows({first, taken_over, {5, 1.2, 1.3, "a", "00000003"}}).empty());
  // Both were promoted from the same timeline, one after the other.
  CHECK(
      stale_rows({first, {3, 1.0, 1.1, "b", "00000001"}, {5, 1.2, 1.3, "a", "00000001"}}).size() ==
      1);
}

TEST_CASE("two primaries are two nodes that answer 200 in turns within a lease") {
  const auto at = [](double time, std::size_t node, int status) {
    return Sample{time, time + 0.01, node, status};
  };
  const auto a = at(0, 0, 200), b = at(1, 1, 200);
  CHECK(find_violations({}, 3).empty());
  CHECK(find_violations({a, at(0.5, 0, 509), b, at(1.5, 0, 509)}, 3).empty());
  const auto found = find_violations({a, b, at(2, 0, 200)}, 3);
  REQUIRE(found.size() == 1);
  CHECK(found[0].a.node == 0);
  CHECK(found[0].b.node == 1);
  CHECK(find_violations({a, b, at(3.1, 0, 200)}, 3).empty());
  // Asked while the other's answer was on its way: either may have been first.
  CHECK(find_violations({a, b, at(1.005, 0, 200)}, 3).empty());
}

TEST_CASE("a campaign that cannot go on says whose doing it is") {
  const auto node = [](const std::string& name, int status, const std::string& names) {
    return Node_Facts{name, status, true, status != 200, true, names};
  };
  const auto n1 = node("n1", 200, "n1"), n2 = node("n2", 202, "n1"), n3 = node("n3", 202, "n1");
  CHECK(verdict({n1, n2, n3}).starts_with("none"));
  auto down = n3;
  down.reachable = false;
  down.status = 503;
  CHECK(verdict({n1, n2, down}) == "PostgreSQL: n3 does not start, or does not answer;");
  auto refused = n1;
  refused.status = 509;
  CHECK(verdict({refused, n2, n3}) ==
        "primgr: a majority of databases names n1, but n1 answers 509;");
  CHECK(verdict({n1, n2, node("n3", 503, "n1")}) ==
        "primgr: n3 is in recovery, but n3 answers 503;");
  CHECK(verdict({n1, n2, node("n3", 202, "n2")}) == "repmgr: n3 names 'n2', not n1;");
  auto cut_off = n3;
  cut_off.streaming = false;
  CHECK(verdict({n1, n2, cut_off}) == "repmgr: n3 does not stream from anybody;");
  // Each of them takes writes and is named by itself only.
  auto old = n1, promoted = node("n2", 509, "n2");
  old.status = 509;
  promoted.in_recovery = false;
  CHECK(verdict({old, promoted, node("n3", 202, "n3")}) ==
        "repmgr: the databases do not name one primary; n1 takes writes, but no majority names it;"
        " n2 takes writes, but no majority names it;");
}

TEST_CASE("the longest time without an answer to a read") {
  const std::vector<Read> reads = {{0, 1, "a"}, {1, 2, "a"}, {2, 6, "b"}, {6, 7, "a"}};
  CHECK(longest_gap(reads, 0, 7) == 4);
  CHECK(longest_gap(reads, 5, 7) == 1);
  CHECK(longest_gap(reads, 6.5, 10) == 3);
  CHECK(longest_gap(reads, 3, 5) == 2);
  CHECK(longest_gap({}, 3, 5) == 2);
}

TEST_SUITE_END();
