#include "node/rules/synchrony.hpp"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/json.hpp"
#include "base/size.hpp"
#include "tests/served.hpp"

using namespace primgr;

namespace {

// What the standby n2 is told by n1, its primary.
void tells(World& world, const std::string& sync, double age = 0.1) {
  world.standbys["n1"] = {200, Json({{"sync", sync}, {"ageSeconds", age}}).dump(), ""};
}

std::ptrdiff_t times_asked(const World& world) {
  return std::count(world.asked.begin(), world.asked.end(),
                    std::pair<std::string, std::string>("n1", "/standby?name=n2"));
}

}  // namespace

TEST_SUITE_BEGIN("synchrony");

TEST_CASE("what a primary knows of a standby") {
  Replication primary;
  const auto found = [&](const std::string& name) { return find_standby(primary, name, 1001s); };
  CHECK(found("n2").why == "it cannot read pg_stat_replication");
  primary.known = true;
  primary.asked_at = 1001s;
  primary.standbys_asked_at = 1000s;  // a new answer is awaited
  CHECK(found("n2").sync.empty());
  const auto add = [&](const char* name, const char* state, const char* sync) {
    primary.standbys.push_back({name, "10.0.0.2", state, sync, std::nullopt, std::nullopt});
  };
  add("N_2", "streaming", "sync");
  add("n3", "streaming", "potential");
  add("n4", "catchup", "async");
  add("n5", "", "");
  add("twice", "streaming", "sync");
  add("Twice", "streaming", "async");
  CHECK(found("n-2").sync == "sync");
  CHECK(found("n-2").age == 1s);
  CHECK(found("n3").sync == "potential");
  for (const char* name : {"n4", "n5", "twice", "n", ""}) {
    CAPTURE(name);
    CHECK(found(name).sync.empty());
    CHECK_FALSE(found(name).why.empty());
  }
  // Servers show what is not ASCII as question marks, and from PostgreSQL 16 on escaped.
  add("n??de-3", "streaming", "quorum");
  add("m\\xc3\\xb6de", "streaming", "sync");
  CHECK(found("n\xc3\xb6"
              "de_3")
            .sync == "quorum");
  CHECK(found("m\xc3\xb6"
              "de")
            .sync == "sync");
  const std::string longest(63, 'x');
  add(longest.c_str(), "streaming", "sync");
  CHECK(found(longest + "y").sync == "sync");
  primary.problem = "permission denied";
  CHECK(found("n-2").why == "it cannot read pg_stat_replication");
}

TEST_CASE("what a primary's answer tells: all of it, or nothing") {
  const auto read = [](int status, const std::string& body) {
    return read_standby_reply({status, body, "", {}});
  };
  for (const char* sync : {"sync", "quorum", "potential", "async"}) {
    const Sync_Report report =
        read(200, R"({"sync":")" + std::string(sync) + R"(","ageSeconds":1.5})");
    CHECK(report.sync == sync);
    CHECK(report.age == 1500ms);
    CHECK(report.why.empty());
  }
  for (const char* body :
       {"", "[]", "{", "null", R"({"sync":"sync"})", R"({"sync":"SYNC","ageSeconds":1})",
        R"({"sync":["sync"],"ageSeconds":1})", R"({"sync":"sync","ageSeconds":-1})",
        R"({"sync":"sync","ageSeconds":"1"})", R"({"sync":"sync","ageSeconds":1e99})",
        R"({"sync":"sync","ageSeconds":null})", R"({"ageSeconds":1})", "[\"sync\"]"}) {
    CAPTURE(body);
    CHECK(read(200, body).sync.empty());
    CHECK_FALSE(read(200, body).why.empty());
  }
  const std::string good = R"({"sync":"sync","ageSeconds":1})";
  CHECK(read(200, good + std::string(1000, ' ')).sync.empty());
  CHECK(read(503, good).sync.empty());
  CHECK(read(503, R"({"reason":"it is not Primary"})").why == "it is not Primary");
  CHECK(read(503, R"({"reason":")" + std::string(900, 'x') + "\"}").why.size() == 200);
  CHECK(read(404, "").why == "HTTP status 404 (an older version?)");
  CHECK(read_standby_reply({0, "", "timed out", {}}).why == "timed out");
}

