// Requests that cannot be parsed, or are not allowed.

#pragma once

#include <string>
#include <vector>

struct Refused {
  int status;
  std::string bytes;
};

// Each request must get one answer, with this status, whatever follows it. Many contain a second
// request that some parsers see and others do not.
std::vector<Refused> refused_requests();
