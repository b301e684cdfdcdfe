// `/metrics`, as far as it is of the node.

#pragma once

#include "daemon/metrics_text.hpp"
#include "daemon/node_document.hpp"
#include "node/report.hpp"

namespace primgr {

// Writes what a node tells about itself. doc/http.md describes each metric.
void write_node_metrics(Metrics& metrics, const Report& report, const Process& process);

}  // namespace primgr
