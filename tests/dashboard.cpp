#include "tests/dashboard.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <utility>

#include "base/file.hpp"
#include "base/json.hpp"
#include "tests/state_folder.hpp"
#include "tests/support.hpp"

using namespace primgr;

namespace {

// Metrics that the dashboard does not show, and why not.
const std::map<std::string, std::string> left_out{
    {"primgr_last_primary_began_seconds", "the panel of the states shows it; alerts compare it"},
    {"primgr_last_primary_ended_seconds", "likewise"}};

struct Query {
  std::string panel, expr, legend;
};

Json dashboard() {
  return Json::parse(read_file("deploy/grafana.json"));
}

std::vector<Query> queries() {
  std::vector<Query> all;
  const Json document = dashboard();
  for (const Json& panel : document["panels"]) {
    if (!panel.contains("targets")) continue;
    for (const Json& target : panel["targets"]) {
      all.push_back({panel["title"], target["expr"], target["legendFormat"]});
    }
  }
  REQUIRE(all.size() > 20);
  return all;
}

// Every match of an expression in a text, or of its first group.
std::vector<std::string> matches(const std::string& text, const char* expression) {
  const std::regex pattern(expression);
  std::vector<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) {
    found.push_back(at->str(at->size() - 1));
  }
  return found;
}

// With what Grafana puts in the place of its variables when all is selected.
std::string filled_in(std::string expr) {
  for (const auto& [name, value] : {std::pair("\\$job", "primgr"),
                                    {"\\$(cluster|instance|site)", ".*"},
                                    {"\\$__rate_interval", "1m"}}) {
    expr = std::regex_replace(expr, std::regex(name), value);
  }
  CAPTURE(expr);
  CHECK(expr.find('$') == expr.npos);
  return expr;
}

// A query of a promtool test, and what it is to find: values by their labels.
Json expecting(const std::string& expr, const std::vector<std::pair<std::string, int>>& samples) {
  Json expected = Json::array();
  for (const auto& [labels, value] : samples) {
    expected.push_back({{"labels", labels}, {"value", value}});
  }
  return {{"expr", expr}, {"eval_time", "3m"}, {"exp_samples", expected}};
}

// That it finds something.
Json finding(const std::string& expr) {
  return expecting("group(" + expr + ")", {{"{}", 1}});
}

// What Prometheus has of nodes that do not change. `more`: further labels of the targets.
Json series_of(const std::vector<Scrape>& scrapes, const std::string& more) {
  Json all = Json::array();
  for (const Scrape& scrape : scrapes) {
    const std::string target = "job=\"primgr\", instance=\"" + scrape.instance + "\"" + more + "}";
    all.push_back({{"series", "up{" + target}, {"values", "1x20"}});
    std::istringstream lines(scrape.metrics);
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("primgr_")) continue;
      const auto at = line.rfind(' ');
      std::string name = line.substr(0, at);
      if (name.ends_with('}')) {
        name.back() = ',';
      } else {
        name += '{';
      }
      all.push_back({{"series", name + target}, {"values", line.substr(at + 1) + "x20"}});
    }
  }
  REQUIRE(all.size() > 50);
  return all;
}

// promtool's words on these queries of those series. JSON is YAML.
Ran evaluate(const char* promtool, const Json& series, const Json& tests) {
  const State_Folder folder;
  std::ofstream(folder.path("test.yml")) << Json{
      {"evaluation_interval", "15s"},
      {"tests", {{{"interval", "15s"}, {"input_series", series}, {"promql_expr_test", tests}}}}};
  return shell(quoted(promtool) + " test rules " + folder.path("test.yml") + " 2>&1");
}

// Each label of a query's legend has a value in something that it finds.
Json legends(const Query& query) {
  Json tests = Json::array();
  for (const std::string& label : matches(query.legend, R"(\{\{([a-z]+)\}\})")) {
    tests.push_back(expecting("group by (has) (label_replace(" + filled_in(query.expr) +
                                  ", \"has\", \"" + label + "\", \"" + label + "\", \".+\"))",
                              {{"{has=\"" + label + "\"}", 1}}));
  }
  return tests;
}

// The query once for each name of a metric in it, with that misspelt.
Json misspelt(const Query& query) {
  Json tests = Json::array();
  const std::string expr = filled_in(query.expr), prefix = "primgr_";
  for (auto at = expr.find(prefix); at != expr.npos; at = expr.find(prefix, at + 1)) {
    std::string wrong = expr;
    wrong.insert(at + prefix.size(), "x");
    tests.push_back(finding(wrong));
  }
  return tests;
}

// What a panel shows of a cluster in which n1 is Down, n2 Primary by two of three votes, n3
// Standby, and n4 is not scraped.
Json known_values(const Query& query) {
  const std::string expr = filled_in(query.expr);
  if (query.panel == "State of each node") {
    return {
        expecting("count_values(\"is\", " + expr + ")",
                  {{"{is=\"1\"}", 1}, {"{is=\"2\"}", 1}, {"{is=\"4\"}", 1}, {"{is=\"5\"}", 1}})};
  }
  for (const auto& [panel, value] : {std::pair("Primaries", 1),
                                     {"Rivals", 0},
                                     {"Votes to spare", 0},
                                     {"Standbys not streaming", 0},
                                     {"Not scraped", 1}}) {
    if (query.panel == panel) return {expecting(expr, {{"{cluster=\"orders\"}", value}})};
  }
  return Json::array();
}

