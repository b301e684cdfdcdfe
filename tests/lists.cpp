// Numbered lists of voters: each rule by itself, and the text in which they are served and stored.
// That the rules together never let two nodes be Primary is searched by tests/prove.cpp.

#include <doctest/doctest.h>

#include <string>

#include "node/peers/lists_text.hpp"
#include "node/rules/lists.hpp"

using namespace primgr;
using namespace primgr::lists;

namespace {

Number number(std::uint64_t round, int maker, std::uint32_t count = 0) {
  return {{round, maker}, count};
}

// A node that has the list {1 2 3} of round 1.
Participant node(int id, const Members& members = {1, 2, 3}) {
  Participant node;
  node.id = id;
  node.held.current = first_list(members);
  return node;
}

// Asks, and takes what is answered; each fetches what the other has to tell.
void ask_each(Participant& candidate, Participant& voter, bool bound = false) {
  Members votes;
  for (const auto& [id, report] : candidate.candidate.reports) votes.push_back(id);
  const Answer given = answer(voter.held, ask(candidate), bound);
  Replied taken = replied(candidate, voter.id, given.reply, votes);
  candidate = taken.node;
  if (taken.fetch) candidate = fetched(candidate, voter.id, served(voter), false, {1, 2, 3, 4});
  if (!given.fetch) return;
  const Participant learnt = fetched(voter, candidate.id, served(candidate), bound, {1, 2, 3, 4});
  voter = learnt;
  if (candidate.id == voter.id) candidate = learnt;
}

Node make_lost(int id, const std::string& name) {
  Node node;
  node.id = id;
  node.name = name;
  return node;
}

// Node 1, with the votes of 1 and 2, which have noted its round.
struct Reign {
  Participant n1 = node(1), n2 = node(2), n3 = node(3);
  Reign() {
    ask_all();
    ask_all();
  }
  void ask_all() {
    ask_each(n1, n1);
    ask_each(n1, n2);
  }
  void propose(const Members& wished, const Members& answering = {1, 2, 3, 4}) {
    n1 = proposed(n1, wished, answering, {1, 2});
  }
};

}  // namespace

TEST_SUITE_BEGIN("lists");

TEST_CASE("numbers are ordered by round, maker and count") {
  CHECK(number(1, 9, 9) < number(2, 1));
  CHECK(number(2, 1, 9) < number(2, 2));
  CHECK(number(2, 2, 0) < number(2, 2, 1));
  CHECK_FALSE(Number{});
  CHECK(first_list({1, 2}).number == first_list({1, 2}).number);
  CHECK(first_list({1, 2}).number != first_list({1, 3}).number);
  CHECK(first_list({1, 2}).number < number(2, 1));
}

TEST_CASE("a majority is more than half of a list, which is not empty") {
  CHECK(is_majority({1, 2, 3}, {1, 3}));
  CHECK_FALSE(is_majority({1, 2, 3}, {3, 4, 5}));
  CHECK_FALSE(is_majority({1, 2}, {2}));
  CHECK_FALSE(is_majority({}, {1}));
}

TEST_CASE("a voter compares current lists before all else") {
  Held held = node(2).held;
  const Number first = held.current.number;
  held.current.number = number(3, 1);
  Answer given = answer(held, {1, first, 5, {}}, true);
  CHECK_FALSE(given.reply.vote);
  CHECK(given.reply.newer);
  CHECK_FALSE(given.fetch);

  given = answer(held, {1, number(4, 1), 5, {}}, true);
  CHECK_FALSE(given.reply.vote);
  CHECK_FALSE(given.reply.newer);
  CHECK(given.fetch);

  held.pending = {number(4, 1), false, {1, 2}};
  CHECK(answer(held, {1, number(4, 1), 5, {}}, false).reply.vote);  // confirmed meanwhile
  CHECK_FALSE(answer(held, {1, number(4, 2), 5, {}}, false).reply.vote);
}

TEST_CASE("a number is no reason to refuse a vote, and a question changes nothing that lasts") {
  Held held = node(2).held;
  held.noted = {7, 3};
  const Number current = held.current.number;
  CHECK(answer(held, {1, current, 2, {}}, false).reply.vote);
  CHECK(answer(held, {1, current, 2, {}}, false).reply.noted == Round{7, 3});
  CHECK_FALSE(answer(held, {1, current, 2, {}}, true).reply.vote);

  const Answer forged = answer(held, {1, current, highest_round, number(9, 1)}, false);
  CHECK(forged.fetch);
  CHECK(forged.reply.noted == Round{7, 3});
  CHECK_FALSE(forged.reply.acknowledged);
  Participant voter = node(2);
  voter.held = held;
  CHECK(fetched(voter, 1, served(node(1)), false, {}) == voter);
}

