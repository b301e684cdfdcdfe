#include "node/connection_pool.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <new>
#include <utility>

namespace primgr {

namespace {

// Whether the other side has ended the connection of `fd`. What it still sends is thrown away.
bool is_ended(int fd) {
  char rest[4096];
  ssize_t n;
  while ((n = ::recv(fd, rest, sizeof rest, MSG_DONTWAIT)) > 0) {
  }
  return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

// A host that vanished with the server on it closes nothing: TCP is to find that out in a minute.
// Other sockets do not know these options, and need none.
void watch_peer(int fd) {
  const auto set = [&](int level, int option, int value) {
    setsockopt(fd, level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 15);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 60'000);
}

}  // namespace

Connection_Pool::~Connection_Pool() {
  close();
}

void Connection_Pool::close() {
  const std::lock_guard lock(mutex_);
  for (const Leaving& leaving : leaving_) {
    PQcancelFinish(leaving.cancel);
    PQfinish(leaving.connection);
  }
  for (PGconn* connection : idle_) PQfinish(connection);
  open_ -= leaving_.size() + idle_.size();
  leaving_.clear();
  idle_.clear();
}

PGconn* Connection_Pool::take() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return nullptr;
  PGconn* connection = idle_.front();
  idle_.pop_front();
  return connection;
}

bool Connection_Pool::reserve(std::size_t spare) {
  const std::lock_guard lock(mutex_);
  if (open_ + spare >= max_) return false;
  ++open_;
  return true;
}

void Connection_Pool::put(PGconn* connection) {
  try {
    const std::lock_guard lock(mutex_);
    idle_.push_back(connection);
    return;
  } catch (const std::bad_alloc&) {
    // There is no memory to keep it.
  }
  discard(connection);
}

void Connection_Pool::discard(PGconn* connection) {
  const std::lock_guard lock(mutex_);
  const int fd = connection ? PQsocket(connection) : -1;
  if (fd < 0) {
    PQfinish(connection);
    --open_;
    return;
  }
  PGcancelConn* cancel = nullptr;
  if (PQstatus(connection) == CONNECTION_OK && PQtransactionStatus(connection) == PQTRANS_ACTIVE) {
    cancel = PQcancelCreate(connection);
    if (!PQcancelStart(cancel)) PQcancelFinish(std::exchange(cancel, nullptr));
  }
  watch_peer(fd);
  // The server reads the end as soon as it listens again. Not PQfinish(): that would close the
  // socket, and with it the only sign that the backend has gone.
  ::shutdown(fd, SHUT_WR);
  leaving_.push_back({connection, cancel, POLLOUT});
}

void Connection_Pool::advance_cancel(Leaving& leaving) {
  if (!leaving.cancel) return;
  pollfd ready{PQcancelSocket(leaving.cancel), leaving.cancel_events, 0};
  if (::poll(&ready, 1, 0) <= 0) return;
  switch (PQcancelPoll(leaving.cancel)) {
    case PGRES_POLLING_READING:
      leaving.cancel_events = POLLIN;
      break;
    case PGRES_POLLING_WRITING:
      leaving.cancel_events = POLLOUT;
      break;
    default:  // sent, or it cannot be: the statement has a timeout of its own
      PQcancelFinish(std::exchange(leaving.cancel, nullptr));
  }
}

bool Connection_Pool::collect() {
  const std::lock_guard lock(mutex_);
  const auto gone = std::erase_if(leaving_, [](Leaving& leaving) {
    advance_cancel(leaving);
    if (!is_ended(PQsocket(leaving.connection))) return false;
    PQcancelFinish(leaving.cancel);
    PQfinish(leaving.connection);
    return true;
  });
  open_ -= gone;
  return gone > 0;
}

bool Connection_Pool::drop_lost() {
  std::vector<PGconn*> lost;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(idle_, [&](PGconn* connection) {
      // Asynchronous messages (a changed parameter, a farewell) are read and forgotten.
      const bool alive = PQconsumeInput(connection) == 1 && !PQisBusy(connection) &&
                         PQstatus(connection) == CONNECTION_OK;
      if (!alive) lost.push_back(connection);
      return !alive;
    });
  }
  for (PGconn* connection : lost) discard(connection);
  return !lost.empty();
}

void Connection_Pool::watch(std::vector<pollfd>& into) const {
  const std::lock_guard lock(mutex_);
  for (PGconn* connection : idle_) into.push_back({PQsocket(connection), POLLIN, 0});
  for (const Leaving& leaving : leaving_) {
    into.push_back({PQsocket(leaving.connection), POLLIN, 0});
    if (leaving.cancel) {
      into.push_back({PQcancelSocket(leaving.cancel), leaving.cancel_events, 0});
    }
  }
}

std::size_t Connection_Pool::open() const {
  const std::lock_guard lock(mutex_);
  return open_;
}

std::size_t Connection_Pool::idle() const {
  const std::lock_guard lock(mutex_);
  return idle_.size();
}

}  // namespace primgr
