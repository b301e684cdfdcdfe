// Sends questions to the other nodes, and passes on the replies.

#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "base/mutex.hpp"
#include "node/peers/polls.hpp"
#include "node/peers/wire.hpp"

namespace primgr {

// Sends `GET target` to a peer, and returns at once. Calls `done` with the reply, once, within
// `timeout`, in any thread, perhaps before it returns. Must not throw.
using Http_Get = std::function<void(const Node& peer, const std::string& target, Time timeout,
                                    std::function<void(Http_Reply)> done)>;

// Abandons a question that Http_Get has sent: its `done` is called soon, with status 0. Must not
// block, and must not call `done` itself.
using Http_Drop = std::function<void(const Node& peer, const std::string& target)>;

// Thread-safe. The mutex guards the count of questions under way. It is held only to update that
// count.
class Peers {
 public:
  Peers(Http_Get get, Http_Drop drop, Time timeout);
  // Waits for the questions under way.
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  // Sends a question, and returns at once. `done` is called with its reply, once, in any thread,
  // perhaps before this returns; it must not throw. Throws std::bad_alloc: nothing was sent.
  void send(const Question& question, std::function<void(const Http_Reply&)> done);
  // Abandons a question.
  void drop(const Dropped_Question& question) const;

 private:
  const Http_Get get_;
  const Http_Drop drop_;
  const Time timeout_;
  Mutex mutex_;
  std::size_t under_way_ GUARDED_BY(mutex_) = 0;
  Condition none_under_way_;
};

}  // namespace primgr
