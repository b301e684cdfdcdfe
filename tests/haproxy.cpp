// What the shipped HAProxy configuration is computed to do.

#include <doctest/doctest.h>

#include <sstream>

#include "base/file.hpp"
#include "repmgr_node.hpp"
#include "tests/balancer.hpp"
#include "tests/support.hpp"

using namespace primgr;

namespace {

// The word after `key`; empty if there is none.
std::string after(const std::string& text, const std::string& key) {
  std::istringstream words(text.substr(std::min(text.find(" " + key + " "), text.size())));
  std::string found, value;
  words >> found;
  if (key.find(' ') != key.npos) words >> found;
  words >> value;
  return value;
}

double seconds(const std::string& value) {
  return std::chrono::duration<double>(parse_duration(value, 0s, 1h)).count();
}

// The times of the first default-server line that is no comment.
Check_Times check_times(const std::string& text) {
  std::string line, used;
  for (std::istringstream lines(text); std::getline(lines, line);) {
    const auto begin = line.find_first_not_of(' ');
    if (begin != line.npos && line[begin] != '#') used += " " + line.substr(begin) + "\n";
  }
  const auto from = used.find(" default-server ");
  REQUIRE(from != used.npos);
  const std::string server = used.substr(from, used.find('\n', from) - from) + " ";
  Check_Times times;
  times.inter = times.timeout = seconds(after(server, "inter"));
  times.fastinter = seconds(after(server, "fastinter"));
  times.fall = std::stoi(after(server, "fall"));
  // A server that is down is not used, so how often it is checked adds nothing; less often would
  // make a new primary wait.
  for (auto at = used.find(" default-server "); at != used.npos;
       at = used.find(" default-server ", at + 1)) {
    const std::string down = after(used.substr(at, used.find('\n', at) - at) + " ", "downinter");
    if (!down.empty()) CHECK(seconds(down) <= times.inter);
  }
  if (const std::string timeout = after(used, "timeout check"); !timeout.empty()) {
    const double connect = seconds(after(used, "timeout connect"));
    times.timeout = seconds(timeout) + std::min(times.inter, connect);
  }
  return times;
}

}  // namespace

TEST_SUITE_BEGIN("haproxy");

TEST_CASE("HAProxy uses no server for longer than check_delay after its last 200") {
  const double check_delay = std::chrono::duration<double>(Node_Settings().check_delay).count();
  for (const char* file : {"deploy/haproxy.cfg", "README.md"}) {
    const Check_Times times = check_times(read_file(file));
    CAPTURE(file);
    CAPTURE(times.delay());
    CHECK(times.delay() <= check_delay);
    CHECK(times.delay() == doctest::Approx(0.95));  // as both say
    CHECK(times.fall >= 3);                         // one lost packet, or two, decides nothing
  }
  // The check that opens the sections is the last of the first checks: of two nodes it is the
  // fifth. The others are spread over `fastinter`, and each takes `inter` at most.
  const std::string shipped = read_file("deploy/haproxy.cfg");
  const Check_Times times = check_times(shipped);
  const std::string last = shipped.substr(shipped.find("    server first_checks "));
  CHECK(seconds(after(last, "inter")) * 4 / 5 > times.fastinter + times.inter);
  // With `timeout check` a check may take that, after it was connected.
  CHECK(check_times(
            " timeout check 100ms\n timeout connect 3s\n default-server inter 1s fastinter 1s "
            "fall 2 x\n")
            .delay() == doctest::Approx(1.1 + 1 + 2.2 + 1));
}

TEST_SUITE_END();
