// The metrics of the node. Endpoints adds those of the server.

#pragma once

#include "daemon/metrics_text.hpp"
#include "daemon/node_document.hpp"
#include "node/history.hpp"
#include "node/report.hpp"

namespace primgr {

// doc/http.md describes each metric. `history`: the node's changes of state.
void write_node_metrics(Metrics& metrics, const Report& report, const Process& process,
                        const History& history = {});

}  // namespace primgr
