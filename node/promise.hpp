// The voter's promise: to whom this node has granted its vote, and until when.

#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>

#include "node/voting.hpp"

namespace primgr {

// Where a voter's promise outlives the process. Both may be null: then a voter that has just
// started is silent for one vote_lease.
struct Grant_Store {
  std::function<std::optional<Grant>()> load;  // none: it is not known what was promised
  // Keeps a grant. Returns by `until`, done or not, what a restart would find at the least: this
  // grant; or, where it could not be kept (in time), an earlier one; an empty one: not known.
  std::function<Grant(const Grant&, Deadline until)> save;
};

// Thread-safe. The promise is the business of one thread at a time, the one that set voting_: it
// must be kept before anybody hears of it, and the store's save() may take as long as a vote may
// (100 ms). Others wait for their turn, no longer than that all told, then do without the vote: a
// file that hangs stalls votes and nothing else. mutex_ guards voting_ alone, and is never held
// while the store works.
class Promise {
 public:
  // Loads what was promised; may block as the store does.
  Promise(Grant_Store store, Time vote_lease, Clock clock);

  // Votes by the rule of cast_vote(), and keeps the promise that this is. `alone`: there is no
  // other voter, so nothing can have been promised that this node does not know.
  Ballot vote(std::string_view named, std::string_view candidate, bool alone);

 private:
  class Turn;
  Ballot vote_in_turn(std::string_view named, std::string_view candidate, bool alone,
                      Deadline until);

  const Grant_Store store_;
  const Time vote_lease_;
  const Clock clock_;
  std::mutex mutex_;
  std::condition_variable turn_over_;
  bool voting_ = false;
  Grant grant_;
  // What the store holds at the least. Its `until` runs ahead, so that not every vote is a write.
  Grant saved_;
};

}  // namespace primgr
