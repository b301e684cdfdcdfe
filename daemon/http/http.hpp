// The interface to HTTP for the rest of the program: a server, a client, and one request to a
// daemon. primgr.cpp implements these with cpp-httplib, and main() passes them on, so that no other
// file depends on the library.

#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/address.hpp"
#include "base/log.hpp"
#include "daemon/http/answer.hpp"
#include "daemon/http/connections.hpp"
#include "daemon/http/resolver.hpp"
#include "daemon/http/settings.hpp"
#include "daemon/http/tls.hpp"
#include "node/peers/peers.hpp"

namespace primgr {

// Sends requests to peers in parallel. Each has its own time limit, which the others do not affect.
// Thread-safe.
class Http_Client {
 public:
  // Blocks until the current requests have ended: their timeout at most.
  virtual ~Http_Client() = default;

  // An Http_Get: returns at once. `done` is called once, in a client thread. The exception: if
  // there is no memory for the request, it is called in the caller's thread.
  virtual void get(const Node& peer, const std::string& target, Time timeout,
                   std::function<void(Http_Reply)> done) = 0;
  // An Http_Drop: shuts down the socket of the current request. Does not block.
  virtual void drop(const Node& peer, const std::string& target) = 0;
  // From the next request on, these addresses are used for the peers.
  virtual void use_addresses(Peer_Addresses addresses) = 0;
};

// What a server does with requests. Both functions are called by the threads of connections,
// several at a time, and throw std::bad_alloc only.
struct Http_Handler {
  // May block for a short time. The method is one of answered_methods.
  std::function<Answer(const Request&)> answer;
  // Is called for each answer that was sent. The path is "other" for a request that could not be
  // parsed.
  std::function<void(std::string_view path, int status)> count;
};

// Connections decides which clients are served. Each request and its answer together have 5 s,
// which start at the end of the previous answer.
class Http_Server {
 public:
  // Calls stop(), and blocks until the connections have ended.
  virtual ~Http_Server() = default;

  // Listens on the address: clients can connect from now on, and wait for run(). Returns false,
  // with errno, if it cannot listen. errno 0: there is no such address.
  virtual bool bind(const Address& address) = 0;
  // For tests: listens on any free port, and returns the port, or -1 if there is none.
  virtual int bind_to_any_port(const std::string& host) = 0;
  // Accepts connections until stop(). Blocks. Call it once.
  virtual void run() = 0;
  // Ends run(), and each connection after its current answer. May be called by any thread.
  virtual void stop() = 0;
};

// Makes servers and clients. All references must outlive the object that is made.
class Http_Library {
 public:
  virtual ~Http_Library() = default;

  // Throws std::system_error if no thread can be started.
  virtual std::unique_ptr<Http_Client> make_client(Peer_Addresses addresses, Resolver& resolver,
                                                   const Tls& tls) const = 0;
  // Throws std::system_error if no thread can be started.
  virtual std::unique_ptr<Http_Server> make_server(const Connection_Limits& limits,
                                                   Http_Handler handler, const Tls& tls,
                                                   const Stderr_Log& log) const = 0;
  // Sends a GET to a daemon. Blocks for `limit` at most. `own`: the daemon is on this host, and its
  // certificate need not be for the address that is used, so the host in the certificate is not
  // checked. Without tls_ca, the certificate of any other daemon must be signed by one of the
  // system's authorities. Throws Input_Error if TLS cannot be set up.
  virtual Http_Reply ask_daemon(const Tls& tls, const Url& url, bool own, const std::string& path,
                                std::chrono::milliseconds limit) const = 0;
};

// Defined in primgr.cpp. Only main() and the tests call it; all other code gets the library as an
// argument.
const Http_Library& cpp_httplib();

}  // namespace primgr
