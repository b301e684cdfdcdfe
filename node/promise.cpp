#include "node/promise.hpp"

#include <sys/random.h>

#include <algorithm>
#include <string>
#include <utility>

namespace primgr {

using namespace std::chrono_literals;

namespace {

// How long a vote may wait for its turn and for the store together.
constexpr auto vote_timeout = 100ms;

// The ballot of a voter whose promise could not be stored in time.
Ballot no_vote() {
  Ballot ballot;
  ballot.stored = false;
  return ballot;
}

// 128 random bits, in hexadecimal. Empty if the kernel has none to give: then that vote cannot be
// handed back.
std::string random_token() {
  unsigned char bytes[16];
  if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != sizeof bytes) return {};
  std::string token;
  for (const unsigned char byte : bytes) {
    for (const int nibble : {byte >> 4, byte & 15}) {
      token += "0123456789abcdef"[nibble];
    }
  }
  return token;
}

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
    bound_until_ = grant_.until;
    return;
  }
  bound_until_ = grant_.until = clock_() + vote_lease_;
  if (store_.save) saved_ = store_.save(grant_, std::chrono::steady_clock::now() + vote_timeout);
}

Ballot Promise::vote(std::string_view named, std::string_view candidate,
                     const std::optional<std::string>& shown, bool alone) {
  const auto until = std::chrono::steady_clock::now() + vote_timeout;
  const Turn turn(*this, until);
  return turn ? vote_in_turn(named, candidate, shown, alone, until) : no_vote();
}

Ballot Promise::vote_in_turn(std::string_view named, std::string_view candidate,
                             const std::optional<std::string>& shown, bool alone, Deadline until) {
  const Time now = clock_();
  const Grant last = grant_.to.empty() && alone ? Grant{} : grant_;
  Ballot ballot = cast_vote(last, named, candidate, now);
  if (!ballot.granted) return ballot;
  const Grant promise = promise_vote(last, ballot.names, shown.value_or(""),
                                     shown ? random_token() : "", now + vote_lease_);
  const auto is_stored = [&] {
    return promise.to == saved_.to && promise.token == saved_.token &&
           promise.until <= saved_.until && promise.kept_until <= saved_.kept_until;
  };
  if (store_.save && !is_stored()) {
    // If saving fails or is late, no vote is given. The grant may still be written later; after a
    // restart this voter then keeps a promise that nobody relies on, which costs time only.
    Grant ahead = promise;
    ahead.until += vote_lease_ / 4;
    saved_ = store_.save(ahead, until);
    if (!is_stored()) return no_vote();
  }
  grant_ = promise;
  set_bound_until(std::max(last.until, promise.until));
  ballot.token = promise.token;
  return ballot;
}

void Promise::set_bound_until(Time until) {
  const std::lock_guard lock(mutex_);
  bound_until_ = until;
}

std::optional<Time> Promise::unbound_since() const {
  const std::lock_guard lock(mutex_);
  return clock_() < bound_until_ ? std::nullopt : std::optional(bound_until_);
}

std::optional<Time> Promise::end(std::string_view candidate, std::string_view token) {
  const Turn turn(*this, std::chrono::steady_clock::now() + vote_timeout);
  if (!turn) return std::nullopt;
  Grant left = hand_back(grant_, candidate, token);
  if (left == grant_) return std::nullopt;
  grant_ = std::move(left);
  const Time now = clock_();
  set_bound_until(std::max(grant_.until, now));
  return std::max(grant_.until - now, Time::zero());
}

}  // namespace primgr
