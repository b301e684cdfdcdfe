// What each endpoint answers, and the one table of them.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/answer.hpp"
#include "daemon/cluster.hpp"
#include "daemon/config.hpp"
#include "daemon/metrics_text.hpp"
#include "daemon/node_document.hpp"
#include "daemon/tls.hpp"
#include "daemon/wait_limiter.hpp"
#include "repmgr_node.hpp"

namespace primgr {

// `/state`: what this node is. Thread-safe; reads the cache only.
Answer get_reported_state(const Repmgr_Node& node);

// `/primary`: the node that this node's own database names; to a `candidate`, this node's vote,
// granted unless the candidate counts it for longer (`lease`, in ms). A question to another `voter`
// came here by mistake, and gets no name. Thread-safe; reads the cache, and waits for state_file
// where a vote is granted.
Answer get_reported_primary(Repmgr_Node& node, const std::string& candidate,
                            const std::string& lease, const std::string& voter = {});

// `/realPrimary`: the one node of the whole cluster whose state is Primary. Thread-safe; reads the
// cache only.
Answer get_reported_real_primary(const Repmgr_Node& node);

// The body of an answer that carries no state: {"error":"…"}.
std::string error_body(const std::string& error);

// The endpoints of the HTTP contract.
//
// Thread-safe. All answer from the cache, but for those few that a Wait_Limiter lets wait: votes
// and /cluster.
class Endpoints {
 public:
  // `peers` asks the other nodes, for /cluster; null: nobody is asked. `max_waiting`: requests of a
  // kind that may wait at a time.
  Endpoints(const Config& config, Repmgr_Node& node, const Tls& tls, Http_Get peers,
            std::size_t max_waiting);

  // Never throws but std::bad_alloc.
  Answer answer(const Request& request);
  // Counts an answer that was given.
  void count(std::string_view path, int status);
  // Every path there is, in the order of the table.
  static std::vector<std::string_view> paths();

 private:
  struct Endpoint;
  static const Endpoint table[];

  Answer state(const Request& request);
  Answer root(const Request& request);
  Answer primary(const Request& request);
  Answer real_primary(const Request& request);
  Answer replica(const Request& request);
  Answer read_only(const Request& request);
  Answer health(const Request& request);
  Answer liveness(const Request& request);
  Answer node(const Request& request);
  Answer cluster(const Request& request);
  Answer metrics(const Request& request);
  void write_request_counts(Metrics& metrics) const;

  Repmgr_Node& node_;
  const Tls& tls_;
  const Process process_;
  Cluster cluster_;
  Wait_Limiter waiting_for_nodes_, waiting_for_votes_;
  // Requests by endpoint (the last: any other path) and status; see status_index().
  std::unique_ptr<std::atomic<std::uint64_t>[]> counts_;
};

}  // namespace primgr
