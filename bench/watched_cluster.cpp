#include "bench/watched_cluster.hpp"

#include <fcntl.h>
#include <httplib.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <map>
#include <sstream>
#include <thread>

#include "tests/libpq.hpp"

using namespace std::chrono_literals;

namespace {

constexpr double pace = 0.01;
// Until an attempt to write is given up: there are never more under way than max_connections.
constexpr double patience = 0.75;

void rest() {
  std::this_thread::sleep_for(std::chrono::duration<double>(pace));
}

// The calling thread opens its sockets there from now on.
void enter(const std::string& netns) {
  const int fd = open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) die("cannot enter the namespace " + netns);
  close(fd);
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

double now() {
  static const auto zero = std::chrono::steady_clock::now();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - zero).count();
}

void die(const std::string& what) {
  std::fprintf(stderr, "outage: %s\n", what.c_str());
  std::_Exit(1);
}

Watched_Cluster::Watched_Cluster(const std::string& lab_script) : script_(lab_script) {
  std::istringstream env(run({"env"}, true));
  std::map<std::string, std::string> values;
  for (std::string line; std::getline(env, line);) {
    const auto equals = line.find('=');
    values[line.substr(0, equals)] = line.substr(equals + 1);
    if (!line.starts_with("NODE_")) continue;
    Node node;
    std::istringstream fields(line.substr(equals + 2));
    fields >> node.name >> node.address >> node.port >> node.http_port >> node.netns;
    node.id = std::atoi(line.c_str() + 5);
    node.folder = values["LAB_DIR"] + "/" + node.name;
    seen_.nodes.push_back(node);
  }
  if (values["LAB_NET"] != "netns") die("it needs a lab in network namespaces");
  folder_ = values["LAB_DIR"];
  hub_ = values["HUB_NS"];
  target_ = "hostaddr=" + values["WRITE_HOST"] + " port=" + values["WRITE_PORT"] +
            " user=app dbname=postgres sslmode=disable gssencmode=disable";
  lab({"write 'CREATE TABLE IF NOT EXISTS written (n bigint)'"});
  for (Node& node : seen_.nodes) {
    std::thread([&] { watch_state(node); }).detach();
    std::thread([&] { watch_database(node); }).detach();
  }
  std::thread([this] { watch_haproxy(); }).detach();
  std::thread([this] { write_rows(); }).detach();
}

// The output.
std::string Watched_Cluster::run(const std::vector<std::string>& verbs, bool must) const {
  std::string command, output;
  for (const std::string& verb : verbs) {
    command += (command.empty() ? "{ '" : " && '") + script_ + "' " + verb;
  }
  FILE* pipe = popen((command + "; } 2>&1").c_str(), "r");
  if (!pipe) die("popen fails");
  for (char part[4096]; std::fgets(part, sizeof part, pipe);) output += part;
  if (pclose(pipe) != 0 && must) die(command + "; }: " + output);
  return output;
}

void Watched_Cluster::lab(const std::vector<std::string>& verbs) const {
  run(verbs, true);
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
    const std::lock_guard lock(mutex_);
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
        " 'streaming'), CASE WHEN repmgr.get_upstream_last_seen() BETWEEN 0 AND 2 THEN"
        " repmgr.get_upstream_node_id() END"));
    const bool ok = PQresultStatus(result.get()) == PGRES_TUPLES_OK;
    const auto field = [&](int i) { return ok ? PQgetvalue(result.get(), 0, i) : ""; };
    const std::lock_guard lock(mutex_);
    if (node.serves == 0 && *field(0) == 'f') node.serves = now();
    node.names = field(1);
    node.receivers = field(2);
    node.upstream = field(3);
    for (Node& named : seen_.nodes) {
      const auto votes = std::count_if(seen_.nodes.begin(), seen_.nodes.end(),
                                       [&](const Node& one) { return one.names == named.name; });
      if (named.named == 0 && votes > 1) named.named = now();
    }
  }
}

void Watched_Cluster::watch_haproxy() {
  for (double before = now();; rest()) {
    std::istringstream lines(
        ask_haproxy(folder_ + "/haproxy.admin", "show servers state postgres_write\n"));
    const std::lock_guard lock(mutex_);
    int up = 0;
    for (std::string line; std::getline(lines, line);) {
      std::istringstream fields(line);
      std::string skipped, name, state;
      fields >> skipped >> skipped >> skipped >> name >> skipped >> state;
      for (Node& node : seen_.nodes) {
        if (node.name != name) continue;
        node.up = state != "0";
        up += node.up;
      }
    }
    const double time = now();
    if (up > 1) seen_.two_up += time - before;
    before = time;
  }
}

