// primgr: reports over HTTP and to shell scripts the current state of this node of a repmgr
// cluster.
//
// This file has main(), the HTTP server and the HTTP client. It is the only unit that includes
// cpp-httplib. daemon/http/http.hpp declares its classes for the other units. The rules and the
// knowledge of a node are in repmgr_node.hpp. The code between the two is in daemon/.

// cpp-httplib's backlog of 5 is too small: with many connections, SYNs are dropped, which delays
// health checks.
#define CPPHTTPLIB_LISTEN_BACKLOG 4096
#define CPPHTTPLIB_MAX_LINE_LENGTH 4096
#define CPPHTTPLIB_OPENSSL_SUPPORT
// Without this, cpp-httplib waits with select(), which fails for every descriptor from 1,024 on.
#define CPPHTTPLIB_USE_POLL
#include <fcntl.h>
#include <httplib.h>
#include <malloc.h>
#include <netdb.h>
#include <nss.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <iostream>
#include <list>
#include <optional>
#include <system_error>
#include <thread>
#include <type_traits>

#include "base/address.hpp"
#include "base/descriptor.hpp"
#include "base/error.hpp"
#include "base/memory_reserve.hpp"
#include "base/mutex.hpp"
#include "base/thread_pool.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/options.hpp"
#include "daemon/hook/change_hook.hpp"
#include "daemon/http/connections.hpp"
#include "daemon/http/http.hpp"
#include "daemon/http/http_connection.hpp"
#include "daemon/http/request.hpp"
#include "daemon/run/daemon.hpp"
#include "daemon/state/grant_file.hpp"
#include "daemon/state/state_directory.hpp"
#include "node/database/conninfo.hpp"
#include "node/peers/wire.hpp"
#include "node/rules/no_reply.hpp"

