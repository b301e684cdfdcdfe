// The steps of a small cluster: turns, messages, faults. The search itself is in
// prove/core_search.cpp.

#include "prove/core_search.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

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

Core_Search::Core_Search(const Core_Scope& scope, Left_Out left_out)
    : scope_(scope),
      check_delay_ms_(static_cast<std::uint16_t>(scope.check_delay / 1ms)),
      longest_units_(static_cast<int>((scope.vote_lease + scope.unit - 1ns) / scope.unit)) {
  settings_.nodes = scope.nodes;
  settings_.left_out = left_out;
  settings_.any_database = scope.any_database;
  settings_.lists = scope.lists;
  settings_.reads = scope.reads;
  no_reply_ = memory.text("0 ");
  if (left_out == Left_Out::clock_rate) scope_.rates[0] = 700;
}

// ---- one host's step ----------------------------------------------------------------------------

// Checks for two nodes of a site that answer 200 at the same time. It also checks for a node that
// starts to answer 200 less than check_delay after another node's last 200, because a load balancer
// may still use that other node.
void Core_Search::check(const State& state, int k, bool was_primary) {
  if (!was_primary || !result.empty()) return;
  for (int other = 0; other < scope_.nodes; ++other) {
    if (other == k || known(state, k).host.is_apart(known(state, other).host)) continue;
    if (primary(state, other)) {
      result = "two Primaries: " + n(k) + " and " + n(other);
    } else if (state.ago[other] < check_delay_ms_) {
      result = n(k) + " is Primary " + describe(state.ago[other] * 1ms) +
               " after the last 200 of " + n(other) + ", which load balancers use for " +
               describe(scope_.check_delay);
    }
  }
}

const Result& Core_Search::apply(State& state, int k, const Operation& operation,
                                 const Token* text_tokens, std::size_t text_count,
                                 std::vector<Token>* tokens_out) {
  Token* own = state.tokens[k];
  std::vector<Origin> origins;
  std::vector<Token> given;
  for (std::size_t i = 0; i < text_count; ++i) {
    const Token token = text_tokens[i];
    const Token* mine = std::find(own, own + most_tokens, token);
    if (mine != own + most_tokens) {
      origins.push_back(static_cast<Origin>(mine - own));
      continue;
    }
    auto theirs = std::find(given.begin(), given.end(), token);
    if (theirs == given.end()) theirs = given.insert(given.end(), token);
    origins.push_back(static_cast<Origin>(of_text + (theirs - given.begin())));
  }
  const Result& done = memory.run(state.host[k], operation, origins);
  const Token new_token = next_token_++;
  const auto token_of = [&](Origin origin) {
    return origin == fresh ? new_token : origin >= of_text ? given[origin - of_text] : own[origin];
  };
  if (tokens_out) {
    tokens_out->clear();
    for (const Origin origin : done.answer.tokens) tokens_out->push_back(token_of(origin));
    for (const Message& question : done.questions) {
      for (const Origin origin : question.tokens) tokens_out->push_back(token_of(origin));
    }
  }
  Token after[most_tokens] = {};
  if (done.tokens.size() > most_tokens) std::abort();
  std::transform(done.tokens.begin(), done.tokens.end(), after, token_of);
  std::memcpy(own, after, sizeof after);
  state.host[k] = done.host;
  for (Late& late : state.late) {
    if (late.used && late.asker == k && done.ended >> (late.kind * 4 + late.peer) & 1) {
      late.current = 0;
    }
  }
  if (operation.kind != Operation::passes && operation.kind != Operation::stops) {
    if (done.was_primary) state.ago[k] = primary(state, k) ? check_delay_ms_ : std::uint16_t{};
    check(state, k, done.was_primary);
  }
  return done;
}

