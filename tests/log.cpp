#include <doctest/doctest.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "base/json.hpp"
#include "base/log.hpp"
#include "tests/support.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("log");

TEST_CASE("control characters do not reach the terminal") {
  CHECK(printable("a\nb\x1b[31m\x7f") == "a\\x0ab\\x1b[31m\\x7f");
  CHECK(printable("Grün") == "Grün");
  CHECK(printable("\u009b31m\u202en1\u2066\u061c\u200f\u2029") ==
        "\\u009b31m\\u202en1\\u2066\\u061c\\u200f\\u2029");
  CHECK(printable("€ \U0001F418 \u05d0 \u00a0") == "€ \U0001F418 \u05d0 \u00a0");
  // No UTF-8: a lone byte of C1, cut short, written too long, a surrogate, beyond Unicode.
  CHECK(printable("\x9b") == "\\x9b");
  CHECK(printable("a\xe2\x80") == "a\\xe2\\x80");
  CHECK(printable("\xc0\x9b") == "\\xc0\\x9b");
  CHECK(printable("\xe0\x82\x9b") == "\\xe0\\x82\\x9b");
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(printable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
}

TEST_CASE("control characters do not reach the terminal in JSON either") {
  const std::string name = "\u009b31m\u202e\u2028\x7f\x1b ü€";
  const std::string text = dump(name);
  CHECK(text == R"("\u009b31m\u202e\u2028\u007f\u001b ü€")");
  CHECK(Json::parse(text) == name);
  CHECK(dump("\x9b") == "\"\xef\xbf\xbd\"");
  // The JSON of another daemon, which is printed as it came.
  CHECK(printable_json("{\"a\":\n\"\u202e\"}") == "{\"a\":\n\"\\u202e\"}");
}

TEST_CASE("each line of the log as JSON") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const int before = dup(STDERR_FILENO);
  dup2(ends[1], STDERR_FILENO);
  Stderr_Log(Log_Level::info, Log_Format::json)(Log_Level::warning, "a \"b\"\n\xff");
  dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(ends[1]);
  char text[512];
  const ssize_t n = read(ends[0], text, sizeof text);
  ::close(ends[0]);
  REQUIRE(n > 0);
  std::string line(text, static_cast<std::size_t>(n));
  CHECK(line.ends_with("}\n"));
  CHECK(count(line, "\n") == 1);
  if (line.starts_with("<")) line.erase(0, 3);  // under a journal
  const Json told = Json::parse(line);
  CHECK(told["level"] == "warning");
  CHECK(told["message"] == "a \"b\"\n\xef\xbf\xbd");
  CHECK(told["time"].get<std::string>().size() == 24);
}

namespace {

// Standard error is `fd` while this lives. A Stderr_Log is to be made after it.
class Standard_Error {
 public:
  explicit Standard_Error(int fd) : before_(dup(STDERR_FILENO)) { dup2(fd, STDERR_FILENO); }
  ~Standard_Error() {
    dup2(before_, STDERR_FILENO);
    ::close(before_);
  }
  Standard_Error(const Standard_Error&) = delete;
  Standard_Error& operator=(const Standard_Error&) = delete;

 private:
  const int before_;
};

// What can be read from `fd` without waiting.
std::string read_all(int fd) {
  std::string all;
  char buffer[4096];
  pollfd ready{fd, POLLIN, 0};
  while (::poll(&ready, 1, 0) > 0) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n <= 0) break;
    all.append(buffer, static_cast<std::size_t>(n));
  }
  return all;
}

// Both ends of something that nobody reads and that holds few lines.
struct Unread {
  explicit Unread(const std::string& kind) {
    if (kind == "pipe") {
      REQUIRE(pipe(ends) == 0);
      fcntl(ends[1], F_SETPIPE_SZ, 4096);
    } else if (kind == "socket") {
      REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
      const int size = 4096;
      setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    } else {
      ends[0] = posix_openpt(O_RDWR | O_NOCTTY);
      REQUIRE(grantpt(ends[0]) == 0);
      REQUIRE(unlockpt(ends[0]) == 0);
      ends[1] = open(ptsname(ends[0]), O_RDWR | O_NOCTTY);
      REQUIRE(ends[1] >= 0);
    }
  }
  ~Unread() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  Unread(const Unread&) = delete;
  Unread& operator=(const Unread&) = delete;

  int ends[2];  // to read from, to write to
};

// Each line that came is whole; those of 2,000 that did not come are counted as lost.
void check_lines(const std::string& told) {
  INFO(told);
  std::size_t taken = 0, lost = 0, others = 0;
  std::istringstream lines(told);
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    const auto at = line.find(": ");
    REQUIRE(at != line.npos);
    const std::string message = line.substr(at + 2);
    if (message == std::string(100, 'x')) {
      ++taken;
    } else if (message.find(" lines of this log were lost") != message.npos) {
      lost += std::stoul(message);
    } else {
      CHECK(message == "after");
      ++others;
    }
  }
  CHECK(others > 0);
  CHECK(taken > 0);
  CHECK(lost >= 2000 - taken);  // lines "after" may be lost too
}

}  // namespace

TEST_CASE("the log does not wait for its reader, and says how many lines were lost") {
  for (const std::string kind : {"pipe", "socket", "terminal"}) {
    CAPTURE(kind);
    const Unread unread(kind);
    std::string told;
    {
      const Standard_Error to(unread.ends[1]);
      const Stderr_Log log(Log_Level::info);
      std::atomic<bool> done = false;
      std::thread writer([&] {
        for (int i = 0; i < 2000; ++i) log(Log_Level::info, std::string(100, 'x'));
        done = true;
      });
      const bool went_on = eventually(20, [&] { return done.load(); });
      while (!done) told += read_all(unread.ends[0]);
      writer.join();
      CHECK(went_on);
      told += read_all(unread.ends[0]);
      // A line that was torn is ended before the next.
      CHECK(eventually(20, [&] {
        log(Log_Level::info, "after");
        told += read_all(unread.ends[0]);
        return told.find("info: after") != told.npos;
      }));
    }
    check_lines(told);
  }
}

TEST_CASE("a line of the log fits into a pipe, and stays JSON") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  for (const Log_Format format : {Log_Format::text, Log_Format::json}) {
    for (const std::string& part : {std::string("a"), std::string("\x01"), std::string("€")}) {
      std::string message;
      while (message.size() < 9000) message += part;
      const Standard_Error to(ends[1]);
      Stderr_Log(Log_Level::info, format)(Log_Level::info, message);
      const std::string line = read_all(ends[0]);
      INFO(line);
      CHECK(line.size() <= PIPE_BUF);
      CHECK(line.size() > PIPE_BUF - 100);
      CHECK(line.find("...") != line.npos);
      CHECK(line.ends_with('\n'));
      if (format == Log_Format::json) CHECK(Json::parse(line.substr(line.find('{'))).is_object());
    }
  }
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_SUITE_END();
