#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "base/json.hpp"
#include "daemon/http/request.hpp"
#include "tests/refused_requests.hpp"
#include "tests/served.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("requests");

TEST_CASE("a request has one deadline, however steadily its bytes come") {
  World world;
  const Served served(world);
  const int fd = connect_from("127.0.0.2", served.port);
  // A byte every 100 ms: a deadline for each read would never come.
  const bool ended = eventually(60, [&] {
    std::this_thread::sleep_for(100ms);
    ::send(fd, "x", 1, MSG_NOSIGNAL);
    return is_ended(fd);
  });
  CHECK(ended);
  ::close(fd);
}

TEST_CASE("requests that come at once are answered in turn") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  const std::string get = "GET /state HTTP/1.1\r\n\r\n";
  const auto answers = [&](const std::string& bytes) {
    return count(served.raw(bytes), "HTTP/1.1 ");
  };
  CHECK(answers(get + get + get) == 3);
  CHECK(answers("GET /state HTTP/1.1\r\nConnection: close\r\n\r\n" + get) == 1);
}

TEST_CASE("HAProxy's bare httpchk: OPTIONS / HTTP/1.0 without a Host header, then the end") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  const std::string answer = served.raw("OPTIONS / HTTP/1.0\r\n\r\n");
  CHECK(answer.starts_with("HTTP/1.1 202 "));
  CHECK(answer.ends_with("\r\n\r\n{\"state\":\"Standby\"}"));
}

