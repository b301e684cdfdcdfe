// The search in one scope.

#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/time.hpp"
#include "node/rules/lists.hpp"
#include "prove/hash.hpp"
#include "prove/scopes.hpp"

namespace primgr::prove {

using namespace lists;
// A list in 16 bits: round, maker, count, whether it carries, members. Maker 7: the list was read,
// not made.
using Code = std::uint16_t;

template <int N>
class Search {
 public:
  struct Saved {
    Code current, pending;
    std::uint8_t noted_round, noted_maker;
    std::uint8_t mute, unused;
  };
  struct Packed {
    Saved held, disk;  // disk: the lists that a restart may find instead, if `unsure`
    Code found, reported[N];
    std::uint8_t round, promised, flags;  // flags: reigns, made, unsure, dead, heard
    Mask reports, noting, acknowledging;
  };
  struct Message {
    std::uint8_t kind, from, to;  // 0: none, 1: question, 2: reply, 3: lists
    std::uint8_t round, noted_round, noted_maker, flags, unused;
    Code current, pending, acknowledged;
    Saved held;
  };
  struct State {
    Packed nodes[N];
    Message message;
    std::uint8_t spent, unused;  // spent: the one loss of a disk, or of nodes, has happened
  };
  static_assert(std::has_unique_object_representations_v<State>);

  explicit Search(const Scope_Of_Search& scope, Part part) : scope_(scope), part_(part) {}

  // Returns whether no violation was found. `exhausted`: the whole scope was searched.
  bool run(double seconds, bool quiet);
  bool exhausted = false;
  std::size_t size() const { return states_.size(); }
  std::string result;

 private:
  static constexpr int nobody = 7;
  enum Flag : std::uint8_t { reigns = 1, made = 2, unsure = 4, dead = 8, heard = 16 };
  struct Step {
    std::uint32_t parent;
    std::uint8_t kind, a, b, how;
  };
  enum Kind : std::uint8_t {
    begins,
    expires,
    restarts,
    asks,
    fetches,
    proposes,
    confirms,
    sends,
    serves,
    loses,
    arrives,
    declares,
    blanks,
  };
  // For written_late, the store failed, but the data is on disk.
  enum How : std::uint8_t { stored, not_stored, written_late };

  // A state with the types of the production code instead of packed ones.
  struct Live {
    State at;  // except the participants, which are in `shared`
    std::array<std::shared_ptr<const Participant>, N> shared;
    const Participant& node(int k) const { return *shared[static_cast<std::size_t>(k)]; }
    void set(int k, Participant node) {
      shared[static_cast<std::size_t>(k)] = std::make_shared<const Participant>(std::move(node));
    }
  };

  bool fused(int way) const { return (scope_.fused & way) != 0; }
  bool left_out(Part part) const { return part_ == part; }
  static Members members(Mask mask) {
    Members ids;
    for (int i = 0; i < N; ++i) {
      if (mask >> i & 1) ids.push_back(i + 1);
    }
    return ids;
  }
  static Mask mask(const Members& ids) {
    unsigned found = 0;
    for (const int id : ids) found |= 1U << (id - 1);
    return static_cast<Mask>(found);
  }
  static Members reporters(const Participant& node) {
    Members ids;
    for (const auto& [voter, report] : node.candidate.reports) ids.push_back(voter);
    return ids;
  }
  static bool majority(Mask list, Mask have) {
    return 2 * std::popcount(static_cast<unsigned>(list & have)) >
           std::popcount(static_cast<unsigned>(list));
  }

  Code pack(const Number& number) const {
    if (!number) return 0;
    const bool by_a_node = number.round.maker != 0;
    return static_cast<Code>(number.round.number << 11 |
                             static_cast<unsigned>(by_a_node ? number.round.maker - 1 : nobody)
                                 << 8 |
                             (by_a_node ? number.count : 0) << 6);
  }
  Code pack(const List& list) const {
    return static_cast<Code>(pack(list.number) | list.carries << 5 | mask(list.members));
  }
  Number number(Code code) const {
    if (!code) return {};
    const int maker = code >> 8 & 7;
    if (maker == nobody) return first_.number;
    return {{static_cast<std::uint64_t>(code >> 11), maker + 1},
            static_cast<std::uint32_t>(code >> 6 & 3)};
  }
  List list(Code code) const {
    return {number(code), (code >> 5 & 1) != 0, members(static_cast<Mask>(code & 31))};
  }
  Saved pack(const Held& held) const {
    Saved saved;
    std::memset(&saved, 0, sizeof saved);
    saved.current = pack(held.current), saved.pending = pack(held.pending);
    saved.noted_round = static_cast<std::uint8_t>(held.noted.number);
    saved.noted_maker = static_cast<std::uint8_t>(held.noted.maker);
    saved.mute = held.mute;
    return saved;
  }
  Held unpack(const Saved& saved) const {
    return {{},
            list(saved.current),
            list(saved.pending),
            {saved.noted_round, saved.noted_maker},
            saved.mute != 0};
  }
  void pack(const Participant& node, Packed& to) const;
  Participant unpack(const Packed& packed, int id) const;
  Live unpack(const State& state) const {
    Live live;
    live.at = state;
    for (int i = 0; i < N; ++i) live.set(i, unpack(state.nodes[i], i + 1));
    return live;
  }

