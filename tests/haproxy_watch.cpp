#include "tests/haproxy_watch.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "tests/support.hpp"

std::vector<std::string> servers_up(const std::string& answer) {
  std::vector<std::string> up;
  std::istringstream lines(answer);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string backend_id, backend, id, name, address;
    int operational = 0, administrative = 0;
    if (!(words >> backend_id >> backend >> id >> name >> address >> operational >> administrative))
      continue;  // the version, the heading, the prompt
    // Of HAProxy's management.txt: 0 is stopped, any administrative state is maintenance or drain.
    if (operational != 0 && administrative == 0) up.push_back(name);
  }
  return up;
}

Haproxy_Watch::Haproxy_Watch(std::string socket, const std::string& backend)
    : socket_(std::move(socket)),
      command_("show servers state " + backend + "\n"),
      thread_([this] { watch(); }) {}

Haproxy_Watch::~Haproxy_Watch() {
  ending_ = true;
  thread_.join();
  if (fd_ >= 0) ::close(fd_);
}

// In interactive mode HAProxy answers one command after another on one connection, at half the cost
// of a connection for each, and ends it after `stats timeout` (10 s) without any.
void Haproxy_Watch::watch() {
  while (!ending_) {
    const double sent = seconds_now();
    if (fd_ >= 0 || connect()) {
      if (const auto answer = ask(command_)) {
        note(sent, seconds_now(), servers_up(*answer));
      } else {
        ::close(fd_);
        fd_ = -1;
      }
    }
    std::this_thread::sleep_for(10ms);
  }
}

bool Haproxy_Watch::connect() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket_.copy(address.sun_path, sizeof address.sun_path - 1);
  fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return false;
  timeval patience{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      ask("prompt\n"))
    return true;
  ::close(fd_);
  fd_ = -1;
  return false;
}

std::optional<std::string> Haproxy_Watch::ask(const std::string& command) {
  if (::send(fd_, command.data(), command.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(command.size()))
    return std::nullopt;
  std::string answer;
  char buffer[4096];
  while (!answer.ends_with("\n> ")) {
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n <= 0) return std::nullopt;
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  return answer;
}

void Haproxy_Watch::note(double sent, double received, const std::vector<std::string>& up) {
  std::string servers;
  for (const std::string& name : up) servers += (servers.empty() ? "" : " and ") + name;
  const std::lock_guard lock(mutex_);
  if (rounds_++) longest_gap_ = std::max(longest_gap_, received - last_round_);
  last_round_ = received;
  if (changes_.empty() || changes_.back().servers != servers) changes_.push_back({sent, servers});
  const std::size_t before = up_;
  up_ = up.size();
  if (up_ < 2) return;
  if (before < 2) overlaps_.push_back({sent, received, 0, servers});
  overlaps_.back().last = received;
  ++overlaps_.back().rounds;
}

std::vector<Haproxy_Watch::Overlap> Haproxy_Watch::overlaps() const {
  const std::lock_guard lock(mutex_);
  return overlaps_;
}

std::vector<Haproxy_Watch::Change> Haproxy_Watch::changes() const {
  const std::lock_guard lock(mutex_);
  return changes_;
}

std::size_t Haproxy_Watch::rounds() const {
  const std::lock_guard lock(mutex_);
  return rounds_;
}

double Haproxy_Watch::longest_gap() const {
  const std::lock_guard lock(mutex_);
  return longest_gap_;
}
