// A node that is connected to the real network and the real clocks.

#pragma once

#include <memory>

#include "daemon/config/config.hpp"
#include "daemon/http/http.hpp"
#include "repmgr_node.hpp"

namespace primgr {

struct Connected_Node {
  // `known`: what it knows of earlier runs and what stores that; the rest of it is set here. All
  // references must outlive this. Throws std::system_error if no thread can be started.
  Connected_Node(const Http_Library& http, const Config& config, const Tls& tls,
                 const Stderr_Log& log, Node_Environment known = {});

  // An Http_Get of the client.
  Http_Get http_get();

  Resolver resolver;
  const std::unique_ptr<Http_Client> client;
  Repmgr_Node node;

 private:
  Node_Environment connected(Node_Environment environment, const Stderr_Log& log);
  // A daemon can be told from another one of the same name.
  static Node_Settings with_instance(Node_Settings settings);
};

}  // namespace primgr
