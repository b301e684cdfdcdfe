#include "node/rules/report.hpp"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>

#include "base/text.hpp"
#include "node/rules/no_reply.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

namespace {

// What to check on the voters of these lists that gave no valid reply, grouped by the advice.
std::string describe_checks(const std::vector<std::vector<Voter>>& lists) {
  std::vector<std::pair<std::string_view, std::string>> checks;
  std::vector<std::string> seen;
  for (const auto& voters : lists) {
    for (const Voter& voter : listed_voters(voters)) {
      const std::string_view check =
          voter.names.empty() ? what_to_check(voter.why) : std::string_view();
      if (check.empty() || std::find(seen.begin(), seen.end(), voter.name) != seen.end()) continue;
      seen.push_back(voter.name);
      const auto same = std::find_if(checks.begin(), checks.end(),
                                     [&](const auto& other) { return other.first == check; });
      if (same == checks.end()) {
        checks.emplace_back(check, voter.name);
      } else {
        same->second += ", " + voter.name;
      }
    }
  }
  std::string text;
  for (const auto& [check, names] : checks) text += ". " + names + ": " + std::string(check);
  return text;
}

// Votes that are missing, and other nodes that claim to be Primary.
void add_primary_problems(const Report& report, std::vector<std::string>& problems) {
  const std::size_t missing = report.voters.size() - votes_counted(report.voters);
  if (missing > 0) {
    std::string text =
        missing == 1 ? "a vote is missing" : std::to_string(missing) + " votes are missing";
    const char* separator = ": ";
    for (const Voter& voter : listed_voters(report.voters)) {
      if (voter.counts) continue;
      text += separator + voter.name + ": " +
              (voter.names.empty() ? voter.why : "names " + voter.names);
      separator = ", ";
    }
    problems.push_back(text + describe_checks({report.voters}));
  }
  for (const std::string& name : report.claimants) {
    if (!names_equal(name, report.name)) problems.push_back(name + " claims to be Primary too");
  }
  for (const std::string& name : report.rivals) {
    const bool told =
        std::find(report.claimants.begin(), report.claimants.end(), name) != report.claimants.end();
    if (!told) problems.push_back(name + " claims to be Primary too");
  }
}

void add_standby_problems(const Report& report, std::vector<std::string>& problems) {
  if (!report.lag.problem.empty()) problems.push_back(report.lag.problem);
  if (report.replication.paused) problems.push_back("replay is paused");
  if (report.self && report.nodes_age && report.primary.empty()) {
    problems.push_back(report.decision.reason);
  }
  const bool comparable = report.claimants.size() == 1 && !report.primary.empty();
  if (comparable && !names_equal(report.claimants[0], report.primary)) {
    problems.push_back("its database names " + report.primary + " as primary, and not " +
                       report.claimants[0]);
  }
}

}  // namespace

std::vector<Voter> listed_voters(std::vector<Voter> voters) {
  if (voters.size() <= max_listed) return voters;
  std::stable_partition(voters.begin(), voters.end(),
                        [](const Voter& voter) { return !voter.counts; });
  voters.resize(max_listed);
  return voters;
}

std::string describe_decision(const Report& report) {
  if (report.lists.empty()) return report.decision.reason;
  return report.decision.reason + " (" + describe_lists(report.lists) + ")";
}

std::vector<std::vector<Voter>> listed_lists(std::vector<std::vector<Voter>> lists) {
  constexpr std::size_t most = 3;
  if (lists.size() <= most) return lists;
  std::stable_partition(lists.begin() + 1, lists.end(), [](const std::vector<Voter>& voters) {
    return !check_consensus(votes_counted(voters), votes_needed(voters.size()));
  });
  lists.resize(most);
  return lists;
}

std::string describe_lists(const std::vector<std::vector<Voter>>& lists) {
  std::string text;
  for (const auto& voters : listed_lists(lists)) {
    if (!text.empty()) text += "; and of the voters before: ";
    text += describe_votes(voters.size(), votes_counted(voters), listed_voters(voters));
  }
  return text;
}

