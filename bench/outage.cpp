// outage: what clients get through HAProxy while something happens to the cluster; for `make
// bench`.
//
//   outage LAB EVENT ROUNDS
//
// LAB is the path of lab/lab, whose cluster is up, in network namespaces: three nodes, or two and a
// witness. Where the event has a takeover repmgrd must not run: it would promote on its own. Prints
// for each round lines of a word and numbers; times are in seconds:
//
//   w1|wN|ws|r1|rN|rs GAP LONGEST ERRORS BROKEN ASTRAY    of each kind of client: see clients.hpp
//   change OUTAGE DOWN ASKED SERVES NAMED OLD_200 NEW_200 TWO_UP STALE
//       after the last row of the many that the old primary acknowledged before the new one did
//       one: outage: the new one's first; down: the old server is shut down (0: it is not); asked:
//       the new one's is told to promote; serves: it takes writes; named: most databases name it;
//       old_200, new_200: the last of the old one's primgr, the first of the new one's. two_up: how
//       long HAProxy had more than one server to write to; stale: how many rows of a lower timeline
//       were sent after one of a higher was acknowledged
//   away SECONDS    the primary's server gave no answer for so long, where it is the primary again
//   late SECONDS    until /replica of a standby that is cut off was no longer 200; at most 20 s
//   pause SECONDS   the longest time between two of the many: how far to trust the rest
//   failed 1        instead of all that: repmgr failed, so there was nothing to measure
//
// Exit status 1: it could not go on; 64: wrong usage.

#include <signal.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <map>
#include <thread>

#include "bench/watched_cluster.hpp"

