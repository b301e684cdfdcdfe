#include "daemon/api/outages.hpp"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "daemon/api/node_document.hpp"
#include "daemon/cli/status.hpp"
#include "daemon/state/drain_file.hpp"
#include "daemon/state/history_file.hpp"
#include "tests/support.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("history");

namespace {

Json change(double ago, const Json& from, const Json& to, double seconds,
            const Json& handover = nullptr) {
  return {{"at", "2026-01-31T12:00:00.000Z"},
          {"agoSeconds", ago},
          {"from", from},
          {"to", to},
          {"seconds", seconds},
          {"reason", "reason"},
          {"handoverSeconds", handover}};
}

Json node(const std::string& name, const Json& history) {
  return {{"name", name}, {"reachable", true}, {"history", history}};
}

// n1 was Primary until 100 s ago, n2 is since 97 s ago; both know of an hour.
const Json old_primary = {change(3600, nullptr, "Primary", 0),
                          change(100, "Primary", "Down", 3500)};
const Json standby = Json::array({change(3600, nullptr, "Standby", 0)});
Json new_primary(const Json& handover) {
  return {change(3600, nullptr, "Standby", 0), change(97, "Standby", "Primary", 3503, handover)};
}

std::string found(const Outage_Finder& finder) {
  std::string text;
  for (const Outage& outage : finder.find()) {
    text += std::to_string(outage.began) + "-" + std::to_string(outage.ended) + " " + outage.next +
            "\n";
  }
  return text;
}

}  // namespace

TEST_CASE("without a Primary: between two that all nodes tell of") {
  Outage_Finder finder;
  finder.add("n1", old_primary);
  CHECK(found(finder) == "");
  finder = {};
  finder.add("n1", node("n1", old_primary));
  finder.add("n2", node("n2", new_primary(nullptr)));
  finder.add("n3", node("n3", standby));
  CHECK(found(finder) == "100.000000-97.000000 n2\n");
}

TEST_CASE("without a Primary: what the new one knows of the handover counts more") {
  Outage_Finder finder;
  finder.add("n1", node("n1", old_primary));
  finder.add("n2", node("n2", new_primary(4.5)));
  CHECK(found(finder) == "101.500000-97.000000 n2\n");

  SUBCASE("also if the old one does not answer") {
    finder = {};
    finder.add_unreachable();
    finder.add("n2", node("n2", new_primary(4.5)));
    CHECK(found(finder) == "101.500000-97.000000 n2\n");
  }
}

TEST_CASE("without a Primary: what nobody knows is not told") {
  Outage_Finder finder;
  finder.add("n1", node("n1", old_primary));
  finder.add("n2", node("n2", new_primary(nullptr)));
  SUBCASE("a node does not answer: it may have been Primary") {
    finder.add_unreachable();
  }
  SUBCASE("a node is of an older version") {
    finder.add("n3", {{"name", "n3"}});
  }
  SUBCASE("a node remembers less") {
    finder.add("n3", node("n3", Json::array({change(50, nullptr, "Standby", 0)})));
  }
  SUBCASE("a node says what is no history") {
    finder.add("n3", node("n3", "x"));
  }
  CHECK(found(finder) == "");
}

TEST_CASE("without a Primary: until now, and not where two overlap") {
  Outage_Finder finder;
  finder.add("n1", node("n1", old_primary));
  CHECK(found(finder) == "100.000000-0.000000 \n");
  finder.add("n2", node("n2", {change(3600, nullptr, "Standby", 0),
                               change(120, "Standby", "Primary", 3480)}));
  CHECK(found(finder) == "");
}

TEST_CASE("without a Primary: a list that was cut still tells what its first change ended") {
  Outage_Finder finder;
  finder.add("n1", node("n1", Json::array({change(100, "Primary", "Down", 3500)})));
  CHECK(found(finder) == "100.000000-0.000000 \n");
}

TEST_CASE("without a Primary: hostile histories end nothing") {
  for (const Json& value : {Json(nullptr), Json(-1), Json(1e308), Json("x"), Json::array({1})}) {
    Outage_Finder finder;
    finder.add("n1",
               node("n1", {value,
                           change(10, "Primary", "Down", 5),
                           {{"agoSeconds", value}, {"to", "Primary"}, {"seconds", value}},
                           {{"agoSeconds", 5}, {"to", "Primary"}, {"handoverSeconds", value}}}));
    for (const Outage& outage : finder.find()) CHECK(outage.began >= outage.ended);
  }
}

