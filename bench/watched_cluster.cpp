#include "bench/watched_cluster.hpp"

#include <httplib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>
#include <thread>

#include "tests/libpq.hpp"

using namespace std::chrono_literals;

namespace {

constexpr double pace = 0.01;

void rest() {
  std::this_thread::sleep_for(std::chrono::duration<double>(pace));
}

// What HAProxy's administration socket answers; empty: nothing.
std::string ask_haproxy(const std::string& path, const std::string& question) {
  std::string answer;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      send(fd, question.data(), question.size(), MSG_NOSIGNAL) > 0) {
    char part[4096];
    for (ssize_t got; (got = recv(fd, part, sizeof part, 0)) > 0;) {
      answer.append(part, static_cast<std::size_t>(got));
    }
  }
  close(fd);
  return answer;
}

}  // namespace

Watched_Cluster::Watched_Cluster(const std::string& lab_script) : script_(lab_script) {
  std::istringstream env(run({"env"}).first);
  std::map<std::string, std::string> values;
  for (std::string line; std::getline(env, line);) {
    const auto equals = line.find('=');
    values[line.substr(0, equals)] = line.substr(equals + 1);
    if (!line.starts_with("NODE_")) continue;
    Node node;
    std::istringstream fields(line.substr(equals + 2));
    std::string site, kind;
    fields >> node.name >> node.address >> node.port >> node.http_port >> node.netns >> site >>
        kind;
    node.witness = kind.starts_with("witness");
    node.id = std::atoi(line.c_str() + 5);
    node.folder = values["LAB_DIR"] + "/" + node.name;
    seen_.nodes.push_back(node);
  }
  if (values["LAB_NET"] != "netns") die("it needs a lab in network namespaces");
  folder_ = values["LAB_DIR"];
  // HAProxy may have started just now, and have no server yet.
  const std::vector<std::string> table = {"write 'CREATE TABLE IF NOT EXISTS written (n bigint)'"};
  for (const double until = now() + 10; !run(table).second; rest()) {
    if (now() > until) give_up("no row can be written");
  }
  for (Node& node : seen_.nodes) {
    std::thread([&] { watch_state(node); }).detach();
    std::thread([&] { watch_database(node); }).detach();
  }
  std::thread([this] { watch_haproxy(); }).detach();
  clients_ = std::make_unique<Clients>(values["HUB_NS"], values["WRITE_HOST"], values["WRITE_PORT"],
                                       values["READ_PORT"]);
}

std::pair<std::string, bool> Watched_Cluster::run(const std::vector<std::string>& verbs) const {
  std::string command, output;
  for (const std::string& verb : verbs) {
    command += (command.empty() ? "{ '" : " && '") + script_ + "' " + verb;
  }
  FILE* pipe = popen((command + "; } 2>&1").c_str(), "r");
  if (!pipe) die("popen fails");
  for (char part[4096]; std::fgets(part, sizeof part, pipe);) output += part;
  return {output, pclose(pipe) == 0};
}

void Watched_Cluster::lab(const std::vector<std::string>& verbs) const {
  const auto [output, done] = run(verbs);
  if (!done) die(verbs.front() + ", …: " + output);
}

bool Watched_Cluster::try_lab(const std::vector<std::string>& verbs) const {
  const auto [output, done] = run(verbs);
  if (!done) std::fprintf(stderr, "  %s\n", output.c_str());
  return done;
}

bool Watched_Cluster::has_repmgrd() const {
  return access((seen_.nodes[0].folder + "/repmgrd.pid").c_str(), F_OK) == 0;
}

// ---- the watchers -------------------------------------------------------------------------------

// From beside the node, where no cut is in the way.
void Watched_Cluster::watch_state(Node& node) {
  enter(node.netns);
  httplib::Client client("127.0.0.1", node.http_port);
  client.set_keep_alive(true);
  client.set_read_timeout(1s);
  for (;; rest()) {
    const auto answer = client.Get("/state");
    const auto good = client.Options("/replica?lag=16MB&delay=10s");
    const std::lock_guard lock(mutex_);
    if (good && good->status == 200) node.last_good = now();
    node.status = answer ? answer->status : 0;
    if (node.status != 200) continue;
    node.last_200 = now();
    if (node.first_200 == 0) node.first_200 = node.last_200;
  }
}

// A hung server holds this thread, no other.
void Watched_Cluster::watch_database(Node& node) {
  const std::string conninfo = "host=" + node.folder + " port=" + std::to_string(node.port) +
                               " user=postgres dbname=repmgr connect_timeout=2";
  Connection connection;
  for (;; rest()) {
    if (!connection || PQstatus(connection.get()) != CONNECTION_OK) {
      connection = silenced(PQconnectdb(conninfo.c_str()));
    }
    const Result result(PQexec(
        connection.get(),
        "SELECT pg_is_in_recovery(), (SELECT string_agg(node_name, ',') FROM repmgr.nodes WHERE"
        " type = 'primary' AND active), (SELECT count(*) FROM pg_stat_replication WHERE state ="
        " 'streaming'), CASE WHEN repmgr.get_upstream_last_seen() BETWEEN 0 AND 4 THEN"
        " repmgr.get_upstream_node_id() END"));
    const bool ok = PQresultStatus(result.get()) == PGRES_TUPLES_OK;
    const auto field = [&](int i) { return ok ? PQgetvalue(result.get(), 0, i) : ""; };
    const std::lock_guard lock(mutex_);
    if (ok) {
      if (node.answered > 0) node.away = std::max(node.away, now() - node.answered);
      node.answered = now();
    }
    if (node.serves == 0 && *field(0) == 'f') node.serves = now();
    node.names = field(1);
    node.receivers = field(2);
    node.upstream = field(3);
    for (Node& named : seen_.nodes) {
      const auto votes = std::count_if(seen_.nodes.begin(), seen_.nodes.end(),
                                       [&](const Node& one) { return one.names == named.name; });
      if (named.named == 0 && 2 * static_cast<std::size_t>(votes) > seen_.nodes.size()) {
        named.named = now();
      }
    }
  }
}

