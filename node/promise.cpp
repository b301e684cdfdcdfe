#include "node/promise.hpp"

#include <utility>

namespace primgr {

using namespace std::chrono_literals;

namespace {

// How long a vote waits for another's turn, and for its promise to be kept.
constexpr auto vote_patience = 100ms;

}  // namespace

// One thread's turn to vote.
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
  // False: it was not to be had in time.
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
  if (store_.save) saved_ = store_.save(grant_, std::chrono::steady_clock::now() + vote_patience);
}

Ballot Promise::vote(std::string_view named, std::string_view candidate, bool alone) {
  const auto until = std::chrono::steady_clock::now() + vote_patience;
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
  const auto is_kept = [&] { return promise.to == saved_.to && promise.until <= saved_.until; };
  if (store_.save && !is_kept()) {
    // A save that fails or is late leaves saved_ as what is certain: nothing is promised on what
    // was there before, and a grant that is written after all binds this voter to nobody's harm.
    saved_ = store_.save({promise.to, promise.until + vote_lease_ / 4}, until);
    if (!is_kept()) return {"", false, false};
  }
  grant_ = promise;
  return ballot;
}

}  // namespace primgr
