#include "daemon/status.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

#include "daemon/json.hpp"

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

// `seconds` comes from another host, and may be any number.
std::string print_seconds(double seconds) {
  return describe_duration(std::chrono::duration_cast<Time>(
      std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e9))));
}

Cell state_cell(const Json& node) {
  if (at(node, "reachable") != true) return {"unreachable", red};
  const std::string state = text_at(node, "state");
  if (state == "Primary") return {state, bold_green};
  if (state == "Standby") return {state, green};
  return {state, state == "Unknown" ? yellow : red};
}

std::string print_votes(const Json& votes) {
  const auto counted = number_at(votes, "counted"), of = number_at(votes, "of");
  if (!counted || !of) return {};
  return std::to_string(std::llround(*counted)) + " of " + std::to_string(std::llround(*of));
}

Cell lag_cell(const Json& replication) {
  const auto bytes = number_at(replication, "replayLagBytes");
  const auto seconds = number_at(replication, "replayLagSeconds");
  if (!bytes) return {"unbounded", red};
  return {describe_size(*bytes) + (seconds ? ", " + print_seconds(*seconds) : "")};
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

// One line each, with the node's name.
std::string print_problems(const Json& node) {
  std::string text;
  const Json& problems = at(node, "problems");
  for (const Json& problem : problems.is_array() ? problems : Json::array()) {
    if (!problem.is_string()) continue;
    text += text_at(node, "name") + ": " + printable(problem.get<std::string>()) + "\n";
  }
  return text;
}

// The first row is a heading.
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

}  // namespace primgr
