// The page in a browser.

#include <doctest/doctest.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "base/json.hpp"
#include "base/time.hpp"
#include "tests/browser.hpp"
#include "tests/lab.hpp"
#include "tests/served.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

const std::string n1 = "[data-node=n1]", n2 = "[data-node=n2]", n3 = "[data-node=n3]";

void check_healthy_cluster(const Lab& lab, Browser& page) {
  page.open("http://" + lab.address("n2") + ":5999/");
  page.shows("h1", "Primary: n1");
  page.shows("#summary", "All 3 nodes are well.");
  page.shows("#seen", "Live, seen from n2 at ");
  CHECK(page.title() == "n1 Primary - primgr");
  CHECK(page.texts("h2") == std::vector<std::string>{"Site default"});
  CHECK(page.texts("li h3") ==
        std::vector<std::string>{"n1\nPrimary", "n2\nStandby", "n3\nStandby"});
  CHECK(page.text("#stale").empty());
  page.shows(n1, "Votes: 3 of 3, 2 needed");
  page.shows(n1, "Attached standbys: n2, n3");
  page.shows(n1, "Role\nprimary");
  page.shows(n2, "From\n" + lab.address("n1"));
  page.shows(n2, "Replay lag\n0 B");
  page.shows(n2, "timeline 1");
  // The votes are unfolded by keyboard. They stay so, with the focus, when the page is updated.
  CHECK(page.text(n1 + " tbody").empty());
  page.type(n1 + " summary", "\ue007");
  page.shows(n1 + " thead", "Voter Vote Age Lease left");
  page.shows_new_answer();
  CHECK(count(page.text(n1 + " tbody"), "counts") == 3);
  CHECK(page.run("return document.activeElement.textContent") == "Votes: 3 of 3, 2 needed");
  CHECK(page.console_messages() == "");
  page.screenshot("page-before");
}

void check_failover(const Lab& lab, Browser& page) {
  lab.run("kill n1");
  page.shows("h1", "No primary");
  page.shows(n1 + " h3", "Down");
  page.shows(n1 + " .problem", "connection");
  page.shows(n2 + " .problem", "there is no WAL receiver");
  page.shows(n2, "(no primary)");  // its replay lag is that of what it received
  page.shows("#summary", "To look at: n1, n2, n3 (3 of 3).");
  page.shows("#told", "No primary");
  lab.run("primgr n1 stop");
  page.shows(n1 + " h3", "Unreachable");
  page.shows(n1 + " .problem", "connection refused at ");
  page.shows(n1, "Last seen\nDown, ");
  CHECK(page.title() == "No primary - primgr");
  page.screenshot("page-during");

  lab.run("promote n2");
  lab.run("follow n3");
  page.shows("h1", "Primary: n2");
  page.shows(n2 + " h3", "Primary");
  page.shows(n2, "timeline 2");
  page.shows(n2, "Votes: 2 of 3, 2 needed");
  page.shows(n2 + " .problem", "a vote is missing: n1: connection refused");
  page.shows(n3, "Replay lag\n0 B");
  page.shows("#summary", "To look at: n1, n2 (2 of 3).");
  CHECK(page.title() == "n2 Primary - primgr");
  page.screenshot("page-after");
}

// What the strips of a node show, oldest first: the states, then the marks of handovers.
std::string strip_of(Browser& page, const std::string& node) {
  const Json shown = page.run(
      "const strip = document.querySelector('" + node +
      " .strip'), drawn = [...strip.querySelectorAll('rect')];"
      "return [...drawn.sort((a, b) => parseFloat(a.dataset.key) - parseFloat(b.dataset.key))"
      ".map(rect => rect.getAttribute('class')), ...strip.querySelectorAll('line')]"
      ".map(part => typeof part === 'string' ? part : 'handover').join(' ')");
  return shown.is_string() ? shown.get<std::string>() : shown.dump();
}

