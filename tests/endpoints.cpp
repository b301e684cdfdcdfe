#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "daemon/api/endpoints.hpp"
#include "daemon/api/page.hpp"
#include "node/rules/report.hpp"
#include "tests/served.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("endpoints");

TEST_CASE("the four states, on /state and /, by GET, HEAD and OPTIONS") {
  World world;
  const Served served(world);
  const auto check = [&](int status, const std::string& body) {
    for (const char* path : {"/state", "/"}) {
      for (const char* method : {"GET", "HEAD", "OPTIONS"}) {
        CAPTURE(path);
        CAPTURE(method);
        const auto response = served.ask(method, path);
        CHECK(response.status == status);
        CHECK(response.body == (std::string(method) == "HEAD" ? "" : body));
        CHECK(response.get_header_value("Content-Type") == "application/json");
        CHECK(response.get_header_value("Cache-Control") == "no-store");
        CHECK(response.get_header_value("Content-Length") == std::to_string(body.size()));
      }
    }
  };
  check(503, R"({"state":"Down"})");
  world.look(make_facts(make_site(3), true));
  check(202, R"({"state":"Standby"})");
  world.look(make_facts(make_site(3)));
  check(509, R"({"state":"Unknown"})");
  world.names("n2", "N1");
  world.pass(1s);
  check(200, R"({"state":"Primary"})");
}

TEST_CASE("/primary") {
  World world(World::named("n2"));
  const Served served(world);
  CHECK(served.ask("GET", "/primary").status == 503);
  CHECK(served.ask("GET", "/primary").body == R"({"state":"Down"})");
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  CHECK(served.ask("GET", "/primary").status == 200);
  CHECK(served.ask("GET", "/primary?candidate=n3").body == R"({"Primary":"n1"})");
  CHECK(served.ask("GET", "/primary?candidate=n1&lease=4001").body == R"({"state":"Unknown"})");
  CHECK(served.ask("GET", "/primary?candidate=n1&lease=99999999999999999999").body ==
        R"({"state":"Unknown"})");
  CHECK(served.ask("GET", "/primary?candidate=n1&lease=3000").body == R"({"Primary":"n1"})");
  // Who heeds the lease in the answer may ask for more.
  const std::string told = R"({"Primary":"n1","lease":4000,"token":")";
  for (const char* lease : {"", "&lease=2000", "&lease=4001", "&lease=99999999999999999999"}) {
    CHECK(served.ask("GET", "/primary?candidate=n1&accepts=less" + std::string(lease))
              .body.starts_with(told));
  }
  CHECK(served.ask("GET", "/primary?candidate=n3&accepts=less").body ==
        R"({"Primary":"n1","bound":4000})");
  CHECK(served.ask("GET", "/primary?candidate=n1&lease=4001&accepts=more").status == 503);
  CHECK(served.ask("GET", "/primary?accepts=less").body == R"({"Primary":"n1"})");
  CHECK(served.ask("GET", "/primary?candidate=%00&lease=-9e99x").body == R"({"Primary":"n1"})");
  // A question that was meant for another node gets no name and no grant.
  CHECK(served.ask("GET", "/primary?voter=N2").body == R"({"Primary":"n1"})");
  CHECK(served.ask("GET", "/primary?voter=n3").body == R"({"state":"Unknown"})");
  CHECK(served.ask("GET", "/primary?candidate=n1&voter=N2").body == R"({"Primary":"n1"})");
  CHECK(served.ask("GET", "/primary?candidate=n1&voter=n3").body == R"({"state":"Unknown"})");
  nodes[0].active = false;
  world.look(make_facts(nodes, true));
  CHECK(served.ask("GET", "/primary").status == 503);
  CHECK(served.ask("GET", "/primary").body == R"({"state":"Unknown"})");
}

