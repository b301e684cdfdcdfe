#include "node/promise.hpp"

#include <utility>

namespace primgr {

using namespace std::chrono_literals;

namespace {

// How long a vote may wait for its turn and for the store together.
constexpr auto vote_timeout = 100ms;

}  // namespace

// A thread's turn to vote, for the lifetime of this object.
class Promise::Turn {
 public:
  Turn(Promise& of, Deadline until) : of_(of) {
    std::unique_lock lock(of_.mutex_);
    mine_ = of_.turn_over_.wait_until(lock, until, [this] { return !of_.voting_; });
    if (mine_) of_.voting_ = true;
  }
  ~Turn() {
    if (!mine_) return;
    const std::lock_guard lock(of_.mutex_);
    of_.voting_ = false;
    of_.turn_over_.notify_one();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  // False: the time was over before it was this thread's turn.
  explicit operator bool() const { return mine_; }

 private:
  Promise& of_;
  bool mine_ = false;
};

Promise::Promise(Grant_Store store, Time vote_lease, Clock clock)
    : store_(std::move(store)), vote_lease_(vote_lease), clock_(std::move(clock)) {
  if (auto known = store_.load ? store_.load() : std::nullopt) {
    grant_ = saved_ = *known;
    return;
  }
  grant_ = {"", clock_() + vote_lease_};
  if (store_.save) saved_ = store_.save(grant_, std::chrono::steady_clock::now() + vote_timeout);
}

Ballot Promise::vote(std::string_view named, std::string_view candidate, bool alone) {
  const auto until = std::chrono::steady_clock::now() + vote_timeout;
  const Turn turn(*this, until);
  return turn ? vote_in_turn(named, candidate, alone, until) : Ballot{"", false, false};
}

Ballot Promise::vote_in_turn(std::string_view named, std::string_view candidate, bool alone,
                             Deadline until) {
  const Time now = clock_();
  const bool silent = grant_.to.empty();
  const Ballot ballot = cast_vote(silent && alone ? Grant{} : grant_, named, candidate, now);
  if (!ballot.granted) return ballot;
  const Grant promise{ballot.names, now + vote_lease_};
  const auto is_stored = [&] { return promise.to == saved_.to && promise.until <= saved_.until; };
  if (store_.save && !is_stored()) {
    // If saving fails or is late, no vote is given. The grant may still be written later; after a
    // restart this voter then keeps a promise that nobody relies on, which costs time only.
    saved_ = store_.save({promise.to, promise.until + vote_lease_ / 4}, until);
    if (!is_stored()) return {"", false, false};
  }
  grant_ = promise;
  return ballot;
}

}  // namespace primgr
