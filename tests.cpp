// The tests: doctest's main, and the rules of voting. Every other subject has a file below tests/.
//
// `build/tests` runs everything; `build/tests -tse=lab` all that needs no cluster.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <signal.h>

#include <cstdio>
#include <iostream>
#include <mutex>

#include "node/database/conninfo.hpp"
#include "node/rules/voting.hpp"
#include "tests/world.hpp"

// ---- the rules ----------------------------------------------------------------------------------

TEST_SUITE_BEGIN("rules");

TEST_CASE("names are compared without case, and _ equals -") {
  CHECK(names_equal("DB_Node-1", "db-node_1"));
  CHECK_FALSE(names_equal("n1", "n10"));
  CHECK_FALSE(names_equal("n10", "n1"));
  CHECK_FALSE(names_equal("n1", "n2"));
  CHECK_FALSE(names_equal("n1", ""));
}

TEST_CASE("a host name is a node name in lower case, with - for _") {
  CHECK(host_name("DB_1") == "db-1");
  CHECK(host_name("db-1.Example") == "db-1.example");
  CHECK(host_name("\xc3\x84_") == "\xc3\x84-");
  CHECK(host_name("") == "");
}

TEST_CASE("a majority is floor(n/2)+1") {
  CHECK(votes_needed(1) == 1);
  CHECK(votes_needed(2) == 2);
  CHECK(votes_needed(3) == 2);
  CHECK(votes_needed(4) == 3);
  CHECK(votes_needed(5) == 3);
  CHECK(check_consensus(2, 2));
  CHECK_FALSE(check_consensus(1, 2));
}

TEST_CASE("the host of a conninfo is hostaddr, else host, and never a socket folder") {
  const auto host = [](const char* conninfo) {
    const Conninfo_Host found = conninfo_host(conninfo);
    return found.address.empty() ? found.name : found.name + " at " + found.address;
  };
  CHECK(host("host=db1 port=5432") == "db1");
  CHECK(host("host=db1 hostaddr=10.0.0.1") == "db1 at 10.0.0.1");
  CHECK(host("hostaddr=10.0.0.1") == "10.0.0.1");
  CHECK(host("host=/run/postgresql hostaddr=10.0.0.1") == "10.0.0.1");
  CHECK(host("host=db1,db2 hostaddr=10.0.0.1,10.0.0.2") == "db1 at 10.0.0.1");
  CHECK(host("host=db1,db2 hostaddr=,10.0.0.2") == "db1");
  CHECK(host("postgresql://u@db2:6432/repmgr") == "db2");
  CHECK(host("host=db1,db2") == "db1");
  CHECK(host("host=/run/postgresql") == "");
  CHECK(host("host=@abstract") == "");
  CHECK(host("dbname=repmgr") == "");
  CHECK(host("this is = no ' conninfo") == "");
}

TEST_CASE("the named primary is the one active primary row") {
  auto nodes = make_site(3);
  REQUIRE(named_primary(nodes));
  CHECK(named_primary(nodes)->name == "n1");
  nodes[0].active = false;
  CHECK_FALSE(named_primary(nodes));
  nodes[1].type = "primary";
  CHECK(named_primary(nodes)->name == "n2");
  nodes[0].active = true;
  CHECK_FALSE(named_primary(nodes));  // two: it names none
}

TEST_CASE("a name that two rows share, but for case and _ or -, finds neither") {
  const std::vector<Node> nodes = {make_node(1, "db_1"), make_node(2, "DB-1"),
                                   make_node(3, "db_2")};
  CHECK_FALSE(find_node(nodes, "db_1"));
  CHECK(find_node(nodes, "DB-2")->id == 3);
}