TEST_CASE("/leader, /read-write, /master, OPTIONS /primary: 200 on the Primary alone") {
  World world;
  const Served served(world);
  const auto check = [&](int status, const std::string& body) {
    const auto alike = [&](const std::string& method, const std::string& path) {
      CAPTURE(method);
      CAPTURE(path);
      const auto response = served.ask(method, path);
      CHECK(response.status == status);
      CHECK(response.body == (method == "HEAD" ? "" : body));
    };
    for (const char* path : {"/leader", "/read-write", "/master", "/master?lag=x"}) {
      for (const char* method : {"GET", "HEAD", "OPTIONS"}) alike(method, path);
    }
    for (const char* query : {"", "?candidate=n1", "?candidate=n1&handback=x", "?voter=n3"}) {
      alike("OPTIONS", std::string("/primary") + query);
    }
    // A load balancer that asks in HTTP/1.0, without a Host header.
    const std::string raw = served.raw("OPTIONS /primary HTTP/1.0\r\n\r\n");
    CHECK(raw.starts_with("HTTP/1.1 " + std::to_string(status) + " "));
    CHECK(raw.ends_with("\r\n\r\n" + body));
  };
  check(503, R"({"state":"Down"})");
  world.look(make_facts(make_site(3), true));
  check(503, R"({"state":"Standby"})");
  CHECK(served.ask("HEAD", "/primary").status == 200);
  world.look(make_facts(make_site(3)));
  check(503, R"({"state":"Unknown"})");
  world.names("n2", "n1");
  world.pass(1s);
  check(200, R"({"state":"Primary"})");
}

TEST_CASE("OPTIONS /primary grants no vote, and ends no promise") {
  World world(World::named("n2"));
  const Served served(world);
  auto nodes = make_site(3);
  world.look(make_facts(nodes, true));
  CHECK(served.ask("OPTIONS", "/primary?candidate=n1&accepts=less").status == 503);
  nodes[0].active = false;
  nodes[2].type = "primary";
  world.look(make_facts(nodes, true));
  const Json vote =
      Json::parse(served.ask("GET", "/primary?candidate=n3&accepts=less&token=").body);
  CHECK(vote["Primary"] == "n3");  // had n1 been promised anything, it would still be n1
  REQUIRE(vote.contains("token"));
  const std::string token = vote["token"];
  served.ask("OPTIONS", "/primary?candidate=n3&handback=" + token);
  nodes[0].active = true;
  nodes[2].type = "standby";
  world.look(make_facts(nodes, true));
  CHECK(Json::parse(served.ask("GET", "/primary?candidate=n1&accepts=less").body)["Primary"] ==
        "n3");
}

TEST_CASE("/realPrimary") {
  World world(World::named("n2"));
  const Served served(world);
  CHECK(served.ask("GET", "/realPrimary").status == 503);
  CHECK(served.ask("GET", "/realPrimary").body == R"({"realPrimary":null,"state":"Down"})");
  world.look(make_facts(make_site(3), true));
  CHECK(served.ask("GET", "/realPrimary").status == 503);
  CHECK(served.ask("GET", "/realPrimary").body == R"({"realPrimary":null,"state":"Unknown"})");
  world.states["n1"] = {200, R"({"state":"Primary"})", ""};
  world.pass(1s);
  CHECK(served.ask("GET", "/realPrimary").status == 200);
  CHECK(served.ask("GET", "/realPrimary").body == R"({"realPrimary":"n1"})");
  world.states["n3"] = {200, R"({"state":"Primary"})", ""};
  world.pass(1s);
  CHECK(served.ask("GET", "/realPrimary").status == 509);
  CHECK(served.ask("GET", "/realPrimary").body ==
        R"({"realPrimary":null,"claimants":["n1","n3"]})");
}

