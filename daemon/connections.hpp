// The connections that clients have to the HTTP server: who gets in, and who must go.

#pragma once

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "daemon/descriptor.hpp"
#include "daemon/log.hpp"
#include "daemon/threads.hpp"
#include "node/units.hpp"

namespace primgr {

// How many connections there may be.
struct Connection_Limits {
  // 32 for each of http_threads, but no more than half of the file descriptors: the database and
  // the peers need theirs. Warns if those are few.
  Connection_Limits(int http_threads, const Stderr_Log& log);

  std::size_t max;
  // Beyond that: those that were told to go, and go when nothing is waited for.
  std::size_t max_evicted_open;
  static constexpr std::size_t min = 4;  // connections, and threads
};

// A check must get its answer whoever else is connected, so a connection holds a thread, but none
// for long: when there are `capacity_` connections, or a quarter of that from one address, the one
// that has been waiting longest is closed for the new.
//
// A connection that is closed while its request waits goes only when that has its answer: as many
// may wait as there is room for beyond capacity_, so that they keep nobody out.
//
// Where descriptors, threads or memory run out all the same, capacity_ is as many connections as
// there turned out to be enough for, and those of the address that has the most are closed until it
// holds. It grows again slowly.
//
// The mutex guards the list of connections. A connection is its thread's; others only shut its
// socket down, which is safe as long as it is in the list. capacity_ is the accepting thread's.
class Connections {
 public:
  // Serves one connection: `socket`, which it leaves open, of a client at the address `from`. It
  // sets `waiting_since` when it begins to wait for a request, so that the longest waiting is
  // known. What it throws for want of memory ends the connection.
  using Serve = std::function<void(int socket, const std::string& from,
                                   std::atomic<Deadline>& waiting_since)>;

  // Throws std::system_error if there is no thread to be had.
  Connections(const Connection_Limits& limits, const Stderr_Log& log, Serve serve);
  ~Connections();
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  // Takes connections from a listening socket until stop(). Blocks. Call it once.
  void run(int listening);
  // Ends each connection after the answer that is under way, and run() as soon as accept4()
  // returns: shut the listening socket down too. From any thread.
  void stop();
  // Waits for the connections, after stop(). The destructor does both.
  void wait();
  bool stopping() const { return stopping_; }

 private:
  static constexpr std::size_t stack = 256 * 1024;
  static constexpr std::size_t spare_memory = 8 << 20;  // bytes that connections leave to others

  using Source = std::array<unsigned char, 16>;  // an IPv6 address, also for IPv4

  // A connection.
  struct Held {
    Held(int s, Source f) : socket(s), from(f) {}
    const int socket;
    const Source from;
    std::atomic<Deadline> waiting_since{std::chrono::steady_clock::now()};
    bool evicted = false;
  };

  static Source source(const sockaddr_storage& from);

  static std::string print(const Source& source);

  void take_connection();

  void serve_soon(Descriptor& socket, const Source& from);

  // How many connections were not told to go.
  std::size_t count_staying();

  // There is not enough for the connections that there are: there are to be fewer. Waits a moment
  // for one to leave. Needs no memory but for the log.
  void shrink(const char* what, int error = 0) noexcept;

  // The address with the most connections, of several that with the longest waiting one; null
  // without any. REQUIRES mutex_.
  const Source* heaviest() const;

  // Ends the connection that has been waiting longest, of the address `from`, or of any if that is
  // null; false if there is none. REQUIRES mutex_.
  bool evict_one_of(const Source* from);

  // Once a minute at most. The accepting thread's.
  void log_exhausted(const std::string& what);

  void serve(Held& held);

  const Connection_Limits limits_;
  const Stderr_Log& log_;
  const Serve serve_;
  int listening_ = -1;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> starved_{false};  // a connection had no memory
  std::size_t capacity_;
  Deadline grow_at_{};
  Deadline quiet_until_{};
  std::mutex mutex_;
  std::list<Held> held_;
  std::condition_variable left_;
  std::unique_ptr<Threads> threads_;
};

}  // namespace primgr
