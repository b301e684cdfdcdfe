#include "node/peers/wire.hpp"

#include <doctest/doctest.h>

#include "base/text.hpp"
#include "tests/world.hpp"

using namespace primgr;

namespace {

// The parameters as the server reads them.
Params decoded_parameters(const std::string& target) {
  Params decoded;
  for (const auto& [key, value] : parameters(target)) {
    decoded.emplace(key, url_decoded(value).value_or("?"));
  }
  return decoded;
}

Http_Reply received(const Reply& reply) {
  return {reply.status, reply.body, "", {}};
}

}  // namespace

TEST_SUITE_BEGIN("wire");

TEST_CASE("a question for a vote is read as it was written") {
  for (const std::string& name : {std::string("n1"), std::string("n &?=%1"), std::string("Ä_2")}) {
    CAPTURE(name);
    const Lists_Question lists{
        {name, 18446744073709551615U}, {3, {{7, 2}, 1}, 9, {{9, 3}, 4294967295}}, 2147483647};
    const auto asked = read_primary_question(
        decoded_parameters(vote_question(name, "n2", 2999500us, "t0k", lists)));
    CHECK(asked.candidate == name);
    CHECK(asked.voter == "n2");
    CHECK(asked.accepts_less);
    CHECK(asked.lease == 3s);  // never less than the candidate counts the vote for
    CHECK(asked.token == "t0k");
    CHECK(asked.lists == lists);
    CHECK_FALSE(asked.handback);
  }
  const auto whom = read_primary_question(decoded_parameters(vote_question("", "n2", 3s, "", {})));
  CHECK(whom.candidate.empty());
  CHECK(whom.voter == "n2");
  CHECK_FALSE(whom.lists);
  const auto back =
      read_primary_question(decoded_parameters(hand_back_request("n1", "n2", "t0k", 1500ms)));
  CHECK(back.candidate == "n1");
  CHECK(back.voter == "n2");
  CHECK(back.handback == "t0k");
  CHECK(back.ago == 1500ms);
  CHECK_FALSE(
      read_primary_question(decoded_parameters(hand_back_request("n1", "n2", "t0k", {}))).ago);
}

TEST_CASE("a ballot is read as it was written") {
  Ballot ballot;
  ballot.names = "N_1";
  ballot.granted = true;
  ballot.token = "t0k";
  ballot.lists = lists::Reply{{{7, 2}, 1}, true, false, {9, 3}, {{8, 1}, 2}, {{9, 3}, 0}};
  ballot.before = "n2";
  ballot.since = 1500ms;
  ballot.handed_back = true;
  const auto read = [&](bool accepts_less, Promise_Terms& terms) {
    std::string why;
    const auto reply = primary_reply(ballot, accepts_less, 4s);
    REQUIRE(reply);
    return http_node_reports_primary(received(*reply), why, &terms);
  };
  Promise_Terms terms;
  CHECK(read(true, terms) == "N_1");
  CHECK(terms.lease == 4s);
  CHECK(terms.token == "t0k");
  CHECK(read_lists_reply(received(*primary_reply(ballot, true, 4s))) == ballot.lists);
  CHECK(read_lists_reply(received(primary_reply_without_name(false, ballot.lists))) ==
        ballot.lists);
  CHECK_FALSE(read_lists_reply(received(primary_reply_without_name(false))));
  CHECK(terms.before == "n2");
  CHECK(terms.since == 1500ms);
  CHECK(terms.handed_back);
  CHECK(read(false, terms) == "N_1");  // a candidate of the original is sent a name only
  CHECK(terms.lease == Time::max());
  CHECK(terms.token.empty());
  ballot = {};
  ballot.names = "n3";
  ballot.bound_for = 2700ms;
  CHECK(read(true, terms) == "n3");
  CHECK(terms.bound_for == 2700ms);
  CHECK(terms.lease == Time::max());

  std::string why;
  CHECK_FALSE(primary_reply(Ballot{}, true, 4s));
  CHECK_FALSE(http_node_reports_primary(received(primary_reply_without_name(true)), why));
  CHECK(why == "names none, its state is Down");
  CHECK_FALSE(http_node_reports_primary(received(primary_reply_without_name(false, {}, 5)), why));
  CHECK(why == "has voted for a Primary on timeline 5, which is newer");
  ballot.names = std::string(max_reply_size, 'x');
  CHECK_FALSE(primary_reply(ballot, true, 4s));
}

TEST_CASE("a state is read as it was written") {
  CHECK(is_state_question(decoded_parameters(state_question("n &1")), "N &1"));
  CHECK_FALSE(is_state_question(decoded_parameters(state_question("n1")), "n2"));
  CHECK_FALSE(is_state_question({}, "n1"));
  for (const State state : all_states) {
    CAPTURE(std::string(to_string(state)));
    CHECK(http_node_reports_state(received(state_reply(state))) == state);
    State_Report report;
    report.state = state;
    report.unbound = 1500ms;
    report.list = "d1g";
    report.position = 0x1234567890;
    report.timeline = 7;
    report.system = 18446744073709551615U;
    const State_Report read = read_state_reply(received(state_reply(report)));
    CHECK(read.state == state);
    CHECK(read.detailed);
    CHECK(read.unbound == 1500ms);
    CHECK(read.list == "d1g");
    CHECK(read.position.has_value() == (state == State::primary));
    CHECK(read.timeline == 7);
    CHECK(read.system == report.system);
    if (state != State::primary) continue;
    CHECK(read.position == report.position);
    report.unbound.reset();
    report.position.reset();
    CHECK(read_state_reply(received(state_reply(report))).detailed);
    CHECK_FALSE(read_state_reply(received(state_reply(report))).unbound);
    CHECK_FALSE(read_state_reply(received(state_reply(report))).position);
  }
}

TEST_CASE("what a primary knows of a standby is read as it was written") {
  CHECK(read_standby_question(decoded_parameters(standby_question("n &2"))) == "n &2");
  for (const char* sync : {"sync", "quorum", "potential", "async"}) {
    const Sync_Report read = read_standby_reply(received(standby_reply({sync, 1250ms, ""})));
    CHECK(read.sync == sync);
    CHECK(read.age == 1250ms);
    CHECK(read.why.empty());
  }
  const Sync_Report none = read_standby_reply(received(standby_reply({"", {}, "it is away"})));
  CHECK(none.sync.empty());
  CHECK(none.why == "it is away");
}

TEST_SUITE_END();
