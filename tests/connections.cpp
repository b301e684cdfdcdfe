#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <future>
#include <list>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/json.hpp"
#include "base/thread_pool.hpp"
#include "base/time.hpp"
#include "daemon/http/wait_limiter.hpp"
#include "tests/raw_server.hpp"
#include "tests/served.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("connections");

namespace {

// An idle connection ends by itself after 5 s. So an attempt that lasted as long, on a machine that
// is busy, tells nothing, and is made anew.
bool soon(const std::function<bool()>& attempt) {
  for (int i = 0; i < 10; ++i) {
    if (attempt()) return true;
  }
  return false;
}

// Connects 100 times from one address. Returns whether all but the last 8 are closed, and another
// address is served.
bool closes_crowd(const Served& served) {
  const int other = connect_from("127.0.0.3", served.port);
  std::vector<int> fds;
  for (int i = 0; i < 100; ++i) {
    fds.push_back(connect_from("127.0.0.2", served.port));
    if (i % 2) CHECK(::send(fds.back(), "GET /sta", 8, MSG_NOSIGNAL) == 8);
  }
  // Answered while they are all connected.
  CHECK(served.ask("GET", "/state").status == 202);
  const bool closed =
      eventually(4, [&] { return std::count_if(fds.begin(), fds.end(), is_ended) == 92; }) &&
      std::none_of(fds.end() - 8, fds.end(), is_ended);
  std::string answer(12, ' ');
  const bool answered = ::send(other, "GET /state HTTP/1.1\r\n\r\n", 23, MSG_NOSIGNAL) == 23 &&
                        ::recv(other, answer.data(), 12, MSG_WAITALL) == 12;
  fds.push_back(other);
  for (const int fd : fds) ::close(fd);
  return closed && answered && answer == "HTTP/1.1 202";
}

}  // namespace

TEST_CASE(
    "too many connections from one address: those that waited longest are closed, others are not") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  Config config;
  config.max_clients = 32;  // 32 connections at a time, 8 from an address
  CHECK(soon([&] { return closes_crowd(Served(world, config)); }));
}

TEST_CASE("Wait_Limiter: an address has no more places than it leaves free") {
  Wait_Limiter waiting(3);
  std::optional<Wait_Limiter::Slot> first(std::in_place, waiting, "a");
  const Wait_Limiter::Slot second(waiting, "a");
  CHECK(bool(*first));
  CHECK(bool(second));
  CHECK_FALSE(bool(Wait_Limiter::Slot(waiting, "a")));
  const Wait_Limiter::Slot other(waiting, "b");
  CHECK(bool(other));
  CHECK_FALSE(bool(Wait_Limiter::Slot(waiting, "c")));
  first.reset();
  CHECK(bool(Wait_Limiter::Slot(waiting, "c")));
  CHECK_FALSE(bool(Wait_Limiter::Slot(waiting, "a")));
}

TEST_CASE("Wait_Limiter: a few addresses that take all they may leave a place for another") {
  Wait_Limiter waiting(64);
  std::list<Wait_Limiter::Slot> taken;
  for (const char* greedy : {"a", "b", "c", "d"}) {
    while (taken.emplace_back(waiting, greedy)) continue;
  }
  for (const char* voter : {"n1", "n2"}) CHECK(bool(taken.emplace_back(waiting, voter)));
}

namespace {

// A load balancer at another address than the load is answered each time.
void check_health_checks(int port) {
  int answered = 0;
  for (int i = 0; i < 50; ++i) {
    answered += check_from("127.0.0.3", port).starts_with("HTTP/1.1 202");
  }
  CHECK(answered == 50);
}

}  // namespace

TEST_CASE("clients that wait for /cluster do not delay health checks") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(2), true));
  std::mutex mutex;
  bool silent = true;
  std::vector<std::function<void(Http_Reply)>> held;
  const Http_Reply told{200, R"({"name":"n1","state":"Primary"})", "", {}};
  Config config;
  config.max_clients = 32;  // 32 connections at a time, 8 from an address
  config.node.peer_timeout = 1min;
  const Served served(
      world, config,
      [&](const Node&, const std::string&, Time, std::function<void(Http_Reply)> done) {
        {
          const std::lock_guard lock(mutex);
          if (silent) return held.push_back(std::move(done));
        }
        done(told);
      });
  Load_Generator load("127.0.0.2", served.port,
                      "GET /cluster HTTP/1.1\r\nConnection: close\r\n\r\n", 60);
  CHECK(eventually(20, [&] { return load.answers("\r\nRetry-After: 60\r\n") >= 100; }));
  // The peer stays silent, so those who wait for it are still connected.
  check_health_checks(served.port);
  // Another address may wait for the same collection.
  std::thread other([&] {
    const auto response = served.ask("GET", "/cluster");
    CHECK(response.status == 200);
    CHECK(Json::parse(response.body)["realPrimary"] == "n1");
  });
  CHECK(load.answers("\"sites\"") == 0);
  {
    const std::lock_guard lock(mutex);
    silent = false;
    CHECK(held.size() == 1);
    for (auto& done : held) done(told);
  }
  other.join();
  CHECK(eventually(20, [&] { return load.answers("\"realPrimary\":\"n1\"") > 0; }));
  // Those who may not wait get the last answer, while it is recent.
  {
    const std::lock_guard lock(mutex);
    silent = true;
    held.clear();
  }
  CHECK(eventually(20, [&] {
    const std::lock_guard lock(mutex);
    return !held.empty();
  }));
  const std::size_t before = load.answers("\"realPrimary\":\"n1\"");
  CHECK(eventually(20, [&] { return load.answers("\"realPrimary\":\"n1\"") > before + 100; }));
  {
    const std::lock_guard lock(mutex);
    silent = false;
    for (auto& done : held) done(told);
  }
  load.end();
}

