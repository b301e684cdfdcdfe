#include "bench/clients.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

namespace {

constexpr double many_pace = 0.02, one_pause = 0.01, kept_pause = 0.05;
// Of the many, so that there are never more under way than max_connections.
constexpr double patience = 0.75;
constexpr int sessions = 5;

bool writes(Kind kind) {
  return kind <= Kind::write_kept;
}
bool many(Kind kind) {
  return kind == Kind::write_many || kind == Kind::read_many;
}
bool keeps(Kind kind) {
  return kind == Kind::write_kept || kind == Kind::read_kept;
}

const char* statement(Kind kind) {
  return writes(kind) ? "INSERT INTO written VALUES (1) RETURNING host(inet_server_addr()),"
                        " left(pg_walfile_name(pg_current_wal_lsn()), 8)"
                      : "SELECT 1";
}

}  // namespace

double now() {
  static const auto zero = std::chrono::steady_clock::now();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - zero).count();
}

void die(const std::string& what) {
  std::fprintf(stderr, "outage: %s\n", what.c_str());
  std::_Exit(1);
}

void enter(const std::string& netns) {
  const int fd = open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) die("cannot enter the namespace " + netns);
  close(fd);
}

Clients::Clients(const std::string& netns, const std::string& host, const std::string& write_port,
                 const std::string& read_port) {
  const auto target = [&](const std::string& port) {
    return "hostaddr=" + host + " port=" + port +
           " user=app dbname=postgres sslmode=disable gssencmode=disable";
  };
  write_target_ = target(write_port);
  read_target_ = target(read_port);
  for (std::size_t kind = 0; kind < kind_names.size(); ++kind) {
    const int count = keeps(static_cast<Kind>(kind)) ? sessions : 1;
    for (int i = 0; i < count; ++i) {
      streams_.push_back({static_cast<Kind>(kind), {}, now(), now()});
    }
  }
  std::thread([this, netns] { work(netns); }).detach();
}

void Clients::work(const std::string& netns) {
  enter(netns);
  std::list<Call> calls;
  std::vector<Stream*> crowds;
  for (Stream& stream : streams_) {
    if (many(stream.kind)) {
      crowds.push_back(&stream);
    } else {
      calls.push_back({});
      calls.back().stream = &stream;
    }
  }
  std::vector<pollfd> sockets;
  for (double next = now(), last = next;;) {
    const double time = now();
    if (time >= next) {
      for (Stream* crowd : crowds) {
        calls.push_back({});
        calls.back().stream = crowd;
      }
      next = std::max(next + many_pace, time);
      const std::lock_guard lock(mutex_);
      pause_ = std::max(pause_, time - last);
      last = time;
    }
    calls.remove_if([&](Call& call) { return !go_on(call, false); });
    sockets.clear();
    double soonest = next;
    for (const Call& call : calls) {
      const bool idle = call.begun == 0;
      if (idle) soonest = std::min(soonest, call.next);
      const short events = call.wants == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
      // poll() passes over what is negative.
      sockets.push_back({idle ? -1 : PQsocket(call.connection.get()), events, 0});
    }
    const timespec left{0, static_cast<long>(std::clamp(soonest - now(), 0.0, many_pace) * 1e9)};
    ppoll(sockets.data(), sockets.size(), &left, nullptr);
    auto socket = sockets.begin();
    calls.remove_if([&](Call& call) { return (socket++)->revents && !go_on(call, true); });
  }
}

bool Clients::go_on(Call& call, bool ready) {
  auto progress = Progress::under_way;
  if (call.begun == 0) {
    if (now() < call.next) return true;
    if (!start(call)) progress = Progress::failed;
  } else if (ready) {
    progress = advance(call);
  } else if (many(call.stream->kind) && now() > call.begun + patience) {
    progress = Progress::failed;
  }
  if (progress == Progress::under_way) return true;
  note(call, progress);
  if (progress == Progress::failed || !keeps(call.stream->kind)) call.connection.reset();
  call.kept = call.connection != nullptr;
  call.begun = call.sent = 0;
  call.next = now() + (keeps(call.stream->kind) ? kept_pause : one_pause);
  return !many(call.stream->kind);
}

