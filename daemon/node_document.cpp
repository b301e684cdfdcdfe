#include "daemon/node_document.hpp"

#include <algorithm>
#include <cmath>

#include "node/report.hpp"
#include "node/voting.hpp"

namespace primgr {

double in_seconds(Time time) {
  return std::round(std::chrono::duration<double, std::milli>(time).count()) / 1000;
}

namespace {

Json describe_voting(const Report& report) {
  if (report.voters.empty()) return nullptr;
  Json voters = Json::array();
  for (const Voter& voter : listed_voters(report)) {
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
          {"voters", voters}};
}

Json describe_replication(const Report& report) {
  if (!report.in_recovery) return nullptr;
  return {{"streaming", report.lag.streaming},
          {"from", or_null(report.replication.from)},
          {"receiveLagBytes", or_null(report.lag.receive)},
          {"replayLagBytes", or_null(report.lag.replay)},
          {"replayLagSeconds", or_null(report.lag.delay)},
          {"replayPaused", report.replication.paused},
          {"problem", or_null(report.lag.problem)}};
}

Json describe_standbys(const Replication& replication) {
  if (!replication.known) return nullptr;
  Json standbys = Json::array();
  for (const Attached& standby : replication.attached) {
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

}  // namespace

Json get_node(const Repmgr_Node& node, const Process& process) {
  const Report report = node.get_report();
  const auto& self = report.self;
  Json told = {{"name", self ? self->name : report.name},
               {"id", self ? Json(self->id) : Json(nullptr)},
               {"site", self ? Json(self->site) : Json(nullptr)},
               {"role", self ? Json(self->type) : Json(nullptr)}};
  told["state"] = to_string(report.decision.state);
  told["since"] = print_time(wall_clock(report.state_for));
  told["stateSeconds"] = in_seconds(report.state_for);
  told["reason"] = describe_decision(report);
  told["problems"] = find_problems(report);
  told["primary"] = or_null(report.primary);
  told["votes"] = describe_voting(report);
  told["timeline"] = or_null(report.replication.timeline);
  const auto& position = report.replication.position;
  told["position"] = position ? Json(print_lsn(*position)) : Json(nullptr);
  told["replication"] = describe_replication(report);
  told["standbys"] = describe_standbys(report.replication);
  told["cacheAgeSeconds"] = in_seconds(report.cache_age);
  told["nodesAgeSeconds"] = or_null(report.nodes_age);
  told["nodesProblem"] = or_null(report.nodes_problem);
  told["connections"] = {{"open", report.connections}, {"most", process.max_connections}};
  told["version"] = PRIMGR_VERSION;
  told["uptimeSeconds"] = in_seconds(boottime() - process.started);
  return told;
}

Json read_node(const Node& node, const Http_Reply& reply, std::string& why) {
  constexpr int max_depth = 5;
  if (reply.status == 0) {
    why = reply.error;
  } else if (reply.status != 200) {
    why = "HTTP status " + std::to_string(reply.status) + " to /node: another version?";
  } else {
    Json told = Json::parse(
        reply.body, [](int depth, Json::parse_event_t, Json&) { return depth <= max_depth; },
        false);
    const auto name = told.is_object() ? told.find("name") : told.end();
    if (!told.is_object() || name == told.end() || !name->is_string()) {
      why = "its answer to /node is none";
    } else if (!names_equal(name->get<std::string>(), node.name)) {
      why = "another node answers at its address: " + name->get<std::string>();
    } else {
      return told;
    }
  }
  return nullptr;
}

}  // namespace primgr
