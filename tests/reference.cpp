// doc/http.md against what is answered, both ways: what it lists is answered, and what is answered
// it lists, with its type, and null or absent only where it says so. The man page against it, too.

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/json.hpp"
#include "base/size.hpp"
#include "base/text.hpp"
#include "base/time.hpp"
#include "daemon/api/endpoints.hpp"
#include "daemon/cli/options.hpp"
#include "tests/certificates.hpp"
#include "tests/served.hpp"

namespace {

// A row of a table: its cells, those in `code` without the quotes.
using Row = std::vector<std::string>;

std::vector<Row> rows(const std::string& section) {
  std::istringstream lines(read_file("doc/http.md"));
  std::vector<Row> found;
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("## ")) inside = line == "## " + section;
    if (!inside || !line.starts_with("| `")) continue;
    Row row;
    std::istringstream cells(line.substr(2));
    for (std::string cell; std::getline(cells, cell, '|');) {
      const std::string text(trimmed(cell));
      row.push_back(row.empty() ? text.substr(1, text.size() - 2) : text);
    }
    found.push_back(row);
  }
  REQUIRE_FALSE(found.empty());
  return found;
}

std::set<std::string> names(const std::string& section) {
  std::set<std::string> found;
  for (const Row& row : rows(section)) found.insert(row.at(0));
  return found;
}

// The fields of an endpoint's body as documented, and what was seen of them.
class Fields {
 public:
  explicit Fields(const std::string& section) : section_(section) { add(section, ""); }

  // All of a body is documented, and all that is always there is there.
  void check(const Json& body) {
    CAPTURE(section_);
    CAPTURE(body.dump());
    here_.clear();
    walk(body, "");
    for (const auto& [name, field] : fields_) {
      const std::string which(name);
      CAPTURE(which);
      CHECK((field.may_be_absent || here_.contains(name)));
    }
  }
  // Every documented field was there, with a value, and without where it may be null.
  void check_complete() const {
    CAPTURE(section_);
    for (const auto& [name, field] : fields_) {
      const std::string which(name);
      CAPTURE(which);
      CHECK(field.seen);
      CHECK((field.seen_null || !field.may_be_null));
    }
  }

 private:
  struct Field {
    std::string type;
    bool may_be_null, may_be_absent, seen, seen_null;
  };

  // In a table, "x.*" stands for the fields of /node.
  void add(const std::string& section, const std::string& below) {
    for (const Row& row : rows(section)) {
      if (row.at(0).ends_with(".*")) {
        add("`/node`", row[0].substr(0, row[0].size() - 1));
      } else {
        fields_.try_emplace(
            below + row[0],
            Field{row.at(1), row.at(3) != "no", !below.empty() || row.at(4) != "no", false, false});
      }
    }
  }
  void walk(const Json& value, const std::string& path) {
    if (!path.empty()) note(value, path);
    if (value.is_array()) {
      for (const Json& element : value) walk(element, path + "[]");
    } else if (value.is_object()) {
      for (const auto& [key, inner] : value.items()) {
        walk(inner, path.empty() ? key : path + "." + key);
      }
    }
  }
  void note(const Json& value, const std::string& path) {
    here_.insert(path);
    const auto found = fields_.find(path);
    CAPTURE(path);
    CHECK(found != fields_.end());
    if (found == fields_.end()) return;
    Field& field = found->second;
    CAPTURE(field.type);
    if (value.is_null()) {
      field.seen_null = true;
      CHECK(field.may_be_null);
    } else {
      field.seen = true;
      CHECK(has_type(value, field.type));
    }
  }
  static bool has_type(const Json& value, const std::string& type) {
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    return type == value.type_name();
  }

  std::string section_;
  std::map<std::string, Field> fields_;
  std::set<std::string> here_;
};

// What n1 held before it started: a pending list that another node has made besides.
Voter_Lists held_lists() {
  Voter_Lists held = known_site(3);
  held.addresses[2] = {"n2", "db2", "10.0.0.2"};
  held.held[0].pending = {{{2, 3}, 0}, false, {1, 2, 3}};
  return held;
}
std::string held_number() {
  return "1.0." + std::to_string(held_lists().held[0].current.number.count);
}

