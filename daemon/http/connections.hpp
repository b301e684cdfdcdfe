// The connections of clients to the HTTP server: decides which are served, and which are closed to
// make room for others.

#pragma once

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <string>

#include "base/descriptor.hpp"
#include "base/log.hpp"
#include "base/mutex.hpp"
#include "base/thread_pool.hpp"
#include "base/time.hpp"

namespace primgr {

// The limits of the number of client connections.
struct Connection_Limits {
  // The limit is `wanted`, but no more than half of the file descriptors (RLIMIT_NOFILE), so that
  // enough are left for the database and the peers. Logs a warning if the limit is lower than
  // `wanted`.
  Connection_Limits(std::size_t wanted, const Stderr_Log& log);

  std::size_t max;
  // In addition to `max`: connections that were evicted and still wait for the answer to a request.
  std::size_t max_evicted_open;
  static constexpr std::size_t min = 4;  // also the lowest number of threads
};

// A health check must get its answer, whichever other clients are connected. Each connection has a
// thread, and no client can hold one for ever. The limits are `capacity_` connections, and a
// quarter of that from one address. At a limit, the connection that has been waiting longest for a
// request is evicted for the new one: its socket is shut down.
//
// The thread of an evicted connection ends only when the current request has its answer. Up to
// max_evicted_open connections beyond capacity_ may be in that state, so that they do not keep new
// clients out.
//
// If descriptors, threads or memory run out nevertheless, capacity_ is lowered to the number of
// connections that there were enough resources for. Connections are then evicted until there are no
// more than that, from the address that has the most. Then capacity_ grows again, by an eighth a
// second.
//
// The mutex guards the list of connections and `evicted` of each. A connection is served by one
// thread, and only this thread closes its socket. Other threads may shut the socket down while they
// hold the mutex and the connection is in the list. Nothing is read or written while the mutex is
// held. capacity_, grow_at_ and next_exhausted_log_ belong to the thread in run(), the accepting
// thread.
class Connections {
 public:
  // Serves one connection, of a client at the IP address `from`, and leaves `socket` open. It sets
  // `waiting_since` whenever it begins to wait for a request. Eviction uses that time. It may throw
  // std::bad_alloc, which ends the connection.
  using Serve = std::function<void(int socket, const std::string& from,
                                   std::atomic<Deadline>& waiting_since)>;

  // Throws std::system_error if no thread can be started.
  Connections(const Connection_Limits& limits, const Stderr_Log& log, Serve serve);
  ~Connections();
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  // Accepts connections from a listening socket until stop(). Blocks. Call it once.
  void run(int listening);
  // Ends each connection after its current answer. Does not wake accept4(), so the caller must also
  // shut the listening socket down. May be called by any thread.
  void stop();
  // Blocks until the connections have ended. REQUIRES: stop() was called. The destructor calls
  // both.
  void wait();
  bool stopping() const { return stopping_; }

 private:
  static constexpr std::size_t stack = 256 * 1024;             // bytes of each thread
  static constexpr std::size_t spare_address_space = 8 << 20;  // bytes: see Thread_Pool::Limits

  using Source = std::array<unsigned char, 16>;  // an IPv6 address, also for IPv4

  struct Connection {
    Connection(int client, Source address) : socket(client), from(address) {}
    const int socket;
    const Source from;
    std::atomic<Deadline> waiting_since{std::chrono::steady_clock::now()};
    bool evicted = false;  // its socket was shut down to make room; its thread has not ended yet
  };

  static Source source_of(const sockaddr_storage& from);

  static std::string print(const Source& source);

  // Waits for a connection, and admits it. Throws std::bad_alloc.
  void accept_connection();

  // Evicts a connection if there are too many, and gives the new connection to a thread. Takes
  // ownership of `socket` unless it throws std::bad_alloc.
  void admit(Descriptor& socket, const Source& from);

  std::size_t count_not_evicted();

  // Lowers capacity_ and evicts connections, because resources have run out. `what` names the
  // problem, `error` is its errno. Waits 100 ms at most for a connection to end. Allocates only the
  // log line.
  void shrink(const char* what, int error = 0) noexcept;

  // The address with the most connections. If there are several, the address whose connection has
  // been waiting longest. Null if there is no connection.
  const Source* busiest_source() const REQUIRES(mutex_);

  // Evicts the connection from the address `from` (null: any address) that has been waiting
  // longest. Returns false if there is none.
  bool evict_longest_waiting(const Source* from) REQUIRES(mutex_);

  // Logs once a minute at most.
  void log_exhausted(const std::string& what);

  void serve(Connection& connection);

  const Connection_Limits limits_;
  const Stderr_Log& log_;
  const Serve serve_;
  int listening_ = -1;
  std::atomic<bool> stopping_{false};
  // Set by the threads of connections, for the accepting thread.
  std::atomic<bool> out_of_memory_{false};
  std::size_t capacity_;
  Deadline grow_at_{};
  Deadline next_exhausted_log_{};
  Mutex mutex_;
  std::list<Connection> connections_ GUARDED_BY(mutex_);
  Condition connection_closed_;
  std::unique_ptr<Thread_Pool> threads_;
};

}  // namespace primgr
