// Which lists of voters count while repmgr.nodes changes: the rules, and a node that follows them.

#include <doctest/doctest.h>

#include <string>

#include "daemon/voters_file.hpp"
#include "node/voting.hpp"
#include "tests/world.hpp"

using namespace primgr;

namespace {

// n<i> for each id.
Voter_List list(std::initializer_list<int> ids) {
  Voter_List nodes;
  for (const int id : ids) nodes.push_back(make_node(id, "n" + std::to_string(id)));
  return nodes;
}

Voter_Lists knows(const Voter_List& confirmed, std::vector<Voter_List> received = {}) {
  Voter_Lists lists;
  lists.confirmed = confirmed;
  lists.received = std::move(received);
  return lists;
}

std::string describe(const std::vector<Voter_List>& lists) {
  std::string text;
  for (const Voter_List& nodes : lists) text += (text.empty() ? "" : " | ") + names_of(nodes);
  return text;
}

Votes votes_for_n1(std::initializer_list<const char*> voters, const std::string& under,
                   Time sent_at = 100s) {
  Votes votes;
  for (const char* voter : voters) {
    votes[voter] = {sent_at, "n1", ""};
    votes[voter].list = under;
  }
  return votes;
}

constexpr Lease lease{4s, 1s};

bool confirms(const Voter_Lists& lists, const Voter_List& read, const Votes& votes,
              Time read_since = 99s, Time now = 101s) {
  return may_confirm(lists, read, {read[0], votes, lease, now}, read_since);
}

// A World whose n1 has been Primary by the votes of n2 and n3, which a cut leaves alone.
struct Alone : World {
  Alone() {
    names("n2", "n1");
    names("n3", "n1");
    look(with_primary({1, 2, 3}));
    for (const char* peer : {"n2", "n3"}) primaries[peer] = states[peer] = {0, "", "timed out"};
    pass(10s);
    look(with_primary({1, 2, 3}));
  }
  static Facts with_primary(std::initializer_list<int> ids) {
    auto nodes = list(ids);
    nodes[0].type = "primary";
    return make_facts(nodes);
  }
};

}  // namespace

TEST_SUITE_BEGIN("voters");

TEST_CASE("the first list ever counts, and a later one besides it") {
  Voter_Lists lists = after_reading({}, list({1, 2, 3}), true);
  CHECK(names_of(lists.confirmed) == "n1, n2, n3");
  lists = after_reading(lists, list({1, 2}), true);
  CHECK(names_of(lists.confirmed) == "n1, n2, n3");
  CHECK(describe(lists.received) == "n1, n2");
  CHECK(describe(required_lists(lists, list({1, 2}))) == "n1, n2 | n1, n2, n3");
}

TEST_CASE("the first list that a candidate reads counts when it is Primary by it") {
  CHECK(after_reading({}, list({1, 2, 3}), false).confirmed.empty());
  CHECK(describe(required_lists({}, list({1, 2, 3}))) == "n1, n2, n3");
  // Nodes that never answer were registered before primgr started; without them, all is well.
  World n1;
  n1.names("n2", "n1");
  n1.look(Alone::with_primary({1, 2, 3, 4, 5, 6, 7}));
  CHECK(n1.node.get_state() == State::unknown);
  n1.look(Alone::with_primary({1, 2, 3}));
  CHECK(n1.node.get_state() == State::primary);
  CHECK(names_of(n1.stored.confirmed) == "n1, n2, n3");
  CHECK(n1.logged("the voters are now") == 0);
}

TEST_CASE(
    "what a node that is not in recovery reads is not received, and is undone by undoing it") {
  const Voter_Lists lists = after_reading(knows(list({1, 2, 3})), list({1, 4}), false);
  CHECK(lists.received.empty());
  CHECK(describe(required_lists(lists, list({1, 4}))) == "n1, n4 | n1, n2, n3");
  CHECK(describe(required_lists(lists, list({1, 2, 3}))) == "n1, n2, n3");
}

