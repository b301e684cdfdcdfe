#include "node/peers/peers.hpp"

#include <utility>

namespace primgr {

Peers::Peers(Http_Get get, Http_Drop drop, Time timeout)
    : get_(std::move(get)), drop_(std::move(drop)), timeout_(timeout) {}

Peers::~Peers() {
  const Mutex_Lock lock(mutex_);
  while (under_way_ > 0) none_under_way_.wait(mutex_);
}

void Peers::send(const Question& question, std::function<void(const Http_Reply&)> done) {
  std::function<void(Http_Reply)> counted = [this,
                                             done = std::move(done)](const Http_Reply& reply) {
    done(reply);
    const Mutex_Lock lock(mutex_);
    if (--under_way_ == 0) none_under_way_.notify_all();
  };
  {
    const Mutex_Lock lock(mutex_);
    ++under_way_;
  }
  // A lost hand-back is sent again, so it has a shorter timeout.
  const bool hand_back = question.kind == Question_Kind::hand_back;
  get_(question.peer, question.target, hand_back ? timeout_ / 4 : timeout_, std::move(counted));
}

void Peers::drop(const Dropped_Question& question) const {
  if (drop_) drop_(question.peer, question.target);
}

}  // namespace primgr
