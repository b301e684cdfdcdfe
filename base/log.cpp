#include "base/log.hpp"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <nlohmann/json.hpp>

#include "base/json.hpp"
#include "base/time.hpp"

namespace primgr {

Stderr_Log::Stderr_Log(Log_Level level, Log_Format format)
    : level_(level), format_(format), journal_(getenv("JOURNAL_STREAM")) {
  struct stat file {};
  if (fstat(STDERR_FILENO, &file) != 0) return;
  is_socket_ = S_ISSOCK(file.st_mode);
  if (S_ISFIFO(file.st_mode)) max_line_ = PIPE_BUF;
  if (S_ISFIFO(file.st_mode) || isatty(STDERR_FILENO)) {
    const int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_APPEND | O_CLOEXEC);
    if (fd >= 0) fd_ = fd;
  }
}

Stderr_Log::~Stderr_Log() {
  if (fd_ != STDERR_FILENO) close(fd_);
}

void Stderr_Log::operator()(Log_Level level, const std::string& message) const {
  if (!wants(level)) return;
  const Mutex_Lock lock(mutex_);
  try {
    put_line(print(level, message));
  } catch (const std::bad_alloc&) {
    ++lost_;
  }
}

void Stderr_Log::put_line(const std::string& line) const {
  // The rest of a line that was written in part comes before the next line.
  const auto put = [&](const std::string& text) REQUIRES(mutex_) {
    if (!unsent_.empty()) unsent_.erase(0, write_some(unsent_));
    if (!unsent_.empty()) return false;
    const std::size_t written = write_some(text);
    if (written > 0) unsent_ = text.substr(written);
    return written > 0;
  };
  if (lost_ > 0 &&
      put(print(Log_Level::warning, std::to_string(lost_) + " lines of this log were lost: nobody "
                                                            "took them from standard error"))) {
    lost_ = 0;
  }
  if (lost_ > 0 || !put(line)) ++lost_;
}

std::string Stderr_Log::print(Log_Level level, const std::string& message) const {
  static constexpr const char* priority[] = {"<3>", "<4>", "<6>", "<7>"};
  const char* name = log_level_names[static_cast<int>(level)];
  const std::string time = print_time(wall_clock());
  const auto format_line = [&](const std::string& text) {
    std::string line = journal_ ? priority[static_cast<int>(level)] : "";
    if (format_ == Log_Format::json) {
      line += dump({{"time", time}, {"level", name}, {"message", text}});
    } else {
      if (!journal_) line += time + " " + name + ": ";
      line += printable(text);
    }
    return line + '\n';
  };
  std::string line = format_line(message);
  for (std::size_t kept = message.size(); line.size() > max_line_ && kept > 0;) {
    kept = kept * max_line_ / line.size();
    line = format_line(message.substr(0, kept) + "...");
  }
  return line;
}

std::size_t Stderr_Log::write_some(const std::string& text) const {
  ssize_t written = -1;
  if (is_socket_) {
    written = send(fd_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } else if (pollfd ready{fd_, POLLOUT, 0}; fd_ != STDERR_FILENO || poll(&ready, 1, 0) > 0) {
    written = write(fd_, text.data(), text.size());
  }
  return static_cast<std::size_t>(std::max<ssize_t>(written, 0));
}

}  // namespace primgr