std::vector<Core_Search::Open> Core_Search::ask(State& state, int k, const Operation& operation) {
  std::vector<Token> tokens;
  const Result& done = apply(state, k, operation, nullptr, 0, &tokens);
  std::vector<Open> open;
  std::size_t at = 0;
  for (const Message& question : done.questions) {
    Open one{question.kind, question.to, question.text, {}};
    for (std::size_t i = 0; i < question.tokens.size(); ++i) one.tokens[i] = tokens[at++];
    open.push_back(one);
  }
  return open;
}

// ---- messages -----------------------------------------------------------------------------------

Core_Search::Late Core_Search::serve(State& state, int asker, int peer, const Open& question,
                                     Store store) {
  Operation operation;
  operation.kind = Operation::serves;
  operation.text = question.text;
  operation.store = store;
  std::vector<Token> tokens;
  const auto count = static_cast<std::size_t>(
      std::find(question.tokens, question.tokens + tokens_of_text, 0) - question.tokens);
  const Result& done = apply(state, peer, operation, question.tokens, count, &tokens);
  Late answer{};
  answer.text = done.answer.text;
  answer.used = answer.reply = 1;
  answer.kind = static_cast<std::uint8_t>(question.kind);
  answer.asker = static_cast<std::uint8_t>(asker);
  answer.peer = static_cast<std::uint8_t>(peer);
  answer.current = 1;
  std::copy(tokens.begin(), tokens.end(), answer.tokens);
  if (telling_ && question.kind != Question_Kind::state) {
    std::string text = memory.text(answer.text);
    say("   " + n(peer) + (store != Store::works ? " cannot store, and" : "") + " answers " +
        (question.kind == Question_Kind::vote        ? "the question for its vote: "
         : question.kind == Question_Kind::hand_back ? "the hand-back: "
                                                     : "the question for its lists: ") +
        text);
  }
  return answer;
}

void Core_Search::take(State& state, const Late& answer) {
  Operation operation;
  operation.kind = Operation::takes;
  operation.text = answer.text;
  operation.question = static_cast<Question_Kind>(answer.kind);
  operation.peer = answer.peer;
  operation.current = answer.current;
  const auto count = static_cast<std::size_t>(
      std::find(answer.tokens, answer.tokens + tokens_of_text, 0) - answer.tokens);
  apply(state, answer.asker, operation, answer.tokens, count, nullptr);
}

void Core_Search::fail(State& state, int asker, int peer, Question_Kind kind) {
  Late answer{};
  answer.text = no_reply_;
  answer.kind = static_cast<std::uint8_t>(kind);
  answer.asker = static_cast<std::uint8_t>(asker);
  answer.peer = static_cast<std::uint8_t>(peer);
  answer.current = 1;
  take(state, answer);
}

void Core_Search::deliver(State& state, int k, const Open& question, Fate fate) {
  const bool vote = question.kind == Question_Kind::vote;
  const bool may_be_late = vote || question.kind == Question_Kind::hand_back ||
                           (scope_.lists && question.kind == Question_Kind::lists);
  const bool is_asked =
      vote || question.kind == Question_Kind::hand_back ||
      (scope_.lists && question.kind == Question_Kind::lists) ||
      (question.kind == Question_Kind::state && (scope_.reads || known(state, k).candidate));
  Late* free = std::find_if(state.late, state.late + scope_.late,
                            [](const Late& late) { return !late.used; });
  const bool room = free != state.late + scope_.late;
  // State questions decide when a list may be made, but never whether it counts. So they always
  // arrive here.
  if (question.kind == Question_Kind::state && scope_.lists && known(state, k).candidate) {
    fate = arrives;
  }
  if (state.gone >> question.to & 1 || !is_asked ||
      ((fate == question_is_late || fate == answer_is_late) && (!may_be_late || !room))) {
    fate = is_lost;
  }
  if (fate == question_is_late) {
    *free = {question.text,
             1,
             0,
             static_cast<std::uint8_t>(question.kind),
             static_cast<std::uint8_t>(k),
             static_cast<std::uint8_t>(question.to),
             1,
             {}};
    std::copy(std::begin(question.tokens), std::end(question.tokens), free->tokens);
    say("   what " + n(k) + " asks " + n(question.to) +
        " is under way: " + memory.text(question.text));
    return;
  }
  if (fate == is_lost) return fail(state, k, question.to, question.kind);
  const Store store = fate == not_stored      ? Store::fails
                      : fate == stored_unsure ? Store::fails_written
                                              : Store::works;
  const Late answer = serve(state, k, question.to, question, store);
  if (fate == arrives || fate >= not_stored) return take(state, answer);
  if (fate == answer_is_lost) return fail(state, k, question.to, question.kind);
  *free = answer;
  say("   that answer is under way");
}

