// doc/http.md against what is answered: endpoints both ways, and no field or metric that it lacks.

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "daemon/endpoints.hpp"
#include "daemon/file.hpp"
#include "daemon/output.hpp"
#include "tests/served.hpp"

namespace {

// The first cells of the rows of a section's tables; without a section: of "## Endpoints".
std::set<std::string> documented(const std::string& section) {
  std::istringstream lines(read_file("doc/http.md"));
  std::set<std::string> names;
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("## ")) inside = line == "## " + section;
    if (inside && line.starts_with("| `")) names.insert(line.substr(3, line.find('`', 3) - 3));
  }
  return names;
}

// Every path in a document: "votes.voters[].name".
void collect(const Json& json, const std::string& path, std::set<std::string>& into) {
  if (!path.empty()) into.insert(path);
  if (json.is_array()) {
    for (const Json& element : json) collect(element, path + "[]", into);
  } else if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      collect(value, path.empty() ? key : path + "." + key, into);
    }
  }
}

// A candidate with a vote that is missing, and a standby that others stream from.
std::vector<Facts> situations() {
  Facts standby = standby_facts(0x2000, 0x1800, 0x1000);
  standby.replication.attached = {{"n9", "10.0.0.9", "streaming", "async", Lsn{0x800}, 20ms}};
  return {Facts{}, make_facts(make_site(3)), standby};
}

}  // namespace

TEST_SUITE_BEGIN("reference");

TEST_CASE("doc/http.md has each endpoint, and no other") {
  std::set<std::string> paths;
  for (const auto path : Endpoints::paths()) paths.emplace(path);
  CHECK(documented("Endpoints") == paths);
}

TEST_CASE("doc/http.md has each field of /node, and each metric") {
  const std::set<std::string> fields = documented("`/node`"), metrics = documented("`/metrics`");
  CHECK(fields.size() > 20);
  CHECK(metrics.size() > 20);
  World world;
  const Served served(world);
  world.names("n2", "n1");
  for (const Facts& facts : situations()) {
    world.look(facts);
    std::set<std::string> told;
    collect(Json::parse(served.ask("GET", "/node").body), "", told);
    for (const std::string& field : told) {
      CAPTURE(field);
      CHECK(fields.contains(field));
    }
    std::istringstream lines(served.ask("GET", "/metrics").body);
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("# TYPE ")) continue;
      const std::string metric = line.substr(7, line.find(' ', 7) - 7);
      CAPTURE(metric);
      CHECK(metrics.contains(metric));
    }
  }
}

TEST_SUITE_END();
