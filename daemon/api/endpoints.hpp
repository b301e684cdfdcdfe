// The endpoints of the HTTP contract, and their answers.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/api/cluster.hpp"
#include "daemon/api/metrics_text.hpp"
#include "daemon/api/node_document.hpp"
#include "daemon/http/answer.hpp"
#include "daemon/http/tls.hpp"
#include "daemon/http/wait_limiter.hpp"
#include "repmgr_node.hpp"

namespace primgr {

// `/state`: the state of this node. If the parameter `node` is this node's name, another node asks,
// and the answer also has the other members of State_Report. Thread-safe; reads the cache only.
Answer get_reported_state(const Repmgr_Node& node, const Params& params = {});

// `/primary`: the node that this node's own database names as primary. With the parameter
// `candidate` it is a request for a vote. `lease` is how long the candidate counts the vote, in ms.
// If `lease` is longer than this node's vote_lease, no vote is granted. The exception is
// `accepts=less`: the candidate then respects the `lease` of the answer. `voter` is the node that
// the candidate meant to ask. If that is another node, the answer has no name. Thread-safe; reads
// the cache, and blocks for 100 ms at most while a vote is written to state_file.
Answer get_reported_primary(Repmgr_Node& node, const Params& params);

// `/realPrimary`: the one node of the whole cluster whose state is Primary. Thread-safe; reads the
// cache only.
Answer get_reported_real_primary(const Repmgr_Node& node);

// `/lists`: the lists of voters that this node holds, of a site or, without the parameter `site`,
// of the whole cluster. `node` is the node that the sender meant to ask. Thread-safe; does not
// block.
Answer get_lists(const Repmgr_Node& node, const Params& params);

// The table of endpoints, and the counters of their answers.
//
// Thread-safe. Only votes and /cluster block (see get_reported_primary() and Cluster), and a
// Wait_Limiter limits how many wait. All other endpoints read the cache.
class Endpoints {
 public:
  struct Settings {
    Time peer_timeout{};
    std::size_t max_connections = 0;   // to the database; only shown to users
    std::string state_directory = {};  // only shown to users
    std::size_t max_waiting = 1;       // votes, and requests for /cluster, that may wait at a time
  };
  // `peers` sends the requests for /cluster. Null: none are sent.
  Endpoints(const Settings& settings, Repmgr_Node& node, const Tls& tls, Http_Get peers);

  // The method is one of answered_methods. Throws std::bad_alloc only.
  Answer answer(const Request& request);
  // Counts an answer for /metrics.
  void count(std::string_view path, int status);
  // All paths, in the order of the table. For tests, which compare them with doc/http.md.
  static std::vector<std::string_view> paths();

 private:
  struct Endpoint;
  static const Endpoint table[];

  Answer state(const Request& request);
  Answer root(const Request& request);
  Answer primary(const Request& request);
  Answer leader(const Request& request);
  Answer real_primary(const Request& request);
  Answer replica(const Request& request);
  Answer read_only(const Request& request);
  Answer sync(const Request& request);
  Answer async(const Request& request);
  Answer read_only_sync(const Request& request);
  Answer standby(const Request& request);
  Answer lists(const Request& request);
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
  // Counters of answers. Each endpoint has a row, and all other paths share one. Each
  // status_index() has a column.
  std::unique_ptr<std::atomic<std::uint64_t>[]> counts_;
};

}  // namespace primgr
