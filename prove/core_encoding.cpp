// Each value has a function that binds all its members. So a new member does not compile until this
// file states whether it matters. The encoding leaves out:
//   - texts for users: reasons, Promise_History, Vote::before, bound_until, texts of Decision,
//     whether a peer answered, `complete` (it is for --once).
//   - values that only decide when to act next (freed_at, bound_until, answered_at,
//     list_changed_at, Poll::asked_at of a question that has ended). In the search, a node may act
//     at any time.
//   - times that have passed: all of them have the same effect. Only the order of two such times is
//     lost. The order decides only whether a record is written that is already there.
//   - values that a turn sets at its beginning (Core::turn), because hosts are compared between
//     turns.
//   - the age of a look, because a scope takes less time than cache_ttl, or looks at each turn.

#include "prove/core_encoding.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <deque>
#include <map>
#include <utility>

#include "node/rules/voting.hpp"
#include "prove/private_members.hpp"

namespace primgr::prove {

namespace {

// Private members have no structured binding. A new one changes the size of these copies'
// originals.
struct Like_Polls {
  std::map<int, int> peers;
  std::map<int, int> votes;
  Time missed;
  std::uint64_t asked;
};
struct Like_Promise {
  Promise_History history;
  Time vote_lease;
  bool stores;
  Time bound_until;
  Grant grant, saved;
  struct Awaited {
    Grant promise;
    Ballot ballot;
    Time bound_until;
  };
  std::optional<Awaited> awaited;
};
struct Like_Staleness {
  std::deque<int> reported;
  Time min_interval;
  std::optional<int> timeline;
  Lsn received;
  std::optional<int> received_timeline;
  std::optional<Time> last_asked_at, fresh_at, since;
  Time counted;
  std::optional<Time> no_primary_until;
};
static_assert(sizeof(Polls) == sizeof(Like_Polls), "a new member: see Encoder::polls()");
static_assert(sizeof(Promise) == sizeof(Like_Promise), "a new member: see Encoder::promise()");
static_assert(sizeof(Staleness) == sizeof(Like_Staleness),
              "a new member: see Encoder::staleness()");

class Encoder {
 public:
  explicit Encoder(const Host& host) : host_(host), settings_(*host.settings), now_(host.now) {}

  Encoded run() && {
    number(host_.self);
    core(host_.core);
    database(host_.database);
    flag(host_.has_file);
    const Grant& saved = at(Promise_Saved{}, host_.core.promise);
    const bool same = host_.kept == saved;
    flag(same);
    if (!same) {
      flag(host_.kept.has_value());
      if (host_.kept) grant(*host_.kept);
    }
    if (settings_.lists) voter_lists(host_.lists);
    number(host_.missed / std::chrono::milliseconds(1));
    for (const std::string& report : host_.reports) text(report);
    return std::move(out_);
  }

 private:
  void byte(unsigned value) { out_.bytes += static_cast<char>(value & 0xff); }
  void flag(bool value) { byte(value); }
  void number(std::int64_t value) {
    if (value >= 0 && value < 0xf0) return byte(static_cast<unsigned>(value));
    byte(0xff);
    for (int shift = 0; shift < 64; shift += 8) byte(static_cast<unsigned>(value >> shift));
  }
  void text(const std::string& value) {
    number(static_cast<std::int64_t>(value.size()));
    out_.bytes += value;
  }
  void token(const std::string& value) {
    if (value.empty()) return byte(0);
    const auto found = std::find(out_.tokens.begin(), out_.tokens.end(), value);
    number(1 + (found - out_.tokens.begin()));
    if (found == out_.tokens.end()) out_.tokens.push_back(value);
  }
  // How far the time is in the future, in ms. 0: it has passed.
  void until(Time time) {
    number(std::max(time - now_, Time::zero()) / std::chrono::milliseconds(1));
  }
  // How far the time is in the past, in ms. Longer than 30 s counts as 30 s, because more does not
  // matter.
  void since(Time time) {
    constexpr Time longest = std::chrono::seconds(30);
    number(1 + std::min(now_ - time, longest) / std::chrono::milliseconds(1));
  }
  void since(const std::optional<Time>& time) { time ? since(*time) : byte(0); }

