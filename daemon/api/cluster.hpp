// `/cluster`: the documents of all nodes in one answer.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.hpp"
#include "daemon/api/node_document.hpp"
#include "daemon/http/answer.hpp"

namespace primgr {

// Answers `/cluster`. Requests `/node` from all peers in parallel, and waits for peer_timeout at
// most.
//
// Thread-safe. The mutex guards the last answer and whether a collection is running. It is not held
// while the peers are asked. A request that comes during a collection, or within 200 ms after it,
// gets the same answer. So many clients cause no more requests to the peers than one client.
class Cluster {
 public:
  Cluster(Time timeout, const Repmgr_Node& node, const Process& process, Http_Get get);

  // Blocks for peer_timeout + 1 s at most, and only if `may_wait`. Without `may_wait`, it returns
  // the last answer if that is younger than peer_timeout + 5 s, else a 503 without "sites".
  Answer get(bool may_wait);

  // For the Retry-After header of such a 503, in seconds.
  long long retry_after() const {
    return std::chrono::ceil<std::chrono::seconds>(timeout_).count();
  }

 private:
  // The replies to one collection. Shared with the callbacks of the requests, because a late reply
  // may come when the collection has already ended. The mutex guards all of it.
  struct Collection {
    Mutex mutex;
    Condition changed;
    std::vector<std::optional<Http_Reply>> replies
        GUARDED_BY(mutex);                      // by position in the list of nodes
    std::size_t pending GUARDED_BY(mutex) = 0;  // questions without a reply yet
  };

  class Document;
  Answer collect() const;
  std::shared_ptr<Collection> ask(const std::vector<Node>& nodes) const;
  bool is_self(const Node& node) const;

  const Time timeout_;
  const Repmgr_Node& node_;
  const Process& process_;
  const Http_Get get_;
  Mutex mutex_;
  Condition changed_;
  bool collecting_ GUARDED_BY(mutex_) = false;
  std::uint64_t collected_ GUARDED_BY(mutex_) = 0;  // how many collections have ended
  Deadline collected_at_ GUARDED_BY(mutex_){};
  Answer answer_ GUARDED_BY(mutex_){503, R"({"error":"nothing is known yet"})"};
};

}  // namespace primgr
