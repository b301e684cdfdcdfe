#include "node/voters.hpp"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <iterator>

#include "node/voting.hpp"

namespace primgr {

namespace {

const Node* find_id(const Voter_List& voters, int id) {
  const auto found = std::lower_bound(voters.begin(), voters.end(), id,
                                      [](const Node& node, int than) { return node.id < than; });
  return found == voters.end() || found->id != id ? nullptr : &*found;
}

bool has_name(const Voter_List& voters, std::string_view name) {
  return std::any_of(voters.begin(), voters.end(),
                     [&](const Node& node) { return names_equal(node.name, name); });
}

// The votes for the candidate that are given under the list with that digest.
Votes votes_under(const std::string& list, const Tally& tally, Time read_since) {
  Votes found;
  for (const auto& [voter, vote] : tally.votes) {
    const bool tells = !vote.list.empty();
    const bool knows_it = vote.list == list || tally.now - read_since >= max_lag;
    if (names_equal(voter, tally.self.name) || (tells ? knows_it : vote.sent_at >= read_since)) {
      found.emplace(voter, vote);
    }
  }
  return found;
}

// What counted is known again when the Primary has confirmed the list that is known here. The
// digest is worked out only for who waits for that: this is called for each vote and each look.
void recognize(Voter_Lists& lists) {
  if (lists.unreadable.empty() || lists.told.empty() || !lists.received.empty()) return;
  if (digest(lists.confirmed) == lists.told) lists.unreadable.clear();
}

}  // namespace

bool same_voters(const Voter_List& a, const Voter_List& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Node& x, const Node& y) {
    return x.id == y.id && names_equal(x.name, y.name);
  });
}

// FNV-1a, of 64 bits.
std::string digest(const Voter_List& voters) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&](char byte) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  };
  for (const Node& node : voters) {
    for (const char c : std::to_string(node.id) + " ") add(c);
    for (const char c : node.name) {
      add(c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    }
    add('\n');
  }
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[(hash >> shift) & 15];
  return text;
}

Voter_Lists after_reading(Voter_Lists lists, const Voter_List& read, bool in_recovery) {
  constexpr std::size_t most_received = 16;
  if (in_recovery) lists.lost.clear();  // it follows a Primary, whose business they are
  Voter_List& last = lists.received.empty() ? lists.confirmed : lists.received.back();
  // The first list, of a candidate, counts when that is Primary by it: it may be a slip of its own.
  if (last.empty() && !in_recovery) return lists;
  if (last.empty() || same_voters(last, read)) {
    last = read;  // the host of a node may have changed
    if (in_recovery) recognize(lists);
    return lists;
  }
  if (in_recovery) lists.received.push_back(read);
  if (lists.received.size() > most_received) lists.received.erase(lists.received.begin());
  // It may have been told before its database had the list.
  if (lists.told == digest(read)) {
    lists.confirmed = read;
    lists.received.clear();
    recognize(lists);
  }
  return lists;
}

Voter_Lists after_hearing(Voter_Lists lists, std::string_view told) {
  constexpr std::size_t digest_size = 16;
  lists.told = told.substr(0, digest_size);
  if (told.size() <= digest_size) recognize(lists);
  const auto found = std::find_if(lists.received.rbegin(), lists.received.rend(),
                                  [&](const Voter_List& list) { return digest(list) == told; });
  if (found == lists.received.rend()) return lists;
  lists.unreadable.clear();
  lists.confirmed = *found;
  lists.received.erase(lists.received.begin(), found.base());
  return lists;
}

Voter_Lists after_confirming(Voter_Lists lists, const Voter_List& read) {
  lists.confirmed = read;
  lists.received.clear();
  for (Lost_Voter& lost : lists.lost) lost.left_out = false;
  return lists;
}

std::vector<Voter_List> required_lists(const Voter_Lists& lists, const Voter_List& read,
                                       bool with_lost) {
  std::vector<Voter_List> required = {read};
  required.push_back(lists.confirmed);
  required.insert(required.end(), lists.received.begin(), lists.received.end());
  for (Voter_List& list : required) {
    for (Node& voter : list) {
      if (const Node* now = find_id(read, voter.id)) voter = *now;
    }
    if (with_lost) continue;
    std::erase_if(list, [&](const Node& voter) {
      return std::any_of(lists.lost.begin(), lists.lost.end(), [&](const Lost_Voter& lost) {
        return lost.left_out && names_equal(lost.node.name, voter.name);
      });
    });
  }
  std::vector<Voter_List> distinct;
  for (Voter_List& list : required) {
    const bool known =
        list.empty() || std::any_of(distinct.begin(), distinct.end(), [&](const Voter_List& other) {
          return same_voters(other, list);
        });
    if (!known || distinct.empty()) distinct.push_back(std::move(list));
  }
  return distinct;
}

Voter_List all_of(const std::vector<Voter_List>& lists) {
  Voter_List all = lists.empty() ? Voter_List() : lists.front();
  for (std::size_t i = 1; i < lists.size(); ++i) {
    for (const Node& voter : lists[i]) {
      if (!has_name(all, voter.name)) all.push_back(voter);
    }
  }
  return all;
}

Voter_List known_voters(const Voter_Lists& lists) {
  std::vector<Voter_List> all = {lists.confirmed};
  all.insert(all.end(), lists.received.begin(), lists.received.end());
  for (const Lost_Voter& lost : lists.lost) all.push_back({lost.node});
  return all_of(all);
}

bool is_unconfirmed(const Voter_Lists& lists, const Voter_List& read) {
  return !lists.received.empty() || !same_voters(lists.confirmed, read);
}

bool may_confirm(const Voter_Lists& lists, const Voter_List& read, const Tally& tally,
                 Time read_since) {
  for (const Lost_Voter& lost : lists.lost) {
    if (lost.left_out && has_name(read, lost.node.name)) return false;
  }
  const auto required = required_lists(lists, read);
  const Votes votes = votes_under(digest(read), tally, read_since);
  const Tally counted{tally.self, votes, tally.lease, tally.now};
  return std::all_of(std::next(required.begin()), required.end(), [&](const Voter_List& list) {
    return check_consensus(count_votes(list, counted).size(), votes_needed(list.size()));
  });
}

std::string names_of(const Voter_List& voters) {
  std::string names;
  for (const Node& voter : voters) names += (names.empty() ? "" : ", ") + voter.name;
  return names;
}

}  // namespace primgr
