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

int hold(const Options& options) {
  struct Held {
    bool open = false;
    std::size_t sent = 0;
    Clock::time_point next{};
  };
  // The head of a ClientHello that announces 512 bytes.
  constexpr std::string_view hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03primgr", 17);
  const std::string request = "GET /state HTTP/1.1\r\nHost: primgr\r\n\r\n";
  const std::string slow =
      "GET /state HTTP/1.1\r\nHost: primgr\r\nX-Slow: " + std::string(4000, 'x');
  std::string many;
  while (many.size() < 16384) many += request;

  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  std::map<int, Held> held;
  long opened = 0, open = 0, most = 0, cut = 0, refused = 0;
  const auto start = Clock::now(), end = start + std::chrono::seconds(options.seconds);
  double allowed = 0;
  auto before = start;

  const auto drop = [&](int fd) {
    const Held& one = held.at(fd);
    ++(one.open ? cut : refused);
    if (one.open) --open;
    held.erase(fd);
    close(fd);
  };
  const auto push = [&](int fd, Held& one, Clock::time_point now) {
    if (options.mode == "idle") return;
    const std::string_view text = options.mode == "tls"    ? hello
                                  : options.mode == "drip" ? std::string_view(slow)
                                                           : std::string_view(many);
    std::size_t at = one.sent % text.size();
    if (options.mode == "tls" && one.sent > 0) return;
    do {
      const std::size_t size = options.mode == "drip" ? 1 : text.size() - at;
      const ssize_t wrote = send(fd, text.data() + at, size, MSG_NOSIGNAL);
      if (wrote <= 0) break;
      one.sent += static_cast<std::size_t>(wrote);
      at = one.sent % text.size();
    } while (options.mode == "noread");
    one.next = now + 1s;
  };

  for (auto now = start; now < end; now = Clock::now()) {
    allowed = std::min(allowed + std::chrono::duration<double>(now - before).count() *
                                     static_cast<double>(options.rate),
                       static_cast<double>(options.rate) / 10 + 1);
    before = now;
    for (; allowed >= 1 && static_cast<long>(held.size()) < options.count; --allowed) {
      const int fd = start_connection(options);
      if (fd < 0) {
        ++refused;
        continue;
      }
      held[fd] = Held{};
      watch(epoll, fd, EPOLLOUT | EPOLLRDHUP, true);
    }
    wait(epoll, 10, [&](int fd, std::uint32_t events) {
      Held& one = held.at(fd);
      if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) {
        drop(fd);
      } else if (events & EPOLLOUT) {
        if (!one.open) {
          one.open = true;
          ++opened;
          most = std::max(most, ++open);
        }
        push(fd, one, now);
        watch(epoll, fd, EPOLLRDHUP | (options.mode == "noread" ? EPOLLOUT | EPOLLET : 0u));
      }
    });
    if (options.mode == "drip") {
      for (auto& [fd, one] : held) {
        if (one.open && one.next <= now) push(fd, one, now);
      }
    }
  }
  std::printf("%ld opened, %ld at most at once, %ld at the end, %ld cut, %ld refused\n", opened,
              most, open, cut, refused);
  return opened == 0;
}

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

int check(const Options& options) {
  struct Asked {
    Clock::time_point due{};
    std::string answer;
  };
  constexpr std::string_view request =
      "GET /state HTTP/1.1\r\nHost: primgr\r\nConnection: close\r\n\r\n";
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  std::map<int, Asked> asked;
  std::deque<std::pair<Clock::time_point, int>> oldest;
  std::vector<double> times;
  std::map<int, long> statuses;
  long failures = 0;
  const long total = options.seconds * options.rate;

  const auto finish = [&](int fd, int status) {
    times.push_back(
        std::chrono::duration<double, std::milli>(Clock::now() - asked.at(fd).due).count());
    if (status > 0) {
      ++statuses[status];
    } else {
      ++failures;
    }
    asked.erase(fd);
    close(fd);
  };

  const auto start = Clock::now();
  for (long next = 0; next < total || !asked.empty();) {
    const auto now = Clock::now();
    const auto due = start + next * 1'000'000us / options.rate;
    if (next < total && due <= now) {
      const int fd = start_connection(options);
      ++next;
      if (fd < 0) {
        times.push_back(0);
        ++failures;
        continue;
      }
      asked[fd] = {due, {}};
      oldest.emplace_back(due, fd);
      watch(epoll, fd, EPOLLOUT, true);
      continue;
    }
    for (; !oldest.empty() && oldest.front().first + 5s <= now; oldest.pop_front()) {
      const auto found = asked.find(oldest.front().second);
      if (found != asked.end() && found->second.due == oldest.front().first) {
        finish(found->first, 0);
      }
    }
    const auto left = next < total
                          ? std::chrono::duration_cast<std::chrono::milliseconds>(due - now).count()
                          : 20;
    wait(epoll, static_cast<int>(std::clamp<long>(left + 1, 1, 20)),
         [&](int fd, std::uint32_t events) {
           Asked& one = asked.at(fd);
           if (events & EPOLLOUT) {
             if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) < 0) return finish(fd, 0);
             return watch(epoll, fd, EPOLLIN);
           }
           char buffer[4096];
           const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
           if (got <= 0) return finish(fd, 0);
           one.answer.append(buffer, static_cast<std::size_t>(got));
           const int status = whole_answer(one.answer);
           if (status != 0) finish(fd, status);
         });
  }
  close(epoll);

  std::sort(times.begin(), times.end());
  const auto percentile = [&](std::size_t p) {  // the nearest rank
    return times[std::max<std::size_t>(1, (times.size() * p + 99) / 100) - 1];
  };
  std::printf("%zu %ld %.1f %.1f %.1f", times.size(), failures, percentile(50), percentile(99),
              times.back());
  for (const auto& [status, count] : statuses) std::printf(" %d:%ld", status, count);
  std::printf("\n");
  return failures > 0 || percentile(99) > static_cast<double>(options.bound_ms);
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(std::vector<std::string>(argv + 1, argv + argc));
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  return options.mode == "check" ? check(options) : hold(options);
}