// After the failover: on the strips, by keyboard, in the table, and for the site.
void check_history(const Lab& lab, Browser& page) {
  const auto ends_with = [&](const std::string& node, const std::string& what) {
    std::string shown;
    const bool found =
        eventually(10, [&] { return (shown = strip_of(page, node)).ends_with(what); });
    CHECK_MESSAGE(found, node << " has " << shown);
  };
  ends_with(n1, "Primary Down");  // as it told before it ended
  ends_with(n2, " Primary handover");
  ends_with(n3, "Standby");
  page.shows(".outages", "Without a Primary in the last day: at ");
  page.shows(".outages", ", until n2 was Primary");
  CHECK(page.text(n2 + " .strip text") != "");

  page.run("document.querySelector('" + n2 + " .strip').focus()");
  page.shows(n2 + " dl + p", "Primary, from ");
  page.shows(n2 + " dl + p", "took over in ");
  page.screenshot("page-history");
  // On paper it is light, and the strips keep their colours.
  page.print("page-history");
  CHECK(page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(244, 245, 247)");
  CHECK(page.run("return getComputedStyle(document.querySelector('.strip')).printColorAdjust") ==
        "exact");
  const std::string position = "return +document.activeElement.getAttribute('aria-valuenow')";
  const int last = page.run(position).get<int>();
  page.type(n2 + " .strip", "\ue012");  // the left arrow
  page.shows(n2 + " dl + p", ", from ");
  CHECK(page.run(position) == last - 1);
  CHECK(page.run("return document.activeElement.getAttribute('aria-valuetext')") ==
        page.text(n2 + " dl + p"));
  page.run("document.activeElement.blur()");
  CHECK(page.text(n2 + " dl + p").empty());
  page.run("document.querySelector('" + n2 + " details:last-of-type').open = true");
  page.shows(n2 + " details:last-of-type", "Changes of state: ");
  const auto rows = page.texts(n2 + " details:last-of-type tbody tr");
  REQUIRE(rows.size() >= 2);
  CHECK(rows[0].starts_with("Primary a majority votes for it"));
  CHECK(rows[0].find("took over in ") != std::string::npos);

  // The same in a terminal.
  const std::string text = lab.run("exec-node n3 " + program() + " --config " +
                                   lab.conf("n3", "primgr_conf") + " --history");
  CAPTURE(text);
  CHECK(text.find("| no Primary |") < text.find("until n2 was Primary"));
  CHECK(text.find("; took over in ") != text.npos);
  CHECK(text.find("n1: its changes are not known") != text.npos);
}

// The primgr that serves the page ends, starts, and hangs.
void check_own_node(const Lab& lab, Browser& page) {
  lab.run("primgr n2 stop");
  page.shows("#stale", "Not live: last answer ");
  page.shows("#stale", " s ago (no connection to primgr)");
  page.shows("#seen", "Was seen from n2 at ");
  CHECK(page.title() == "Not live: n2 Primary - primgr");
  page.screenshot("page-not-live");
  lab.run("primgr n2 start");
  page.shows("#seen", "Live, seen from n2 at ");
  page.shows("h1", "Primary: n2");
  CHECK(page.text("#stale").empty());
  lab.run("primgr n2 pause");
  page.shows("#stale", "(no answer ");
  lab.run("primgr n2 resume");
  page.shows("#seen", "Live, seen from n2 at ");
  page.shows("h1", "Primary: n2");
}

}  // namespace

TEST_CASE("lab: the page in a browser, before, during and after a failover") {
  if (!lab_possible("the page")) return;
  if (!browser_possible("the page")) return;
  const Lab lab("--no-repmgrd --no-haproxy");
  Browser page(lab.hub());
  check_healthy_cluster(lab, page);
  check_failover(lab, page);
  check_history(lab, page);
  check_own_node(lab, page);

  // A name with markup is text.
  page.console_messages();
  const std::string name = "<img src=x onerror=alert(1)>";
  lab.sql("n2", "UPDATE repmgr.nodes SET node_name = '" + name + "' WHERE node_name = 'n1'");
  page.shows("li h3", name + "\nUnreachable");
  page.shows("#summary", "To look at: " + name + ", n2 (2 of 3).");
  CHECK_FALSE(page.has_dialog());
  CHECK(page.run("return document.images.length") == 0);
  CHECK(page.console_messages() == "");
}

namespace {

const std::string markup = "<img src=x onerror=alert(1)><script>alert(2)</script>";

// What n3, n4, … answer to /node when they are hostile.
std::vector<Json> hostile_nodes() {
  const auto node_of = [](const char* state, const Json& value) {
    Json node = {{"state", state}};
    for (const char* key :
         {"role", "since", "stateSeconds", "reason", "primary", "votes", "timeline", "position",
          "replication", "standbys", "cacheAgeSeconds", "nodesAgeSeconds", "nodesProblem",
          "connections", "version", "uptimeSeconds", "problems", "history"}) {
      node[key] = value;
    }
    return node;
  };
  std::vector<Json> hostile = {node_of("Down", markup)};
  hostile[0]["votes"] = {
      {"counted", 1}, {"of", 3}, {"voters", {{{"name", markup}, {"error", markup}}}}};
  hostile[0]["problems"] = {markup};
  hostile[0]["history"] = Json::array(
      {{{"at", markup}, {"agoSeconds", 9}, {"to", markup}, {"from", markup}, {"reason", markup}},
       {{"at", 1}, {"agoSeconds", 5}, {"to", "Primary"}, {"handoverSeconds", 1e308}, {"reason", 1}},
       {{"agoSeconds", 1e17}, {"to", "Down"}, {"seconds", -1}}});
  hostile[0]["standbys"] = {{{"name", markup}, {"state", markup}, {"address", markup}}};
  for (const Json& value : {Json(nullptr), Json(true), Json(-1), Json(1e308), Json("x"),
                            Json::array({nullptr, 1, "x"}), Json{{"x", 1}}}) {
    for (const char* state : {"Primary", "Standby", "Unknown"}) {
      hostile.push_back(node_of(state, value));
    }
  }
  return hostile;
}

}  // namespace