TEST_CASE("/primary and /realPrimary write a name as a host name, with the node's beside it") {
  World world(World::named("db_2"));
  const Served served(world);
  const auto body = [&](const std::string& path) { return served.ask("GET", path).body; };
  auto nodes = make_site(3);
  nodes[0].name = "DB_1";
  nodes[1].name = "db_2";
  nodes[2].name = "db-3";
  world.states["DB_1"] = {200, R"({"state":"Primary"})", ""};
  world.look(make_facts(nodes, true));
  world.pass(1s);
  CHECK(body("/primary") == R"({"Primary":"db-1","node":"DB_1"})");
  CHECK(body("/primary?voter=DB-2") == R"({"Primary":"db-1","node":"DB_1"})");
  CHECK(body("/realPrimary") == R"({"realPrimary":"db-1","node":"DB_1"})");
  // So in a vote, with all that a candidate needs.
  CHECK(body("/primary?candidate=db-1&accepts=less&lease=1")
            .starts_with(R"({"Primary":"db-1","node":"DB_1","lease":4000,"token":")"));
  CHECK(body("/primary?candidate=db-3").starts_with(R"({"Primary":"db-1","node":)"));
  world.states["db-3"] = world.states["DB_1"];
  world.pass(1s);
  CHECK(body("/realPrimary") == R"({"realPrimary":null,"claimants":["DB_1","db-3"]})");
  // Two whose names are equal are not told apart by it, but by `node`.
  nodes[2].name = "DB-1";
  world.look(make_facts(nodes, true));
  CHECK(body("/primary") == R"({"Primary":"db-1","node":"DB_1"})");
}

TEST_CASE("a candidate counts votes in any spelling, and shows the name that the voter has") {
  World world(World::named("DB_1"));
  auto nodes = make_site(3);
  nodes[0].name = "DB_1";
  world.primaries["n2"] = {200, R"({"Primary":"db-1"})", ""};
  world.primaries["n3"] = {200, R"({"Primary":"db-1","node":"DB_1","lease":4000})", ""};
  world.look(make_facts(nodes));
  CHECK(world.node.get_state() == State::primary);
  CHECK(votes_of(world.node).find("n2 names db-1, n3 names DB_1") != std::string::npos);
}

TEST_CASE("an answer is 1,024 bytes at most, whatever the nodes are called") {
  World world(World::named("n1"));
  auto nodes = make_site(100);
  nodes[0].name = "n1";
  for (auto& node : nodes) {
    if (node.id != 1) node.name = "claimant-with-quite-a-long-name-" + std::to_string(node.id);
    world.states[node.name] = {200, R"({"state":"Primary"})", ""};
  }
  world.look(make_facts(nodes, true));
  const Answer answer = get_reported_real_primary(world.node);
  CHECK(answer.status == 509);
  CHECK(answer.body.size() <= max_reply_size);
  CHECK(Json::parse(answer.body)["claimants"].size() > 10);

  World strange(World::named("n2"));
  nodes = make_site(2);
  nodes[0].name = std::string(2000, 'x');
  strange.look(make_facts(nodes, true));
  CHECK(get_reported_primary(strange.node, {}).status == 503);
  nodes[0].name = "\xff\"\\\n";
  strange.look(make_facts(nodes, true));
  CHECK(get_reported_primary(strange.node, {}).status == 200);
  CHECK(Json::accept(get_reported_primary(strange.node, {}).body));
}

TEST_CASE("/replica, /read-only, /readiness: who may be read from") {
  World world(World::named("n2"));
  const Served served(world);
  const auto status = [&](const std::string& path) { return served.ask("GET", path).status; };
  for (const char* path : {"/replica", "/read-only", "/readiness"}) {
    CAPTURE(path);
    CHECK(status(path) == 503);
  }
  world.look(standby_facts(1 << 20, 1 << 20, 1 << 20));
  CHECK(status("/replica") == 503);  // it has not heard of the primary's position yet
  world.primary_reports(1 << 20);
  world.pass(1s);
  CHECK(status("/replica") == 200);
  CHECK(status("/read-only") == 200);
  CHECK(status("/readiness?lag=0") == 200);
  world.now += 60s;
  world.primary_reports(17 << 20);
  world.look(standby_facts(17 << 20, 17 << 20, 1 << 20));
  CHECK(status("/replica?lag=16MB") == 200);
  world.now += 11s;
  world.look(standby_facts(18 << 20, 17 << 20, 1 << 20));
  const auto late = served.ask("GET", "/replica?lag=16MB");
  CHECK(late.status == 503);
  CHECK(Json::parse(late.body)["reason"] ==
        "it has 17825792 bytes of WAL to replay, more than 16777216");
  CHECK(Json::parse(late.body)["replayLagSeconds"] == 11);
  CHECK(status("/replica?lag=17MB&delay=11s") == 200);
  CHECK(status("/replica?delay=10s") == 503);
  CHECK(status("/replica") == 200);
  CHECK(status("/readiness?lag=16MB") == 503);
  CHECK(served.ask("OPTIONS", "/replica?lag=16MB").status == 503);

  for (const char* query :
       {"lag=", "lag=16", "delay=x", "lag=1&lag=2", "lagg=1MB", "lag=-1", "x"}) {
    CAPTURE(query);
    const auto refused = served.ask("GET", "/replica?" + std::string(query));
    const bool fine = std::string(query) == "lag=16";
    CHECK(refused.status == (fine ? 503 : 400));
    CHECK(Json::parse(refused.body).contains(fine ? "reason" : "error"));
  }
  CHECK(served.ask("GET", "/replica?lag=" + std::string(3000, 'x')).body.size() <= max_reply_size);

  // Nothing that is older than cache_ttl.
  world.now += 21s;
  CHECK(status("/replica") == 503);
  // A primary is no replica, and may be read from; without its votes it may not.
  World first;
  const Served primary(first);
  first.look(make_facts(make_site(3)));
  CHECK(primary.ask("GET", "/read-only").status == 503);
  first.names("n2", "n1");
  first.pass(1s);
  CHECK(primary.ask("GET", "/replica").status == 503);
  CHECK(primary.ask("GET", "/read-only?lag=1MB").status == 200);
}

TEST_CASE("a node that asks another by its name learns what its staleness rests on") {
  World world;
  const Served served(world);
  const auto state = [&](const std::string& query) {
    return served.ask("GET", "/state" + query).body;
  };
  Facts facts = make_facts(make_site(3));
  facts.replication.known = true;
  facts.replication.position = 0x16000000ABCD;
  facts.replication.timeline = 7;
  world.look(facts);
  // It has voted for itself, but is not Primary.
  const std::string list = R"("list":")" + digest({1, 2, 3}) + "\"";
  CHECK(state("?node=n1") ==
        R"({"state":"Unknown","unbound":null,)" + list + R"(,"timeline":7,"id":1})");
  world.names("n2", "n1");
  world.pass(1s);
  CHECK(state("?node=N1") == R"({"state":"Primary","unbound":null,)" + list +
                                 R"(,"position":"1600/ABCD","timeline":7,"id":1})");
  // To HAProxy it reports its state alone; to a node that means another, who it is besides.
  for (const char* query : {"", "?frob=n1"}) CHECK(state(query) == R"({"state":"Primary"})");
  for (const char* query : {"?node=n2", "?node="}) {
    CHECK(state(query) == R"({"state":"Primary","id":1})");
  }
  CHECK(served.ask("GET", "/?node=n1").body == R"({"state":"Primary"})");
  // A position that may be older than two looks is not reported.
  world.now += 1s;
  world.node.refresh();
  CHECK(state("?node=n1").find(R"("position":"1600/ABCD")") != std::string::npos);
  world.now += 1s;
  world.node.refresh();
  CHECK(state("?node=n1") == R"({"state":"Primary","unbound":null,)" + list +
                                 R"(,"position":null,"timeline":null,"id":1})");
  // Whoever is bound by no promise reports for how long it has not been.
  world.primaries.clear();
  world.look(make_facts(make_site(3), true));
  world.pass(2s);  // it hands its votes back
  world.pass(10s);
  const Json report = Json::parse(state("?node=n1"));
  CHECK(report["state"] == "Standby");
  CHECK(report["unbound"].is_number_integer());
  CHECK(report["unbound"] >= 10'000);
  CHECK(report["unbound"] < 12'000);
}

TEST_CASE("a node that is drained is not read from, unless it is Primary") {
  World world(World::named("n2"));
  const Served served(world);
  world.primary_reports(1 << 20);
  world.look(standby_facts(1 << 20, 1 << 20, 1 << 20));
  world.node.set_drain(Drain{"a new disk", "2026-01-31T12:00:00.000Z"});
  for (const char* path :
       {"/replica?lag=17MB", "/read-only", "/readiness", "/sync", "/async", "/read-only-sync"}) {
    const auto drained = served.ask("GET", path);
    CHECK(drained.status == 503);
    CHECK(Json::parse(drained.body)["reason"] ==
          "drained since 2026-01-31T12:00:00.000Z: a new disk");
  }
  CHECK(served.ask("GET", "/state").status == 202);
  world.node.set_drain(std::nullopt);
  CHECK(served.ask("GET", "/replica?lag=17MB").status == 200);
  CHECK(world.logged("drained") == 2);

  World first;
  const Served primary(first);
  first.names("n2", "n1");
  first.look(make_facts(make_site(3)));
  first.node.set_drain(Drain{"", "2026-01-31T12:00:00.000Z"});
  CHECK(primary.ask("GET", "/readiness").status == 200);
  CHECK(Json::parse(primary.ask("GET", "/node").body)["problems"].dump().find(
            "without effect while it is Primary") != std::string::npos);
}

TEST_CASE("/health and /liveness") {
  World world;
  const Served served(world);
  CHECK(served.ask("GET", "/health").status == 503);
  CHECK(served.ask("GET", "/liveness").status == 200);
  world.look(make_facts(make_site(3)));
  CHECK(served.ask("GET", "/health").status == 200);  // Unknown, but PostgreSQL answers
  CHECK(served.ask("GET", "/health").body == R"({"state":"Unknown"})");
  world.now += 21s;  // nobody refreshes
  CHECK(served.ask("GET", "/liveness").status == 503);
  CHECK(served.ask("GET", "/health").status == 503);
}

TEST_CASE("/node tells a candidate's votes, and a standby's lag") {
  World world;
  const Served served(world);
  const auto node = [&] {
    const auto response = served.ask("GET", "/node");
    CHECK(response.status == 200);
    return Json::parse(response.body);
  };
  CHECK(node()["state"] == "Down");
  CHECK(node()["site"].is_null());
  CHECK(node()["primary"].is_null());
  world.names("n2", "n1");
  world.look(make_facts(make_site(3)));
  world.now += 500ms;
  Json told = node();
  CHECK(told["name"] == "n1");
  CHECK(told["id"] == 1);
  CHECK(told["site"] == "default");
  CHECK(told["role"] == "primary");
  CHECK(told["state"] == "Primary");
  CHECK(told["stateSeconds"] == 0.5);
  CHECK(told["nodesAgeSeconds"] == 0.5);
  CHECK(told["nodesProblem"].is_null());
  CHECK(told["primary"] == "n1");
  CHECK(told["reason"] ==
        "a majority votes for it (2 of 3 votes, 2 needed: n1 (this node) names n1, "
        "n2 names n1, n3: connection refused)");
  CHECK(told["votes"]["counted"] == 2);
  CHECK(told["votes"]["needed"] == 2);
  CHECK(told["votes"]["of"] == 3);
  CHECK(told["votes"]["leaseSeconds"] == 2.46);
  CHECK(
      told["votes"]["voters"][1].dump() ==
      R"({"name":"n2","counts":true,"names":"n1","ageSeconds":0.5,"leaseSeconds":2.46,"error":null})");
  CHECK(told["votes"]["voters"][2]["error"] == "connection refused");
  CHECK(told["replication"].is_null());
  CHECK(told["version"] == PRIMGR_VERSION);
  CHECK(told["connections"]["most"] == 3);

  Facts facts = standby_facts(0x2000, 0x1800, 0x1000);
  facts.replication.standbys = {{"n9", "10.0.0.9", "streaming", "async", Lsn{0x800}, 20ms}};
  world.look(facts);
  told = node();
  CHECK(told["state"] == "Standby");
  CHECK(told["stateSeconds"] == 0);
  CHECK(told["votes"].is_null());
  CHECK(told["timeline"] == 3);
  CHECK(told["position"] == "0/1000");
  CHECK(told["replication"]["receiveLagBytes"] == 0x800);
  CHECK(told["replication"]["replayLagBytes"] == 0x1000);
  CHECK(
      told["standbys"].dump() ==
      R"([{"name":"n9","address":"10.0.0.9","state":"streaming","sync":"async","lagBytes":2048,"lagSeconds":0.02}])");
}

TEST_CASE("/node is limited in size, and lists voters with a problem first") {
  World world{World::named("n1"), {[] { return Grant{}; }, nullptr}, {}, known_site(100)};
  const Served served(world);
  for (int i = 2; i <= 99; ++i) world.names("n" + std::to_string(i), "n1");
  world.look(make_facts(make_site(100)));
  const auto response = served.ask("GET", "/node");
  CHECK(response.body.size() < max_node_size / 2);
  const Json told = Json::parse(response.body);
  CHECK(told["votes"]["counted"] == 99);
  CHECK(told["votes"]["voters"].size() == max_listed);
  CHECK(told["votes"]["voters"][0]["name"] == "n100");
}

TEST_CASE("/node is limited in size when two lists of voters count") {
  Voter_Lists lists = known_site(100);
  lists.held[0].pending = {{{2, 2}, 0}, false, known_site(99).held[0].current.members};
  World world{World::named("n1"), {[] { return Grant{}; }, nullptr}, {}, lists};
  const Served served(world);
  world.look(make_facts(make_site(100)));
  const auto response = served.ask("GET", "/node");
  CHECK(response.body.size() < max_node_size / 2);
  const Json told = Json::parse(response.body);
  CHECK(told["votes"]["before"].size() == 1);
  CHECK(told["votes"]["before"][0]["missing"].size() == max_listed);
  CHECK(told["problems"][0].get<std::string>().size() < max_node_size / 8);
}

TEST_CASE("/metrics tells the state, the votes, the peers and the requests") {
  World world;
  const Served served(world);
  world.names("n2", "n1");
  auto nodes = make_site(3);
  nodes[2].name = "n\"3\\\n\xff";
  world.look(make_facts(nodes));
  served.ask("GET", "/state");
  served.ask("GET", "/nope");
  const auto response = served.ask("GET", "/metrics");
  CHECK(response.status == 200);
  CHECK(response.get_header_value("Content-Type") == "text/plain; version=0.0.4; charset=utf-8");
  const auto has = [&](const std::string& line) {
    INFO(response.body);
    CHECK(response.body.find("\n" + line + "\n") != std::string::npos);
  };
  has(R"(primgr_state{state="Primary"} 1)");
  has(R"(primgr_state{state="Down"} 0)");
  has("primgr_votes 2");
  has("primgr_votes_needed 2");
  has("primgr_voters 3");
  has("primgr_vote_lease_seconds 2.96");
  has("primgr_claimants 1");
  has(R"(primgr_peer_requests_total{peer="n2",question="vote",result="ok"} 1)");
  has("primgr_peer_requests_total{peer=\"n\\\"3\\\\\\n\xef\xbf\xbd\",question=\"vote\",result="
      "\"failed\"} 1");
  has("primgr_refresh_seconds_count 1");
  has("primgr_database_errors_total 0");
  has(R"(primgr_http_requests_total{path="/state",code="200"} 1)");
  has(R"(primgr_http_requests_total{path="other",code="404"} 1)");
  CHECK(response.body.find("replay_lag") == std::string::npos);
  world.look(standby_facts(2000, 1500, 1000));
  const std::string standby = served.ask("GET", "/metrics").body;
  CHECK(standby.find("\nprimgr_replay_lag_bytes 1000\n") != std::string::npos);
  CHECK(standby.find("\nprimgr_receive_lag_bytes 500\n") != std::string::npos);
  CHECK(standby.find("\nprimgr_votes ") == std::string::npos);
}

TEST_CASE("/ is a page for a browser, and its status is that of /state") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  const auto ask = [&](const char* accept) {
    return served.ask("GET", "/", std::string("Accept: ") + accept + "\r\n");
  };
  for (const char* accept :
       {"*/*", "application/json", "application/json, text/html", "text/plain"}) {
    CAPTURE(accept);
    CHECK(ask(accept).body == R"({"state":"Standby"})");
  }
  const auto shown = ask("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
  CHECK(shown.status == 202);
  CHECK(shown.body == page);
  CHECK(shown.get_header_value("Content-Type") == "text/html; charset=utf-8");
  CHECK(shown.get_header_value("Vary") == "Accept");
  const std::string policy = shown.get_header_value("Content-Security-Policy");
  CHECK(policy.starts_with("default-src 'none'; style-src 'sha256-"));
  CHECK(policy.find("unsafe") == std::string::npos);
  CHECK(served.ask("HEAD", "/", "Accept: text/html\r\n").status == 202);
  // The policy knows the one style and the one script by their tags.
  for (const char* tag : {"<style", "<script"}) {
    CHECK(count(std::string(page), tag) == 1);
    CHECK(count(std::string(page), std::string(tag) + ">") == 1);
  }
  // Nothing is fetched from elsewhere.
  CHECK(page.find("src=") == page.npos);
  CHECK(page.find("@import") == page.npos);
  CHECK(page.find("innerHTML") == page.npos);
}

TEST_CASE("other methods are 405, other paths 404, both in JSON") {
  World world;
  const Served served(world);
  for (const char* method : {"POST", "PUT", "DELETE", "PATCH", "TRACE"}) {
    CAPTURE(method);
    const auto response = served.ask(method, "/state");
    CHECK(response.status == 405);
    CHECK(response.get_header_value("Allow") == "GET, HEAD, OPTIONS");
    CHECK(Json::accept(response.body));
  }
  CHECK(served.raw("FROB /state HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
  for (const char* path : {"/nope", "/state/", "/State", "//state", "/state%00", "/..", "*"}) {
    CAPTURE(path);
    const auto response = served.ask("GET", path);
    CHECK(response.status == 404);
    CHECK(Json::accept(response.body));
  }
  CHECK(served.ask("GET", "/state?x=y#z").status == 503);
}

TEST_SUITE_END();
