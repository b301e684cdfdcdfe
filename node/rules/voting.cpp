#include "node/rules/voting.hpp"

#include <algorithm>
#include <functional>
#include <string_view>

#include "node/rules/no_reply.hpp"

namespace primgr {

std::vector<Node> electorate(const std::vector<Node>& nodes, const Node& self, bool whole_cluster) {
  std::vector<Node> voters;
  for (const Node& node : nodes) {
    if (whole_cluster || node.site == self.site) voters.push_back(node);
  }
  return voters;
}

std::size_t votes_needed(std::size_t voters) {
  return voters / 2 + 1;
}

bool check_consensus(std::size_t votes_counted, std::size_t votes_needed) {
  return votes_counted >= votes_needed;
}

Ballot cast_vote(const Grant& last, std::string_view named, std::string_view candidate, Time now) {
  Ballot ballot;
  if (now < last.until && !names_equal(last.to, candidate)) {
    ballot.names = last.to;
    ballot.bound_for = last.until - now;
  } else {
    ballot.names = named;
    ballot.granted = !named.empty() && names_equal(named, candidate);
  }
  return ballot;
}

Grant promise_vote(const Grant& last, const std::string& candidate, std::string_view shown,
                   const std::string& fresh, Time until) {
  if (!names_equal(last.to, candidate)) return {candidate, until, fresh, Time{}};
  // A promise is never shortened: the voter may have had a longer vote_lease before.
  const Time later = std::max(until, last.until);
  if (!last.token.empty() && shown == last.token) {
    return {candidate, later, last.token, last.kept_until};
  }
  return {candidate, later, fresh, fresh.empty() ? Time{} : last.until};
}

Grant hand_back(const Grant& last, std::string_view candidate, std::string_view token) {
  if (token.empty() || token != last.token || !names_equal(last.to, candidate)) return last;
  return {last.to, std::min(last.until, last.kept_until), "", Time{}};
}

Time hand_back_due(Time last_200, Time check_delay) {
  return last_200 + check_delay + check_delay / 100;
}

Time vote_lifetime(const Lease& lease, Time told) {
  const Time promised = std::min(lease.vote_lease, told);
  return promised - promised / 100 - lease.check_delay;
}

Time vote_expiry(const Vote& vote, const Lease& lease) {
  return vote.sent_at + vote_lifetime(lease, vote.lease);
}

std::vector<Time> count_votes(const std::vector<Node>& voters, const Tally& tally) {
  std::vector<Time> expiries;
  for (const Node& voter : voters) {
    const auto found = tally.votes.find(voter.name);
    if (found == tally.votes.end()) continue;
    const Vote& vote = found->second;
    const Time expiry = vote_expiry(vote, tally.lease);
    if (vote.names.empty() || expiry <= tally.now) continue;
    if (names_equal(vote.names, tally.self.name)) expiries.push_back(expiry);
  }
  return expiries;
}

bool is_elected(const std::vector<Voter_List>& lists, const Tally& tally,
                const Voter_List& assumed) {
  return std::all_of(lists.begin(), lists.end(), [&](Voter_List list) {
    const std::size_t needed = votes_needed(list.size());
    const std::size_t listed = list.size();
    std::erase_if(list, [&](const Node& voter) { return find_node(assumed, voter.name); });
    return check_consensus(listed - list.size() + count_votes(list, tally).size(), needed);
  });
}

bool names_another(const std::vector<Node>& voters, const Tally& tally) {
  std::vector<std::string_view> names;
  for (const Node& voter : voters) {
    const auto found = tally.votes.find(voter.name);
    if (found == tally.votes.end()) continue;
    if (vote_expiry(found->second, tally.lease) <= tally.now) continue;
    if (!found->second.names.empty()) names.push_back(found->second.names);
  }
  // If more than half of the names are equal, they are left over when each other name cancels one.
  std::string_view most;
  std::size_t left = 0;
  for (const std::string_view name : names) {
    if (left == 0) most = name;
    names_equal(name, most) ? ++left : --left;
  }
  const auto same = std::count_if(names.begin(), names.end(),
                                  [&](std::string_view name) { return names_equal(name, most); });
  return !names_equal(most, tally.self.name) &&
         check_consensus(static_cast<std::size_t>(same), votes_needed(voters.size()));
}

std::vector<Voter> describe_voters(const std::vector<Node>& voters, const Tally& tally) {
  std::vector<Voter> described;
  for (const Node& node : voters) {
    Voter& voter = described.emplace_back();
    voter.name = node.name;
    voter.self = node.id == tally.self.id;
    const auto found = tally.votes.find(node.name);
    if (found == tally.votes.end()) {
      voter.why = "not asked yet";
      continue;
    }
    const Vote& vote = found->second;
    voter.silent = !vote.answers && is_silence(vote.why);
    const Time expiry = vote_expiry(vote, tally.lease);
    if (vote.names.empty() || expiry <= tally.now) {
      voter.why = vote.why.empty() ? "vote expired" : vote.why;
      continue;
    }
    voter.names = vote.names;
    voter.age = tally.now - vote.sent_at;
    voter.left = expiry - tally.now;
    voter.counts = names_equal(vote.names, tally.self.name);
  }
  return described;
}

std::string describe_newer_timeline(int timeline) {
  return "has voted for a Primary on timeline " + std::to_string(timeline) + ", which is newer";
}

std::size_t votes_counted(const std::vector<Voter>& voters) {
  return static_cast<std::size_t>(
      std::count_if(voters.begin(), voters.end(), [](const Voter& voter) { return voter.counts; }));
}

std::string describe_votes(const std::vector<Voter>& voters) {
  return describe_votes(voters.size(), votes_counted(voters), voters);
}

std::string describe_votes(std::size_t of, std::size_t counted, const std::vector<Voter>& listed) {
  std::string text = std::to_string(counted) + " of " + std::to_string(of) + " votes, " +
                     std::to_string(votes_needed(of)) + " needed: ";
  for (const Voter& voter : listed) {
    if (&voter != &listed.front()) text += ", ";
    text += voter.name;
    if (voter.self) text += " (this node)";
    text += voter.names.empty() ? ": " + voter.why : " names " + voter.names;
  }
  return text;
}

namespace {

// Why no node is found by that name.
std::string describe_unlisted(const std::vector<Node>& nodes, const std::string& name) {
  std::string names;
  for (const Node& node : nodes) {
    if (names_equal(node.name, name)) names += (names.empty() ? "" : " and ") + node.name;
  }
  if (names.empty()) {
    return "repmgr.nodes lists no node named \"" + name + "\": register it, or set node_name";
  }
  return "repmgr.nodes lists " + names +
         ", which differ only in case or in - and _, so they count as one name: unregister one of "
         "them, or give it another node_name";
}

}  // namespace

Decision decide(const Facts& facts, const std::string& self_name, const Votes& votes,
                const Lease& lease, Time now, const std::vector<Voter_List>& lists) {
  if (!facts.reachable) return {State::down, Time::max(), facts.problem};
  if (facts.in_recovery) return {State::standby, Time::max(), "in recovery"};
  if (!facts.nodes_known) {
    return {State::unknown, Time::max(), "repmgr.nodes cannot be read: " + facts.problem};
  }
  const Node* self = find_node(facts.nodes, self_name);
  if (!self) {
    return {State::unknown, Time::max(), describe_unlisted(facts.nodes, self_name)};
  }
  if (self->type == "witness") {
    return {State::unknown, Time::max(), "a witness is never primary"};
  }

  // Valid until so many votes have expired that the rest is no majority of one of the lists.
  Decision decision{State::primary, Time::max(), "a majority votes for it"};
  for (const Voter_List& list : lists) {
    std::vector<Time> expiries = count_votes(list, {*self, votes, lease, now});
    const std::size_t needed = votes_needed(list.size());
    if (!check_consensus(expiries.size(), needed)) {
      return {
          State::unknown, Time::max(),
          &list == &lists.front()
              ? "no majority votes for it"
              : "no majority of the voters before the last change of repmgr.nodes votes for it"};
    }
    std::nth_element(expiries.begin(), expiries.begin() + static_cast<std::ptrdiff_t>(needed) - 1,
                     expiries.end(), std::greater<>());
    decision.until = std::min(decision.until, expiries[needed - 1]);
  }
  return decision;
}

}  // namespace primgr
