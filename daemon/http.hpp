// The HTTP server and client. They are in primgr.cpp, the one unit that includes cpp-httplib;
// everybody else reaches them through this.

#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "daemon/address.hpp"
#include "daemon/config.hpp"
#include "daemon/descriptor.hpp"
#include "daemon/log.hpp"
#include "daemon/resolver.hpp"
#include "daemon/threads.hpp"
#include "daemon/tls.hpp"
#include "repmgr_node.hpp"

namespace primgr {

// Asks peers, each question in a thread of its own: cpp-httplib's client blocks, and peers are to
// be asked in parallel, each within its time whatever the others do.
//
// Thread-safe. The mutex guards the list of calls under way; the watchdog ends those whose time is
// up by shutting their sockets down. It is needed because cpp-httplib's timeouts hold for a peer
// that is silent, not for one that sends a byte now and then without an end.
class Http_Client {
 public:
  // Throws std::system_error if there is no thread to be had.
  Http_Client(const Config& config, Resolver& resolver, const Tls& tls);
  // Waits for the calls under way.
  ~Http_Client();
  Http_Client(const Http_Client&) = delete;
  Http_Client& operator=(const Http_Client&) = delete;

  // An Http_Get. `done` is called once, also when there is no memory to ask.
  void get(const Node& peer, const std::string& target, Time timeout,
           std::function<void(Http_Reply)> done);
  // An Http_Drop: gives a question under way up.
  void drop(const Node& peer, const std::string& target);

 private:
  // A question under way.
  struct Call {
    const Node peer;
    const std::string target;
    const Deadline deadline;
    std::function<void(Http_Reply)> done{};
    // These are guarded by mutex_.
    Descriptor socket{};  // one of its own: cpp-httplib closes its one when it likes
    bool over = false;

    void hold(int socket_in_use);
    void cut();
  };

  void end(const std::shared_ptr<Call>& call);
  Address address_of(const Node& peer) const;
  Http_Reply ask(Call& call);
  Http_Reply ask_at(Call& call, const Address& to, const std::string& at,
                    std::chrono::nanoseconds connect_timeout);
  void watch();

  const Config& config_;
  Resolver& resolver_;
  const Tls& tls_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ending_ = false;
  std::list<std::shared_ptr<Call>> under_way_;
  std::unique_ptr<Threads> threads_;
  std::thread watchdog_;
};

// Asks a daemon, and waits for its answer, 15 s at most. `own`: that of this host, whose
// certificate is for the host's name and not for the address that it is asked at. Where no tls_ca
// says whom to believe of others, the system's authorities do. Throws Config_Error if TLS cannot be
// set up.
Http_Reply ask_daemon(const Tls& tls, const Url& url, bool own, const std::string& path);

// The endpoints on a cpp-httplib server.
//
// A check must get its answer whoever else is connected: see Connections. Each request has 5 s
// with its answer, counted from the end of the answer before.
class Http_Server {
 public:
  // `peers` asks the other nodes, for /cluster. Throws std::system_error if there is no thread to
  // be had.
  Http_Server(const Config& config, Repmgr_Node& node, const Tls& tls, const Stderr_Log& log,
              Http_Get peers = nullptr);
  // Waits for the connections.
  ~Http_Server();

  // From here on connections queue; run() answers them. False, with errno, if the address cannot be
  // had.
  bool bind(const Address& address);
  // Any free port of a host; the port, or -1. The tests' way.
  int bind_to_any_port(const std::string& host);
  // Takes connections until stop(). Blocks.
  void run();
  // Ends run(), and each connection after the answer that is under way. From any thread.
  void stop();

 private:
  class Server;
  const std::unique_ptr<Server> server_;
};

// A node, and what it reaches the world through.
struct Wired_Node {
  Wired_Node(const Config& config, const Tls& tls, const Stderr_Log& log, Grant_Store grants = {});

  // An Http_Get of the client.
  Http_Get http_get();

  Resolver resolver;
  Http_Client client;
  Repmgr_Node node;
};

}  // namespace primgr
