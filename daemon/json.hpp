// Reading JSON that comes from other hosts: any value may be anything.

#pragma once

#include <optional>
#include <string>

#include "daemon/output.hpp"

namespace primgr {

// What is at a key of a JSON object; null if it is none, or has no such key.
const Json& at(const Json& json, const char* key);
// The same, if it is a string: printable; else empty.
std::string text_at(const Json& json, const char* key);
// The same, if it is a number, within what any integer type of 64 bits holds.
std::optional<double> number_at(const Json& json, const char* key);

// Parses a text; null if it is no JSON, or nested deeper than max_depth.
Json parse_json(const std::string& text, int max_depth);

}  // namespace primgr
