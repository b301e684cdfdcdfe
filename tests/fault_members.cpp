#include "tests/fault_members.hpp"

#include <algorithm>
#include <thread>

void hold(std::mt19937_64& random, double least, double most) {
  const double until =
      seconds_now() + least + (most - least) * static_cast<double>(random() % 1000) / 1000;
  while (seconds_now() < until) std::this_thread::sleep_for(10ms);
}

void Member_Faults::hold(double least, double most) {
  ::hold(random_, least, most);
}

// ---- the kinds ----------------------------------------------------------------------------------

Member_Faults::Done Member_Faults::alone(std::size_t, std::size_t other) {
  cut_off_and_promote(other);
  hold(0, 2);
  members_.unregister(other, others({other}));
  hold(2, 6);
  maybe_heal();
  return {"unregister all others on a node that is cut off and promoted", watch_.size() > 2};
}

Member_Faults::Done Member_Faults::split(std::size_t p, std::size_t other) {
  Nodes here = {p}, followers;
  for (const std::size_t node : others({p, other})) (either() ? here : followers).push_back(node);
  Nodes there = followers;
  there.push_back(other);
  const bool here_first = either(), both = either();
  cut(here, there);
  if (here_first && both) members_.unregister(p, some(there));
  hold(0, 1);
  take_over(other, followers);
  members_.unregister(other, some(here));
  hold(0, 3);
  if (!here_first && both) members_.unregister(p, some(there));
  hold(2, 6);
  maybe_heal();
  const bool larger = there.size() > here.size();
  return {std::string("promote on the ") + (larger ? "larger" : "smaller") +
          " side of a cut, and unregister " + (both ? "on both sides" : "there")};
}

Member_Faults::Done Member_Faults::gone(std::size_t p, std::size_t other) {
  const Nodes followers = either() ? others({p, other}) : Nodes();
  Nodes lost = followers;
  lost.push_back(other);
  const bool dead = either(), promoted = either();
  for (const std::size_t node : lost) {
    if (dead) lab_.attempt("kill " + name(node));
  }
  if (!dead) cut(others(lost), lost);
  hold(0, 5);
  members_.unregister(p, lost);
  hold(1, 4);
  if (!dead && promoted) {
    take_over(other, followers);
    hold(1, 4);
    if (either()) members_.unregister(other, some(others(lost)));
    hold(1, 4);
  }
  if (dead && promoted) {
    for (const std::size_t node : lost) lab_.attempt("start " + name(node));
    hold(1, 4);
  }
  maybe_heal();
  return {std::string("unregister nodes that are ") + (dead ? "dead" : "cut off"),
          lost.size() * 2 < watch_.size()};
}

Member_Faults::Done Member_Faults::lag(std::size_t p, std::size_t other) {
  const bool paused = either();
  if (paused) {
    replay(other, "pause");
  } else {
    cut({p}, {other});
  }
  members_.unregister(p, some(others({p})));
  hold(0, 3);
  const std::size_t how = random_() % 3;
  if (how == 1) lab_.attempt("stop " + name(p));
  if (how == 2) {
    cut({p}, others({p, other}));
    cut({p}, {other});
  }
  if (how > 0) take_over(other, others({p, other}));
  hold(2, 6);
  if (how == 2) maybe_heal();
  replay(other, "resume");
  return {std::string("unregister while a standby ") +
          (paused ? "does not replay" : "is cut from the primary") +
          (how > 0 ? ", which then takes over" : "")};
}

Member_Faults::Done Member_Faults::again(std::size_t p, std::size_t other) {
  Nodes nodes = {other};
  for (const std::size_t node : others({p, other})) {
    if (random_() % 4 == 0) nodes.push_back(node);
  }
  members_.unregister(p, nodes);
  hold(0, 4);
  members_.register_again(p, nodes);
  hold(0, 4);
  return {"unregister, and register again", true};
}

Member_Faults::Done Member_Faults::rename(std::size_t p, std::size_t other) {
  switch (random_() % 3) {
    case 0:
      cut_off_and_promote(other);
      members_.rename(other, other);
      members_.unregister(other, some(others({other})));
      hold(3, 6);
      maybe_heal();
      return {"rename a node that is cut off and promoted, and unregister there",
              watch_.size() > 2};
    case 1:
      cut({other}, others({other}));
      hold(0, 2);
      members_.rename(p, other);
      hold(0, 1);
      take_over(other, {});
      members_.unregister(other, some(others({other})));
      hold(2, 6);
      maybe_heal();
      return {"rename a node that is cut off, and promote it", watch_.size() > 2};
    default:
      members_.rename(p, other);
      hold(1, 5);
      return {"rename a standby", watch_.size() > 2};
  }
}

