// Encodes a host as a string of bytes. Hosts with equal bytes behave in the same way from then on.
// The bytes do not depend on what the hosts' clocks show, on the text of their tokens, or on the
// number of questions that they have sent.

#pragma once

#include <string>
#include <vector>

#include "prove/core_host.hpp"

namespace primgr::prove {

struct Encoded {
  std::string bytes;
  std::vector<std::string> tokens;  // in the order of their numbers in `bytes`
};

Encoded encode(const Host& host);

// The positions of tokens in a text. A token is `token_prefix` and `token_digits` digits.
inline constexpr char token_prefix[] = "tk";
inline constexpr std::size_t token_digits = 7;
std::size_t find_token(const std::string& text, std::size_t from);

}  // namespace primgr::prove
