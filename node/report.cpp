#include "node/report.hpp"

#include <algorithm>

#include "node/voting.hpp"

namespace primgr {

namespace {

// Votes that are missing, and other nodes that claim to be Primary.
void add_primary_problems(const Report& report, std::vector<std::string>& problems) {
  const std::size_t missing = report.voters.size() - votes_counted(report.voters);
  if (missing > 0) {
    std::string text =
        missing == 1 ? "a vote is missing" : std::to_string(missing) + " votes are missing";
    const char* separator = ": ";
    for (const Voter& voter : listed_voters(report)) {
      if (voter.counts) continue;
      text += separator + voter.name + ": " +
              (voter.names.empty() ? voter.why : "names " + voter.names);
      separator = ", ";
    }
    problems.push_back(text);
  }
  for (const std::string& name : report.claimants) {
    if (!names_equal(name, report.name)) problems.push_back(name + " claims to be Primary too");
  }
}

void add_standby_problems(const Report& report, std::vector<std::string>& problems) {
  if (!report.lag.problem.empty()) problems.push_back(report.lag.problem);
  if (report.replication.paused) problems.push_back("replay is paused");
  const bool comparable = report.claimants.size() == 1 && !report.primary.empty();
  if (comparable && !names_equal(report.claimants[0], report.primary)) {
    problems.push_back("its database names " + report.primary + " as primary, and not " +
                       report.claimants[0]);
  }
}

}  // namespace

std::vector<Voter> listed_voters(const Report& report) {
  std::vector<Voter> voters = report.voters;
  if (voters.size() <= max_listed) return voters;
  std::stable_partition(voters.begin(), voters.end(),
                        [](const Voter& voter) { return !voter.counts; });
  voters.resize(max_listed);
  return voters;
}

std::string describe_decision(const Report& report) {
  if (report.voters.empty()) return report.decision.reason;
  return report.decision.reason + " (" + describe_votes(listed_voters(report)) + ")";
}

std::string describe_old_list(const std::string& problem, Time age) {
  return "repmgr.nodes is blocked (" + problem + "): the list of " + describe_duration(age) +
         " ago stands";
}

std::vector<std::string> find_problems(const Report& report) {
  std::vector<std::string> problems;
  // A witness is always Unknown, which is no problem.
  const bool witness = report.self && report.self->type == "witness";
  switch (report.decision.state) {
    case State::primary:
      add_primary_problems(report, problems);
      break;
    case State::standby:
      add_standby_problems(report, problems);
      break;
    case State::unknown:
      if (!witness) problems.push_back(describe_decision(report));
      break;
    case State::down:
      problems.push_back(describe_decision(report));
  }
  if (!report.nodes_problem.empty()) {
    problems.push_back(
        describe_old_list(report.nodes_problem, report.nodes_age.value_or(Time::zero())));
  }
  return problems;
}

}  // namespace primgr