Member_Faults::Done Member_Faults::move(std::size_t p, std::size_t other) {
  if (either()) {
    members_.move(p, {other}, "elsewhere");
    hold(0, 4);
    members_.register_again(p, {other});
    hold(0, 4);
    return {"move a standby to another site and back", watch_.size() > 2};
  }
  cut_off_and_promote(other);
  const bool itself = either();
  members_.move(other, itself ? Nodes{other} : others({other}), "elsewhere");
  hold(2, 6);
  maybe_heal();
  return {std::string("move ") + (itself ? "itself" : "the others") +
              " to another site on a node that is cut off and promoted",
          watch_.size() > 2};
}

// With nodes that do not exist, all others may be needed.
Member_Faults::Done Member_Faults::add(std::size_t p, std::size_t other) {
  const bool own = either();
  if (either()) {
    members_.add_strangers(p, 1, own);
    hold(2, 5);
    return {"add a node that does not answer", watch_.size() > 2};
  }
  cut_off_and_promote(other);
  members_.unregister(other, some(others({other})));
  members_.add_strangers(other, 1 + random_() % 3, own);
  hold(2, 6);
  maybe_heal();
  return {"unregister and add nodes on a node that is cut off and promoted", watch_.size() > 2};
}

Member_Faults::Done Member_Faults::mix(std::size_t, std::size_t) {
  for (std::size_t steps = 4 + random_() % 5; steps > 0; --steps) {
    step();
    hold(0, 2.5);
  }
  hold(0, 3);
  for (const std::size_t node : in_recovery(true)) {
    replay(node, "resume");
  }
  return {"any of that, again and again"};
}

// ---- steps --------------------------------------------------------------------------------------

void Member_Faults::step() {
  const Nodes writable = in_recovery(false);
  if (writable.empty() || either()) {
    step_of_network();
  } else {
    step_of_members(any(writable));
  }
}

void Member_Faults::step_of_network() {
  const Nodes standbys = in_recovery(true), all = others({});
  const std::size_t victim = any(all);
  switch (random_() % 9) {
    case 0:
      lab_.attempt("heal");
      break;
    case 1:
      lab_.attempt("primgr " + name(victim) + " restart");
      break;
    case 2:
      lab_.attempt("kill " + name(victim));
      hold(0, 2);
      lab_.attempt("start " + name(victim));
      break;
    case 3:
      if (!standbys.empty()) {
        replay(any(standbys), "pause");
      }
      break;
    case 4:
    case 5: {
      lab_.attempt("heal");
      const Nodes side = some(all);
      cut(side, others(side));
      break;
    }
    default:
      if (!standbys.empty()) take_over(any(standbys), some(standbys));
  }
}

void Member_Faults::step_of_members(std::size_t on) {
  const Nodes rest = others({on});
  switch (random_() % 7) {
    case 0:
      members_.register_again(on, some(rest));
      break;
    case 1:
      members_.restore(on);
      break;
    case 2:
      members_.add_strangers(on, 1, either());
      break;
    case 3:
      members_.rename(on, any(rest));
      break;
    default:
      members_.unregister(on, some(rest));
  }
}

void Member_Faults::replay(std::size_t node, const std::string& how) const {
  lab_.attempt("psql " + name(node) + " -qAtc 'SELECT pg_wal_replay_" + how + "()'");
}

void Member_Faults::cut(const Nodes& a, const Nodes& b) const {
  for (const std::size_t y : b) {
    for (const std::size_t x : a) lab_.attempt("cut " + name(x) + " " + name(y));
  }
}

void Member_Faults::take_over(std::size_t successor, const Nodes& followers) const {
  std::string verb = "takeover " + name(successor) + " only";
  for (const std::size_t node : followers) {
    if (node != successor) verb += " " + name(node);
  }
  // A node that is not registered takes writes all the same.
  lab_.attempt(verb);
}

void Member_Faults::cut_off_and_promote(std::size_t node) {
  cut({node}, others({node}));
  hold(0, 1);
  take_over(node, {});
}

void Member_Faults::maybe_heal() {
  if (!either()) return;
  lab_.attempt("heal");
  hold(1, 4);
}

// ---- nodes --------------------------------------------------------------------------------------

Member_Faults::Nodes Member_Faults::some(const Nodes& nodes) {
  Nodes chosen;
  for (const std::size_t node : nodes) {
    if (either()) chosen.push_back(node);
  }
  if (chosen.empty() && !nodes.empty()) chosen.push_back(any(nodes));
  return chosen;
}

Member_Faults::Nodes Member_Faults::others(const Nodes& excluded) const {
  Nodes rest;
  for (std::size_t i = 0; i < watch_.size(); ++i) {
    if (std::find(excluded.begin(), excluded.end(), i) == excluded.end()) rest.push_back(i);
  }
  return rest;
}

Member_Faults::Nodes Member_Faults::in_recovery(bool is) const {
  Nodes found;
  for (std::size_t i = 0; i < watch_.size(); ++i) {
    const Node_View node = watch_.view(i);
    if (node.reachable && node.in_recovery == is) found.push_back(i);
  }
  return found;
}
