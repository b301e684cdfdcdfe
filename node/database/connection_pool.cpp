#include "node/database/connection_pool.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <new>
#include <utility>

namespace primgr {

namespace {

// Whether the server has closed the connection `fd`. Data that it still sends is discarded.
bool is_closed_by_server(int fd) {
  char rest[4096];
  ssize_t n;
  while ((n = ::recv(fd, rest, sizeof rest, MSG_DONTWAIT)) > 0) {
  }
  return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

// A host that vanished closes no connection, so keepalive must find that out: within a minute.
// Unix sockets do not have the TCP options, and do not need them.
void enable_keepalive(int fd) {
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
  const Mutex_Lock lock(mutex_);
  for (const Closing& closing : closing_) {
    PQcancelFinish(closing.cancel);
    PQfinish(closing.connection);
  }
  for (PGconn* connection : idle_) PQfinish(connection);
  open_ -= closing_.size() + idle_.size();
  closing_.clear();
  idle_.clear();
}

PGconn* Connection_Pool::take() {
  const Mutex_Lock lock(mutex_);
  if (idle_.empty()) return nullptr;
  PGconn* connection = idle_.front();
  idle_.pop_front();
  return connection;
}

bool Connection_Pool::reserve(std::size_t spare) {
  const Mutex_Lock lock(mutex_);
  if (open_ + spare >= max_) return false;
  ++open_;
  return true;
}

void Connection_Pool::put(PGconn* connection) {
  try {
    const Mutex_Lock lock(mutex_);
    idle_.push_back(connection);
    return;
  } catch (const std::bad_alloc&) {
    // Without memory for the list of idle connections, the connection cannot be added.
  }
  discard(connection);
}

void Connection_Pool::discard(PGconn* connection) {
  const Mutex_Lock lock(mutex_);
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
  enable_keepalive(fd);
  // A backend that hangs notices this when it reads again. PQfinish() would close the socket, and
  // then nothing would show when the backend has ended.
  ::shutdown(fd, SHUT_WR);
  closing_.push_back({connection, cancel, POLLOUT});
}

void Connection_Pool::advance_cancel(Closing& closing) {
  if (!closing.cancel) return;
  pollfd ready{PQcancelSocket(closing.cancel), closing.cancel_events, 0};
  if (::poll(&ready, 1, 0) <= 0) return;
  switch (PQcancelPoll(closing.cancel)) {
    case PGRES_POLLING_READING:
      closing.cancel_events = POLLIN;
      break;
    case PGRES_POLLING_WRITING:
      closing.cancel_events = POLLOUT;
      break;
    default:  // sent, or failed: then statement_timeout ends the statement
      PQcancelFinish(std::exchange(closing.cancel, nullptr));
  }
}

bool Connection_Pool::reap_closed() {
  const Mutex_Lock lock(mutex_);
  const auto gone = std::erase_if(closing_, [](Closing& closing) {
    advance_cancel(closing);
    if (!is_closed_by_server(PQsocket(closing.connection))) return false;
    PQcancelFinish(closing.cancel);
    PQfinish(closing.connection);
    return true;
  });
  open_ -= gone;
  return gone > 0;
}

bool Connection_Pool::discard_lost() {
  std::vector<PGconn*> lost;
  {
    const Mutex_Lock lock(mutex_);
    lost.reserve(idle_.size());  // no exception may end erase_if()
    std::erase_if(idle_, [&](PGconn* connection) {
      // Reads asynchronous messages, such as a changed parameter or the end of the connection.
      const bool alive = PQconsumeInput(connection) == 1 && !PQisBusy(connection) &&
                         PQstatus(connection) == CONNECTION_OK;
      if (!alive) lost.push_back(connection);
      return !alive;
    });
  }
  for (PGconn* connection : lost) discard(connection);
  return !lost.empty();
}

void Connection_Pool::add_pollfds(std::vector<pollfd>& pollfds) const {
  const Mutex_Lock lock(mutex_);
  for (PGconn* connection : idle_) pollfds.push_back({PQsocket(connection), POLLIN, 0});
  for (const Closing& closing : closing_) {
    pollfds.push_back({PQsocket(closing.connection), POLLIN, 0});
    if (closing.cancel) {
      pollfds.push_back({PQcancelSocket(closing.cancel), closing.cancel_events, 0});
    }
  }
}

std::size_t Connection_Pool::open() const {
  const Mutex_Lock lock(mutex_);
  return open_;
}

std::size_t Connection_Pool::idle() const {
  const Mutex_Lock lock(mutex_);
  return idle_.size();
}

}  // namespace primgr
