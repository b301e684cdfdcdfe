// The search over step() (prove/core_search.hpp): that its hosts do what Repmgr_Node does, that
// hosts which it takes for equal go on alike, and a part of it that takes a minute at most.

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "daemon/api/endpoints.hpp"
#include "node/peers/lists_text.hpp"
#include "prove/core_host.hpp"
#include "prove/core_search.hpp"
#include "tests/world.hpp"

using namespace primgr::prove;

namespace {

constexpr int nodes = 3;

Core_Settings core_settings(int k) {
  Core_Settings settings;
  settings.node_name = Host::name(k);
  settings.vote_lease = 2s;
  settings.check_delay = 500ms;
  return settings;
}

// Three nodes as hosts of the search, and as Repmgr_Nodes, to which the same happens.
class Twins {
 public:
  Twins() {
    settings_.any_database = false;
    settings_.lists = settings_.reads = true;
    for (int k = 0; k < nodes; ++k) {
      hosts_.emplace_back(settings_, core_settings(k), lists::first_list({1, 2, 3}), k != 1,
                          Database_State{true, true, 1, 7, 1, 1});
      real_.emplace_back();
      if (k != 1) real_.back().kept = Grant{};
      real_.back().lists = hosts_.back().lists;
      start(k);
    }
  }

  void turn(int k, int lost) {
    lost_ = lost;
    const auto deliver = [&] {
      for (const Sent& sent : hosts_[at(k)].take_questions()) {
        Http_Reply reply;
        if (!(lost >> sent.to & 1)) {
          reply = hosts_[at(sent.to)].serve(sent.target, fresh(), Store::works);
        }
        hosts_[at(k)].take(sent.kind, sent.to, true, reply);
      }
    };
    hosts_[at(k)].begin_turn(fresh(), Store::works);
    deliver();
    hosts_[at(k)].ask_others();
    deliver();
    hosts_[at(k)].decide(Store::works);
    deliver();
    learn(k);
    real_[at(k)].node->refresh();
  }
  void look(int k, const Database_State& says) {
    hosts_[at(k)].look(says);
    learn(k);
  }
  void restart(int k) {
    hosts_[at(k)].restart();
    start(k);
  }
  void pass() {
    for (Host& host : hosts_) host.pass(1s);
    now_ += 1s;
  }
  const Database_State& database(int k) const { return hosts_[at(k)].database; }

  std::string hosts() const {
    std::string text;
    for (const Host& host : hosts_) {
      text += to_string(host.core.state_at(host.now, {}));
      text += describe(host.core.state_report(host.now, {}), host.core.served_lists({"s"}));
    }
    return text;
  }
  std::string real() const {
    std::string text;
    for (const Real& real : real_) {
      text += to_string(real.node->get_state());
      const auto lists = real.node->get_lists({"s"});
      text += describe(real.node->get_state_report(),
                       lists ? std::optional(lists->first) : std::nullopt);
    }
    return text;
  }
  int primaries = 0;

 private:
  struct Real {
    std::unique_ptr<Repmgr_Node> node;
    std::optional<Grant> kept;
    Voter_Lists lists;
  };
  static std::size_t at(int k) { return static_cast<std::size_t>(k); }
  static std::string describe(const State_Report& report,
                              const std::optional<lists::Served>& served) {
    return state_reply(report).body + (served ? print_lists(*served, {}) : "none") + "\n";
  }
  std::string fresh() { return "token" + std::to_string(++tokens_); }

  void learn(int k) {
    Facts facts = hosts_[at(k)].core.facts;
    real_[at(k)].node->learn(std::move(facts));
  }

