#include "prove/core_memory.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace primgr::prove {

namespace {

constexpr char hole = '#';  // instead of a token

// Replaces each token in a text with a hole, and appends the tokens to `tokens`.
std::string without_tokens(const std::string& text, std::vector<std::string>& tokens) {
  std::string left;
  std::size_t from = 0;
  for (;;) {
    const std::size_t at = find_token(text, from);
    if (at == text.npos) return left + text.substr(from);
    left += text.substr(from, at - from) + hole;
    from = at + 2 + token_digits;
    tokens.push_back(text.substr(at, from - at));
  }
}

std::string with_tokens(const std::string& text, const std::vector<std::string>& tokens) {
  std::string whole;
  std::size_t next = 0;
  for (const char c : text) {
    if (c == hole) {
      whole += tokens[next++];
    } else {
      whole += c;
    }
  }
  return whole;
}

std::string key_of(std::uint32_t host, const Operation& o, const std::vector<Origin>& tokens) {
  std::string key;
  const auto put = [&](std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) key += static_cast<char>(value >> (8 * i) & 0xff);
  };
  put(host, 4);
  put(o.kind, 1), put(static_cast<std::uint64_t>(o.store), 1);
  switch (o.kind) {
    case Operation::serves:
    case Operation::takes:
      put(o.text, 4), put(static_cast<std::uint64_t>(o.question), 1);
      put(static_cast<std::uint64_t>(o.peer), 1), put(o.current, 1);
      for (const Origin token : tokens) put(token, 1);
      break;
    case Operation::looks: {
      const auto& [up, in_recovery, names, rows, position, timeline] = o.database;
      put(up, 1), put(in_recovery, 1), put(static_cast<std::uint64_t>(names), 1), put(rows, 1);
      put(position, 1), put(timeline, 1);
      break;
    }
    case Operation::passes:
    case Operation::stops:
      put(static_cast<std::uint64_t>(o.time.count()), 8);
      break;
    case Operation::declares:
      put(static_cast<std::uint64_t>(o.peer), 1);
      break;
    default:
      break;
  }
  return key;
}

}  // namespace

std::string Core_Memory::new_token() {
  char text[16];
  std::snprintf(text, sizeof text, "%s%07u", token_prefix, token_++);
  return text;
}

std::uint32_t Core_Memory::text(const std::string& text) {
  const auto [found, is_new] = text_ids_.emplace(text, static_cast<std::uint32_t>(texts_.size()));
  if (is_new) texts_.push_back(text);
  return found->second;
}

Http_Reply Core_Memory::reply_in(const std::string& text) {
  return {
      std::atoi(text.c_str()), text.substr(std::min(text.find(' '), text.size() - 1) + 1), "", {}};
}

std::uint32_t Core_Memory::remember(Host host) {
  Encoded encoded = encode(host);
  const auto [found, is_new] =
      by_bytes_.emplace(std::move(encoded.bytes), static_cast<std::uint32_t>(known_.size()));
  if (is_new) {
    Known known{std::move(host), std::move(encoded.tokens)};
    known.primary = known.host.is_primary();
    known.serves_reads =
        known.host.settings->reads && known.host.serves_reads(std::chrono::seconds(1));
    known.candidate = known.host.core.candidate() != nullptr;
    const Core& core = known.host.core;
    known.fetches = !core.to_fetch.empty() && known.host.settings->lists;
    known.idle = !known.host.settings->reads && !known.candidate &&
                 core.decision.state == State::standby && !core.unsure && core.own_token.empty() &&
                 !core.polls.holds_tokens() && core.fetched.empty() &&
                 core.polls.to_hand_back(known.host.now).empty() && !core.declared_at;
    if (known.primary) {
      known.primary_ms = static_cast<int>(known.host.primary_for() / std::chrono::milliseconds(1));
    }
    for (const lists::Participant& part : known.host.core.parts) {
      known.round = std::max({known.round, part.candidate.round, lists::noted(part.held).number});
    }
    known_.push_back(std::move(known));
  } else if (compare_each && ++met_again_ % compare_each == 0) {
    ++compared;
    different += !go_on_alike(host, known_[found->second].host);
  }
  return found->second;
}

