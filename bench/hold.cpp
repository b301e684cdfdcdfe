// hold: clients that are a burden, and one that asks for /state meanwhile; for `make bench`.
//
//   hold idle|drip|tls|noread ADDR:PORT [--count N] [--from ADDR] [--seconds S] [--rate N]
//
// keeps N connections open: silent; sending a request at one byte a second; with a ClientHello that
// never ends; or asking without end and reading no answer. Those that are cut connect again, `rate`
// connections a second in all. Prints how many were opened, how many were open at most, how many
// the other side cut.
//
//   hold check ADDR:PORT [--from ADDR] [--seconds S] [--rate N] [--bound MS]
//
// asks GET /state on a new connection `rate` times a second, whatever became of those before.
// Prints `n failures p50 p99 max`, in ms, then each status and how often it came. A check fails
// that is refused, cut, or has no whole HTTP answer within 5 s. Exit status 1 if one failed or p99
// is above the bound; 64: wrong usage.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

struct Options {
  std::string mode;
  sockaddr_in to{};
  sockaddr_in from{};
  long count = 100;
  long seconds = 60;
  long rate = 0;
  long bound_ms = 50;
};

[[noreturn]] void wrong(const std::string& what) {
  std::fprintf(stderr,
               "hold: %s\n"
               "usage: hold idle|drip|tls|noread|check ADDR:PORT [--count N] [--from ADDR] "
               "[--seconds S] [--rate N] [--bound MS]\n",
               what.c_str());
  std::exit(64);
}

long parse_number(const std::string& text, const std::string& name) {
  char* end = nullptr;
  const long number = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end || number < 1 || number > 1'000'000) {
    wrong(name + ": \"" + text + "\" is not a whole number from 1 to 1000000");
  }
  return number;
}

in_addr parse_host(const std::string& text) {
  in_addr host{};
  if (inet_pton(AF_INET, text.c_str(), &host) != 1) wrong("\"" + text + "\" is no IPv4 address");
  return host;
}

Options parse(const std::vector<std::string>& words) {
  Options options;
  if (words.size() < 2) wrong("what, and against which address?");
  options.mode = words[0];
  const bool check = options.mode == "check";
  if (!check && options.mode != "idle" && options.mode != "drip" && options.mode != "tls" &&
      options.mode != "noread") {
    wrong("no mode \"" + options.mode + "\"");
  }
  options.rate = check ? 20 : 1000;
  const auto colon = words[1].rfind(':');
  if (colon == std::string::npos) wrong("\"" + words[1] + "\" is not ADDR:PORT");
  options.to.sin_family = options.from.sin_family = AF_INET;
  options.to.sin_addr = parse_host(words[1].substr(0, colon));
  const long port = parse_number(words[1].substr(colon + 1), "port");
  if (port > 65535) wrong("port: " + std::to_string(port) + " is above 65535");
  options.to.sin_port = htons(static_cast<in_port_t>(port));
  for (std::size_t i = 2; i < words.size(); i += 2) {
    const std::string& name = words[i];
    if (i + 1 == words.size()) wrong(name + " wants a value");
    const std::string& value = words[i + 1];
    if (name == "--from") {
      options.from.sin_addr = parse_host(value);
    } else if (name == "--count" && !check) {
      options.count = parse_number(value, name);
    } else if (name == "--seconds") {
      options.seconds = parse_number(value, name);
    } else if (name == "--rate") {
      options.rate = parse_number(value, name);
    } else if (name == "--bound" && check) {
      options.bound_ms = parse_number(value, name);
    } else {
      wrong(options.mode + " has no option \"" + name + "\"");
    }
  }
  return options;
}

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "hold: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// A socket that connects, or -1: it was refused at once.
int start_connection(const Options& options) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (options.mode == "noread") {
    const int little = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
  }
  if (options.mode != "check") {  // leave no port in TIME_WAIT
    const linger reset{1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  if (options.from.sin_addr.s_addr != INADDR_ANY) {
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&options.from), sizeof options.from) < 0) {
      die("--from: bind");
    }
  }
  if (connect(fd, reinterpret_cast<const sockaddr*>(&options.to), sizeof options.to) == 0 ||
      errno == EINPROGRESS) {
    return fd;
  }
  close(fd);
  return -1;
}

void watch(int epoll, int fd, std::uint32_t events, bool add = false) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) < 0) die("epoll_ctl");
}

