// A host as a string of bytes: equal for hosts that go on alike, whatever their clocks show, how
// their tokens are spelled and how many questions they have asked.

#pragma once

#include <string>
#include <vector>

#include "prove/core_host.hpp"

namespace primgr::prove {

struct Encoded {
  std::string bytes;
  std::vector<std::string> tokens;  // in the order in which `bytes` counts them
};

Encoded encode(const Host& host);

// Where the tokens in a text are: each is `token_prefix` and `token_digits` digits.
inline constexpr char token_prefix[] = "tk";
inline constexpr std::size_t token_digits = 7;
std::size_t find_token(const std::string& text, std::size_t from);

}  // namespace primgr::prove