  void start(int k) {
    Real& real = real_[at(k)];
    Node_Settings settings;
    static_cast<Core_Settings&>(settings) = core_settings(k);
    Grant_Store store;
    if (k != 1) {
      store.load = [&real] { return real.kept; };
      store.save = [&real](const Grant& grant, Deadline) { return *(real.kept = grant); };
    } else if (!real.node) {
      store.load = [] { return Grant{}; };
    }
    real.node.reset();
    Node_Environment environment;
    environment.http_get = [this](const Node& peer, const std::string& target, Time,
                                  std::function<void(Http_Reply)> done) {
      const int to = peer.id - 1;
      if (lost_ >> to & 1) return done({0, {}, "lost"});
      Repmgr_Node& asked = *real_[at(to)].node;
      const Params params = parameters(target);
      const Answer said = target.starts_with("/state")   ? get_reported_state(asked, params)
                          : target.starts_with("/lists") ? get_lists(asked, params)
                                                         : get_reported_primary(asked, params);
      done({said.status, said.body, "", now_});
    };
    environment.clock = [this] { return now_; };
    environment.log = [](Log_Level, const std::string&) {};
    environment.grants = std::move(store);
    environment.voters = real.lists;
    environment.store_voters = [&real](const Voter_Lists& lists, Deadline) {
      real.lists = lists;
      return true;
    };
    real.node = std::make_unique<Repmgr_Node>(std::move(settings), std::move(environment));
    learn(k);
    if (!database(k).in_recovery) return;
    lost_ = 7;
    real.node->refresh();
  }

  Host_Settings settings_;
  std::vector<Host> hosts_;
  std::deque<Real> real_;
  Time now_ = 100'000s;  // as a Host begins
  int lost_ = 0;
  unsigned tokens_ = 0;
};

std::string search(const Core_Scope& scope, Left_Out left_out, bool& exhausted) {
  Core_Search search(scope, left_out);
  search.memory.compare_each = 20;
  const bool good = search.run(1e9);
  exhausted = search.exhausted;
  CHECK(search.memory.different == 0);
  CHECK((good || !search.trace.empty()));
  MESSAGE(std::string(scope.name), ": ", good ? std::string("no violation") : search.result, ", ",
          search.states(), " states of ", search.memory.hosts(), " hosts");
  return search.result;
}

const Core_Scope& scope_named(std::string_view name) {
  const auto& all = core_scopes();
  return *std::find_if(all.begin(), all.end(),
                       [&](const auto& scope) { return scope.name == name; });
}

}  // namespace

TEST_SUITE_BEGIN("prove");

TEST_CASE("the hosts of the search do what Repmgr_Node does") {
  int primaries = 0;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    std::mt19937 random(seed);
    Twins twins;
    for (int i = 0; i < 60; ++i) {
      const int k = static_cast<int>(random() % nodes);
      switch (random() % 8) {
        case 0: {
          Database_State says = twins.database(k);
          const int of = static_cast<int>(random() % nodes);
          says.names = of + 1;
          says.in_recovery = of != k;
          if (random() % 3 == 0) says.rows = static_cast<std::uint8_t>(1 << k | random() % 8);
          twins.look(k, says);
          break;
        }
        case 1:
          if (random() % 4 == 0) twins.restart(k);
          break;
        case 2:
          twins.pass();
          break;
        default:
          twins.turn(k, random() % 2 ? 0 : static_cast<int>(random() % 8));
      }
      const std::string hosts = twins.hosts();
      CAPTURE(seed);
      CAPTURE(i);
      REQUIRE(hosts == twins.real());
      primaries += hosts.find("\"Primary\"") != hosts.npos;
    }
  }
  CHECK(primaries > 300);  // or it shows nothing
}

TEST_CASE("the search over step() exhausts small scopes, and finds what is left out") {
  bool exhausted = false;
  Core_Scope takeover = scope_named("takeover");
  takeover.units = 2;
  CHECK(search(takeover, Left_Out::nothing, exhausted).empty());
  CHECK(exhausted);
  CHECK(search(scope_named("forged"), Left_Out::nothing, exhausted).empty());
  CHECK(exhausted);
  CHECK(search(scope_named("takeover"), Left_Out::check_delay, exhausted) != "");
}

TEST_CASE(
    "each rule is needed: without it the search over step() finds a violation; with all, none") {
  bool exhausted = false;
  for (const char* name : {"takeover", "restart", "leases", "rates", "list", "list-old"}) {
    CAPTURE(std::string(name));
    CHECK(search(scope_named(name), Left_Out::nothing, exhausted).empty());
    CHECK(exhausted);
  }
  CHECK(core_rules().size() >= 20);
  for (const Core_Rule& rule : core_rules()) {
    CAPTURE(std::string(rule.name));
    CHECK(search(scope_named(rule.scope), rule.left_out, exhausted) != "");
  }
}

TEST_SUITE_END();
