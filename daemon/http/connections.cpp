#include "daemon/http/connections.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <new>

#include "base/memory_reserve.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

std::size_t max_descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  return std::clamp<std::size_t>(limit.rlim_cur, 16, 1 << 20);
}

}  // namespace

Connection_Limits::Connection_Limits(std::size_t wanted, const Stderr_Log& log) {
  const std::size_t descriptors = max_descriptors();
  max = std::min(wanted, descriptors / 2);
  max_evicted_open = std::clamp<std::size_t>(max / 4, 2, 64);
  if (max == wanted) return;
  log(Log_Level::warning,
      "only " + std::to_string(descriptors) + " file descriptors: " + std::to_string(max) + " of " +
          std::to_string(wanted) + " connections can be served at a time (raise LimitNOFILE)");
}

Connections::Connections(const Connection_Limits& limits, const Stderr_Log& log, Serve serve)
    : limits_(limits),
      log_(log),
      serve_(std::move(serve)),
      capacity_(limits.max),
      threads_(std::make_unique<Thread_Pool>(
          Thread_Pool::Limits{Connection_Limits::min, limits.max + limits.max_evicted_open, stack,
                              spare_address_space})) {}

Connections::~Connections() {
  stop();
  wait();
}

void Connections::wait() {
  threads_.reset();
}

void Connections::run(int listening) {
  listening_ = listening;
  while (!stopping_) {
    try {
      accept_connection();
    } catch (const std::bad_alloc&) {
      shrink("no memory for another connection");
    }
    Memory_Reserve::refill();
  }
}

void Connections::stop() {
  stopping_ = true;
  const Mutex_Lock lock(mutex_);
  for (const Connection& connection : connections_) ::shutdown(connection.socket, SHUT_RD);
}

Connections::Source Connections::source_of(const sockaddr_storage& from) {
  Source bytes{};
  if (from.ss_family == AF_INET6) {
    std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6&>(from).sin6_addr, 16);
  } else {
    bytes[10] = bytes[11] = 0xff;
    std::memcpy(&bytes[12], &reinterpret_cast<const sockaddr_in&>(from).sin_addr, 4);
  }
  return bytes;
}

std::string Connections::print(const Source& source) {
  char text[INET6_ADDRSTRLEN] = "";
  const bool ipv4 = IN6_IS_ADDR_V4MAPPED(reinterpret_cast<const in6_addr*>(source.data()));
  inet_ntop(ipv4 ? AF_INET : AF_INET6, source.data() + (ipv4 ? 12 : 0), text, sizeof text);
  return text;
}

