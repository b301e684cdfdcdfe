#include "tests/raw_server.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "tests/support.hpp"

Raw_Server::Raw_Server(Behave behave, in_addr_t address, int backlog, in_port_t port)
    : behave_(std::move(behave)), fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(address);
  at.sin_port = htons(port);
  // Connections of the one that had the port before may still be in TIME_WAIT.
  const int reuse = port != 0;
  ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
  socklen_t size = sizeof at;
  REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&at), size) == 0);
  REQUIRE(::listen(fd_, backlog) == 0);
  REQUIRE(::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size) == 0);
  port_ = ntohs(at.sin_port);
  if (behave_) acceptor_ = std::thread([this] { accept(); });
}

Raw_Server::~Raw_Server() {
  ::shutdown(fd_, SHUT_RDWR);
  if (acceptor_.joinable()) acceptor_.join();
  for (const int fd : accepted_) ::shutdown(fd, SHUT_RDWR);  // ends what behave_ waits for
  for (auto& thread : threads_) thread.join();
  for (const int fd : accepted_) ::close(fd);
  ::close(fd_);
}

void Raw_Server::accept() {
  for (int fd; (fd = ::accept(fd_, nullptr, nullptr)) >= 0;) {
    accepted_.push_back(fd);
    threads_.emplace_back([this, fd] {
      behave_(fd);
      ::shutdown(fd, SHUT_RDWR);
    });
  }
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

std::string read_request(int fd) {
  std::string request;
  char byte;
  while (!request.ends_with("\r\n\r\n") && ::recv(fd, &byte, 1, 0) == 1) request += byte;
  return request;
}

void wait_for_close(int fd) {
  char buffer[1024];
  while (::recv(fd, buffer, sizeof buffer, 0) > 0) {
  }
}

Raw_Server::Behave reply_with(std::string bytes) {
  return [bytes = std::move(bytes)](int fd) {
    read_request(fd);
    send_all(fd, bytes);
    ::shutdown(fd, SHUT_WR);
    wait_for_close(fd);
  };
}

std::string http_ok(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

Raw_Server::Behave drip(std::string bytes, std::chrono::milliseconds pause) {
  return [=](int fd) {
    read_request(fd);
    for (const char byte : bytes) {
      if (!send_all(fd, {&byte, 1})) return;
      pollfd closed{fd, POLLIN, 0};
      if (::poll(&closed, 1, static_cast<int>(pause.count())) > 0) return;
    }
  };
}

Raw_Server::Behave flood(std::string start, std::string repeated) {
  return [=](int fd) {
    read_request(fd);
    if (!send_all(fd, start)) return;
    while (send_all(fd, repeated)) {
    }
  };
}

std::vector<Misbehaviour> misbehaviours() {
  const std::string vote = http_ok(R"({"Primary":"n1"})");
  return {
      {"silent", [](int fd) { wait_for_close(fd); }},
      {"closes at once", [](int) {}},
      {"drips its header", drip(vote, 100ms)},
      {"drips its body",
       drip("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + std::string(900, ' '), 20ms)},
      {"drips a body that has no length",
       [](int fd) {
         read_request(fd);
         if (!send_all(fd, "HTTP/1.1 200 OK\r\n\r\n{\"Primary\":\"n1\"}")) return;
         for (pollfd closed{fd, POLLIN, 0}; ::poll(&closed, 1, 20) == 0;) {
           if (!send_all(fd, " ")) return;
         }
       }},
      {"10 MB", flood("HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n{\"Primary\":\"n1\"}",
                      std::string(65536, ' '))},
      {"10 MB in chunks", flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                                "400\r\n" + std::string(1024, ' ') + "\r\n")},
      {"an endless body", flood("HTTP/1.1 200 OK\r\n\r\n", std::string(4096, ' '))},
      {"a header without end",
       flood("HTTP/1.1 200 OK\r\n", "X-Y: " + std::string(1000, 'z') + "\r\n")},
      {"a line without end", flood("HTTP/1.1 200 ", std::string(4096, 'z'))},
      {"interim replies without end", flood("", "HTTP/1.1 100 Continue\r\n\r\n")},
      {"huge Content-Length",
       reply_with("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{}")},
      {"negative Content-Length", reply_with("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}")},
      {"Content-Length of no number",
       reply_with("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{\"Primary\":\"n1\"}")},
      {"the longest status line, for std::regex",
       reply_with("HTTP/1.1 200 " + std::string(4081, ' ') + "\r\n\r\n")},
      {"a status of many digits", reply_with("HTTP/1.1 99999999999 X\r\n\r\n")},
      {"negative chunk",
       flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n", std::string(99, ' '))},
      {"huge chunk",
       flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffe\r\n",
             std::string(99, ' '))},
      {"a chunk's size without end",
       flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0")},
      {"trailers without end",
       flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n")},
      {"a trailer of one byte",
       reply_with("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n:")},
      {"gzip without a body of it",
       reply_with("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b")},
      {"bad chunk", reply_with("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")},
      {"a redirect", reply_with("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n"
                                "Content-Length: 16\r\n\r\n{\"Primary\":\"n1\"}")},
      {"invalid JSON", reply_with(http_ok("{\"Primary\":\"n1\""))},
      {"a number", reply_with(http_ok(R"({"Primary":42})"))},
      {"deep JSON", reply_with(http_ok(std::string(1000, '[')))},
      {"too long by one", reply_with(http_ok(R"({"Primary":"n1"})" + std::string(1009, ' ')))},
      {"no HTTP", reply_with("220 mail.example.com ESMTP\r\n")},
      {"NUL bytes", reply_with(std::string(500, '\0'))},
      {"503", reply_with("HTTP/1.1 503 X\r\nContent-Length: 16\r\n\r\n{\"Primary\":\"n1\"}")},
  };
}