// Calls `ready` with each file descriptor that is, for some ms.
template <typename Ready>
void wait(int epoll, int milliseconds, Ready ready) {
  epoll_event events[256];
  const int count = epoll_wait(epoll, events, 256, milliseconds);
  for (int i = 0; i < count; ++i) ready(events[i].data.fd, events[i].events);
}

// ---- a burden -----------------------------------------------------------------------------------

// Connections that are kept open, and what became of them.
class Burden {
 public:
  explicit Burden(const Options& options) : options_(options) {
    while (many_.size() < 16384) many_ += "GET /state HTTP/1.1\r\nHost: primgr\r\n\r\n";
  }
  // Returns the exit status.
  int run() {
    const auto start = Clock::now(), end = start + std::chrono::seconds(options_.seconds);
    before_ = start;
    for (auto now = start; now < end; now = Clock::now()) {
      open_more(now);
      wait(epoll_, 10, [&](int fd, std::uint32_t events) { handle(fd, events, now); });
      if (options_.mode != "drip") continue;
      for (auto& [fd, one] : held_) {
        if (one.open && one.next <= now) push(fd, one, now);
      }
    }
    std::printf("%ld opened, %ld at most at once, %ld at the end, %ld cut, %ld refused\n", opened_,
                most_, open_, cut_, refused_);
    return opened_ == 0;
  }

 private:
  struct Held {
    bool open = false;
    std::size_t sent = 0;
    Clock::time_point next{};
  };

  // As many as the rate allows, up to the count.
  void open_more(Clock::time_point now) {
    const auto rate = static_cast<double>(options_.rate);
    allowed_ += std::chrono::duration<double>(now - before_).count() * rate;
    allowed_ = std::min(allowed_, rate / 10 + 1);
    before_ = now;
    for (; allowed_ >= 1 && static_cast<long>(held_.size()) < options_.count; --allowed_) {
      const int fd = start_connection(options_);
      if (fd < 0) {
        ++refused_;
        continue;
      }
      held_[fd] = Held{};
      watch(epoll_, fd, EPOLLOUT | EPOLLRDHUP, true);
    }
  }
  void handle(int fd, std::uint32_t events, Clock::time_point now) {
    Held& one = held_.at(fd);
    if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) {
      ++(one.open ? cut_ : refused_);
      if (one.open) --open_;
      held_.erase(fd);
      close(fd);
    } else if (events & EPOLLOUT) {
      if (!one.open) {
        one.open = true;
        ++opened_;
        most_ = std::max(most_, ++open_);
      }
      push(fd, one, now);
      watch(epoll_, fd, EPOLLRDHUP | (options_.mode == "noread" ? EPOLLOUT | EPOLLET : 0u));
    }
  }
  // Sends what the mode sends next.
  void push(int fd, Held& one, Clock::time_point now) {
    // The head of a ClientHello that announces 512 bytes.
    constexpr std::string_view hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03primgr", 17);
    if (options_.mode == "idle" || (options_.mode == "tls" && one.sent > 0)) return;
    const std::string_view text = options_.mode == "tls"    ? hello
                                  : options_.mode == "drip" ? std::string_view(slow_)
                                                            : std::string_view(many_);
    do {
      const std::size_t at = one.sent % text.size();
      const std::size_t size = options_.mode == "drip" ? 1 : text.size() - at;
      const ssize_t wrote = send(fd, text.data() + at, size, MSG_NOSIGNAL);
      if (wrote <= 0) break;
      one.sent += static_cast<std::size_t>(wrote);
    } while (options_.mode == "noread");
    one.next = now + 1s;
  }

  const Options& options_;
  const std::string slow_ =
      "GET /state HTTP/1.1\r\nHost: primgr\r\nX-Slow: " + std::string(4000, 'x');
  std::string many_;
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  std::map<int, Held> held_;
  long opened_ = 0, open_ = 0, most_ = 0, cut_ = 0, refused_ = 0;
  double allowed_ = 0;  // connections that may be opened now
  Clock::time_point before_{};
};

// ---- the one that asks --------------------------------------------------------------------------

