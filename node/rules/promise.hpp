// The voter's promise: the node to which this node has granted its vote, and the end of the
// promise.

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "node/rules/handover.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

// Stores a voter's promise so that it survives the process. Both functions may be empty. Then a
// voter that has just started votes for no node for one vote_lease. They must be thread-safe.
struct Grant_Store {
  std::function<std::optional<Grant>()> load;  // none: the last promise is not known
  // Stores a grant. Returns by `until`, successful or not, the grant that a restart is sure to
  // find. That is this grant, or an earlier one if it could not be stored in time, or an empty one
  // if it is not known.
  std::function<Grant(const Grant&, Deadline until)> save;
};

// The ballot of a voter whose promise could not be stored in time.
Ballot no_vote();

// The data on which a voter decides about a question for its vote.
struct Voter_Question {
  std::string named;  // the node that its own database names; empty: none
  std::string candidate;
  // the token that the candidate shows; none: it does not support tokens
  std::optional<std::string> shown;
  std::string fresh;  // a new token, see promise_vote()
  // there is no other voter, so it need not wait for the end of an unknown promise
  bool alone = false;
};

// The promise, as a value without a clock. A promise must be stored before any node receives it. If
// vote() asks for that, voters vote in turn: the next call must be stored(). Not thread-safe.
// Throws std::bad_alloc only, and then has changed nothing.
class Promise {
 public:
  // A voter that starts, with the promise `last`. `saved`: the grant that a restart is sure to
  // find; none: promises are not stored.
  Promise(Lease lease, Grant last, std::optional<Grant> saved);
  // The promise of a voter that starts at `now` and does not know its last promise.
  static Grant silence(Time vote_lease, Time now) { return {"", now + vote_lease}; }

  // Votes by the rule of cast_vote(). If the vote is granted, the promise is that of
  // promise_vote(). None: the promise has to be stored first, see to_store(). REQUIRES: not
  // awaits_store().
  std::optional<Ballot> vote(const Voter_Question& question, Time now);
  // Whether `token` is that of the promise. Only the process that received the promise knows it.
  // REQUIRES: not awaits_store().
  bool has_token(std::string_view token) const { return !token.empty() && token == grant_.token; }
  // Renames the node that the voter is bound to. REQUIRES: has_token() of the token that this node
  // showed.
  void rename(const std::string& name) { grant_.to = name; }
  // Whether a ballot waits for the store.
  bool awaits_store() const { return awaited_.has_value(); }
  // The grant to store. It lasts a quarter of a lease longer than promised, so that not every vote
  // needs a write. REQUIRES: awaits_store().
  Grant to_store() const;
  // The store is sure to hold `saved`; none: the same as before. Returns the ballot; it is
  // no_vote() if `saved` does not cover the promise. The grant may still be written later. After a
  // restart this voter then keeps a promise on which no node relies, which only costs time.
  // REQUIRES: awaits_store().
  Ballot stored(std::optional<Grant> saved);

  // Ends the promise by the rule of hand_back(). Returns for how long this node is still bound to
  // `candidate`; none if the token ended nothing. The store is not changed: after a restart the
  // promise lasts, or ends when it is handed back again. REQUIRES: not awaits_store().
  std::optional<Time> end(std::string_view candidate, std::string_view token, Time now);

  // The node that it is bound to; empty: there is none, or it is not known.
  std::string_view bound_to(Time now) const;
  // Whether it is bound to another node than `candidate`.
  bool is_bound_to_another(std::string_view candidate, Time now) const;
  // The time since which this node has been bound by no promise. None: it is bound, or may be
  // without knowing it. A promise binds it before any node receives that promise.
  std::optional<Time> unbound_since(Time now) const;

  // The nodes that had earlier promises, for people.
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
