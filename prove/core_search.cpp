#include "prove/core_search.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

#include "prove/hash.hpp"

namespace primgr::prove {

using namespace std::chrono_literals;

namespace {

std::string n(int k) {
  return Host::name(k);
}

std::string describe(Time time) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", std::chrono::duration<double>(time).count());
  return text;
}

}  // namespace

// ---- the steps from a state ---------------------------------------------------------------------

// Calls `go` with the fates of the messages of node k in a turn. In each turn at most one message
// is late, loses its answer, or meets a store that fails.
template <class Go>
void Core_Search::turns(const State& state, int k, Go go) const {
  Action action;
  action.kind = Action::turns;
  action.a = static_cast<std::uint8_t>(k);
  std::vector<int> peers;
  for (int peer = 0; peer < scope_.nodes; ++peer) {
    const bool reached = !(state.gone >> peer & 1) && !is_cut(k, peer);
    if (peer != k && reached) peers.push_back(peer);
    if (!reached) action.fates[peer] = is_lost;
  }
  const int stores = scope_.stores_fail >> k & 1 ? 3 : 1;
  const bool room = std::any_of(state.late, state.late + scope_.late,
                                [](const Late& late) { return !late.used; });
  const int ways = 1 << peers.size();
  for (int store = 0; store < stores; ++store) {
    action.store = static_cast<Store>(store);
    for (int way = 0; way < ways; ++way) {
      for (std::size_t i = 0; i < peers.size(); ++i) {
        action.fates[peers[i]] = static_cast<std::uint8_t>(way >> i & 1);
      }
      go(action);
      for (const int peer : peers) {
        const std::uint8_t before = action.fates[peer];
        if (before == is_lost) continue;
        for (const Fate fate : {not_stored, stored_unsure}) {
          action.fates[peer] = fate;
          if (scope_.stores_fail >> peer & 1) go(action);
        }
        action.fates[peer] = answer_is_lost;
        if (scope_.answers_lost) go(action);
        for (const Fate fate : {question_is_late, answer_is_late}) {
          action.fates[peer] = fate;
          if (room) go(action);
        }
        action.fates[peer] = before;
      }
    }
  }
}

template <class Go>
void Core_Search::successors(const State& state, Go go) {
  Action action;
  const auto step = [&](Action::Kind kind, int a, int b = 0, int how = 0) {
    action.kind = kind;
    action.a = static_cast<std::uint8_t>(a), action.b = static_cast<std::uint8_t>(b);
    action.how = static_cast<std::uint8_t>(how);
    go(action);
  };
  if (!scope_.units || state.units) {
    step(Action::passes, 0);
    for (int k = 0; k < scope_.nodes; ++k) {
      if (scope_.clocks_stop >> k & 1) step(Action::stands_still, k);
    }
  }
  for (int k = 0; k < scope_.nodes; ++k) {
    if (state.gone >> k & 1) continue;
    const bool fetches = known(state, k).fetches && !scope_.fused;
    if (!known(state, k).idle || fetches) turns(state, k, go);
    if (scope_.restarts >> k & 1) step(Action::restarts, k);
    const Database_State database = known(state, k).host.database;
    const bool is_promoted = !database.in_recovery && database.names == k + 1;
    if (!scope_.changes || state.changes) {
      if (scope_.candidates >> k & 1) {
        if (!is_promoted) step(Action::follows, k, 0);
        if (is_promoted && scope_.any_database) step(Action::follows, k, 1);
      }
      if (scope_.databases && database.up) step(Action::follows, k, 2);
      for (int of = 0; !scope_.any_database && of < scope_.nodes; ++of) {
        if (!(scope_.candidates >> of & 1) || of == k) continue;
        const bool names = database.up && database.names == of + 1;
        if (!names || !database.in_recovery) step(Action::follows, k, 3 + of);
        if (!names || database.in_recovery) step(Action::follows, k, 7 + of);
      }
      const int named = database.names - 1;
      if (scope_.reads && database.up && database.in_recovery && named >= 0 && !is_cut(k, named)) {
        const Database_State& from = known(state, named).host.database;
        if (!from.in_recovery && from.up &&
            (from.position != database.position || from.timeline != database.timeline)) {
          step(Action::replicates, k);
        }
      }
      for (const int rows : scope_.wished) {
        if (!is_promoted || rows == database.rows) continue;
        step(Action::names, k, rows);
      }
    }
    for (int other = 0; scope_.lost && other < scope_.nodes; ++other) {
      const bool may = other != k && scope_.lost >> other & 1 && !state.gone && is_promoted;
      if (may) step(Action::declares, k, other);
    }
    for (int voter = 0; scope_.forged && voter < scope_.nodes; ++voter) {
      if (voter != k && scope_.candidates >> k & 1) step(Action::forges, k, voter);
    }
  }
  for (int i = 0; i < scope_.late; ++i) {
    const Late& late = state.late[i];
    if (!late.used) continue;
    step(Action::loses, i);
    if (late.current) step(Action::gives_up, i);
    if (late.reply) {
      step(Action::delivers, i);
      continue;
    }
    if (state.gone >> late.peer & 1) continue;
    const int stores = scope_.stores_fail >> late.peer & 1 ? 3 : 1;
    for (int store = 0; store < stores; ++store) {
      action.store = static_cast<Store>(store);
      for (const Fate fate : {arrives, answer_is_late, is_lost}) {
        if (fate != is_lost && !late.current) continue;
        step(Action::delivers, i, 0, fate);
        if (scope_.copies && fate != answer_is_late) step(Action::copies, i, 0, fate);
      }
      action.store = {};
    }
  }
}