TEST_CASE("clients that wait for a vote do not delay health checks while state_file hangs") {
  std::promise<void> let_go;
  const auto written = let_go.get_future().share();
  std::atomic<int> saving = 0;
  World world(World::named("n2"), {[] { return Grant{}; },
                                   [&](const Grant& grant, Deadline) {
                                     ++saving;
                                     written.wait();
                                     return grant;
                                   }});
  world.look(make_facts(make_site(3), true));
  Config config;
  config.max_clients = 32;
  const Served served(world, config);
  Load_Generator load("127.0.0.2", served.port,
                      "GET /primary?candidate=n1 HTTP/1.1\r\nConnection: close\r\n\r\n", 60);
  CHECK(eventually(20, [&] { return load.answers("HTTP/1.1 503 ") >= 100; }));
  check_health_checks(served.port);
  CHECK(saving == 1);
  CHECK(load.answers("HTTP/1.1 200 ") == 0);
  let_go.set_value();
  CHECK(eventually(20, [&] { return load.answers("HTTP/1.1 200 ") > 0; }));
}

TEST_CASE("a thread pool grows while jobs wait, also if no address space need be spare") {
  std::atomic<int> running = 0;
  std::atomic<bool> end = false;
  {
    Thread_Pool threads({2, 4, 256 * 1024, 0});
    for (int i = 0; i < 4; ++i) {
      CHECK_FALSE(threads.run([&] {
        ++running;
        eventually(20, [&] { return end.load(); });
      }));
    }
    CHECK(eventually(20, [&] { return running == 4; }));
    end = true;
  }
}

TEST_CASE("a thread pool goes on when a job throws") {
  std::atomic<int> done = 0;
  {
    Thread_Pool threads({2, 4, 256 * 1024, 0});
    for (int i = 0; i < 20; ++i) {
      threads.run([&] {
        ++done;
        throw std::bad_alloc();
      });
    }
  }
  CHECK(done == 20);
  // No memory for more threads than `least`: the jobs are done one after the other.
  {
    Thread_Pool threads({1, 4, 256 * 1024, std::size_t{1} << 62});
    for (int i = 0; i < 20; ++i) threads.run([&] { ++done; });
  }
  CHECK(done == 40);
}

namespace {

// Connects from 40 addresses, and returns whether the first so many of them are closed for the
// others.
bool closes_first(const Served& served, std::ptrdiff_t many) {
  std::vector<int> fds;
  for (int i = 0; i < 40; ++i) {
    fds.push_back(connect_from(("127.0.1." + std::to_string(1 + i)).c_str(), served.port));
  }
  const bool as_many =
      eventually(4, [&] { return std::count_if(fds.begin(), fds.end(), is_ended) == many; });
  const bool first = std::all_of(fds.begin(), fds.begin() + many, is_ended);
  for (const int fd : fds) ::close(fd);
  return as_many && first;
}

}  // namespace

TEST_CASE("too many connections from many addresses: those that waited longest are closed") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  Config config;
  config.max_clients = 32;
  CHECK(soon([&] {
    const Served served(world, config);
    const bool closed = closes_first(served, 8);
    CHECK(served.ask("GET", "/state").status == 202);
    return closed;
  }));
}

TEST_CASE("clients never have more than half of the file descriptors") {
  World world(World::named("n2"));
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit few{48, before.rlim_max};
  CHECK(soon([&] {
    setrlimit(RLIMIT_NOFILE, &few);
    const Served served(world);  // 24 connections at a time, 6 from an address
    setrlimit(RLIMIT_NOFILE, &before);
    return closes_first(served, 16);
  }));
}

TEST_CASE("every one of many clients that keep their connections is served") {
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world);
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0, leaving = 0;
  constexpr int many = 60;  // more than http_threads, and as many as may be from one address
  for (int i = 0; i < many; ++i) {
    clients.emplace_back([&] {
      Client client("127.0.0.1", served.port);
      answered += client.get("/state").status == 202;
      ++leaving;
      while (leaving < many) std::this_thread::sleep_for(1ms);  // all are connected at once
    });
  }
  for (auto& client : clients) client.join();
  CHECK(answered == many);
}

TEST_CASE("a second server cannot have the port") {
  World world;
  const Served served(world);
  Service second(cpp_httplib(), served.config, world.node, served.tls, served.log);
  CHECK_FALSE(second.bind({"127.0.0.1", served.port}));
}

TEST_SUITE_END();
