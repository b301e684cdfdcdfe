// Strict parsers of HTTP/1 requests. All are pure functions.

#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace primgr {

// Limits in bytes. A longer line, of a request or of a reply, is refused. cpp-httplib's client
// matches a status line with std::regex, which recurses for each character: 4,096 characters need 1
// MB of stack. Its server reads the request line again, and has the same limit for the line with
// its CRLF.
constexpr std::size_t max_line = 4096;
constexpr std::size_t max_request_line = max_line - 2;
constexpr std::size_t max_head = 16 * 1024;  // request line and fields

// The methods that are answered, in the form of an Allow header. Other methods get 405. All
// endpoints have the same methods.
inline constexpr std::string_view answered_methods = "GET, HEAD, OPTIONS";
inline bool is_answered(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "OPTIONS";
}

// A request's head: the request line and the header fields, including the empty line after them.
// The views point into the bytes that were parsed.
struct Request_Head {
  std::size_t size = 0;  // its length in bytes; 0: it is incomplete or refused
  int status = 0;        // the HTTP status to refuse it with; 0: none
  std::string_view method;
  std::string_view target;  // path and query, or "*"; if it does not begin with /, the path is /
  std::string accept;       // all Accept fields, joined by commas
  bool is_http_1_0 = false;
  bool keep_alive = false;  // the connection persists after it: RFC 9112 9.3
};

// The path and query of a request target. For an absolute-form (RFC 9112 3.2.2), it is the part
// after the authority. An origin-form and "*" stay as they are. None for any other target. Public
// for tests.
std::optional<std::string_view> served_target(std::string_view target);

// Parses a request's head. Refuses it if another HTTP implementation could see the end of the
// request at another byte (request smuggling: RFC 9112 11.2). Refuses a request with content, which
// no endpoint uses, with 413. May be called again whenever more bytes have come. Once a part of the
// head is refused, the whole head is refused with the same status.
Request_Head parse_head(std::string_view bytes);

// Whether an Accept field prefers text/html to application/json, as those of browsers do and those
// of load balancers do not. Other media types, and what is not a media type, are ignored.
bool wants_page(std::string_view accept);

}  // namespace primgr
