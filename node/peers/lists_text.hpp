// Lists of voters as text: what a node serves to others, and what it stores. Every byte that is
// read may be anything. Thread-safe: functions without state.

#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "node/rules/voters.hpp"

namespace primgr {

// The longest text that is served: that of two lists of most_members, whose names and hosts are as
// long as they may be.
inline constexpr std::size_t most_list_bytes = 256 * 1024;

// What is served, of one scope. `addresses`: those of its members are printed.
std::string print_lists(const lists::Served& served, const Addresses& addresses);
// Reads that, adding to `addresses`. None, with the reason in `why`, if it is not the result of
// print_lists().
std::optional<lists::Served> parse_lists(const std::string& text, Addresses& addresses,
                                         std::string& why);

// The file with what a node keeps; the name of a site may have 255 bytes, and a file 1 MB.
std::string print_held(const Voter_Lists& lists);
// Reads that, or the file of version 1.0: its list is the first one, of `whole_cluster` or of the
// site of its voters; one that it had received besides is pending in round 2, made by nobody. None,
// with the reason in `why`, if it is neither.
std::optional<Voter_Lists> parse_held(const std::string& text, bool whole_cluster,
                                      std::string& why);

}  // namespace primgr
