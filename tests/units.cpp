#include <doctest/doctest.h>

#include "base/error.hpp"
#include "base/size.hpp"
#include "base/time.hpp"
#include "tests/support.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("units");

TEST_CASE("durations are those of postgresql.conf") {
  const auto read = [](const char* text) { return parse_duration(text, 0s, 1000h); };
  CHECK(read("3") == 3s);
  CHECK(read("3s") == 3s);
  CHECK(read("3 s") == 3s);
  CHECK(read("200ms") == 200ms);
  CHECK(read("1500us") == 1500us);
  CHECK(read("2min") == 120s);
  CHECK(read("1h") == 1h);
  CHECK(read("1d") == 24h);
  CHECK(read("0.5s") == 500ms);
  CHECK(print_duration(1500ms) == "1500ms");
  CHECK(print_duration(60s) == "1min");
}

TEST_CASE("positions in the WAL") {
  CHECK(parse_lsn("16/B374D848") == Lsn{0x16'B374D848});
  CHECK(parse_lsn("0/0") == Lsn{0});
  CHECK(parse_lsn("FFFFFFFF/FFFFFFFF") == ~Lsn{0});
  CHECK(print_lsn(0x16'B374D848) == "16/B374D848");
  for (const char* text : {"", "/", "1", "1/", "/1", "1/2/3", "1/g", "100000000/1", "-1/1", "1/ 1"})
    CHECK_FALSE(parse_lsn(text));
}

TEST_CASE("sizes are those of postgresql.conf") {
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("1024") == 1024);
  CHECK(parse_size("16kB") == 16 << 10);
  CHECK(parse_size("1.5MB") == 3 << 19);
  CHECK(parse_size("2GB") == 2LL << 30);
  CHECK(parse_size("1TB") == 1LL << 40);
  for (const char* text :
       {"", "MB", "16mb", "16 MB", "-1", "1e30", "nan", "inf", "0x10", "16MBB"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_size(text), Input_Error);
  }
}

TEST_CASE("a duration in words") {
  CHECK(describe_duration(-1s) == "0.0 s");
  CHECK(describe_duration(59'940ms) == "59.9 s");
  CHECK(describe_duration(60s) == "1 min 0 s");
  CHECK(describe_duration(192s) == "3 min 12 s");
  CHECK(describe_duration(24h + 61min) == "1 d 1 h");
  CHECK(describe_duration(3h + 4min + 5s) == "3 h 4 min");
}

TEST_SUITE_END();
