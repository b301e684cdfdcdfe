#include "node/rules/lists.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace primgr::lists {

namespace {

Round own_round(const Participant& node) {
  return {node.candidate.round, node.id};
}

// A round above all that are noted, held or found.
std::uint64_t next_round(const Participant& node) {
  return 1 + std::max({noted(node.held).number, node.candidate.round,
                       node.candidate.found.number.round.number});
}

// Another round has been noted somewhere. If it is higher than this node's own, the node chooses a
// higher one: it cannot make a list under a lower round any more.
void pass(Participant& node, const Round& other) {
  if (node.candidate.round == 0 || other <= own_round(node)) return;
  node.candidate.round = other.number + 1;
  for (auto& [voter, report] : node.candidate.reports) report.noted = false;
}

// The number of the pending list that counts.
Number highest_pending(const Participant& node) {
  const Candidate& c = node.candidate;
  if (c.reigns) return c.found.number;
  Number highest = node.held.pending.number;
  for (const auto& [voter, report] : c.reports) highest = std::max(highest, report.held);
  return highest > node.held.current.number ? highest : Number{};
}

// That list; null if its members are not known here. REQUIRES: there is one.
const List* pending_that_counts(const Participant& node) {
  const Number number = highest_pending(node);
  for (const List* list : {&node.candidate.found, &node.held.pending}) {
    if (list->number == number) return list;
  }
  return nullptr;
}

template <class Which>
Members voters(const Candidate& candidate, Which which) {
  Members found;
  for (const auto& [voter, report] : candidate.reports) {
    if (which(report)) found.push_back(voter);
  }
  return found;
}

Members difference(const Members& members, const Members& without) {
  Members rest;
  std::set_difference(members.begin(), members.end(), without.begin(), without.end(),
                      std::back_inserter(rest));
  return rest;
}

bool has(const Members& members, int id) {
  return std::binary_search(members.begin(), members.end(), id);
}

// Makes `list` current, and drops a pending list that is not newer.
void make_current(Held& held, List list) {
  held.current = std::move(list);
  if (held.pending.number <= held.current.number) held.pending = {};
}

Held learnt(Held held, int id, int from, const Served& told, bool bound) {
  const List& current = told.held.current;
  if (told.held.scope != held.scope) return held;
  if (current.number > held.current.number) {
    // A cluster begins if no node is Primary yet, and no node except the asking one has reigned. A
    // node that is no voter yet has nothing that it could have lost.
    const bool begins = current.number.round == Round{1, 0} && !told.held.pending.number &&
                        (told.held.noted.number == 0 || told.held.noted.maker == from);
    held.mute = held.mute || !(held.current.number || begins || !has(current.members, id));
    make_current(held, current);
  }
  if (!current.number || current.number != held.current.number) return held;
  held.mute = held.mute && !told.reigns;
  if (bound) return held;
  held.noted = std::max(held.noted, {told.round, told.round ? from : 0});
  const List& pending = told.held.pending;
  if (told.made && pending.number > std::max(held.current.number, held.pending.number)) {
    held.pending = pending;
  }
  return held;
}

}  // namespace

Round noted(const Held& held) {
  return std::max({held.noted, held.current.number.round, held.pending.number.round});
}

bool is_majority(const Members& members, const Members& have) {
  const auto missing = difference(members, have).size();
  return 2 * missing < members.size();
}

Served served(const Participant& node) {
  const Candidate& c = node.candidate;
  return {node.held, c.round, c.reigns, c.made};
}

Answer answer(const Held& held, const Question& question, bool bound) {
  const Number &current = held.current.number, &pending = held.pending.number;
  Answer answer;
  Reply& reply = answer.reply;
  reply.current = question.current;
  reply.noted = noted(held);
  reply.newer = question.current < current;
  answer.fetch = question.current > current || held.mute;
  if (bound || held.mute || (question.current != current && question.current != pending) ||
      reply.newer) {
    return answer;
  }
  reply.vote = true;
  reply.held = pending;
  if (question.pending == pending) reply.acknowledged = pending;
  answer.fetch = answer.fetch || question.pending > std::max(current, pending) ||
                 (current && Round{question.round, question.candidate} > reply.noted);
  return answer;
}

Participant fetched(Participant node, int from, const Served& told, bool bound,
                    const Members& votes) {
  Candidate& c = node.candidate;
  const Held before = std::exchange(node.held, learnt(node.held, node.id, from, told, bound));
  if (node.held.current.number != before.current.number) {
    c = {};
    return node;
  }
  if (node.held.pending.number != before.pending.number) {
    c.made = false;
    for (auto& [voter, report] : c.reports) report.acknowledged = false;
  }
  pass(node, noted(node.held));
  const List& pending = told.held.pending;
  if (told.held.scope == node.held.scope && !c.reigns && pending.number == highest_pending(node)) {
    c.found = pending;
  }
  return settled(std::move(node), votes);
}

Question ask(Participant& node) {
  Candidate& c = node.candidate;
  if (c.round == 0) c.round = next_round(node);
  return {node.id, node.held.current.number, c.round, c.made ? node.held.pending.number : Number{}};
}

