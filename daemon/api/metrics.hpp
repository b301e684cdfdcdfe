// The metrics of the node. Endpoints adds the metrics of the server.

#pragma once

#include "daemon/api/metrics_text.hpp"
#include "daemon/api/node_document.hpp"
#include "node/rules/history.hpp"
#include "node/rules/report.hpp"

namespace primgr {

// doc/http.md describes each metric. `history`: the node's changes of state.
void write_node_metrics(Metrics& metrics, const Report& report, const Process& process,
                        const History& history = {});

}  // namespace primgr
