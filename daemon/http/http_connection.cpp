#include "daemon/http/http_connection.hpp"

#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "daemon/http/request.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// The request for cpp-httplib, written anew from the parsed request: see Http_Connection.
std::string normalized(const Request_Head& head) {
  std::string request(head.method);
  request += head.target.starts_with('/') || head.target == "*" ? " " : " /";
  request += head.target;
  request += " HTTP/1.1\r\n";
  if (wants_page(head.accept)) request += "Accept: text/html\r\n";
  if (!head.keep_alive) {
    request += "Connection: close\r\n";
  } else if (head.is_http_1_0) {
    request += "Connection: keep-alive\r\n";
  }
  return request + "\r\n";
}

}  // namespace

template <typename Step>
ssize_t Http_Connection::retry(Step step) {
  for (;;) {
    ERR_clear_error();
    const ssize_t n = step();
    if (n > 0) return n;
    short events = 0;
    if (ssl_) {
      const int error = SSL_get_error(ssl_.get(), static_cast<int>(n));
      if (error == SSL_ERROR_WANT_READ) events = POLLIN;
      if (error == SSL_ERROR_WANT_WRITE) events = POLLOUT;
    } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      events = out_.empty() ? POLLIN : POLLOUT;
    }
    if (events == 0) return n;
    if (!wait(events)) return -1;
  }
}

Http_Connection::Http_Connection(int socket, std::shared_ptr<SSL_CTX> context)
    : socket_(socket), context_(std::move(context)) {
  if (context_) ssl_.reset(SSL_new(context_.get()));
  if (ssl_) SSL_set_fd(ssl_.get(), socket_);
}

bool Http_Connection::handshake() {
  if (!context_) return true;
  if (!ssl_) return false;
  return retry([&] { return SSL_accept(ssl_.get()); }) == 1;
}

bool Http_Connection::flush() {
  std::size_t sent = 0;
  while (sent < out_.size()) {
    const char* data = out_.data() + sent;
    const std::size_t size = out_.size() - sent;
    const ssize_t n =
        ssl_ ? retry([&] { return SSL_write(ssl_.get(), data, static_cast<int>(size)); })
             : retry([&] { return ::send(socket_, data, size, MSG_NOSIGNAL); });
    if (n <= 0) return false;
    sent += static_cast<std::size_t>(n);
  }
  out_.clear();
  return true;
}

void Http_Connection::finish(std::chrono::milliseconds linger_time) {
  if (ssl_) SSL_shutdown(ssl_.get());
  ::shutdown(socket_, SHUT_WR);
  out_.clear();
  deadline_ = std::chrono::steady_clock::now() + linger_time;
  char rest[4096];
  for (int i = 0; i < 16 || std::chrono::steady_clock::now() < deadline_; ++i) {
    const ssize_t n = ::recv(socket_, rest, sizeof rest, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && (errno != EAGAIN || !wait(POLLIN)))) break;
  }
}

Http_Connection::Received Http_Connection::receive() {
  Received received;
  const auto refuse = [&](int status) {
    received.any = true;
    received.status = status;
    return received;
  };
  Request_Head head;
  for (;;) {
    head = parse_head(in_);
    received.is_head = head.method == "HEAD";
    if (head.status) return refuse(head.status);
    if (head.size) break;
    const ssize_t n = read_more();
    if (n < 0) return received;
    if (n == 0) return in_.find_first_not_of("\r\n") == in_.npos ? received : refuse(400);
  }
  const bool answered = is_answered(head.method);
  request_ = normalized(head);
  in_.erase(0, head.size);  // head.method and head.target were views of it
  if (!answered) return refuse(405);
  received.any = true;
  received.last = !head.keep_alive;
  return received;
}

ssize_t Http_Connection::read_more() {
  // The client may send nothing before it has got the last answer.
  if (!out_.empty() && !flush()) return -1;
  char more[2048];
  const ssize_t n = ssl_ ? retry([&] { return SSL_read(ssl_.get(), more, sizeof more); })
                         : retry([&] { return ::recv(socket_, more, sizeof more, 0); });
  if (n > 0) in_.append(more, static_cast<std::size_t>(n));
  return n;
}

bool Http_Connection::wait(short events) const {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline_ - std::chrono::steady_clock::now());
  if (left <= 0ms) return false;
  pollfd ready{socket_, events, 0};
  return ::poll(&ready, 1, static_cast<int>(left.count()) + 1) > 0;
}

}  // namespace primgr
