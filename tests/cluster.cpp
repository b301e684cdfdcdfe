#include <doctest/doctest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/json.hpp"
#include "base/time.hpp"
#include "daemon/api/node_document.hpp"
#include "daemon/cli/status.hpp"
#include "tests/served.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("cluster");

namespace {

// n2 of a cluster in two sites (n4 is in "east"), and what the other nodes answer to /node.
struct Two_Sites {
  void look() {
    auto nodes = make_site(4);
    nodes[3].site = "east";
    world.look(make_facts(nodes, true));
  }
  // A new /cluster: an answer is kept for a moment, for those who ask meanwhile.
  Json cluster(int status) {
    Response response;
    const int before = asked;
    CHECK(eventually(10, [&] {
      response = served.ask("GET", "/cluster");
      return asked > before || status == 503;
    }));
    CHECK(response.status == status);
    return Json::parse(response.body);
  }
  void answers(const std::string& peer, std::string body) {
    replies[peer] = {200, std::move(body), "", {}};
  }

  World world{World::named("n2")};
  std::map<std::string, Http_Reply> replies;  // without one: refused
  std::atomic<int> asked = 0;
  const Served served{
      world, {}, [this](const Node& peer, const std::string& target, Time, const auto& done) {
        CHECK(target == "/node?history=100");
        ++asked;
        const auto found = replies.find(peer.name);
        done(found == replies.end() ? Http_Reply{0, {}, "refused", {}} : found->second);
      }};
};

}  // namespace

TEST_CASE("/cluster: every node, those that do not answer with the reason") {
  Two_Sites sites;
  Json told = sites.cluster(503);  // the node list was never read
  CHECK(told["realPrimary"].is_null());
  CHECK(told["sites"][0]["nodes"][0]["name"] == "n2");
  CHECK(told["sites"][0]["nodes"][0]["state"] == "Down");

  sites.look();
  sites.answers("n1", R"({"name":"N1","state":"Primary","id":77,"reachable":false})");
  sites.replies["n3"] = {404, "", "", {}};
  told = sites.cluster(200);
  CHECK(told["from"] == "n2");
  CHECK(told["realPrimary"] == "n1");
  CHECK_FALSE(told.contains("claimants"));
  REQUIRE(told["sites"].size() == 2);
  CHECK(told["sites"][1]["site"] == "east");
  const Json& site = told["sites"][0]["nodes"];
  REQUIRE(site.size() == 3);
  CHECK(
      site[0].dump() ==
      R"({"name":"n1","id":1,"site":"default","reachable":true,"state":"Primary","problems":["its primgr tells no problems: it is older than this one"]})");
  CHECK(site[1]["state"] == "Standby");
  CHECK(
      site[2].dump() ==
      R"({"name":"n3","id":3,"site":"default","reachable":false,"role":"standby","error":"HTTP status 404 to /node: another version?","problems":["unreachable: HTTP status 404 to /node: another version?"]})");
  CHECK(told["sites"][1]["nodes"][0]["error"] == "refused");

  // Two claimants.
  sites.answers("n4", R"({"name":"n4","state":"Primary"})");
  told = sites.cluster(200);
  CHECK(told["realPrimary"].is_null());
  CHECK(told["claimants"].dump() == R"(["n1","n4"])");

  // Down: from the node list as last read.
  Facts down;
  down.problem = "gone";
  sites.world.look(down);
  CHECK(sites.cluster(200)["sites"][0]["nodes"].size() == 3);
}

