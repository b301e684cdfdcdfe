// Requests as endpoints see them, and their answers.

#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace primgr {

// The parameters of a query, decoded.
using Params = std::multimap<std::string, std::string>;

// The first value of a parameter; empty without one.
inline std::string param(const Params& params, const std::string& name) {
  const auto found = params.find(name);
  return found == params.end() ? std::string() : found->second;
}

struct Request {
  std::string_view method, path;
  const Params& params;
  const std::string& from;  // the client's address
  bool wants_page;          // rather than JSON
};

// What a request is answered with: status and body of the HTTP contract.
struct Answer {
  int status = 0;
  std::string body;
  const char* type = "application/json";
  std::vector<std::pair<const char*, std::string>> headers{};
};

}  // namespace primgr