  void list(const lists::List& list) {
    const auto& [of, carries, members] = list;
    list_number(of);
    flag(carries);
    ids(members);
  }
  void list_number(const lists::Number& value) {
    const auto& [round, count] = value;
    this->round(round);
    number(count);
  }
  void round(const lists::Round& round) {
    const auto& [of, maker] = round;
    number(static_cast<std::int64_t>(of));
    number(maker);
  }
  void ids(const lists::Members& members) {
    number(static_cast<std::int64_t>(members.size()));
    for (const int id : members) number(id);
  }
  void held(const lists::Held& held) {
    const auto& [scope, current, pending, noted, mute] = held;
    of(scope);
    list(current), list(pending), round(noted), flag(mute);
  }
  void of(const lists::Scope& scope) {
    const auto& [site, system] = scope;
    text(site.value_or("")), number(static_cast<std::int64_t>(system));
  }
  void timeline(const Primary_Timeline& voted) {
    const auto& [system, on, node] = voted;
    number(static_cast<std::int64_t>(system)), number(on), number(node);
  }
  void participant(const lists::Participant& part) {
    const auto& [id, its, candidate] = part;
    number(id);
    held(its);
    const auto& [round, reigns, made, heard, found, reports] = candidate;
    number(static_cast<std::int64_t>(round));
    flag(reigns), flag(made), flag(heard), list(found);
    number(static_cast<std::int64_t>(reports.size()));
    for (const auto& [voter, report] : reports) {
      const auto& [noted, acknowledged, pending] = report;
      number(voter), flag(noted), flag(acknowledged), list_number(pending);
    }
  }
  void nodes(const std::vector<Node>& nodes) {
    number(static_cast<std::int64_t>(nodes.size()));
    for (const Node& node : nodes) {
      const auto& [id, name, site, type, active, host, hostaddr] = node;
      number(id);
      byte(static_cast<unsigned char>(type.empty() ? ' ' : type[0]));
      flag(active);
      if (name != Host::name(id - 1)) text(name);
      if (site != "s") text(site);
    }
  }
  void grant(const Grant& grant) {
    const auto& [to, until_time, its_token, kept_until] = grant;
    text(to);
    until(until_time);
    token(its_token);
    until(kept_until);
  }
  void voter_lists(const Voter_Lists& lists) {
    const auto& [each, addresses, lost, voted, unreadable] = lists;
    number(static_cast<std::int64_t>(each.size()));
    for (const lists::Held& part : each) held(part);
    known(addresses);
    number(static_cast<std::int64_t>(lost.size()));
    for (const Lost_Voter& voter : lost) number(voter.node.id);
    timeline(voted);
    flag(!unreadable.empty());
  }
  void known(const Addresses& addresses) {
    number(static_cast<std::int64_t>(addresses.size()));
    for (const auto& [id, address] : addresses) number(id), text(address.name);
  }
  void vote(const Vote* vote) {
    if (!vote) return byte(0);
    const auto& [sent_at, names, why, lease, before, bound_until, answers] = *vote;
    const Time expiry = vote_expiry(*vote, host_.core.lease);
    if (names.empty() || expiry <= now_) return byte(0);
    byte(1), text(names), until(expiry);
  }
  void facts(const Facts& facts) {
    const auto& [asked_at, reachable, gone, in_recovery, superuser, system, nodes_known, rows,
                 nodes_read_at, blocked, nodes_pending, problem, replication] = facts;
    flag(reachable);
    if (!reachable) return;
    flag(in_recovery), flag(nodes_known), flag(nodes_pending);
    nodes(rows);
    if (!settings_.reads) return;
    const auto& [read_at, known, trouble, position, timeline, server_started, standbys,
                 standbys_asked_at, receiving, status, from, sender_lsn, received, since_commit,
                 paused] = replication;
    since(read_at);
    flag(known), flag(receiving), text(status);
    number(static_cast<std::int64_t>(position.value_or(0)));
    number(timeline.value_or(0));
    number(static_cast<std::int64_t>(received.value_or(0)));
  }
  void database(const Database_State& database) {
    const auto& [up, in_recovery, names, rows, position, timeline] = database;
    flag(up), flag(in_recovery), number(names), byte(rows), byte(position), byte(timeline);
  }

