// Rows written and read through HAProxy, and which server took each.

#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

// An acknowledged row. Times are those of seconds_now().
struct Row {
  long number;
  double sent, acknowledged;
  std::string server, timeline;
};

// A row that an old primary took after the new one's first was acknowledged, and that first one.
struct Stale_Row {
  Row row, newer;
};

// A server on a timeline is a reign: a server that becomes primary again is on a new timeline.
// Reigns follow each other in the order of their first rows, and a row that was sent when a later
// reign had one is stale.
std::vector<Stale_Row> stale_rows(const std::vector<Row>& rows);

// Two clients write to the table `written (n bigint PRIMARY KEY)` through HAProxy's write port, a
// row every 20 ms each, while this lives. One keeps its connection for as long as it lasts, the
// other opens a new one for each row.
class Row_Writers {
 public:
  // `hub`: the network namespace of HAProxy and the clients. REQUIRES: the table is there.
  explicit Row_Writers(const std::string& hub);
  ~Row_Writers();
  Row_Writers(const Row_Writers&) = delete;
  Row_Writers& operator=(const Row_Writers&) = delete;

  std::vector<Row> rows() const;
  // When a server first acknowledged a row after that; none: it has not.
  std::optional<double> first_after(const std::string& server, double time) const;
  // Of how many rows the server said that it is read-only: HAProxy sent them to a standby.
  std::size_t sent_to_standbys() const { return sent_to_standbys_; }

 private:
  void write(const std::string& hub, long first, bool keep);

  mutable std::mutex mutex_;  // guards rows_; never held while a row is written
  std::vector<Row> rows_;
  std::atomic<std::size_t> sent_to_standbys_{0};
  std::atomic<bool> ending_{false};
  std::thread kept_, fresh_;
};

// A read that was answered.
struct Read {
  double sent, answered;
  std::string server;
};

// The longest time without an answer from `from` to `to`. `reads`: in the order of their answers.
double longest_gap(const std::vector<Read>& reads, double from, double to);

// A client reads through HAProxy's read port, each 20 ms on a new connection, while this lives.
class Reader {
 public:
  explicit Reader(const std::string& hub);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  std::vector<Read> reads() const;

 private:
  void read(const std::string& hub);

  mutable std::mutex mutex_;  // guards reads_; never held while one is under way
  std::vector<Read> reads_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};
