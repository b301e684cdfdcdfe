// Small functions on text.

#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace primgr {

// What may stand around words in a line.
constexpr std::string_view blanks = " \t\r";

// Without blanks at both ends.
std::string_view trimmed(std::string_view text);

// A message of several lines as one line: each run of blanks is one space.
std::string one_line(std::string_view message);

// Percent-encoded (RFC 3986): one word, in which any byte survives.
std::string url_encoded(std::string_view text);
// What was encoded so; none if it is no such text.
std::optional<std::string> url_decoded(std::string_view text);

}  // namespace primgr