  void promise(const Promise& promise) {
    flag(at(Promise_Stores{}, promise));
    grant(at(Promise_Grant{}, promise));
    grant(at(Promise_Saved{}, promise));
    flag(promise.awaits_store());
    if (settings_.reads) since(at(Promise_Bound_Until{}, promise));
  }

  void polls(const Polls& polls) {
    const auto& peers = at(Polls_Peers{}, polls);
    for (int k = 0; k < settings_.nodes; ++k) {
      const auto found = peers.find(Host::name(k));
      flag(found != peers.end());
      if (found == peers.end()) continue;
      const auto& [each, reported, unbound, unbound_list, silent_before, silent, alive, sync,
                   bound_until, mine, to_hand_back] = found->second;
      for (const Question_Kind kind : {Question_Kind::vote, Question_Kind::state,
                                       Question_Kind::lists, Question_Kind::hand_back}) {
        const auto& [asked_at, under_way, missed_before, target, answered] =
            each[static_cast<int>(kind)];
        // Where a scope does not need these questions, they are always lost.
        const bool never = (kind == Question_Kind::lists && !settings_.lists) ||
                           (kind == Question_Kind::state && !settings_.lists && !settings_.reads);
        if (never) continue;
        flag(under_way != 0);
        // The same question is not sent twice at one time.
        const bool again = host_.core.settings.refresh_interval == Time::zero() &&
                           (kind == Question_Kind::vote || kind == Question_Kind::state);
        flag(asked_at && *asked_at >= now_ && !again);
        if (!under_way) continue;
        since(asked_at);
        number((at(Polls_Missed{}, polls) - missed_before) / std::chrono::milliseconds(1));
        if (kind == Question_Kind::hand_back) token(token_in(target));
      }
      token(mine.token);
      if (!mine.token.empty()) until(mine.until);
      const bool hands_back = !to_hand_back.token.empty() && to_hand_back.until > now_;
      flag(hands_back);
      if (hands_back) token(to_hand_back.token), until(to_hand_back.until);
      if (settings_.lists) flag(reported.has_value());
      if (host_.core.declared_at) {
        for (const auto& time : {silent_before, silent, alive}) {
          flag(time && *time >= *host_.core.declared_at);
        }
      }
      if (!settings_.reads) continue;
      flag(reported.has_value());
      if (reported) {
        const auto& [state, unbound_for, list, position, timeline, system, instance, id, detailed] =
            reported->first;
        byte(static_cast<unsigned>(state));
        number(static_cast<std::int64_t>(position.value_or(0)));
        number(timeline.value_or(0));
        since(reported->second);
      }
      flag(unbound.has_value());
      if (unbound) {
        const auto& [from, to] = *unbound;
        since(from), since(to), text(unbound_list);
      }
    }
    for (int k = 0; k < settings_.nodes; ++k) {
      const Votes& votes = polls.votes();
      const auto found = votes.find(Host::name(k));
      vote(found == votes.end() ? nullptr : &found->second);
    }
  }

  std::string token_in(const std::string& target) const {
    const std::size_t from = find_token(target, 0);
    return from == target.npos ? "" : target.substr(from, token_digits + 2);
  }

  void staleness(const Staleness& staleness) {
    const auto& reported = at(Staleness_Reported{}, staleness);
    number(static_cast<std::int64_t>(reported.size()));
    for (const auto& report : reported) {
      const auto& [asked_at, position] = report;
      since(asked_at), number(static_cast<std::int64_t>(position));
    }
    number(at(Staleness_Timeline{}, staleness).value_or(0));
    number(static_cast<std::int64_t>(at(Staleness_Received{}, staleness)));
    number(at(Staleness_Received_Timeline{}, staleness).value_or(0));
    since(at(Staleness_Last_Asked_At{}, staleness));
    since(at(Staleness_Fresh_At{}, staleness));
    since(at(Staleness_Since{}, staleness));
    since(at(Staleness_Counted{}, staleness));
    since(at(Staleness_No_Primary_Until{}, staleness));
  }

