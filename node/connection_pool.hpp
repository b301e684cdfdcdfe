// The connections to the local database.

#pragma once

#include <libpq-fe.h>
#include <poll.h>

#include <cstddef>
#include <deque>
#include <mutex>
#include <vector>

namespace primgr {

// The connections to the local database, `max` at most. One counts until the *server* has closed
// its end: a backend that hangs goes on existing, and holding its locks, however its client left.
//
// Thread-safe: the mutex guards all that is below it; nothing blocks while it is held. A connection
// is used by the one who took it.
class Connection_Pool {
 public:
  explicit Connection_Pool(std::size_t max) : max_(max) { leaving_.reserve(max); }
  ~Connection_Pool();
  Connection_Pool(const Connection_Pool&) = delete;
  Connection_Pool& operator=(const Connection_Pool&) = delete;

  // An idle connection, or null. Give it back with put() or discard().
  PGconn* take();
  // Leave to open one more connection; false if that would leave less than `spare` for others.
  // Follow with put() or discard().
  bool reserve(std::size_t spare = 0);
  void put(PGconn* connection);
  // Gives a connection up (null: gives a reservation back): cancels its statement and ends our side
  // of it. Its place is free when collect() finds that the server has ended the other.
  void discard(PGconn* connection);
  // Goes on with what discard() began. Returns whether a place became free.
  bool collect();
  // Discards the idle connections that are gone. Returns whether there were any.
  bool drop_lost();
  // Adds what to poll(2) for, for collect() and drop_lost().
  void watch(std::vector<pollfd>& into) const;
  // Closes all that nobody has taken, and waits for nothing.
  void close();
  std::size_t open() const;
  std::size_t idle() const;  // of those

 private:
  // A connection that was given up, and the request to cancel its statement.
  struct Leaving {
    PGconn* connection;
    PGcancelConn* cancel;
    short cancel_events;
  };
  static void advance_cancel(Leaving& leaving);

  const std::size_t max_;
  mutable std::mutex mutex_;
  std::deque<PGconn*> idle_;
  std::vector<Leaving> leaving_;
  std::size_t open_ = 0;
};

}  // namespace primgr
