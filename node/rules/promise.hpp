// The voter's promise: the node to which this node has granted its vote, and until when.

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "node/rules/handover.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

// Stores a voter's promise beyond the end of the process. Both functions may be empty: then a voter
// that has just started votes for nobody for one vote_lease. They must be thread-safe.
struct Grant_Store {
  std::function<std::optional<Grant>()> load;  // none: it is not known what was promised
  // Stores a grant. Returns by `until`, successful or not, the grant that a restart is sure to
  // find: this one; or an earlier one, if it could not be stored in time; an empty one: not known.
  std::function<Grant(const Grant&, Deadline until)> save;
};

// The ballot of a voter whose promise could not be stored in time.
Ballot no_vote();

// What a voter decides on a question for its vote.
struct Voter_Question {
  std::string named;  // the node that its own database names; empty: none
  std::string candidate;
  std::optional<std::string> shown;  // the token that the candidate shows; none: it takes no token
  std::string fresh;                 // a new token, see promise_vote()
  bool alone = false;  // there is no other voter, so it need not wait for what it does not know
};

// The promise, as a value without a clock. A promise must be stored before anybody hears of it: if
// vote() asks for that, voters vote in turn, and the next is that of stored() alone. Not
// thread-safe. Throws std::bad_alloc only, and has changed nothing then.
class Promise {
 public:
  // A voter that starts, and has promised `last`. `saved`: what a restart is sure to find; none:
  // promises are not stored.
  Promise(Lease lease, Grant last, std::optional<Grant> saved);
  // What a voter that starts at `now` holds to if it does not know what it promised before.
  static Grant silence(Time vote_lease, Time now) { return {"", now + vote_lease}; }

  // Votes by the rule of cast_vote(). If the vote is granted, the promise is that of
  // promise_vote(). None: it has to be stored first, see to_store(). REQUIRES: not awaits_store().
  std::optional<Ballot> vote(const Voter_Question& question, Time now);
  // Whether that is the token of the promise: only the process to which it was made knows it.
  // REQUIRES: not awaits_store().
  bool has_token(std::string_view token) const { return !token.empty() && token == grant_.token; }
  // The node that it is bound to has this name now. REQUIRES: has_token() of what it showed.
  void rename(const std::string& name) { grant_.to = name; }
  // Whether a ballot waits for the store.
  bool awaits_store() const { return awaited_.has_value(); }
  // The grant to store: a quarter of a lease longer than promised, so that not every vote is a
  // write. REQUIRES: awaits_store().
  Grant to_store() const;
  // The store is sure to hold `saved`; none: what it held before. Returns the ballot: no_vote() if
  // that is not what was promised. The grant may still be written later; after a restart this voter
  // then keeps a promise that nobody relies on, which costs time only. REQUIRES: awaits_store().
  Ballot stored(std::optional<Grant> saved);

  // By the rule of hand_back(). Returns for how long this node is still bound to `candidate`, none
  // if the token ended nothing. The store is not told: after a restart the promise lasts, or ends
  // when it is handed back again. REQUIRES: not awaits_store().
  std::optional<Time> end(std::string_view candidate, std::string_view token, Time now);

  // The node that it is bound to; empty: none, or it is not known to which.
  std::string_view bound_to(Time now) const;
  // Whether it is bound to another than `candidate`.
  bool is_bound_to_another(std::string_view candidate, Time now) const;
  // Since when this node is bound by no promise; none: it is bound, or may be and does not know it.
  // It is bound before anybody hears of a promise.
  std::optional<Time> unbound_since(Time now) const;

  // To whom the promises before were, for people.
  Promise_History history;

  bool operator==(const Promise&) const = default;

 private:
  struct Awaited {
    Grant promise;
    Ballot ballot;
    Time bound_until{};

    bool operator==(const Awaited&) const = default;
  };

  bool is_stored(const Grant& promise) const;
  Ballot give(Awaited&& vote) noexcept;

  Time vote_lease_;
  bool stores_ = false;
  Time bound_until_{};  // when the last promise ends, or ended
  Grant grant_;
  // The grant that the store is sure to hold. Its `until` is later than that of grant_.
  Grant saved_;
  std::optional<Awaited> awaited_;
};

}  // namespace primgr
