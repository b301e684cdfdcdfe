#include <doctest/doctest.h>

#include "base/address.hpp"
#include "base/error.hpp"
#include "daemon/cli/options.hpp"
#include "tests/support.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("options");

TEST_CASE("the command line") {
  const auto parse = [](std::vector<std::string> words) {
    words.insert(words.begin(), "primgr");
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    return parse_options(static_cast<int>(words.size()), argv.data());
  };
  CHECK(parse({}).mode == Options::Mode::daemon);
  CHECK(parse({"--once"}).subject == "state");
  CHECK(parse({"--once", "primary", "--json"}).json);
  CHECK(parse({"--json", "--once", "real-primary"}).subject == "real-primary");
  CHECK(parse({"--config", "a", "--check-config"}).config_file == "a");
  CHECK(parse({"--look", "--listen", "[::]:1"}).mode == Options::Mode::look);
  for (const auto& words : std::vector<std::vector<std::string>>{{"x"},
                                                                 {"--once", "x"},
                                                                 {"--json"},
                                                                 {"--config"},
                                                                 {"--frob"},
                                                                 {"-z"},
                                                                 {"--once", "state", "primary"},
                                                                 {"--config", ""},
                                                                 {"--listen", ""},
                                                                 {"--listen", "x"},
                                                                 {"--log-level", ""},
                                                                 {"--url", ""},
                                                                 {"--once", "--status"},
                                                                 {"--status", "--check-config"},
                                                                 {"--look", "--once"},
                                                                 {"--look", "--json"},
                                                                 {"--look", "x"},
                                                                 {"--lost", "--look"},
                                                                 {"--lost"},
                                                                 {"--lost", "n2", "--found"},
                                                                 {"--found", "n2"},
                                                                 {"--forget-timeline", "n2"},
                                                                 {"--forget-timeline", "--lost"},
                                                                 {"--drain", "--undrain"},
                                                                 {"--undrain", "why"},
                                                                 {"--history", "--status"},
                                                                 {"--history", "--watch"},
                                                                 {"--lost", "n2", "--json"},
                                                                 {"--help", "--version"}}) {
    CAPTURE(words[0]);
    CHECK(error_of([&] { parse(words); }) != "no error");
  }
  CHECK(error_of([&] { parse({"-s", "-1"}); }) == "--once and --status do not go together");
  CHECK(error_of([&] { parse({"--listen", ""}); }).starts_with("--listen: "));
  CHECK(parse({"--history", "--json", "--url", "http://n2"}).mode == Options::Mode::history);
  CHECK(parse({"--drain"}).reason.empty());
  CHECK(parse({"--drain", "a new", "disk"}).reason == "a new disk");
  CHECK(parse({"--forget-timeline"}).mode == Options::Mode::forget_timeline);
  CHECK(parse({"--found"}).mode == Options::Mode::found);
  CHECK(parse({"--lost", "n2", "n 3"}).lost == std::vector<std::string>{"n2", "n 3"});
  CHECK(parse({"--once", "--once"}).mode == Options::Mode::once);
}

TEST_CASE("--url") {
  CHECK(parse_url("http://db1").address.port == 5999);
  CHECK_FALSE(parse_url("http://db1:80/").tls);
  CHECK(parse_url("https://[::1]:7").tls);
  CHECK(parse_url("https://[::1]:7").address.host == "::1");
  for (const char* url :
       {"", "db1:5999", "ftp://x", "http://", "http://a/b", "http://a:b", "http://u@h"}) {
    CAPTURE(url);
    CHECK_THROWS_AS(parse_url(url), Input_Error);
  }
}

TEST_SUITE_END();
