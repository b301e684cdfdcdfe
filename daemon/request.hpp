// HTTP requests: read strictly, by pure functions.

#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace primgr {

// A longer line of a request or a reply is refused. Also for safety: cpp-httplib's client matches
// the status line with std::regex, which recurses for each character (a line of 4,096 needs 1 MB of
// stack). Its server reads the request line again, so that it must fit there, with its CRLF.
constexpr std::size_t max_line = 4096;
constexpr std::size_t max_request_line = max_line - 2;
constexpr std::size_t max_head = 16 * 1024;
constexpr std::size_t max_body = 1024;
constexpr std::size_t max_chunked = 8 * 1024;  // with sizes, extensions and trailers

// A request's head: request line and header fields, up to and with the empty line.
struct Request_Head {
  std::size_t size = 0;  // how many bytes it takes; 0: more are to come, unless it is refused
  int status = 0;        // what to refuse it with; 0: it is understood
  std::string_view method;
  std::string_view target;  // path and query; begins with neither "/" nor "*": the path is "/"
  std::string accept;       // all Accept fields
  bool minor_0 = false;     // HTTP/1.0
  bool keep_alive = false;  // the client wants to go on after it
  bool expects_continue = false;
  bool chunked = false;    // its body is
  std::size_t length = 0;  // of a body that is not
};

// The target that an absolute-form names at this server (RFC 9112 3.2.2), the target itself if it
// is an origin-form or "*", none if it is neither.
std::optional<std::string_view> served_target(std::string_view target);

// Parses a request's head, strictly: where another could read other bytes as the end of this
// request, it is refused (RFC 9112 11.2). It may be called with each byte that comes: what it says
// of a part, other than that more is to come, it says of the whole.
Request_Head parse_head(std::string_view bytes);

// A chunked body (RFC 9112 7.1), as parse_head().
struct Chunked_Body {
  std::size_t size = 0;
  int status = 0;
};
Chunked_Body parse_chunked(std::string_view bytes);

// Whether who asks would rather see a page than JSON: a browser says so, a load balancer does not.
// What is no media range is as if it were not there.
bool wants_page(std::string_view accept);

}  // namespace primgr