  // Functions that apply the part of the rule that is left out.
  Answer answer_of(const Live& live, int voter, Question question) const;
  bool hides() const {
    return left_out(Part::own_uncounted) || left_out(Part::own_for_ever) ||
           left_out(Part::own_counted);
  }
  Participant hiding(Participant node) const;
  template <class Decide>
  Participant decide(const Participant& node, Decide decision) const;

  Participant settle(const Participant& node, const Members& votes) const;
  bool reply_to(Live& live, int k, int v, const Reply& reply) const;
  bool store(Live& live, int k, Participant next, How how, bool ignoring = false) const;
  bool ask_of(Live& live, int k, int v, bool fetching, How how = stored) const;
  bool fetch(Live& live, int x, int from, const Served& told, How how) const;
  bool propose(Live& live, int k, Mask wished, Mask answering, How how) const;
  bool confirm(Live& live, int k, How how) const;
  void expire(Live& live, int v) const;
  void restart(Live& live, int k, bool other) const;
  bool declare_lost(Live& live, int k) const;
  bool bound(const Live& live, int v, int to) const {
    return live.at.nodes[v].promised != nobody && live.at.nodes[v].promised != to &&
           !left_out(Part::two_votes);
  }
  bool primary(const Live& live, int k) const {
    if (live.at.nodes[k].flags & dead) return false;
    return is_elected(hides() ? hiding(live.node(k)) : live.node(k));
  }

  template <class Go>
  void successors(const State& state, const Live& live, Go go);
  std::uint64_t highest_round() const {
    return endless_ ? 15U : static_cast<unsigned>(scope_.rounds);
  }
  bool may_choose(const Participant& node) const {
    if (node.candidate.round) return true;
    Participant copy = node;
    ask(copy);
    return copy.candidate.round <= highest_round();
  }
  static Question question_of(Live& live, int k) {
    Participant node = live.node(k);
    const Question question = ask(node);
    if (node.candidate.round != live.node(k).candidate.round) live.set(k, std::move(node));
    return question;
  }

  bool heals(Live live, int k, Mask up, Mask wished, bool fresh) const;
  bool stays(Live live, int k, Mask up, Mask wished) const;
  bool check_liveness(const State& state, const Live& live, std::size_t at);

  bool add(const State& state, Step step);
  void grow();
  std::string text(Code code) const;
  std::string describe(const Step& step, const State& before, const State& after) const;
  void print(std::size_t at) const;

