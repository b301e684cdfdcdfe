#include "tests/support.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/error.hpp"

std::vector<std::string> skipped;

bool eventually(double seconds, const std::function<bool()>& condition) {
  const auto deadline = Steady::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (Steady::now() >= deadline) return false;
    std::this_thread::sleep_for(10ms);
  }
  return true;
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

double seconds_since(Steady::time_point start) {
  return std::chrono::duration<double>(Steady::now() - start).count();
}

double seconds_now() {
  static const Steady::time_point begun = Steady::now();
  return seconds_since(begun);
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const primgr::Input_Error& error) {
    return error.what();
  }
  return "no error";
}

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

Ran shell(const std::string& command) {
  Ran ran{{}, -1};
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe);
  char buffer[4096];
  while (const std::size_t n = fread(buffer, 1, sizeof buffer, pipe)) ran.output.append(buffer, n);
  const int status = pclose(pipe);
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  while (ran.output.ends_with('\n')) ran.output.pop_back();
  return ran;
}

std::string quoted(const std::string& text) {
  std::string safe = "'";
  for (const char c : text) safe += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return safe + "'";
}

std::string program_path() {
  const char* path = getenv("PRIMGR");
  return std::filesystem::absolute(path ? path : "primgr").string();
}
std::string program() {
  return quoted(program_path());
}

bool is_shipped() {
  return !getenv("PRIMGR");
}
