// What tests of several subjects use.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

// Waits for a condition; whether it came true in time.
bool eventually(double seconds, const std::function<bool()>& condition);
double seconds_since(Steady::time_point start);
// Since it was first called.
double seconds_now();

// How often `what` is in `text`.
std::size_t count(const std::string& text, const std::string& what);

// What is told of the Input_Error that `work` throws; "no error" if it throws none.
std::string error_of(const std::function<void()>& work);

// A number from the environment.
std::uint64_t from_environment(const char* name, std::uint64_t otherwise);

// Why tests were skipped, for each. main() prints it.
extern std::vector<std::string> skipped;

// A shell command's output, without newlines at its end, and exit status.
struct Ran {
  std::string output;
  int status;
};
Ran shell(const std::string& command);
// A text as one word for the shell.
std::string quoted(const std::string& text);

// The program under test: $PRIMGR, else ./primgr; as a word for the shell.
std::string program_path();
std::string program();
// Whether that is the shipped program, whose memory and time mean something, not a sanitizer's.
bool is_shipped();
