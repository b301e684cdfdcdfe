// A client's connection to the HTTP server.

#pragma once

#include <openssl/ssl.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/time.hpp"

namespace primgr {

// A connection, plain or TLS. One deadline is for all reads and writes together, so that a client
// that sends one byte from time to time cannot prolong it. An answer is buffered, and flush() sends
// it.
//
// receive() reads a whole request. cpp-httplib's parser is not strict, so it does not get the bytes
// of the client. It gets a request written anew from the strictly parsed one (request()).
//
// Not thread-safe: one thread uses it. Other threads may shut the socket down, which ends every
// wait. Every function blocks until the deadline at most.
class Http_Connection {
 public:
  // `socket` is non-blocking, and this object does not close it. `context`: for TLS; null: plain.
  Http_Connection(int socket, std::shared_ptr<SSL_CTX> context);

  void set_deadline(Deadline deadline) { deadline_ = deadline; }

  // Performs the TLS handshake. Returns true on success and without TLS, false on failure.
  bool handshake();

  // Sends the data that write() has collected. False: the client is gone, or the deadline has
  // passed.
  bool flush();

  // Ends the sending direction, then discards the data that the client still sends. It stops when
  // the client ends too, or when `linger_time` has passed. If `linger_time` is 0, only data that
  // has already come is discarded. Closing a socket with unread data would send a RST, which can
  // destroy an answer that the client has not read yet (RFC 9112 9.6).
  void finish(std::chrono::milliseconds linger_time);

  // The result of receive().
  struct Received {
    bool any = false;      // false: the client closed the connection, or the deadline has passed
    int status = 0;        // the HTTP status to refuse it with; 0: answer request()
    bool is_head = false;  // its answer must have no body
    bool last = true;      // close the connection after the answer
  };
  Received receive();

  // The request that receive() has read, for cpp-httplib. It has the request line, and the fields
  // Accept and Connection if they matter.
  const std::string& request() const { return request_; }
  // Adds to the answer that flush() will send.
  void write(std::string_view data) { out_ += data; }
  int socket() const { return socket_; }

 private:
  // Waits for data and appends it to in_. Returns the number of bytes, 0 at the end of the stream,
  // or a negative number on an error or if the deadline has passed. Calls flush() first.
  ssize_t read_more();

  // Waits for poll(2) events on the socket. False: the deadline has passed.
  bool wait(short events) const;

  // Calls `step`, a read or write. If it would block, waits until the socket is ready and calls it
  // again. Returns its result, or -1 if the deadline has passed.
  template <typename Step>
  ssize_t retry(Step step);

  struct Ssl_Deleter {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  const int socket_;
  const std::shared_ptr<SSL_CTX> context_;
  std::unique_ptr<SSL, Ssl_Deleter> ssl_;
  Deadline deadline_{};
  std::string in_;  // received and not parsed yet
  std::string request_;
  std::string out_;  // not sent yet
};

}  // namespace primgr