TEST_CASE("lists that were received count until the Primary tells which is confirmed") {
  Voter_Lists lists = knows(list({1, 2, 3}), {list({1, 2}), list({1, 2, 4}), list({1, 4})});
  CHECK(after_hearing(lists, "").received.size() == 3);
  CHECK(after_hearing(lists, "0123456789abcdef").received.size() == 3);
  CHECK(after_hearing(lists, digest(list({1, 2, 3}))).received.size() == 3);
  lists = after_hearing(lists, digest(list({1, 2, 4})));
  CHECK(names_of(lists.confirmed) == "n1, n2, n4");
  CHECK(describe(lists.received) == "n1, n4");
  lists = after_hearing(lists, digest(list({1, 4})));
  CHECK(names_of(lists.confirmed) == "n1, n4");
  CHECK(lists.received.empty());
}

TEST_CASE("a list that was changed and changed back is not forgotten") {
  Voter_Lists lists = after_reading(knows(list({1, 2, 3})), list({1}), true);
  lists = after_reading(lists, list({1, 2, 3}), true);
  CHECK(describe(required_lists(lists, list({1, 2, 3}))) == "n1, n2, n3 | n1");
}

TEST_CASE("a standby that lags takes a list that it was told of when it reads that") {
  for (const bool in_recovery : {true, false}) {
    CAPTURE(in_recovery);
    Voter_Lists lists = after_hearing(knows(list({1, 2, 3})), digest(list({1, 3, 4})));
    CHECK(names_of(lists.confirmed) == "n1, n2, n3");
    lists = after_reading(lists, list({1, 3, 4}), in_recovery);
    CHECK(names_of(lists.confirmed) == "n1, n3, n4");
    CHECK(lists.received.empty());
  }
}

TEST_CASE("a list is confirmed when a majority of the one before votes under it") {
  const Voter_List read = list({1, 2});
  const Voter_Lists lists = knows(list({1, 2, 3}));
  CHECK(is_unconfirmed(lists, read));
  CHECK(confirms(lists, read, votes_for_n1({"n1", "n2"}, digest(read))));
  // n2 votes for n1, and its database does not have that list yet.
  CHECK_FALSE(confirms(lists, read, votes_for_n1({"n1", "n2"}, digest(list({1, 2, 3})))));
  CHECK_FALSE(confirms(lists, read, votes_for_n1({"n1"}, digest(read))));
  CHECK_FALSE(confirms(lists, read, votes_for_n1({"n1", "n4", "n5"}, digest(read))));
  // It lags for so long that it is not waited for.
  CHECK(confirms(lists, read, votes_for_n1({"n1", "n2"}, "other", 1000s), 1000s - max_lag, 1001s));
  CHECK_FALSE(is_unconfirmed(after_confirming(lists, read), read));
}

TEST_CASE("a voter of an earlier version agrees by a vote that it was asked for later") {
  const Voter_List read = list({1, 2});
  CHECK(confirms(knows(list({1, 2, 3})), read, votes_for_n1({"n1", "n2"}, "", 100s), 100s));
  CHECK_FALSE(confirms(knows(list({1, 2, 3})), read, votes_for_n1({"n1", "n2"}, "", 99s), 100s));
}

TEST_CASE("each list that was received needs a majority, too") {
  const Voter_List read = list({1, 5});
  const Voter_Lists lists = knows(list({1, 2, 3}), {list({1, 2, 3, 4, 5})});
  CHECK_FALSE(confirms(lists, read, votes_for_n1({"n1", "n2"}, digest(read))));
  CHECK(confirms(lists, read, votes_for_n1({"n1", "n2", "n5"}, digest(read))));
}

TEST_CASE("a node that was renamed is the same voter") {
  Voter_List read = list({1, 2, 3});
  read[2].name = "db3";
  CHECK(describe(required_lists(knows(list({1, 2, 3})), read)) == "n1, n2, db3");
  CHECK(is_unconfirmed(knows(list({1, 2, 3})), read));
  CHECK(confirms(knows(list({1, 2, 3})), read, {}));
}

TEST_CASE("the digest is the same for the same voters only, and for names that are equal") {
  CHECK(digest(list({1, 2})) != digest(list({1, 3})));
  CHECK(digest(list({1, 2})) != digest(list({1})));
  Voter_List a = list({1}), b = list({1});
  a[0].name = "DB_1";
  b[0].name = "db-1";
  b[0].host = "elsewhere";
  CHECK(digest(a) == digest(b));
  CHECK(digest(a).size() == 16);
  // As another build has to compute it, too.
  CHECK(digest({}) == "cbf29ce484222325");
}

