// Requests that are not understood, or not allowed.

#pragma once

#include <string>
#include <vector>

struct Refused {
  int status;
  std::string bytes;
};

// Each is to get one answer, with this status, whatever follows it. Many hide a second request from
// one reader and not from another.
std::vector<Refused> refused_requests();
