// How long a handover took: from the last 200 of the Primary before to the first 200 of this node,
// and what that time was spent on. The old Primary tells its voters when it answered 200 for the
// last time, they tell the new one. For people and graphs only: no vote depends on it.
//
// Times are on the clock of the node that keeps them.

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node/rules/model.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

// What a voter remembers of its promises: to whom the last one was, and whom the one before that
// was to. After a restart it knows nothing. Not thread-safe. Throws std::bad_alloc only.
class Promise_History {
 public:
  explicit Promise_History(Time check_delay) : check_delay_(check_delay) {}

  // A vote was granted to `to` at `now`, or renewed, and is promised until `until`.
  void granted(const std::string& to, Time now, Time until);
  // The promise to `by` was handed back. `last_200`: of that node, by the word of who handed it
  // back, which may be anybody's: it was not before that node was seen Primary. None: it says that
  // it has answered none, so the node before it was the last Primary as far as this voter knows.
  void handed_back(std::string_view by, std::optional<Time> last_200);
  // The node that has the vote reported at its own address, when it was asked at `seen`, that it is
  // Primary: its handover is over, and another start of it is none.
  void arrived(Time seen);
  // The node that had the vote before the one that has it now. None if there was none, or if it is
  // not to be told any more: it is for a minute, as a reply may be lost, and if that node's last
  // 200 is less than an hour ago.
  std::optional<Predecessor> before(Time now) const;
  // Writes before() into a ballot.
  void tell(Ballot& ballot, Time now) const;

 private:
  Time check_delay_;
  Predecessor current_, before_;  // without a name: not known
  Time granted_at_{};             // when the vote was first granted to current_.name
  std::optional<Time> seen_;      // when that was Primary by its own word, at the latest

  friend bool operator==(const Promise_History&, const Promise_History&) = default;
};

// A handover to this node.
struct Handover {
  std::string from;  // the Primary before
  Time at{};         // the first 200 of this node
  // One after the other, none negative:
  Time database{};  // from the last 200 of `from` until this node's database named this node
  Time promise{};   // until none of its voters was known to be bound to another node
  Time votes{};     // until a majority had voted for it
  bool handed_back = false;  // `from` handed its votes back; false: they expired

  Time total() const { return database + promise + votes; }
};

// The handover by which the candidate, one of `voters`, is Primary from now on: from the node of
// which a voter that votes for it tells the latest last 200. None if nobody tells one, or if that
// is `self` or it was Primary later itself (`own_last_200`). `named_since`: since when its own
// database has named `self`. Thread-safe. Throws std::bad_alloc only.
std::optional<Handover> find_handover(const std::vector<Node>& voters, const Tally& tally,
                                      Time named_since, std::optional<Time> own_last_200);

// In words, for the log: "took over from n1 1.1 s after its last 200 (…)".
std::string describe_handover(const Handover& handover);

}  // namespace primgr
