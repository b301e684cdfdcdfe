#include "tests/original.hpp"

#include <nlohmann/json.hpp>

#include "node/rules/model.hpp"
#include "node/rules/voting.hpp"
#include "tests/http_client.hpp"
#include "tests/libpq.hpp"

namespace {

constexpr int port = 5999;

// Its threads stay in the namespace in which it is made.
Raw_Server server_on(const Lab& lab, const std::string& node, Raw_Server::Behave behave) {
  const In_Namespace there(lab.conf(node, "netns"));
  return Raw_Server(std::move(behave), INADDR_ANY, 64, port);
}

Answer named(int status, const std::string& key, const std::string& word) {
  return {status, nlohmann::json{{key, word}}.dump()};
}

// The name in a reply to /primary; empty: none.
std::string primary_of(const Response& reply) {
  const auto body = nlohmann::json::parse(reply.body, nullptr, false);
  if (reply.status != 200 || !body.is_object() || !body.contains("Primary")) return {};
  return body["Primary"].is_string() ? body["Primary"].get<std::string>() : "";
}

}  // namespace

Original::Original(const Lab& lab, const std::string& node, std::chrono::milliseconds cache_time)
    : self_(node),
      conninfo_("host=" + lab.conf(node, "socket") + " port=" + lab.conf(node, "port") +
                " dbname=repmgr user=repmgr connect_timeout=3"),
      cache_time_(cache_time),
      hosts_([&] {
        std::map<std::string, std::string> hosts;
        for (const std::string& name : lab.nodes()) {
          hosts[primgr::host_name(name)] = lab.address(name);
        }
        return hosts;
      }()),
      server_(server_on(lab, node, [this](int fd) { serve(fd); })) {}

std::size_t Original::votes_since(Steady::time_point start) const {
  const std::lock_guard lock(mutex_);
  return voted_at_ > start ? votes_ : 0;
}

void Original::serve(int fd) {
  const std::string request = read_request(fd);
  const bool state = request.starts_with("GET /state");
  // It knows no parameters, and so ignores them.
  const bool primary = request.starts_with("GET /primary ") || request.starts_with("GET /primary?");
  const Answer answer = state || primary ? this->answer(state) : named(404, "detail", "Not Found");
  send_all(fd, "HTTP/1.1 " + std::to_string(answer.status) +
                   " X\r\nContent-Type: application/json\r\nContent-Length: " +
                   std::to_string(answer.body.size()) + "\r\nConnection: close\r\n\r\n" +
                   answer.body);
}

Answer Original::answer(bool state) {
  {
    const std::lock_guard lock(mutex_);
    const Cached& cached = cache_[state];
    if (cached.answer.status && Steady::now() - cached.made_at < cache_time_) return cached.answer;
  }
  const auto start = Steady::now();
  const Answer made = work_out(state);
  const std::lock_guard lock(mutex_);
  cache_[state] = {start, made};
  return made;
}

Answer Original::work_out(bool state) {
  const Connection database = open_connection(conninfo_);
  const Result recovery = database ? query(database, "SELECT pg_is_in_recovery()") : nullptr;
  const Result nodes = recovery ? query(database,
                                        "SELECT node_name, type = 'primary' AND active"
                                        " FROM repmgr.nodes ORDER BY node_id")
                                : nullptr;
  if (!nodes) return named(503, "State", "Down");
  std::string primary;
  std::vector<std::string> others;
  for (int row = 0; row < PQntuples(nodes.get()); ++row) {
    const std::string name = primgr::host_name(PQgetvalue(nodes.get(), row, 0));
    if (*PQgetvalue(nodes.get(), row, 1) == 't') primary = name;
    if (name != primgr::host_name(self_)) others.push_back(name);
  }
  if (!state) {
    return primary.empty() ? named(503, "State", "Unknown") : named(200, "Primary", primary);
  }
  if (*PQgetvalue(recovery.get(), 0, 0) == 't') return named(202, "State", "Standby");
  const auto start = Steady::now();
  std::size_t votes = primary == primgr::host_name(self_) ? 1 : 0;
  for (const std::string& other : others) {
    Client peer(hosts_.at(other), port, 3s);
    if (primary_of(peer.get("/primary")) == primgr::host_name(self_)) ++votes;
  }
  {
    const std::lock_guard lock(mutex_);
    votes_ = votes;
    voted_at_ = start;
  }
  const bool enough = votes >= primgr::votes_needed(others.size() + 1);
  return enough ? named(200, "State", "Primary") : named(509, "State", "Unknown");
}
