// TCP servers that do what a test says, for peers that misbehave.

#pragma once

#include <netinet/in.h>

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

// A TCP server that does with each connection what the test says, in a thread a connection.
class Raw_Server {
 public:
  using Behave = std::function<void(int fd)>;
  // `port` 0: one that is free.
  explicit Raw_Server(Behave behave, in_addr_t address = INADDR_LOOPBACK, int backlog = 64,
                      in_port_t port = 0);
  ~Raw_Server();
  int port() const { return port_; }
  // The listening socket, for who accepts by itself: without a Behave.
  int fd() const { return fd_; }

 private:
  void accept();
  const Behave behave_;
  const int fd_;
  int port_ = 0;
  std::vector<int> accepted_;  // the acceptor's, then the destructor's
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

bool send_all(int fd, std::string_view bytes);

// Reads a request up to the end of its head.
std::string read_request(int fd);

// Waits, without a deadline of its own, until the other side closes.
void wait_for_close(int fd);

// Reads a request, sends the bytes, and waits until the other side closes.
Raw_Server::Behave reply_with(std::string bytes);

// A reply with status 200 and that body.
std::string http_ok(const std::string& body);

// Sends a byte of `bytes` at a time, `pause` apart.
Raw_Server::Behave drip(std::string bytes, std::chrono::milliseconds pause);

// Sends without an end.
Raw_Server::Behave flood(std::string start, std::string repeated);

struct Misbehaviour {
  const char* name;
  Raw_Server::Behave behave;
};
// What a peer may do instead of answering; none of it is a vote.
std::vector<Misbehaviour> misbehaviours();
