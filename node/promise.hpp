// The voter's promise: the node to which this node has granted its vote, and until when.

#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>

#include "node/voting.hpp"

namespace primgr {

// Stores a voter's promise beyond the end of the process. Both functions may be empty: then a voter
// that has just started votes for nobody for one vote_lease.
struct Grant_Store {
  std::function<std::optional<Grant>()> load;  // none: it is not known what was promised
  // Stores a grant. Returns by `until`, successful or not, the grant that a restart is sure to
  // find: this one; or an earlier one, if it could not be stored in time; an empty one: not known.
  std::function<Grant(const Grant&, Deadline until)> save;
};

// Thread-safe. A promise must be stored before anybody hears of it, and save() of the store may
// take the 100 ms that a vote may take. So threads vote in turn: grant_ and saved_ belong to the
// thread that has set voting_. The others wait for their turn, and get no vote if turn and save()
// together take longer than 100 ms. Thus a file that hangs stops votes and nothing else. mutex_
// guards voting_ and bound_until_ only, and is not held while the store works.
class Promise {
 public:
  // Loads the last promise. Blocks for as long as the store does.
  Promise(Grant_Store store, Time vote_lease, Clock clock);

  // Votes by the rule of cast_vote(), and stores the promise, which is that of promise_vote(), if
  // the vote is granted. `shown`: the token that the candidate shows, or empty; none: it takes no
  // token. Blocks for 100 ms at most, and returns a ballot without a name that is not `stored` if
  // that was too short.
  // `alone`: there is no other voter, so this node need not wait for a promise that it does not
  // know.
  Ballot vote(std::string_view named, std::string_view candidate,
              const std::optional<std::string>& shown, bool alone);

  // By the rule of hand_back(). Returns for how long this node is still bound to `candidate`, none
  // if the token ended nothing. Blocks for 100 ms at most; ends nothing if that was too short. The
  // store is not told: after a restart the promise lasts, or ends when it is handed back again.
  std::optional<Time> end(std::string_view candidate, std::string_view token);

  // Since when this node is bound by no promise; none: it is bound, or may be and does not know it.
  // It is bound before anybody hears of a promise. Does not block.
  std::optional<Time> unbound_since() const;

 private:
  class Turn;
  void set_bound_until(Time until);
  Ballot vote_in_turn(std::string_view named, std::string_view candidate,
                      const std::optional<std::string>& shown, bool alone, Deadline until);

  const Grant_Store store_;
  const Time vote_lease_;
  const Clock clock_;
  mutable std::mutex mutex_;
  std::condition_variable turn_over_;
  bool voting_ = false;
  Time bound_until_{};  // when the last promise ends, or ended
  Grant grant_;
  // The grant that the store is sure to hold. Its `until` is later than that of grant_, so that not
  // every vote is a write.
  Grant saved_;
};

}  // namespace primgr