namespace {

enum class Until { successor, healthy, no_writes, no_reads };

// Verbs of the lab; OLD is the primary, NEW a standby, OTHER the other one, or the witness.
struct Event {
  std::string name;
  std::vector<std::string> fault;
  Until until;
  std::string end;    // of the fault, while the clients are watched
  std::string after;  // what makes the cluster whole again, when they are not
};
const std::vector<Event> events = {
    {"takeover", {"stop OLD", "takeover NEW"}, Until::successor, "", "rejoin OLD"},
    {"crash", {"kill OLD"}, Until::successor, "", "rejoin OLD"},
    {"hung", {"pause OLD"}, Until::successor, "resume OLD", "rejoin OLD"},
    // NEW last: a standby that had more rows than the new primary could not follow it.
    {"peers",
     {"cut OLD OTHER", "cut OLD NEW", "takeover NEW"},
     Until::successor,
     "heal",
     "rejoin OLD"},
    {"network", {"cut OLD"}, Until::successor, "heal", "rejoin OLD"},
    {"switchover", {"switchover NEW"}, Until::successor, "", ""},
    {"restart", {"restart OLD"}, Until::healthy, "", ""},
    {"standby-stop", {"stop NEW"}, Until::no_reads, "", "start NEW"},
    {"standby-kill", {"kill NEW"}, Until::no_reads, "", "start NEW"},
    {"standby-cut", {"cut NEW OTHER", "cut NEW OLD"}, Until::no_reads, "", "heal"},
    {"primgr-restart", {"primgr OLD restart"}, Until::healthy, "", ""},
    {"primgr-stop", {"primgr OLD stop"}, Until::no_writes, "primgr OLD start", ""},
    {"standby-primgr-restart", {"primgr NEW restart"}, Until::healthy, "", ""},
    {"standby-primgr-stop", {"primgr NEW stop"}, Until::no_reads, "primgr NEW start", ""},
    {"reload", std::vector<std::string>(10, "haproxy reload"), Until::healthy, "", ""},
};

struct Cast {
  std::size_t old, successor, other;
};

Cast cast_of(const std::vector<Node>& nodes, std::size_t primary) {
  Cast cast{primary, primary, primary};
  for (std::size_t i = 1; i < nodes.size(); ++i) {
    const std::size_t at = (primary + i) % nodes.size();
    std::size_t& part =
        cast.successor == primary && !nodes[at].witness ? cast.successor : cast.other;
    part = at;
  }
  return cast;
}

std::string with_names(std::string verb, const std::map<std::string, std::string>& names) {
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

// When the node's PostgreSQL first logged that, from `begun` on; 0: it has not. REQUIRES:
// log_timezone = UTC, and %m first in log_line_prefix.
double logged(const Node& node, const std::string& text, double begun) {
  using Seconds = std::chrono::duration<double>;
  const double wall = Seconds(std::chrono::system_clock::now().time_since_epoch()).count() - now();
  std::ifstream log(node.folder + "/postgresql.log");
  for (std::string line; std::getline(log, line);) {
    if (line.find(text) == line.npos) continue;
    std::tm parts{};
    const char* rest = strptime(line.c_str(), "%Y-%m-%d %H:%M:%S", &parts);
    if (!rest || *rest != '.') continue;
    const double time = static_cast<double>(timegm(&parts)) + std::atof(rest) - wall;
    if (time > begun) return time;
  }
  return 0;
}

void print_change(const Seen& seen, const std::vector<Row>& rows, const Node& old,
                  const Node& successor, double begun) {
  const auto by = [](const Node& node) {
    return
        [&](const Row& row) { return row.server == node.address && row.kind == Kind::write_many; };
  };
  const auto first = std::find_if(rows.begin(), rows.end(), by(successor));
  const auto last = std::find_if(std::make_reverse_iterator(first), rows.rend(), by(old));
  if (last == rows.rend()) die(old.name + " took no row before the fault");
  const double zero = last->acknowledged, outage = first->acknowledged - zero;
  const double down = logged(old, "database system is shut down", begun);
  std::printf("change %.3f %.3f %.3f %.3f %.3f %.3f %.3f %.3f %zu\n", outage,
              down > 0 ? down - zero : 0,
              logged(successor, "received promote request", begun) - zero, successor.serves - zero,
              successor.named - zero, old.last_200 - zero, successor.first_200 - zero, seen.two_up,
              stale_rows(rows));
  std::fprintf(stderr, "  %s to %s: no writes for %.2f s, from %.2f s after the event began\n",
               old.name.c_str(), successor.name.c_str(), outage, zero - begun);
}

void print_clients(const std::array<Figures, 6>& figures) {
  for (std::size_t kind = 0; kind < kind_names.size(); ++kind) {
    const Figures& one = figures[kind];
    std::printf("%s %.3f %.3f %zu %zu %zu\n", kind_names[kind], one.gap, one.longest, one.errors,
                one.broken, one.astray);
    std::fprintf(stderr, "%s%s %.2f e%zu b%zu", kind == 0 ? "  " : "   ", kind_names[kind], one.gap,
                 one.errors, one.broken);
  }
  std::fprintf(stderr, "\n");
}

// From a healthy cluster, whose primary is `primary`, to one that is so again. False: repmgr
// failed, so there is nothing to measure.
bool run_round(Watched_Cluster& cluster, const Event& event, std::size_t primary, int round) {
  const std::vector<Node> nodes = cluster.seen().nodes;
  const Cast cast = cast_of(nodes, primary);
  const std::map<std::string, std::string> names = {{"OLD", nodes[cast.old].name},
                                                    {"NEW", nodes[cast.successor].name},
                                                    {"OTHER", nodes[cast.other].name}};
  std::vector<std::string> fault;
  for (const std::string& verb : event.fault) fault.push_back(with_names(verb, names));
  cluster.begin_round();
  // The rounds are to meet every phase of what goes on once a second.
  std::this_thread::sleep_for(std::chrono::duration<double>(0.5 + std::fmod(round * 0.618, 1)));
  const double begun = now();
  if (event.name != "switchover") {
    cluster.lab(fault);
  } else if (!cluster.try_lab(fault)) {
    cluster.repair();
    return false;
  }

  std::size_t successor = cast.old;
  switch (event.until) {
    case Until::successor:
      if (const auto found = cluster.wait_for_successor(cast.old)) successor = *found;
      if (successor != cast.old) cluster.wait_until_replaced(cast.old);
      break;
    case Until::healthy:
      cluster.wait_until_healthy();
      break;
    case Until::no_writes:
      cluster.wait_until_no_writes(cast.old);
      break;
    case Until::no_reads:
      cluster.wait_until_no_reads(cast.successor, 20);
      break;
  }
  const bool changed = successor != cast.old;
  if (!event.end.empty()) {
    cluster.lab({with_names(event.end, names)});
    if (event.until == Until::successor) {
      // Time for the old primary to be taken for one again.
      std::this_thread::sleep_for(std::chrono::seconds(2));
      if (changed) cluster.wait_until_replaced(cast.old);
    }
  }
  if (event.until == Until::successor && !changed) {
    cluster.repair();
    return false;
  }
  // Where nobody can read until the old primary is a standby again, they are not content before.
  cluster.wait_until_content(5);
  const auto figures = cluster.clients().figures();
  const Seen before = cluster.seen();
  if (!event.after.empty()) {
    cluster.lab({with_names(event.after, names) +
                 (event.after == "rejoin OLD" ? " " + nodes[successor].name : "")});
  }
  cluster.wait_until_healthy();
  cluster.clients().renew();

  print_clients(figures);
  const Seen seen = cluster.seen();
  if (changed) {
    print_change(seen, cluster.clients().rows(), seen.nodes[cast.old], seen.nodes[successor],
                 begun);
  } else if (event.name == "restart") {
    std::printf("away %.3f\n", before.nodes[cast.old].away);
  } else if (event.name == "standby-cut") {
    std::printf("late %.3f\n", before.nodes[cast.successor].last_good - begun);
  }
  std::printf("pause %.3f\n", cluster.clients().pause());
  std::fflush(stdout);
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
  const auto event = std::find_if(events.begin(), events.end(), [&](const Event& one) {
    return rounds > 0 && one.name == argv[2];
  });
  if (event == events.end()) {
    std::fprintf(stderr, "usage: outage LAB EVENT ROUNDS, where EVENT is one of");
    for (const Event& one : events) std::fprintf(stderr, " %s", one.name.c_str());
    std::fprintf(stderr, "\n");
    return 64;
  }
  signal(SIGTERM, end_group);
  Watched_Cluster cluster(argv[1]);
  int failed = 0;
  for (int round = 0; round < rounds;) {
    if (run_round(cluster, *event, cluster.wait_until_healthy(), round)) {
      ++round;
      continue;
    }
    std::printf("failed 1\n");
    std::fflush(stdout);
    if (++failed > rounds) die("repmgr fails too often");
  }
  std::_Exit(0);  // the threads of the cluster are still at work
}
