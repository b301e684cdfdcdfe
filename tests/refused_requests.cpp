#include "tests/refused_requests.hpp"

#include "daemon/http/request.hpp"

using namespace primgr;

namespace {

const std::string get = "GET /state HTTP/1.1\r\n";

std::vector<Refused> request_lines() {
  return {
      {400, "FROB /state HTTP/1.1\r\nGET /node HTTP/1.1\r\n\r\n"},
      {405, "FROB /state HTTP/1.1\r\n\r\n"},
      {405, "get /state HTTP/1.1\r\n\r\n"},
      {405, "CONNECT db1:5999 HTTP/1.1\r\n\r\n"},
      {400, "GET /state HTTP/1.1\n\n"},
      {400, "rubbish\r\n"},
      {400, "GET\r\n\r\n"},
      {400, "GET /state\r\n\r\n"},
      {400, " GET /state HTTP/1.1\r\n\r\n"},
      {400, "GET  /state HTTP/1.1\r\n\r\n"},
      {400, "GET /state  HTTP/1.1\r\n\r\n"},
      {400, "GET /state HTTP/1.1 \r\n\r\n"},
      {400, "GET\t/state HTTP/1.1\r\n\r\n"},
      {400, "GET /st\tate HTTP/1.1\r\n\r\n"},
      {400, "GET /st\xc3\xa4te HTTP/1.1\r\n\r\n"},
      {400, "GET state HTTP/1.1\r\n\r\n"},
      {400, "GET ftp://db1/state HTTP/1.1\r\n\r\n"},
      {400, "GET http:///state HTTP/1.1\r\n\r\n"},
      {400, "GET http://u@db1/state HTTP/1.1\r\n\r\n"},
      {400, "GET /state http/1.1\r\n\r\n"},
      {400, "GET /state HTTP/1.10\r\n\r\n"},
      {400, "GET /state HTTP/1.x\r\n\r\n"},
      {505, "GET /state HTTP/9.9\r\n\r\n"},
      {505, "GET /state HTTP/0.9\r\n\r\n"},
      {505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
      {400, "\r\n\r\n\r\n\r\n\r\nGET /state HTTP/1.1\r\n\r\n"},
      {400, "\nGET /state HTTP/1.1\r\n\r\n"},
      {400, std::string(100, '\0')},
      {400, std::string("\x16\x03\x01\x02\x00\x01\x00", 7)},
  };
}

std::vector<Refused> fields() {
  return {
      {400, "GET /state HTTP/1.1\r\nA: b\n\r\n"},
      {400, "GET /state HTTP/1.1\r\nA: b\rC: d\r\n\r\n"},
      {400, get + std::string("A: b\0c\r\n\r\n", 10)},
      {400, get + "A: b\x7f\r\n\r\n"},
      {400, get + "A : b\r\n\r\n"},
      {400, get + " A: b\r\n\r\n"},
      {400, get + "A: b\r\n c\r\n\r\n"},
      {400, get + "A: b\r\n\tc\r\n\r\n"},
      {400, get + ": b\r\n\r\n"},
      {400, get + "A\r\n\r\n"},
      {400, get + "A(: b\r\n\r\n"},
      {400, get + "Host: a\r\nhost: a\r\n\r\n"},
      {400, get + "Host: a b\r\n\r\n"},
      {400, get + "Host: a/b\r\n\r\n"},
  };
}

// A second request follows, in what may be the body.
std::vector<Refused> lengths() {
  const std::string inner = "\r\n\r\nGET /node HTTP/1.1\r\n\r\n";
  const std::string post = "POST /state HTTP/1.1\r\n";
  return {
      {405, post + "Content-Length: 3\r\n\r\nabc"},
      {400, get + "Content-Length: +36" + inner},
      {400, get + "Content-Length: 36x" + inner},
      {400, get + "Content-Length: 0x24" + inner},
      {400, get + "Content-Length: -1" + inner},
      {400, get + "Content-Length: 36, 36" + inner},
      {400, get + "Content-Length: " + inner},
      {400, get + "Content-Length: 3 6" + inner},
      {400, get + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"},
      {413, get + "Content-Length: 3\r\n\r\nabc"},
      {413, get + "Content-Length: 36" + inner},
      {413, get + "Content-Length: 36\r\nExpect: 100-continue" + inner},
      {413, get + "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n"},
      {413, "OPTIONS / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"},
      {405, post + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {413, get + "Content-Length: 18446744073709551617" + inner},
      {501, get + "Transfer-Encoding: gzip, chunked" + inner},
      {501, get + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked" + inner},
      {501, get + "Transfer-Encoding: identity" + inner},
      {501, get + "Transfer-Encoding: xchunked" + inner},
      {501, get + "Transfer-Encoding: chunked;q=1" + inner},
      {400, get + "Transfer-Encoding: chunked, chunked" + inner},
      {400, get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked" + inner},
      {400, get + "Transfer-Encoding:" + inner},
      {400, get + "Transfer-Encoding : chunked" + inner},
      {400, get +
                "Transfer-Encoding: \x0b"
                "chunked" +
                inner},
      {400, get + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"},
      {400, get + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"},
      {400, "GET /state HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
  };
}

std::vector<Refused> sizes() {
  return {
      {414, std::string(5000, 'a')},
      {414, "GET /" + std::string(4096, 'a') + " HTTP/1.1\r\n\r\n"},
      {414, "GET /" + std::string(20'000, 'a')},
      {431, get + std::string(20'000, 'h') + ": x\r\n\r\n"},
      {431, get + "A: " + std::string(20'000, 'h')},
  };
}

}  // namespace

std::vector<Refused> refused_requests() {
  std::vector<Refused> all;
  for (const auto& some : {request_lines(), fields(), lengths(), sizes()}) {
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}
