// TCP servers with the behaviour that a test chooses, for peers that misbehave.

#pragma once

#include <netinet/in.h>

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

// A TCP server that handles each connection as the test chooses, in a separate thread.
class Raw_Server {
 public:
  using Behave = std::function<void(int fd)>;
  // `port` 0: any free port.
  explicit Raw_Server(Behave behave, in_addr_t address = INADDR_LOOPBACK, int backlog = 64,
                      in_port_t port = 0);
  ~Raw_Server();
  int port() const { return port_; }
  // The listening socket, for a test that accepts connections itself. The server then has no
  // Behave.
  int fd() const { return fd_; }

 private:
  void accept();
  const Behave behave_;
  const int fd_;
  int port_ = 0;
  std::vector<int> accepted_;  // used by the acceptor's thread, then by the destructor
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

bool send_all(int fd, std::string_view bytes);

// Reads a request up to the end of its head.
std::string read_request(int fd);

// Waits until the other side closes. Has no time limit.
void wait_for_close(int fd);

// Reads a request, sends the bytes, and waits until the other side closes.
Raw_Server::Behave reply_with(std::string bytes);

// A reply with status 200 and that body.
std::string http_ok(const std::string& body);

// Sends one byte of `bytes` at a time, with `pause` between them.
Raw_Server::Behave drip(std::string bytes, std::chrono::milliseconds pause);

// Sends data without an end.
Raw_Server::Behave flood(std::string start, std::string repeated);

struct Misbehaviour {
  const char* name;
  Raw_Server::Behave behave;
};
// The ways in which a peer may misbehave instead of answering. None of them is a vote.
std::vector<Misbehaviour> misbehaviours();