bool Clients::start(Call& call) {
  call.begun = now();
  const int renewals = renewals_;
  if (std::exchange(call.renewals, renewals) != renewals) {
    call.connection.reset();
    call.kept = false;
  }
  if (call.connection) {
    call.sent = call.begun;
    call.wants = PGRES_POLLING_READING;
    return PQsendQuery(call.connection.get(), statement(call.stream->kind));
  }
  const std::string& target = writes(call.stream->kind) ? write_target_ : read_target_;
  call.connection = silenced(PQconnectStart(target.c_str()));
  call.wants = PGRES_POLLING_WRITING;
  return PQstatus(call.connection.get()) != CONNECTION_BAD;
}

Clients::Progress Clients::advance(Call& call) {
  PGconn* connection = call.connection.get();
  if (call.sent == 0) {
    call.wants = PQconnectPoll(connection);
    if (call.wants == PGRES_POLLING_FAILED) return Progress::failed;
    if (call.wants != PGRES_POLLING_OK) return Progress::under_way;
    call.wants = PGRES_POLLING_READING;
    call.sent = now();
    return PQsendQuery(connection, statement(call.stream->kind)) ? Progress::under_way
                                                                 : Progress::failed;
  }
  if (!PQconsumeInput(connection)) return Progress::failed;
  if (PQisBusy(connection)) return Progress::under_way;
  Progress end = Progress::failed;
  while (const Result result{PQgetResult(connection)}) {
    const char* code = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
    const bool read_only = code && std::strcmp(code, "25006") == 0;
    if (PQresultStatus(result.get()) == PGRES_TUPLES_OK) end = Progress::done;
    const std::lock_guard lock(mutex_);
    call.stream->figures.astray += read_only;
    if (end == Progress::done && writes(call.stream->kind)) {
      rows_.push_back({call.sent, now(), PQgetvalue(result.get(), 0, 0),
                       PQgetvalue(result.get(), 0, 1), call.stream->kind});
    }
  }
  return end;
}

void Clients::note(Call& call, Progress end) {
  const double time = now();
  const std::lock_guard lock(mutex_);
  Figures& figures = call.stream->figures;
  figures.longest = std::max(figures.longest, time - call.begun);
  if (end == Progress::failed) {
    ++figures.errors;
    figures.broken += call.kept;
    call.stream->failed = time;
    return;
  }
  figures.gap = std::max(figures.gap, time - call.stream->succeeded);
  call.stream->succeeded = time;
}

void Clients::begin() {
  const std::lock_guard lock(mutex_);
  for (Stream& stream : streams_) stream.figures = {};
  rows_.clear();
  pause_ = 0;
}

std::array<Figures, 6> Clients::figures() const {
  std::array<Figures, 6> all{};
  const std::lock_guard lock(mutex_);
  for (const Stream& stream : streams_) {
    Figures& kind = all[static_cast<std::size_t>(stream.kind)];
    kind.gap = std::max({kind.gap, stream.figures.gap, now() - stream.succeeded});
    kind.longest = std::max(kind.longest, stream.figures.longest);
    kind.errors += stream.figures.errors;
    kind.broken += stream.figures.broken;
    kind.astray += stream.figures.astray;
  }
  return all;
}

std::vector<Row> Clients::rows() const {
  const std::lock_guard lock(mutex_);
  return rows_;
}

std::string Clients::last_server() const {
  const std::lock_guard lock(mutex_);
  return rows_.empty() ? "" : rows_.back().server;
}

double Clients::pause() const {
  const std::lock_guard lock(mutex_);
  return pause_;
}

bool Clients::content(double seconds) const {
  const std::lock_guard lock(mutex_);
  return std::all_of(streams_.begin(), streams_.end(), [&](const Stream& stream) {
    return stream.failed < now() - seconds && stream.succeeded > now() - 0.5;
  });
}