TEST_CASE("a request head is parsed to the byte or refused, however it is split") {
  // What is returned looks into `bytes`.
  const auto check = [](const std::string& bytes, int status) {
    INFO(bytes);
    // Once the head is complete or refused, more bytes do not change that.
    Request_Head whole;
    for (std::size_t n = 0; n <= bytes.size(); n += bytes.size() < 2000 ? 1 : 61) {
      const Request_Head head = parse_head(std::string_view(bytes).substr(0, n));
      CAPTURE(n);
      CHECK_FALSE((head.size && head.status));
      if (whole.size || whole.status) {
        CHECK(head.size == whole.size);
        CHECK(head.status == whole.status);
      }
      whole = head;
    }
    whole = parse_head(bytes);
    CHECK(whole.status == status);
    return whole;
  };
  for (const Refused& refused : refused_requests()) {
    const Request_Head head = parse_head(refused.bytes);
    check(refused.bytes, head.status);
    CAPTURE(refused.bytes);
    CHECK((head.status == refused.status || (head.status == 0 && head.size > 0)));
  }
  const std::string plain = "GET /state?a=b HTTP/1.1\r\nHost: a:1\r\n\r\nGET";
  const Request_Head head = check(plain, 0);
  CHECK(head.size == 38);
  CHECK(head.method == "GET");
  CHECK(head.target == "/state?a=b");
  CHECK(head.keep_alive);
  CHECK_FALSE(check("GET / HTTP/1.1\r\nConnection: x ,, ClosE\r\n\r\n", 0).keep_alive);
  CHECK_FALSE(check("GET / HTTP/1.0\r\n\r\n", 0).keep_alive);
  CHECK(check("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 0).keep_alive);
  CHECK(check("GET / HTTP/1.2\r\n\r\n", 0).keep_alive);
  CHECK(check("GET / HTTP/1.1\r\nCONTENT-LENGTH:\t000 \r\n\r\n", 0).size > 0);
  CHECK(check("GET / HTTP/1.1\r\nExpect: 100-Continue\r\n\r\n", 0).size > 0);
  CHECK(check("GET / HTTP/1.1\r\nAccept: a\r\naccept: b\r\n\r\n", 0).accept == "a,b");
  CHECK(served_target("/state?x") == "/state?x");
  CHECK(served_target("*") == "*");
  CHECK(served_target("HTTP://db1:5999/state?x") == "/state?x");
  CHECK(served_target("http://db1?x") == "?x");
  CHECK(served_target("https://db1") == "");
  for (const char* other :
       {"", "state", "http:/state", "http:///state", "http://u@db1/", "x://db1/"})
    CHECK_FALSE(served_target(other));
  CHECK(check("\r\n\r\nGET / HTTP/1.1\r\n\r\n", 0).size == 22);
  CHECK(check("GET /" + std::string(4080, 'a') + " HTTP/1.1\r\n\r\n", 0).size > 0);
  CHECK(check("GET / HTTP/1.1\r\nA: " + std::string(15'000, '\xe4') + "\r\n\r\n", 0).size > 0);
}

TEST_CASE("an invalid request gets one answer, and the connection is closed") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  const std::string get = "GET /state HTTP/1.1\r\n\r\n";
  const auto check = [](const std::string& all, const Refused& refused) {
    INFO("sent: " << refused.bytes << "\ngot: " << all);
    const auto answers = parse_answers(all);
    REQUIRE(answers.size() == 1);
    CHECK(answers[0].status == refused.status);
    CHECK(answers[0].head.find("\r\nConnection: close\r\n") != std::string::npos);
    CHECK(answers[0].head.find("\r\nContent-Type: application/json\r\n") != std::string::npos);
    CHECK(answers[0].head.find("\r\nCache-Control: no-store\r\n") != std::string::npos);
    const bool allow =
        answers[0].head.find("\r\nAllow: GET, HEAD, OPTIONS\r\n") != std::string::npos;
    CHECK(allow == (refused.status == 405));
    CHECK(Json::parse(answers[0].body).contains("error"));
  };
  for (const Refused& refused : refused_requests()) {
    check(served.raw(refused.bytes + get), refused);
    // The answer does not wait for more.
    const int fd = connect_from("127.0.0.2", served.port);
    REQUIRE(::send(fd, refused.bytes.data(), refused.bytes.size(), MSG_NOSIGNAL) > 0);
    const std::string answer = read_answer(fd);
    ::close(fd);
    check(answer, refused);
  }
  // After an answered request too.
  for (const Refused& refused : refused_requests()) {
    CAPTURE(refused.bytes);
    const auto answers = parse_answers(served.raw(get + refused.bytes + get));
    REQUIRE(answers.size() == 2);
    CHECK(answers[0].status == 202);
    CHECK(answers[1].status == refused.status);
  }
  // A request that its client cuts short is invalid.
  for (const std::string& part :
       {std::string("G"), std::string("GET /state HTTP/1.1\r\n"), get.substr(0, get.size() - 1)}) {
    check(served.raw(part), {400, part});
  }
  CHECK(served.raw("\r\n\r\n").empty());
  // HEAD never gets a body.
  for (const char* rest : {"\r\nA\r\n\r\n", "\r\nContent-Length: x\r\n\r\n", " \r\n\r\n"}) {
    CHECK(served.raw("HEAD /state HTTP/1.1" + std::string(rest) + get).ends_with("\r\n\r\n"));
  }
  CHECK(served.raw("HEAD /" + std::string(5000, 'a')).ends_with("\r\n\r\n"));
  CHECK(served.ask("GET", "/metrics")
            .body.find("\nprimgr_http_requests_total{path=\"other\",code=\"405\"} ") !=
        std::string::npos);
}

TEST_CASE("a valid request is answered, and the connection stays open") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  const std::string line = "GET /state HTTP/1.1\r\n", get = line + "\r\n";
  for (const std::string& bytes : {
           get,
           "\r\n" + get,
           line + "Content-Length: 0\r\n\r\n",
           line + "Content-Length: 00\r\nExpect: 100-continue\r\n\r\n",
           line + "Accept: application/json,\r\n\r\n",
           line + "Accept: ,;q=x, \"\r\n\r\n",
           line + "Accept-Encoding: gzip, \xff\r\n\r\n",
           line + "Range: items=1-2\r\n\r\n",
           line + "Range: bytes=500-\r\n\r\n",
           line + "Range: bytes=0-1\r\n\r\n",
           line + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
           line + "X-Forwarded-For: x\r\nHost: [fe80::1]:5999\r\n\r\n",
           std::string("GET http://db1:5999/state HTTP/1.1\r\nHost: db2\r\n\r\n"),
           std::string("GET HTTPS://db1 HTTP/1.1\r\n\r\n"),
           std::string("OPTIONS http://db1?x=y HTTP/1.1\r\n\r\n"),
           std::string("GET /state#x HTTP/1.1\r\n\r\n"),
           std::string("GET /state HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
           std::string("GET /state HTTP/1.3\r\n\r\n"),
       }) {
    const std::string all = served.raw(bytes + get);
    INFO("sent: " << bytes << "\ngot: " << all);
    const auto answers = parse_answers(all);
    REQUIRE(answers.size() == 2);
    for (const Raw_Answer& answer : answers) {
      CHECK(answer.status == 202);
      CHECK(answer.body == R"({"state":"Standby"})");
    }
  }
  // HEAD's answer has no body; a path that there is not, and states, do not end the connection.
  auto answers = parse_answers(served.raw("HEAD /state HTTP/1.1\r\n\r\n" + get), 1);
  CHECK(answers.size() == 2);
  answers = parse_answers(served.raw("GET /nope HTTP/1.1\r\n\r\n" + get));
  REQUIRE(answers.size() == 2);
  CHECK(answers[0].status == 404);
  CHECK(answers[0].head.find("Connection: close") == std::string::npos);
  CHECK(parse_answers(served.raw("GET /state HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc" + get))
            .size() == 1);
}

TEST_CASE("a refused client is not reset before it has read the answer") {
  World world;
  const Served served(world);
  // More than the buffers of both sides hold.
  const std::string long_body =
      "GET /state HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n" + std::string(8'000'000, 'x');
  const auto answers = parse_answers(served.raw(long_body));
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].status == 413);
}

TEST_CASE("Accept: a browser gets the page, whatever else is in it") {
  for (const char* page_wanted :
       {"text/html", "TEXT/HTML", "text/html;level=1", "text/html;q=0.5", ", ,text/html,",
        "text/html, application/json", "application/json;q=0.5, text/html;q=0.6",
        "x;q=y, text/html", "text/html;q=0.9, */*", "application/json;q=0, text/html;q=0.1",
        "\"\\, text/html"}) {
    CAPTURE(page_wanted);
    CHECK(wants_page(page_wanted));
  }
  for (const char* none :
       {"", "*/*", "text/*", "application/json,", "application/json, text/html", "text/html;q=0",
        "text/html;q=0.5, application/json", "text/html;q=x", "text/html;q=2", "text/html;q=nan",
        "text/html;q=-1", "text/htm", "text/html2", ";text/html", ",", ";q=1", "text/html;q="}) {
    CAPTURE(none);
    CHECK_FALSE(wants_page(none));
  }
}

TEST_SUITE_END();
