// How long a handover took, from the last 200 of the previous Primary to the first 200 of this
// node, and the parts of that time. The old Primary sends its voters the time of its last 200, and
// they send it to the new Primary. For people and graphs only: no vote depends on it.
//
// Times are on the clock of the node that stores them.

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node/rules/model.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

// The node to which a voter's last promise was made, and the node of the promise before that. After
// a restart it is empty. Not thread-safe. Throws std::bad_alloc only.
class Promise_History {
 public:
  explicit Promise_History(Time check_delay) : check_delay_(check_delay) {}

  // A vote was granted to `to` at `now`, or renewed, and is promised until `until`.
  void granted(const std::string& to, Time now, Time until);
  // The promise to `by` was handed back. `last_200`: the last 200 of that node, as the hand-back
  // states. Anybody may have sent the hand-back, so a time before that node was last seen to be
  // Primary is not accepted. None: the node states that it has answered no 200, so the node before
  // it was the last Primary as far as this voter knows.
  void handed_back(std::string_view by, std::optional<Time> last_200);
  // The node that has the vote reported at its own address, when it was asked at `seen`, that it is
  // Primary. So its handover is over, and another start of that node is no handover.
  void arrived(Time seen);
  // The node that had the vote before the node that has it now. None if there was none, or if it is
  // not to be reported any more. It is reported for a minute, as a reply may be lost, and only if
  // that node's last 200 is less than an hour ago.
  std::optional<Predecessor> before(Time now) const;
  // Writes before() into a ballot.
  void tell(Ballot& ballot, Time now) const;

 private:
  Time check_delay_;
  Predecessor current_, before_;  // an empty name: not known
  Time granted_at_{};             // when the vote was first granted to current_.name
  std::optional<Time> seen_;      // when current_ was last seen to be Primary by its own report

  friend bool operator==(const Promise_History&, const Promise_History&) = default;
};

// A handover to this node.
struct Handover {
  std::string from;  // the Primary before
  Time at{};         // the first 200 of this node
  // The parts, one after the other; none is negative:
  Time database{};  // from the last 200 of `from` until this node's database named this node
  Time promise{};   // until no voter was known to be bound to another node
  Time votes{};     // until a majority had voted for it
  bool handed_back = false;  // `from` handed its votes back; false: they expired

  Time total() const { return database + promise + votes; }
};

// The handover by which the candidate, one of `voters`, is Primary from now on. It is from the
// previous node with the latest last 200 that a voter for the candidate has reported. None if no
// voter has reported any, if that node is `self`, or if `self` was Primary later than that
// (`own_last_200`). `named_since`: since when its own database has named `self`. Thread-safe.
// Throws std::bad_alloc only.
std::optional<Handover> find_handover(const std::vector<Node>& voters, const Tally& tally,
                                      Time named_since, std::optional<Time> own_last_200);

// In words, for the log: "took over from n1 1.1 s after its last 200 (…)".
std::string describe_handover(const Handover& handover);

}  // namespace primgr
