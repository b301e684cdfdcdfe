// Serves the endpoints over HTTP.

#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "daemon/api/endpoints.hpp"
#include "daemon/config/config.hpp"
#include "daemon/http/http.hpp"

namespace primgr {

// Thread-safe.
class Service {
 public:
  // `peers` sends the requests for /cluster. Null: none are sent. All references must outlive this
  // object. Throws std::system_error if no thread can be started.
  Service(const Http_Library& http, const Config& config, Repmgr_Node& node, const Tls& tls,
          const Stderr_Log& log, Http_Get peers = nullptr);
  // Calls stop(), and blocks until the connections have ended.
  ~Service();

  // The same as the functions of Http_Server.
  bool bind(const Address& address) { return server_->bind(address); }
  int bind_to_any_port(const std::string& host) { return server_->bind_to_any_port(host); }
  void run() { server_->run(); }
  void stop();

  // hold() makes all requests wait until release() or stop(). The exceptions are requests of nodes
  // for lists of voters and for the state. May be called by any thread.
  void hold() { held_ = true; }
  void release();

 private:
  Answer answer(const Request& request);

  const Connection_Limits limits_;
  Endpoints endpoints_;
  std::atomic<bool> held_{false};
  // The last member, because its threads use the members above.
  const std::unique_ptr<Http_Server> server_;
};

}  // namespace primgr