TEST_CASE("a history is stored and read again; what is no history is said to be none") {
  History history;
  for (const auto& [from, to] :
       {std::pair<std::optional<State>, std::optional<State>>{std::nullopt, State::standby},
        {State::standby, State::primary},
        {State::primary, std::nullopt}}) {
    State_Change entry;
    entry.at = Wall_Time(1'700'000'000'123ms + history.size() * 1s);
    entry.from = from;
    entry.to = to;
    entry.reason = "it \"said\" so\n";
    entry.primary = "n2";
    entry.lasted = 1500ms;
    if (to == State::primary) entry.handover = 1100ms;
    add_change(history, entry);
  }
  const std::string text = print_history(history, "n1");
  std::string why;
  const auto again = parse_history(text, "N1", why);
  CHECK(why == "");
  REQUIRE(again);
  for (State_Change& entry : history) entry.reason = "it \"said\" so\\x0a";  // for terminals
  CHECK(*again == history);
  for (std::size_t size = 0; size + 2 < text.size(); ++size) {
    CHECK_FALSE(parse_history(text.substr(0, size), "n1", why));
    CHECK_FALSE(why.empty());
  }
  for (const char* change :
       {R"("at":-1)", R"("at":"x")", R"("at":1e300)", R"("at":1,"lasted":1e13)",
        R"("at":1,"lasted":1,"to":"Prime")", R"("at":1,"lasted":1,"from":7)",
        R"("at":1,"lasted":1,"handover":"x")"}) {
    CAPTURE(change);
    CHECK_FALSE(parse_history(std::string(R"({"version":"primgr 1","changes":[{)") + change + "}]}",
                              "n1", why));
  }
  CHECK_FALSE(parse_history(text, "n2", why));
  CHECK(why == "is of the node \"n1\", not of this one");
  CHECK_FALSE(parse_history(R"({"version":"primgr 2","changes":[]})", "n1", why));
  CHECK(why == "is of another version of primgr");
  CHECK_FALSE(parse_history(R"({"version":"primgr 1","node":7,"changes":[]})", "n1", why));
  // Of 1.0, which named no node.
  CHECK(parse_history(R"({"version":"primgr 1","changes":[]})", "n1", why));
}

TEST_CASE("what says that a node is drained is believed, also if it is damaged") {
  const Drain drain{"a new disk", "2026-01-31T12:00:00.000Z"};
  CHECK(parse_drain(print_drain(drain)) == drain);
  for (const std::string& text :
       {std::string(), std::string("x"), std::string("{}"), std::string(R"({"since":"now"})"),
        std::string(R"({"since":7,"reason":""})")}) {
    CHECK(parse_drain(text).reason == "its file cannot be read");
  }
  const Drain hostile = parse_drain(print_drain({std::string(5000, '\1'), drain.since}));
  CHECK(hostile.reason.size() <= max_reason);
}

TEST_CASE("/node tells as many changes as were asked for, and as have room") {
  History history;
  for (std::size_t i = 0; i < max_changes; ++i) {
    State_Change entry;
    entry.at = std::chrono::system_clock::now();
    entry.to = State::standby;
    entry.reason = std::to_string(i);
    add_change(history, entry);
  }
  CHECK(describe_history(history, 1000).size() == max_changes);
  CHECK(describe_history(history, 0).empty());
  const Json three = describe_history(history, 3);
  REQUIRE(three.size() == 3);
  CHECK(three[2]["reason"] == std::to_string(max_changes - 1));
  for (State_Change& entry : history) entry.reason = std::string(max_reason, '\1');
  CHECK(dump(describe_history(history, 1000)).size() < max_node_size / 2);
  CHECK(describe_history(history, 1000).size() > 10);
}

TEST_CASE("--history: in order of time, with what is missing") {
  Json cluster = {{"sites",
                   {{{"site", "default"},
                     {"nodes",
                      {node("n1", old_primary),
                       node("n2", new_primary(4.5)),
                       {{"name", "n3"}, {"reachable", false}}}},
                     {"withoutPrimary",
                      {{{"at", "2026-01-31T11:59:59.000Z"},
                        {"agoSeconds", 101.5},
                        {"seconds", 4.5},
                        {"next", "n2"}}}}}}}};
  const std::string text = print_changes(cluster, false);
  CAPTURE(text);
  const auto position = [&](const char* what) {
    const auto at = text.find(what);
    CHECK_MESSAGE(at != text.npos, what);
    return at;
  };
  CHECK(position("no Primary") < position("| Down "));
  CHECK(position("| Down ") <
        position("| Primary    | Standby | 58 min 23 s | reason; took over in 4.5 s"));
  CHECK(text.find("until n2 was Primary") != text.npos);
  CHECK(text.ends_with("\n\nn3: its changes are not known\n"));
  for (const Json& value : {Json(nullptr), Json(1e308), Json("x"), Json::array({1, nullptr})}) {
    cluster["sites"][0]["withoutPrimary"] = value;
    cluster["sites"][0]["nodes"][0]["history"] = value;
    CHECK(print_changes(cluster, true).find("58 min") != std::string::npos);
    CHECK_FALSE(print_changes(value, true).empty());
  }
}

TEST_SUITE_END();