TEST_CASE("every registered node of the site votes: inactive ones and witnesses too") {
  std::vector<Node> nodes = {make_node(1, "n1", "primary", "a"), make_node(2, "n2", "standby", "a"),
                             make_node(3, "w", "witness", "a"), make_node(4, "n4", "standby", "b")};
  nodes[1].active = false;
  CHECK(electorate(nodes, nodes[0], false).size() == 3);
  CHECK(electorate(nodes, nodes[3], false).size() == 1);
  CHECK(electorate(nodes, nodes[0], true).size() == 4);
}

// The decision by the list of the database alone.
Decision decide(const Facts& facts, const std::string& name, bool whole_cluster, const Votes& votes,
                const Lease& lease, Time now) {
  const Node* self = find_node(facts.nodes, name);
  return primgr::decide(facts, name, votes, lease, now,
                        {self ? electorate(facts.nodes, *self, whole_cluster) : Voter_List()});
}

// How long votes count here.
const Lease three_seconds{10s, 6900ms};

TEST_CASE("decide: down, standby and the reasons for unknown") {
  const Votes none;
  Facts down;
  down.problem = "refused";
  Decision decision = decide(down, "n1", false, none, three_seconds, 0s);
  CHECK(decision.state == State::down);
  CHECK(decision.reason == "refused");

  CHECK(decide(make_facts(make_site(3), true), "n2", false, none, three_seconds, 0s).state ==
        State::standby);
  // A standby is one whatever repmgr.nodes says: reads need no vote.
  CHECK(decide(make_facts({}, true), "n2", false, none, three_seconds, 0s).state == State::standby);

  Facts unreadable = make_facts({});
  unreadable.nodes_known = false;
  unreadable.problem = "relation \"repmgr.nodes\" does not exist";
  decision = decide(unreadable, "n1", false, none, three_seconds, 0s);
  CHECK(decision.state == State::unknown);
  CHECK(decision.reason.find("does not exist") != std::string::npos);

  decision = decide(make_facts(make_site(3)), "n9", false, none, three_seconds, 0s);
  CHECK(decision.state == State::unknown);
  CHECK(decision.reason.find("\"n9\"") != std::string::npos);

  const std::vector<Node> witnessed = {make_node(1, "w", "witness")};
  CHECK(decide(make_facts(witnessed), "w", false, none, three_seconds, 0s).state == State::unknown);
}

TEST_CASE("decide: a majority of all registered nodes, not of those that answer") {
  const Facts facts = make_facts(make_site(5));
  Votes votes = {{"n1", {10s, "n1", ""}}};
  CHECK(decide(facts, "n1", false, votes, three_seconds, 10s).state == State::unknown);
  votes["n2"] = {10s, "N1", ""};
  CHECK(decide(facts, "n1", false, votes, three_seconds, 10s).state == State::unknown);
  votes["n3"] = {9s, "n1", ""};
  votes["n9"] = {10s, "n1", ""};  // not registered
  const Decision decision = decide(facts, "n1", false, votes, three_seconds, 10s);
  CHECK(decision.state == State::primary);
  CHECK(decision.until == 12s);  // the third vote is the first to expire
  const Node& n1 = facts.nodes[0];
  CHECK(describe_votes(describe_voters(facts.nodes, {n1, votes, three_seconds, 10s}))
            .starts_with("3 of 5 votes, 3 needed: n1 (t"));
  CHECK(decide(facts, "n1", false, votes, three_seconds, 12s).state == State::unknown);
  votes["n4"] = {10s, "n1", ""};  // one to spare: the oldest does not matter
  CHECK(decide(facts, "n1", false, votes, three_seconds, 10s).until == 13s);
}