  void core(const Core& core) {
    const auto& [settings, lease, its_facts, looked, its_nodes, server_started, answered_at, replay,
                 its_staleness, sync_wanted_at, parts, scope, addresses, stored_addresses, lost,
                 voted, store_due, its_timeline, to_forget, outdated, outdated_noted, refused,
                 unreadable, read, holds, counted, required, voters, unlisted, to_fetch, fetched,
                 own_to_fetch, list_changed_at, sites, asked_in, namesakes, storing, notes, unsure,
                 declaration, declared_at, its_promise, awaited, bound_until, freed_at, its_polls,
                 own_vote, own_token, last_200, turn, looked_at, decision, complete] = core;
    facts(its_facts);
    flag(looked);
    if (!its_facts.reachable) nodes(its_nodes);
    promise(its_promise);
    flag(awaited.has_value());
    polls(its_polls);
    vote(own_vote ? &*own_vote : nullptr);
    token(own_token);
    until(last_200 ? hand_back_due(*last_200, settings.check_delay) : Time());
    const auto& [state, valid_until, reason] = decision;
    byte(static_cast<unsigned>(state));
    if (state == State::primary) until(valid_until);
    number(static_cast<std::int64_t>(parts.size()));
    for (const lists::Participant& part : parts) participant(part);
    if (settings_.reads) staleness(its_staleness);
    timeline(voted);
    number(its_timeline), flag(to_forget), text(outdated);
    if (!settings_.lists) return;
    of(scope);
    known(addresses);
    flag(store_due.has_value());
    if (store_due) known(stored_addresses), until(*store_due);
    number(static_cast<std::int64_t>(sites.size()));
    for (const auto& [its, wished, asked] : sites) of(its), nodes(wished), nodes(asked);
    number(static_cast<std::int64_t>(asked_in.size()));
    for (const auto& [name, its] : asked_in) text(name), of(its);
    number(static_cast<std::int64_t>(namesakes.size()));
    number(static_cast<std::int64_t>(lost.size()));
    for (const Lost_Voter& voter : lost) number(voter.node.id);
    flag(!unreadable.empty());
    ids(members_of(read));
    number(static_cast<std::int64_t>(counted.size()));
    for (const lists::List& each : counted) list(each);
    for (const Voter_List& each : required) nodes(each);
    nodes(voters), nodes(unlisted);
    number(static_cast<std::int64_t>(to_fetch.size()));
    for (const auto& [name, its] : to_fetch) text(name), of(its);
    number(static_cast<std::int64_t>(fetched.size()));
    for (const auto& [from, served] : fetched) {
      const auto& [of, its_round, reigns, made] = served;
      text(from), held(of), number(static_cast<std::int64_t>(its_round)), flag(reigns), flag(made);
    }
    flag(own_to_fetch), flag(storing.has_value()), flag(unsure);
    flag(declared_at.has_value());
    if (declared_at) {
      for (const std::string& name : declaration.names) text(name);
    }
  }

  const Host& host_;
  const Host_Settings& settings_;
  const Time now_;
  Encoded out_;
};

}  // namespace

Encoded encode(const Host& host) {
  return Encoder(host).run();
}

std::size_t find_token(const std::string& text, std::size_t from) {
  for (;; ++from) {
    from = text.find(token_prefix, from);
    if (from == text.npos || from + 2 + token_digits > text.size()) return text.npos;
    const auto digits = text.begin() + static_cast<std::ptrdiff_t>(from) + 2;
    if (std::all_of(digits, digits + token_digits,
                    [](unsigned char c) { return std::isdigit(c) != 0; })) {
      return from;
    }
  }
}

}  // namespace primgr::prove