// ---- what happens -------------------------------------------------------------------------------

void Core_Search::turn(State& state, int k, const std::uint8_t* fates, Store store) {
  Operation operation;
  operation.kind = Operation::begins;
  operation.store = store;
  for (const Open& question : ask(state, k, operation)) {
    deliver(state, k, question, static_cast<Fate>(fates[question.to]));
  }
  operation.kind = Operation::asks;
  for (const Open& question : ask(state, k, operation)) {
    deliver(state, k, question, static_cast<Fate>(fates[question.to]));
  }
  operation.kind = Operation::decides;
  for (const Open& question : ask(state, k, operation)) {
    deliver(state, k, question, static_cast<Fate>(fates[question.to]));
  }
  if (!scope_.fused || !known(state, k).candidate) return;
  const std::uint8_t all_arrive[most_nodes] = {};
  for (int peer = 0; peer < scope_.nodes; ++peer) {
    const bool reached = fates[peer] == arrives || fates[peer] >= not_stored;
    if (peer == k || !reached || !known(state, peer).fetches) continue;
    say(" and " + n(peer) + " fetches what there is");
    turn(state, peer, all_arrive,
         fates[peer] == arrives      ? Store::works
         : fates[peer] == not_stored ? Store::fails
                                     : Store::fails_written);
  }
}

// Time passes for all nodes. The machine of `standing` is stopped, and its clock too.
void Core_Search::pass(State& state, int standing) {
  const int unit_ms = static_cast<int>(scope_.unit / 1ms);
  for (int k = 0; k < scope_.nodes; ++k) {
    Operation operation;
    operation.kind = k == standing ? Operation::stops : Operation::passes;
    operation.time = scope_.unit;
    const int rate = k == standing ? 1000 : scope_.rates[k];
    if (k != standing) operation.time = scope_.unit * rate / 1000;
    int left = check_delay_ms_;  // of the time since its last 200
    if (primary(state, k)) {
      left = std::max(unit_ms - known(state, k).primary_ms * 1000 / rate, 0);
    } else {
      left = std::min(state.ago[k] + unit_ms, left);
    }
    apply(state, k, operation, nullptr, 0, nullptr);
    const bool still = primary(state, k);
    if (still) left = check_delay_ms_;
    state.ago[k] = static_cast<std::uint16_t>(std::min<int>(left, check_delay_ms_));
    if (scope_.reads && still) {
      Database_State says = known(state, k).host.database;
      ++says.position;
      state.writer = static_cast<std::uint8_t>(k);
      look(state, k, says);
    }
  }
}

void Core_Search::look(State& state, int k, const Database_State& database) {
  Operation operation;
  operation.kind = Operation::looks;
  operation.database = database;
  apply(state, k, operation, nullptr, 0, nullptr);
}

// `role`: 0: promoted. 1: a standby. 2: down. 3 + k: a standby of node k. 7 + k: not in recovery,
// and names node k.
Database_State Core_Search::database_of(int k, int role, int rows) const {
  Database_State says;
  says.rows = static_cast<std::uint8_t>(rows);
  says.up = role != 2;
  says.in_recovery = role != 0 && role < 7;
  says.names = role == 0 ? k + 1 : role < 3 ? 0 : role < 7 ? role - 2 : role - 6;
  return says;
}

