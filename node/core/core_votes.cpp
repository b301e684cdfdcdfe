// Votes: the votes that this node gives, the votes that it asks for, and how they are handed back.

#include <algorithm>
#include <utility>

#include "node/core/core_step.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// For hand_back_time after a vote was handed back, the other voters are asked once a
// handed_back_interval: they may receive the hand-back a moment later.
constexpr Time hand_back_time = 1s, handed_back_interval = 50ms;

}  // namespace

// ---- as a voter ---------------------------------------------------------------------------------

void Core_Step::operator()(const Vote_Asked& event) {
  const Node* named = named_for(event.candidate);
  effects.look = !named || !names_equal(named->name, event.candidate);
  const bool down = !named && core_.state_at(now_, Time::zero()) == State::down;
  // No vote while Down. No vote either if the candidate would count it for longer than it is
  // granted.
  if (down || event.lease > core_.settings.vote_lease) {
    effects.ballot.emplace();
    return;
  }
  if (core_.awaits_store()) {
    effects.busy = true;
    return;
  }
  Core::Awaited asked;
  asked.candidate = event.candidate;
  if (named) asked.named = named->name;
  if (named && event.lists && named->id == event.lists->numbers.candidate &&
      core_.promise.has_token(event.shown.value_or(""))) {
    // The asking process has the token of the promise, and is the node that is named, by its
    // node_id. One of the two nodes has just read a new name of it. The node_id alone is not
    // enough, as it could come from another process.
    asked.named = event.candidate;
    core_.promise.rename(event.candidate);
  }
  asked.lists = event.lists;
  asked.asked_at = now_;
  vote({asked.named, asked.candidate, event.shown, event.fresh, false}, std::move(asked));
}

// Votes for this node or for another. The promise and the lists of voters are one decision: neither
// changes while the store works.
void Core_Step::vote(Voter_Question&& question, Core::Awaited&& asked) {
  core_.awaited.reset();
  std::optional<Ballot> ballot;
  if (asked.lists && core_.unsure) {
    effects.turn = !asked.own;  // the turn stores the lists again
    ballot = no_vote();
  } else if (asked.lists) {
    const bool named = !asked.named.empty() && names_equal(asked.named, asked.candidate);
    const bool silent = !core_.promise.is_bound_to_another("", now_);
    const bool bound =
        core_.promise.is_bound_to_another(asked.candidate, now_) && !(question.alone && silent);
    const bool newer = core_.has_voted_for_newer(asked.lists);
    const lists::Answer said = answer(asked, named && !bound && !newer);
    if (said.fetch) want(asked);
    asked.lists_reply = said.reply;
    // It would get the vote, except for its list or its timeline.
    if (named && !bound && !said.reply.vote) ballot.emplace();
    if (named && !bound && newer) {
      ballot->newer_timeline = core_.voted.number;
      refuse(asked);
    }
  }
  if (!ballot) ballot = core_.promise.vote(question, now_);
  if (!ballot) {
    core_.awaited = std::move(asked);
    effects.store = core_.promise.to_store();
  } else {
    give_ballot(std::move(*ballot), asked);
  }
}

void Core_Step::refuse(const Core::Awaited& asked) {
  const int voted = core_.voted.number;
  const auto& last = core_.refused;
  if (last && last->name == asked.named && last->voted == voted) return;
  core_.refused = Core::Refused{asked.named, asked.lists->timeline, voted, false};
  effects.turn = !asked.own;  // the turn logs it
}

void Core_Step::give_ballot(Ballot&& ballot, const Core::Awaited& asked) {
  if (asked.own) {
    own_ballot(ballot, asked);
  } else {
    ballot_for_another(std::move(ballot), asked);
  }
}

void Core_Step::operator()(const Grant_Stored& event) {
  if (!core_.promise.awaits_store()) return;
  Ballot ballot = core_.promise.stored(event.saved);
  const auto asked = std::exchange(core_.awaited, std::nullopt);
  if (asked) give_ballot(std::move(ballot), *asked);
}

