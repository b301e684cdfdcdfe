#include "tests/lab_nodes.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/file.hpp"

namespace {

sockaddr_in endpoint(const std::string& address, int port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(static_cast<in_port_t>(port));
  inet_pton(AF_INET, address.c_str(), &at.sin_addr);
  return at;
}

int listener(const std::string& address, int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in at = endpoint(address, port);
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
  REQUIRE(::listen(fd, 512) == 0);
  return fd;
}

}  // namespace

// ---- the network --------------------------------------------------------------------------------

Own_Network::Own_Network() : home_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
  REQUIRE(::unshare(CLONE_NEWNET) == 0);
  const Ran made = shell(
      "ip link set lo up && for n in 1 2 3; do ip address add 10.0.0.$n/32 dev lo || exit; done "
      "2>&1");
  INFO(made.output);
  REQUIRE(made.status == 0);
}

Own_Network::~Own_Network() {
  setns(home_, CLONE_NEWNET);
  ::close(home_);
}

// ---- a node -------------------------------------------------------------------------------------

Fake_Node::Fake_Node(int number) : number_(number), thread_([this] { serve(); }) {}

Fake_Node::~Fake_Node() {
  ending_ = true;
  thread_.join();
}

void Fake_Node::listen(bool on) {
  listening_ = on;
  REQUIRE(eventually(20, [&] { return is_listening_ == on; }));
}

void Fake_Node::serve() {
  const std::string address = "10.0.0." + std::to_string(number_),
                    name = "n" + std::to_string(number_) + "\n";
  const int http = listener(address, 5999);
  int database = -1;
  std::vector<int> sessions;
  while (!ending_) {
    if (listening_ && database < 0) database = listener(address, 5432);
    if (!listening_ && database >= 0) {
      ::close(database);
      database = -1;
    }
    is_listening_ = database >= 0;
    std::vector<pollfd> wait{{http, POLLIN, 0}, {database, POLLIN, 0}};
    for (const int fd : sessions) wait.push_back({fd, POLLIN, 0});
    ::poll(wait.data(), wait.size(), 10);
    if (wait[0].revents) {
      if (const int fd = ::accept4(http, nullptr, nullptr, SOCK_CLOEXEC); fd >= 0) reply(fd);
    }
    if (database >= 0 && wait[1].revents) {
      if (const int fd = ::accept4(database, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
          fd >= 0) {
        ++connections_;
        last_byte_ = seconds_now();
        ::send(fd, name.data(), name.size(), MSG_NOSIGNAL);
        sessions.push_back(fd);
      }
    }
    for (std::size_t i = 2; i < wait.size(); ++i) {
      if (!wait[i].revents) continue;
      char byte;
      if (::recv(wait[i].fd, &byte, 1, 0) == 1) {
        last_byte_ = seconds_now();
        ::send(wait[i].fd, &byte, 1, MSG_NOSIGNAL);
      } else {
        ::close(wait[i].fd);
        std::erase(sessions, wait[i].fd);
      }
    }
  }
  for (const int fd : sessions) ::close(fd);
  ::close(http);
  if (database >= 0) ::close(database);
}

// A check: what HAProxy sends comes in one piece.
void Fake_Node::reply(int fd) {
  const timeval patience{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  char buffer[2048];
  const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
  const std::string request(buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  const std::string path = request.substr(std::min(request.find(' ') + 1, request.size()));
  const auto [state, replica] = answers_.load();
  const int status = path.starts_with("/state ") ? state : replica;
  const std::string answer =
      "HTTP/1.0 " + std::to_string(status) + " .\r\nContent-Length: 0\r\n\r\n";
  const std::string header = "x-haproxy-server-state: ";
  const auto at = request.find(header);
  {
    const std::lock_guard lock(mutex_);
    checks_.push_back({seconds_now(), path.substr(0, path.find_first_of(" ?")),
                       at == request.npos ? "" : request.substr(at + header.size())});
  }
  if (status == 200 && path.starts_with("/state ")) last_200_ = seconds_now();
  ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
  ::close(fd);
}

std::vector<Fake_Node::Check> Fake_Node::checks(const std::string& path) const {
  std::vector<Check> found;
  const std::lock_guard lock(mutex_);
  std::copy_if(checks_.begin(), checks_.end(), std::back_inserter(found),
               [&](const Check& check) { return check.path == path; });
  return found;
}

Fake_Cluster::Fake_Cluster() {
  (*this)[1].primary();
  (*this)[2].standby();
  (*this)[3].unknown();
}

// ---- clients ------------------------------------------------------------------------------------

Session::Session(int port, double seconds) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval patience{static_cast<time_t>(seconds), 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const sockaddr_in at = endpoint("127.0.0.1", port);
  char name[3];
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0 &&
      ::recv(fd_, name, sizeof name, MSG_WAITALL) == sizeof name)
    server_.assign(name, 2);
}

Session::~Session() {
  ::close(fd_);
}

bool Session::commits() {
  char byte = 'x';
  return ::send(fd_, &byte, 1, MSG_NOSIGNAL) == 1 && ::recv(fd_, &byte, 1, 0) == 1;
}

bool Session::ends(double seconds) {
  pollfd wait{fd_, POLLIN, 0};
  char byte;
  return ::poll(&wait, 1, static_cast<int>(seconds * 1000)) == 1 &&
         ::recv(fd_, &byte, 1, MSG_DONTWAIT) <= 0;
}

Clients::Clients(int port, int number) {
  for (int i = 0; i < number; ++i) {
    threads_.emplace_back([this, port] {
      while (!ending_) {
        const Session session(port, 30);  // longer than a client waits in HAProxy
        {
          const std::lock_guard lock(mutex_);
          const auto known = std::find_if(seen_.begin(), seen_.end(), [&](const auto& one) {
            return one.first == session.server();
          });
          if (known != seen_.end()) ++known->second;
          if (known == seen_.end()) seen_.emplace_back(session.server(), 1);
        }
        std::this_thread::sleep_for(5ms);
      }
    });
  }
}

Clients::~Clients() {
  ending_ = true;
  for (std::thread& thread : threads_) thread.join();
}

std::size_t Clients::on(const std::string& server) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, times] : seen_) {
    if (name == server) return times;
  }
  return 0;
}

