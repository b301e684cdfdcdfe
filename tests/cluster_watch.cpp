#include "tests/cluster_watch.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "node/rules/voting.hpp"
#include "tests/http_client.hpp"

std::vector<Violation> find_violations(const std::vector<Sample>& samples, double lease) {
  std::vector<Sample> primaries;
  for (const Sample& s : samples) {
    if (s.status == 200) primaries.push_back(s);
  }
  std::sort(primaries.begin(), primaries.end(),
            [](const Sample& a, const Sample& b) { return a.sent < b.sent; });
  const auto again = [&](const Sample& a, std::size_t b) {
    for (std::size_t j = b + 1; j < primaries.size(); ++j) {
      if (primaries[j].sent >= a.received + lease) return false;
      if (primaries[j].node == a.node && primaries[j].sent >= primaries[b].received) return true;
    }
    return false;
  };
  std::vector<Violation> found;
  for (std::size_t b = 0; b < primaries.size(); ++b) {
    for (std::size_t i = b; i-- > 0 && primaries[i].sent > primaries[b].sent - lease;) {
      const Sample& a = primaries[i];
      if (a.node == primaries[b].node || a.received > primaries[b].sent) continue;
      if (again(a, b)) found.push_back({a, primaries[b]});
      break;
    }
  }
  return found;
}

Cluster_Watch::Cluster_Watch(const Lab& lab) {
  for (const std::string& name : lab.nodes()) {
    nodes_.push_back(std::make_unique<Node>());
    Node& node = *nodes_.back();
    node.name = name;
    node.netns = lab.conf(name, "netns");
    node.socket = lab.conf(name, "socket");
    node.address = lab.address(name);
  }
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    threads_.emplace_back([this, i] { watch_primgr(i); });
    threads_.emplace_back([this, i] { watch_database(i); });
  }
}

Cluster_Watch::~Cluster_Watch() {
  ending_ = true;
  for (auto& thread : threads_) thread.join();
}

void Cluster_Watch::watch_primgr(std::size_t index) {
  const In_Namespace there(nodes_[index]->netns);
  while (!ending_) {
    Client client("127.0.0.1", 5999, 1s);
    const double sent = seconds_now();
    const int status = client.send("GET", "/state", "").status;
    const double received = seconds_now();
    const int read_status =
        status == 200 ? 200 : client.send("GET", "/replica?lag=16MB&delay=10s", "").status;
    {
      const std::lock_guard lock(mutex_);
      nodes_[index]->view.status = status;
      if (status != 0) samples_.push_back({sent, received, index, status});
      if (read_status != 0) read_samples_.push_back({sent, seconds_now(), index, read_status});
    }
    std::this_thread::sleep_for(20ms);
  }
}

void Cluster_Watch::watch_database(std::size_t index) {
  Connection connection;
  while (!ending_) {
    if (!connection) connection = connect(index, "repmgr");
    const Result result =
        connection ? query(connection,
                           "SELECT pg_is_in_recovery(), string_agg(node_name, ',') FILTER (WHERE"
                           " type = 'primary' AND active), string_agg(node_id || ' ' || node_name"
                           " || ' ' || location, ', ' ORDER BY node_id) FROM repmgr.nodes")
                   : nullptr;
    if (result) {
      note(index, true, *PQgetvalue(result.get(), 0, 0) == 't', PQgetvalue(result.get(), 0, 1),
           PQgetvalue(result.get(), 0, 2));
    } else {
      connection.reset();
      note(index, false, view(index).in_recovery, "", "");
    }
    std::this_thread::sleep_for(20ms);
  }
}

void Cluster_Watch::note(std::size_t index, bool reachable, bool in_recovery,
                         const std::string& names, const std::string& members) {
  const std::lock_guard lock(mutex_);
  Node& node = *nodes_[index];
  const bool was_writable = node.view.reachable && !node.view.in_recovery;
  if (reachable && !in_recovery && !was_writable) node.writable.push_back(seconds_now());
  node.view.reachable = reachable;
  node.view.in_recovery = in_recovery;
  node.view.names = names;
  node.view.members = members;
  std::map<std::string, std::size_t> count;
  for (const auto& each : nodes_) {
    if (!each->view.names.empty()) ++count[each->view.names];
  }
  for (const auto& [name, n] : count) {
    if (n < primgr::votes_needed(nodes_.size()) || majority_.name == name) continue;
    majority_ = {name, seconds_now()};
  }
}

Node_View Cluster_Watch::view(std::size_t node) const {
  const std::lock_guard lock(mutex_);
  return nodes_[node]->view;
}

std::size_t Cluster_Watch::leader() const {
  for (std::size_t i = 0; i < size(); ++i) {
    if (status(i) == 200) return i;
  }
  return 0;
}

bool Cluster_Watch::healthy() const {
  std::size_t primaries = 0, standbys = 0;
  for (std::size_t i = 0; i < size(); ++i) {
    const int answer = status(i);
    primaries += answer == 200;
    standbys += answer == 202;
  }
  return primaries == 1 && primaries + standbys == size();
}

bool Cluster_Watch::all_name(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return std::all_of(nodes_.begin(), nodes_.end(),
                     [&](const auto& node) { return node->view.names == name; });
}

Connection Cluster_Watch::connect(std::size_t node, const std::string& database) const {
  return open_connection("host=" + nodes_[node]->socket +
                         " user=postgres connect_timeout=2 dbname=" + database);
}

Cluster_Watch::Majority Cluster_Watch::majority() const {
  const std::lock_guard lock(mutex_);
  return majority_;
}

std::optional<double> Cluster_Watch::writable_after(std::size_t node, double time) const {
  const std::lock_guard lock(mutex_);
  const auto& times = nodes_[node]->writable;
  const auto first = std::lower_bound(times.begin(), times.end(), time);
  return first == times.end() ? std::nullopt : std::optional(*first);
}

std::vector<Sample> Cluster_Watch::read_samples() const {
  const std::lock_guard lock(mutex_);
  return read_samples_;
}

std::vector<Sample> Cluster_Watch::samples() const {
  const std::lock_guard lock(mutex_);
  return samples_;
}

std::optional<double> Cluster_Watch::first_other(std::size_t node, double since,
                                                 double seconds) const {
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

double Cluster_Watch::first_other_after_200(std::size_t node) const {
  const double last = last_200_before(node, seconds_now());
  const std::lock_guard lock(mutex_);
  for (const Sample& s : samples_) {
    if (s.node == node && s.status != 200 && s.received >= last) return s.received - last;
  }
  return 0;
}

std::size_t Cluster_Watch::not_200(std::size_t node, double from, double to) const {
  std::size_t found = 0;
  for (const Sample& s : samples()) {
    if (s.node != node || s.status == 200 || s.sent < from || s.received > to) continue;
    ++found;
    MESSAGE(s.status, " from ", name(node), " ", s.sent - from, " s after the fault began");
  }
  return found;
}

double Cluster_Watch::last_200_before(std::size_t node, double time) const {
  const std::lock_guard lock(mutex_);
  for (auto s = samples_.rbegin(); s != samples_.rend(); ++s) {
    if (s->node == node && s->status == 200 && s->received < time) return s->received;
  }
  return 0;
}

std::optional<double> Cluster_Watch::first_200_after(std::size_t node, double time) const {
  const std::lock_guard lock(mutex_);
  for (const Sample& s : samples_) {
    if (s.node == node && s.status == 200 && s.sent >= time) return s.received;
  }
  return std::nullopt;
}