// Whether two hosts stay equal and send the same questions during some steps. The steps use much of
// what the hosts know.
bool Core_Memory::go_on_alike(const Host& a, const Host& b) {
  std::vector<std::string> seen[2];
  int i = 0;
  for (Host host : {a, b}) {
    std::vector<std::string>& said = seen[i++];
    const auto note = [&] {
      said.push_back(encode(host).bytes + (host.is_primary() ? "!" : ""));
      for (const Sent& sent : host.take_questions()) {
        const bool lost = sent.kind == Question_Kind::lists || sent.kind == Question_Kind::state;
        if (lost && !host.settings->lists) continue;
        std::vector<std::string> tokens;
        said.push_back(without_tokens(sent.target, tokens));
      }
    };
    const std::string target =
        "/primary?candidate=n2&lease=1500&accepts=less&id=2&round=2&current="
        "1.0.0&site=s&token=tk9999999&voter=" +
        host.core.settings.node_name;
    for (int k = 0; k < 3; ++k) {
      std::vector<std::string> tokens;
      if (host.self != 1) {
        said.push_back(without_tokens(host.serve(target, new_token(), Store::works).body, tokens));
      }
      host.begin_turn(new_token(), Store::works);
      for (int peer = 0; peer < host.settings->nodes; ++peer) {
        if (host.under_way(Question_Kind::vote, peer)) {
          host.take(Question_Kind::vote, peer, true, {});
        }
      }
      note();
      host.ask_others();
      for (const Question_Kind kind : {Question_Kind::state, Question_Kind::lists}) {
        for (int peer = 0; peer < host.settings->nodes; ++peer) {
          if (host.under_way(kind, peer)) host.take(kind, peer, true, {});
        }
      }
      host.decide(Store::works);
      note();
      host.pass(std::chrono::seconds(1));
      note();
      if (k == 1) host.restart(), note();
    }
  }
  return seen[0] == seen[1];
}

const Result& Core_Memory::run(std::uint32_t of, const Operation& o,
                               const std::vector<Origin>& text_tokens) {
  const auto [found, is_new] = results_.emplace(key_of(of, o, text_tokens), Result{});
  Result& result = found->second;
  if (!is_new) return result;
  ++steps_;
  Host host = known_[of].host;
  const std::vector<std::string> own = known_[of].tokens;
  std::vector<std::string> told, given;
  for (const Origin token : text_tokens) {
    if (token < of_text) {
      told.push_back(own[token]);
      continue;
    }
    while (given.size() <= static_cast<std::size_t>(token - of_text)) given.push_back(new_token());
    told.push_back(given[token - of_text]);
  }
  const std::string fresh_token = new_token();
  std::uint64_t before[5][4] = {};
  constexpr Question_Kind kinds[] = {Question_Kind::vote, Question_Kind::state,
                                     Question_Kind::hand_back, Question_Kind::lists};
  const int nodes = host.settings->nodes;
  for (const Question_Kind kind : kinds) {
    for (int peer = 0; peer < nodes; ++peer) {
      before[static_cast<int>(kind)][peer] = host.under_way(kind, peer);
    }
  }
  host.was_primary = host.is_primary();
  std::string answer;
  switch (o.kind) {
    case Operation::begins:
      host.begin_turn(fresh_token, o.store);
      break;
    case Operation::asks:
      host.ask_others();
      break;
    case Operation::decides:
      host.decide(o.store);
      break;
    case Operation::serves: {
      const Http_Reply reply = host.serve(with_tokens(texts_[o.text], told), fresh_token, o.store);
      answer = std::to_string(reply.status) + " " + reply.body;
      break;
    }
    case Operation::takes:
      host.take(o.question, o.peer, o.current, reply_in(with_tokens(texts_[o.text], told)));
      break;
    case Operation::restarts:
      host.restart();
      break;
    case Operation::looks:
      host.look(o.database);
      break;
    case Operation::passes:
      host.pass(o.time);
      break;
    case Operation::stops:
      host.stand_still(o.time);
      break;
    case Operation::declares:
      host.declare_lost(o.peer);
      break;
  }
  const auto origin = [&](const std::string& token) {
    if (token == fresh_token) return fresh;
    const auto mine = std::find(own.begin(), own.end(), token);
    if (mine != own.end()) return static_cast<Origin>(mine - own.begin());
    const auto theirs = std::find(given.begin(), given.end(), token);
    if (theirs == given.end()) std::abort();
    return static_cast<Origin>(of_text + (theirs - given.begin()));
  };
  const auto message = [&](const std::string& whole) {
    Message made;
    std::vector<std::string> tokens;
    made.text = text(without_tokens(whole, tokens));
    for (const std::string& token : tokens) made.tokens.push_back(origin(token));
    return made;
  };
  for (const Sent& sent : host.take_questions()) {
    Message question = message(sent.target);
    question.kind = sent.kind;
    question.to = sent.to;
    result.questions.push_back(std::move(question));
  }
  if (o.kind == Operation::serves) result.answer = message(answer);
  for (const Question_Kind kind : kinds) {
    for (int peer = 0; peer < nodes; ++peer) {
      const int k = static_cast<int>(kind);
      const std::uint64_t was = before[k][peer];
      if (was && host.under_way(kind, peer) != was) result.ended |= 1U << (k * 4 + peer);
    }
  }
  result.was_primary = host.was_primary;
  host.was_primary = false;
  const Encoded encoded = encode(host);
  for (const std::string& token : encoded.tokens) result.tokens.push_back(origin(token));
  result.host = remember(std::move(host));
  return result;
}

}  // namespace primgr::prove
