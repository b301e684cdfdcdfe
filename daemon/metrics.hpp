// The metrics of the node. Endpoints adds those of the server.

#pragma once

#include "daemon/metrics_text.hpp"
#include "daemon/node_document.hpp"
#include "node/report.hpp"

namespace primgr {

// doc/http.md describes each metric.
void write_node_metrics(Metrics& metrics, const Report& report, const Process& process);

}  // namespace primgr
