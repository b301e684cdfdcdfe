#include "daemon/api/endpoints.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/error.hpp"
#include "base/json.hpp"
#include "base/size.hpp"
#include "base/time.hpp"
#include "daemon/api/metrics.hpp"
#include "daemon/api/page.hpp"
#include "daemon/hook/change_hook.hpp"
#include "node/rules/lag.hpp"

namespace primgr {

using namespace std::chrono_literals;

struct Endpoints::Endpoint {
  std::string_view path;
  Answer (Endpoints::*get)(const Request&);
};

namespace {

// Each of these statuses has a counter. 0: all other statuses.
constexpr int statuses[] = {200, 202, 400, 404, 405, 503, 509, 0};

std::size_t status_index(int status) {
  return static_cast<std::size_t>(std::find(std::begin(statuses), std::end(statuses) - 1, status) -
                                  std::begin(statuses));
}

// Makes the answer to any client from the reply to a peer.
Answer answer_of(Reply reply) {
  return {reply.status, std::move(reply.body)};
}
Answer state_answer(int status, State state) {
  return {status, state_reply(state).body};
}

// How far a standby may be behind: /replica?lag=16MB&delay=10s.
struct Lag_Limits {
  std::optional<Lsn> lag;     // bytes of WAL that are not replayed
  std::optional<Time> delay;  // age of the oldest of these bytes
};

// Throws Input_Error for an unknown parameter, a repeated one, or a bad value.
Lag_Limits parse_lag_limits(const Params& params) {
  Lag_Limits limits;
  for (const auto& [key, value] : params) {
    if (params.count(key) > 1) throw Input_Error(key + " is given twice");
    try {
      if (key == "lag") {
        limits.lag = parse_size(value);
      } else if (key == "delay") {
        limits.delay = parse_duration(value, 0s, 24h * 365);
      } else {
        throw Input_Error("there is no such parameter; lag=16MB and delay=10s are");
      }
    } catch (const Input_Error& error) {
      throw Input_Error(key + ": " + error.what());
    }
  }
  return limits;
}

// `/replica`: 200 on a standby that streams and is within the limits. 400 if the limits are not
// valid. Else 503 with the reason. `or_primary`: 200 on the Primary too, for `/read-only` and
// similar paths. `synchrony`: for `/sync` and similar paths, whether the standby must be
// synchronous or must be asynchronous.
Answer replica_answer(Repmgr_Node& node, const Params& params, bool or_primary,
                      std::optional<bool> synchrony = std::nullopt) {
  Lag_Limits limits;
  try {
    limits = parse_lag_limits(params);
  } catch (const Input_Error& error) {
    return {400, dump({{"error", std::string(error.what()).substr(0, max_reply_size / 2)}})};
  }
  const State state = node.get_state();
  Json body = {{"state", to_string(state)}};
  if (or_primary && state == State::primary) return {200, dump(body)};
  if (const auto drain = node.get_drain()) {
    body["reason"] = describe_drain(*drain);
    return {503, dump(body)};
  }
  const auto lag = node.get_lag();
  if (!lag) {
    body["reason"] = "it is no standby";
    return {503, dump(body)};
  }
  std::string reason = lag_problem(*lag, limits.lag, limits.delay, node.max_peer_age());
  body["replayLagBytes"] = or_null(lag->replay);
  body["replayLagSeconds"] = or_null(lag->delay);
  body["staleSeconds"] = or_null(lag->stale);
  body["staleBy"] = to_string(lag->rule);
  if (synchrony) {
    const Synchrony known = node.get_synchrony();
    body["synchronous"] = known.synchronous ? Json(*known.synchronous) : Json(nullptr);
    if (reason.empty() && known.synchronous != synchrony) {
      reason = !known.synchronous ? known.why
               : *synchrony       ? "it is asynchronous"
                                  : "it is synchronous";
    }
  }
  if (!reason.empty()) body["reason"] = reason;
  return {reason.empty() ? 200 : 503, dump(body)};
}

}  // namespace

// All endpoints. /state comes first, because it is requested most.
constexpr Endpoints::Endpoint Endpoints::table[] = {
    {"/state", &Endpoints::state},
    {"/", &Endpoints::root},
    {"/primary", &Endpoints::primary},
    {"/leader", &Endpoints::leader},
    {"/read-write", &Endpoints::leader},
    {"/master", &Endpoints::leader},
    {"/realPrimary", &Endpoints::real_primary},
    {"/replica", &Endpoints::replica},
    {"/read-only", &Endpoints::read_only},
    {"/readiness", &Endpoints::read_only},
    {"/sync", &Endpoints::sync},
    {"/synchronous", &Endpoints::sync},
    {"/async", &Endpoints::async},
    {"/asynchronous", &Endpoints::async},
    {"/read-only-sync", &Endpoints::read_only_sync},
    {"/standby", &Endpoints::standby},
    {"/lists", &Endpoints::lists},
    {"/health", &Endpoints::health},
    {"/liveness", &Endpoints::liveness},
    {"/node", &Endpoints::node},
    {"/cluster", &Endpoints::cluster},
    {"/metrics", &Endpoints::metrics},
};

Answer get_reported_state(const Repmgr_Node& node, const Params& params) {
  if (!params.contains("node")) return answer_of(state_reply(node.get_state()));
  const State_Report report = node.get_state_report();
  return answer_of(is_state_question(params, node.name()) ? state_reply(report)
                                                          : state_reply(report.state, report.id));
}

Answer get_reported_primary(Repmgr_Node& node, const Params& params) {
  const Primary_Question asked = read_primary_question(params);
  Ballot ballot;
  if (!asked.voter.empty() && !names_equal(asked.voter, node.name())) {
    // The question is for another node, so the answer names no node.
  } else if (asked.candidate.empty() || asked.handback) {
    if (asked.handback) node.end_promise(asked.candidate, *asked.handback, asked.ago);
    ballot.names = node.get_primary().value_or("");
  } else {
    // Without a lease in the question it is 0, and this node's own vote_lease is used.
    ballot = node.grant_vote(asked.candidate, asked.accepts_less ? 0ms : asked.lease.value_or(0ms),
                             asked.accepts_less ? std::optional(asked.token) : std::nullopt,
                             asked.lists);
  }
  if (auto reply = primary_reply(ballot, asked.accepts_less, node.vote_lease())) {
    return answer_of(std::move(*reply));
  }
  return answer_of(primary_reply_without_name(node.get_state() == State::down, ballot.lists,
                                              ballot.newer_timeline));
}

Answer get_lists(const Repmgr_Node& node, const Params& params) {
  const auto scope = read_lists_question(params, node.name());
  if (!scope)
    return {400, error_body("node: which node is meant, and system: a number: /lists?node=n2")};
  const auto known = node.get_lists(*scope);
  if (!known) return {503, error_body("state_directory cannot be written")};
  return answer_of(lists_reply(known->first, known->second));
}

Answer get_reported_real_primary(const Repmgr_Node& node) {
  Real_Primary real = node.get_real_primary();
  if (!real.nodes_known) return {503, dump({{"realPrimary", nullptr}, {"state", "Down"}})};
  if (real.claimants.size() == 1) {
    if (Answer answer{200, dump(name_body("realPrimary", real.claimants[0]))};
        answer.body.size() <= max_reply_size) {
      return answer;
    }
  }
  if (real.claimants.size() < 2) {
    return {503, dump({{"realPrimary", nullptr}, {"state", "Unknown"}})};
  }
  for (;;) {  // as many claimants as max_reply_size allows
    Answer answer{509, dump({{"realPrimary", nullptr}, {"claimants", real.claimants}})};
    if (answer.body.size() <= max_reply_size) return answer;
    real.claimants.pop_back();
  }
}

namespace {

// Empty for an empty path.
std::string absolute_path(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  return path.empty() || error ? path : absolute.string();
}

}  // namespace

Endpoints::Endpoints(const Settings& settings, Repmgr_Node& node, const Tls& tls, Http_Get peers)
    : node_(node),
      tls_(tls),
      process_{boottime(), settings.max_connections, absolute_path(settings.state_directory)},
      cluster_(settings.peer_timeout, node, process_, std::move(peers)),
      // One address gets at most three quarters of the places, so that other addresses find a
      // place.
      waiting_for_nodes_(settings.max_waiting),
      waiting_for_votes_(settings.max_waiting),
      counts_(new std::atomic<std::uint64_t>[(std::size(table) + 1) * std::size(statuses)] {}) {}

std::vector<std::string_view> Endpoints::paths() {
  std::vector<std::string_view> paths;
  for (const Endpoint& endpoint : table) paths.push_back(endpoint.path);
  return paths;
}

Answer Endpoints::answer(const Request& request) {
  const auto* endpoint = std::find_if(std::begin(table), std::end(table),
                                      [&](const Endpoint& e) { return e.path == request.path; });
  if (endpoint == std::end(table)) return {404, error_body("Not Found")};
  return (this->*endpoint->get)(request);
}

void Endpoints::count(std::string_view path, int status) {
  std::size_t row = 0;
  while (row < std::size(table) && table[row].path != path) ++row;
  counts_[row * std::size(statuses) + status_index(status)].fetch_add(1, std::memory_order_relaxed);
}

void Endpoints::write_request_counts(Metrics& metrics) const {
  metrics.family("http_requests_total", "counter", "Requests answered, by path and status.");
  for (std::size_t row = 0; row <= std::size(table); ++row) {
    const std::string path(row < std::size(table) ? table[row].path : "other");
    for (std::size_t column = 0; column < std::size(statuses); ++column) {
      const auto count =
          counts_[row * std::size(statuses) + column].load(std::memory_order_relaxed);
      if (count == 0) continue;
      const int status = statuses[column];
      metrics.sample(static_cast<double>(count),
                     {{"path", path}, {"code", status ? std::to_string(status) : "other"}});
    }
  }
}

Answer Endpoints::state(const Request& request) {
  return get_reported_state(node_, request.params);
}

// The page for a browser, else the body of /state. The status is that of /state in both cases,
// because HAProxy's `option httpchk` requests / unless it is configured otherwise.
Answer Endpoints::root(const Request& request) {
  Answer answer = get_reported_state(node_);
  answer.headers.emplace_back("Vary", "Accept");
  if (!request.wants_page) return answer;
  static const std::string policy = page_policy();
  answer.headers.emplace_back("Content-Security-Policy", policy);
  answer.headers.emplace_back("X-Content-Type-Options", "nosniff");
  answer.headers.emplace_back("Referrer-Policy", "no-referrer");
  answer.body = page;
  answer.type = "text/html; charset=utf-8";
  return answer;
}

// OPTIONS is for load balancers that were configured for Patroni. A vote blocks until its promise
// is written, and until the earlier votes are written. If too many requests wait, no vote is
// granted.
Answer Endpoints::primary(const Request& request) {
  if (request.method == "OPTIONS") return leader(request);
  const std::string candidate = param(request.params, "candidate");
  std::optional<Wait_Limiter::Slot> slot;
  if (!candidate.empty() && !slot.emplace(waiting_for_votes_, request.client_address)) {
    return state_answer(503, State::unknown);
  }
  return get_reported_primary(node_, request.params);
}

Answer Endpoints::leader(const Request&) {
  const State state = node_.get_state();
  return state_answer(state == State::primary ? 200 : 503, state);
}

Answer Endpoints::real_primary(const Request&) {
  return get_reported_real_primary(node_);
}

Answer Endpoints::replica(const Request& request) {
  return replica_answer(node_, request.params, false);
}

Answer Endpoints::read_only(const Request& request) {
  return replica_answer(node_, request.params, true);
}

Answer Endpoints::sync(const Request& request) {
  return replica_answer(node_, request.params, false, true);
}

Answer Endpoints::async(const Request& request) {
  return replica_answer(node_, request.params, false, false);
}

Answer Endpoints::read_only_sync(const Request& request) {
  return replica_answer(node_, request.params, true, true);
}

Answer Endpoints::standby(const Request& request) {
  // Without `name`, the request is a health check, which is answered as /replica is. With `name`,
  // it is another node's question.
  if (!request.params.contains("name")) return replica(request);
  const std::string name = read_standby_question(request.params);
  if (name.empty()) return {400, error_body("name: which standby is meant: /standby?name=n2")};
  return answer_of(standby_reply(node_.get_standby(name)));
}

Answer Endpoints::lists(const Request& request) {
  return get_lists(node_, request.params);
}

Answer Endpoints::health(const Request&) {
  const State state = node_.get_state();
  return state_answer(state == State::down ? 503 : 200, state);
}

Answer Endpoints::liveness(const Request&) {
  const bool alive = node_.alive();
  return {alive ? 200 : 503, dump({{"alive", alive}})};
}

// `history`: how many changes of state the answer has.
Answer Endpoints::node(const Request& request) {
  std::size_t changes = max_changes;
  const std::string wanted = param(request.params, "history");
  std::from_chars(wanted.data(), wanted.data() + wanted.size(), changes);
  return {200, dump(make_node_document(node_, process_, changes))};
}

Answer Endpoints::cluster(const Request& request) {
  const Wait_Limiter::Slot slot(waiting_for_nodes_, request.client_address);
  Answer answer = cluster_.get(bool(slot));
  if (!slot && answer.status == 503) {
    answer.headers.emplace_back("Retry-After", std::to_string(cluster_.retry_after()));
  }
  return answer;
}

Answer Endpoints::metrics(const Request&) {
  Metrics metrics;
  write_node_metrics(metrics, node_.get_report(), process_, node_.get_history());
  metrics.gauge("tls_certificate_expiry_timestamp_seconds", "When tls_cert ends, since the epoch.",
                tls_.expiry());
  write_request_counts(metrics);
  const auto [runs, failures] = Change_Hook::counts();
  metrics.counter("on_change_runs_total", "Runs of the program on_change.",
                  static_cast<double>(runs));
  metrics.counter("on_change_failures_total", "Those of them that failed.",
                  static_cast<double>(failures));
  return {200, std::move(metrics).text(), "text/plain; version=0.0.4; charset=utf-8"};
}

}  // namespace primgr
