// What an endpoint gets (Request) and what it returns (Answer).

#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node/wire.hpp"

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

}  // namespace primgr
