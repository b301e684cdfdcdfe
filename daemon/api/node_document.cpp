#include "daemon/api/node_document.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/size.hpp"
#include "base/time.hpp"
#include "node/rules/report.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

namespace {

// The lists of voters that count in addition to the list of repmgr.nodes.
Json describe_lists_before(const Report& report) {
  Json lists = Json::array();
  const auto listed = listed_lists(report.lists);
  for (std::size_t i = 1; i < listed.size(); ++i) {
    const std::vector<Voter>& voters = listed[i];
    Json missing = Json::array();
    for (const Voter& voter : listed_voters(voters)) {
      if (!voter.counts) missing.push_back(voter.name);
    }
    lists.push_back({{"counted", votes_counted(voters)},
                     {"needed", votes_needed(voters.size())},
                     {"of", voters.size()},
                     {"missing", missing}});
  }
  return lists;
}

Json describe_voting(const Report& report) {
  if (report.voters.empty()) return nullptr;
  Json voters = Json::array();
  for (const Voter& voter : listed_voters(report.voters)) {
    voters.push_back({{"name", voter.name},
                      {"counts", voter.counts},
                      {"names", or_null(voter.names)},
                      {"ageSeconds", or_null(voter.age)},
                      {"leaseSeconds", or_null(voter.left)},
                      {"error", or_null(voter.why)}});
  }
  return {{"counted", votes_counted(report.voters)},
          {"needed", votes_needed(report.voters.size())},
          {"of", report.voters.size()},
          {"leaseSeconds", in_seconds(report.lease)},
          {"voters", voters},
          {"before", describe_lists_before(report)}};
}

Json describe_last_handover(const Report& report) {
  if (!report.handover) return nullptr;
  const Handover& handover = *report.handover;
  return {{"from", handover.from},
          {"seconds", in_seconds(handover.total())},
          {"databaseSeconds", in_seconds(handover.database)},
          {"promiseSeconds", in_seconds(handover.promise)},
          {"votesSeconds", in_seconds(handover.votes)},
          {"handedBack", handover.handed_back},
          {"agoSeconds", in_seconds(report.handover_age)}};
}

Json describe_replication(const Report& report) {
  if (!report.in_recovery) return nullptr;
  return {{"streaming", report.lag.streaming},
          {"from", or_null(report.replication.from)},
          {"receiveLagBytes", or_null(report.lag.receive)},
          {"replayLagBytes", or_null(report.lag.replay)},
          {"replayLagSeconds", or_null(report.lag.delay)},
          {"staleSeconds", or_null(report.lag.stale)},
          {"staleBy", to_string(report.lag.rule)},
          {"replayPaused", report.replication.paused},
          {"problem", or_null(report.lag.problem)}};
}

Json describe_standbys(const Replication& replication) {
  if (!replication.known) return nullptr;
  Json standbys = Json::array();
  for (const Attached_Standby& standby : replication.standbys) {
    std::optional<Lsn> behind;
    if (standby.replayed && replication.position) {
      behind = *replication.position - std::min(*replication.position, *standby.replayed);
    }
    standbys.push_back({{"name", standby.name},
                        {"address", or_null(standby.address)},
                        {"state", or_null(standby.state)},
                        {"sync", or_null(standby.sync)},
                        {"lagBytes", or_null(behind)},
                        {"lagSeconds", or_null(standby.lag)}});
  }
  return standbys;
}

Json describe_change(const State_Change& change, Wall_Time now) {
  const Time ago = std::max(Time(now - change.at), Time::zero());
  return {{"at", print_time(wall_clock(now - change.at))},
          {"agoSeconds", in_seconds(ago)},
          {"from", or_null(change.from)},
          {"to", or_null(change.to)},
          {"seconds", in_seconds(change.lasted)},
          {"reason", change.reason},
          {"primary", or_null(change.primary)},
          {"handoverSeconds", or_null(change.handover)}};
}

}  // namespace

Json describe_history(const History& history, std::size_t most) {
  const Wall_Time now = std::chrono::system_clock::now();
  Json changes = Json::array();
  std::size_t size = 0;
  for (auto change = history.rbegin(); change != history.rend() && changes.size() < most;
       ++change) {
    Json entry = describe_change(*change, now);
    size += dump(entry).size() + 1;
    if (size > max_node_size / 2) break;
    changes.push_back(std::move(entry));
  }
  std::reverse(changes.begin(), changes.end());
  return changes;
}

Json make_node_document(const Repmgr_Node& node, const Process& process, std::size_t changes) {
  const Report report = node.get_report();
  const auto& self = report.self;
  Json document = {{"name", self ? self->name : report.name},
                   {"id", self ? Json(self->id) : Json(nullptr)},
                   {"site", self ? Json(self->site) : Json(nullptr)},
                   {"role", self ? Json(self->type) : Json(nullptr)}};
  document["state"] = to_string(report.decision.state);
  document["since"] = print_time(wall_clock(report.time_in_state));
  document["stateSeconds"] = in_seconds(report.time_in_state);
  document["reason"] = describe_decision(report);
  document["problems"] = find_problems(report);
  document["drain"] =
      report.drain ? Json{{"since", report.drain->since}, {"reason", or_null(report.drain->reason)}}
                   : Json(nullptr);
  document["primary"] = or_null(report.primary);
  document["votes"] = describe_voting(report);
  document["handover"] = describe_last_handover(report);
  document["history"] = describe_history(node.get_history(), changes);
  document["lost"] = {{"declared", or_null(report.declaration.since)},
                      {"pending", report.declaration_pending},
                      {"names", report.lost}};
  document["timeline"] = or_null(report.replication.timeline);
  const auto& position = report.replication.position;
  document["position"] = position ? Json(print_lsn(*position)) : Json(nullptr);
  document["replication"] = describe_replication(report);
  document["standbys"] = describe_standbys(report.replication);
  document["cacheAgeSeconds"] = in_seconds(report.cache_age);
  document["nodesAgeSeconds"] = or_null(report.nodes_age);
  document["nodesProblem"] = or_null(report.nodes_problem);
  document["connections"] = {{"open", report.connections}, {"most", process.max_connections}};
  document["stateDirectory"] = or_null(process.state_directory);
  document["version"] = PRIMGR_VERSION;
  document["uptimeSeconds"] = in_seconds(boottime() - process.started);
  return document;
}

Json parse_node_document(const Node& node, const Http_Reply& reply, std::string& why) {
  constexpr int max_depth = 5;
  if (reply.status == 0) {
    why = reply.error;
  } else if (reply.status != 200) {
    why = "HTTP status " + std::to_string(reply.status) + " to /node: another version?";
  } else {
    Json document = parse_json(reply.body, max_depth);
    const Json& name = at(document, "name");
    if (!name.is_string()) {
      why = "its answer to /node is none";
    } else if (!node.name.empty() && !names_equal(name.get<std::string>(), node.name)) {
      why = "another node answers at its address: " + name.get<std::string>();
    } else {
      return document;
    }
  }
  return nullptr;
}

}  // namespace primgr
