// The fault campaign.
//
// Random faults on a real cluster, while every node is watched and rows are written through
// HAProxy. `make faults FAULTS=300 NODES=5 FAULT_SEED=7`; a short one is part of every test run.

#include <doctest/doctest.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sys/socket.h>

#include <atomic>
#include <optional>
#include <random>
#include <thread>

#include "node/voting.hpp"
#include "tests/http_client.hpp"
#include "tests/lab.hpp"

using namespace primgr;

namespace {

struct Connection_Deleter {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
using Connection = std::unique_ptr<PGconn, Connection_Deleter>;

double percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<std::size_t>(p * static_cast<double>(values.size())))];
}

class Campaign {
 public:
  Campaign(int nodes, std::uint64_t seed)
      : random_(seed), lab_("--nodes " + std::to_string(nodes) + " --state-file") {
    for (const std::string& name : lab_.nodes()) {
      auto node = std::make_unique<Watched>();
      node->name = name;
      node->netns = lab_.conf(name, "netns");
      node->socket = lab_.conf(name, "socket");
      node->address = lab_.address(name);
      nodes_.push_back(std::move(node));
    }
    lab_.run("write 'CREATE TABLE written (n bigint PRIMARY KEY)'");
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      threads_.emplace_back([this, i] { watch(*nodes_[i]); });
      threads_.emplace_back([this, i] { watch_database(*nodes_[i]); });
    }
    threads_.emplace_back([this] { write_rows(); });
  }
  ~Campaign() {
    ending_ = true;
    for (auto& thread : threads_) thread.join();
  }

  void run(int faults) {
    converge("the start");
    for (int i = 0; i < faults && trouble_.empty(); ++i) fault();
  }

  // Rows are written, and no fault is injected: any answer of the primary but 200 is a false alarm.
  void quiet(double seconds) {
    if (!trouble_.empty()) return;  // there may be no primary
    const std::size_t leader = this->leader();
    const double start = now();
    while (now() - start < seconds) std::this_thread::sleep_for(100ms);
    false_alarms_ += not_200(leader, start, now());
    quiet_ += seconds;
  }

  // Prints the figures, and checks them against what README.md promises.
  void report() {
    const double end = now();
    const std::string final_rows = [&] {
      const auto connection = connect(*nodes_[leader()], "postgres");
      std::string rows = ",";
      if (!connection) return rows;
      PGresult* result = PQexec(connection.get(), "SELECT n FROM written ORDER BY n");
      for (int r = 0; r < PQntuples(result); ++r)
        rows += std::string(PQgetvalue(result, r, 0)) + ",";
      PQclear(result);
      return rows;
    }();
    std::size_t lost = 0, misrouted = 0;
    const std::lock_guard lock(mutex_);
    for (const Row& row : rows_) {
      lost += final_rows.find("," + std::to_string(row.number) + ",") == final_rows.npos;
      // If the node answered nothing but 509 and 503 for this long before the row was sent, HAProxy
      // has seen two failed checks.
      const double blind = 2.0;
      bool refused = false, other = false;
      for (const Sample& s : samples_) {
        // A moment later counts too: HAProxy may have asked between two of these samples.
        if (nodes_[s.node]->address != row.server || s.received < row.sent - blind ||
            s.sent > row.sent + 0.1) {
          continue;
        }
        (s.status == 509 || s.status == 503 ? refused : other) = true;
      }
      misrouted += refused && !other;
    }
    MESSAGE(kinds_.size(), " kinds of faults, ", total_, " faults in ", end - begun_, " s");
    for (const auto& [kind, n] : kinds_) MESSAGE("  ", kind, ": ", n);
    MESSAGE("violations: ", violations(), "; false alarms: ", false_alarms_,
            " (quiet seconds under load: ", quiet_, "); samples: ", samples_.size());
    const auto figure = [&](const std::string& what, const std::vector<double>& values) {
      MESSAGE(what, ": median ", percentile(values, 0.5), " s, p95 ", percentile(values, 0.95),
              " s, max ", percentile(values, 1), " s, n ", values.size());
    };
    figure("crashed primary, last 200 to first other answer", crashed_);
    figure("isolated primary, cut to 509", isolated_);
    figure("hung server, pause to other answer", hung_);
    figure("new primary, from a majority of databases and old leases out to 200", taken_over_);
    MESSAGE("rows acknowledged: ", rows_.size(), ", lost by asynchronous failover: ", lost,
            ", accepted by a server that primgr refused: ", misrouted);
    MESSAGE("repaired by hand, since repmgr did not: ", repmgr_trouble_);
    CHECK(violations() == 0);
    CHECK(false_alarms_ == 0);
    CHECK(misrouted == 0);
    CHECK(percentile(crashed_, 0.95) <= 0.3);
    CHECK(percentile(isolated_, 1) <= 3.5);
    CHECK(percentile(hung_, 1) <= 5.5);
    CHECK(percentile(taken_over_, 0.95) <= 0.5);
    CHECK(trouble_ == "");
  }

 private:
  struct Watched {
    std::string name, netns, socket, address;
    std::atomic<int> status{0};
    std::atomic<bool> reachable{false}, in_recovery{true};
    std::mutex mutex;  // guards names
    std::string names;
  };
  struct Sample {
    double sent, received;
    std::size_t node;
    int status;
  };
  struct Row {
    long number;
    double sent;
    std::string server;
  };

  double now() const { return std::chrono::duration<double>(Steady::now() - zero_).count(); }

  // Asks a node's primgr every 20 ms, from its own namespace, where no cut is in the way.
  void watch(Watched& node) {
    const In_Namespace there(node.netns);
    const std::size_t index =
        static_cast<std::size_t>(std::find_if(nodes_.begin(), nodes_.end(),
                                              [&](const auto& n) { return n.get() == &node; }) -
                                 nodes_.begin());
    while (!ending_) {
      Client client("127.0.0.1", 5999, 1s);
      const double sent = now();
      const int status = client.send("GET", "/state", "Connection: close\r\n").status;
      node.status = status;
      if (status != 0) {
        const std::lock_guard lock(mutex_);
        samples_.push_back({sent, now(), index, status});
      }
      std::this_thread::sleep_for(20ms);
    }
  }

  // libpq prints the notices of servers that are killed.
  static void drop_notices(PGconn* connection) {
    if (connection)
      PQsetNoticeProcessor(
          connection, [](void*, const char*) {}, nullptr);
  }

  static Connection connect(const Watched& node, const char* database) {
    Connection connection(PQconnectdb(
        ("host=" + node.socket + " user=postgres connect_timeout=2 dbname=" + database).c_str()));
    if (PQstatus(connection.get()) != CONNECTION_OK) connection.reset();
    drop_notices(connection.get());
    return connection;
  }

  // Asks a node's database every 20 ms whom it names. A hung server holds this thread, no other.
  void watch_database(Watched& node) {
    Connection connection;
    while (!ending_) {
      if (!connection) connection = connect(node, "repmgr");
      std::string names;
      bool reachable = false;
      if (connection) {
        const std::unique_ptr<PGresult, decltype(&PQclear)> result(
            PQexec(connection.get(),
                   "SELECT pg_is_in_recovery(), (SELECT string_agg(node_name, ',') FROM"
                   " repmgr.nodes WHERE type = 'primary' AND active)"),
            PQclear);
        reachable = PQresultStatus(result.get()) == PGRES_TUPLES_OK;
        if (reachable) {
          node.in_recovery = *PQgetvalue(result.get(), 0, 0) == 't';
          names = PQgetvalue(result.get(), 0, 1);
        } else {
          connection.reset();
        }
      }
      node.reachable = reachable;
      {
        const std::lock_guard lock(node.mutex);
        node.names = names;
      }
      note_majority();
      std::this_thread::sleep_for(20ms);
    }
  }

  // When a majority of databases came to name another node.
  void note_majority() {
    std::map<std::string, std::size_t> count;
    for (const auto& node : nodes_) {
      const std::lock_guard lock(node->mutex);
      if (!node->names.empty()) ++count[node->names];
    }
    const std::lock_guard lock(mutex_);
    for (const auto& [name, n] : count) {
      if (n < votes_needed(nodes_.size()) || majority_ == name) continue;
      majority_ = name;
      majority_since_ = now();
    }
  }

  void write_rows() {
    const In_Namespace there(lab_.hub());
    Connection connection;
    for (long number = 1; !ending_; ++number) {
      if (!connection) {
        connection.reset(
            PQconnectdb("host=10.99.0.254 port=5000 user=app dbname=postgres connect_timeout=2"
                        " tcp_user_timeout=3000"));
        if (PQstatus(connection.get()) != CONNECTION_OK) {
          connection.reset();
          std::this_thread::sleep_for(50ms);
          continue;
        }
        drop_notices(connection.get());
      }
      const double sent = now();
      const std::unique_ptr<PGresult, decltype(&PQclear)> result(
          PQexec(connection.get(), ("INSERT INTO written VALUES (" + std::to_string(number) +
                                    ") RETURNING host(inet_server_addr())")
                                       .c_str()),
          PQclear);
      if (PQresultStatus(result.get()) == PGRES_TUPLES_OK) {
        const std::lock_guard lock(mutex_);
        rows_.push_back({number, sent, PQgetvalue(result.get(), 0, 0)});
      } else {
        connection.reset();
      }
      std::this_thread::sleep_for(20ms);
    }
  }

  std::size_t leader() const {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i]->status == 200) return i;
    }
    return 0;
  }
  std::size_t other_than(std::size_t i) {
    const std::size_t other = random_() % (nodes_.size() - 1);
    return other < i ? other : other + 1;
  }
  const std::string& name(std::size_t i) const { return nodes_[i]->name; }
  bool healthy() const {
    int primaries = 0, standbys = 0;
    for (const auto& node : nodes_) {
      primaries += node->status == 200;
      standbys += node->status == 202;
    }
    return primaries == 1 && primaries + standbys == static_cast<int>(nodes_.size());
  }
  void hold(double least, double most) {
    const double until =
        now() + least + (most - least) * static_cast<double>(random_() % 1000) / 1000;
    while (now() < until) std::this_thread::sleep_for(10ms);
  }

  // The seconds from `since` to the first answer of the node that is not 200; none: no such answer.
  std::optional<double> first_other(std::size_t node, double since, double seconds) {
    std::optional<double> after;
    eventually(seconds, [&] {
      const std::lock_guard lock(mutex_);
      for (auto s = samples_.rbegin(); s != samples_.rend() && s->received >= since; ++s) {
        if (s->node == node && s->status != 200 && s->sent >= since) after = s->received - since;
      }
      return after.has_value();
    });
    return after;
  }
  // How many answers other than 200 came from a node meanwhile; each is printed.
  std::size_t not_200(std::size_t node, double from, double to) {
    const std::lock_guard lock(mutex_);
    std::size_t found = 0;
    for (const Sample& s : samples_) {
      if (s.node != node || s.status == 200 || s.sent < from || s.received > to) continue;
      ++found;
      MESSAGE(s.status, " from ", name(node), " ", s.sent - from, " s after the fault began");
    }
    return found;
  }
  // Answers of 200 by A, then B, then A again within one lease.
  std::size_t violations() const {
    std::size_t found = 0;
    std::vector<double> last_before(nodes_.size(), -1e9);
    std::vector<Sample> primaries;
    for (const Sample& s : samples_) {
      if (s.status == 200) primaries.push_back(s);
    }
    std::sort(primaries.begin(), primaries.end(),
              [](const Sample& a, const Sample& b) { return a.sent < b.sent; });
    for (std::size_t k = 0; k < primaries.size(); ++k) {
      const Sample& b = primaries[k];
      for (std::size_t i = k; i-- > 0 && primaries[i].sent > b.sent - 3;) {
        const Sample& a = primaries[i];
        if (a.node == b.node || a.received > b.sent) continue;
        for (std::size_t j = k + 1; j < primaries.size() && primaries[j].sent < a.received + 2.9;
             ++j) {
          if (primaries[j].node == a.node && primaries[j].sent >= b.received) {
            ++found;
            break;
          }
        }
        break;
      }
    }
    return found;
  }

  void fault() {
    const std::size_t p = leader(), other = other_than(p);
    const double start = now();
    const Fault fault = inject(p, other);
    ++kinds_[fault.kind];
    ++total_;
    if (fault.harmless) {
      const std::size_t alarms = not_200(p, start, now());
      if (alarms) {
        MESSAGE("false alarm: ", fault.kind, ": ", alarms, " answers other than 200 from ",
                name(p));
      }
      false_alarms_ += alarms;
    }
    converge(fault.kind);
    if (getenv("FAULT_TRACE")) {
      MESSAGE(fault.kind, ": ", name(p), " -> ", name(leader()),
              ", named by a majority: ", majority_, " ", majority_since_ - start,
              " s after, repaired in ", now() - start, " s");
    }
    note_takeover(p, start);
  }

  // What was done to the cluster; `harmless`: the primary must answer 200 all the while.
  struct Fault {
    std::string kind;
    bool harmless = false;
  };
  Fault inject(std::size_t p, std::size_t other) {
    const auto pick = random_() % 14;
    if (pick < 7) return harm_primary(pick, p);
    if (pick < 10) return harm_network(pick, p, other);
    return harm_processes(pick, p, other);
  }
  Fault harm_primary(std::uint64_t pick, std::size_t p) {
    const double start = now();
    if (pick < 2) {
      lab_.attempt("kill " + name(p));
      if (first_other(p, start, 5)) crashed_.push_back(std::max(0.0, first_other_after_200(p)));
      hold(0, 8);
      return {"kill the primary"};
    }
    if (pick < 3) {
      lab_.attempt("stop " + name(p));
      hold(0, 8);
      return {"stop the primary"};
    }
    if (pick < 5) {
      lab_.attempt("pause " + name(p));
      measure_first_other(p, hung_);
      hold(0, 6);
      lab_.attempt("resume " + name(p));
      return {"pause the primary"};
    }
    lab_.attempt("cut " + name(p));
    measure_first_other(p, isolated_);
    hold(0, 8);
    lab_.attempt("heal");
    return {"cut the primary off"};
  }
  Fault harm_network(std::uint64_t pick, std::size_t p, std::size_t other) {
    if (pick == 7) {
      lab_.attempt("cut " + name(p) + " " + name(other));
      hold(1, 6);
      lab_.attempt("heal");
      return {"cut one link of the primary", nodes_.size() > 2};
    }
    if (pick == 8) {
      lab_.attempt("cut " + name(other) + " " + name(p) + " --oneway");
      hold(1, 6);
      lab_.attempt("heal");
      return {"cut one direction"};
    }
    std::string rest;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (i != p && i != other) rest += (rest.empty() ? "" : ",") + name(i);
    }
    lab_.attempt("partition " + name(p) + "," + name(other) + " / " + rest);
    if (nodes_.size() > 4) measure_first_other(p, isolated_);
    hold(1, 8);
    lab_.attempt("heal");
    return {"partition in two"};
  }
  Fault harm_processes(std::uint64_t pick, std::size_t p, std::size_t other) {
    if (pick == 10) {
      lab_.attempt("psql " + name(other) + " -c 'SELECT pg_promote()'");
      hold(1, 4);
      return {"promote by hand while the primary lives"};
    }
    if (pick == 11) {
      lab_.attempt("kill " + name(other));
      hold(1, 4);
      return {"kill a standby", true};
    }
    const std::size_t victim = random_() % 2 ? p : other;
    const bool term = random_() % 2;
    lab_.attempt("primgr " + name(victim) + (term ? " stop" : " kill"));
    lab_.attempt("primgr " + name(victim) + " start");
    hold(1, 4);
    return {std::string("restart primgr with ") + (term ? "SIGTERM" : "SIGKILL"), true};
  }
  // How long a node goes on answering 200 from now.
  void measure_first_other(std::size_t node, std::vector<double>& into) {
    if (const auto took = first_other(node, now(), 10)) into.push_back(*took);
  }
  // How long the new primary took, from when it could answer 200 to when it did.
  void note_takeover(std::size_t old, double start) {
    const std::size_t successor = leader();
    if (successor == old || majority_ != name(successor) || majority_since_ <= start) return;
    double first = -1;
    {
      const std::lock_guard lock(mutex_);
      for (const Sample& s : samples_) {
        if (first < 0 && s.node == successor && s.status == 200 && s.sent >= start) {
          first = s.received;
        }
      }
    }
    const double old_leases_out = last_before(old, first) + 3;
    taken_over_.push_back(std::max(0.0, first - std::max(majority_since_, old_leases_out)));
  }

  // The last 200 of a node to its first other answer.
  double first_other_after_200(std::size_t node) {
    const double last = last_before(node, now());
    const std::lock_guard lock(mutex_);
    for (const Sample& s : samples_) {
      if (s.node == node && s.status != 200 && s.received >= last) return s.received - last;
    }
    return 0;
  }
  // When a node last answered 200 before `time`.
  double last_before(std::size_t node, double time) {
    const std::lock_guard lock(mutex_);
    double last = 0;
    for (const Sample& s : samples_) {
      if (s.node == node && s.status == 200 && s.received < time) last = s.received;
    }
    return last;
  }

  // Gives repmgrd time, then repairs what it did not, until one node is 200 and the others 202.
  void converge(const std::string& after) {
    lab_.attempt("heal");
    const double start = now();
    double patience = 20;
    while (!healthy() || now() - start < 1) {
      if (now() - start > 150) {
        trouble_ = "after " + after + " the cluster does not come back";
        return;
      }
      const bool led = nodes_[leader()]->status == 200;
      // A server that is down is started as it was; without a primary only after repmgrd had time
      // to promote another.
      for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const bool late = now() - start > patience;
        if (nodes_[i]->status == 0) lab_.attempt("primgr " + name(i) + " start");
        if (!led && !late) continue;
        if (nodes_[i]->status == 503) lab_.attempt("start " + name(i));
        if (led && nodes_[i]->status == 509 && nodes_[i]->reachable && !nodes_[i]->in_recovery) {
          lab_.attempt("rejoin " + name(i) + " " + name(leader()));
        }
        if (led && late && nodes_[i]->status == 202) {
          std::string names;
          {
            const std::lock_guard lock(nodes_[i]->mutex);
            names = nodes_[i]->names;
          }
          if (names != name(leader())) {
            ++repmgr_trouble_;
            lab_.attempt("rejoin " + name(i) + " " + name(leader()));
          }
        }
      }
      if (!led && now() - start > patience + 10) {  // repmgrd has given up, too
        ++repmgr_trouble_;
        patience += 40;
        repair_without_leader();
      }
      std::this_thread::sleep_for(100ms);
    }
    // Before the next fault every standby has to name the leader, or repmgrd cannot follow.
    eventually(15, [&] {
      for (const auto& node : nodes_) {
        const std::lock_guard lock(node->mutex);
        if (node->names != name(leader())) return false;
      }
      return true;
    });
  }

  // repmgr can leave a cluster whose nodes follow different servers, none of them a majority. An
  // operator lets all follow the primary of the newest timeline, or promotes one if there is none.
  void repair_without_leader() {
    std::size_t chosen = nodes_.size();
    int newest = 0;
    for (std::size_t k = 0; k < nodes_.size(); ++k) {
      if (!nodes_[k]->reachable || nodes_[k]->in_recovery) continue;
      const Ran ran = lab_.attempt("psql " + name(k) +
                                   " -qAtc 'SELECT timeline_id FROM pg_control_checkpoint()'");
      const int timeline = std::atoi(ran.output.c_str());
      if (timeline > newest) {
        newest = timeline;
        chosen = k;
      }
    }
    if (chosen == nodes_.size()) {
      for (std::size_t k = 0; k < nodes_.size(); ++k) {
        if (!nodes_[k]->reachable) continue;
        lab_.attempt("promote " + name(k));
        return;
      }
      return;
    }
    for (std::size_t k = 0; k < nodes_.size(); ++k) {
      if (k != chosen) lab_.attempt("rejoin " + name(k) + " " + name(chosen));
    }
  }

  std::mt19937_64 random_;
  const Steady::time_point zero_ = Steady::now();
  const Lab lab_;
  const double begun_ = now();
  std::vector<std::unique_ptr<Watched>> nodes_;
  std::atomic<bool> ending_{false};
  mutable std::mutex mutex_;  // guards samples_, rows_, majority_*
  std::vector<Sample> samples_;
  std::vector<Row> rows_;
  std::string majority_;
  double majority_since_ = 0;
  std::map<std::string, int> kinds_;
  int total_ = 0, repmgr_trouble_ = 0;
  std::size_t false_alarms_ = 0;
  double quiet_ = 0;
  std::vector<double> crashed_, isolated_, hung_, taken_over_;
  std::string trouble_;
  std::vector<std::thread> threads_;
};

}  // namespace

TEST_SUITE_BEGIN("lab");

TEST_CASE("faults: never two primaries, no false alarm, and every time within its bound") {
  if (!lab_possible("faults")) return;
  const std::uint64_t seed = from_environment("FAULT_SEED", 1);
  const int faults = static_cast<int>(from_environment("FAULTS", 8));
  MESSAGE("seed ", seed);
  Campaign campaign(static_cast<int>(from_environment("NODES", 3)), seed);
  campaign.run(faults);
  campaign.quiet(static_cast<double>(from_environment("QUIET", 10)));
  campaign.report();
}

TEST_SUITE_END();
