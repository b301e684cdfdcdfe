#include "node/rules/voters.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace primgr {

lists::Members members_of(const Voter_List& voters) {
  lists::Members members;
  for (const Node& voter : voters) members.push_back(voter.id);
  std::sort(members.begin(), members.end());
  members.erase(std::unique(members.begin(), members.end()), members.end());
  return members;
}

std::string digest(const lists::Members& members) {
  const std::uint32_t hash = lists::first_list(members).number.count;
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(hash >> shift & 255);
  return hexadecimal(bytes);
}

Voter_List all_of(const std::vector<Voter_List>& lists) {
  Voter_List all = lists.empty() ? Voter_List() : lists.front();
  for (std::size_t i = 1; i < lists.size(); ++i) {
    for (const Node& voter : lists[i]) {
      const bool known = std::any_of(all.begin(), all.end(), [&](const Node& other) {
        return names_equal(other.name, voter.name);
      });
      if (!known) all.push_back(voter);
    }
  }
  return all;
}

std::string names_of(const Voter_List& voters) {
  std::vector<std::string> names;
  for (const Node& voter : voters) names.push_back(voter.name);
  return joined(names);
}

}  // namespace primgr