TEST_CASE("a candidate with a majority of its list reigns, and its voters note its round") {
  Reign reign;
  CHECK(reign.n1.candidate.reigns);
  CHECK(is_elected(reign.n1));
  CHECK(reign.n2.held.noted == Round{2, 1});
  CHECK(reign.n1.candidate.reports.at(2).noted);
  CHECK(to_ask(reign.n1, {1, 5}) == Members{1, 2, 3, 5});
}

TEST_CASE("a list is made when its round is noted, and confirmed by majorities of both") {
  Reign reign;
  reign.propose({1, 2, 4}, {1});
  CHECK_FALSE(reign.n1.candidate.made);  // nobody answers by it
  reign.propose({1, 2, 4});
  CHECK(reign.n1.held.pending == List{number(2, 1), false, {1, 2, 4}});
  CHECK(counted(reign.n1).size() == 1);  // not for its maker
  CHECK(confirmed(reign.n1, {1, 2}).held.pending.number);

  reign.ask_all();
  CHECK(reign.n2.held.pending.number == number(2, 1));
  CHECK(confirmed(reign.n1, {1, 2}).held.pending.number);
  reign.ask_all();
  CHECK(confirmed(reign.n1, {1}).held.pending.number);  // its vote has expired
  const Participant done = confirmed(reign.n1, {1, 2});
  CHECK(done.held.current == List{number(2, 1), false, {1, 2, 4}});
  CHECK_FALSE(done.held.pending.number);
  CHECK(done.candidate.reigns);

  reign.n1 = done;
  reign.ask_all();
  CHECK(reign.n2.held.current == done.held.current);
  ask_each(reign.n3, reign.n2);  // who has an older list learns the newer one first
  CHECK(reign.n3.held.current == done.held.current);
  CHECK(reign.n3.candidate == Candidate{});
}

TEST_CASE("no list is made before a majority has noted the round") {
  Participant n1 = node(1), n2 = node(2);
  ask_each(n1, n1);
  ask_each(n1, n2);
  REQUIRE(n1.candidate.reigns);
  CHECK(proposed(n1, {1, 2}, {1, 2}, {1, 2}) == n1);
}

TEST_CASE("an own list is replaced with a higher count") {
  Reign reign;
  reign.propose({1, 2, 4});
  reign.ask_all();
  reign.ask_all();
  reign.propose({1, 2, 3});
  CHECK(reign.n1.held.pending == List{number(2, 1, 1), false, {1, 2, 3}});
  CHECK(confirmed(reign.n1, {1, 2}).held.current.number.round.number == 1);
  // The acknowledgement of the list before comes late.
  Reply late{reign.n1.held.current.number, true, false, {2, 1}, {}, number(2, 1)};
  CHECK_FALSE(replied(reign.n1, 2, late, {1, 2}).node.candidate.reports.at(2).acknowledged);
}

TEST_CASE("a candidate counts the pending list that a voter reports, and carries it on") {
  Participant n1 = node(1), n2 = node(2), n4 = node(4);
  n2.held.pending = {number(2, 3), false, {2, 3, 4}};
  ask_each(n1, n1);
  const Answer given = answer(n2.held, ask(n1), false);
  Replied taken = replied(n1, 2, given.reply, {1});
  CHECK(taken.fetch);
  CHECK_FALSE(is_elected(taken.node));  // not known yet
  CHECK(counted(taken.node).back().members.empty());
  CHECK(taken.node.candidate.round == 3);

  n1 = fetched(taken.node, 2, served(n2), false, {1, 2});
  CHECK(counted(n1).back().members == Members{2, 3, 4});
  CHECK_FALSE(is_elected(n1));
  CHECK(settled(n1, {1}).candidate.found == List{});  // forgotten with the vote
  ask_each(n1, n4);
  CHECK(n1.candidate.reigns);

  for (int i = 0; i < 2; ++i) {
    for (Participant* voter : {&n1, &n2, &n4}) ask_each(n1, *voter);
  }
  n1 = proposed(n1, {1, 2, 3}, {1, 2, 4}, {1, 2, 4});
  CHECK(n1.held.pending == List{number(3, 1), true, {2, 3, 4}});
  CHECK(proposed(n1, {1, 2, 3}, {1, 2, 4}, {1, 2, 4}) == n1);  // not to be replaced
}

TEST_CASE("what is reported in the reign raises the round only") {
  Reign reign;
  reign.propose({1, 2, 4});
  Reply reply{reign.n1.held.current.number, true, false, {5, 3}, number(5, 3), {}};
  const Replied taken = replied(reign.n1, 2, reply, {1, 2});
  CHECK_FALSE(taken.fetch);
  CHECK(taken.node.candidate.reigns);
  CHECK(taken.node.candidate.round == 6);
  CHECK(counted(taken.node).size() == 1);
  CHECK_FALSE(taken.node.candidate.reports.at(1).noted);

  reign.n1 = taken.node;
  reign.ask_all();
  reign.ask_all();
  reign.propose({1, 2, 4});
  CHECK(reign.n1.held.pending == List{number(6, 1), false, {1, 2, 4}});  // made again
}