// ---- the writer ---------------------------------------------------------------------------------

struct Watched_Cluster::Attempt {
  Connection connection;
  double begun = 0, sent = 0;
  PostgresPollingStatusType wants = PGRES_POLLING_WRITING;
};

// A connection for each row, many under way at a time: one that hangs holds up no other.
void Watched_Cluster::write_rows() {
  enter(hub_);
  std::list<Attempt> attempts;
  std::vector<pollfd> sockets;
  for (double next = now(), last = next;;) {
    const double time = now();
    if (time >= next) {
      attempts.push_back({silenced(PQconnectStart(target_.c_str())), time});
      next = std::max(next + pace, time);
      const std::lock_guard lock(mutex_);
      seen_.gap = std::max(seen_.gap, time - last);
      last = time;
    }
    attempts.remove_if([&](const Attempt& attempt) { return time > attempt.begun + patience; });
    sockets.clear();
    for (const Attempt& attempt : attempts) {
      const bool writes = attempt.wants == PGRES_POLLING_WRITING;
      sockets.push_back(
          {PQsocket(attempt.connection.get()), static_cast<short>(writes ? POLLOUT : POLLIN), 0});
    }
    const timespec left{0, static_cast<long>(std::clamp(next - now(), 0.0, pace) * 1e9)};
    ppoll(sockets.data(), sockets.size(), &left, nullptr);
    auto socket = sockets.begin();
    attempts.remove_if([&](Attempt& attempt) { return (socket++)->revents && !advance(attempt); });
  }
}

// Takes it a step on; false: it has ended.
bool Watched_Cluster::advance(Attempt& attempt) {
  PGconn* connection = attempt.connection.get();
  if (attempt.sent == 0) {
    attempt.wants = PQconnectPoll(connection);
    if (attempt.wants != PGRES_POLLING_OK) return attempt.wants != PGRES_POLLING_FAILED;
    attempt.wants = PGRES_POLLING_READING;
    attempt.sent = now();
    return PQsendQuery(connection,
                       "INSERT INTO written VALUES (1) RETURNING host(inet_server_addr()),"
                       " left(pg_walfile_name(pg_current_wal_lsn()), 8)");
  }
  if (!PQconsumeInput(connection)) return false;
  if (PQisBusy(connection)) return true;
  const Result result(PQgetResult(connection));
  if (PQresultStatus(result.get()) == PGRES_TUPLES_OK) {
    const std::lock_guard lock(mutex_);
    seen_.rows.push_back(
        {attempt.sent, now(), PQgetvalue(result.get(), 0, 0), PQgetvalue(result.get(), 0, 1)});
  }
  return false;
}

// ---- what is waited for -------------------------------------------------------------------------

void Watched_Cluster::begin_round() {
  const std::lock_guard lock(mutex_);
  for (Node& node : seen_.nodes) node.first_200 = node.last_200 = node.serves = node.named = 0;
  seen_.rows.clear();
  seen_.two_up = seen_.gap = 0;
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
  die(what + ":\n" + run({"status"}, false));
}

bool Watched_Cluster::healthy(const Node& primary, bool repmgrd) const {
  return std::all_of(seen_.nodes.begin(), seen_.nodes.end(), [&](const Node& node) {
    const bool is_primary = &node == &primary;
    return node.status == (is_primary ? 200 : 202) && node.up == is_primary &&
           node.names == primary.name && node.receivers == (is_primary ? "2" : "0") &&
           (is_primary || !repmgrd || node.upstream == std::to_string(primary.id));
  });
}

std::size_t Watched_Cluster::wait_until_healthy(bool repmgrd) const {
  std::size_t primary = 0;
  const auto well = [&] {
    for (primary = 0; primary < seen_.nodes.size(); ++primary) {
      if (healthy(seen_.nodes[primary], repmgrd)) return true;
    }
    return false;
  };
  if (eventually(20, well)) return primary;
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
    if (&node != &*newest) run({"rejoin " + node.name + " " + newest->name}, false);
  }
}

std::optional<std::size_t> Watched_Cluster::wait_for_successor(std::size_t old) const {
  std::size_t successor = 0;
  const auto written = [&] {
    for (successor = 0; successor < seen_.nodes.size(); ++successor) {
      if (successor != old && !seen_.rows.empty() &&
          seen_.rows.back().server == seen_.nodes[successor].address) {
        return true;
      }
    }
    return false;
  };
  if (eventually(45, written)) return successor;
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