TEST_CASE("/sync, /async, /read-only-sync: which standby is synchronous, by the primary") {
  World world(World::named("n2"));
  const Served served(world);
  const auto statuses = [&] {
    std::string all;
    for (const char* path : {"/sync", "/async", "/read-only-sync?lag=1MB"}) {
      all += std::to_string(served.ask("OPTIONS", path).status) + " ";
    }
    return all;
  };
  const auto reason = [&](const char* path) {
    return Json::parse(served.ask("GET", path).body)["reason"].get<std::string>();
  };
  CHECK(statuses() == "503 503 503 ");
  world.now += 30s;
  tells(world, "sync");
  world.primary_reports(1 << 20);
  world.look(standby_facts(1 << 20, 1 << 20, 1 << 20));
  CHECK(times_asked(world) == 0);  // nobody wants to know any more
  CHECK(statuses() == "503 503 503 ");
  CHECK(reason("/sync") == "n1 does not tell whether it is synchronous: it is asked only now");
  const std::pair<const char*, const char*> expected[] = {{"sync", "200 503 200 "},
                                                          {"quorum", "200 503 200 "},
                                                          {"potential", "503 200 503 "},
                                                          {"async", "503 200 503 "},
                                                          {"", "503 503 503 "}};
  for (const auto& [sync, answers] : expected) {
    const std::string which(sync);
    CAPTURE(which);
    tells(world, sync);
    world.pass(1s);
    CHECK(statuses() == answers);
  }
  CHECK(reason("/async").ends_with("its answer to /standby is none"));
  tells(world, "sync");
  world.pass(1s);
  CHECK(Json::parse(served.ask("GET", "/sync").body)["synchronous"] == true);
  CHECK(served.ask("GET", "/synchronous?lag=1MB").status == 200);
  CHECK(served.ask("OPTIONS", "/asynchronous").status == 503);
  CHECK(served.ask("OPTIONS", "/standby").status == 200);
  CHECK(served.ask("GET", "/standby?lag=x").status == 400);
  CHECK(reason("/async") == "it is synchronous");
  CHECK(served.ask("GET", "/sync?lag=x").status == 400);
  CHECK(served.ask("GET", "/async?name=n2").status == 400);
  // It is a standby to be read from, or none of the kinds.
  world.now += 1s;
  world.look(make_facts(make_site(3), true));
  CHECK(statuses() == "503 503 503 ");
  world.look(standby_facts(18 << 20, 17 << 20, 1 << 20));
  CHECK(served.ask("GET", "/sync").status == 200);
  CHECK(served.ask("GET", "/sync?lag=16MB").status == 503);
}

TEST_CASE(
    "what the primary told counts for 3 refresh_intervals and a peer_timeout, lost replies or "
    "not") {
  World world(World::named("n2"));
  world.look(standby_facts(1, 1, 1));
  const auto known = [&] { return world.node.get_synchrony().synchronous; };
  CHECK_FALSE(known());
  tells(world, "sync", 1);
  world.pass(1s);
  CHECK(known() == true);
  world.standbys["n1"] = {0, "", "timed out", {}};
  world.pass(1s);
  world.pass(1s);
  world.pass(1s);
  CHECK(known() == true);  // 1 s when it was told, and 3 s since
  world.pass(1ms);
  CHECK_FALSE(known());
  CHECK(world.node.get_synchrony().why == "n1 does not tell whether it is synchronous: timed out");
  tells(world, "sync", 4);
  world.pass(1s);
  CHECK(known() == true);
  tells(world, "sync", 4.001);
  world.pass(1s);
  CHECK_FALSE(known());
  // What another node told, before the database named n1, is not what n1 tells.
  tells(world, "async");
  world.pass(1s);
  CHECK(known() == false);
  Facts facts = standby_facts(1, 1, 1);
  facts.nodes[0].type = "standby";
  facts.nodes[2].type = "primary";
  world.look(facts);
  CHECK_FALSE(known());
}

TEST_CASE("the primary is asked once a refresh_interval, and only while somebody wants to know") {
  World world(World::named("n2"));
  world.look(standby_facts(1, 1, 1));
  for (int i = 0; i < 10; ++i) world.pass(1s);
  CHECK(times_asked(world) == 0);
  world.node.get_synchrony();
  for (int i = 0; i < 40; ++i) world.pass(500ms);
  CHECK(times_asked(world) == 20);
  world.look(standby_facts(1, 1, 1));
  for (int i = 0; i < 10; ++i) world.pass(1s);
  CHECK(times_asked(world) == 20);
}

TEST_CASE("/standby: a Primary tells its standbys which of them are synchronous") {
  World world;
  const Served served(world);
  const auto ask = [&](const std::string& query) { return served.ask("GET", "/standby" + query); };
  CHECK(ask("?name=").status == 400);
  CHECK(ask("").body == served.ask("GET", "/replica").body);
  CHECK(ask("?name=n2").body == R"({"reason":"it is not Primary"})");
  Facts facts = make_facts(make_site(3));
  facts.replication.known = true;
  facts.replication.standbys = {{"n2", "10.0.0.2", "streaming", "quorum", Lsn{1}, 20ms}};
  world.look(facts);
  CHECK(ask("?name=n2").status == 503);  // without its votes its standbys may follow another
  world.names("n2", "n1");
  world.pass(1s);
  CHECK(ask("?name=N2").status == 200);
  CHECK(ask("?name=N2").body == R"({"sync":"quorum","ageSeconds":1.0})");
  CHECK(ask("?name=n3").status == 503);
  CHECK(ask("?name=n2&name=n3").status == 200);
  CHECK(served.ask("GET", "/read-only-sync").status == 200);
  CHECK(served.ask("GET", "/sync").status == 503);
  CHECK(served.ask("GET", "/async").status == 503);
}

TEST_SUITE_END();