void Connections::accept_connection() {
  if (out_of_memory_.exchange(false)) shrink("no memory for a connection");
  {
    // In a burst, this waits for evicted connections to end, so that their number stays bounded.
    const Mutex_Lock lock(mutex_);
    const Deadline until = std::chrono::steady_clock::now() + 100ms;
    while (connections_.size() >= capacity_ + limits_.max_evicted_open &&
           connection_closed_.wait_until(mutex_, until)) {
    }
  }
  sockaddr_storage from{};
  socklen_t size = sizeof from;
  Descriptor socket(
      accept4(listening_, reinterpret_cast<sockaddr*>(&from), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket) {
    admit(socket, source_of(from));
  } else if (!stopping_ && errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
    shrink("cannot take a connection", errno);
  }
}

void Connections::admit(Descriptor& socket, const Source& from) {
  const int on = 1;
  setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  Connection* connection;
  {
    const Mutex_Lock lock(mutex_);
    std::size_t all = 0, of_address = 0;
    for (const Connection& other : connections_) {
      if (other.evicted) continue;
      ++all;
      of_address += other.from == from;
    }
    if (of_address >= std::max<std::size_t>(capacity_ / 4, 1)) {
      evict_longest_waiting(&from);
    } else if (all >= capacity_) {
      evict_longest_waiting(nullptr);
    }
    connection = &connections_.emplace_back(socket.get(), from);
  }
  std::optional<std::size_t> threads;
  try {
    threads = threads_->run([this, connection] { serve(*connection); });
    socket.release();  // serve() closes it
  } catch (const std::bad_alloc&) {
    const Mutex_Lock lock(mutex_);
    connections_.pop_back();
    throw;
  }
  // Evicted connections do not count, because they release their threads in a moment.
  if (threads && count_not_evicted() > *threads) {
    shrink("no thread for another connection");
  } else if (const auto now = std::chrono::steady_clock::now(); now >= grow_at_) {
    capacity_ = std::min(limits_.max, capacity_ + capacity_ / 8 + 1);
    grow_at_ = now + 1s;
  }
}

std::size_t Connections::count_not_evicted() {
  const Mutex_Lock lock(mutex_);
  return static_cast<std::size_t>(
      std::count_if(connections_.begin(), connections_.end(),
                    [](const Connection& connection) { return !connection.evicted; }));
}

void Connections::shrink(const char* what, int error) noexcept {
  try {
    log_exhausted(what + (error ? std::string(": ") + std::strerror(error) : ""));
  } catch (const std::bad_alloc&) {
  }
  std::size_t remaining = count_not_evicted();
  capacity_ = std::clamp<std::size_t>(remaining, Connection_Limits::min + 1, limits_.max) - 1;
  grow_at_ = std::chrono::steady_clock::now() + 1s;
  const Mutex_Lock lock(mutex_);
  const std::size_t before = connections_.size();
  // At least one is evicted. The exception: a connection that was evicted before has not ended yet.
  for (bool must_evict = remaining >= before; must_evict || remaining > capacity_;
       must_evict = false) {
    const Source* most = busiest_source();
    if (!most || !evict_longest_waiting(most)) break;
    --remaining;
  }
  const Deadline until = std::chrono::steady_clock::now() + (before ? 100ms : 5ms);
  do {
  } while (connections_.size() >= before && connection_closed_.wait_until(mutex_, until));
}

const Connections::Source* Connections::busiest_source() const {
  const Connection* busiest = nullptr;
  std::ptrdiff_t most = 0;
  for (const Connection& connection : connections_) {
    if (connection.evicted) continue;
    const auto count = std::count_if(
        connections_.begin(), connections_.end(),
        [&](const Connection& other) { return !other.evicted && other.from == connection.from; });
    const bool longer = busiest && connection.waiting_since.load() < busiest->waiting_since.load();
    if (count > most || (count == most && longer)) {
      most = count;
      busiest = &connection;
    }
  }
  return busiest ? &busiest->from : nullptr;
}

bool Connections::evict_longest_waiting(const Source* from) {
  Connection* longest = nullptr;
  for (Connection& connection : connections_) {
    if (connection.evicted || (from && connection.from != *from)) continue;
    if (!longest || connection.waiting_since.load() < longest->waiting_since.load())
      longest = &connection;
  }
  if (!longest) return false;
  longest->evicted = true;
  ::shutdown(longest->socket, SHUT_RDWR);
  return true;
}

void Connections::log_exhausted(const std::string& what) {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_exhausted_log_) return;
  next_exhausted_log_ = now + 1min;
  log_(Log_Level::error, what +
                             ": connections that wait longest are closed (more LimitNOFILE, "
                             "LimitNPROC or memory helps)");
}

void Connections::serve(Connection& connection) {
  try {
    serve_(connection.socket, print(connection.from), connection.waiting_since);
  } catch (const std::exception&) {
    // Out of memory. The accepting thread will evict connections, which frees memory.
    out_of_memory_ = true;
  }
  const Mutex_Lock lock(mutex_);
  ::close(connection.socket);
  connections_.remove_if([&](const Connection& other) { return &other == &connection; });
  connection_closed_.notify_one();
}

}  // namespace primgr
