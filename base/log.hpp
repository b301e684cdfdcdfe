// The log, on standard error, one line for each event.

#pragma once

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/log_level.hpp"
#include "base/mutex.hpp"

namespace primgr {

enum class Log_Format { text, json };

// Writes a line with the time; for journald, which adds the time, a line with the priority prefix
// of sd-daemon(3).
//
// Thread-safe. It does not wait for the reader of the log: health checks must be answered even when
// nobody reads it. A line that cannot be written at once is dropped and counted. The next line that
// can be written is preceded by a line with the number of lost lines. The mutex keeps lines whole,
// and guards the members below it. Writing under it does not block:
// - A socket (journald's) is written with MSG_DONTWAIT.
// - A pipe or terminal is opened again with O_NONBLOCK. The flag must not be set on the inherited
//   descriptor, as it would apply to all processes that share it. If it cannot be opened again (no
//   /proc, or another user's), poll(2) is asked first. A pipe that is ready takes PIPE_BUF bytes
//   (pipe(7)), so a line to a pipe is no longer than that. Only another process that fills the pipe
//   in between can make this process wait.
// - A regular file is written normally; only the disk can delay that.
class Stderr_Log {
 public:
  explicit Stderr_Log(Log_Level level, Log_Format format = Log_Format::text);
  ~Stderr_Log();
  Stderr_Log(const Stderr_Log&) = delete;
  Stderr_Log& operator=(const Stderr_Log&) = delete;

  // Whether messages of `level` are logged. So a caller need not format a message that is not.
  bool wants(Log_Level level) const { return level <= level_.load(std::memory_order_relaxed); }

  // Sets the level from now on. A message that is logged at the same time may follow the old or the
  // new level. Nothing else depends on the level, so it needs no order with other memory.
  void set_level(Log_Level level) { level_.store(level, std::memory_order_relaxed); }

  // Logs one message. Does not throw: if there is no memory, the line is lost.
  void operator()(Log_Level level, const std::string& message) const;

 private:
  // Writes a line, or counts it as lost.
  void put_line(const std::string& line) const REQUIRES(mutex_);

  std::string print(Log_Level level, const std::string& message) const;

  // Writes what can be written without waiting. Returns the number of bytes written.
  std::size_t write_some(const std::string& text) const REQUIRES(mutex_);

  std::atomic<Log_Level> level_;
  const Log_Format format_;
  const bool journal_;
  int fd_ = STDERR_FILENO;
  bool is_socket_ = false;
  std::size_t max_line_ = SIZE_MAX;  // bytes
  mutable Mutex mutex_;
  mutable std::string unsent_ GUARDED_BY(mutex_);  // the rest of a line that was written in part
  // the number of lost lines since a line was written
  mutable std::uint64_t lost_ GUARDED_BY(mutex_) = 0;
};

}  // namespace primgr
