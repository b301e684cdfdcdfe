// Voters by name, and the lists of voters that a node saves over a restart. The rule for lists is
// in node/rules/lists.hpp. Thread-safe: functions without state. They throw std::bad_alloc only.

#pragma once

#include <map>
#include <string>
#include <vector>

#include "node/rules/lists.hpp"
#include "node/rules/model.hpp"

namespace primgr {

using Voter_List = std::vector<Node>;  // in the order of node_id

// A voter that the operator has declared lost for good. It is saved only to report to people when
// it answers.
struct Lost_Voter {
  Node node;
  std::string since;  // when, for people to read

  bool operator==(const Lost_Voter&) const = default;
};

// The operator's statement that these voters are lost for good.
struct Lost_Declaration {
  std::vector<std::string> names;
  // when the operator declared this, for people to read; empty: there was no declaration
  std::string since;

  bool operator==(const Lost_Declaration&) const = default;
};

// The last known address of a voter, for a node that does not find it in repmgr.nodes. It is not
// part of a list: a list identifies a voter by its node_id.
struct Voter_Address {
  std::string name, host, hostaddr = {};  // at most 63, 255 and 63 bytes; else it is left out

  bool operator==(const Voter_Address&) const = default;
};
using Addresses = std::map<int, Voter_Address>;  // by node_id

// What a node saves over a restart.
struct Voter_Lists {
  std::vector<lists::Held> held;  // one for each scope
  Addresses addresses;
  std::vector<Lost_Voter> lost;
  // The cluster whose Primary it votes for; the highest timeline on which it has voted for a
  // Primary of that cluster; and that Primary.
  Primary_Timeline voted = {};
  // Why the lists that were saved before this process started cannot be used, and what to do about
  // it. Empty: they are known, or there were none. Until a Primary sends its lists, the node does
  // not vote.
  std::string unreadable;

  bool operator==(const Voter_Lists&) const = default;
};

// Their node_ids.
lists::Members members_of(const Voter_List& voters);

// A hash of the list, as 8 hexadecimal digits; collisions are negligible.
std::string digest(const lists::Members& members);

// All voters of the first list, and then the voters that only the other lists have, each once.
Voter_List all_of(const std::vector<Voter_List>& lists);

// "n1, n2, n3".
std::string names_of(const Voter_List& voters);

}  // namespace primgr