namespace {

// A day of a node: a standby, Primary after a failover and after a switchover, and some minutes of
// other states between.
Json busy_day() {
  Json history = Json::array();
  double before = 90000;
  Json from = "Standby";
  const auto add = [&](double ago, const Json& to, const Json& handover = nullptr) {
    history.push_back({{"at", print_time(wall_clock(
                                  std::chrono::milliseconds(static_cast<long long>(ago * 1000))))},
                       {"agoSeconds", ago},
                       {"from", from},
                       {"to", to},
                       {"seconds", before - ago},
                       {"reason", "the reason for this"},
                       {"primary", "n1"},
                       {"handoverSeconds", handover}});
    before = ago;
    from = to;
  };
  add(60000, "Primary", 4.1);
  add(30000, "Down");
  add(29000, "Standby");
  add(3000, "Unknown");
  add(2900, "Primary", 1.1);
  add(1800, "Down");
  add(1500, nullptr);
  add(1400, "Standby");
  add(1000, "Unknown");
  add(700, "Primary", 1.2);
  return history;
}

}  // namespace

TEST_CASE("lab: the page with two primaries, and with hostile answers of peers") {
  if (!browser_possible("hostile peers on the page")) return;
  const std::vector<Json> hostile = hostile_nodes();
  World world(World::named("n2"));
  auto nodes = make_site(2 + static_cast<int>(hostile.size()));
  nodes[2].site = "east";
  world.look(make_facts(nodes, true));
  std::atomic<bool> are_hostile = false;
  const Served served(world, {}, [&](const Node& peer, const std::string&, Time, const auto& done) {
    Json told = {{"state", peer.id == 1 || peer.id == 3 ? "Primary" : "Standby"}};
    told["problems"] = Json::array();
    if (peer.id == 1) told["problems"] = {"n3 claims to be Primary too"};
    if (peer.id == 1) told["history"] = busy_day();
    if (peer.id == 4) told["problems"] = {"replay is paused", "repmgr.nodes is blocked (locked)"};
    if (are_hostile && peer.id >= 3) told = hostile[static_cast<std::size_t>(peer.id) - 3];
    told["name"] = peer.name;
    done({200, told.dump(), "", {}});
  });

  Browser page;
  page.open("http://127.0.0.1:" + std::to_string(served.port) + "/");
  page.shows("h1", "Two primaries: n1, n3");
  CHECK(page.title() == "Two primaries: n1, n3 - primgr");
  page.shows("#summary", "Writes may go to each of them.");
  page.shows("[data-node=n1] .problem", "n3 claims to be Primary too");
  page.shows("[data-node=n4] .problem", "repmgr.nodes is blocked (locked)");
  page.shows("[data-node=n4] .problem", "replay is paused");
  CHECK(page.texts("h2") == std::vector<std::string>{"Site default", "Site east"});
  CHECK(strip_of(page, "[data-node=n1]") ==
        "Standby Unknown Primary Down Off Standby Unknown Primary handover handover");
  page.screenshot("page-two-primaries");

  are_hostile = true;
  page.shows("[data-node=n3] .problem", markup);
  page.shows("h1", "8 primaries: n1, n4, n7");
  CHECK(page.text("[data-node=n1] h3") == "n1\nPrimary");
  CHECK(page.text("[data-node=n2] h3") == "n2\nStandby");
  CHECK(page.texts("li").size() == nodes.size());
  CHECK(page.text("#stale").empty());
  CHECK(count(page.text("[data-node=n3]"), markup) > 3);
  page.shows_new_answer();
  page.screenshot("page-hostile");
  CHECK_FALSE(page.has_dialog());
  CHECK(page.run("return document.images.length + document.scripts.length") == 1);
  CHECK(page.console_messages() == "");
}

TEST_SUITE_END();
