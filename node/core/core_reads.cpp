// Whether clients may read from a standby: how stale its data are, and what other nodes receive
// about it.

#include <algorithm>
#include <utility>

#include "node/core/core_step.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// The latest time in which no node could be Primary in this site, nor in the site of the primary
// that this node follows. This must hold by each list of voters that counts. A voter whose database
// lists other voters does not count: it may have voted under a list that this node does not know.
std::optional<Interval> time_without_primary(const Core& core, Time now) {
  std::vector<Voter_List> lists = core.required;
  const Node* primary = core.followed();
  if (primary && !find_node(core.read, primary->name)) {
    lists.push_back(electorate(core.facts.nodes, *primary, core.settings.consensus_cluster));
  }
  std::optional<Interval> shared;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const Voter_List& list = lists[i];
    std::vector<Interval> unbound;
    const std::string known = i < core.required.size() ? core.holds : digest(members_of(list));
    for (const Node& voter : list) {
      if (!names_equal(voter.name, core.settings.node_name)) {
        if (const auto time = core.polls.unbound(voter.name, known)) unbound.push_back(*time);
      } else if (const auto since = core.promise.unbound_since(now)) {
        unbound.push_back({std::min(*since, now), now});
      }
    }
    const auto time = primgr::time_without_primary(std::move(unbound), list.size());
    if (!time) return std::nullopt;
    shared = shared ? overlap(*shared, *time) : time;
    if (!shared) return std::nullopt;
  }
  return shared;
}

}  // namespace

// Passes the last answers of the peers, and the promise of this node, to `staleness`.
void Core_Step::watch_staleness() {
  const Facts& facts = core_.facts;
  if (!facts.reachable || !facts.in_recovery) return;
  const Node* primary = core_.followed();
  const auto reported = primary ? core_.polls.reported(primary->name) : std::nullopt;
  if (reported && reported->first.state == State::primary) {
    const auto& [report, asked_at] = *reported;
    const Replication& r = facts.replication;
    if (core_.is_of_another_cluster(report)) {
      // Its positions do not apply to this node's data.
    } else if (report.position && report.timeline) {
      core_.staleness.reported(asked_at, *report.position, *report.timeline);
    } else if (!report.detailed && r.status == "streaming") {
      // An earlier version sends nothing more.
      core_.staleness.fresh(std::min(asked_at, r.asked_at));
    }
  }
  const Time recent = core_.settings.refresh_interval;
  if (core_.staleness.rule(now_, recent) == Staleness_Rule::fresh) return;
  // Primaries of any site count. If there is one, the voters' reports about the primary's site add
  // nothing.
  const std::vector<std::string> primaries = core_.claimants(now_, Time::zero());
  for (const std::string& name : primaries) {
    if (const auto answered = core_.polls.reported(name)) {
      core_.staleness.primary_at(answered->second);
    }
  }
  if (!primaries.empty()) return;
  if (const auto time = time_without_primary(core_, now_)) core_.staleness.no_primary(*time);
}

bool Core::is_of_another_cluster(const State_Report& report) const {
  return report.system && facts.system && report.system != facts.system;
}

bool Core::may_serve_reads(Time now, Time missed) const {
  const State state = state_at(now, missed);
  const bool promoted = state == State::unknown && facts.reachable && !facts.in_recovery &&
                        staleness.at(now) && claimants(now, missed).empty();
  return state == State::standby || promoted;
}

Lag Core::lag_at(Time now) const {
  Lag lag = measure_lag(facts, replay);
  lag.stale = staleness.at(now);
  lag.rule = staleness.rule(now, max_peer_age());
  if (lag.rule == Staleness_Rule::fresh) return lag;
  const Node* primary = followed();
  if (!primary) {
    lag.unheard = "its database names no other node as primary";
  } else if (const auto reported = polls.reported(primary->name); !reported) {
    lag.unheard = primary->name + " does not answer";
  } else if (const State_Report& report = reported->first; report.state != State::primary) {
    lag.unheard = primary->name + " is " + to_string(report.state);
  } else if (is_of_another_cluster(report)) {
    lag.unheard = primary->name + " is of another cluster than this database: clone this standby";
  } else if (report.detailed && !report.position) {
    lag.unheard = primary->name + " does not report the position of its WAL";
  } else {
    lag.unheard = primary->name + " is ahead of it";
  }
  return lag;
}

State_Report Core::state_report(Time now, Time missed) const {
  State_Report report;
  report.state = state_at(now, missed);
  report.detailed = true;
  if (const auto since = promise.unbound_since(now)) report.unbound = now - std::min(*since, now);
  report.list = holds;
  report.instance = settings.instance;
  const Replication& r = facts.replication;
  const Node* self = find_node(facts.nodes, settings.node_name);
  if (self) report.id = self->id;
  // The system identifier of a witness's own server is not that of the cluster.
  report.system = self && self->type == "witness" ? voted.system : facts.system;
  const Time max_age = std::max<Time>(2 * settings.refresh_interval, 1s);
  if (r.known && now - r.asked_at <= max_age) {
    if (report.state == State::primary) report.position = r.position;
    report.timeline = r.timeline;
  }
  return report;
}

Synchrony Core::synchrony_at(Time now, Time missed) const {
  if (state_at(now, missed) != State::standby) return {std::nullopt, "it is no standby"};
  const Node* primary = sync_source(now);
  if (!primary) return {std::nullopt, "its database names no other node as primary"};
  const auto [report, asked_at] = polls.sync_report(primary->name);
  return judge_synchrony(report, asked_at, now, max_peer_age(), primary->name);
}

}  // namespace primgr
