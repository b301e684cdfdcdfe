// The log: one line an event, to standard error.

#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "node/model.hpp"

namespace primgr {

constexpr const char* log_level_names[] = {"error", "warning", "info", "debug"};

enum class Log_Format { text, json };

// Writes one line an event to standard error, with the time, or for journald (which knows the time)
// with the priority that it understands.
//
// Thread-safe, and never waits for whoever reads the log: checks are answered also while nobody
// does. A line that is not taken at once is dropped, and counted; as soon as lines are taken again,
// one of them says how many were lost. The mutex keeps lines whole and guards what is below it.
// Nothing blocks while it is held:
// - to a socket (journald's) everything is sent with MSG_DONTWAIT;
// - a pipe or a terminal is opened anew with O_NONBLOCK. Set on the inherited descriptor, the flag
//   would be in force for every process that shares it. Where it cannot be opened anew (no /proc,
//   or another user's), poll(2) tells first whether it takes PIPE_BUF bytes, and a line to a pipe
//   is no longer than that. Another process that fills the pipe in between can still make this one
//   wait;
// - a file is written to as ever.
class Stderr_Log {
 public:
  explicit Stderr_Log(Log_Level level, Log_Format format = Log_Format::text);
  ~Stderr_Log();
  Stderr_Log(const Stderr_Log&) = delete;
  Stderr_Log& operator=(const Stderr_Log&) = delete;

  bool wants(Log_Level level) const { return level <= level_; }

  void operator()(Log_Level level, const std::string& message) const;

 private:
  // REQUIRES mutex_.
  void put_line(const std::string& line) const;

  std::string print(Log_Level level, const std::string& message) const;

  // How much of it is taken now.
  std::size_t write_some(const std::string& text) const;

  const Log_Level level_;
  const Log_Format format_;
  const bool journal_;
  int fd_ = STDERR_FILENO;
  bool is_socket_ = false;
  std::size_t max_line_ = SIZE_MAX;  // bytes a line
  mutable std::mutex mutex_;
  mutable std::string rest_;  // of a line that was taken in part
  mutable std::uint64_t lost_ = 0;
};

}  // namespace primgr
