#include "node/rules/promise.hpp"

#include <algorithm>
#include <utility>

namespace primgr {

Ballot no_vote() {
  Ballot ballot;
  ballot.stored = false;
  return ballot;
}

Promise::Promise(Lease lease, Grant last, std::optional<Grant> saved)
    : history(lease.check_delay),
      vote_lease_(lease.vote_lease),
      stores_(saved.has_value()),
      bound_until_(last.until),
      grant_(std::move(last)),
      saved_(std::move(saved).value_or(Grant())) {}

bool Promise::is_stored(const Grant& promise) const {
  return promise.to == saved_.to && promise.token == saved_.token &&
         promise.until <= saved_.until && promise.kept_until <= saved_.kept_until;
}

std::optional<Ballot> Promise::vote(const Voter_Question& question, Time now) {
  const Grant last = grant_.to.empty() && question.alone ? Grant{} : grant_;
  Ballot ballot = cast_vote(last, question.named, question.candidate, now);
  if (!ballot.granted) return ballot;
  Grant promise = promise_vote(last, ballot.names, question.shown.value_or(""),
                               question.shown ? question.fresh : std::string(), now + vote_lease_);
  ballot.token = promise.token;
  const Time bound_until = std::max(last.until, promise.until);
  Awaited vote{std::move(promise), std::move(ballot), bound_until};
  if (!stores_ || is_stored(vote.promise)) return give(std::move(vote));
  awaited_ = std::move(vote);
  return std::nullopt;
}

Grant Promise::to_store() const {
  Grant ahead = awaited_->promise;
  ahead.until += vote_lease_ / 4;
  return ahead;
}

Ballot Promise::stored(std::optional<Grant> saved) {
  if (saved) saved_ = std::move(*saved);
  Awaited vote = std::move(*awaited_);
  awaited_.reset();
  return is_stored(vote.promise) ? give(std::move(vote)) : no_vote();
}

Ballot Promise::give(Awaited&& vote) noexcept {
  grant_ = std::move(vote.promise);
  bound_until_ = vote.bound_until;
  return std::move(vote.ballot);
}

std::optional<Time> Promise::end(std::string_view candidate, std::string_view token, Time now) {
  Grant left = hand_back(grant_, candidate, token);
  if (left == grant_) return std::nullopt;
  grant_ = std::move(left);
  bound_until_ = std::max(grant_.until, now);
  return std::max(grant_.until - now, Time::zero());
}

std::string_view Promise::bound_to(Time now) const {
  return now < grant_.until ? std::string_view(grant_.to) : std::string_view();
}

bool Promise::is_bound_to_another(std::string_view candidate, Time now) const {
  return now < grant_.until && !names_equal(grant_.to, candidate);
}

std::optional<Time> Promise::unbound_since(Time now) const {
  return now < bound_until_ ? std::nullopt : std::optional(bound_until_);
}

}  // namespace primgr
