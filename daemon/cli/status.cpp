#include "daemon/cli/status.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/json.hpp"
#include "base/size.hpp"
#include "base/time.hpp"

namespace primgr {

namespace {

// Parameters of the escape sequence SGR: ECMA-48 8.3.117.
constexpr const char *green = "32", *yellow = "33", *red = "31", *bold_green = "1;32";

std::string coloured(const std::string& text, const char* colour) {
  return std::string("\x1b[") + colour + "m" + text + "\x1b[0m";
}

struct Cell {
  std::string text;
  const char* colour = "";
  // In columns of a terminal: bytes that begin a UTF-8 character. Wide characters count as one.
  std::size_t width() const {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
  }
};
using Row = std::vector<Cell>;

std::string print_seconds(double seconds) {
  return describe_duration(from_seconds(seconds));
}

const char* state_colour(const std::string& state) {
  if (state == "Primary") return bold_green;
  if (state == "Standby") return green;
  return state == "Unknown" ? yellow : red;
}

Cell state_cell(const Json& node) {
  if (at(node, "reachable") != true) return {"unreachable", red};
  const std::string state = text_at(node, "state");
  return {state, state_colour(state)};
}

std::string print_votes(const Json& votes) {
  const auto counted = number_at(votes, "counted"), of = number_at(votes, "of");
  if (!counted || !of) return {};
  return std::to_string(std::llround(*counted)) + " of " + std::to_string(std::llround(*of));
}

Cell lag_cell(const Json& replication) {
  const auto bytes = number_at(replication, "replayLagBytes");
  const auto seconds = number_at(replication, "replayLagSeconds");
  std::string lag = bytes ? describe_size(*bytes) : "unknown";
  if (seconds) lag += ", " + print_seconds(*seconds);
  const std::string by = text_at(replication, "staleBy");
  if (by.empty() || by == "fresh") return {lag, bytes ? "" : red};
  const auto stale = number_at(replication, "staleSeconds");
  return {
      lag + "; stale " + (stale ? print_seconds(*stale) : "for an unknown time") + " (" + by + ")",
      red};
}

Row node_row(const Json& site, const Json& node) {
  const Cell state = state_cell(node);
  const auto since = number_at(node, "stateSeconds"), timeline = number_at(node, "timeline");
  return {{text_at(site, "site")},
          {text_at(node, "name")},
          {text_at(node, "role")},
          state,
          {since ? print_seconds(*since) : ""},
          {print_votes(at(node, "votes"))},
          {timeline ? std::to_string(std::llround(*timeline)) : ""},
          {text_at(node, "position")},
          state.text == "Standby" ? lag_cell(at(node, "replication")) : Cell{}};
}

// The problems of a node, one in each line, with the node's name.
std::string print_problems(const Json& node) {
  std::string text;
  const Json& problems = at(node, "problems");
  for (const Json& problem : problems.is_array() ? problems : Json::array()) {
    if (!problem.is_string()) continue;
    text += text_at(node, "name") + ": " + printable(problem.get<std::string>()) + "\n";
  }
  return text;
}

// The table as text. The first row is its heading.
std::string print_table(const std::vector<Row>& rows, bool colour) {
  std::vector<std::size_t> widths(rows[0].size());
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].width());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += i ? " | " : " ";
      line += colour && *row[i].colour ? coloured(row[i].text, row[i].colour) : row[i].text;
      if (i + 1 < row.size()) line.append(widths[i] - row[i].width(), ' ');
    }
    text += line.erase(line.find_last_not_of(' ') + 1) + "\n";
    if (&row != &rows.front()) continue;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      text += (i ? "+" : "") + std::string(widths[i] + 2, '-');
    }
    text += "\n";
  }
  return text;
}

// A row of the table of changes, and how many seconds ago the change was.
struct Change_Row {
  double ago = 0;
  Row row;
};

Change_Row change_row(const Json& site, const Json& node, const Json& change) {
  const auto ago = number_at(change, "agoSeconds"), lasted = number_at(change, "seconds");
  const std::string from = text_at(change, "from"), to = text_at(change, "to");
  const auto handover = number_at(change, "handoverSeconds");
  std::string why = text_at(change, "reason");
  if (handover) why += "; took over in " + print_seconds(*handover);
  return {ago.value_or(0),
          {{text_at(change, "at")},
           {text_at(site, "site")},
           {text_at(node, "name")},
           {to.empty() ? "(end)" : to, to.empty() ? "" : state_colour(to)},
           {from.empty() ? "(start)" : from},
           {from.empty() || !lasted ? "" : print_seconds(*lasted)},
           {why}}};
}

// The row of an outage is placed at the time when the outage began.
Change_Row outage_row(const Json& site, const Json& outage) {
  const std::string next = text_at(outage, "next");
  return {number_at(outage, "agoSeconds").value_or(0),
          {{text_at(outage, "at")},
           {text_at(site, "site")},
           {""},
           {"no Primary", red},
           {""},
           {print_seconds(number_at(outage, "seconds").value_or(0))},
           {next.empty() ? "until now" : "until " + next + " was Primary"}}};
}

std::string print_verdict(const Json& cluster, bool colour) {
  const std::string primary = text_at(cluster, "realPrimary");
  std::string verdict = primary.empty() ? "No primary" : "Primary: " + primary;
  if (const Json& claimants = at(cluster, "claimants"); claimants.is_array()) {
    verdict = "MORE THAN ONE PRIMARY:";
    for (const Json& name : claimants) {
      if (name.is_string()) verdict += " " + printable(name.get<std::string>());
    }
  }
  return colour ? coloured(verdict, primary.empty() ? red : bold_green) : verdict;
}

}  // namespace

std::string print_status(const Json& cluster, bool colour) {
  std::vector<Row> rows = {{{"Site"},
                            {"Node"},
                            {"Role"},
                            {"State"},
                            {"Since"},
                            {"Votes"},
                            {"Timeline"},
                            {"Position"},
                            {"Replay lag"}}};
  std::string problems;
  for (const Json& site : at(cluster, "sites")) {
    for (const Json& node : at(site, "nodes")) {
      rows.push_back(node_row(site, node));
      problems += print_problems(node);
    }
  }
  return print_table(rows, colour) + "\n" + problems + print_verdict(cluster, colour) +
         " (seen from " + text_at(cluster, "from") + " at " + text_at(cluster, "at") + ")\n";
}

std::string print_changes(const Json& cluster, bool colour) {
  std::vector<Change_Row> changes;
  std::string missing;
  for (const Json& site : at(cluster, "sites")) {
    for (const Json& node : at(site, "nodes")) {
      const Json& history = at(node, "history");
      if (!history.is_array()) missing += text_at(node, "name") + ": its changes are not known\n";
      if (!history.is_array()) continue;
      for (const Json& change : history) changes.push_back(change_row(site, node, change));
    }
    const Json& outages = at(site, "withoutPrimary");
    if (!outages.is_array()) continue;
    for (const Json& outage : outages) changes.push_back(outage_row(site, outage));
  }
  std::stable_sort(changes.begin(), changes.end(),
                   [](const Change_Row& a, const Change_Row& b) { return a.ago > b.ago; });
  std::vector<Row> rows = {{{"When"}, {"Site"}, {"Node"}, {"State"}, {"Before"}, {"For"}, {"Why"}}};
  for (Change_Row& change : changes) rows.push_back(std::move(change.row));
  return print_table(rows, colour) + (missing.empty() ? "" : "\n" + missing);
}

}  // namespace primgr
