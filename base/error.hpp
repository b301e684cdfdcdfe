// The exception for bad input, and the exit statuses of the program.

#pragma once

#include <stdexcept>

namespace primgr {

// An error in input that a person wrote: a value, a line, a file, the command line, a query
// parameter. what() is a message for that person.
struct Input_Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Exit statuses from sysexits.h, as repmgr and others use them.
constexpr int exit_usage = 64;
constexpr int exit_unavailable = 69;
constexpr int exit_config = 78;

}  // namespace primgr
