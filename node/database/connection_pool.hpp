// The connections to the local database.

#pragma once

#include <libpq-fe.h>
#include <poll.h>

#include <cstddef>
#include <deque>
#include <vector>

#include "base/mutex.hpp"

namespace primgr {

// The connections to the local database, `max` at most. A connection counts until the *server* has
// closed its end: a backend that hangs keeps its slot and its locks after its client has gone.
//
// Thread-safe. Under the mutex, libpq is called only where it does not block, and no other mutex is
// taken. It may be taken while Repmgr_Node's mutex is held. A connection that take() has returned
// belongs to the caller until put() or discard().
class Connection_Pool {
 public:
  explicit Connection_Pool(std::size_t max) : max_(max) { closing_.reserve(max); }
  ~Connection_Pool();
  Connection_Pool(const Connection_Pool&) = delete;
  Connection_Pool& operator=(const Connection_Pool&) = delete;

  // An idle connection, or null. Give it back with put() or discard().
  PGconn* take();
  // Reserves a slot for a connection that the caller will open; false if that would leave fewer
  // than `spare` free slots. The caller must call put() or discard() later.
  bool reserve(std::size_t spare = 0);
  void put(PGconn* connection);
  // Cancels the connection's statement and shuts down the client's side. The slot becomes free when
  // reap_closed() finds that the server has closed its side. Null: frees a slot that was reserved.
  void discard(PGconn* connection);
  // Sends pending cancel requests, and frees discarded connections that the server has closed.
  // Returns whether a slot became free. Does not block.
  bool reap_closed();
  // Discards the idle connections that are broken. Returns whether there were any.
  bool discard_lost();
  // Adds what poll(2) must wait for before reap_closed() or discard_lost() has work to do.
  void add_pollfds(std::vector<pollfd>& pollfds) const;
  // Closes all connections that are idle or discarded, without waiting for the server.
  void close();
  std::size_t open() const;  // also counts reserved slots and discarded connections
  std::size_t idle() const;

 private:
  // A discarded connection, and the request to cancel its statement (null: none, or it is sent).
  struct Closing {
    PGconn* connection;
    PGcancelConn* cancel;
    short cancel_events;
  };
  static void advance_cancel(Closing& closing);

  const std::size_t max_;
  mutable Mutex mutex_;
  std::deque<PGconn*> idle_ GUARDED_BY(mutex_);
  std::vector<Closing> closing_ GUARDED_BY(mutex_);
  std::size_t open_ GUARDED_BY(mutex_) = 0;
};

}  // namespace primgr