void Core_Step::ballot_for_another(Ballot&& ballot, const Core::Awaited& asked) {
  if (ballot.granted) {
    Promise_History& history = core_.promise.history;
    core_.bound_until = now_ + core_.settings.vote_lease;
    history.granted(ballot.names, now_, *core_.bound_until);
    const auto reported = core_.polls.reported(ballot.names);
    if (reported && reported->first.state == State::primary) history.arrived(reported->second);
    history.tell(ballot, now_);
  }
  if (ballot.stored) ballot.lists = asked.lists_reply;
  effects.ballot = std::move(ballot);
}

void Core_Step::own_ballot(const Ballot& ballot, const Core::Awaited& asked) {
  const Time vote_lease = core_.settings.vote_lease;
  if (ballot.bound_for > Time::zero()) core_.bound_until = asked.asked_at + ballot.bound_for;
  const Time bound_until =
      core_.bound_until.value_or(core_.own_vote ? core_.own_vote->bound_until : Time());
  if (ballot.granted) {
    core_.own_token = ballot.token;
    core_.bound_until.reset();  // its promise to another node is over
    core_.promise.history.granted(asked.candidate, asked.asked_at, asked.asked_at + vote_lease);
  }
  if (!ballot.stored) {
    // The earlier vote remains, and counts until it expires.
    if (!core_.own_vote) core_.own_vote.emplace();
    core_.own_vote->why = core_.unsure ? "its list of voters cannot be kept in state_directory"
                                       : "its promise cannot be kept in state_file";
    return;
  }
  const lists::Members votes = core_.voting(core_.scope, now_);
  std::string why = asked.named.empty() ? "names none" : "keeps an earlier promise";
  if (asked.lists_reply && ballot.names.empty()) why = "does not know which voters count";
  if (ballot.newer_timeline) why = describe_newer_timeline(ballot.newer_timeline);
  core_.own_vote = {asked.asked_at, ballot.names, why, vote_lease};
  core_.own_vote->bound_until = bound_until;
  core_.own_vote->answers = true;
  if (ballot.granted) {
    core_.own_vote->before = core_.promise.history.before(asked.asked_at);
  }
  const Node* self = core_.candidate();
  if (!self || !asked.lists_reply) return;
  lists::Reply reply = *asked.lists_reply;
  reply.vote = reply.vote && ballot.granted;
  take_vote(asked.lists->scope, self->id, reply, votes);
}

void Core_Step::operator()(const Own_Vote_Late&) {
  own_ballot(no_vote(), {});
}

void Core_Step::operator()(const Handed_Back& event) {
  if (core_.awaits_store()) {
    effects.busy = true;
    return;
  }
  const std::optional<Time> bound_for = core_.promise.end(event.by, event.token, now_);
  if (!bound_for) return;
  effects.accepted = effects.look = true;
  core_.promise.history.handed_back(event.by,
                                    event.ago ? std::optional(now_ - *event.ago) : std::nullopt);
  core_.freed_at = now_;
  core_.bound_until = now_ + *bound_for;
  core_.polls.hurry();
}

// ---- as a candidate -----------------------------------------------------------------------------

namespace {

// All votes, under any list.
Votes given_votes(const Core& core) {
  Votes votes = core.polls.votes();
  const Node* self = find_node(core.facts.nodes, core.settings.node_name);
  if (self && core.own_vote) votes[self->name] = *core.own_vote;
  return votes;
}

}  // namespace

Votes Core::all_votes() const {
  Votes votes = given_votes(*this);
  const lists::Participant* own = part();
  if (!settings.candidate || !own) return votes;
  for (const Node& voter : voters) {
    const auto found = votes.find(voter.name);
    if (found == votes.end() || own->candidate.reports.count(voter.id)) continue;
    if (!names_equal(found->second.names, settings.node_name)) continue;
    found->second.names.clear();
  }
  return votes;
}

const Voter_List* Core::voters_in(const lists::Scope& of) const {
  if (of == scope) return &voters;
  const auto found =
      std::find_if(sites.begin(), sites.end(), [&](const Site& site) { return site.scope == of; });
  return found == sites.end() || found->voters.empty() ? nullptr : &found->voters;
}

lists::Members Core::voting(const lists::Scope& of, Time now) const {
  lists::Members members;
  const Node* self = candidate();
  const Voter_List* asked = voters_in(of);
  if (!self || !asked) return members;
  const Votes votes = given_votes(*this);
  const Tally tally{*self, votes, lease, now};
  for (const Node& voter : *asked) {
    if (!count_votes({voter}, tally).empty()) members.push_back(voter.id);
  }
  std::sort(members.begin(), members.end());
  return members;
}