// A node n1 in every situation that changes what is answered. Its peers' answers to /node are in
// `documents`; who is not there cannot be reached.
struct Situations {
  Situations() {
    config.node.max_connections_in_pool = 3;
    world.names("n2", "n1");
  }
  // At most `max_waiting` requests may wait. Each time it is asked anew: /cluster remembers.
  std::string ask(const std::string& path, const Params& params = {}, std::size_t max_waiting = 1) {
    Endpoints endpoints({.peer_timeout = config.node.peer_timeout,
                         .max_connections = config.node.max_connections_in_pool,
                         .state_directory = config.state_directory,
                         .max_waiting = max_waiting},
                        world.node, tls, peers);
    endpoints.count(path, 200);
    return endpoints.answer({"GET", path, params, "127.0.0.1", false}).body;
  }
  // Calls back in each situation.
  void each(const std::function<void()>& call) {
    call();  // nothing was ever read
    config.state_directory = "/nowhere";
    documents["n2"] = ask("/node");  // of a node that is not n2
    for (const Facts& facts : all_facts()) {
      world.look(facts, facts.blocked.empty() ? 0s : 7s);
      world.pass(1s);
      documents["n3"] = as("n3", "Standby");
      call();
    }
    world.states["n3"] = {200, R"({"state":"Primary"})", ""};
    world.look(make_facts(make_site(3)));
    world.pass(1s);
    documents["n3"] = as("n3", "Primary");
    call();  // two that claim to be Primary
    hand_over();
    call();
    for (const char* reason : {"", "a new disk"}) {
      world.node.set_drain(Drain{reason, "2026-01-31T12:00:00.000Z"});
      call();
    }
    world.node.set_drain(std::nullopt);
    unregister();
    call();
    world.states.erase("n2");
    world.now += 1ms;  // what it answered before is no sign of life
    world.node.declare_lost({{"n2"}, "2026-01-31T12:00:00.000Z"});
    call();
    for (int i = 0; i < 2; ++i) world.pass(1s);
    call();
  }

  const Certificates certificates;
  Config config = certificates.config("node");
  Stderr_Log log{Log_Level::none};
  Tls tls{config.tls, log};
  static Node_Settings settings() {
    Node_Settings settings = World::named("n1");
    settings.instance = "any";
    return settings;
  }
  World world{settings(), {[] { return Grant{}; }, nullptr}, earlier_run(), held_lists()};
  std::map<std::string, std::string> documents;
  Http_Get peers = [this](const Node& peer, const std::string&, Time,
                          std::function<void(Http_Reply)> done) {
    const auto found = documents.find(peer.name);
    done(found == documents.end() ? Http_Reply{0, {}, "refused", {}}
                                  : Http_Reply{200, found->second, "", {}});
  };

 private:
  static History earlier_run() {
    History history;
    State_Change start;
    start.at = std::chrono::system_clock::now() - 2h;
    start.to = State::standby;
    add_change(history, start);
    end_run(history, start.at + 1min, "primgr was ended");
    return history;
  }
  // n1 alone unregisters the others, which do not answer it.
  void unregister() {
    for (const char* peer : {"n2", "n3"}) world.primaries[peer] = {0, "", "timed out", {}};
    world.pass(10s);
    world.look(make_facts(make_site(1)));
  }
  // n1 is Primary once more, after n2; then it votes for n2 again.
  void hand_over() {
    world.look(make_facts(make_site(3), true));
    world.pass(5s);
    world.primaries["n2"] = {
        200, R"({"Primary":"n1","lease":4000,"before":"n2","since":1,"handedBack":true})", ""};
    world.look(make_facts(make_site(3)));
    world.pass(5s);
    auto nodes = make_site(3);
    nodes[0].type = "standby";
    nodes[1].type = "primary";
    world.states["n2"] = {
        200, R"({"state":"Primary","unbound":null,"position":"0/100","timeline":3})", ""};
    Facts standby = standby_facts(0x2000, 0x1800, 0x1000);
    standby.nodes = nodes;
    world.look(standby);
    world.standbys["n2"] = {200, R"({"sync":"async","ageSeconds":0.5})", ""};
    world.node.get_synchrony();  // so that it asks n2
    world.pass(5s);
  }
  // This node's own answer to /node, as that of another.
  std::string as(const std::string& name, const std::string& state) {
    Json document = Json::parse(ask("/node"));
    document["name"] = name;
    document["state"] = state;
    return document.dump();
  }
  static std::vector<Facts> all_facts() {
    Facts primary = make_facts(make_site(3));
    primary.replication.known = true;
    primary.replication.position = 0x1000;
    primary.replication.timeline = 3;
    primary.replication.standbys = {{"n2", "10.0.0.2", "streaming", "async", Lsn{0x800}, 20ms},
                                    {"n3", "", "", "", std::nullopt, std::nullopt}};
    Facts old_list = primary;
    old_list.blocked = "the last list is 7 s old: a lock";
    Facts cut_off = make_facts(make_site(3), true);
    cut_off.replication.known = true;
    Facts unlisted = make_facts({make_node(2, "n2", "primary")});
    Facts standby = standby_facts(0x2000, 0x1800, 0x1000);
    standby.replication.since_commit = 2s;
    Facts in_capitals = make_facts(make_site(3));
    in_capitals.nodes[0].name = "N1";
    Facts of_a_cluster = primary;
    of_a_cluster.system = 7;
    return {standby, cut_off, unlisted, in_capitals, old_list, primary, of_a_cluster};
  }
};

// The question of a candidate that has the lists that the voter held first, or older ones.
Params vote_params(const std::string& current, const std::string& timeline = "3") {
  return {{"candidate", "n1"},  {"accepts", "less"},  {"id", "1"},         {"round", "9"},
          {"current", current}, {"pending", "2.3.0"}, {"site", "default"}, {"timeline", timeline}};
}