TEST_CASE("a voter that is lost is left out until a list without it is confirmed") {
  Voter_Lists lists = knows(list({1, 2, 3}));
  lists.lost = {{make_node(2, "n2"), "then"}, {make_node(3, "n3"), "then"}};
  CHECK(describe(required_lists(lists, list({1, 2, 3}))) == "n1");
  CHECK(describe(required_lists(lists, list({1, 2, 3}), true)) == "n1, n2, n3");
  CHECK_FALSE(confirms(lists, list({1, 2, 3}), votes_for_n1({"n1"}, digest(list({1, 2, 3})))));
  CHECK(confirms(lists, list({1}), votes_for_n1({"n1"}, digest(list({1})))));
  lists = after_confirming(lists, list({1}));
  CHECK(lists.lost.size() == 2);
  CHECK(describe(required_lists(lists, list({1, 2, 3}))) == "n1, n2, n3 | n1");
  // One that follows another has no say in this.
  CHECK(after_reading(lists, list({1}), true).lost.empty());
}

TEST_CASE("what is kept of lists is read back, and nothing else is") {
  Voter_Lists lists = knows(list({1, 2}), {list({1}), list({1, 3})});
  lists.confirmed[0].name = "n \"1\"\n\xff";
  lists.lost = {{make_node(9, "n9"), "2026-11-28T06:00:00.000Z", false}};
  for (Voter_List* nodes : {&lists.confirmed, &lists.received[0], &lists.received[1]}) {
    for (Node& node : *nodes) node.type.clear(), node.active = false;
  }
  lists.lost[0].node.type.clear();
  lists.lost[0].node.active = false;
  const std::string text = print_voters(lists);
  std::string why;
  const auto again = parse_voters(text, why);
  REQUIRE_MESSAGE(again, why);
  CHECK(*again == lists);
  for (std::size_t size = 0; size + 1 < text.size(); ++size) {
    CHECK_FALSE(parse_voters(text.substr(0, size), why));
  }
  for (const char* other : {"{}", "[]", "1", "{\"version\":\"primgr 2\"}", "\xff"}) {
    CHECK_FALSE(parse_voters(other, why));
    CHECK_FALSE(why.empty());
    CHECK_FALSE(parse_lost_note(other));
  }
  const auto note = parse_lost_note(print_lost_note({{"n2", "n\xff"}, "then"}));
  REQUIRE(note);
  CHECK(note->names == std::vector<std::string>{"n2", "n\xff"});
  CHECK(note->since == "then");
}

TEST_CASE("a primary that unregisters the voters it lacks is not Primary by that") {
  Alone n1;
  CHECK(n1.node.get_state() == State::unknown);
  n1.look(Alone::with_primary({1}));
  CHECK(n1.node.get_state() == State::unknown);
  const Report report = n1.node.get_report();
  CHECK(report.decision.reason ==
        "no majority of the voters before the last change of repmgr.nodes votes for it");
  REQUIRE(find_problems(report).size() == 1);
  const std::string problem = find_problems(report)[0];
  INFO(problem);
  CHECK(problem.find("1 of 1 votes, 1 needed: n1 (this node) names n1; and of the voters before: "
                     "1 of 3 votes, 2 needed: ") != std::string::npos);
  CHECK(problem.find("primgr --lost n2 n3") != std::string::npos);
  CHECK(n1.logged("primgr --lost n2 n3") == 2);
  // They are asked all the same, and come back.
  n1.names("n2", "n1");
  n1.pass(1s);
  n1.look(Alone::with_primary({1}));
  CHECK(n1.node.get_state() == State::primary);
  CHECK(n1.node.get_report().lists.size() == 1);
  CHECK(names_of(n1.stored.confirmed) == "n1");
  CHECK(n1.logged("the voters are now n1; they were n1, n2, n3") == 1);
}

