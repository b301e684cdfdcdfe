// The HTTP server and client. They are defined in primgr.cpp, the one unit that includes
// cpp-httplib; this header does not include it.

#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "daemon/address.hpp"
#include "daemon/config.hpp"
#include "daemon/descriptor.hpp"
#include "daemon/log.hpp"
#include "daemon/resolver.hpp"
#include "daemon/thread_pool.hpp"
#include "daemon/tls.hpp"
#include "repmgr_node.hpp"

namespace primgr {

// Asks peers, each question in a thread of its own: cpp-httplib's client blocks, and peers are to
// be asked in parallel, each within its time whatever the others do.
//
// Thread-safe. The mutex guards the list of calls under way, and where peers are; the watchdog ends
// those whose time is up by shutting their sockets down. It is needed because cpp-httplib's
// timeouts hold for a peer that is silent, not for one that sends a byte now and then without an
// end.
class Http_Client {
 public:
  // Throws std::system_error if no thread can be started. `resolver` and `tls` must outlive this.
  Http_Client(const Config& config, Resolver& resolver, const Tls& tls);
  // Blocks until the calls under way are over: their timeout at most.
  ~Http_Client();
  Http_Client(const Http_Client&) = delete;
  Http_Client& operator=(const Http_Client&) = delete;

  // An Http_Get: returns at once. `done` is called once, in a client thread; in this one if there
  // is no memory for the call.
  void get(const Node& peer, const std::string& target, Time timeout,
           std::function<void(Http_Reply)> done);
  // An Http_Drop: shuts the socket of a question under way down. Does not block.
  void drop(const Node& peer, const std::string& target);
  // From the next question on, peers are asked where peer_port and peer.<name> of `config` say.
  void use_addresses(const Config& config);

 private:
  // A question under way. Functions REQUIRE mutex_.
  struct Call {
    const Node peer;
    const std::string target;
    const Deadline deadline;
    std::function<void(Http_Reply)> done{};
    // Guarded by mutex_.
    Descriptor socket{};   // a duplicate, as cpp-httplib may close its own at any time
    bool aborted = false;  // too late, or dropped

    void set_socket(int socket_in_use);
    void abort();
  };

  // Where a peer is asked: `address` has the host that its certificate is for, `at` where that is
  // reached, a name or an IP address.
  struct Place {
    Address address;
    std::string at;
  };

  void remove(const std::shared_ptr<Call>& call);
  Place place_of(const Node& peer);
  Http_Reply ask(Call& call);
  Http_Reply ask_at(Call& call, const Address& to, const std::string& at,
                    std::chrono::nanoseconds connect_timeout);
  void watch_deadlines();

  Resolver& resolver_;
  const Tls& tls_;
  std::mutex mutex_;
  int peer_port_;
  std::map<std::string, Address> peers_;
  std::condition_variable changed_;
  bool ending_ = false;
  std::list<std::shared_ptr<Call>> under_way_;
  std::unique_ptr<Thread_Pool> threads_;
  std::thread watchdog_;
};

// Sends a GET to a daemon. Blocks for `limit` at most. `own`: it is the daemon of this host, asked
// at an address that its certificate is not for, so the host in the certificate is not checked.
// Without tls_ca, the certificate of any other daemon must be signed by one of the system's
// authorities. Throws Config_Error if TLS cannot be set up.
Http_Reply ask_daemon(const Tls& tls, const Url& url, bool own, const std::string& path,
                      std::chrono::milliseconds limit);

// Serves the endpoints over HTTP, with cpp-httplib.
//
// Connections decides which clients are served. Each request and its answer together have 5 s, from
// the end of the answer before.
class Http_Server {
 public:
  // `peers` sends the questions for /cluster. Throws std::system_error if no thread can be started.
  // All references must outlive this.
  Http_Server(const Config& config, Repmgr_Node& node, const Tls& tls, const Stderr_Log& log,
              Http_Get peers = nullptr);
  // Calls stop(), and blocks until the connections have ended.
  ~Http_Server();

  // Listens: clients can connect from here on, and wait for run(). False, with errno, if it cannot
  // listen on the address; errno 0: there is no such address.
  bool bind(const Address& address);
  // For tests: listens on any free port, and returns that; -1 if there is none.
  int bind_to_any_port(const std::string& host);
  // Accepts connections until stop(). Blocks. Call it once.
  void run();
  // hold(): all requests wait until release() or stop(), except those of nodes for lists of voters
  // and for the state. From any thread.
  void hold();
  void release();
  // Ends run(), and each connection after the answer that is under way. From any thread.
  void stop();

 private:
  class Server;
  const std::unique_ptr<Server> server_;
};

// A Repmgr_Node connected to the real network and the real clocks.
struct Wired_Node {
  // `kept`: what it knows of earlier runs and what stores that; the rest of it is set here.
  Wired_Node(const Config& config, const Tls& tls, const Stderr_Log& log,
             Node_Environment kept = {});

  // An Http_Get of the client.
  Http_Get http_get();

  Resolver resolver;
  Http_Client client;
  Repmgr_Node node;

 private:
  Node_Environment wired(Node_Environment environment, const Stderr_Log& log);
  // A daemon can be told from another one of the same name.
  static Node_Settings with_instance(Node_Settings settings);
};

}  // namespace primgr
