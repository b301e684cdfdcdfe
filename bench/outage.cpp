// outage: how long nobody can write through HAProxy while the primary changes; for `make bench`.
//
//   outage LAB SCENARIO ROUNDS
//
// LAB is the path of lab/lab, whose cluster of three nodes is up, in network namespaces. repmgrd
// fails over, but where the scenario has a takeover: there it must not run. Prints for each round
//
//   outage serves named old_200 new_200 two_up stale gap
//
// in seconds after the last row that the old primary acknowledged before the new one did one:
// outage: the new one's first; serves: its server takes writes; named: most databases name it;
// old_200, new_200: the last of the old one's primgr, the first of the new one's. two_up: how long
// HAProxy had more than one server to write to; stale: how many rows of a lower timeline were sent
// after one of a higher was acknowledged; gap: the longest time between two attempts to write.
// Exit status 1: a round failed; 64: wrong usage.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <thread>

#include "bench/watched_cluster.hpp"

namespace {

// Verbs of the lab; OLD is the primary, NEW and OTHER are the standbys.
struct Scenario {
  std::string name;
  bool repmgrd;
  std::vector<std::string> fault;
  std::string end;  // of the fault, when another is primary
};
const std::vector<Scenario> scenarios = {
    {"planned", false, {"stop OLD", "takeover NEW"}, ""},
    {"crash", true, {"kill OLD"}, ""},
    {"hung", true, {"pause OLD"}, "resume OLD"},
    // NEW last: a standby that had more rows than the new primary could not follow it.
    {"peers", false, {"cut OLD OTHER", "cut OLD NEW", "takeover NEW"}, "heal"},
    {"network", true, {"cut OLD"}, "heal"},
};

using Names = std::map<std::string, std::string>;

std::string with_names(std::string verb, const Names& names) {
  for (const auto& [word, name] : names) {
    const auto at = verb.find(word);
    if (at != verb.npos) verb.replace(at, word.size(), name);
  }
  return verb;
}

std::size_t stale_rows(const std::vector<Row>& rows) {
  std::map<std::string, double> first;  // acknowledged, of each timeline
  for (const Row& row : rows) first.emplace(row.timeline, row.acknowledged);
  return static_cast<std::size_t>(std::count_if(rows.begin(), rows.end(), [&](const Row& row) {
    return std::any_of(first.upper_bound(row.timeline), first.end(),
                       [&](const auto& higher) { return higher.second < row.sent; });
  }));
}

void print_round(const Seen& seen, const Node& old, const Node& successor, double begun) {
  const auto by = [](const Node& node) {
    return [&](const Row& row) { return row.server == node.address; };
  };
  const auto first = std::find_if(seen.rows.begin(), seen.rows.end(), by(successor));
  const auto last = std::find_if(std::make_reverse_iterator(first), seen.rows.rend(), by(old));
  if (last == seen.rows.rend()) die(old.name + " took no row before the fault");
  const double zero = last->acknowledged, outage = first->acknowledged - zero;
  std::printf("%.3f %.3f %.3f %.3f %.3f %.3f %zu %.3f\n", outage, successor.serves - zero,
              successor.named - zero, old.last_200 - zero, successor.first_200 - zero, seen.two_up,
              stale_rows(seen.rows), seen.gap);
  std::fflush(stdout);
  std::fprintf(stderr, "  %s to %s: no writes for %.2f s, from %.2f s after the fault began\n",
               old.name.c_str(), successor.name.c_str(), outage, zero - begun);
}

// From a healthy cluster, whose primary is `old`, to one that is so again. False: repmgrd left no
// majority for the new primary, so there is nothing to measure.
bool run_round(Watched_Cluster& cluster, const Scenario& scenario, std::size_t old, int round) {
  const std::vector<Node> nodes = cluster.seen().nodes;
  const Names names = {{"OLD", nodes[old].name},
                       {"NEW", nodes[(old + 1) % 3].name},
                       {"OTHER", nodes[(old + 2) % 3].name}};
  std::vector<std::string> fault;
  for (const std::string& verb : scenario.fault) fault.push_back(with_names(verb, names));
  cluster.begin_round();
  // The rounds are to meet every phase of what goes on once a second.
  std::this_thread::sleep_for(std::chrono::duration<double>(1 + std::fmod(round * 0.618, 1)));
  const double begun = now();
  cluster.lab(fault);
  const auto successor = cluster.wait_for_successor(old);
  if (successor) cluster.wait_until_replaced(old);
  if (!scenario.end.empty()) {
    cluster.lab({with_names(scenario.end, names)});
    // Time for the old primary to be taken for one again.
    std::this_thread::sleep_for(std::chrono::seconds(2));
    if (successor) cluster.wait_until_replaced(old);
  }
  if (!successor) {
    cluster.repair();
    return false;
  }
  cluster.lab({"rejoin " + nodes[old].name + " " + nodes[*successor].name});
  cluster.wait_until_healthy(scenario.repmgrd);
  const Seen seen = cluster.seen();
  print_round(seen, seen.nodes[old], seen.nodes[*successor], begun);
  return true;
}

// Whoever ends this ends the verb that it runs, too.
void end_group(int signal) {
  ::signal(signal, SIG_DFL);
  kill(0, signal);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc == 4 ? std::atoi(argv[3]) : 0;
  const auto scenario = std::find_if(scenarios.begin(), scenarios.end(), [&](const Scenario& one) {
    return rounds > 0 && one.name == argv[2];
  });
  if (scenario == scenarios.end()) {
    std::fprintf(stderr, "usage: outage LAB planned|crash|hung|peers|network ROUNDS\n");
    return 64;
  }
  signal(SIGTERM, end_group);
  Watched_Cluster cluster(argv[1]);
  int failed = 0;
  for (int round = 0; round < rounds;) {
    const std::size_t primary = cluster.wait_until_healthy(scenario->repmgrd);
    if (run_round(cluster, *scenario, primary, round)) {
      ++round;
    } else if (++failed > rounds) {
      die("repmgrd leaves no majority too often");
    }
  }
  std::_Exit(0);  // the threads of the cluster are still at work
}