std::vector<List> counted(const Participant& node) {
  if (!node.held.current.number) return {};
  std::vector<List> lists = {node.held.current};
  const Number number = highest_pending(node);
  if (!number) return lists;
  const List* pending = pending_that_counts(node);
  lists.push_back(pending ? *pending : List{number, false, {}});
  return lists;
}

bool is_elected(const Participant& node) {
  const Members have = voters(node.candidate, [](const Report&) { return true; });
  if (!is_majority(node.held.current.members, have)) return false;
  if (!highest_pending(node)) return true;
  const List* pending = pending_that_counts(node);
  return pending && is_majority(pending->members, have);
}

Participant settled(Participant node, const Members& votes) {
  Candidate& c = node.candidate;
  std::erase_if(c.reports, [&](const auto& report) { return !has(votes, report.first); });
  if (!c.reigns && c.found.number != highest_pending(node)) c.found = {};
  const bool elected = is_elected(node);
  if (c.reigns && !elected) {
    c = {};
  } else if (!c.reigns && elected) {
    c.found = highest_pending(node) ? *pending_that_counts(node) : List{};
    c.reigns = true;
    for (auto& [voter, report] : c.reports) report.held = {};
  }
  return node;
}

Replied replied(Participant node, int from, const Reply& reply, Members votes) {
  node = settled(std::move(node), votes);
  Candidate& c = node.candidate;
  if (reply.vote && (reply.current == node.held.current.number || c.reigns)) {
    c.reports[from] = {c.round != 0 && reply.noted == own_round(node),
                       c.made && reply.acknowledged == node.held.pending.number,
                       c.reigns ? Number{} : reply.held};
    votes.insert(std::lower_bound(votes.begin(), votes.end(), from), from);
  }
  c.heard = c.heard || (reply.newer && !node.held.current.number);
  pass(node, reply.noted);
  const bool fetch =
      reply.newer || (!c.reigns && reply.vote && reply.held &&
                      reply.held == highest_pending(node) && !pending_that_counts(node));
  return {settled(std::move(node), votes), fetch};
}

Members to_ask(const Participant& node, const Members& wished) {
  Members all = wished;
  for (const List* list : {&node.held.current, &node.held.pending, &node.candidate.found}) {
    all.insert(all.end(), list->members.begin(), list->members.end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

Participant proposed(Participant node, const Members& wished, const Members& answering,
                     const Members& votes) {
  node = settled(std::move(node), votes);
  Candidate& c = node.candidate;
  Held& held = node.held;
  const Members noting = voters(c, [](const Report& report) { return report.noted; });
  if (!c.reigns || c.round == 0 || !is_majority(held.current.members, noting)) return node;
  const bool carries = !c.found.members.empty();
  const bool passed = c.made && held.pending.number.round != own_round(node);
  const Members& latest = c.made ? held.pending.members : held.current.members;
  if (!passed && (carries ? c.made : wished == latest)) return node;
  if (!carries && (wished.size() > most_members || !is_majority(wished, answering))) return node;
  Number number{own_round(node), 0};
  for (const List* list : {&held.current, &held.pending}) {
    if (list->number.round == number.round) {
      number.count = std::max(number.count, list->number.count + 1);
    }
  }
  held.pending = {number, carries, carries ? c.found.members : wished};
  c.made = true;
  for (auto& [voter, report] : c.reports) report.acknowledged = false;
  return node;
}

Participant confirmed(Participant node, const Members& votes) {
  node = settled(std::move(node), votes);
  Candidate& c = node.candidate;
  Held& held = node.held;
  const Members have = voters(c, [](const Report& report) { return report.acknowledged; });
  if (!c.reigns || !c.made || !is_majority(held.current.members, have) ||
      !is_majority(held.pending.members, have)) {
    return node;
  }
  held.current = std::exchange(held.pending, {});
  c.made = false;
  c.found = {};
  for (auto& [voter, report] : c.reports) report.acknowledged = false;
  return settled(std::move(node), votes);
}

// The count is the 32-bit FNV-1a hash of the members.
List first_list(const Members& members) {
  std::uint32_t hash = 0x811c9dc5;
  for (const int id : members) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ (static_cast<std::uint32_t>(id) >> shift & 0xff)) * 0x01000193;
    }
  }
  return {{{1, 0}, hash}, false, members};
}

Participant started(Participant node, const Members& read, const Members& votes) {
  node = settled(std::move(node), votes);
  const Members know_none = voters(node.candidate, [](const Report&) { return true; });
  if (node.held.current.number || node.candidate.heard || read.size() > most_members ||
      !is_majority(read, know_none)) {
    return node;
  }
  make_current(node.held, first_list(read));
  node.candidate = {};
  return node;
}

std::optional<Participant> without(Participant node, const Members& lost) {
  Held& held = node.held;
  const auto lists = counted(node);
  if (lists.empty() || lists.back().members.empty()) return std::nullopt;
  const Members pending = difference(lists.back().members, lost);
  Members current = difference(held.current.members, lost);
  const bool listed = std::binary_search(pending.begin(), pending.end(), node.id);
  if (current.empty() && listed) current = pending;
  if (current.empty()) return std::nullopt;
  const Round round{next_round(node), node.id};
  held.current = {{round, 0}, false, current};
  held.pending = {};
  if (!pending.empty() && pending != current) held.pending = {{round, 1}, true, pending};
  node.candidate = {};
  return node;
}

}  // namespace primgr::lists
