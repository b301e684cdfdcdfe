// A node that uses the real network and the real clocks.

#pragma once

#include <memory>

#include "daemon/config/config.hpp"
#include "daemon/http/http.hpp"
#include "repmgr_node.hpp"

namespace primgr {

struct Connected_Node {
  // `known`: the data of earlier runs, and the callbacks that save it. This object sets the rest of
  // the environment. All references must outlive this object. Throws std::system_error if no thread
  // can be started.
  Connected_Node(const Http_Library& http, const Config& config, const Tls& tls,
                 const Stderr_Log& log, Node_Environment known = {});

  // An Http_Get of the client.
  Http_Get http_get();

  Resolver resolver;
  const std::unique_ptr<Http_Client> client;
  Repmgr_Node node;

 private:
  Node_Environment connected(Node_Environment environment, const Stderr_Log& log);
  // Sets a random instance token, which distinguishes this daemon from another one of the same
  // name.
  static Node_Settings with_instance(Node_Settings settings);
};

}  // namespace primgr
