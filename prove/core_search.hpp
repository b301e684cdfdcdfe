// Searches every order of events in a small cluster, breadth first, through step().

#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "prove/core_memory.hpp"
#include "prove/core_scopes.hpp"

namespace primgr::prove {

class Core_Search {
 public:
  Core_Search(const Core_Scope& scope, Left_Out left_out);

  // Searches for `seconds` at most. Returns whether no violation was found. Otherwise `result`
  // describes it, and `trace` has the steps to it, in words.
  bool run(double seconds);
  bool exhausted = false;  // the whole scope was searched
  std::string result;
  std::vector<std::string> trace;
  std::size_t states() const { return states_.size(); }
  std::size_t expanded = 0, healed = 0;
  int depth = 0;  // the steps to the last state that was expanded
  Core_Memory memory;

 private:
  static constexpr int most_nodes = 4, most_tokens = 14, most_late = 2, tokens_of_text = 2;
  using Token = std::uint8_t;  // 0: none

  // A message that was sent and has not arrived.
  struct Late {
    std::uint32_t text;
    std::uint8_t used, reply, kind, asker, peer, current;
    Token tokens[tokens_of_text];
  };
  struct State {
    std::uint32_t host[most_nodes];
    // The tokens of each host, in the order of Known::tokens.
    Token tokens[most_nodes][most_tokens];
    // Time since its last 200, in ms. check_delay stands for check_delay or longer.
    std::uint16_t ago[most_nodes];
    Late late[most_late];
    std::uint8_t changes, units;  // how many are left
    std::uint8_t gone;            // nodes that were declared lost
    // For the WAL: the node that was Primary last, and the position of the last promotion.
    std::uint8_t writer, fork, timeline, unused[2];
  };
  static_assert(std::has_unique_object_representations_v<State>);

  // What happens to a message.
  enum Fate : std::uint8_t {
    arrives,
    is_lost,
    answer_is_lost,
    question_is_late,
    answer_is_late,
    not_stored,
    stored_unsure
  };
  struct Action {
    enum Kind : std::uint8_t {
      nothing,
      turns,
      follows,
      restarts,
      passes,
      stands_still,
      delivers,
      copies,
      loses,
      gives_up,
      forges,
      names,
      declares,
      replicates
    } kind{};
    std::uint8_t a = 0, b = 0, how = 0;
    Store store{};
    std::uint8_t fates[most_nodes] = {};
  };

  const Core_Memory::Known& known(const State& state, int k) const {
    return memory.known(state.host[k]);
  }
  bool is_cut(int a, int b) const { return scope_.cut && a + b == 2 && a != b; }
  bool primary(const State& state, int k) const { return known(state, k).primary; }
  bool promoted(const State& state, int k) const {
    return !known(state, k).host.database.in_recovery;
  }

  const Result& apply(State& state, int k, const Operation& operation, const Token* text_tokens,
                      std::size_t text_count, std::vector<Token>* tokens_out);
  struct Open {
    Question_Kind kind;
    int to;
    std::uint32_t text;
    Token tokens[tokens_of_text];
  };
  std::vector<Open> ask(State& state, int k, const Operation& operation);
  void deliver(State& state, int k, const Open& question, Fate fate);
  // Returns an answer: its text id, and its tokens.
  Late serve(State& state, int asker, int peer, const Open& question, Store store);
  void take(State& state, const Late& answer);
  void fail(State& state, int asker, int peer, Question_Kind kind);
  void turn(State& state, int k, const std::uint8_t* fates, Store store);
  void pass(State& state, int standing);
  void look(State& state, int k, const Database_State& database);
  void act(State& state, const Action& action);
  void rename_tokens(State& state);
  void check(const State& state, int k, bool was_primary);
  void check_reads(const State& state);
  bool may(const State& state) const;

  template <class Go>
  void successors(const State& state, Go go);
  template <class Go>
  void turns(const State& state, int k, Go go) const;
  Database_State database_of(int k, int role, int rows) const;

  bool heals(const State& state, int k);
  std::string unhealed(const State& state);
  void tell(std::size_t at);
  void say_states(const State& state);
  void say(std::string sentence) {
    if (telling_) trace.push_back(std::move(sentence));
  }

  State first_state();
  bool add(const State& state, std::uint32_t parent, const Action& action);

  Core_Scope scope_;
  Host_Settings settings_;
  std::uint16_t check_delay_ms_;
  int longest_units_;
  std::uint32_t no_reply_ = 0;
  bool telling_ = false;
  bool endless_ = false;
  int unhealed_ = -1;
  Token next_token_ = 1;
  std::vector<State> states_;
  struct Came {
    std::uint32_t parent;
    Action action;
  };
  std::vector<Came> came_;
  std::vector<std::uint32_t> table_;
};

}  // namespace primgr::prove