// A standby that serves /replica?delay=1s must not miss a commit that is older than the sum of
// three times. These are the delay (1 s), the age that the Primary's position may have (1 s), and
// the step in which the commit was made. Each step of time in which a node is Primary has one
// commit.
void Core_Search::check_reads(const State& state) {
  const Database_State& writer = known(state, state.writer).host.database;
  for (int k = 0; k < scope_.nodes && result.empty(); ++k) {
    if (!known(state, k).serves_reads) continue;
    const Database_State& its = known(state, k).host.database;
    int has = its.position;
    if (its.timeline < writer.timeline) has = std::min<int>(has, state.fork);
    const auto age = (writer.position - has) * scope_.unit;
    if (age <= 1s + 1s + scope_.unit) continue;
    result = n(k) + " serves a stale read: it misses a commit of " + describe(age) + " ago";
  }
}

// Numbers the tokens in the order in which they appear.
void Core_Search::rename_tokens(State& state) {
  Token names[256] = {};
  next_token_ = 1;
  const auto rename = [&](Token& token) {
    if (!token) return;
    if (!names[token]) names[token] = next_token_++;
    token = names[token];
  };
  for (auto& tokens : state.tokens) {
    for (Token& token : tokens) rename(token);
  }
  // The order of messages that are under way does not matter, so they are sorted.
  if (state.late[0].used && state.late[1].used &&
      std::memcmp(&state.late[1], &state.late[0], offsetof(Late, tokens)) < 0) {
    std::swap(state.late[0], state.late[1]);
  }
  if (!state.late[0].used) std::swap(state.late[0], state.late[1]);
  for (Late& late : state.late) {
    if (!late.used) std::memset(&late, 0, sizeof late);
    for (Token& token : late.tokens) rename(token);
  }
}