bool Core_Search::may(const State& state) const {
  if (!scope_.rounds || endless_) return true;
  for (int k = 0; k < scope_.nodes; ++k) {
    if (known(state, k).round > scope_.rounds) return false;
  }
  return true;
}

// ---- liveness -----------------------------------------------------------------------------------

// Node k is promoted, the others follow it, all nodes are up, and nothing is late or lost. Node k
// must become Primary within the longest promise, a quarter of it (promises are stored for that
// much longer), and a few turns. Then it must stay Primary.
bool Core_Search::heals(const State& from, int k) {
  ++healed;
  endless_ = true;
  State state = from;
  // All nodes are registered again.
  const auto rows = static_cast<std::uint8_t>((1 << scope_.nodes) - 1);
  say("all is whole, " + n(k) + " is promoted, and the others follow it");
  std::memset(state.late, 0, sizeof state.late);
  for (int i = 0; i < scope_.nodes; ++i) {
    // Messages that were under way are lost.
    for (const Late& late : from.late) {
      if (late.used && late.current && late.asker == i) {
        fail(state, i, late.peer, static_cast<Question_Kind>(late.kind));
      }
    }
    const int role = i == k ? 0 : scope_.any_database ? 1 : 3 + k;
    look(state, i, database_of(i, role, rows));
  }
  const int bound = longest_units_ + longest_units_ / 4 + 1 + (scope_.longer_lease ? 2 : 0) +
                    (scope_.lists ? 6 : 2);
  const std::uint8_t fates[most_nodes] = {};
  bool good = true;
  for (int unit = 0; unit < bound + 4 && result.empty(); ++unit) {
    for (int again = 0; again < 2; ++again) {
      for (int i = 0; i < scope_.nodes; ++i) {
        if (state.gone >> i & 1) continue;
        say(n(i) + " takes a turn");
        turn(state, i, fates, Store::works);
      }
      say_states(state);
      rename_tokens(state);
    }
    say(describe(scope_.unit) + " pass");
    if (unit >= bound) good = good && primary(state, k);
    pass(state, -1);
    rename_tokens(state);
  }
  endless_ = false;
  return good && result.empty();
}

std::string Core_Search::unhealed(const State& state) {
  for (int k = 0; k < scope_.nodes; ++k) {
    if (!(scope_.candidates >> k & 1) || state.gone >> k & 1) continue;
    if (!heals(state, k)) {
      unhealed_ = k;
      if (!result.empty()) return result + ", when all is whole, " + n(k) + " promoted";
      return n(k) +
             " is promoted, all is whole, and it does not become Primary, or does not stay so";
    }
  }
  return {};
}

// ---- the search ---------------------------------------------------------------------------------

bool Core_Search::add(const State& state, std::uint32_t parent, const Action& action) {
  if (states_.size() * 2 >= table_.size()) {
    table_.assign(std::max<std::size_t>(1 << 12, table_.size() * 2), 0);
    for (std::uint32_t i = 0; i < states_.size(); ++i) {
      std::size_t at = hash_of(states_[i]) & (table_.size() - 1);
      while (table_[at]) at = (at + 1) & (table_.size() - 1);
      table_[at] = i + 1;
    }
  }
  std::size_t at = hash_of(state) & (table_.size() - 1);
  for (; table_[at]; at = (at + 1) & (table_.size() - 1)) {
    if (!std::memcmp(&states_[table_[at] - 1], &state, sizeof state)) return false;
  }
  table_[at] = static_cast<std::uint32_t>(states_.size() + 1);
  states_.push_back(state);
  came_.push_back({parent, action});
  return true;
}

