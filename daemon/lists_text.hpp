// Lists of voters as text: what a node serves to others, and what it stores. Every byte that is
// read may be anything. Thread-safe: functions without state.

#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "node/lists.hpp"

namespace primgr {

// The longest text that is served: that of two lists of most_members, whose names and hosts are as
// long as they may be.
inline constexpr std::size_t most_list_bytes = 256 * 1024;

// Where a voter was found last, for who does not read it in repmgr.nodes. No part of a list: a
// voter is its node_id.
struct Address {
  std::string name, host;  // at most 63 and 255 bytes; what is longer is left out

  bool operator==(const Address&) const = default;
};
using Addresses = std::map<int, Address>;  // by node_id

// What is served, of one scope. `addresses`: those of its members are printed.
std::string print_lists(const lists::Served& served, const Addresses& addresses);
// Reads that, adding to `addresses`. None, with the reason in `why`, if it is not the result of
// print_lists().
std::optional<lists::Served> parse_lists(const std::string& text, Addresses& addresses,
                                         std::string& why);

// The file with all that is held, of each scope; the name of a site may have 255 bytes. A file
// may have 1 MB.
std::string print_held(const std::vector<lists::Held>& held, const Addresses& addresses);
// Reads that, or the file of version 1.0: its list is the first one, of `scope`; one that it had
// received besides is pending in round 2, made by nobody.
std::optional<std::vector<lists::Held>> parse_held(const std::string& text,
                                                   const lists::Scope& scope, Addresses& addresses,
                                                   std::string& why);

}  // namespace primgr