// The headings of a section of the man page, each of which names one thing or several.
std::set<std::string> man_page(const std::string& section, const std::regex& name) {
  std::istringstream lines(read_file("deploy/primgr.8"));
  std::set<std::string> found;
  bool inside = false, heading = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(".SH ")) inside = line == ".SH " + section;
    if (inside && heading) {
      line = std::regex_replace(line, std::regex(R"(\\)"), "");
      for (std::sregex_iterator at(line.begin(), line.end(), name), end; at != end; ++at) {
        found.insert(at->str(1));
      }
    }
    heading = line == ".TP";
  }
  return found;
}

}  // namespace

TEST_SUITE_BEGIN("reference");

TEST_CASE("doc/http.md has each endpoint, and no other; so has the man page") {
  std::set<std::string> paths;
  for (const auto path : Endpoints::paths()) paths.emplace(path);
  CHECK(names("Endpoints") == paths);
  CHECK(man_page("HTTP ENDPOINTS", std::regex("(/[A-Za-z-]*)")) == paths);
}

TEST_CASE("doc/http.md has each field of each endpoint, with its type, and when it is null") {
  Situations situations;
  std::set<std::string> paths = names("Endpoints");
  paths.erase("/metrics");
  std::map<std::string, Fields> fields;
  for (const std::string& path : paths) fields.emplace(path, Fields("`" + path + "`"));
  situations.each([&] {
    for (auto& [path, documented] : fields) {
      documented.check(Json::parse(situations.ask(path)));
      documented.check(Json::parse(situations.ask(path, {{"lag", "x"}})));
      documented.check(Json::parse(situations.ask(path, {{"name", "n2"}})));
      documented.check(Json::parse(situations.ask(path, {{"node", "n1"}})));
      documented.check(Json::parse(situations.ask(path, {{"node", "n1"}, {"site", "default"}})));
      documented.check(Json::parse(situations.ask(path, vote_params(held_number()))));
      documented.check(Json::parse(situations.ask(path, vote_params("1.0.0"))));
      documented.check(Json::parse(situations.ask(path, vote_params(held_number(), "2"))));
      documented.check(
          Json::parse(situations.ask(path, {{"candidate", "n1"}, {"accepts", "less"}})));
      // While the vote is promised to n1, if it is.
      documented.check(
          Json::parse(situations.ask(path, {{"candidate", "n2"}, {"accepts", "less"}})));
    }
  });
  fields.at("/cluster").check(Json::parse(situations.ask("/cluster", {}, 0)));
  Voter_Lists lost = held_lists();
  lost.held[0].mute = true;
  World voter{World::named("n2"), {[] { return Grant{}; }, nullptr}, {}, lost};
  const Params question = {{"node", "n2"}, {"site", "default"}};
  fields.at("/lists").check(Json::parse(get_lists(voter.node, question).body));
  for (const auto& [path, documented] : fields) documented.check_complete();
}

TEST_CASE("doc/http.md has the body of what is refused") {
  World world;
  const Served served(world);
  Fields errors("Errors");
  errors.check(Json::parse(served.ask("GET", "/nowhere").body));
  errors.check(Json::parse(served.ask("POST", "/state").body));
  errors.check_complete();
}

TEST_CASE("doc/http.md has each metric, with its type and labels") {
  std::map<std::string, Row> documented;
  for (const Row& row : rows("`/metrics`")) documented[row.at(0)] = row;
  Situations situations;
  std::set<std::string> seen;
  situations.each([&] {
    std::istringstream lines(situations.ask("/metrics"));
    std::set<std::string> here;
    std::string family;
    for (std::string line; std::getline(lines, line);) {
      CAPTURE(line);
      std::smatch part;
      if (std::regex_match(line, part, std::regex("# TYPE (\\S+) (\\S+)"))) {
        family = part[1];
        REQUIRE(documented.contains(family));
        CHECK(documented[family].at(1) == part[2]);
      } else if (!line.starts_with("#")) {
        CHECK(line.starts_with(family));
        here.insert(family);
        std::string labels;
        const std::regex label("[{,]([a-z]+)=");
        for (std::sregex_iterator at(line.begin(), line.end(), label), end; at != end; ++at) {
          labels += (labels.empty() ? "`" : ", `") + at->str(1) + "`";
        }
        CHECK(documented[family].at(2) == labels);
      }
    }
    for (const auto& [name, row] : documented) {
      const std::string which(name);
      CAPTURE(which);
      CHECK((row.at(4) != "no" || here.contains(name)));
    }
    seen.merge(here);
  });
  for (const auto& [name, row] : documented) {
    const std::string which(name);
    CAPTURE(which);
    CHECK(seen.contains(name));
  }
}

TEST_CASE("the man page has each option of --help, and no other; so has the completion") {
  const std::regex option("(--[a-z-]+)");
  std::set<std::string> told;
  const std::string text = usage;
  for (std::sregex_iterator at(text.begin(), text.end(), option), end; at != end; ++at) {
    told.insert(at->str(1));
  }
  CHECK(told.size() > 10);
  CHECK(man_page("OPTIONS", option) == told);
  const std::string completion = read_file("deploy/primgr.bash");
  for (const std::string& name : told) {
    CAPTURE(name);
    CHECK(completion.find(name) != std::string::npos);
  }
}

TEST_SUITE_END();