Core_Search::State Core_Search::first_state() {
  State state;
  std::memset(static_cast<void*>(&state), 0, sizeof state);
  state.changes = static_cast<std::uint8_t>(scope_.changes);
  state.units = static_cast<std::uint8_t>(scope_.units);
  int all = scope_.first | scope_.behind;
  for (const int rows : scope_.wished) all |= rows & 15;
  const auto members = [&](int of) {
    lists::Members ids;
    for (int k = 0; k < scope_.nodes; ++k) {
      if (of >> k & 1) ids.push_back(k + 1);
    }
    return ids;
  };
  const lists::List before = lists::first_list(members(scope_.first | scope_.behind));
  const lists::List made{{{2, 1}, 0}, false, members(scope_.first)};
  for (int k = 0; k < scope_.nodes; ++k) {
    Core_Settings settings;
    settings.node_name = n(k);
    settings.vote_lease = scope_.vote_lease;
    if (scope_.longer_lease >> k & 1) settings.vote_lease += scope_.unit;
    settings.check_delay =
        settings_.left_out == Left_Out::check_delay ? Time::zero() : scope_.check_delay;
    // A question may follow another one at the same time.
    settings.refresh_interval = Time::zero();
    if (scope_.reads) settings.peer_timeout = 100ms;
    const lists::List& known = scope_.first >> k & 1    ? (scope_.behind ? made : before)
                               : scope_.behind >> k & 1 ? before
                                                        : lists::List{};
    Host host(settings_, settings, known, scope_.files >> k & 1,
              database_of(k, scope_.any_database ? 1 : 3, all));
    host.was_primary = false;
    state.host[k] = memory.remember(std::move(host));
    state.ago[k] = check_delay_ms_;
  }
  // n1 is Primary.
  look(state, 0, database_of(0, 0, scope_.first));
  const std::uint8_t fates[most_nodes] = {};
  for (int i = 0; i < 2; ++i) turn(state, 0, fates, Store::works);
  for (int k = 1; scope_.reads && k < scope_.nodes; ++k) turn(state, k, fates, Store::works);
  rename_tokens(state);
  return state;
}

// Records the steps to a state, and from there to the violation.
void Core_Search::tell(std::size_t at) {
  std::vector<std::size_t> way = {at};
  while (way.back()) way.push_back(came_[way.back()].parent);
  const std::string found = std::exchange(result, {});
  telling_ = true;
  State state = states_[0];
  const auto report = [&] { say_states(state); };
  for (std::size_t i = way.size() - 1; i-- > 0;) {
    act(state, came_[way[i]].action);
    report();
  }
  if (unhealed_ >= 0) heals(state, unhealed_);
  telling_ = false;
  result = found;
}

void Core_Search::say_states(const State& state) {
  if (telling_) {
    std::string line = "  ";
    for (int k = 0; k < scope_.nodes; ++k) {
      const Host& host = known(state, k).host;
      line += " " + n(k) + " is " + to_string(host.core.state_at(host.now, host.missed));
      if (scope_.lists) {
        const auto* part = host.core.part();
        if (part) {
          const auto show = [](const lists::List& list) {
            std::string text = std::to_string(list.number.round.number) + "." +
                               std::to_string(list.number.round.maker) + "{";
            for (const int id : list.members) text += std::to_string(id);
            return text + "}";
          };
          line += " with " + show(part->held.current);
          if (part->held.pending.number) line += " and " + show(part->held.pending);
        }
      }
      line += k + 1 < scope_.nodes ? "," : "";
    }
    say(line);
  }
}

bool Core_Search::run(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  states_.reserve(1 << 16);
  add(first_state(), 0, {});
  std::vector<std::uint16_t> depths = {0};
  for (std::size_t next = 0; next < states_.size(); ++next) {
    if (states_.size() >= scope_.most) return true;
    if (next % 64 == 0 && Clock::now() > end) return true;
    const State state = states_[next];
    expanded = next + 1;
    depth = depths[next];
    bool found = false;
    if (next % scope_.live == 0) {
      const std::string why = unhealed(state);
      if (!why.empty()) {
        result = why;
        tell(next);
        return false;
      }
    }
    successors(state, [&](const Action& action) {
      if (found) return;
      State after = state;
      next_token_ = 100;
      act(after, action);
      found = !result.empty();
      if (!may(after) && !found) return;
      if (add(after, static_cast<std::uint32_t>(next), action)) {
        depths.push_back(static_cast<std::uint16_t>(depth + 1));
        if (found) tell(states_.size() - 1);
      } else if (found) {
        // The state is already known: it was reached before, without a violation on the way.
        states_.push_back(after);
        came_.push_back({static_cast<std::uint32_t>(next), action});
        tell(states_.size() - 1);
      }
    });
    if (found) return false;
  }
  exhausted = true;
  return true;
}

}  // namespace primgr::prove