namespace primgr {

using namespace std::chrono_literals;
using std::chrono::duration_cast;
using std::chrono::milliseconds;

static_assert(max_line == CPPHTTPLIB_MAX_LINE_LENGTH);

// ---- the HTTP client ----------------------------------------------------------------------------

namespace {

// How a client reaches a server, and which certificates it accepts from it.
struct Target {
  Address address;
  std::string ip;  // an IP address of its host; empty: cpp-httplib looks the host up
  bool https = false;
  std::string expected_host;      // in the server's certificate; empty: any
  bool trust_system_cas = false;  // also accepts certificates signed by system CAs
};

// Makes a client. With HTTPS, the client presents this node's certificate, if there is one. Throws
// Input_Error if TLS cannot be set up.
std::unique_ptr<httplib::ClientImpl> make_client(const Tls& tls, const Target& target) {
  const auto& [host, port] = target.address;
  if (!target.https) {
    return std::make_unique<httplib::ClientImpl>(target.ip.empty() ? host : target.ip, port);
  }
  auto client = std::make_unique<httplib::SSLClient>(host, port);
  if (!target.ip.empty()) client->set_hostname_addr_map({{host, target.ip}});
  client->enable_server_certificate_verification(target.trust_system_cas);
  if (!client->is_valid()) throw Input_Error("tls: out of memory");
  if (tls.enabled()) tls.configure_client(client->ssl_context(), target.expected_host);
  return client;
}

// Sends a GET, and reads a body of at most max_body bytes. If there is no valid reply, the reply is
// empty, its status is 0, and `error` or `too_long` is the reason.
struct Received {
  Http_Reply reply;
  httplib::Error error = httplib::Error::Success;
  bool too_long = false;
};
Received get(httplib::ClientImpl& client, const std::string& path, std::size_t max_body) {
  Received received;
  received.reply.sent_at = boottime();
  std::string& body = received.reply.body;
  const auto result = client.Get(path, [&](const char* data, std::size_t size) {
    received.too_long = body.size() + size > max_body;
    if (!received.too_long) body.append(data, size);
    return !received.too_long;
  });
  if (result) {
    received.reply.status = result->status;
  } else {
    received.reply = {};
    received.error = result.error();
  }
  return received;
}

// Why there is no reply, as text for users. Reads the thread-local Tls::verify_error.
std::string describe_error(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
      return "connection refused or host unreachable";
    case httplib::Error::ConnectionTimeout:
      return timed_out;
    case httplib::Error::SSLConnection:
      if (Tls::verify_error == X509_V_OK) return tls_failed;
      if (Tls::verify_error == X509_V_ERR_HOSTNAME_MISMATCH ||
          Tls::verify_error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        return std::string(other_certificate) + "for another host";
      }
      return std::string(other_certificate) + "not signed by tls_ca (" +
             X509_verify_cert_error_string(Tls::verify_error) + ")";
    case httplib::Error::SSLServerVerification:
      return std::string(other_certificate) + "signed by no authority that is known here";
    case httplib::Error::SSLServerHostnameVerification:
      return std::string(other_certificate) + "for another host";
    default:
      return no_http;
  }
}

// Why no connection to an IP address could be made. cpp-httplib does not report that. A host that
// refuses a connection is alive, and must not be counted as lost. So this tries the connection once
// more, for `limit` at most. A host that refuses will refuse again in that time.
std::string describe_unconnected(const Address& address, milliseconds limit) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found) !=
      0) {
    return not_asked;
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> at(found, freeaddrinfo);
  const Descriptor socket(::socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  int error = 0;
  if (!socket || ::connect(socket.get(), at->ai_addr, at->ai_addrlen) != 0) error = errno;
  if (error == EINPROGRESS) {
    pollfd connected{socket.get(), POLLOUT, 0};
    socklen_t size = sizeof error;
    if (::poll(&connected, 1, static_cast<int>(limit.count())) != 1 ||
        getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
      return host_unreachable;
    }
  }
  switch (error) {
    case 0:  // it has just started to listen
    case ECONNREFUSED:
    case ECONNRESET:
      return std::string(connection_refused) + " at " + print_address(address);
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ETIMEDOUT:
      return host_unreachable;
    default:
      return std::string(not_asked) + ": " + std::generic_category().message(error);
  }
}

Http_Reply no_reply(const std::string& why) {
  return {0, {}, why, {}};
}

// cpp-httplib matches a status line, of max_line bytes at most, with std::regex. Its recursion
// needs 1 MB of stack. It needs 2.3 MB where each call reserves space for registers, as on s390x.
// It needs more with clang and its sanitizers.
#if defined(__clang__)
constexpr std::size_t client_stack = 16 * 1024 * 1024;
#elif defined(__x86_64__)
constexpr std::size_t client_stack = 1280 * 1024;
#else
constexpr std::size_t client_stack = 3 * 1024 * 1024;
#endif
constexpr std::size_t max_client_threads = 2048;  // more requests wait for a thread

// Ends requests whose time is over: it shuts their sockets down. It is needed because cpp-httplib's
// timeouts apply to a server that is silent. They do not apply to a server that sends a byte from
// time to time and never ends. Thread-safe; nothing blocks while the mutex is held.
class Watchdog {
 public:
  // A request that has not ended.
  class Call {
   public:
    explicit Call(Deadline until) : deadline(until) {}
    const Deadline deadline;

   private:
    friend class Watchdog;
    // Guarded by the mutex of the Watchdog.
    Descriptor socket_;     // a duplicate, because cpp-httplib may close its own at any time
    bool aborted_ = false;  // it is late, or was dropped
  };

  // Throws std::system_error if no thread can be started.
  Watchdog() : thread_([this] { watch(); }) {}
  ~Watchdog() {
    {
      const Mutex_Lock lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  // The call is watched from now until remove(). Throws std::bad_alloc.
  void add(Call& call) {
    {
      const Mutex_Lock lock(mutex_);
      calls_.push_back(&call);
    }
    changed_.notify_all();
  }
  void remove(Call& call) {
    const Mutex_Lock lock(mutex_);
    call.socket_.reset();
    calls_.remove(&call);
  }
  void abort(Call& call) {
    const Mutex_Lock lock(mutex_);
    shut_down(call);
  }
  bool is_aborted(const Call& call) {
    const Mutex_Lock lock(mutex_);
    return call.aborted_;
  }
  // The sockets that `client` opens belong to the call.
  void watch_sockets(httplib::ClientImpl& client, Call& call) {
    client.set_socket_options([this, &call](socket_t socket) {
      const Mutex_Lock lock(mutex_);
      call.socket_.reset(fcntl(socket, F_DUPFD_CLOEXEC, 0));
      if (call.aborted_) shut_down(call);
    });
  }

 private:
  void shut_down(Call& call) REQUIRES(mutex_) {
    call.aborted_ = true;
    if (call.socket_) ::shutdown(call.socket_.get(), SHUT_RDWR);
  }

  void watch() {
    const Mutex_Lock lock(mutex_);
    while (!ending_) {
      Deadline next = Deadline::max();
      const auto now = std::chrono::steady_clock::now();
      for (Call* call : calls_) {
        if (call->deadline <= now) shut_down(*call);
        // A socket that was not connected yet is shut down again.
        next = std::min(next, call->aborted_ ? now + 100ms : call->deadline);
      }
      if (next == Deadline::max()) {
        changed_.wait(mutex_);
      } else {
        changed_.wait_until(mutex_, next);
      }
    }
  }

  Mutex mutex_;
  Condition changed_;
  std::list<Call*> calls_ GUARDED_BY(mutex_);
  bool ending_ GUARDED_BY(mutex_) = false;
  std::thread thread_;  // the last member, because it uses the members above
};

// Each request has a separate thread, because cpp-httplib's client blocks.
//
// The mutex guards the list of current requests, and the addresses of peers. It is locked before
// the mutex of the Watchdog.
class Httplib_Client : public Http_Client {
 public:
  Httplib_Client(Peer_Addresses addresses, Resolver& resolver, const Tls& tls);
  ~Httplib_Client() override;
  void get(const Node& peer, const std::string& target, Time timeout,
           std::function<void(Http_Reply)> done) override;
  void drop(const Node& peer, const std::string& target) override;
  void use_addresses(Peer_Addresses addresses) override;

 private:
  // A request that has not ended.
  struct Call : Watchdog::Call {
    Call(Node to, std::string what, Deadline until)
        : Watchdog::Call(until), peer(std::move(to)), target(std::move(what)) {}
    const Node peer;
    const std::string target;
    std::function<void(Http_Reply)> done{};
  };

  // The address for a request to a peer. `address` has the host that the peer's certificate is for.
  // `at` is the name or IP address to connect to.
  struct Place {
    Address address;
    std::string at;
  };

  void remove(const std::shared_ptr<Call>& call);
  Place place_of(const Node& peer);
  Http_Reply ask(Call& call);
  Http_Reply ask_at(Call& call, const Address& to, const std::string& at,
                    std::chrono::nanoseconds connect_timeout);

  Resolver& resolver_;
  const Tls& tls_;
  Mutex mutex_;
  Peer_Addresses addresses_ GUARDED_BY(mutex_);
  std::list<std::shared_ptr<Call>> under_way_ GUARDED_BY(mutex_);
  Watchdog watchdog_;
  // The last member, because its threads use the members above.
  std::unique_ptr<Thread_Pool> threads_;
};

Httplib_Client::Httplib_Client(Peer_Addresses addresses, Resolver& resolver, const Tls& tls)
    : resolver_(resolver), tls_(tls), addresses_(std::move(addresses)) {
  // cpp-httplib compiles a std::regex in each thread, and libstdc++ fills the locale's cache for
  // narrow() without a lock. So the cache is filled before requests are sent.
  for (int c = 0; c < 256; ++c) {
    std::use_facet<std::ctype<char>>(std::locale()).narrow(static_cast<char>(c), '\0');
  }
  threads_ =
      std::make_unique<Thread_Pool>(Thread_Pool::Limits{2, max_client_threads, client_stack, 0});
}

Httplib_Client::~Httplib_Client() {
  threads_.reset();  // waits for the current requests
}

void Httplib_Client::get(const Node& peer, const std::string& target, Time timeout,
                         std::function<void(Http_Reply)> done) {
  std::shared_ptr<Call> call;
  try {
    call = std::make_shared<Call>(peer, target, std::chrono::steady_clock::now() + timeout);
    {
      const Mutex_Lock lock(mutex_);
      under_way_.push_back(call);
    }
    watchdog_.add(*call);
    call->done = std::move(done);
    threads_->run([this, call] {
      Http_Reply reply = ask(*call);
      remove(call);
      call->done(std::move(reply));
    });
  } catch (const std::bad_alloc&) {
    if (call) remove(call);
    (call && call->done ? call->done : done)(no_reply("out of memory"));
  }
}

void Httplib_Client::drop(const Node& peer, const std::string& target) {
  const Mutex_Lock lock(mutex_);
  for (const auto& call : under_way_) {
    if (call->target == target && call->peer.name == peer.name) watchdog_.abort(*call);
  }
}

void Httplib_Client::remove(const std::shared_ptr<Call>& call) {
  watchdog_.remove(*call);
  const Mutex_Lock lock(mutex_);
  under_way_.remove(call);
}

void Httplib_Client::use_addresses(Peer_Addresses addresses) {
  const Mutex_Lock lock(mutex_);
  std::swap(addresses_, addresses);
}

// The configured address of a peer (peer.NAME). Without one, the host of its conninfo and
// peer_port.
Httplib_Client::Place Httplib_Client::place_of(const Node& peer) {
  const Mutex_Lock lock(mutex_);
  Place place{{peer.host, addresses_.port}, peer.hostaddr};
  for (const auto& [name, configured] : addresses_.by_name) {
    if (!names_equal(name, peer.name)) continue;
    place.address.host = place.at = configured.host;
    if (configured.port) place.address.port = configured.port;
  }
  if (place.at.empty()) place.at = place.address.host;
  return place;
}

Http_Reply Httplib_Client::ask(Call& call) try {
  const auto left = [&] { return call.deadline - std::chrono::steady_clock::now(); };
  const auto [address, at] = place_of(call.peer);
  if (address.host.empty()) {
    return no_reply("its conninfo has no host: set peer." + call.peer.name);
  }
  const std::vector<std::string> addresses = resolver_(at, left());
  if (addresses.empty()) return no_reply(describe_unresolved(at));
  Http_Reply reply;
  // A host is alive if it refuses at one of its addresses. This host may have no route to some of
  // the addresses, for example to those of IPv6.
  std::string why;
  for (std::size_t i = 0; i < addresses.size() && left() > 0ns; ++i) {
    // Some addresses of a host may not answer, so each gets an equal share of the time left.
    reply = ask_at(call, address, addresses[i], left() / static_cast<int>(addresses.size() - i));
    if (reply.status != 0) break;
    if (reply.error.starts_with(connection_refused) ||
        (why.empty() && !reply.error.starts_with(not_asked))) {
      why = reply.error;
    }
  }
  if (reply.status == 0 && reply.error.empty()) reply.error = timed_out;
  if (reply.status == 0 && !reply.alive && !why.empty()) reply.error = why;
  return reply;
} catch (const std::exception& error) {
  try {
    return no_reply(error.what());
  } catch (const std::bad_alloc&) {
    return no_reply("out of memory");  // so short that it needs no allocation
  }
}

Http_Reply Httplib_Client::ask_at(Call& call, const Address& to, const std::string& at,
                                  std::chrono::nanoseconds connect_timeout) {
  // The certificate must be for the host as configured, not for the IP address.
  const auto client = make_client(tls_, {to, at, tls_.enabled(), to.host});
  const auto in_milliseconds = [](auto time) {
    return std::max(duration_cast<milliseconds>(time), 1ms);
  };
  const milliseconds left = in_milliseconds(call.deadline - std::chrono::steady_clock::now());
  client->set_connection_timeout(in_milliseconds(connect_timeout));
  client->set_read_timeout(left);
  client->set_write_timeout(left);
  client->set_keep_alive(false);
  client->set_tcp_nodelay(true);
  watchdog_.watch_sockets(*client, call);
  const auto began = std::chrono::steady_clock::now();
  const Received received = primgr::get(*client, call.target, most_reply_bytes(call.target));
  const bool aborted = watchdog_.is_aborted(call);
  // If a body has no Content-Length, cpp-httplib takes the end of an aborted connection for the end
  // of the body.
  if (received.reply.status != 0 && !aborted) return received.reply;
  const bool late = std::chrono::steady_clock::now() + 5ms >= call.deadline ||
                    received.error == httplib::Error::ConnectionTimeout;
  if (aborted && !late) return no_reply(not_waited_for);
  if (received.too_long) return {0, {}, "reply too long", {}, true};
  if (!late && received.error == httplib::Error::Connection) {
    const auto now = std::chrono::steady_clock::now();
    return no_reply(describe_unconnected(
        {at, to.port}, in_milliseconds(std::min(2 * (now - began) + 50ms, call.deadline - now))));
  }
  Http_Reply none = no_reply(late ? timed_out : describe_error(received.error));
  // A server that refuses TLS, or has another CA, is not a peer, but it is alive.
  none.alive = !late;
  return none;
}

Http_Reply ask_daemon(const Tls& tls, const Url& url, bool own, const std::string& path,
                      milliseconds limit) {
  constexpr std::size_t max_size = 64 << 20;
  const auto client = make_client(
      tls, {url.address, "", url.tls, own ? "" : url.address.host, !own && !tls.verifies()});
  client->set_connection_timeout(limit);
  client->set_read_timeout(limit);
  Watchdog watchdog;
  Watchdog::Call call(std::chrono::steady_clock::now() + limit);
  watchdog.watch_sockets(*client, call);
  watchdog.add(call);
  const Received received = get(*client, path, max_size);
  const bool late = watchdog.is_aborted(call);
  watchdog.remove(call);
  if (late) return no_reply(timed_out);
  if (received.reply.status) return received.reply;
  if (received.error == httplib::Error::Connection && Resolver()(url.address.host, limit).empty()) {
    return no_reply(describe_unresolved(url.address.host));
  }
  return no_reply(describe_error(received.error));
}

// ---- the HTTP server ----------------------------------------------------------------------------

constexpr auto request_timeout = 5s;
constexpr auto linger_time = 2000ms;  // see Http_Connection::finish()
constexpr int max_requests_per_connection = 100'000;

void set_option(int socket, int level, int option, int value) {
  setsockopt(socket, level, option, &value, sizeof value);
}

// Whether IPv6 is available in the kernel and in the sandbox of this process.
bool has_ipv6() {
  const Descriptor socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return socket || errno != EAFNOSUPPORT;
}

// Presents an Http_Connection as a stream of cpp-httplib. Reads the request that was already
// parsed, and collects the answer until flush().
class Stream : public httplib::Stream {
 public:
  explicit Stream(Http_Connection& connection) : connection_(connection) {}

  ssize_t read(char* to, std::size_t size) override {
    const std::size_t n = connection_.request().copy(to, size, read_);
    read_ += n;
    return static_cast<ssize_t>(n);
  }
  ssize_t write(const char* data, std::size_t size) override {
    connection_.write({data, size});
    return static_cast<ssize_t>(size);
  }
  bool is_readable() const override { return read_ != connection_.request().size(); }
  bool is_writable() const override { return true; }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return connection_.socket(); }

 private:
  Http_Connection& connection_;
  std::size_t read_ = 0;
};

// Only the handling of parsed requests is used of cpp-httplib's server. Connections accepts
// connections, and Http_Connection parses requests. Handlers run in the threads of connections_.
class Httplib_Server : public Http_Server, private httplib::Server {
 public:
  Httplib_Server(const Connection_Limits& limits, Http_Handler handler, const Tls& tls,
                 const Stderr_Log& log)
      : tls_(tls),
        log_(log),
        handler_(std::move(handler)),
        connections_(limits, log, [this](int socket, const std::string& from, auto& waiting_since) {
          serve(socket, from, waiting_since);
        }) {
    // SO_REUSEPORT, cpp-httplib's default, is not set: a second primgr on the port must fail.
    // Connections inherit these buffers. They are small, so that a client that sends requests and
    // never reads is stopped soon.
    set_socket_options([](socket_t socket) {
      set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
      set_option(socket, SOL_SOCKET, SO_SNDBUF, 16 * 1024);
      set_option(socket, SOL_SOCKET, SO_RCVBUF, 16 * 1024);
    });
    set_default_headers({{"Cache-Control", "no-store"}});
    set_keep_alive_timeout(
        request_timeout.count());  // cpp-httplib puts it into its Keep-Alive headers
    set_keep_alive_max_count(max_requests_per_connection);
    set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& to) {
      answer(request, to);
      return HandlerResponse::Handled;
    });
    // Answers of the handler have a body. Answers to requests that cpp-httplib rejects have none.
    set_error_handler([](const httplib::Request&, httplib::Response& to) {
      if (to.body.empty()) {
        to.set_content(error_body(httplib::status_message(to.status)), "application/json");
      }
      return HandlerResponse::Handled;
    });
    set_post_routing_handler(set_connection_header);
    set_logger([this](const httplib::Request& request, const httplib::Response& to) {
      handler_.count(request.path, to.status);
      if (!log_.wants(Log_Level::debug)) return;  // saves the work of making the line
      log_(Log_Level::debug, request.method + " " + request.path + " " + std::to_string(to.status) +
                                 " to " + request.remote_addr);
    });
  }
  ~Httplib_Server() override {
    Httplib_Server::stop();
    connections_.wait();
    if (svr_sock_ != INVALID_SOCKET) ::close(svr_sock_);
  }

  bool bind(const Address& address) override {
    errno = 0;
    if (address.host != "*") return bind_to_port(address.host, address.port);
    // "*" is the notation of PostgreSQL and HAProxy for all addresses, IPv6 and IPv4.
    if (has_ipv6()) return bind_to_port("::", address.port);
    log_(Log_Level::info, "this host has no IPv6, so it is served over IPv4 alone");
    return bind_to_port("0.0.0.0", address.port);
  }
  int bind_to_any_port(const std::string& host) override {
    return httplib::Server::bind_to_any_port(host);
  }

  void run() override { connections_.run(static_cast<int>(svr_sock_)); }

  void stop() override {
    connections_.stop();
    if (svr_sock_ != INVALID_SOCKET) ::shutdown(svr_sock_, SHUT_RDWR);
  }

 private:
  // cpp-httplib sends "Connection: close" with each status from 400 on. In primgr, 503 is the
  // normal answer of a node in some states. So the connection stays open unless the client wants to
  // close it.
  static void set_connection_header(const httplib::Request& request, httplib::Response& to) {
    const std::string connection = request.get_header_value("Connection");
    if (connection == "close") return;
    if (to.status >= 400) to.headers.erase("Connection");
    if (!connection.empty()) to.set_header("Connection", connection);
  }

  void answer(const httplib::Request& request, httplib::Response& to) {
    // Http_Connection writes an Accept field only for a client that prefers HTML.
    Answer answer = handler_.answer({request.method, request.path, request.params,
                                     request.remote_addr, request.has_header("Accept")});
    to.status = answer.status;
    for (const auto& [name, value] : answer.headers) to.set_header(name, value);
    to.set_content(std::move(answer.body), answer.type);
  }

  // Serves the requests of one connection, one after the other. A Connections::Serve.
  void serve(int socket, const std::string& from, std::atomic<Deadline>& waiting_since) {
    // glibc aborts the process if it has no memory to register the destructor of a thread_local
    // variable, and cpp-httplib has such variables. So this throws std::bad_alloc first if there is
    // so little memory.
    ::operator delete(::operator new(64 * 1024));
    Http_Connection connection(socket, tls_.context());
    const auto begin = [&](Deadline now) {
      waiting_since = now;
      connection.set_deadline(now + request_timeout);
    };
    begin(waiting_since);
    bool refused = false;
    bool last = !connection.handshake();
    for (int left = max_requests_per_connection; !last && !connections_.stopping();
         begin(std::chrono::steady_clock::now())) {
      const auto received = connection.receive();
      if (!received.any) break;
      if (Memory_Reserve::is_spent()) throw std::bad_alloc();
      last = received.last || --left == 0;
      if (received.status) {
        // After a request that cannot be parsed, the beginning of the next one is not known.
        refused = last = true;
        refuse(received.status, received.is_head, from, connection);
      } else {
        Stream stream(connection);
        bool ended = false;
        last = !process_request(stream, from, 0, {}, 0, last, ended, nullptr) || last;
        last = !connection.flush() || last;
      }
    }
    connection.finish(refused ? linger_time : 0ms);
  }

  // Answers a request that cannot be parsed or is not allowed. The connection is closed after it.
  void refuse(int status, bool is_head, const std::string& from, Http_Connection& connection) {
    const char* reason = httplib::status_message(status);
    const std::string body = error_body(reason);
    connection.write("HTTP/1.1 " + std::to_string(status) + " " + reason +
                     "\r\nCache-Control: no-store\r\nConnection: close\r\n" +
                     (status == 405 ? "Allow: " + std::string(answered_methods) + "\r\n" : "") +
                     "Content-Length: " + std::to_string(body.size()) +
                     "\r\nContent-Type: application/json\r\n\r\n" + (is_head ? "" : body));
    if (!connection.flush()) return;
    handler_.count("other", status);
    if (!log_.wants(Log_Level::debug)) return;
    log_(Log_Level::debug, "refused with " + std::to_string(status) + " to " + from);
  }

  const Tls& tls_;
  const Stderr_Log& log_;
  const Http_Handler handler_;
  Connections connections_;  // the last member, because its threads use the members above
};

