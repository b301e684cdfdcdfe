// `/cluster`: every node as seen from here.

#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "daemon/answer.hpp"
#include "daemon/config.hpp"
#include "daemon/node_document.hpp"

namespace primgr {

// `/cluster`: every node as seen from here now, asked in parallel, within peer_timeout.
//
// Thread-safe; waits for the peers if it may. The mutex guards the last answer and whether one is
// being collected: who asks meanwhile, or just after, gets the same one, so that a crowd of clients
// costs the peers no more than a single one.
class Cluster {
 public:
  Cluster(const Config& config, const Repmgr_Node& node, const Process& process, Http_Get get);

  // Who may not wait gets the last answer, unless it is old; status 503 without "sites" otherwise.
  Answer get(bool may_wait);

  // How long until who could not wait is to ask again, in seconds.
  long long patience() const { return std::chrono::ceil<std::chrono::seconds>(timeout_).count(); }

 private:
  // What the peers tell; theirs as long as they may, this collection's as long as it waits.
  struct Collection {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::optional<Http_Reply>> replies;
    std::size_t missing = 0;
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
  std::uint64_t collected_ = 0;
  Deadline collected_at_{};
  Answer answer_{503, R"({"error":"nothing is known yet"})"};
};

}  // namespace primgr