TEST_CASE("a gap in the reign ends everything") {
  Reign reign;
  reign.propose({1, 2, 4});
  const Participant after = settled(reign.n1, {2});
  CHECK(after.candidate == Candidate{});
  CHECK(after.held == reign.n1.held);
  CHECK(counted(after).size() == 2);  // its own counts now
}

TEST_CASE("a voter stores what its candidate has made, and no lower list") {
  Reign reign;
  reign.propose({1, 2, 4});
  const Served told = served(reign.n1);
  CHECK(fetched(reign.n3, 1, told, true, {}) == reign.n3);
  CHECK(fetched(reign.n3, 1, told, false, {}).held.pending.number == number(2, 1));
  Served unmade = told;
  unmade.made = false;
  CHECK_FALSE(fetched(reign.n3, 1, unmade, false, {}).held.pending.number);
  Participant holds = reign.n3;
  holds.held.pending = {number(2, 2), false, {1, 2}};
  CHECK(fetched(holds, 1, told, false, {}).held.pending.number == number(2, 2));
  Served elsewhere = told;
  elsewhere.held.scope.site = "dc2";
  CHECK(fetched(reign.n3, 1, elsewhere, false, {}) == reign.n3);
}

TEST_CASE("who knows no list takes one, and votes after a Primary has told it") {
  Reign reign;
  Participant blank;
  blank.id = 3;
  Participant candidate = node(1);
  candidate.held.current.number = number(4, 1);
  const Question question{1, number(4, 1), 5, {}};
  CHECK_FALSE(answer(blank.held, question, false).reply.vote);
  Participant mute = fetched(blank, 1, served(candidate), false, {});
  CHECK(mute.held.mute);
  CHECK_FALSE(answer(mute.held, question, false).reply.vote);
  CHECK(answer(mute.held, question, false).fetch);
  candidate.candidate.reigns = true;
  CHECK_FALSE(fetched(mute, 1, served(candidate), false, {}).held.mute);
  CHECK_FALSE(fetched(blank, 1, served(reign.n1), false, {}).held.mute);  // the cluster begins
  candidate.candidate.reigns = false;
  blank.id = 4;
  CHECK_FALSE(fetched(blank, 1, served(candidate), false, {}).held.mute);  // no voter yet
}

TEST_CASE("a cluster in which nobody knows a list starts from what is read") {
  Participant n1, n2, n3 = node(3);
  n1.id = 1, n2.id = 2;
  ask_each(n1, n1);
  CHECK(started(n1, {1, 2, 3}, {1}).held.current == List{});
  Participant told = n1;
  told = replied(told, 3, answer(n3.held, ask(told), false).reply, {1}).node;
  ask_each(told, n2);
  CHECK(started(told, {1, 2, 3}, {1, 2}).held.current == List{});  // n3 knows one
  ask_each(n1, n2);
  CHECK_FALSE(is_elected(n1));
  n1 = started(n1, {1, 2, 3}, {1, 2});
  CHECK(n1.held.current == first_list({1, 2, 3}));
  ask_each(n1, n2);
  CHECK(n2.held.current == n1.held.current);
}

TEST_CASE("--lost makes lists of a higher round without them") {
  Participant n1 = node(1);
  n1.held.pending = {number(4, 2), false, {1, 3, 4}};
  const auto left = without(n1, {2, 3});
  REQUIRE(left);
  CHECK(left->held.current == List{number(5, 1), false, {1}});
  CHECK(left->held.pending == List{number(5, 1, 1), true, {1, 4}});
  CHECK_FALSE(without(n1, {1, 2, 3}));
  // It was registered beside the first node, and never heard that this was confirmed.
  Participant second = node(2);
  second.held.current = first_list({1});
  second.held.pending = {number(2, 1), false, {1, 2, 3}};
  const auto alone = without(second, {1, 3});
  REQUIRE(alone);
  CHECK(alone->held.current == List{number(3, 2), false, {2}});
  CHECK_FALSE(alone->held.pending.number);
  n1.candidate.reports[2] = {false, false, number(6, 2)};
  CHECK_FALSE(without(n1, {2, 3}));  // a list that is not known here
}

