// What six kinds of an application's clients get through HAProxy.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <list>
#include <mutex>
#include <string>
#include <vector>

#include "tests/libpq.hpp"

// Seconds since the first call, by a clock that does not jump.
double now();

// Ends the process, with its threads still at work.
[[noreturn]] void die(const std::string& what);

// The calling thread opens its sockets there from now on.
void enter(const std::string& netns);

// Writes and reads, each by
//   one   one client: a connection for each call, a call after the other, however long it takes
//   many  a new client every 20 ms, whatever became of those before; each gives up after 0.75 s
//   kept  five sessions that are kept while they last, with a call each every 50 ms
enum class Kind { write_one, write_many, write_kept, read_one, read_many, read_kept };
inline constexpr std::array<const char*, 6> kind_names = {"w1", "wN", "ws", "r1", "rN", "rs"};

// Of a kind, since begin(). Times are in seconds.
struct Figures {
  double gap = 0;      // the longest without a success; of the sessions: the worst one's
  double longest = 0;  // call, whatever came of it
  std::size_t errors = 0;
  std::size_t broken = 0;  // sessions
  std::size_t astray = 0;  // writes that a server refused as it is read-only
};

// A row that was acknowledged.
struct Row {
  double sent, acknowledged;
  std::string server, timeline;  // inet_server_addr(), eight hexadecimal digits
  Kind kind;
};

// Its thread goes on until the process ends, by die() or _Exit(). All functions are thread safe.
class Clients {
 public:
  // REQUIRES: the table written (n bigint) in database postgres, and role app.
  Clients(const std::string& netns, const std::string& host, const std::string& write_port,
          const std::string& read_port);

  // From here on figures and rows count.
  void begin();
  // Ends the sessions that are kept, which begin anew: those of a standby that was promoted
  // meanwhile would be sessions for reads on the primary.
  void renew() { ++renewals_; }
  std::array<Figures, 6> figures() const;
  // By all kinds of writers, as acknowledged.
  std::vector<Row> rows() const;
  // Of the last row; empty: none.
  std::string last_server() const;
  // The longest time between two of the many.
  double pause() const;
  // For so many seconds each client has had a success and no error.
  bool content(double seconds) const;

 private:
  // A client with all its calls; the many are one stream.
  struct Stream {
    Kind kind;
    Figures figures;
    double succeeded = 0, failed = 0;  // the last time
  };
  struct Call {
    Stream* stream;
    Connection connection;
    double begun = 0;   // 0: not yet
    double sent = 0;    // 0: it is connecting
    double next = 0;    // when the next one is to begin, while none is under way
    bool kept = false;  // the session had a call before
    int renewals = 0;   // before it began
    PostgresPollingStatusType wants = PGRES_POLLING_WRITING;
  };
  enum class Progress { under_way, done, failed };

  void work(const std::string& netns);
  // False: it has failed already.
  bool start(Call& call);
  Progress advance(Call& call);
  // Of a call, or of what it waits for. False: it was one of the many, and is over.
  bool go_on(Call& call, bool ready);
  void note(Call& call, Progress end);

  std::string write_target_, read_target_;
  std::atomic<int> renewals_{0};
  mutable std::mutex mutex_;  // guards what follows; not held for long
  std::list<Stream> streams_;
  std::vector<Row> rows_;
  double pause_ = 0;
};