void Watched_Cluster::watch_haproxy() {
  for (double before = now();; rest()) {
    std::istringstream lines(ask_haproxy(folder_ + "/haproxy.admin", "show servers state\n"));
    const std::lock_guard lock(mutex_);
    int up = 0;
    for (std::string line; std::getline(lines, line);) {
      std::istringstream fields(line);
      std::string skipped, section, name, state;
      fields >> skipped >> section >> skipped >> name >> skipped >> state;
      for (Node& node : seen_.nodes) {
        if (node.name != name) continue;
        if (section == "postgres_read") node.reads = state != "0";
        if (section != "postgres_write") continue;
        node.up = state != "0";
        up += node.up;
      }
    }
    const double time = now();
    if (up > 1) seen_.two_up += time - before;
    before = time;
  }
}

// ---- what is waited for -------------------------------------------------------------------------

void Watched_Cluster::begin_round() {
  const std::lock_guard lock(mutex_);
  for (Node& node : seen_.nodes) {
    node.first_200 = node.last_200 = node.serves = node.named = node.away = node.last_good = 0;
  }
  seen_.two_up = 0;
  clients_->begin();
}

Seen Watched_Cluster::seen() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}

template <typename Condition>
bool Watched_Cluster::eventually(double seconds, Condition condition) const {
  for (const double until = now() + seconds; now() < until; rest()) {
    const std::lock_guard lock(mutex_);
    if (condition()) return true;
  }
  return false;
}

void Watched_Cluster::give_up(const std::string& what) const {
  die(what + ":\n" + run({"status"}).first);
}

bool Watched_Cluster::healthy(const Node& primary) const {
  const auto witness = [](const Node& node) { return node.witness; };
  const auto witnesses = std::count_if(seen_.nodes.begin(), seen_.nodes.end(), witness);
  const auto standbys = seen_.nodes.size() - 1 - static_cast<std::size_t>(witnesses);
  const bool repmgrd = has_repmgrd();
  return std::all_of(seen_.nodes.begin(), seen_.nodes.end(), [&](const Node& node) {
    if (node.names != primary.name) return false;
    if (node.witness) return node.status == 509 && !node.up;
    if (&node == &primary) {
      return node.status == 200 && node.up && node.receivers == std::to_string(standbys);
    }
    return node.status == 202 && !node.up && node.reads && node.receivers == "0" &&
           (!repmgrd || node.upstream == std::to_string(primary.id));
  });
}

std::size_t Watched_Cluster::wait_until_healthy() const {
  std::size_t primary = 0;
  const auto well = [&] {
    for (primary = 0; primary < seen_.nodes.size(); ++primary) {
      if (healthy(seen_.nodes[primary])) return clients_->content(1);
    }
    return false;
  };
  if (eventually(30, well)) return primary;
  repair();
  if (!eventually(60, well)) give_up("the cluster is not well");
  return primary;
}

void Watched_Cluster::repair() const {
  const std::vector<Node> nodes = seen().nodes;
  const auto newest = std::max_element(
      nodes.begin(), nodes.end(), [](const Node& a, const Node& b) { return a.serves < b.serves; });
  std::fprintf(stderr, "  repmgr left it unfinished: all rejoin below %s\n", newest->name.c_str());
  for (const Node& node : nodes) {
    if (&node != &*newest && !node.witness) run({"rejoin " + node.name + " " + newest->name});
  }
}

std::optional<std::size_t> Watched_Cluster::wait_for_successor(std::size_t old) const {
  std::size_t successor = 0;
  const auto written = [&] {
    const std::string server = clients_->last_server();
    for (successor = 0; successor < seen_.nodes.size(); ++successor) {
      if (successor != old && server == seen_.nodes[successor].address) return true;
    }
    return false;
  };
  if (eventually(100, written)) return successor;
  const std::vector<Node> nodes = seen().nodes;
  for (const Node& node : nodes) {
    if (&node != &nodes[old] && node.named > 0) give_up(node.name + " takes no writes");
  }
  return std::nullopt;
}

void Watched_Cluster::wait_until_replaced(std::size_t old) const {
  const Node& node = seen_.nodes[old];
  if (!eventually(30, [&] { return !node.up && node.status != 200 && node.status != 0; })) {
    give_up(node.name + " is a primary still");
  }
}

void Watched_Cluster::wait_until_no_writes(std::size_t node) const {
  if (!eventually(30, [&] { return !seen_.nodes[node].up; })) {
    give_up("HAProxy goes on writing to " + seen_.nodes[node].name);
  }
}

bool Watched_Cluster::wait_until_no_reads(std::size_t node, double seconds) const {
  return eventually(seconds, [&] { return !seen_.nodes[node].reads; });
}

bool Watched_Cluster::wait_until_content(double seconds) const {
  const double begun = now();
  return eventually(seconds, [&] { return now() > begun + 1 && clients_->content(1); });
}
