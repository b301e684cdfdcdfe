// An HTTP client for the tests, so that the shipped server is not tested with the library that it
// is made of; and raw connections, for what no client does.

#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support.hpp"

// An answer; status 0: there was none.
struct Response {
  int status = 0;
  std::string head, body;
  bool has_header(const std::string& name) const { return !get_header_value(name).empty(); }
  // Empty without it.
  std::string get_header_value(const std::string& name) const;
};

// Keeps its connection for as long as the server does. Not thread-safe.
class Client {
 public:
  // `timeout`: of each wait. `tls`: what to speak it with; not to be freed before the client.
  Client(std::string host, int port, std::chrono::milliseconds timeout = 20s,
         SSL_CTX* tls = nullptr);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // `fields`: lines of the head, each with its CRLF.
  Response send(const std::string& method, const std::string& path, const std::string& fields = "",
                const std::string& body = "");
  Response get(const std::string& path) { return send("GET", path); }
  // The server's certificate; null without TLS.
  X509* certificate() const;

 private:
  bool connect();
  void disconnect();
  bool write(std::string_view bytes);
  bool read();
  Response receive(bool has_body);

  const std::string host_;
  const int port_;
  const std::chrono::milliseconds timeout_;
  SSL_CTX* const tls_;
  SSL* ssl_ = nullptr;
  int fd_ = -1;
  std::string in_;
};

// All that comes until the other side ends the connection.
std::string read_answer(int fd);

// A connection to `port`, from an address of the loopback network. Each read from it waits 20 s at
// most.
int connect_from(const char* from, int port);

// The same; -1 if it fails. For threads, which cannot end a test, and where a failure is expected.
int try_connect(const char* from, int port);

// A check as a load balancer makes it, from that address; what came, nothing for none.
std::string check_from(const char* from, int port);

// Threads that send one request from one address again and again, while this lives. `open`: how
// many connections each thread leaves open; with 0 it reads each answer.
class Load_Generator {
 public:
  Load_Generator(const char* from, int port, std::string request, int threads,
                 std::size_t open = 0);
  ~Load_Generator() { end(); }
  void end();
  // How many answers contained that.
  std::size_t answers(const std::string& with) const;

 private:
  void took(const std::string& answer);
  std::atomic<bool> ending_ = false;
  mutable std::mutex mutex_;
  std::map<std::string, std::size_t> answers_;
  std::vector<std::thread> threads_;
};

// Whether the other side has ended the connection.
bool is_ended(int fd);

// An answer as it came.
struct Raw_Answer {
  int status = 0;
  std::string head, body;
};

// All answers that came on a connection. `without_body`: the first so many are to HEAD.
std::vector<Raw_Answer> parse_answers(std::string all, std::size_t without_body = 0);
