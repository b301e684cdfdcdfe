#include "tests/http_client.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/tcp.h>
#include <openssl/x509.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>

std::string Response::get_header_value(const std::string& name) const {
  for (auto at = head.find("\r\n"); at != head.npos; at = head.find("\r\n", at + 2)) {
    const std::string line = head.substr(at + 2, head.find("\r\n", at + 2) - at - 2);
    const auto colon = line.find(':');
    if (colon == name.size() && strncasecmp(line.data(), name.data(), colon) == 0) {
      return line.substr(std::min(line.find_first_not_of(' ', colon + 1), line.size()));
    }
  }
  return {};
}

Client::Client(std::string host, int port, std::chrono::milliseconds timeout, SSL_CTX* tls)
    : host_(std::move(host)), port_(port), timeout_(timeout), tls_(tls) {}

Client::~Client() {
  disconnect();
}

void Client::disconnect() {
  SSL_free(std::exchange(ssl_, nullptr));
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  in_.clear();
}

bool Client::connect() {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port_));
  if (inet_pton(AF_INET, host_.c_str(), &to.sin_addr) != 1) return false;
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{timeout_.count() / 1000, timeout_.count() % 1000 * 1000};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {  // the latter is of connect() too
    setsockopt(fd_, SOL_SOCKET, option, &patience, sizeof patience);
  }
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return false;
  if (!tls_) return true;
  ssl_ = SSL_new(tls_);
  SSL_set_fd(ssl_, fd_);
  return SSL_connect(ssl_) == 1;
}

bool Client::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto n = ssl_ ? SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                        : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

// False at the end of all, or when the time is up.
bool Client::read() {
  char more[16384];
  const auto n = ssl_ ? SSL_read(ssl_, more, sizeof more) : ::recv(fd_, more, sizeof more, 0);
  if (n > 0) in_.append(more, static_cast<std::size_t>(n));
  return n > 0;
}

Response Client::receive(bool has_body) {
  std::size_t end;
  while ((end = in_.find("\r\n\r\n")) == in_.npos) {
    if (!read()) return {};
  }
  Response response;
  response.head = in_.substr(0, end + 2);
  in_.erase(0, end + 4);
  if (response.head.size() < 12 || !response.head.starts_with("HTTP/1.")) return {};
  const std::string length = response.get_header_value("Content-Length");
  const std::size_t size = has_body && !length.empty() ? std::stoul(length) : 0;
  while (in_.size() < size) {
    if (!read()) return {};
  }
  response.body = in_.substr(0, size);
  in_.erase(0, size);
  response.status = std::stoi(response.head.substr(9, 3));
  return response;
}

Response Client::send(const std::string& method, const std::string& path, const std::string& fields,
                      const std::string& body) {
  const std::string request =
      method + " " + path + " HTTP/1.1\r\nHost: " + host_ + "\r\n" + fields +
      (body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n") + "\r\n" +
      body;
  // A connection that was kept may have been ended by the server meanwhile.
  for (const bool kept : {fd_ >= 0, false}) {
    Response response;
    if ((kept || connect()) && write(request)) response = receive(method != "HEAD");
    const bool goes_on = response.status != 0 && response.get_header_value("Connection") != "close";
    if (!goes_on) disconnect();
    if (response.status != 0 || !kept) return response;
  }
  return {};
}

X509* Client::certificate() const {
  return ssl_ ? SSL_get0_peer_certificate(ssl_) : nullptr;
}

std::string read_answer(int fd) {
  std::string all;
  char buffer[4096];
  for (ssize_t n; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) {
    all.append(buffer, static_cast<std::size_t>(n));
  }
  return all;
}

int try_connect(const char* from, int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  const timeval patience{20, 0};
  bool done = inet_pton(AF_INET, from, &address.sin_addr) == 1 &&
              setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
              ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  done = done && ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  if (done) return fd;
  ::close(fd);
  return -1;
}

int connect_from(const char* from, int port) {
  const int fd = try_connect(from, port);
  INFO("from ", from, " to port ", port);
  REQUIRE(fd >= 0);
  return fd;
}

std::string check_from(const char* from, int port) {
  static constexpr std::string_view check = "OPTIONS /state HTTP/1.0\r\n\r\n";
  const int fd = try_connect(from, port);
  if (fd < 0) return {};
  ::send(fd, check.data(), check.size(), MSG_NOSIGNAL);
  const std::string all = read_answer(fd);
  ::close(fd);
  return all;
}

Load_Generator::Load_Generator(const char* from, int port, std::string request, int threads,
                               std::size_t open) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([=, this] {
      std::deque<int> left;
      while (!ending_) {
        const int fd = try_connect(from, port);
        if (fd < 0) {
          std::this_thread::sleep_for(1ms);
          continue;
        }
        ::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
        left.push_back(fd);
        if (left.size() <= open) continue;
        if (open == 0) took(read_answer(left.front()));
        ::close(left.front());
        left.pop_front();
      }
      for (const int fd : left) ::close(fd);
    });
  }
}

void Load_Generator::end() {
  ending_ = true;
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

std::size_t Load_Generator::answers(const std::string& with) const {
  const std::lock_guard lock(mutex_);
  std::size_t n = 0;
  for (const auto& [answer, times] : answers_) n += answer.find(with) == answer.npos ? 0 : times;
  return n;
}

void Load_Generator::took(const std::string& answer) {
  const std::lock_guard lock(mutex_);
  ++answers_[answer];
}

bool is_ended(int fd) {
  char buffer[512];
  ssize_t n;
  while ((n = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0) {
  }
  return n == 0 || errno != EAGAIN;
}

std::vector<Raw_Answer> parse_answers(std::string all, std::size_t without_body) {
  INFO(all);
  std::vector<Raw_Answer> answers;
  while (!all.empty()) {
    Raw_Answer answer;
    const auto end = all.find("\r\n\r\n");
    REQUIRE(end != all.npos);
    REQUIRE(all.starts_with("HTTP/1.1 "));
    answer.status = std::stoi(all.substr(9, 3));
    answer.head = all.substr(0, end + 2);
    all.erase(0, end + 4);
    if (answer.status == 100) continue;
    const auto length = answer.head.find("\r\nContent-Length: ");
    REQUIRE(length != answer.head.npos);
    if (without_body > 0) {
      --without_body;
    } else {
      const auto size = std::stoul(answer.head.substr(length + 18));
      REQUIRE(all.size() >= size);
      answer.body = all.substr(0, size);
      all.erase(0, size);
    }
    answers.push_back(std::move(answer));
  }
  return answers;
}
