#include "daemon/api/metrics.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>

#include "node/database/conninfo.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

namespace {

double seconds(Time time) {
  return std::chrono::duration<double>(time).count();
}

void write_state(Metrics& m, const Report& report, const Process& process) {
  m.family("build_info", "gauge", "The program and the node that it answers for.")
      .sample(1, {{"version", PRIMGR_VERSION},
                  {"node", report.self ? report.self->name : report.name},
                  {"site", report.self ? report.self->site : ""},
                  {"role", report.self ? report.self->type : ""},
                  {"openssl", OpenSSL_version(OPENSSL_VERSION_STRING)},
                  {"libpq", libpq_version()}});
  m.gauge("start_time_seconds", "When this process started, since the epoch.",
          static_cast<double>(wall_clock(boottime() - process.started).tv_sec));
  m.family("state", "gauge", "1 for the state that this node is in.");
  for (const State state : all_states) {
    m.sample(report.decision.state == state, {{"state", to_string(state)}});
  }
  m.gauge("state_seconds", "How long it has been in that state.", seconds(report.time_in_state));
  m.gauge("drained", "1 if an operator has taken it out of the service of reads.",
          report.drain.has_value());
  m.gauge("cache_age_seconds", "How old the look at the database is that answers rest on.",
          seconds(report.cache_age));
  m.gauge("nodes_age_seconds", "How old the list of nodes in use is.", report.nodes_age);
}

void write_votes(Metrics& m, const Report& report) {
  if (report.voters.empty()) return;
  m.gauge("votes", "Votes that count for this node now.",
          static_cast<double>(votes_counted(report.voters)));
  m.gauge("votes_needed", "Votes that are a majority.",
          static_cast<double>(votes_needed(report.voters.size())));
  m.gauge("voters", "Nodes that have a vote, this one too.",
          static_cast<double>(report.voters.size()));
  m.gauge("vote_lease_seconds", "Until too few votes are left; 0 without a majority.",
          seconds(report.lease));
}

// While this node is Primary, the times are by its own clock. Else they are from the history, whose
// times are wall times.
void write_last_primary(Metrics& m, const Report& report, const History& history) {
  std::optional<Time> began, ended;
  if (report.decision.state == State::primary) {
    began = report.time_in_state;
    ended = Time::zero();
  } else {
    const auto last =
        std::find_if(history.rbegin(), history.rend(),
                     [](const State_Change& change) { return change.from == State::primary; });
    if (last != history.rend()) {
      ended = std::chrono::system_clock::now() - last->at;
      began = *ended + last->lasted;
    }
  }
  m.gauge("last_primary_began_seconds", "How long ago it became Primary the last time.", began);
  m.gauge("last_primary_ended_seconds",
          "How long ago it was Primary the last time; 0 while it is Primary.", ended);
}

void write_handover(Metrics& m, const Report& report) {
  if (!report.handover) return;
  const Handover& handover = *report.handover;
  m.gauge("last_handover_seconds",
          "From the last 200 of the Primary before to the first 200 of this node.",
          seconds(handover.total()));
  m.family("last_handover_wait_seconds", "gauge", "The part of that which each thing took.")
      .sample(seconds(handover.database), {{"for", "database"}})
      .sample(seconds(handover.promise), {{"for", "promise"}})
      .sample(seconds(handover.votes), {{"for", "votes"}});
}

void write_peers(Metrics& m, const Report& report) {
  m.gauge("claimants", "Nodes of the whole cluster that say they are Primary.",
          static_cast<double>(report.claimants.size()));
  m.gauge("rivals",
          "Of a Primary: other nodes of its site, and voters declared lost, that are Primary too.",
          static_cast<double>(report.rivals.size()));
  m.family("peer_requests_total", "counter", "Questions to other nodes, by kind and result.");
  for (const Poll_Count& q : report.polls) {
    m.sample(static_cast<double>(q.replied),
             {{"peer", q.peer}, {"question", q.kind}, {"result", "ok"}});
    m.sample(static_cast<double>(q.failed),
             {{"peer", q.peer}, {"question", q.kind}, {"result", "failed"}});
  }
  m.family("peer_request_seconds_total", "counter", "Time that questions to other nodes took.");
  for (const Poll_Count& q : report.polls) {
    m.sample(seconds(q.total_time), {{"peer", q.peer}, {"question", q.kind}});
  }
}

void write_database(Metrics& m, const Report& report, const Process& process) {
  m.family("refresh_seconds", "summary", "Time that looks at the local database took.")
      .sample(seconds(report.look_time), {}, "_sum")
      .sample(static_cast<double>(report.looks), {}, "_count");
  m.counter("database_errors_total", "Looks at the local database that failed.",
            static_cast<double>(report.failed_looks));
  m.gauge("pool_connections", "Connections to the local database.",
          static_cast<double>(report.connections));
  m.gauge("pool_connections_max", "As many as there may be.",
          static_cast<double>(process.max_connections));
}

void write_replication(Metrics& m, const Report& report) {
  if (report.in_recovery) {
    m.gauge("streaming", "1 if this standby's WAL receiver streams.", report.lag.streaming);
    m.gauge("receive_lag_bytes", "WAL that its sender has and this standby has not flushed.",
            report.lag.receive);
    m.gauge("replay_lag_bytes", "WAL that its sender has and this standby has not replayed.",
            report.lag.replay);
    m.gauge("replay_lag_seconds", "How long the oldest WAL not replayed has been there.",
            report.lag.delay);
    m.gauge("stale_seconds", "For how long it may miss commits of a Primary.", report.lag.stale);
    m.family("stale_by", "gauge", "1 for the rule by which that is known.");
    for (const Staleness_Rule rule : all_staleness_rules) {
      m.sample(report.lag.rule == rule, {{"rule", to_string(rule)}});
    }
  }
  if (report.replication.known) {
    m.gauge("standbys", "Servers that stream from this one (32 are counted at most).",
            static_cast<double>(report.replication.standbys.size()));
  }
}

}  // namespace

void write_node_metrics(Metrics& metrics, const Report& report, const Process& process,
                        const History& history) {
  write_state(metrics, report, process);
  write_last_primary(metrics, report, history);
  write_votes(metrics, report);
  write_handover(metrics, report);
  write_peers(metrics, report);
  write_database(metrics, report, process);
  write_replication(metrics, report);
}

}  // namespace primgr
