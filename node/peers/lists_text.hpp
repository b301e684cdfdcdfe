// Lists of voters as text, for other nodes and for the file in which a node saves them. The text
// that is read may have any content. Thread-safe: functions without state.

#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "node/rules/voters.hpp"

namespace primgr {

// The longest text that is served: two lists of most_members, with names and hosts of the greatest
// length.
inline constexpr std::size_t most_list_bytes = 256 * 1024;

// The text that is served for one scope. Of `addresses`, those of the lists' members are printed.
std::string print_lists(const lists::Served& served, const Addresses& addresses);
// Reads the result of print_lists(), and adds to `addresses`. None, with the reason in `why`, if
// the text is not such a result.
std::optional<lists::Served> parse_lists(const std::string& text, Addresses& addresses,
                                         std::string& why);

// The file in which a node saves its lists. The name of a site may have 255 bytes, and the file 1
// MB.
std::string print_held(const Voter_Lists& lists);
// Reads the result of print_held(), or the file of version 1.0. The list in that file becomes the
// first one, of `whole_cluster` or of the site of its voters. A list that version 1.0 had received
// besides becomes pending, in round 2 and without a maker. None, with the reason in `why`, if the
// text is neither.
std::optional<Voter_Lists> parse_held(const std::string& text, bool whole_cluster,
                                      std::string& why);

}  // namespace primgr