class Cpp_Httplib : public Http_Library {
 public:
  std::unique_ptr<Http_Client> make_client(Peer_Addresses addresses, Resolver& resolver,
                                           const Tls& tls) const override {
    return std::make_unique<Httplib_Client>(std::move(addresses), resolver, tls);
  }
  std::unique_ptr<Http_Server> make_server(const Connection_Limits& limits, Http_Handler handler,
                                           const Tls& tls, const Stderr_Log& log) const override {
    return std::make_unique<Httplib_Server>(limits, std::move(handler), tls, log);
  }
  Http_Reply ask_daemon(const Tls& tls, const Url& url, bool own, const std::string& path,
                        milliseconds limit) const override {
    return primgr::ask_daemon(tls, url, own, path, limit);
  }
};

}  // namespace

const Http_Library& cpp_httplib() {
  static const Cpp_Httplib library;
  return library;
}

// ---- the process --------------------------------------------------------------------------------

namespace {

int print_version() {
  std::cout << "primgr " PRIMGR_VERSION " (cpp-httplib " CPPHTTPLIB_VERSION ", libpq "
            << libpq_version() << ", " << OpenSSL_version(OPENSSL_VERSION) << ")\n";
  return flush_output(0);
}

// A command sends requests to the daemon of this host. The daemon requires a client's certificate
// only if it has tls_ca. So a user who may not read the key sends no certificate.
Tls_Files files_for_commands(const Tls_Files& files) {
  return access(files.key.c_str(), R_OK) == 0 ? files : Tls_Files();
}

// Runs the modes that need a configuration. Returns the exit status. Throws Input_Error.
int run_configured(const Options& options) {
  const Config config = load_config(options);
  Stderr_Log log(config.log_level, options.log_format);
  if (options.mode == Options::Mode::status || options.mode == Options::Mode::history) {
    return run_status(cpp_httplib(), config, options, log);
  }
  const bool runs =
      options.mode == Options::Mode::daemon || options.mode == Options::Mode::check_config;
  Tls tls(runs ? config.tls : files_for_commands(config.tls), log);
  if (options.mode == Options::Mode::lost || options.mode == Options::Mode::found) {
    return run_lost(cpp_httplib(), config, tls, options);
  }
  if (options.mode == Options::Mode::forget_timeline)
    return run_forget_timeline(cpp_httplib(), config, tls);
  if (options.mode == Options::Mode::drain || options.mode == Options::Mode::undrain) {
    return run_drain(cpp_httplib(), config, tls, options);
  }
  if (options.mode == Options::Mode::check_config) {
    Grant_File::check(config.state_file);
    if (!config.state_directory.empty()) State_Directory::check(config.state_directory);
    Change_Hook::check(config.on_change);
    std::cout << print_config(config);
    return flush_output(0);
  }
  if (options.mode == Options::Mode::once) run_once(cpp_httplib(), config, tls, options, log);
  return run_daemon(
      cpp_httplib(), config, [&options] { return load_config(options); }, tls, log);
}

}  // namespace