void Core_Search::act(State& state, const Action& action) {
  const int k = action.a;
  Operation operation;
  switch (action.kind) {
    case Action::nothing:
      break;
    case Action::turns: {
      std::string cut;
      for (int peer = 0; telling_ && peer < scope_.nodes; ++peer) {
        if (peer == k || action.fates[peer] == arrives) continue;
        cut += cut.empty() ? "; " : ", ";
        cut += action.fates[peer] == is_lost            ? n(peer) + " is cut off from it"
               : action.fates[peer] == answer_is_lost   ? "the answers of " + n(peer) + " are lost"
               : action.fates[peer] >= not_stored       ? n(peer) + "'s store fails"
               : action.fates[peer] == question_is_late ? "its question to " + n(peer) + " is late"
                                                        : "the answer of " + n(peer) + " is late";
      }
      say(n(k) + " takes a turn" + cut +
          (action.store == Store::fails ? "; it cannot store"
           : action.store == Store::fails_written
               ? "; what it stores is written, but takes too long"
               : ""));
      turn(state, k, action.fates, action.store);
      break;
    }
    case Action::follows: {
      const int role = action.b;
      say(n(k) + (role == 0   ? "'s database is promoted"
                  : role == 1 ? "'s database is a standby again"
                  : role == 2 ? "'s database is stopped"
                  : role < 7  ? "'s database follows " + n(role - 3)
                              : "'s database is not in recovery, and names " + n(role - 7)));
      if (state.changes) --state.changes;
      const Database_State before = known(state, k).host.database;
      Database_State says = database_of(k, role, before.rows);
      says.position = before.position;
      says.timeline = before.timeline;
      if (scope_.reads && role == 0) {
        says.timeline = ++state.timeline;
        state.fork = says.position;
      }
      look(state, k, says);
      break;
    }
    case Action::names: {
      std::string rows;
      for (int i = 0; i < scope_.nodes; ++i) {
        if (!(action.b >> i & 1)) continue;
        rows += (rows.empty() ? "" : ", ") + n(i);
        if (action.b >> (4 + i) & 1) rows += " in another site";
      }
      say("the database of " + n(k) + " lists " + rows);
      if (state.changes) --state.changes;
      Database_State says = known(state, k).host.database;
      says.rows = action.b;
      look(state, k, says);
      break;
    }
    case Action::restarts:
      say(n(k) + ": primgr is killed and started");
      operation.kind = Operation::restarts;
      apply(state, k, operation, nullptr, 0, nullptr);
      for (Late& late : state.late) {
        if (late.used && late.asker == k) late.current = 0;
      }
      break;
    case Action::passes:
      say(describe(scope_.unit) + " pass");
      if (state.units) --state.units;
      pass(state, -1);
      break;
    case Action::stands_still:
      say(describe(scope_.unit) + " pass, in which the machine of " + n(k) + " is stopped");
      if (state.units) --state.units;
      pass(state, k);
      break;
    case Action::delivers:
    case Action::copies: {
      Late& late = state.late[k];
      const Late message = late;
      const char* whose = message.current ? "" : " (which it does not wait for any more)";
      if (message.reply) {
        say("the answer of " + n(message.peer) + " arrives at " + n(message.asker) + whose);
        late.used = 0;
        take(state, message);
        break;
      }
      say("the question of " + n(message.asker) + " arrives at " + n(message.peer) + whose +
          (action.kind == Action::copies ? "; a copy is still under way" : ""));
      Open question{static_cast<Question_Kind>(message.kind), message.peer, message.text, {}};
      std::copy(std::begin(message.tokens), std::end(message.tokens), question.tokens);
      if (action.kind == Action::delivers) late.used = 0;
      Late answer = serve(state, message.asker, message.peer, question, action.store);
      answer.current = late.current;
      if (action.how == arrives) {
        take(state, answer);
      } else if (action.how == answer_is_late) {
        late = answer;
        say("   that answer is under way");
      } else if (message.current) {
        say("   that answer is lost");
        fail(state, message.asker, message.peer, static_cast<Question_Kind>(message.kind));
      }
      break;
    }
    case Action::loses:
    case Action::gives_up: {
      Late& late = state.late[k];
      say(action.kind == Action::loses
              ? "what is under way between " + n(late.asker) + " and " + n(late.peer) + " is lost"
              : n(late.asker) + " waits for " + n(late.peer) + " no longer");
      const Late message = late;
      if (action.kind == Action::loses) late.used = 0;
      if (message.current) {
        fail(state, message.asker, message.peer, static_cast<Question_Kind>(message.kind));
      }
      break;
    }
    case Action::forges: {
      // The vote is requested without a token, and handed back with the token of the answer.
      say("somebody asks " + n(action.b) + " for its vote in the name of " + n(k) +
          ", and hands that back");
      const std::string name = n(k), voter = n(action.b);
      const auto lease = std::to_string((scope_.vote_lease - scope_.check_delay) / 1ms);
      Open question{Question_Kind::vote,
                    action.b,
                    memory.text("/primary?candidate=" + name + "&lease=" + lease +
                                "&accepts=less&voter=" + voter),
                    {}};
      const Late answer = serve(state, k, action.b, question, Store::works);
      if (!answer.tokens[0]) break;
      question.text = memory.text("/primary?candidate=" + name + "&handback=#&voter=" + voter);
      question.kind = Question_Kind::hand_back;
      question.tokens[0] = answer.tokens[0];
      serve(state, k, action.b, question, Store::works);
      break;
    }
    case Action::declares:
      say(n(action.b) + " is gone for good, and the operator of " + n(k) + " says so by --lost");
      state.gone |= static_cast<std::uint8_t>(1U << action.b);
      operation.kind = Operation::declares;
      operation.peer = action.b;
      apply(state, k, operation, nullptr, 0, nullptr);
      break;
    case Action::replicates: {
      Database_State says = known(state, k).host.database;
      const Database_State& from = known(state, says.names - 1).host.database;
      say(n(k) + " receives all WAL of " + n(says.names - 1));
      says.position = from.position;
      says.timeline = from.timeline;
      look(state, k, says);
      break;
    }
  }
  rename_tokens(state);
  if (scope_.reads) check_reads(state);
}

}  // namespace primgr::prove