  const Scope_Of_Search& scope_;
  const Part part_;
  const List first_ = scope_.changed ? List{{{1, N}, 0}, false, members(scope_.first)}
                                     : first_list(members(scope_.first));
  mutable bool endless_ = false;  // while liveness is checked, rounds have no limit
  std::vector<State> states_;
  std::vector<Step> steps_;
  std::vector<std::uint32_t> table_;
  std::size_t checks_ = 0;
};

template <int N>
void Search<N>::pack(const Participant& node, Packed& to) const {
  const Candidate& c = node.candidate;
  to.held = pack(node.held);
  to.found = pack(c.found);
  to.round = static_cast<std::uint8_t>(c.round);
  to.flags = static_cast<std::uint8_t>((to.flags & (unsure | dead)) | (c.reigns ? reigns : 0) |
                                       (c.made ? made : 0) | (c.heard ? heard : 0));
  to.reports = to.noting = to.acknowledging = 0;
  std::memset(to.reported, 0, sizeof to.reported);
  for (const auto& [voter, report] : c.reports) {
    const auto bit = static_cast<Mask>(1U << (voter - 1));
    to.reports |= bit;
    if (report.noted) to.noting |= bit;
    if (report.acknowledged) to.acknowledging |= bit;
    to.reported[voter - 1] = pack(report.held);
  }
}

template <int N>
Participant Search<N>::unpack(const Packed& packed, int id) const {
  Participant node{id, unpack(packed.held), {}};
  Candidate& c = node.candidate;
  c.round = packed.round;
  c.reigns = packed.flags & reigns, c.made = packed.flags & made;
  c.heard = packed.flags & heard;
  c.found = list(packed.found);
  for (int v = 0; v < N; ++v) {
    if (packed.reports >> v & 1) {
      c.reports[v + 1] = {(packed.noting >> v & 1) != 0, (packed.acknowledging >> v & 1) != 0,
                          number(packed.reported[v])};
    }
  }
  return node;
}

// ---- one step, through the production functions ------------------------------------------------

template <int N>
Answer Search<N>::answer_of(const Live& live, int v, Question question) const {
  const Held& held = live.node(v).held;
  const Number asked = question.current;
  if (left_out(Part::old_lists) && held.current.number) question.current = held.current.number;
  Answer a = answer(held, question, bound(live, v, question.candidate - 1));
  a.reply.current = asked;
  if (left_out(Part::silent) && v + 1 != question.candidate) a.reply.held = {};
  if (left_out(Part::own_for_ever) && a.reply.held.round.maker == question.candidate) {
    a.reply.held = {};
  }
  if (left_out(Part::late_acknowledgement) && a.reply.acknowledged) {
    a.reply.acknowledged = live.node(question.candidate - 1).held.pending.number;
  }
  return a;
}

// A candidate that counts its own held list wrongly, for the parts that change this: it does not
// count the list, or it counts the list before it is current.
template <int N>
Participant Search<N>::hiding(Participant node) const {
  const bool own = node.held.pending.number.round.maker == node.id;
  if (left_out(Part::own_uncounted) || (left_out(Part::own_for_ever) && own)) {
    if (!node.candidate.made) node.held.pending = {};
  }
  if (left_out(Part::own_counted) && node.candidate.made) node.candidate.found = node.held.pending;
  return node;
}

template <int N>
template <class Decide>
Participant Search<N>::decide(const Participant& node, Decide decision) const {
  if (!hides()) return decision(node);
  const Participant shown = hiding(node);
  if (shown == node) return decision(node);
  Participant next = decision(shown);
  if (next.held == shown.held) next.held = node.held;
  if (next.candidate.found == shown.candidate.found) next.candidate.found = node.candidate.found;
  return next;
}

template <int N>
Participant Search<N>::settle(const Participant& node, const Members& votes) const {
  Participant next = decide(node, [&](const Participant& n) { return settled(n, votes); });
  if (left_out(Part::gap) && node.candidate.reigns && !next.candidate.reigns) {
    next.candidate = node.candidate;
    std::erase_if(next.candidate.reports, [&](const auto& report) {
      return !std::binary_search(votes.begin(), votes.end(), report.first);
    });
  }
  return next;
}

template <int N>
bool Search<N>::reply_to(Live& live, int k, int v, const Reply& reply) const {
  const auto before = live.shared[static_cast<std::size_t>(k)];
  Participant node = *before;
  Reply shown = reply;
  if (left_out(Part::late_acknowledgement) && reply.acknowledged) {
    shown.acknowledged = node.held.pending.number;
  }
  bool wants = false;
  if (!(left_out(Part::gap) && node.candidate.reigns && !is_elected(node))) {
    node = decide(node, [&](const Participant& n) {
      Replied r = replied(n, v + 1, shown, reporters(n));
      wants = r.fetch;
      return r.node;
    });
  } else if (shown.vote) {
    node.candidate.reports[v + 1] = {
        reply.noted == Round{node.candidate.round, k + 1},
        node.candidate.made && reply.acknowledged == node.held.pending.number,
        {}};
  }
  Candidate& c = node.candidate;
  if (left_out(Part::deaf) && before->candidate.round && before->candidate.reigns) {
    c.round = before->candidate.round;
  }
  if (left_out(Part::melting) && c.reigns && reply.vote &&
      !(c.made && reply.held == node.held.pending.number) &&
      reply.held > std::max(c.found.number, node.held.current.number)) {
    c.found = live.node(v).held.pending;
    node = settle(node, reporters(node));
  }
  live.set(k, std::move(node));
  return wants;
}

// Installs a decision. Returns false if nothing changes.
template <int N>
bool Search<N>::store(Live& live, int k, Participant next, How how, bool ignoring) const {
  const Participant& node = live.node(k);
  Packed& rest = live.at.nodes[k];
  if (next == node && !(rest.flags & unsure)) return false;
  const bool write = next.held != node.held || (rest.flags & unsure);
  if (how != stored && !write) return false;
  if (how == not_stored && !ignoring) return false;
  const Saved old = pack(node.held);
  if (how == written_late) {
    if (ignoring) return false;
    rest.flags |= unsure, rest.disk = pack(next.held);
    return true;
  }
  if (how == not_stored) {
    rest.flags |= unsure, rest.disk = old;
  } else {
    rest.flags &= static_cast<std::uint8_t>(~unsure);
    std::memset(&rest.disk, 0, sizeof rest.disk);
  }
  live.set(k, std::move(next));
  return true;
}

template <int N>
bool Search<N>::fetch(Live& live, int x, int from, const Served& told, How how) const {
  const Participant& node = live.node(x);
  Participant shown = node;
  const bool to_another = bound(live, x, from);
  if (left_out(Part::lower) && told.made && told.held.pending.number && !to_another) {
    shown.held.pending = {};
  }
  Participant next = decide(shown, [&](const Participant& n) {
    return fetched(n, from + 1, told, to_another, reporters(n));
  });
  if (left_out(Part::lower) && !next.held.pending.number &&
      node.held.pending.number > next.held.current.number) {
    next.held.pending = node.held.pending;
  }
  if (left_out(Part::blank)) next.held.mute = false;
  if (next.candidate.round > highest_round()) return false;
  return store(live, x, std::move(next), how, left_out(Part::acknowledged_unstored));
}

// Candidate k asks v, which answers at once. `fetching`: then both fetch the lists that they need.
template <int N>
bool Search<N>::ask_of(Live& live, int k, int v, bool fetching, How how) const {
  if (!may_choose(live.node(k))) return false;
  // A voter does not answer before it has stored.
  if (live.at.nodes[v].flags & unsure && !left_out(Part::acknowledged_unstored)) return false;
  const Question question = question_of(live, k);
  const Answer a = answer_of(live, v, question);
  if (a.reply.vote) live.at.nodes[v].promised = static_cast<std::uint8_t>(k);
  const bool wants = reply_to(live, k, v, a.reply);
  if (fetching && a.fetch) fetch(live, v, k, served(live.node(k)), how);
  if (fetching && wants) fetch(live, k, v, served(live.node(v)), stored);
  return live.node(k).candidate.round <= highest_round();
}

template <int N>
bool Search<N>::propose(Live& live, int k, Mask wished, Mask answering, How how) const {
  const Participant& node = live.node(k);
  Participant shown = node;
  if (left_out(Part::unfinished) || (left_out(Part::replaced) && node.candidate.made)) {
    shown.candidate.found = {};
  }
  if (left_out(Part::unnoted)) {
    for (auto& [voter, report] : shown.candidate.reports) report.noted = true;
  }
  if (left_out(Part::unanswered)) answering = 31;
  const Members votes = reporters(node);
  if (left_out(Part::gap) && !is_elected(node)) return false;
  Participant next = decide(shown, [&](const Participant& n) {
    return proposed(n, members(wished), members(answering), votes);
  });
  if (next.held == shown.held) return false;
  if (left_out(Part::unnoted)) {
    for (auto& [voter, report] : next.candidate.reports) {
      report.noted = node.candidate.reports.at(voter).noted;
    }
  }
  List& pending = next.held.pending;
  if (left_out(Part::as_is) && pending.carries) pending.number = node.candidate.found.number;
  if (left_out(Part::counts) && pending.number.count) --pending.number.count;
  if (pending.number.count > static_cast<unsigned>(endless_ ? 3 : scope_.counts)) return false;
  return store(live, k, std::move(next), how);
}

template <int N>
bool Search<N>::confirm(Live& live, int k, How how) const {
  const Participant& node = live.node(k);
  Participant shown = node;
  if (left_out(Part::new_only)) shown.held.current.members = node.held.pending.members;
  if (left_out(Part::old_only)) shown.held.pending.members = node.held.current.members;
  if (left_out(Part::gap) && !is_elected(node)) return false;
  const Members votes = reporters(shown);
  Participant next = decide(shown, [&](const Participant& n) { return confirmed(n, votes); });
  if (next.held.current.number == node.held.current.number) return false;
  next.held.current.members = node.held.pending.members;
  return store(live, k, std::move(next), how);
}

// The lease of voter v ends, for its candidate and then for itself.
template <int N>
void Search<N>::expire(Live& live, int v) const {
  live.at.nodes[v].promised = nobody;
  if (live.at.message.kind == 2 && live.at.message.from == v) live.at.message = {};
  for (int k = 0; k < N; ++k) {
    if (!live.node(k).candidate.reports.count(v + 1)) continue;
    Members votes = reporters(live.node(k));
    std::erase(votes, v + 1);
    live.set(k, settle(live.node(k), votes));
  }
}

template <int N>
void Search<N>::restart(Live& live, int k, bool other) const {
  Packed& rest = live.at.nodes[k];
  live.set(k, {k + 1, other ? unpack(rest.disk) : live.node(k).held, {}});
  rest.flags &= static_cast<std::uint8_t>(~unsure);
  std::memset(&rest.disk, 0, sizeof rest.disk);
  if (left_out(Part::forgotten)) rest.promised = nobody;
}

// The nodes in scope_.lost are gone for good, and the operator declares that on node k. Node k must
// know the newest lists of all other nodes.
template <int N>
bool Search<N>::declare_lost(Live& live, int k) const {
  if (scope_.lost >> k & 1 || live.at.spent || !may_choose(live.node(k))) return false;
  const auto lists = counted(live.node(k));
  if (lists.empty() || live.at.nodes[k].flags & unsure) return false;
  for (int v = 0; v < N; ++v) {
    if (scope_.lost >> v & 1) continue;
    const Held& held = live.node(v).held;
    if (held.current.number > lists.front().number ||
        (held.pending.number > lists.back().number && held.pending.number > lists.front().number)) {
      return false;
    }
  }
  auto next = without(live.node(k), members(scope_.lost));
  if (!next || next->held.current.number.round.number > highest_round()) return false;
  for (int v = 0; v < N; ++v) {
    if (!(scope_.lost >> v & 1)) continue;
    expire(live, v);
    live.at.nodes[v].flags |= dead;
    live.set(v, {v + 1, live.node(v).held, {}});
  }
  live.at.spent = 1;
  return store(live, k, std::move(*next), stored);
}

// ---- the steps from a state --------------------------------------------------------------------

template <int N>
template <class Go>
void Search<N>::successors(const State& state, const Live& live, Go go) {
  Live t;
  const auto step = [&](Kind kind, int a, int b = 0, int how = 0) {
    go(t, Step{0, kind, static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(b),
               static_cast<std::uint8_t>(how)});
  };
  const auto hows = [&](int k) { return scope_.stores_fail >> k & 1 ? 3 : 1; };
  const auto acts = [&](int k) {
    return !(state.nodes[k].flags & dead) && !(scope_.absent >> k & 1);
  };
  for (int v = 0; v < N; ++v) {
    if (state.nodes[v].promised != nobody) t = live, expire(t, v), step(expires, v);
  }
  for (int k = 0; k < N; ++k) {
    if (!acts(k)) continue;
    const Packed& node = state.nodes[k];
    if (node.reports || node.round || left_out(Part::forgotten) || node.flags & unsure) {
      t = live, restart(t, k, false), step(restarts, k);
    }
    if (node.flags & unsure) t = live, restart(t, k, true), step(restarts, k, 0, 1);
    if (scope_.blank >> k & 1 && !state.spent) {
      t = live, expire(t, k), t.set(k, {k + 1, {}, {}});
      t.at.spent = 1, step(blanks, k);
    }
    if (scope_.lost && (t = live, declare_lost(t, k))) step(declares, k);
    for (int from = 0; from < N; ++from) {
      if (fused(3) || !acts(from) || state.nodes[from].flags & unsure ||
          (from == k && hows(k) == 1))
        continue;
      const Served told = served(live.node(from));
      for (int how = 0; how < hows(k); ++how) {
        if (t = live; fetch(t, k, from, told, How(how))) step(fetches, k, from, how);
      }
    }
    if (!(scope_.candidates >> k & 1) || node.flags & unsure) continue;
    for (int v = 0; v < N; ++v) {
      if (!acts(v)) continue;
      const bool once = !fused(3) || fused(4);
      if (once && (t = live, ask_of(t, k, v, v == k))) step(asks, k, v);
      for (int how = 0; fused(3) && how < hows(v); ++how) {
        t = live;
        if (ask_of(t, k, v, true, How(how)) && (!fused(2) || ask_of(t, k, v, true, How(how)))) {
          step(asks, k, v, how);
        }
      }
      if (scope_.late == 1 && k == 0 && v == 1 && !state.message.kind && may_choose(live.node(k))) {
        t = live;
        const Question q = question_of(t, k);
        Message& m = t.at.message;
        m.kind = 1, m.from = static_cast<std::uint8_t>(k), m.to = static_cast<std::uint8_t>(v);
        m.round = static_cast<std::uint8_t>(q.round);
        m.current = pack(q.current), m.pending = pack(q.pending);
        step(sends, k, v);
      }
      if (scope_.late && k == 0 && v == 1 && !state.message.kind) {
        t = live;
        const Served told = served(t.node(k));
        Message& m = t.at.message;
        m.kind = 3, m.from = static_cast<std::uint8_t>(k), m.to = static_cast<std::uint8_t>(v);
        m.round = static_cast<std::uint8_t>(told.round), m.held = pack(told.held);
        m.flags = static_cast<std::uint8_t>((told.reigns ? reigns : 0) | (told.made ? made : 0));
        step(serves, k, v);
      }
    }
    if (!(node.flags & reigns)) continue;
    for (std::size_t i = 0; i < scope_.wished.size(); ++i) {
      for (int how = 0; how < hows(k); ++how) {
        const Mask all = static_cast<Mask>(31 & ~scope_.absent);
        if (t = live; propose(t, k, scope_.wished[i], all, How(how))) {
          step(proposes, k, scope_.wished[i], how);
        }
      }
    }
    for (int how = 0; how < hows(k); ++how) {
      if (t = live; confirm(t, k, How(how))) step(confirms, k, 0, how);
    }
  }
  const Message m = state.message;
  if (!m.kind) return;
  t = live, t.at.message = {}, step(loses, m.from, m.to);
  t = live, t.at.message = {};
  if (!acts(m.to)) return;
  if (m.kind == 1) {
    if (state.nodes[m.to].flags & unsure) return;
    const Answer a =
        answer_of(t, m.to, {m.from + 1, number(m.current), m.round, number(m.pending)});
    if (a.reply.vote) t.at.nodes[m.to].promised = m.from;
    Message& back = t.at.message;
    back.kind = 2, back.from = m.to, back.to = m.from;
    back.noted_round = static_cast<std::uint8_t>(a.reply.noted.number);
    back.noted_maker = static_cast<std::uint8_t>(a.reply.noted.maker);
    back.flags = static_cast<std::uint8_t>(a.reply.vote | a.reply.newer << 1);
    back.current = pack(a.reply.current), back.pending = pack(a.reply.held);
    back.acknowledged = pack(a.reply.acknowledged);
  } else if (m.kind == 2) {
    reply_to(t, m.to, m.from,
             {number(m.current),
              (m.flags & 1) != 0,
              (m.flags & 2) != 0,
              {m.noted_round, m.noted_maker},
              number(m.pending),
              number(m.acknowledged)});
    if (t.node(m.to).candidate.round > highest_round()) return;
  } else {
    fetch(t, m.to, m.from,
          {unpack(m.held), m.round, (m.flags & reigns) != 0, (m.flags & made) != 0}, stored);
  }
  step(arrives, m.from, m.to, m.kind);
}

// ---- liveness ----------------------------------------------------------------------------------

// Node k is promoted, the others follow it, the nodes in `up` answer, and all databases list
// `wished`. Returns whether k becomes Primary with that list.
template <int N>
bool Search<N>::heals(Live live, int k, Mask up, Mask wished, bool fresh) const {
  endless_ = true;
  live.at.message = {};
  for (int v = 0; v < N; ++v) {
    if (live.at.nodes[v].flags & unsure) store(live, v, live.node(v), stored);
    if (fresh || live.at.nodes[v].promised != k) expire(live, v);
    if (v != k || fresh) live.set(v, {v + 1, live.node(v).held, {}});
  }
  bool good = false;
  for (int round = 0; round < 20 && !good; ++round) {
    for (int v = 0; v < N; ++v) {
      if (up >> v & 1) {
        ask_of(live, k, v, true);
      } else {
        expire(live, v);
      }
    }
    propose(live, k, wished, up, stored), confirm(live, k, stored);
    const Held& held = live.node(k).held;
    good = primary(live, k) && !held.pending.number && mask(held.current.members) == wished;
  }
  endless_ = false;
  return good;
}

// Primary k continues to reach only the nodes in `up`, which vote for it now. Its database lists
// `wished`. Returns whether it stays Primary.
template <int N>
bool Search<N>::stays(Live live, int k, Mask up, Mask wished) const {
  endless_ = true;
  live.at.message = {};
  for (int v = 0; v < N; ++v) {
    if (!(up >> v & 1)) expire(live, v);
  }
  bool good = primary(live, k);
  for (int round = 0; round < 8 && good; ++round) {
    const auto answering = static_cast<Mask>(31 & ~scope_.absent);
    propose(live, k, wished, answering, stored), confirm(live, k, stored);
    good = primary(live, k);
    for (int v = 0; v < N && good; ++v) {
      if (up >> v & 1) ask_of(live, k, v, true), good = primary(live, k);
    }
  }
  endless_ = false;
  return good;
}

template <int N>
bool Search<N>::check_liveness(const State& state, const Live& live, std::size_t at) {
  std::vector<Mask> lists;
  Mask there = 0, silent = 0, listed = 0;
  const Held* newest = nullptr;
  for (int v = 0; v < N; ++v) {
    const Held& held = live.node(v).held;
    const auto bit = static_cast<Mask>(1U << v);
    if (state.nodes[v].flags & dead || scope_.absent & bit) continue;
    there |= bit;
    listed |= mask(held.current.members);
    if (!newest || held.current.number > newest->current.number) newest = &held;
    if (held.pending.number && !scope_.absent) lists.push_back(mask(held.pending.members));
  }
  lists.push_back(mask(newest->current.members));
  // These nodes do not vote before a node is Primary.
  for (int v = 0; v < N; ++v) {
    const Held& held = live.node(v).held;
    const bool blank = !held.current.number && (listed | scope_.blank) >> v & 1;
    if (held.mute || blank) silent |= static_cast<Mask>(1U << v);
  }
  for (int k = 0; k < N; ++k) {
    for (unsigned bits = 1; bits < 1U << N; ++bits) {
      const auto up = static_cast<Mask>(bits);
      const auto voting = static_cast<Mask>(up & ~silent);
      if (!(up >> k & 1) || (up & ~there)) continue;
      bool enough = std::all_of(lists.begin(), lists.end(),
                                [&](Mask list) { return majority(list, voting); });
      Number known;
      Mask by_known = 0;
      for (int v = 0; v < N; ++v) {
        if (!(up >> v & 1) || live.node(v).held.current.number < known) continue;
        known = live.node(v).held.current.number;
        by_known = mask(live.node(v).held.current.members);
      }
      enough = enough && majority(by_known, voting);
      for (const Mask wished : scope_.wished) {
        if (!enough || !majority(wished, up) || !(wished >> k & 1)) continue;
        ++checks_;
        if (!heals(live, k, up, wished, at & 1)) {
          result = "n" + std::to_string(k + 1) + " is promoted, " + text(up) + " are up and list " +
                   text(wished) + ": it does not become Primary with that list";
          return false;
        }
      }
      if (!primary(live, k) || (up & state.nodes[k].reports) != up) continue;
      Live t = live;
      for (int v = 0; v < N; ++v) {
        if (!(up >> v & 1)) expire(t, v);
      }
      const bool newer = std::any_of(live.shared.begin(), live.shared.end(), [&](const auto& node) {
        return up >> (node->id - 1) & 1 &&
               node->held.current.number > live.node(k).held.current.number;
      });
      if (newer || !primary(t, k)) continue;
      for (const Mask wished : scope_.wished) {
        ++checks_;
        if (!stays(live, k, up, wished)) {
          result = "Primary n" + std::to_string(k + 1) + " reaches " + text(up) + ", lists " +
                   text(wished) + ", and does not stay Primary";
          return false;
        }
      }
    }
  }
  return true;
}

// ---- the search ---------------------------------------------------------------------------------

template <int N>
void Search<N>::grow() {
  table_.assign(std::max<std::size_t>(1 << 16, table_.size() * 2), 0);
  for (std::uint32_t i = 0; i < states_.size(); ++i) {
    std::size_t at = hash_of(states_[i]) & (table_.size() - 1);
    while (table_[at]) at = (at + 1) & (table_.size() - 1);
    table_[at] = i + 1;
  }
}

template <int N>
bool Search<N>::add(const State& state, Step step) {
  if (states_.size() * 2 >= table_.size()) grow();
  std::size_t at = hash_of(state) & (table_.size() - 1);
  for (; table_[at]; at = (at + 1) & (table_.size() - 1)) {
    if (!std::memcmp(&states_[table_[at] - 1], &state, sizeof state)) return false;
  }
  table_[at] = static_cast<std::uint32_t>(states_.size() + 1);
  states_.push_back(state);
  steps_.push_back(step);
  return true;
}

template <int N>
std::string Search<N>::text(Code code) const {
  std::string text;
  if (code >> 6) {
    const Number n = number(code);
    text = std::to_string(n.round.number);
    if (n.round.maker) text += ".n" + std::to_string(n.round.maker);
    if (n.round.maker && n.count) text += "." + std::to_string(n.count);
  }
  text += code >> 5 & 1 ? "*{" : "{";
  for (int i = 0; i < N; ++i) {
    if (code >> i & 1) text += static_cast<char>('1' + i);
  }
  return text + "}";
}

template <int N>
std::string Search<N>::describe(const Step& step, const State& before, const State& after) const {
  const auto name = [](int k) { return "n" + std::to_string(k + 1); };
  const std::string a = name(step.a), b = name(step.b);
  const char* how = step.how == not_stored     ? ", which cannot be stored"
                    : step.how == written_late ? ", which is written, but reported as failed"
                                               : "";
  switch (step.kind) {
    case begins:
      return "all know the first list";
    case expires:
      return "the lease of " + a + "'s vote is over";
    case restarts:
      return a + " is restarted" + (step.how ? ", and finds what it could not store" : "");
    case asks:
      return a + " asks " + b +
             (after.nodes[step.a].reports >> step.b & 1 ? ", which votes for it" : ": no vote");
    case fetches:
      return a + " fetches the lists of " + b + how;
    case proposes:
      return a + " makes the list " + text(after.nodes[step.a].held.pending) + how;
    case confirms:
      return a + " confirms " + text(before.nodes[step.a].held.pending) + how;
    case sends:
      return a + " asks " + b + "; that is under way";
    case serves:
      return a + " serves its lists to " + b + "; they are under way";
    case loses:
      return "what was under way from " + a + " to " + b + " is lost";
    case arrives:
      return step.how == 1   ? b + " answers the question of " + a + "; that is under way"
             : step.how == 2 ? b + " gets the reply of " + a
                             : b + " gets the lists of " + a;
    case declares:
      return text(scope_.lost) + " are gone, and " + a + " is told so by --lost";
    case blanks:
      return a + " loses its disk";
  }
  return "?";
}

template <int N>
void Search<N>::print(std::size_t at) const {
  std::vector<std::size_t> way = {at};
  while (way.back()) way.push_back(steps_[way.back()].parent);
  for (std::size_t i = way.size(); i--;) {
    const State& state = states_[way[i]];
    const State& before = states_[steps_[way[i]].parent];
    std::printf("%4zu  %s\n", way.size() - 1 - i, describe(steps_[way[i]], before, state).c_str());
    if (i && i + 1 != way.size() && steps_[way[i]].kind == asks) continue;
    const Live live = unpack(state);
    std::printf("      ");
    for (int k = 0; k < N; ++k) {
      const Packed& n = state.nodes[k];
      std::printf(" n%d%s has %s", k + 1, primary(live, k) ? " is PRIMARY and" : "",
                  n.held.current ? text(n.held.current).c_str() : "no list");
      if (n.held.pending) std::printf(", pending %s", text(n.held.pending).c_str());
      if (n.promised != nobody) std::printf(", votes for n%d", n.promised + 1);
      std::printf(k + 1 < N ? ";" : "\n");
    }
  }
}

template <int N>
bool Search<N>::run(double seconds, bool quiet) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  State start;
  std::memset(static_cast<void*>(&start), 0, sizeof start);
  for (int k = 0; k < N; ++k) {
    start.nodes[k].promised = nobody;
    if (scope_.first >> k & 1) start.nodes[k].held.current = pack(first_);
  }
  if (scope_.late == 2) {  // the lists of n1, which was Primary by its own vote and that of n2
    Packed& n1 = start.nodes[0];
    n1.held.pending = pack(List{{{2, 1}, 0}, false, members(scope_.wished.front())});
    for (const int k : {0, 1}) {
      start.nodes[k].held.noted_round = 2;
      start.nodes[k].held.noted_maker = 1;
    }
    start.message.kind = 3, start.message.to = 1, start.message.round = 2;
    start.message.flags = reigns | made, start.message.held = n1.held;
  }
  if (scope_.begun) {
    const List newer{{{2, 2}, 0}, false, members(scope_.wished.front())};
    start.nodes[1].held.current = start.nodes[2].held.pending = pack(newer);
    for (const int k : {1, 2})
      start.nodes[k].held.noted_round = start.nodes[k].held.noted_maker = 2;
  }
  add(start, {0, begins, 0, 0, 0});
  std::size_t next = 0;
  bool good = true;
  const auto since = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  for (; good && next < states_.size() && states_.size() < scope_.limit; ++next) {
    if (next % 1024 == 0 && since() > seconds) break;
    const State state = states_[next];
    const Live live = unpack(state);
    int primaries = 0;
    for (int k = 0; k < N; ++k) primaries += primary(live, k);
    if (primaries > 1) result = "two Primaries", good = false;
    if (good && scope_.live && next % scope_.live == 0)
      good = check_liveness(state, live, next / scope_.live);
    if (!good) break;
    successors(state, live, [&](const Live& after, Step step) {
      State packed;
      std::memcpy(static_cast<void*>(&packed), &after.at, sizeof packed);
      for (int k = 0; k < N; ++k) {
        const auto i = static_cast<std::size_t>(k);
        if (after.shared[i] != live.shared[i]) pack(after.node(k), packed.nodes[k]);
      }
      step.parent = static_cast<std::uint32_t>(next);
      add(packed, step);
    });
  }
  exhausted = good && next == states_.size();
  if (!good && !quiet) std::printf("%s:\n", result.c_str()), print(next);
  std::printf("%s: %zu states, %.0f s, %.0f states/s, %zu checks of liveness\n",
              !good       ? result.c_str()
              : exhausted ? "exhausted"
                          : "not exhausted",
              states_.size(), since(), static_cast<double>(next) / std::max(since(), 0.001),
              checks_);
  std::fflush(stdout);
  return good;
}

}  // namespace primgr::prove