// The status of a whole answer; 0 as long as there is more to come, -1 if it is no HTTP.
int whole_answer(const std::string& text) {
  constexpr std::string_view version = "HTTP/1.";
  if (text.compare(0, std::min(text.size(), version.size()), version, 0,
                   std::min(text.size(), version.size())) != 0) {
    return -1;
  }
  const auto head = text.find("\r\n\r\n");
  if (head == std::string::npos) return 0;
  const int status = std::atoi(text.c_str() + std::min<std::size_t>(9, text.size()));
  std::string lower = text.substr(0, head);
  for (char& c : lower) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c + 32) : c;
  constexpr std::string_view length_key = "\r\ncontent-length:";
  const auto at = lower.find(length_key);
  if (status < 100 || at == std::string::npos) return -1;
  const auto length = std::strtoul(lower.c_str() + at + length_key.size(), nullptr, 10);
  return text.size() >= head + 4 + length ? status : 0;
}

// Asks at a fixed rate, each question on a connection of its own.
class Checker {
 public:
  explicit Checker(const Options& options) : options_(options) {}
  // Returns the exit status.
  int run() {
    const long total = options_.seconds * options_.rate;
    const auto start = Clock::now();
    for (long next = 0; next < total || !asked_.empty();) {
      const auto now = Clock::now();
      const auto due = start + next * 1'000'000us / options_.rate;
      if (next < total && due <= now) {
        ask(due);
        ++next;
        continue;
      }
      give_up(now);
      const auto left =
          next < total ? std::chrono::duration_cast<std::chrono::milliseconds>(due - now).count()
                       : 20;
      wait(epoll_, static_cast<int>(std::clamp<long>(left + 1, 1, 20)),
           [&](int fd, std::uint32_t events) { handle(fd, events); });
    }
    return report();
  }

 private:
  struct Asked {
    Clock::time_point due{};
    std::string answer;
  };

  void ask(Clock::time_point due) {
    const int fd = start_connection(options_);
    if (fd < 0) {
      times_.push_back(0);
      ++failures_;
      return;
    }
    asked_[fd] = {due, {}};
    oldest_.emplace_back(due, fd);
    watch(epoll_, fd, EPOLLOUT, true);
  }
  // Ends what has had no answer for 5 s.
  void give_up(Clock::time_point now) {
    for (; !oldest_.empty() && oldest_.front().first + 5s <= now; oldest_.pop_front()) {
      const auto found = asked_.find(oldest_.front().second);
      if (found != asked_.end() && found->second.due == oldest_.front().first) {
        finish(found->first, 0);
      }
    }
  }
  void handle(int fd, std::uint32_t events) {
    constexpr std::string_view request =
        "GET /state HTTP/1.1\r\nHost: primgr\r\nConnection: close\r\n\r\n";
    Asked& one = asked_.at(fd);
    if (events & EPOLLOUT) {
      if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) < 0) return finish(fd, 0);
      return watch(epoll_, fd, EPOLLIN);
    }
    char buffer[4096];
    const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got <= 0) return finish(fd, 0);
    one.answer.append(buffer, static_cast<std::size_t>(got));
    const int status = whole_answer(one.answer);
    if (status != 0) finish(fd, status);
  }
  // `status`: of the answer; 0 or less: it failed.
  void finish(int fd, int status) {
    times_.push_back(
        std::chrono::duration<double, std::milli>(Clock::now() - asked_.at(fd).due).count());
    if (status > 0) {
      ++statuses_[status];
    } else {
      ++failures_;
    }
    asked_.erase(fd);
    close(fd);
  }
  int report() {
    std::sort(times_.begin(), times_.end());
    const auto percentile = [&](std::size_t p) {  // the nearest rank
      return times_[std::max<std::size_t>(1, (times_.size() * p + 99) / 100) - 1];
    };
    std::printf("%zu %ld %.1f %.1f %.1f", times_.size(), failures_, percentile(50), percentile(99),
                times_.back());
    for (const auto& [status, count] : statuses_) std::printf(" %d:%ld", status, count);
    std::printf("\n");
    return failures_ > 0 || percentile(99) > static_cast<double>(options_.bound_ms);
  }

  const Options& options_;
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  std::map<int, Asked> asked_;
  std::deque<std::pair<Clock::time_point, int>> oldest_;
  std::vector<double> times_;  // ms
  std::map<int, long> statuses_;
  long failures_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(std::vector<std::string>(argv + 1, argv + argc));
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  return options.mode == "check" ? Checker(options).run() : Burden(options).run();
}