int run(int argc, char** argv) {
  Options options;
  try {
    options = parse_options(argc, argv);
  } catch (const Input_Error& error) {
    const int status = report_error(error, exit_usage);
    std::cerr << "Try primgr --help\n";
    return status;
  }
  try {
    switch (options.mode) {
      case Options::Mode::help:
        std::cout << usage;
        return flush_output(0);
      case Options::Mode::version:
        return print_version();
      case Options::Mode::look:
        return run_look(options);
      default:
        return run_configured(options);
    }
  } catch (const Input_Error& error) {
    return report_error(error, exit_config);
  } catch (const std::exception& error) {  // std::system_error for threads, or std::bad_alloc
    return report_error(error, exit_unavailable);
  }
}

}  // namespace primgr

// Weak, because the tests and the fuzzers link this unit and have a separate main().
[[gnu::weak]] int main(int argc, char** argv) {
  // Opens standard streams that are closed. Otherwise the next socket would get the descriptor of
  // standard error, and the log would be written to the socket.
  int fd;
  while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO) {
    // Opened only for reading, so that writing to it is an error, which is reported.
    if (fd == STDOUT_FILENO && close(fd) == 0) open("/dev/null", O_RDONLY);
  }
  if (fd > STDERR_FILENO) close(fd);
  // A static glibc would load the host's NSS modules, which may be built for another glibc. The
  // modules files and dns are linked into it.
  __nss_configure_lookup("hosts", "files dns");
  __nss_configure_lookup("passwd", "files");
  // Each further arena reserves 64 MB of address space, which may be limited (RLIMIT_AS).
  mallopt(M_ARENA_MAX, 1);
  primgr::Memory_Reserve::install();
  signal(SIGPIPE, SIG_IGN);
  // run_daemon() handles these. They must not end the other commands when they are sent to all
  // processes of this name.
  signal(SIGUSR1, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  return primgr::run(argc, argv);
}