TEST_CASE("/cluster: untrusted answers of a node are an error of that node") {
  Two_Sites sites;
  sites.look();
  const auto error_of_n4 = [&](std::string body) {
    sites.answers("n4", std::move(body));
    const Json node = sites.cluster(200)["sites"][1]["nodes"][0];
    return node.value("error", Json()).is_string() ? node["error"].get<std::string>() : "";
  };
  CHECK(error_of_n4(R"({"name":"n1","state":"Primary"})") ==
        "another node answers at its address: n1");
  for (const std::string& body :
       {std::string("[]"), std::string("{}"), std::string(R"({"name":4})"),
        std::string(50'000, '['), std::string("{\"name\":\"n4\""), std::string("\xff")}) {
    CAPTURE(body.substr(0, 100));
    CHECK(error_of_n4(body) == "its answer to /node is none");
  }
  CHECK(error_of_n4(R"({"name":"n4","state":5,"votes":[[[[[[[[1]]]]]]]]})").empty());
  std::string deep = R"({"name":"n4","x":)";
  for (int i = 0; i < 10'000; ++i) deep += R"({"a":)";
  deep += "1" + std::string(10'001, '}');
  CHECK(error_of_n4(deep).empty());
}

TEST_CASE("/cluster: however many ask, the peers are asked once") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(2), true));
  std::mutex mutex;
  std::vector<std::function<void(Http_Reply)>> held;
  Config config;
  config.node.peer_timeout = 20s;
  const Served served(
      world, config,
      [&](const Node&, const std::string&, Time, std::function<void(Http_Reply)> done) {
        const std::lock_guard lock(mutex);
        held.push_back(std::move(done));
      });
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0;
  constexpr int all = 12;  // what one address may have at a time
  for (int i = 0; i < all; ++i) {
    clients.emplace_back([&] {
      const auto response = served.ask("GET", "/cluster");
      if (response.body.find("\"realPrimary\":\"n1\"") != std::string::npos) ++answered;
    });
  }
  CHECK(eventually(10, [&] {
    const std::lock_guard lock(mutex);
    return !held.empty();
  }));
  CHECK(served.ask("GET", "/state").status == 202);  // does not wait for the peers
  {
    const std::lock_guard lock(mutex);
    CHECK(held.size() == 1);
    held[0]({200, R"({"name":"n1","state":"Primary"})", "", {}});
    held.clear();
  }
  // Those who came too late for that answer, if any, start another.
  CHECK(eventually(20, [&] {
    const std::lock_guard lock(mutex);
    for (auto& done : std::exchange(held, {}))
      done({200, R"({"name":"n1","state":"Primary"})", "", {}});
    return answered == all;
  }));
  for (auto& client : clients) client.join();
}

TEST_CASE("--status: a table, and each problem in words") {
  const Json cluster = Json::parse(R"json({"from":"n2","at":"now","realPrimary":"n1","sites":[
    {"site":"default","nodes":[
      {"name":"n1","role":"primary","reachable":true,"state":"Primary","stateSeconds":61,
       "reason":"a majority votes for it (why)","votes":{"counted":2,"of":3},"timeline":2,
       "position":"0/3","problems":["a vote is missing: n3: refused","a second one"]},
      {"name":"n2","role":"standby","reachable":true,"state":"Standby","stateSeconds":1,
       "replication":{"streaming":true,"replayLagBytes":20480,"replayLagSeconds":1.5},
       "problems":[1,null,"replay is paused"]},
      {"name":"n\u001b[31m3","role":"standby","reachable":false,"problems":["unreachable: refused"]},
      {"name":"n4","reachable":true,"state":"Standby","problems":"no receiver"}]}]})json");
  const std::string text = print_status(cluster, false);
  INFO(text);
  CHECK(text.find(
            " default | n1         | primary | Primary     | 1 min 1 s | 2 of 3 | 2        | 0/3 "
            "     |\n") != std::string::npos);
  CHECK(text.find("20 kB, 1.5 s\n") != std::string::npos);
  CHECK(text.find("\nn1: a vote is missing: n3: refused\nn1: a second one\n") != std::string::npos);
  CHECK(text.find("\nn2: replay is paused\n") != std::string::npos);
  CHECK(text.find("\nn\\x1b[31m3: unreachable: refused\n") != std::string::npos);
  CHECK(text.find("no receiver") == std::string::npos);  // no list
  CHECK(text.ends_with("\nPrimary: n1 (seen from n2 at now)\n"));
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(print_status(cluster, true).find("\x1b[1;32mPrimary\x1b[0m") != std::string::npos);
  // Answers of other nodes are untrusted.
  for (
      const char* hostile :
      {"null", "[]", "{}", R"({"sites":[1,{},{"nodes":3},{"nodes":[1,null,{"name":{}}]}]})",
       R"({"sites":[{"site":1,"nodes":[{"reachable":true,"state":[],"votes":{"counted":"x","of":1e300},)"
       R"("stateSeconds":1e308,"timeline":-1e300,"replication":[]}]}],"claimants":[1,"a"]})"}) {
    CAPTURE(hostile);
    CHECK_FALSE(print_status(Json::parse(hostile), true).empty());
  }
}

TEST_SUITE_END();
