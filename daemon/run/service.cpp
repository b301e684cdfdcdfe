#include "daemon/run/service.hpp"

#include <utility>

namespace primgr {

Service::Service(const Http_Library& http, const Config& config, Repmgr_Node& node, const Tls& tls,
                 const Stderr_Log& log, Http_Get peers)
    : limits_(config.max_clients, log),
      endpoints_({.peer_timeout = config.node.peer_timeout,
                  .max_connections = config.node.max_connections_in_pool,
                  .state_directory = config.state_directory,
                  .max_waiting = limits_.max_evicted_open / 2},
                 node, tls, std::move(peers)),
      server_(http.make_server(
          limits_,
          {.answer = [this](const Request& request) { return answer(request); },
           .count = [this](std::string_view path, int status) { endpoints_.count(path, status); }},
          tls, log)) {}

Service::~Service() {
  stop();
}

void Service::stop() {
  release();
  server_->stop();
}

void Service::release() {
  held_ = false;
  held_.notify_all();
}

Answer Service::answer(const Request& request) {
  const bool from_node =
      request.path == "/lists" || (request.path == "/state" && request.params.contains("node"));
  if (!from_node) held_.wait(true);
  return endpoints_.answer(request);
}

}  // namespace primgr
