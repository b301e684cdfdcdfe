// peers: a site of healthy standbys, for `make bench`: one process that answers on every address it
// is reached at as a node does that follows whoever asks for its vote.
//
//   peers PORT           serves until it is killed
//
// GET /primary?candidate=<c> gets 200 {"Primary":"<c>"}, /state 202 {"state":"Standby"}, /count the
// number of votes given so far; anything else 404.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unordered_map>

namespace {

long votes = 0;

std::string answer(int status, const std::string& body, bool close) {
  return "HTTP/1.1 " + std::to_string(status) +
         " -\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
         (close ? "\r\nConnection: close" : "") + "\r\n\r\n" + body;
}

// The answer to a request's head.
std::string reply(std::string_view head, bool close) {
  const auto target_at = head.find(' ') + 1;
  const std::string_view target = head.substr(target_at, head.find(' ', target_at) - target_at);
  if (target.starts_with("/primary?")) {
    constexpr std::string_view key = "candidate=";
    const auto at = target.find(key);
    if (at != target.npos) {
      ++votes;
      const std::string_view name = target.substr(at + key.size());
      return answer(200, "{\"Primary\":\"" + std::string(name.substr(0, name.find('&'))) + "\"}",
                    close);
    }
  }
  if (target == "/state") return answer(202, R"({"state":"Standby"})", close);
  if (target == "/count") return answer(200, std::to_string(votes), close);
  return answer(404, "{}", close);
}

bool wants_close(std::string_view head) {
  return head.find("Connection: close") != head.npos || head.find(" HTTP/1.0\r\n") != head.npos;
}

void add(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

// Takes what came on a connection, and answers. False: it is over.
bool serve(int fd, std::string& received) {
  char buffer[4096];
  const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
  if (got <= 0) return false;
  received.append(buffer, static_cast<std::size_t>(got));
  for (;;) {
    const auto end = received.find("\r\n\r\n");
    if (end == received.npos) return received.size() < 16384;
    const std::string head = received.substr(0, end + 4);
    received.erase(0, end + 4);
    const bool close = wants_close(head);
    const std::string text = reply(head, close);
    const ssize_t sent = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (close || sent != static_cast<ssize_t>(text.size())) return false;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int port = argc == 2 ? std::atoi(argv[1]) : 0;
  if (port < 1 || port > 65535) {
    std::fprintf(stderr, "usage: peers PORT\n");
    return 64;
  }
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<in_port_t>(port));
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ||
      listen(listener, 4096) < 0) {
    std::perror("peers: cannot listen");
    return 69;
  }
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  add(epoll, listener);
  std::unordered_map<int, std::string> received;
  for (;;) {
    epoll_event events[256];
    const int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd != listener) {
        if (serve(fd, received[fd])) continue;
        received.erase(fd);
        close(fd);
        continue;
      }
      for (int n; (n = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        add(epoll, n);
      }
    }
  }
}
