// Stores each host that the search has met once, and the result of each step of a host. step() is a
// pure function, and hosts with equal encodings behave in the same way. So each result is computed
// once, even if the host is part of many states of the cluster.

#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "prove/core_encoding.hpp"
#include "prove/core_host.hpp"

namespace primgr::prove {

// What happens to a host.
struct Operation {
  enum Kind : std::uint8_t {
    begins,
    asks,
    decides,
    serves,
    takes,
    restarts,
    looks,
    passes,
    stops,
    declares
  } kind{};
  Store store{};
  Question_Kind question{};      // for takes
  int peer = 0;                  // for takes, declares
  bool current = false;          // for takes: see Host::take()
  std::uint32_t text = 0;        // for serves, takes
  Database_State database = {};  // for looks
  Time time{};                   // for passes, stops
};

// The origin of a token. It is a position among the tokens of the host, a position among the tokens
// of the text that are new to the host, or the fresh token.
using Origin = std::uint8_t;
inline constexpr Origin of_text = 0x80, fresh = 0xff;

struct Message {
  Question_Kind kind{};
  int to = 0;
  std::uint32_t text = 0;
  std::vector<Origin> tokens;
};

struct Result {
  std::uint32_t host = 0;
  std::vector<Origin> tokens;
  std::vector<Message> questions;
  Message answer;            // for serves
  bool was_primary = false;  // at some moment of the step
  std::uint32_t ended = 0;   // questions that have ended: bit kind * 4 + peer
};

class Core_Memory {
 public:
  // The data about a host.
  struct Known {
    Host host;
    std::vector<std::string> tokens;
    bool primary = false, candidate = false;
    bool serves_reads = false;  // /replica?delay=1s
    bool fetches = false;       // it wants to fetch lists
    bool idle = false;          // a standby whose turn changes nothing except what it fetches
    int primary_ms = 0;         // how long it stays Primary without a step
    std::uint64_t round = 0;
  };

  std::uint32_t remember(Host host);
  const Known& known(std::uint32_t host) const { return known_[host]; }
  // `text_tokens`: the tokens of the operation's text. Each is a position among the host's tokens,
  // or of_text plus a number.
  const Result& run(std::uint32_t host, const Operation& operation,
                    const std::vector<Origin>& text_tokens);

  // The id of a text whose tokens were removed. An answer begins with its status.
  std::uint32_t text(const std::string& text);
  const std::string& text(std::uint32_t id) const { return texts_[id]; }
  static Http_Reply reply_in(const std::string& text);

  std::size_t hosts() const { return known_.size(); }
  std::size_t steps() const { return steps_; }
  // A check of "hosts with equal encodings behave in the same way". One in `compare_each` hosts
  // that are met again is compared; 0: none. `different` counts the violations.
  std::size_t compare_each = 0, compared = 0, different = 0;

 private:
  std::string new_token();
  bool go_on_alike(const Host& a, const Host& b);

  std::vector<Known> known_;
  std::unordered_map<std::string, std::uint32_t> by_bytes_;
  std::unordered_map<std::string, Result> results_;
  std::vector<std::string> texts_;
  std::unordered_map<std::string, std::uint32_t> text_ids_;
  std::size_t steps_ = 0, met_again_ = 0;
  unsigned token_ = 0;
};

}  // namespace primgr::prove
