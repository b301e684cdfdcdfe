// deploy/grafana.json against what nodes tell.

#pragma once

#include <string>
#include <vector>

// What Prometheus would read from a node.
struct Scrape {
  std::string instance, metrics;
};

// Each query of the dashboard finds something in that, and each name of a metric in it matters.
// Without promtool, that is skipped. The nodes must have been through a handover, over TLS.
void check_dashboard(const std::vector<Scrape>& scrapes);
