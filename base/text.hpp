// Text: trimming, joining lines, percent-encoding. Thread-safe: functions without state.

#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace primgr {

// The characters that trimmed() removes.
constexpr std::string_view blanks = " \t\r";

// The text without blanks at both ends.
std::string_view trimmed(std::string_view text);

// A message of several lines as one line: each run of blanks is one space.
std::string one_line(std::string_view message);

// Percent-encodes all but the unreserved characters of RFC 3986. Works for any bytes.
std::string url_encoded(std::string_view text);
// Decodes percent-encoding; none if a % is not followed by two hexadecimal digits.
std::optional<std::string> url_decoded(std::string_view text);

}  // namespace primgr