TEST_CASE("lists are read as they were printed") {
  Served told;
  told.held.scope.site = "dc \xff";
  told.held.current = {number(highest_round, 3, 7), true, {1, 2, 3}};
  told.held.noted = {5, 2};
  told.round = 8;
  told.reigns = told.made = true;
  const Addresses known = {
      {1, {"n\xff", "h1", "10.0.0.1"}}, {3, {"n3", std::string(256, 'x')}}, {9, {}}};
  const std::string text = print_lists(told, known);
  Addresses found;
  std::string why;
  CHECK(parse_lists(text, found, why) == told);
  CHECK(why == "");
  CHECK(found == Addresses{{1, {"n\xff", "h1", "10.0.0.1"}}, {3, {"n3", ""}}});
  for (std::size_t size = 0; size + 1 < text.size(); ++size) {
    CHECK_FALSE(parse_lists(text.substr(0, size), found, why));
  }

  const std::vector<Held> held = {told.held, node(1).held};
  const Voter_Lists kept = {held, found, {{make_lost(4, "n4"), "today"}}, {77, 5, 2}, ""};
  CHECK(parse_held(print_held(kept), false, why) == kept);
}

TEST_CASE("the longest lists are served") {
  Served told;
  Addresses addresses;
  for (int id = 1; id <= 200; ++id) {
    const int large = 2'000'000'000 + id;
    (id % 2 ? told.held.current : told.held.pending).members.push_back(large);
    addresses[large] = {std::string(63, '\xff'), std::string(255, '\xff'), std::string(63, '\xff')};
  }
  told.held.current.number = number(1, 0, 1);
  told.held.pending.number = number(2, 1);
  const std::string text = print_lists(told, addresses);
  CHECK(text.size() <= most_list_bytes);
  Addresses found;
  std::string why;
  CHECK(parse_lists(text, found, why) == told);
  CHECK(found == addresses);
  told.held.current.members.push_back(2'000'001'000);
  CHECK_FALSE(parse_lists(print_lists(told, {}), found, why));
  CHECK(why == "has a damaged current");
}

TEST_CASE("damaged lists are refused") {
  const std::string good =
      R"({"noted":[1,0],"current":{"number":[2,1,0],"carries":false,"members":[1,2]},"round":0,"addresses":[]})";
  const auto with = [&](const std::string& part, const std::string& other) {
    std::string text = good;
    return text.replace(text.find(part), part.size(), other);
  };
  Addresses found;
  std::string why;
  CHECK(parse_lists(good, found, why));
  for (const std::string& text :
       {with("[1,2]", "[2,1]"), with("[1,2]", "[1,1]"), with("[1,2]", "[]"), with("[1,2]", "[-1]"),
        with("[1,2]", "[1.5]"), with("[2,1,0]", "[2,1]"), with("[2,1,0]", "[0,1,0]"),
        with("[2,1,0]", "[1000000000000001,1,0]"), with("[2,1,0]", "[2,1,4294967296]"),
        with("[1,0]", "null"), with("false", "0"), with("\"round\":0", "\"round\":-1"),
        with("[]", "[{\"id\":1}]"), with("[1,2]", "[[[[[[1]]]]]]"),
        with("\"round\"", "\"pending\":{\"number\":[1,1,0],\"members\":[1]},\"round\""),
        std::string("[]"), std::string("\xff"), std::string(most_list_bytes + 1, ' ')}) {
    CAPTURE(text.substr(0, 200));
    CHECK_FALSE(parse_lists(text, found, why));
    CHECK(why != "");
  }
}

TEST_CASE("the file of version 1.0 is read as round 1") {
  const std::string node =
      R"({"id":1,"name":"n1","site":"dc1","host":"h1"},{"id":2,"name":"n2","site":"dc1","host":"h2"})";
  const std::string last = R"({"id":4,"name":"n4","site":"dc1","host":"h4"})";
  const std::string gone =
      R"({"id":2,"name":"n2","site":"dc1","host":"","since":"","leftOut":true})";
  const auto read = [&](const std::string& received, const std::string& lost) {
    std::string why;
    const auto lists =
        parse_held(R"({"version":"primgr 1","confirmed":[)" + node + R"(],"received":[)" +
                       received + R"(],"lost":[)" + lost + "]}",
                   false, why);
    CHECK(why == "");
    REQUIRE(lists);
    REQUIRE(lists->held.size() == 1);
    CHECK(lists->addresses.at(1) == Voter_Address{"n1", "h1"});
    return lists->held.front();
  };
  CHECK(read("", "") == Held{{"dc1"}, first_list({1, 2}), {}, {}});
  CHECK(read("", gone).current == first_list({1}));
  const Held both = read("[" + last + "]", "");
  CHECK(both.current == first_list({1, 2}));
  CHECK(both.pending.members == Members{4});
  CHECK(both.pending.number.round == Round{2, 0});
  std::string why;
  CHECK_FALSE(parse_held(R"({"version":"primgr 3"})", false, why));
  CHECK(why == "is damaged, or of a later version");
}

TEST_SUITE_END();
