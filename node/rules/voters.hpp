// Voters by name, and what a node keeps of the lists of voters over a restart. The rule for lists
// is in node/rules/lists.hpp. Thread-safe: functions without state. They throw std::bad_alloc only.

#pragma once

#include <map>
#include <string>
#include <vector>

#include "node/rules/lists.hpp"
#include "node/rules/model.hpp"

namespace primgr {

using Voter_List = std::vector<Node>;  // in the order of node_id

// A voter that the operator has declared lost for good. It is remembered for people only, so that
// it is reported if it lives.
struct Lost_Voter {
  Node node;
  std::string since;  // when, for people to read

  bool operator==(const Lost_Voter&) const = default;
};

// That voters are lost for good.
struct Lost_Declaration {
  std::vector<std::string> names;
  std::string since;  // when the operator said so, for people; empty: nothing was said

  bool operator==(const Lost_Declaration&) const = default;
};

// Where a voter was found last, for a node that does not read it in repmgr.nodes. No part of a
// list: a voter is its node_id.
struct Voter_Address {
  std::string name, host, hostaddr = {};  // at most 63, 255 and 63 bytes; else it is left out

  bool operator==(const Voter_Address&) const = default;
};
using Addresses = std::map<int, Voter_Address>;  // by node_id

// What a node keeps over a restart.
struct Voter_Lists {
  std::vector<lists::Held> held;  // one for each scope
  Addresses addresses;
  std::vector<Lost_Voter> lost;
  // The cluster whose Primary it votes for, the highest timeline on which it has voted for a
  // Primary of that, and for which one.
  Primary_Timeline voted = {};
  // Why it is not known what was held before this process started, though something was, and what
  // to do; empty: it is known. Until a Primary tells, the node does not vote.
  std::string unreadable;

  bool operator==(const Voter_Lists&) const = default;
};

// Their node_ids.
lists::Members members_of(const Voter_List& voters);

// Some hexadecimal digits that are equal for the same members, and for others as good as never.
std::string digest(const lists::Members& members);

// All voters of the first list, and those that only others have, each once.
Voter_List all_of(const std::vector<Voter_List>& lists);

// "n1, n2, n3".
std::string names_of(const Voter_List& voters);

}  // namespace primgr
