// An HTTP client for the tests, so that the server is not tested with the library that it is made
// of. Also raw connections, for behaviour that no client has.

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

// An answer. status 0: there was none.
struct Response {
  int status = 0;
  std::string head, body;
  bool has_header(const std::string& name) const { return !get_header_value(name).empty(); }
  // Empty if there is no such header.
  std::string get_header_value(const std::string& name) const;
};

// Keeps its connection open for as long as the server does. Not thread-safe.
class Client {
 public:
  // `timeout`: the limit of each wait. `tls`: the context for TLS, which must outlive the client.
  // Null: plain HTTP.
  Client(std::string host, int port, std::chrono::milliseconds timeout = 20s,
         SSL_CTX* tls = nullptr);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // `fields`: header lines, each with its CRLF.
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

// Everything that arrives until the other side ends the connection.
std::string read_answer(int fd);

// Connects to `port` from an address of the loopback network. Each read from the connection waits
// 20 s at most.
int connect_from(const char* from, int port);

// The same, but returns -1 if it fails. For threads, which cannot end a test, and for failures that
// are expected.
int try_connect(const char* from, int port);

// Makes a check from that address, as a load balancer does. Returns the answer, or empty if there
// is none.
std::string check_from(const char* from, int port);

// Threads that send the same request from one address again and again, while this object exists.
// `open`: how many connections each thread leaves open. With 0, it reads each answer.
class Load_Generator {
 public:
  Load_Generator(const char* from, int port, std::string request, int threads,
                 std::size_t open = 0);
  ~Load_Generator() { end(); }
  void end();
  // How many answers contained `with`.
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

// An answer as it was received.
struct Raw_Answer {
  int status = 0;
  std::string head, body;
};

// All answers that were received on a connection. `without_body`: how many answers at the beginning
// are to HEAD.
std::vector<Raw_Answer> parse_answers(std::string all, std::size_t without_body = 0);
