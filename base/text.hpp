// Text: trimming, joining, hexadecimal digits, percent-encoding. Thread-safe: functions without
// state.

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace primgr {

// The characters that trimmed() removes.
constexpr std::string_view blanks = " \t\r";

// The text without blanks at both ends.
std::string_view trimmed(std::string_view text);

// A message of several lines as one line: each run of blanks is one space.
std::string one_line(std::string_view message);

// The words with a separator between them.
std::string joined(const std::vector<std::string>& words, std::string_view separator = ", ");

// Two lower-case digits for each byte.
std::string hexadecimal(std::string_view bytes);

// Percent-encodes all but the unreserved characters of RFC 3986. Works for any bytes.
std::string url_encoded(std::string_view text);
// Decodes percent-encoding; none if a % is not followed by two hexadecimal digits.
std::optional<std::string> url_decoded(std::string_view text);

}  // namespace primgr
