// The argument (Request) and the result (Answer) of an endpoint.

#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node/peers/wire.hpp"

namespace primgr {

struct Request {
  std::string_view method, path;
  const Params& params;
  const std::string& client_address;  // an IP address, without port
  bool wants_page;                    // the client prefers HTML to JSON
};

struct Answer {
  int status = 0;
  std::string body;
  const char* type = "application/json";
  std::vector<std::pair<const char*, std::string>> headers{};
};

// The body of an answer without a state: {"error":"…"}. Thread-safe.
std::string error_body(const std::string& error);

}  // namespace primgr
