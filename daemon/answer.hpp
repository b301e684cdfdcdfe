// What an endpoint gets (Request) and what it returns (Answer).

#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace primgr {

// The parameters of a query string, percent-decoded.
using Params = std::multimap<std::string, std::string>;

// The first value of a parameter; empty if there is none.
inline std::string param(const Params& params, const std::string& name) {
  const auto found = params.find(name);
  return found == params.end() ? std::string() : found->second;
}

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
