// Checks deploy/grafana.json against the metrics of nodes.

#pragma once

#include <string>
#include <vector>

// The metrics that Prometheus would read from a node.
struct Scrape {
  std::string instance, metrics;
};

// Checks that each query of the dashboard finds something in `scrapes`, and that each name of a
// metric in it matters. Without promtool, this is skipped. The nodes must have been through a
// handover, over TLS.
void check_dashboard(const std::vector<Scrape>& scrapes);
