// Helpers for tests of several subjects.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

// Waits for a condition. Returns whether it became true in time.
bool eventually(double seconds, const std::function<bool()>& condition);
double seconds_since(Steady::time_point start);
// Seconds since the first call of this function.
double seconds_now();

// How often `what` occurs in `text`.
std::size_t count(const std::string& text, const std::string& what);

// The text of the Input_Error that `work` throws. "no error" if it throws none.
std::string error_of(const std::function<void()>& work);

// A number from the environment. `otherwise`: the default.
std::uint64_t from_environment(const char* name, std::uint64_t otherwise);

// The reasons for which tests were skipped. main() prints them.
extern std::vector<std::string> skipped;

// A shell command's output, without newlines at its end, and its exit status.
struct Ran {
  std::string output;
  int status;
};
Ran shell(const std::string& command);
// Quotes a text as one word for the shell.
std::string quoted(const std::string& text);

// The path of the program under test: $PRIMGR, else ./primgr. program() returns it as a word for
// the shell.
std::string program_path();
std::string program();
// Whether the program under test is the one that is shipped, and not one with a sanitizer. Only
// then are its memory and time meaningful.
bool is_shipped();
