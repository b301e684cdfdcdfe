#include "tests/cluster_repair.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "node/rules/voting.hpp"
#include "tests/http_client.hpp"

namespace {

std::optional<std::string> majority_of(const std::vector<Node_Facts>& nodes) {
  std::map<std::string, std::size_t> count;
  for (const Node_Facts& node : nodes) {
    if (node.reachable && !node.names.empty()) ++count[node.names];
  }
  for (const auto& [name, n] : count) {
    if (n >= primgr::votes_needed(nodes.size())) return name;
  }
  return std::nullopt;
}

std::string condition(const Node_Facts& node) {
  if (!node.reachable) return "does not answer";
  if (!node.in_recovery) return "takes writes";
  return node.streaming ? "is in recovery and streams" : "is in recovery and does not stream";
}

}  // namespace

std::string verdict(const std::vector<Node_Facts>& nodes) {
  const auto majority = majority_of(nodes);
  std::string dead, primgr, repmgr;
  for (const Node_Facts& node : nodes) {
    const std::string answer = node.name + (node.status ? " answers " + std::to_string(node.status)
                                                        : std::string(" does not answer"));
    if (!node.reachable) {
      dead += " " + node.name + " does not start, or does not answer;";
    } else if (majority == node.name && !node.in_recovery) {
      if (node.status != 200)
        primgr += " a majority of databases names " + node.name + ", but " + answer + ";";
    } else if (node.in_recovery && node.status != 202) {
      primgr += " " + node.name + " is in recovery, but " + answer + ";";
    } else if (!node.in_recovery && node.status == 200) {
      primgr += " no majority of databases names " + node.name + ", but " + answer + ";";
    } else if (!node.in_recovery) {
      repmgr += " " + node.name + " takes writes, but no majority names it;";
    } else if (majority && node.names != *majority) {
      repmgr += " " + node.name + " names '" + node.names + "', not " + *majority + ";";
    } else if (!node.streaming) {
      repmgr += " " + node.name + " does not stream from anybody;";
    }
  }
  if (!majority) repmgr = " the databases do not name one primary;" + repmgr;
  // With a primary that everything is there for, what primgr makes of it is its own doing.
  if (!primgr.empty())
    return "primgr:" + primgr + (repmgr.empty() ? "" : " (repmgr:" + repmgr + ")");
  if (!dead.empty())
    return "PostgreSQL:" + dead + (repmgr.empty() ? "" : " (repmgr:" + repmgr + ")");
  if (!repmgr.empty()) return "repmgr:" + repmgr;
  return "none: all is as it should be now; it took too long";
}

double Cluster_Repair::waited(const Attempt& attempt) const {
  return seconds_now() - attempt.begun - attempt.in_commands;
}

bool Cluster_Repair::run(Attempt& attempt, const std::string& verb) const {
  const double start = seconds_now();
  const bool done = lab_.attempt(verb).status == 0;
  attempt.in_commands += seconds_now() - start;
  return done;
}

// Whether it has been for long enough. A list of nodes that has just changed takes the Primary a
// moment and some votes to confirm; before that it may need more nodes than the list has. What was
// registered again has reached every standby only if each follows.
bool Cluster_Repair::healthy(Attempt& attempt) const {
  const bool follow = !attempt.registered || watch_.all_name(watch_.name(watch_.leader()));
  if (!watch_.healthy() || !members_.whole() || !follow) {
    attempt.healthy_since = 0;
    return false;
  }
  const double now = seconds_now();
  if (attempt.healthy_since == 0) attempt.healthy_since = now;
  return now - attempt.begun >= 1 && (!attempt.registered || now - attempt.healthy_since >= 2.5);
}

bool Cluster_Repair::converge() {
  lab_.attempt("heal");
  members_.name_back();
  Attempt attempt{seconds_now()};
  down_since_.assign(watch_.size(), 0);
  started_.assign(watch_.size(), 0);
  while (!healthy(attempt)) {
    if (waited(attempt) > 150 || seconds_now() - attempt.begun > 600) return false;
    repair_members(attempt);
    const bool led = watch_.status(watch_.leader()) == 200;
    for (std::size_t i = 0; i < watch_.size(); ++i) repair_node(attempt, i, led);
    if (!led && waited(attempt) > attempt.patience + 10) {  // repmgrd has given up, too
      ++repmgr_trouble_;
      attempt.patience += 40;
      repair_without_leader(attempt);
    }
    std::this_thread::sleep_for(100ms);
  }
  if (attempt.registered) members_.start_repmgrds();
  // Before the next fault every standby has to name the leader, or repmgrd cannot follow.
  eventually(15, [&] { return watch_.all_name(watch_.name(watch_.leader())); });
  return true;
}

// On each server that takes writes: which of them stays primary is not settled yet.
void Cluster_Repair::repair_members(Attempt& attempt) const {
  const double start = seconds_now();
  for (std::size_t i = 0; i < watch_.size(); ++i) {
    const Node_View node = watch_.view(i);
    if (!node.reachable || node.in_recovery || members_.whole(i)) continue;
    members_.restore(i);
    attempt.registered = true;
  }
  attempt.in_commands += seconds_now() - start;
}

