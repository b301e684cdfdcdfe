// A client's connection to the HTTP server.

#pragma once

#include <openssl/ssl.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "node/units.hpp"

namespace primgr {

// A connection, plain or TLS, with one deadline for all that is done with it, not one for each
// read. An answer is collected and sent at once.
//
// receive() takes a request in, body and all. cpp-httplib's parser is lenient, so what it is given
// is not what came, but the request as it was understood: one line, and the few fields that matter.
//
// One thread's. Another may shut the socket down, which ends every wait.
class Http_Connection {
 public:
  // Takes a non-blocking socket, and leaves it open.
  Http_Connection(int socket, std::shared_ptr<SSL_CTX> context);

  void set_deadline(Deadline deadline) { deadline_ = deadline; }

  // False: the handshake failed.
  bool handshake();

  // Sends what was written.
  bool flush();

  // Says that nothing more comes. What the client still sends is thrown away, until it ends too or
  // for `patience`, so that it is not reset before it has read the answer.
  void finish(std::chrono::milliseconds patience);

  // What came when a request was waited for.
  struct Received {
    bool any = false;      // false: the client has ended the connection, or its time is up
    int status = 0;        // what to refuse it with; 0: it is understood: see request()
    bool is_head = false;  // its answer has no body
    bool last = true;      // nothing is to be read after it
  };
  Received receive();

  // What receive() understood: the request line, and the few fields that matter.
  const std::string& request() const { return request_; }
  // Adds to the answer.
  void write(std::string_view data) { out_ += data; }
  int socket() const { return socket_; }

 private:
  // Adds to in_ what comes next, of which there is some; 0 at the end of all, -1 if the time is up.
  ssize_t fill();

  // Takes a body from in_, and throws it away: no request needs one. The status to refuse it with,
  // 0, or -1 if the time is up.
  int receive_body(bool chunked, std::size_t length, bool expects_continue);

  // Whether the socket is ready before the deadline.
  bool wait(short events) const;

  // Does `step` until it is done, fails or is out of time; its result.
  template <typename Step>
  ssize_t repeat(Step step);

  struct Ssl_Deleter {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  const int socket_;
  const std::shared_ptr<SSL_CTX> context_;
  std::unique_ptr<SSL, Ssl_Deleter> ssl_;
  Deadline deadline_{};
  std::string in_;  // received, and not understood yet
  std::string request_;
  std::string out_;
};

}  // namespace primgr