TEST_CASE("an operator who declares voters lost makes it Primary, and is told if one lives") {
  Alone n1;
  n1.node.declare_lost({{"n3", "n2", "n1", "other"}, "2026-11-28T06:00:00Z"});
  n1.pass(1s);
  n1.pass(1s);
  CHECK(n1.logged("these are lost for good, so they are no voters any more: n3, n2") == 1);
  n1.look(Alone::with_primary({1, 2, 3}));
  CHECK(n1.node.get_state() == State::primary);
  CHECK(n1.stored.lost.size() == 2);
  n1.look(Alone::with_primary({1}));
  CHECK(names_of(n1.stored.confirmed) == "n1");
  CHECK_FALSE(n1.stored.lost[0].left_out);

  n1.states["n2"] = {200, R"({"state":"Primary"})", ""};
  n1.pass(2s);
  n1.look(Alone::with_primary({1}));
  n1.pass(1s);
  n1.look(Alone::with_primary({1}));
  CHECK(n1.node.get_report().rivals == std::vector<std::string>{"n2"});
  CHECK(n1.logged("n2 is Primary too: two nodes of one site take writes") == 1);
  const std::string alive =
      "n2 was declared lost at 2026-11-28T06:00:00Z, but it answers, and its state is Primary";
  CHECK(n1.logged(alive) == 1);
  const auto problems = find_problems(n1.node.get_report());
  REQUIRE(problems.size() == 2);
  CHECK(problems[0] == "n2 claims to be Primary too");
  CHECK(problems[1].starts_with(alive));
  n1.node.declare_lost({{}, "now"});
  n1.pass(1s);
  CHECK(n1.logged("no voter is taken for lost") == 1);
}

TEST_CASE("a voter that answers is not lost, whatever the operator says") {
  Alone n1;
  n1.states["n2"] = {202, R"({"state":"Standby"})", ""};
  n1.pass(1s);
  n1.look(Alone::with_primary({1}));
  n1.pass(1s);
  n1.look(Alone::with_primary({1}));
  n1.node.declare_lost({{"n2", "n3"}, "then"});
  CHECK(n1.node.get_report().declaration_pending);
  n1.pass(1s);
  n1.pass(1s);
  CHECK(n1.logged("n2 answers, so it is not lost") == 1);
  CHECK_FALSE(n1.node.get_report().declaration_pending);
  n1.look(Alone::with_primary({1}));
  CHECK(n1.node.get_state() == State::unknown);
  REQUIRE(n1.stored.lost.size() == 1);
  CHECK(n1.stored.lost[0].node.name == "n3");
}

TEST_CASE("who was not asked since, or whose packet was lost, is not taken for lost") {
  Alone n1;
  n1.hold = true;  // the questions that are sent now are under way
  n1.pass(1s);
  n1.now += 1ms;
  n1.node.declare_lost({{"n2", "n3"}, "then"});
  n1.look(Alone::with_primary({1}));
  n1.release();
  n1.hold = false;
  n1.pass(1ms);
  CHECK(n1.node.get_report().declaration_pending);
  n1.pass(1s);  // one question has no reply
  CHECK(n1.node.get_report().declaration_pending);
  CHECK(n1.node.get_state() == State::unknown);
  n1.states["n2"] = {202, R"({"state":"Standby"})", ""};
  n1.pass(1s);
  CHECK(n1.node.get_report().lost == std::vector<std::string>{"n3"});
  CHECK(n1.node.get_state() == State::unknown);
}

TEST_CASE("who cannot read what counted is not Primary by what it reads, until a Primary tells") {
  Voter_Lists lists;
  lists.unreadable = "voters: damaged";
  World n1(World::named("n1"), {[] { return Grant{}; }, nullptr}, {}, lists);
  n1.names("n2", "n1");
  n1.names("n3", "n1");
  n1.look(make_facts(make_site(3)));
  CHECK(n1.node.get_state() == State::unknown);
  CHECK(n1.node.get_report().decision.reason == "voters: damaged");
  CHECK(n1.stored == Voter_Lists());  // the file stays as it is
  auto nodes = make_site(3);
  nodes[0].type = "standby";
  nodes[1].type = "primary";
  n1.look(make_facts(nodes, true));
  CHECK(n1.node.get_state() == State::standby);
  n1.node.grant_vote("n2", 4s, "", digest(make_site(3)));
  n1.look(make_facts(nodes, true));
  CHECK(names_of(n1.stored.confirmed) == "n1, n2, n3");
  n1.pass(5s);
  n1.look(make_facts(make_site(3)));
  CHECK(n1.node.get_state() == State::primary);
}