namespace {

// The text, quoted as an argument for a shell.
std::string shell_word(const std::string& text) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.';
  };
  if (!text.empty() && text[0] != '-' && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace

std::string describe_way_out(const std::vector<std::vector<Voter>>& lists) {
  std::vector<std::string> silent;
  bool elected = true, would_be = true;
  for (const auto& voters : lists) {
    std::size_t answering = 0;
    for (const Voter& voter : voters) {
      if (!voter.silent || voter.self || voter.counts) {
        ++answering;
      } else if (std::find(silent.begin(), silent.end(), voter.name) == silent.end()) {
        silent.push_back(voter.name);
      }
    }
    elected &= check_consensus(votes_counted(voters), votes_needed(voters.size()));
    would_be &= check_consensus(votes_counted(voters), votes_needed(answering));
  }
  if (elected) return {};
  const std::string checks = describe_checks(lists);
  if (!would_be || silent.empty()) return checks;
  if (silent.size() > max_listed) {
    return checks +
           ". If all voters that do not answer are gone for good, run on this host: primgr --lost, "
           "with their names (if they live, two nodes take writes then)";
  }
  std::string arguments;
  for (const std::string& name : silent) arguments += " " + shell_word(name);
  return checks + ". If these are gone for good: " + joined(silent) +
         ": run on this host: primgr --lost" + arguments +
         " (if they live, two nodes take writes then)";
}

std::string describe_rejoin(const std::string& name, const std::vector<std::string>& claimants) {
  for (const std::string& other : claimants) {
    if (names_equal(other, name)) continue;
    return ". " + other +
           " is Primary. If that is right, stop PostgreSQL on this host and run: repmgr node "
           "rejoin";
  }
  return {};
}

namespace {

// The repmgr command to run if repmgr.nodes names no primary, or a node that is not Primary.
std::string describe_register(const Report& report) {
  if (names_equal(report.primary, report.name)) return {};
  const std::string named =
      report.primary.empty() ? "another node" : report.primary + ", which its repmgr.nodes names,";
  return ". If this node is to be the primary (it was promoted without repmgr, by pg_promote() or "
         "the like), run on this host: repmgr primary register --force. If " +
         named + " is to be: stop PostgreSQL on this host and run: repmgr node rejoin";
}

}  // namespace

std::string describe_alive(const Lost_Voter& lost, State state) {
  return lost.node.name + " was declared lost at " + lost.since +
         ", but it answers, and its state is " + to_string(state) +
         (state == State::primary ? ": two nodes take writes. Stop one of them" : "");
}

std::string describe_old_list(const std::string& problem, Time age) {
  return "repmgr.nodes is blocked (" + problem + "): the list of " + describe_duration(age) +
         " ago stands";
}

std::string describe_drain(const Drain& drain) {
  return "drained since " + drain.since + (drain.reason.empty() ? "" : ": " + drain.reason);
}

std::vector<std::string> find_problems(const Report& report) {
  std::vector<std::string> problems;
  // A witness is always Unknown, which is not a problem.
  const bool witness = report.self && report.self->type == "witness";
  switch (report.decision.state) {
    case State::primary:
      add_primary_problems(report, problems);
      break;
    case State::standby:
      add_standby_problems(report, problems);
      break;
    case State::unknown:
      if (!witness) {
        const std::string rejoin =
            report.lists.empty() ? std::string() : describe_rejoin(report.name, report.claimants);
        problems.push_back(
            describe_decision(report) + describe_way_out(report.lists) +
            (rejoin.empty() && !report.lists.empty() ? describe_register(report) : rejoin));
      }
      break;
    case State::down:
      problems.push_back(describe_decision(report));
  }
  if (report.drain) {
    problems.push_back(describe_drain(*report.drain) +
                       (report.decision.state == State::primary
                            ? " (without effect while it is Primary; primgr --undrain ends it)"
                            : " (primgr --undrain ends it)"));
  }
  problems.insert(problems.end(), report.alive.begin(), report.alive.end());
  if (!report.nodes_problem.empty()) {
    problems.push_back(
        describe_old_list(report.nodes_problem, report.nodes_age.value_or(Time::zero())));
  }
  return problems;
}

}  // namespace primgr
