#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "tests/asker.hpp"
#include "tests/raw_server.hpp"
#include "tests/world.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("peers");

TEST_CASE("a peer that answers") {
  Asker asker;
  std::string why;
  for (const std::string& good :
       {http_ok(R"({"Primary":"n1"})"), std::string("HTTP/1.0 200 OK\r\n\r\n{\"Primary\":\"n1\"}"),
        std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: "
                    "chunked\r\n\r\n10\r\n{\"Primary\":\"n1\"}\r\n0\r\n\r\n"),
        http_ok(R"({"Primary":"n1"})" + std::string(1008, ' ')),
        "HTTP/1.1 100 Continue\r\n\r\n" + http_ok(R"({"Primary":"n1"})")}) {
    CAPTURE(good);
    const Raw_Server server(reply_with(good));
    CHECK(http_node_reports_primary(asker.ask({"127.0.0.1", server.port()}, 5s), why) == "n1");
    CHECK(http_node_reports_primary(asker.ask({"x", server.port()}, 5s, "127.0.0.1"), why) == "n1");
  }
}

TEST_CASE("a peer that misbehaves gives no vote, and is given up after the timeout") {
  Asker asker;
  for (const Misbehaviour& peer : misbehaviours()) {
    CAPTURE(peer.name);
    const Raw_Server server(peer.behave);
    std::string why;
    const Http_Reply reply = asker.ask({"127.0.0.1", server.port()}, 400ms);
    CHECK_FALSE(http_node_reports_primary(reply, why));
    CHECK_FALSE(why.empty());
    CHECK(asker.took < 0.4 + 3);  // the slowest go on for longer
  }
}

TEST_CASE("a reply to a question from before the peer was registered anew is dropped") {
  const Node n2 = make_node(2, "n2");
  Polls polls;
  std::vector<Question> sent;
  const auto ask = [&](Question_Kind kind) { polls.ask(kind, n2, "/", 1s, 10s, sent); };
  const auto reply = [&](const Question& question, const char* name) {
    Vote_Answer answer;
    answer.sent_at = 10s;
    answer.named = name;
    return polls.replied({"n2", question.number, true}, answer, 10s);
  };
  ask(Question_Kind::vote);
  polls.keep_only({});
  // Registered again: first it is asked something else, then for its vote.
  ask(Question_Kind::state);
  CHECK_FALSE(reply(sent[0], "n1"));
  CHECK_FALSE(polls.answered(Question_Kind::vote, "n2"));
  polls.keep_only({});
  ask(Question_Kind::vote);
  CHECK_FALSE(polls.replied({"n2", sent[1].number, true}, State_Report{}, 10s));
  CHECK_FALSE(reply(sent[0], "n1"));
  CHECK_FALSE(polls.answered(Question_Kind::vote, "n2"));
  CHECK(polls.vote_awaited_since("n2") == 10s);
  CHECK(polls.votes().empty());
  CHECK(reply(sent[2], "n3"));
  CHECK(polls.answered(Question_Kind::vote, "n2"));
  CHECK(polls.votes().at("n2").names == "n3");
}

TEST_CASE("questions that could not be sent count as not asked") {
  const Node n2 = make_node(2, "n2");
  Polls polls;
  std::vector<Question> sent;
  polls.ask(Question_Kind::state, n2, "/", 1s, 10s, sent);
  polls.ask(Question_Kind::vote, n2, "/", 1s, 10s, sent);
  REQUIRE(sent.size() == 2);
  polls.forget_questions(sent[1].number);
  CHECK(polls.due(Question_Kind::state, "n2", 1s, 10s) == Time::max());
  CHECK_FALSE(polls.vote_awaited_since("n2"));
  polls.ask(Question_Kind::state, n2, "/", 1s, 10s, sent);
  polls.ask(Question_Kind::vote, n2, "/", 1s, 10s, sent);
  REQUIRE(sent.size() == 3);
  CHECK(sent[2].kind == Question_Kind::vote);
  CHECK(sent[2].number > sent[1].number);
}

TEST_CASE("who asks peers waits for the questions under way before it ends") {
  std::vector<std::function<void(Http_Reply)>> held;
  std::atomic<bool> replied{false};
  std::thread late;
  {
    Peers peers([&](const Node&, const std::string&, Time, auto done) { held.push_back(done); },
                nullptr, 1s);
    peers.send({Question_Kind::vote, make_node(2, "n2"), "/primary", 1},
               [&](const Http_Reply&) { replied = true; });
    late = std::thread([&] {
      std::this_thread::sleep_for(50ms);
      held[0]({});
    });
  }
  CHECK(replied);
  late.join();
}

TEST_CASE("a peer that is not there") {
  Asker asker;
  int port;
  {
    const Raw_Server closed(nullptr);
    port = closed.port();
  }
  const Http_Reply refused = asker.ask({"127.0.0.1", port}, 5s);
  CHECK(refused.error == "connection refused at 127.0.0.1:" + std::to_string(port));
  CHECK_FALSE(refused.alive);
  // Of two addresses of a host, ::1 and 127.0.0.1 where there is IPv6, each refuses.
  CHECK(asker.ask({"localhost", port}, 5s).error.starts_with("connection refused at "));
  // A full backlog drops SYNs, as a blackhole does.
  const Raw_Server full(nullptr, INADDR_LOOPBACK, 0);
  std::vector<int> fds;
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(full.port()));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int i = 0; i < 4; ++i) {
    fds.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    ::connect(fds.back(), reinterpret_cast<sockaddr*>(&to), sizeof to);
  }
  CHECK(asker.ask({"127.0.0.1", full.port()}, 300ms).error == "timed out");
  CHECK(asker.took < 0.3 + 3);  // the kernel goes on for two minutes
  for (const int fd : fds) ::close(fd);
  CHECK(asker.ask({"", 1}, 1s).error.find("set peer.peer") != std::string::npos);
  CHECK(asker.ask({"no-such-host.invalid", 1}, 300ms).error ==
        "the name no-such-host.invalid does not resolve");
  CHECK(asker.took < 0.3 + 3);  // a resolver without an answer goes on for 5 s or more
}

TEST_CASE("every address of a host name is tried") {
  // localhost is ::1 first where IPv6 is there; the peer listens on 127.0.0.1 alone.
  const Raw_Server server(reply_with(http_ok("{}")));
  Asker asker;
  CHECK(asker.ask({"localhost", server.port()}, 5s).status == 200);
}

TEST_SUITE_END();
