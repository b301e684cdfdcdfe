#include "daemon/connections.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <new>

#include "daemon/memory_reserve.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// How many this process may have open.
std::size_t max_descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  return std::clamp<std::size_t>(limit.rlim_cur, 16, 1 << 20);
}

}  // namespace

Connection_Limits::Connection_Limits(int http_threads, const Stderr_Log& log) {
  const std::size_t descriptors = max_descriptors();
  const std::size_t wanted = 32 * static_cast<std::size_t>(http_threads);
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
      threads_(std::make_unique<Threads>(Threads::Limits{
          Connection_Limits::min, limits.max + limits.max_evicted_open, stack, spare_memory})) {}

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
      take_connection();
    } catch (const std::bad_alloc&) {
      shrink("no memory for another connection");
    }
    Memory_Reserve::refill();
  }
}

void Connections::stop() {
  stopping_ = true;
  const std::lock_guard lock(mutex_);
  for (const Held& held : held_) ::shutdown(held.socket, SHUT_RD);
}

Connections::Source Connections::source(const sockaddr_storage& from) {
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

void Connections::take_connection() {
  if (starved_.exchange(false)) shrink("no memory for a connection");
  {
    // Of a burst, those that were closed for others are to leave first.
    std::unique_lock lock(mutex_);
    left_.wait_for(lock, 100ms,
                   [this] { return held_.size() < capacity_ + limits_.max_evicted_open; });
  }
  sockaddr_storage from{};
  socklen_t size = sizeof from;
  Descriptor socket(
      accept4(listening_, reinterpret_cast<sockaddr*>(&from), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket) {
    serve_soon(socket, source(from));
  } else if (!stopping_ && errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
    shrink("cannot take a connection", errno);
  }
}

void Connections::serve_soon(Descriptor& socket, const Source& from) {
  const int on = 1;
  setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  Held* held;
  {
    const std::lock_guard lock(mutex_);
    std::size_t all = 0, of_address = 0;
    for (const Held& other : held_) {
      if (other.evicted) continue;
      ++all;
      of_address += other.from == from;
    }
    if (of_address >= std::max<std::size_t>(capacity_ / 4, 1)) {
      evict_one_of(&from);
    } else if (all >= capacity_) {
      evict_one_of(nullptr);
    }
    held = &held_.emplace_back(socket.get(), from);
  }
  std::optional<std::size_t> threads;
  try {
    threads = threads_->run([this, held] { serve(*held); });
    socket.release();  // serve()'s now
  } catch (const std::bad_alloc&) {
    const std::lock_guard lock(mutex_);
    held_.pop_back();
    throw;
  }
  // Those that were told to go give their threads up in a moment.
  if (threads && count_staying() > *threads) {
    shrink("no thread for another connection");
  } else if (const auto now = std::chrono::steady_clock::now(); now >= grow_at_) {
    capacity_ = std::min(limits_.max, capacity_ + capacity_ / 8 + 1);
    grow_at_ = now + 1s;
  }
}

std::size_t Connections::count_staying() {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(
      std::count_if(held_.begin(), held_.end(), [](const Held& held) { return !held.evicted; }));
}

void Connections::shrink(const char* what, int error) noexcept {
  try {
    log_exhausted(what + (error ? std::string(": ") + std::strerror(error) : ""));
  } catch (const std::bad_alloc&) {
  }
  std::size_t stay = count_staying();
  capacity_ = std::clamp<std::size_t>(stay, Connection_Limits::min + 1, limits_.max) - 1;
  grow_at_ = std::chrono::steady_clock::now() + 1s;
  std::unique_lock lock(mutex_);
  const std::size_t before = held_.size();
  for (bool none_goes = stay >= before; none_goes || stay > capacity_; none_goes = false) {
    const Source* most = heaviest();
    if (!most || !evict_one_of(most)) break;
    --stay;
  }
  left_.wait_for(lock, before ? 100ms : 5ms, [&] { return held_.size() < before; });
}

const Connections::Source* Connections::heaviest() const {
  const Held* heaviest = nullptr;
  std::ptrdiff_t most = 0;
  for (const Held& held : held_) {
    if (held.evicted) continue;
    const auto count = std::count_if(held_.begin(), held_.end(), [&](const Held& other) {
      return !other.evicted && other.from == held.from;
    });
    const bool longer = heaviest && held.waiting_since.load() < heaviest->waiting_since.load();
    if (count > most || (count == most && longer)) {
      most = count;
      heaviest = &held;
    }
  }
  return heaviest ? &heaviest->from : nullptr;
}

bool Connections::evict_one_of(const Source* from) {
  Held* longest = nullptr;
  for (Held& held : held_) {
    if (held.evicted || (from && held.from != *from)) continue;
    if (!longest || held.waiting_since.load() < longest->waiting_since.load()) longest = &held;
  }
  if (!longest) return false;
  longest->evicted = true;
  ::shutdown(longest->socket, SHUT_RDWR);
  return true;
}

void Connections::log_exhausted(const std::string& what) {
  const auto now = std::chrono::steady_clock::now();
  if (now < quiet_until_) return;
  quiet_until_ = now + 1min;
  log_(Log_Level::error, what +
                             ": connections that wait longest are closed (more LimitNOFILE, "
                             "LimitNPROC or memory helps)");
}

void Connections::serve(Held& held) {
  try {
    serve_(held.socket, print(held.from), held.waiting_since);
  } catch (const std::exception&) {
    // There was no memory for it; the accepting thread sees to it that there will be.
    starved_ = true;
  }
  const std::lock_guard lock(mutex_);
  ::close(held.socket);
  held_.remove_if([&](const Held& other) { return &other == &held; });
  left_.notify_one();
}

}  // namespace primgr