TEST_CASE("whether a majority names another") {
  const auto voters = make_site(5);
  const auto another = [&](std::vector<const char*> names) {
    Votes votes;
    for (std::size_t i = 0; i < names.size(); ++i) {
      votes[voters[i].name] = {10s, names[i], ""};
    }
    return names_another(voters, {voters[0], votes, three_seconds, 12s});
  };
  CHECK(another({"n2", "N2", "n2"}));
  CHECK(another({"n1", "n2", "n3", "n2", "n2"}));
  CHECK(another({"n2", "n2", "n1", "n1", "n2"}));
  CHECK_FALSE(another({"n2", "n2"}));
  CHECK_FALSE(another({"n1", "n1", "n1", "n2", "n2"}));
  CHECK_FALSE(another({"n1", "n2", "n3", "n2", ""}));
  CHECK_FALSE(another({}));
  const Votes late = {{"n2", {10s, "n2", ""}}, {"n3", {10s, "n2", ""}}, {"n4", {9s, "n2", ""}}};
  CHECK_FALSE(names_another(voters, {voters[0], late, three_seconds, 12s}));  // one has expired
}

TEST_CASE("decide: votes for others, and votes of other sites, do not count") {
  std::vector<Node> nodes = make_site(3);
  nodes.push_back(make_node(4, "n4", "standby", "b"));
  nodes.push_back(make_node(5, "n5", "standby", "b"));
  const Votes votes = {{"n1", {10s, "n1", ""}},
                       {"n2", {10s, "n3", ""}},
                       {"n4", {10s, "n1", ""}},
                       {"n5", {10s, "n1", ""}}};
  CHECK(decide(make_facts(nodes), "n1", false, votes, three_seconds, 10s).state == State::unknown);
  CHECK(decide(make_facts(nodes), "n1", true, votes, three_seconds, 10s).state == State::primary);
}

TEST_CASE("a voter votes for whom its database names, and keeps to it for as long as it promised") {
  const Grant none;
  CHECK(cast_vote(none, "n1", "n1", 10s).granted);
  CHECK(cast_vote(none, "N_1", "n-1", 10s).granted);
  CHECK_FALSE(cast_vote(none, "n1", "n2", 10s).granted);
  CHECK(cast_vote(none, "n1", "n2", 10s).names == "n1");
  CHECK_FALSE(cast_vote(none, "", "", 10s).granted);
  CHECK(cast_vote(none, "", "n1", 10s).names == "");

  const Grant to_n1{"n1", 13s};
  CHECK(cast_vote(to_n1, "n1", "N1", 12s).granted);  // renewed
  CHECK_FALSE(cast_vote(to_n1, "n2", "n2", 12s).granted);
  CHECK(cast_vote(to_n1, "n2", "n2", 12s).names == "n1");
  CHECK(cast_vote(to_n1, "n2", "n2", 13s).granted);        // it has expired
  CHECK(cast_vote(to_n1, "n2", "n1", 12s).names == "n2");  // no longer for n1, and not yet for n2

  const Grant silence{"", 13s};
  CHECK(cast_vote(silence, "n1", "n1", 12s).names == "");
  CHECK(cast_vote(silence, "n1", "n1", 13s).granted);
  CHECK(vote_lifetime({3s, 0s}) == 2970ms);
  CHECK(vote_lifetime({4s, 1s}) == 2960ms);
}

TEST_CASE("what a peer's reply to /primary names") {
  std::string why;
  const auto named = [&](int status, const std::string& body) {
    return http_node_reports_primary({status, body, "silence"}, why).value_or("-");
  };
  CHECK(named(200, R"({"Primary":"n1"})") == "n1");
  CHECK(named(503, R"({"Primary":"n1"})") == "-");
  CHECK(named(503, R"({"State":"Down"})") == "-");
  CHECK(why == "names none, its state is Down");
  CHECK(named(0, "") == "-");
  CHECK(why == "silence");
  for (const char* body : {"", "n1", "[]", "null", "{", R"({"Primary":42})", R"({"Primary":null})",
                           R"({"Primary":""})", R"({"Primary":["n1"]})", R"({"primary":"n1"})",
                           R"(["Primary","n1"])", "{\"Primary\":\"\xff\"}"}) {
    CAPTURE(body);
    CHECK(named(200, body) == "-");
  }
  CHECK(named(302, R"({"Primary":"n1"})") == "-");
  CHECK(named(200, R"({"Primary":"db-1","node":"DB_1"})") == "DB_1");
  for (const char* node : {R"("db-2")", R"("")", "1", "null", R"(["db_1"])"}) {
    CAPTURE(node);
    CHECK(named(200, R"({"Primary":"db-1","node":)" + std::string(node) + "}") == "db-1");
  }
  CHECK(named(200, R"({"Primary":"n1"})" + std::string(1010, ' ')) == "-");
  CHECK(named(200, std::string(1024, '[')) == "-");
}

