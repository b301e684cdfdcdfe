// `/cluster`: the documents of all nodes in one answer.

#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "daemon/api/node_document.hpp"
#include "daemon/http/answer.hpp"

namespace primgr {

// Answers `/cluster`: asks all peers for `/node` in parallel, and waits for them for peer_timeout.
//
// Thread-safe. The mutex guards the last answer and whether one is being collected; it is not held
// while the peers are asked. A request that comes during a collection, or within 200 ms after it,
// gets the same answer, so that many clients cost the peers no more than one does.
class Cluster {
 public:
  Cluster(Time timeout, const Repmgr_Node& node, const Process& process, Http_Get get);

  // Blocks for peer_timeout + 1 s at most, and only if `may_wait`. Without `may_wait`, returns the
  // last answer if it is younger than peer_timeout + 5 s, else a 503 without "sites".
  Answer get(bool may_wait);

  // For the Retry-After header of such a 503, in seconds.
  long long retry_after() const {
    return std::chrono::ceil<std::chrono::seconds>(timeout_).count();
  }

 private:
  // The replies to one collection. Shared with the callbacks of the questions, as a reply that is
  // late may come when nobody waits any more. The mutex guards all of it.
  struct Collection {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::optional<Http_Reply>> replies;  // by position in the list of nodes
    std::size_t pending = 0;                         // questions without a reply yet
  };

  class Document;
  Answer collect() const;
  std::shared_ptr<Collection> ask(const std::vector<Node>& nodes) const;
  bool is_self(const Node& node) const;

  const Time timeout_;
  const Repmgr_Node& node_;
  const Process& process_;
  const Http_Get get_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool collecting_ = false;
  std::uint64_t collected_ = 0;  // how many collections have ended
  Deadline collected_at_{};
  Answer answer_{503, R"({"error":"nothing is known yet"})"};
};

}  // namespace primgr
