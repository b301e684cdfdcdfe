#include "tests/asker.hpp"

#include <doctest/doctest.h>

#include <atomic>

Http_Reply Asker::ask(const Address& address, Time timeout, const std::string& host) {
  Config asking = config;
  asking.peers.by_name["peer"] = address;
  const Stderr_Log log(Log_Level::none);
  const Tls tls(asking.tls, log);
  std::atomic<bool> done = false;
  Http_Reply reply;
  Node peer = make_node(1, "peer");
  if (!host.empty()) {
    asking.peers.by_name.clear();
    asking.peers.port = address.port;
    peer.host = host;
  }
  const auto client = cpp_httplib().make_client(asking.peers, resolver, tls);
  const auto start = Steady::now();
  client->get(peer, "/primary", timeout, [&](Http_Reply r) {
    reply = std::move(r);
    done = true;
  });
  CHECK(eventually(60, [&] { return done.load(); }));
  took = seconds_since(start);
  return reply;
}