std::string Clients::seen() const {
  std::string text;
  const std::lock_guard lock(mutex_);
  for (const auto& [name, times] : seen_)
    text += (name.empty() ? "refused" : name) + " " + std::to_string(times) + "; ";
  return text;
}

// ---- HAProxy ------------------------------------------------------------------------------------

Front::Front(const Edits& edits) {
  std::string text = primgr::read_file("deploy/haproxy.cfg");
  Edits all = edits;
  all.emplace_back("/run/haproxy.state", folder_.path("state"));
  all.emplace_back("/run/haproxy.sock", folder_.path("socket"));
  for (const auto& [from, to] : all) {
    CAPTURE(from);
    const auto at = text.find(from);
    REQUIRE(at != text.npos);
    text.replace(at, from.size(), to);
  }
  std::ofstream(folder_.path("cfg")) << text;
}

void Front::start(bool drop_in) {
  REQUIRE(pid_ < 0);
  const std::string command = std::string(drop_in ? "HAPROXY_RELOAD_ENDS_WRITES=yes " : "") +
                              "exec setpriv --pdeathsig KILL haproxy -Ws -f " +
                              folder_.path("cfg") + " -p " + folder_.path("pid") + " -S " +
                              folder_.path("master") + " </dev/null >>" + folder_.path("log") +
                              " 2>&1";
  pid_ = ::fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
}

void Front::stop() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGTERM);
  const bool ended = eventually(10, [&] { return ::waitpid(pid_, nullptr, WNOHANG) == pid_; });
  if (!ended) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_ = -1;
}

bool Front::reload() {
  return shell("deploy/examples/haproxy-reload " + std::to_string(pid_) + " " +
               folder_.path("socket") + " " + folder_.path("state") + " >>" + folder_.path("log") +
               " 2>&1")
             .status == 0;
}

void Front::reload_alone() {
  ::kill(pid_, SIGUSR2);
}

std::string Front::log() const {
  return primgr::read_file(folder_.path("log"));
}

std::string Front::servers() const {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  folder_.path("socket").copy(at.sun_path, sizeof at.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{2, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const std::string question = "show stat -1 4 -1\n";
  std::string answer;
  char buffer[4096];
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0 &&
      ::send(fd, question.data(), question.size(), MSG_NOSIGNAL) > 0) {
    for (ssize_t n; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;)
      answer.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(fd);
  std::string servers;
  std::istringstream lines(answer);
  for (std::string line; std::getline(lines, line);) {
    std::vector<std::string> fields;
    std::istringstream rest(line);
    for (std::string field; std::getline(rest, field, ',');) fields.push_back(field);
    if (fields.size() > 17 && !line.starts_with("#"))
      servers += fields[0] + "/" + fields[1] + " " + fields[17] + "\n";
  }
  return servers;
}

bool Front::has(const std::string& lines, double seconds) const {
  std::string seen;
  const bool came = eventually(
      seconds, [&] { return ("\n" + (seen = servers())).find("\n" + lines) != seen.npos; });
  if (!came) MESSAGE("not there: ", lines, "\n", seen, "\n", log());
  return came;
}
