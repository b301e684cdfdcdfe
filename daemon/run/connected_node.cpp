#include "daemon/run/connected_node.hpp"

#include <utility>

#include "base/clocks.hpp"

namespace primgr {

Connected_Node::Connected_Node(const Http_Library& http, const Config& config, const Tls& tls,
                               const Stderr_Log& log, Node_Environment known)
    : client(http.make_client(config.peers, resolver, tls)),
      node(with_instance(config.node), connected(std::move(known), log)) {}

Node_Settings Connected_Node::with_instance(Node_Settings settings) {
  if (settings.candidate) settings.instance = random_token();
  return settings;
}

Node_Environment Connected_Node::connected(Node_Environment environment, const Stderr_Log& log) {
  environment.http_get = http_get();
  environment.http_drop = [this](const Node& peer, const std::string& target) {
    client->drop(peer, target);
  };
  environment.resolve = [this](const std::string& host, Time timeout) {
    return resolver(host, timeout);
  };
  environment.other_clocks = other_clocks();
  environment.log = [&log](Log_Level level, const std::string& message) { log(level, message); };
  return environment;
}

Http_Get Connected_Node::http_get() {
  return [this](const Node& peer, const std::string& target, Time timeout,
                std::function<void(Http_Reply)> done) {
    client->get(peer, target, timeout, std::move(done));
  };
}

}  // namespace primgr