TEST_CASE("a lost voter that votes again is lost no more") {
  Alone n1;
  n1.node.declare_lost({{"n2", "n3"}, "then"});
  n1.pass(1s);
  n1.pass(1s);
  n1.names("n2", "n1");
  n1.pass(1s);
  n1.look(Alone::with_primary({1, 2, 3}));
  n1.look(Alone::with_primary({1, 2, 3}));
  CHECK(n1.logged("n2 votes again, so it is lost no more") == 1);
  REQUIRE(n1.stored.lost.size() == 1);
  CHECK(n1.stored.lost[0].node.name == "n3");
}

TEST_CASE("a rival is one that was asked after this node became Primary") {
  World n1;
  n1.names("n2", "n1");
  n1.states["n3"] = {200, R"({"state":"Primary"})", ""};
  n1.look(Alone::with_primary({1, 2, 3}));
  CHECK(n1.node.get_state() == State::primary);
  CHECK(n1.node.get_report().rivals.empty());
  n1.pass(1s);
  n1.look(Alone::with_primary({1, 2, 3}));
  CHECK(n1.node.get_report().rivals == std::vector<std::string>{"n3"});
  CHECK(n1.logged("n3 is Primary too") == 1);
}

TEST_CASE("a Primary tells its confirmed list, a candidate does not, and a standby takes it") {
  World n1;
  std::vector<std::string> questions;
  n1.answers = [&](const std::string& peer, const std::string& target) {
    if (target.starts_with("/primary") && peer == "n2") questions.push_back(target);
    return Http_Reply{200, R"({"Primary":"n1"})", "", n1.now};
  };
  n1.look(Alone::with_primary({1, 2}));
  n1.pass(1s);
  n1.look(Alone::with_primary({1, 2}));
  REQUIRE(questions.size() >= 2);
  CHECK(parameters(questions.front()).find("list")->second == "");
  CHECK(parameters(questions.back()).find("list")->second == digest(list({1, 2})));

  World n3(World::named("n3"));
  const auto read = [&](std::initializer_list<int> ids) {
    Facts facts = Alone::with_primary(ids);
    facts.in_recovery = true;
    n3.look(facts);
  };
  read({1, 2, 3});
  read({1, 3});
  CHECK(n3.node.grant_vote("n1", 0s, "", "").list == digest(list({1, 3})));
  read({1, 3});
  CHECK(names_of(n3.stored.confirmed) == "n1, n2, n3");
  n3.node.grant_vote("n1", 0s, "", digest(list({1, 3})));
  read({1, 3});
  CHECK(names_of(n3.stored.confirmed) == "n1, n3");
  // What is only said is not written.
  const Voter_Lists before = n3.stored;
  n3.node.grant_vote("n1", 0s, "", std::string(5000, 'x'));
  read({1, 3});
  CHECK(n3.stored == before);
  // One of an earlier version does not tell.
  read({1, 3, 4});
  n3.node.grant_vote("n1", 0s, "");
  read({1, 3, 4});
  CHECK(names_of(n3.stored.confirmed) == "n1, n3, n4");
}

TEST_CASE("a site without a Primary takes the list that the Primary of another site has") {
  World n3(World::named("n3"));
  const auto read = [&](std::initializer_list<int> ids) {
    Facts facts = Alone::with_primary(ids);
    for (Node& node : facts.nodes) node.site = node.id == 1 ? "a" : "b";
    facts.in_recovery = true;
    n3.look(facts);
  };
  read({1, 2, 3});
  read({1, 3});
  CHECK(describe(n3.stored.received) == "n3");
  n3.states["n1"] = {200, R"({"state":"Primary"})", ""};
  n3.pass(1s);
  read({1, 3});
  read({1, 3});
  CHECK(names_of(n3.stored.confirmed) == "n3");
  CHECK(n3.stored.received.empty());
}

TEST_SUITE_END();
