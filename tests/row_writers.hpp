// Writes and reads rows through HAProxy, and records which server handled each.

#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

// An acknowledged row. Times are results of seconds_now().
struct Row {
  long number;
  double sent, acknowledged;
  std::string server, timeline;
};

// `row`: a row that an old primary accepted after the first row of a new primary was acknowledged.
// `newer`: that first row.
struct Stale_Row {
  Row row, newer;
};

// A reign is a server on one timeline: a server that becomes primary again is on a new timeline.
// Reigns are in the order of their first rows. A row is stale if it was sent when a later reign
// already had a row.
std::vector<Stale_Row> stale_rows(const std::vector<Row>& rows);

// Two clients write to the table `written (n bigint PRIMARY KEY)` through HAProxy's write port
// while this object exists. Each writes a row every 20 ms. One keeps its connection for as long as
// it lasts. The other opens a new connection for each row.
class Row_Writers {
 public:
  // `hub`: the network namespace of HAProxy and the clients. REQUIRES: the table exists.
  explicit Row_Writers(const std::string& hub);
  ~Row_Writers();
  Row_Writers(const Row_Writers&) = delete;
  Row_Writers& operator=(const Row_Writers&) = delete;

  std::vector<Row> rows() const;
  // When a server first acknowledged a row after `time`. None: it has not.
  std::optional<double> first_after(const std::string& server, double time) const;
  // For how many rows the server reported that it is read-only, which means that HAProxy sent them
  // to a standby.
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

// A client that reads through HAProxy's read port while this object exists, every 20 ms on a new
// connection.
class Reader {
 public:
  explicit Reader(const std::string& hub);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  std::vector<Read> reads() const;

 private:
  void read(const std::string& hub);

  mutable std::mutex mutex_;  // guards reads_; never held during a read
  std::vector<Read> reads_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};