TEST_CASE("what a peer's reply to /state reports") {
  const auto state = [](int status, const std::string& body) {
    return http_node_reports_state({status, body, ""});
  };
  CHECK(state(200, R"({"state":"Primary"})") == State::primary);
  CHECK(state(200, R"({"State":"Primary"})") == State::primary);  // the original implementation
  CHECK(state(202, R"({"State":"Standby"})") == State::standby);
  CHECK(state(503, R"({"state":"Down"})") == State::down);
  CHECK(state(509, R"({"state":"Unknown"})") == State::unknown);
  CHECK(state(509, R"({"state":"Primary"})") == State::unknown);
  CHECK(state(200, R"({"state":"Standby"})") == State::unknown);
  CHECK(state(200, R"({"state":7})") == State::unknown);
  CHECK(state(200, "OK") == State::unknown);
  CHECK(state(0, "") == State::unknown);
}

TEST_SUITE_END();

namespace {

// Prints a line for each test case, and remembers what failed for the lines that main() ends with:
// of a log that is cut off, the end is what is left.
struct Summary : doctest::IReporter {
  static inline std::size_t run = 0, failed = 0;
  static inline std::vector<std::string> failures;  // a line for each test case

  explicit Summary(const doctest::ContextOptions&) {}
  void test_run_end(const doctest::TestRunStats& stats) override {
    run = stats.numTestCasesPassingFilters;
    failed = stats.numTestCasesFailed;
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_case_start(const doctest::TestCaseData& test) override {
    const std::lock_guard lock(mutex);
    suite = test.m_test_suite;
    name = test.m_name;
    first.clear();
    start = Steady::now();
  }
  void log_assert(const doctest::AssertData& assert) override {
    if (assert.m_failed) note(assert.m_file, assert.m_line, assert.m_expr);
  }
  void log_message(const doctest::MessageData& message) override {
    if (message.m_severity & ~doctest::assertType::is_warn) {
      note(message.m_file, message.m_line, message.m_string.c_str());
    }
  }
  void test_case_exception(const doctest::TestCaseException& exception) override {
    note("", 0, exception.error_string.c_str());
  }
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    const std::lock_guard lock(mutex);
    if (!stats.testCaseSuccess) failures.push_back(name + ": " + first);
    char line[32];
    std::snprintf(line, sizeof line, "%s %6.2f s  ", stats.testCaseSuccess ? "ok    " : "FAILED",
                  seconds_since(start));
    std::cout << line << suite << ": " << name << std::endl;
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}

 private:
  // From any thread of a test.
  void note(const char* file, int line, const char* what) {
    const std::lock_guard lock(mutex);
    if (first.empty()) first = std::string(file) + ":" + std::to_string(line) + ": " + what;
  }

  std::mutex mutex;  // guards what is below
  std::string suite, name, first;
  Steady::time_point start;
};
REGISTER_LISTENER("summary", 1, Summary);

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  doctest::Context context(argc, argv);
  const int status = context.run();
  if (context.shouldExit()) return status;  // it only listed something
  for (const std::string& what : Summary::failures) std::cout << "failed: " << what << '\n';
  for (const std::string& why : skipped) std::cout << "skipped: " << why << '\n';
  std::cout << Summary::run - Summary::failed - skipped.size() << " passed, " << Summary::failed
            << " failed";
  if (!skipped.empty()) std::cout << ", " << skipped.size() << " skipped";
  std::cout << std::endl;
  return status;
}
