#include "tests/row_writers.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "tests/lab.hpp"
#include "tests/libpq.hpp"
#include "tests/support.hpp"

std::vector<Stale_Row> stale_rows(const std::vector<Row>& rows) {
  const auto reign = [](const Row& row) { return std::pair(row.timeline, row.server); };
  std::map<std::pair<std::string, std::string>, const Row*> first;
  for (const Row& row : rows) {
    const Row*& known = first[reign(row)];
    if (!known || row.acknowledged < known->acknowledged) known = &row;
  }
  std::vector<Stale_Row> stale;
  for (const Row& row : rows) {
    const double begun = first[reign(row)]->acknowledged;
    const auto later = std::find_if(first.begin(), first.end(), [&](const auto& other) {
      return other.second->acknowledged > begun && other.second->acknowledged < row.sent;
    });
    if (later != first.end()) stale.push_back({row, *later->second});
  }
  return stale;
}

namespace {

Connection connect_through_haproxy(int port) {
  return open_connection("host=10.99.0.254 port=" + std::to_string(port) +
                         " user=app dbname=postgres connect_timeout=2 tcp_user_timeout=3000");
}

}  // namespace

Row_Writers::Row_Writers(const std::string& hub)
    : kept_([this, hub] { write(hub, 1, true); }), fresh_([this, hub] { write(hub, 2, false); }) {}

Row_Writers::~Row_Writers() {
  ending_ = true;
  kept_.join();
  fresh_.join();
}

void Row_Writers::write(const std::string& hub, long first, bool keep) {
  const In_Namespace there(hub);
  Connection connection;
  for (long number = first; !ending_; number += 2) {
    std::this_thread::sleep_for(20ms);
    if (!connection || !keep) {
      connection = connect_through_haproxy(5000);
    }
    if (!connection) continue;
    const double sent = seconds_now();
    const Result result =
        query(connection, "INSERT INTO written VALUES (" + std::to_string(number) +
                              ") RETURNING host(inet_server_addr()),"
                              " substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)");
    const double acknowledged = seconds_now();
    if (!result) {
      const std::string why = PQerrorMessage(connection.get());
      if (why.find("read-only transaction") != why.npos) ++sent_to_standbys_;
      connection.reset();
      continue;
    }
    const std::lock_guard lock(mutex_);
    rows_.push_back({number, sent, acknowledged, PQgetvalue(result.get(), 0, 0),
                     PQgetvalue(result.get(), 0, 1)});
  }
}

std::vector<Row> Row_Writers::rows() const {
  const std::lock_guard lock(mutex_);
  return rows_;
}

std::optional<double> Row_Writers::first_after(const std::string& server, double time) const {
  std::optional<double> first;
  const std::lock_guard lock(mutex_);
  for (const Row& row : rows_) {
    if (row.server != server || row.acknowledged < time) continue;
    if (!first || row.acknowledged < *first) first = row.acknowledged;
  }
  return first;
}

double longest_gap(const std::vector<Read>& reads, double from, double to) {
  double last = from, longest = 0;
  for (const Read& read : reads) {
    if (read.answered < from) continue;
    if (read.answered > to) break;
    longest = std::max(longest, read.answered - last);
    last = read.answered;
  }
  return std::max(longest, to - last);
}

Reader::Reader(const std::string& hub) : thread_([this, hub] { read(hub); }) {}

Reader::~Reader() {
  ending_ = true;
  thread_.join();
}

void Reader::read(const std::string& hub) {
  const In_Namespace there(hub);
  for (; !ending_; std::this_thread::sleep_for(20ms)) {
    const double sent = seconds_now();
    const Connection connection = connect_through_haproxy(5001);
    const Result result =
        connection ? query(connection, "SELECT host(inet_server_addr())") : Result();
    if (!result) continue;
    const std::lock_guard lock(mutex_);
    reads_.push_back({sent, seconds_now(), PQgetvalue(result.get(), 0, 0)});
  }
}

std::vector<Read> Reader::reads() const {
  const std::lock_guard lock(mutex_);
  return reads_;
}