std::vector<std::vector<Voter>> Core::voters_at(Time now) const {
  const Node* self = candidate();
  if (!self) return {};
  Votes votes = all_votes();
  for (auto& [name, vote] : votes) {
    const bool expired = vote_expiry(vote, lease) <= now;
    if (vote.names.empty() && vote.why.empty() && !expired) {
      vote.why = "votes for it, but not by the present list of voters";
    }
  }
  std::vector<std::vector<Voter>> described;
  for (const Voter_List& list : required) {
    described.push_back(describe_voters(list, {*self, votes, lease, now}));
  }
  return described;
}

bool Core::is_elected(const std::vector<Node>& polled, const std::string& candidate_node,
                      std::size_t num_in_consensus, Time now) const {
  const Node* self = find_node(facts.nodes, candidate_node);
  if (!self) return false;
  std::vector<Node> all = polled;
  all.push_back(*self);
  const Votes votes = all_votes();
  return check_consensus(count_votes(all, {*self, votes, lease, now}).size(),
                         votes_needed(num_in_consensus));
}

Time vote_interval(const Core& core, Time now) {
  const bool just_freed = core.freed_at && now - *core.freed_at < hand_back_time;
  const bool primary = core.decision.state == State::primary;
  const Time interval = core.look_interval(now);
  return just_freed && !primary ? std::min(handed_back_interval, interval) : interval;
}

void Core_Step::operator()(const Votes_Wanted& event) {
  settle_votes(event.missed);
  const bool candidate = core_.settings.candidate;
  ask_votes(event.voters, candidate ? event.candidate : "",
            candidate ? question(core_.scope) : std::nullopt);
}

void Core_Step::ask_votes(const std::vector<Node>& voters, const std::string& candidate,
                          const std::optional<Lists_Question>& lists) {
  const Core_Settings& settings = core_.settings;
  const Time interval = vote_interval(core_, now_);
  for (const Node& voter : voters) {
    auto asked = lists;
    if (lists && lists->scope == core_.scope) asked = question(scope_to_ask(voter));
    const std::string target =
        vote_question(candidate, voter.name, settings.vote_lease - settings.check_delay,
                      core_.polls.token(voter.name), asked);
    const std::size_t before = effects.ask.size();
    core_.polls.ask(Question_Kind::vote, voter, target, interval, now_, effects.ask);
    if (asked && effects.ask.size() > before) core_.asked_in[voter.name] = asked->scope;
  }
}

void Core_Step::operator()(const Answers_Late& event) {
  const Node* self = find_node(core_.facts.nodes, event.candidate);
  if (!self) return;
  for (const Node& voter : stragglers(event.voters, *self)) {
    if (auto question = core_.polls.under_way(Question_Kind::vote, voter)) {
      effects.drop.push_back(std::move(*question));
    }
  }
}

// The voters that have been silent for straggler_timeout(), if the result, either way, is certain
// without them. Their questions are dropped. So a dead voter does not occupy a client thread for
// all of peer_timeout, and a live voter whose packet was lost is soon asked again.
std::vector<Node> Core_Step::stragglers(const std::vector<Node>& voters, const Node& self) const {
  std::vector<Node> silent, late;
  for (const Node& voter : voters) {
    const auto since = core_.polls.vote_awaited_since(voter.name);
    if (!since) continue;
    silent.push_back(voter);
    if (*since + core_.straggler_timeout() <= now_) late.push_back(voter);
  }
  if (late.empty()) return late;
  Votes fresh = core_.all_votes();
  for (const Node& voter : silent) fresh.erase(voter.name);
  const Tally tally{self, fresh, core_.lease, now_};
  const bool certain =
      is_elected(core_.required, tally) || !is_elected(core_.required, tally, silent);
  return certain ? late : std::vector<Node>();
}

