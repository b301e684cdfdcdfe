// Reading JSON that comes from other hosts: any value may have any type.

#pragma once

#include <optional>
#include <string>

#include "node/json.hpp"

namespace primgr {

// The value at a key; null if `json` is not an object or has no such key. Never throws.
const Json& at(const Json& json, const char* key);
// The string at a key, made printable(); empty if it is not a string.
std::string text_at(const Json& json, const char* key);
// The number at a key, limited to +-1e15 so that it can be converted to any 64-bit integer type.
std::optional<double> number_at(const Json& json, const char* key);

// Parses a text; null if it is not JSON. What is nested deeper than max_depth is left out, so that
// no recursion over the result can exhaust the stack.
Json parse_json(const std::string& text, int max_depth);

}  // namespace primgr