void append(Json& to, const Json& tests) {
  for (const Json& test : tests) to.push_back(test);
}

}  // namespace

void check_dashboard(const std::vector<Scrape>& scrapes) {
  const char* promtool = getenv("PROMTOOL");
  if (!promtool) {
    MESSAGE("deploy/grafana.json is not checked: `make check` says where promtool is in PROMTOOL");
    return;
  }
  Json found = Json::array(), shown = Json::array(), wrong = Json::array();
  for (const Query& query : queries()) {
    found.push_back(finding(filled_in(query.expr)));
    append(shown, legends(query));
    append(shown, known_values(query));
    append(wrong, misspelt(query));
  }
  const Json series = series_of(scrapes, ", cluster=\"orders\"");
  INFO(series.dump(1));
  // One cluster alone needs no such label.
  const Ran alone = evaluate(promtool, series_of(scrapes, ""), found);
  INFO(alone.output);
  CHECK(alone.status == 0);
  const Ran red = evaluate(promtool, series, wrong);
  INFO(red.output);
  CHECK(red.status != 0);
  CHECK(count(red.output, "got: nil") == wrong.size());
  append(shown, found);
  Json one_more = series;
  one_more.push_back({{"series", R"(up{job="primgr", cluster="orders", instance="n4:5999"})"},
                      {"values", "0x20"}});
  const Ran right = evaluate(promtool, one_more, shown);
  INFO(right.output);
  CHECK(right.status == 0);
}

TEST_SUITE_BEGIN("dashboard");

TEST_CASE("the dashboard shows each metric of doc/http.md, or it is said why not, and no other") {
  std::set<std::string> documented, summaries, used;
  for (const std::string& row : matches(read_file("doc/http.md"), "\n(\\| `primgr_[^\n]*)")) {
    const std::string name = matches(row, "`([a-z_]+)`")[0];
    documented.insert(name);
    if (row.find("| summary |") != row.npos) summaries.insert(name);
  }
  REQUIRE(documented.size() > 20);
  for (const Query& query : queries()) {
    CAPTURE(query.expr);
    for (std::string name : matches(query.expr, "primgr_[a-z_]+")) {
      for (const std::string& summary : summaries) {
        if (name == summary + "_sum" || name == summary + "_count") name = summary;
      }
      CHECK(documented.contains(name));
      CHECK_FALSE(left_out.contains(name));
      used.insert(name);
    }
    // Each is of the nodes that are selected.
    CHECK(matches(query.expr, R"((primgr_[a-z_]+|\bup)\b)").size() ==
          count(query.expr, R"(job=~"$job", cluster=~"$cluster", instance=~"$instance")"));
  }
  for (const std::string& name : documented) {
    CAPTURE(name);
    CHECK(used.contains(name) != left_out.contains(name));
  }
}

TEST_CASE("the dashboard can be imported: its own identifier, any data source, core panels only") {
  const Json document = dashboard();
  CHECK(document["uid"] == "primgr");
  CHECK(document["id"].is_null());  // else it would replace another one
  CHECK(document["schemaVersion"] >= 39);
  std::vector<std::string> variables;
  for (const Json& variable : document["templating"]["list"]) {
    variables.push_back(variable["name"]);
    const bool source = variable["name"] == "datasource";
    CHECK(variable["type"] == (source ? "datasource" : "query"));
    if (source) {
      CHECK(variable["query"] == "prometheus");
    } else {
      CHECK(variable["datasource"]["uid"] == "${datasource}");
      CHECK(variable["query"]["query"] == variable["definition"]);
      CHECK(
          variable["definition"].get<std::string>().starts_with("label_values(primgr_build_info"));
    }
  }
  CHECK(variables == std::vector<std::string>{"datasource", "job", "cluster", "site", "instance"});
  const std::set<std::string> core{"row",   "stat",    "timeseries", "state-timeline",
                                   "table", "bargauge"};
  std::set<int> ids;
  std::set<std::pair<int, int>> covered;  // of the grid
  for (const Json& panel : document["panels"]) {
    CAPTURE(panel["title"].dump());
    CHECK(ids.insert(panel["id"].get<int>()).second);
    CHECK(core.contains(panel["type"].get<std::string>()));
    CHECK_FALSE(panel["title"].get<std::string>().empty());
    const Json& at = panel["gridPos"];
    CHECK(at["x"].get<int>() + at["w"].get<int>() <= 24);
    for (int x = at["x"]; x < at["x"].get<int>() + at["w"].get<int>(); ++x) {
      for (int y = at["y"]; y < at["y"].get<int>() + at["h"].get<int>(); ++y) {
        CHECK(covered.emplace(x, y).second);
      }
    }
    if (panel["type"] == "row") continue;
    CHECK(panel["description"].get<std::string>().size() > 20);
    CHECK(panel["datasource"]["uid"] == "${datasource}");
    std::set<std::string> refs;
    for (const Json& target : panel["targets"]) {
      CHECK(target["datasource"]["uid"] == "${datasource}");
      CHECK(refs.insert(target["refId"].get<std::string>()).second);
      CHECK(target["instant"] != target["range"]);
    }
  }
}

TEST_SUITE_END();
