#include <doctest/doctest.h>

#include "node/rules/lag.hpp"
#include "tests/world.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lag");

TEST_CASE("replay delay: how long WAL has been waiting, by this node's clock") {
  Replay_History history;
  CHECK_FALSE(history.delay(0s, 0));
  history.add(100s, 1000, 1000);
  CHECK(history.delay(500s, 1000) == 0s);  // an idle primary makes nobody late
  history.add(500s, 2000, 1000);
  CHECK(history.delay(500s, 1000) == 0s);
  history.add(501s, 3000, 1000);
  CHECK(history.delay(502s, 1000) == 2s);  // since 500 s there has been something to replay
  CHECK(history.delay(502s, 2000) == 1s);
  CHECK(history.delay(502s, 3000) == 0s);
  history.add(503s, 3000, 2500);
  CHECK(history.delay(503s, 2500) == 2s);
  // What was waiting before the history began is not known.
  Replay_History late;
  late.add(100s, 5000, 1000);
  CHECK_FALSE(late.delay(101s, 1000));
  CHECK(late.delay(101s, 5000) == 0s);
  // Another sender, which is behind: what was known of the first means nothing.
  history.add(504s, 1500, 1500);
  CHECK(history.delay(505s, 1500) == 0s);
  // Paused for a day: bounded, and as late as it is, to a minute or two.
  Replay_History paused;
  paused.add(0s, 1, 1);
  for (int i = 1; i <= 86'400; ++i) paused.add(std::chrono::seconds(i), Lsn(i) + 1, 1);
  CHECK(paused.size() <= 1024);
  CHECK(paused.delay(86'400s, 1).value() >= 86'400s - 3min);
  CHECK(paused.delay(86'400s, 43'200).value() >= 43'200s - 3min);
  CHECK(paused.delay(86'400s, 43'200).value() <= 43'200s + 3min);
}

TEST_CASE("lag: what is not known is unbounded, never zero") {
  Replay_History history;
  history.add(0s, 100, 100);
  // As the facts have it, of a standby that has received all that the Primary has.
  const auto measure = [&](const Facts& facts, const Replay_History& of) {
    Lag lag = measure_lag(facts, of);
    lag.stale = 0s;
    return lag;
  };
  const auto problem = [](const Lag& lag, std::optional<Lsn> bytes, std::optional<Time> delay) {
    return lag_problem(lag, bytes, delay, 4s);
  };
  Lag lag = measure(standby_facts(100, 100, 100), history);
  CHECK(lag.streaming);
  CHECK(lag.receive == 0U);
  CHECK(lag.replay == 0U);
  CHECK(lag.delay == 0s);
  CHECK(lag.problem.empty());
  CHECK(problem(lag, 0, 0s).empty());

  lag = measure(standby_facts(1000, 600, 100), history);
  CHECK(lag.receive == 400U);
  CHECK(lag.replay == 900U);
  CHECK(problem(lag, 900, std::nullopt).empty());
  CHECK(problem(lag, 899, std::nullopt) == "it has 900 bytes of WAL to replay, more than 899");
  // More was flushed than its sender was last heard to have.
  CHECK(measure(standby_facts(100, 600, 100), history).replay == 500U);

  const auto unbounded = [&](const std::function<void(Replication&)>& change) {
    Facts facts = standby_facts(100, 100, 100);
    change(facts.replication);
    const Lag found = measure(facts, history);
    CHECK_FALSE(found.replay);
    CHECK_FALSE(found.delay);
    CHECK_FALSE(problem(found, 1 << 30, std::nullopt).empty());
    CHECK_FALSE(problem(found, std::nullopt, 24h).empty());
    return found;
  };
  CHECK(unbounded([](auto& r) { r = {}; }).problem == "replication could not be looked at");
  CHECK(unbounded([](auto& r) { r.status.clear(); }).problem.find("pg_read_all_stats") !=
        std::string::npos);
  CHECK(unbounded([](auto& r) { r.sender_lsn.reset(); }).streaming);
  CHECK(unbounded([](auto& r) { r.position.reset(); }).streaming);

  // Before the history: the last commit tells, and nothing if there was none.
  Facts facts = standby_facts(1000, 1000, 100);
  facts.replication.since_commit = 7s;
  CHECK(measure(facts, {}).delay == 7s);
  facts.replication.since_commit.reset();
  CHECK_FALSE(measure(facts, {}).delay);
  CHECK(problem(measure(facts, {}), 1 << 20, std::nullopt).empty());
  CHECK(problem(measure(facts, {}), std::nullopt, 1h) == "it is not known how late it is");
}

TEST_CASE("without a WAL receiver what was received counts, and how stale the data may be") {
  Replay_History history;
  history.add(0s, 1000, 100);
  Facts facts = standby_facts(1000, 600, 100);
  facts.replication.receiving = false;
  facts.replication.status.clear();
  facts.replication.sender_lsn.reset();
  const auto problem = [&](std::optional<Time> stale, std::optional<Lsn> bytes,
                           std::optional<Time> delay) {
    Lag lag = measure_lag(facts, history);
    CHECK(lag.problem == "there is no WAL receiver: nothing is streamed to it");
    CHECK_FALSE(lag.streaming);
    CHECK_FALSE(lag.receive);
    lag.stale = stale;
    lag.unheard = "n1 does not answer";
    return lag_problem(lag, bytes, delay, 4s);
  };
  CHECK(measure_lag(facts, history).replay == 500U);
  CHECK(problem(5s, 500, 10s).empty());
  CHECK(problem(5s, 499, 10s) == "it has 500 bytes of WAL to replay, more than 499");
  CHECK(problem(10s, 500, 10s).empty());
  CHECK(problem(11s, 500, 10s) ==
        "its data may be 11000 ms old, more than 10000 ms: n1 does not answer; there is no WAL "
        "receiver: nothing is streamed to it");
  // Where nothing bounds it: 10 s. No bound is shorter than what is known of a healthy primary.
  CHECK(problem(10s, std::nullopt, std::nullopt).empty());
  CHECK_FALSE(problem(11s, 500, std::nullopt).empty());
  CHECK(problem(11s, 500, 11s).empty());
  CHECK(problem(4s, std::nullopt, 1s).empty());
  CHECK(problem(5s, std::nullopt, 1s) ==
        "its data may be 5000 ms old, more than 4000 ms: n1 does not answer; there is no WAL "
        "receiver: nothing is streamed to it");
  CHECK(problem(std::nullopt, std::nullopt, 24h) ==
        "it is not known how old its data are: n1 does not answer; there is no WAL receiver: "
        "nothing is streamed to it");
  // All of that is replayed; and a server that has streamed nothing since its start.
  facts.replication.position = 600;
  CHECK(problem(4s, 0, 0s).empty());
  facts.replication.received.reset();
  CHECK_FALSE(measure_lag(facts, history).replay);
  CHECK(problem(5s, 0, 10s).empty());
  // A receiver that does not stream is none.
  facts.replication.receiving = true;
  facts.replication.status = "waiting";
  CHECK(measure_lag(facts, history).problem == "its WAL receiver is waiting, not streaming");
  CHECK_FALSE(measure_lag(facts, history).streaming);
}

TEST_SUITE_END();