// A server that is down is started as it was; without a primary only after repmgrd had time to
// promote another. One that does not come to answer is put below the primary anew.
void Cluster_Repair::repair_node(Attempt& attempt, std::size_t i, bool led) {
  const bool late = waited(attempt) > attempt.patience;
  const Node_View node = watch_.view(i);
  const std::string& name = watch_.name(i);
  if (node.status == 0) run(attempt, "primgr " + name + " start");
  if (!led && !late) return;
  double& down_since = down_since_[i];
  if (node.status != 503) {
    down_since = started_[i] = 0;
  } else if (down_since == 0 || waited(attempt) > started_[i] + 5) {
    run(attempt, "start " + name);
    started_[i] = waited(attempt);
    if (down_since == 0) down_since = started_[i];
  }
  if (!led) return;
  const std::string rejoin = "rejoin " + name + " " + watch_.name(watch_.leader());
  if (down_since > 0 && waited(attempt) > down_since + 60) {
    ++postgres_trouble_;
    run(attempt, rejoin);
    down_since = waited(attempt);
  }
  if (node.status == 509 && node.reachable && !node.in_recovery) run(attempt, rejoin);
  const bool follows = node.names == watch_.name(watch_.leader()) && members_.whole(i);
  if (late && node.status == 202 && !follows) {
    ++repmgr_trouble_;
    run(attempt, rejoin);
  }
}

// repmgr can leave a cluster whose nodes follow different servers, none of them a majority. An
// operator lets all follow the primary of the newest timeline, which is registered again if repmgrd
// has it as a standby, or promotes one if there is none.
void Cluster_Repair::repair_without_leader(Attempt& attempt) {
  const auto chosen = newest_primary();
  for (std::size_t i = 0; !chosen && i < watch_.size(); ++i) {
    if (!watch_.view(i).reachable) continue;
    run(attempt, "promote " + watch_.name(i));
    return;
  }
  if (!chosen) return;
  const std::string& name = watch_.name(*chosen);
  if (watch_.view(*chosen).names != name) {
    run(attempt,
        "psql " + name + " -qc " +
            quoted("UPDATE repmgr.nodes SET active = node_name = '" + name +
                   "', type = 'primary' WHERE node_name = '" + name + "' OR type = 'primary'"));
  }
  for (std::size_t i = 0; i < watch_.size(); ++i) {
    if (i != *chosen) run(attempt, "rejoin " + watch_.name(i) + " " + name);
  }
}

std::optional<std::size_t> Cluster_Repair::newest_primary() const {
  std::optional<std::size_t> chosen;
  int newest = 0;
  for (std::size_t i = 0; i < watch_.size(); ++i) {
    const Node_View node = watch_.view(i);
    if (!node.reachable || node.in_recovery) continue;
    const Ran ran = lab_.attempt("psql " + watch_.name(i) +
                                 " -qAtc 'SELECT timeline_id FROM pg_control_checkpoint()'");
    const int timeline = std::atoi(ran.output.c_str());
    if (timeline <= newest) continue;
    newest = timeline;
    chosen = i;
  }
  return chosen;
}

Node_Facts Cluster_Repair::facts(std::size_t node) const {
  const Node_View view = watch_.view(node);
  Node_Facts facts{watch_.name(node), view.status, view.reachable,
                   view.in_recovery,  false,       view.names};
  if (const auto connection = watch_.connect(node, "repmgr")) {
    const Result result =
        query(connection, "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'");
    facts.streaming = result && *PQgetvalue(result.get(), 0, 0) != '0';
  }
  return facts;
}

void Cluster_Repair::diagnose() const {
  std::vector<Node_Facts> all;
  for (std::size_t i = 0; i < watch_.size(); ++i) {
    const Node_Facts node = facts(i);
    all.push_back(node);
    std::string said;
    {
      const In_Namespace there(watch_.netns(i));
      said = Client("127.0.0.1", 5999, 2s).get("/node").body;
    }
    const auto document = nlohmann::json::parse(said, nullptr, false);
    const auto word = [&](const char* key) -> std::string {
      const auto found = document.find(key);
      return found != document.end() && found->is_string() ? found->get<std::string>() : "-";
    };
    MESSAGE(node.name, ": primgr ", node.status, " ", word("state"), ": ", word("reason"),
            "; PostgreSQL ", condition(node), ", names '", node.names, "'; repmgrd ",
            std::string(lab_.conf(node.name, "repmgrd_pid").empty() ? "has ended" : "is alive"));
    for (const char* log : {"log", "repmgrd_log"}) {
      MESSAGE(lab_.attempt("conf " + node.name + " | sed -n 's/^" + log + "=//p' | xargs tail -n 4")
                  .output);
    }
  }
  MESSAGE("whose doing: ", verdict(all));
}

void Cluster_Repair::keep_logs(const std::string& folder) const {
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const std::string from = quoted(lab_.run("env | sed -n 's/^LAB_DIR=//p'"));
  const Ran copied = shell("cd " + from + " && cp --parents *.log *.cfg */*.log */*.conf nodes " +
                           quoted(std::filesystem::absolute(folder).string()) + " 2>&1");
  MESSAGE(
      "the lab's logs and configuration: ", std::filesystem::absolute(folder).string(),
      copied.status == 0 ? std::string() : ", as far as they could be copied: " + copied.output);
}