void Core_Step::operator()(const Vote_Replied& event) {
  const Time then = now_ + event.missed;
  const auto asked_in = core_.asked_in.find(std::string(event.to.peer));
  const lists::Scope scope = asked_in == core_.asked_in.end() ? core_.scope : asked_in->second;
  const lists::Members votes = core_.voting(scope, then);
  effects.accepted = core_.polls.replied(event.to, event.answer, now_);
  const Voter_List* voters = core_.voters_in(scope);
  const Node* voter = voters ? find_node(*voters, event.to.peer) : nullptr;
  const lists::Participant* part = core_.part(scope);
  if (!effects.accepted || !core_.candidate() || !core_.settings.candidate || !voter || !part) {
    return;
  }
  // An older version sends no lists: its vote counts under the current list.
  lists::Reply reply;
  reply.current = part->held.current.number;
  reply.vote = true;
  if (event.answer.lists) reply = *event.answer.lists;
  const lists::Members with = core_.voting(scope, then);
  reply.vote = reply.vote && event.answer.named &&
               names_equal(*event.answer.named, core_.settings.node_name) &&
               std::binary_search(with.begin(), with.end(), voter->id);
  if (event.answer.lists || reply.vote) take_vote(scope, voter->id, reply, votes);
}

void Core_Step::operator()(const State_Replied& event) {
  // A wrong address leads to another node. That node does not send the detailed report, as it was
  // asked by a name that is not its own.
  const Node* peer = known_node(std::string(event.to.peer));
  const bool another =
      peer && !event.report.detailed && event.report.id && event.report.id != peer->id;
  const State_Report report = another ? State_Report() : event.report;
  effects.accepted = core_.polls.replied(event.to, report, now_);
  if (report.state == State::primary) ask_for_release(std::string(event.to.peer));
}

void Core_Step::operator()(const Standby_Replied& event) {
  effects.accepted = core_.polls.replied(event.to, event.report);
}

void Core_Step::operator()(const Hand_Back_Replied& event) {
  effects.accepted = core_.polls.replied(Question_Kind::hand_back, event.to);
}

void Core_Step::operator()(const Reply_Lost& event) {
  effects.accepted = core_.polls.replied(event.kind, {event.to.peer, event.to.number, false});
}

// ---- handing votes back -------------------------------------------------------------------------

std::optional<Time> votes_over_at(const Core& core, Time now) {
  if (core.decision.state == State::primary || !core.settings.candidate) return std::nullopt;
  if (core.names_itself()) {
    // It continues to vote for itself and to ask for votes, so its own vote is not handed back.
    if (!core.polls.holds_tokens()) return std::nullopt;
    const Votes votes = core.all_votes();
    const Tally tally{*core.candidate(), votes, core.lease, now};
    if (std::none_of(core.required.begin(), core.required.end(),
                     [&](const Voter_List& list) { return names_another(list, tally); })) {
      return std::nullopt;
    }
  } else if (core.own_token.empty() && !core.polls.holds_tokens()) {
    return std::nullopt;
  }
  return core.last_200 ? hand_back_due(*core.last_200, core.settings.check_delay) : now;
}

// First drops the votes, so that this node does not count a vote that it hands back. Then sends the
// hand-back to each voter, repeatedly, until the voter has answered or its promise has expired.
void Core_Step::hand_votes_back() {
  const auto over_at = votes_over_at(core_, now_);
  if (over_at && now_ >= *over_at) {
    core_.polls.give_up_votes();
    core_.own_vote.reset();
    drop_candidates();
    end_own_promise(std::exchange(core_.own_token, {}));
  }
  std::optional<Time> ago;  // none while it is Primary: then the vote was for another site's list
  if (core_.last_200 && core_.decision.state != State::primary) ago = now_ - *core_.last_200;
  const auto tokens = core_.polls.to_hand_back(now_);
  for (const Node& peer : core_.turn.others) {
    const auto token = tokens.find(peer.name);
    if (token == tokens.end()) continue;
    const std::string& name = core_.settings.node_name;
    core_.polls.ask(Question_Kind::hand_back, peer,
                    hand_back_request(name, peer.name, token->second, ago), undecided_interval,
                    now_, effects.ask);
  }
}

void Core_Step::operator()(const Own_Vote_Handed_Back& event) {
  end_own_promise(event.token);
  effects.busy = effects.hand_back_own.has_value();
}

void Core_Step::end_own_promise(const std::string& token) {
  const std::string& name = core_.settings.node_name;
  if (core_.awaits_store()) {
    effects.hand_back_own = token;
  } else if (core_.promise.end(name, token, now_)) {
    core_.promise.history.handed_back(name, core_.last_200);
  }
}

}  // namespace primgr
