// Searches every order of events in a small cluster whose list of voters changes, breadth first,
// through the production functions of node/rules/lists.hpp:
//
//   build/prove MINUTES            each part of the rule left out, then each scope
//   build/prove SCOPE [PART] [rounds=N …]   one scope, and a part to leave out
//
// Votes are leases. In this search, any lease may end at any moment, first at the candidate and
// then at its voter. Any message may be lost, so a node that is cut off is simply not asked. Any
// database may name any node. So each candidate may ask at any time, each node may vote for any
// node and fetch the lists of any node at any time, and a Primary may be told to change to any of
// the scope's lists. That is more than can happen in practice.
//
//   Safety    Never two Primaries.
//   Liveness  From a state, once messages flow and all databases agree: the promoted node becomes
//             Primary and the list is confirmed, for each set of nodes up with the majorities that
//             are needed.
//   Steady    A Primary that continues to reach enough voters stays Primary, whatever its
//             database lists.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <string_view>
#include <type_traits>
#include <vector>

#include "prove/scopes.hpp"
#include "prove/search.hpp"

using namespace primgr::prove;

namespace {

bool search(const Scope_Of_Search& scope, Part part, double seconds, bool quiet, bool& exhausted) {
  if (scope.nodes == 3) {
    Search<3> s(scope, part);
    const bool good = s.run(seconds, quiet);
    exhausted = s.exhausted;
    return good;
  }
  Search<4> s(scope, part);
  const bool good = s.run(seconds, quiet);
  exhausted = s.exhausted;
  return good;
}

// Small blocks are reused, because nearly all of the time is spent on values with a short life.
constexpr std::size_t largest = 256, unit = 16;
void* spare[largest / unit + 1];

}  // namespace

void* operator new(std::size_t size) {
  const std::size_t kind = (size + unit - 1) / unit;
  void* block = nullptr;
  if (size <= largest && spare[kind]) {
    block = spare[kind];
    spare[kind] = *static_cast<void**>(block);
    return block;
  }
  block = std::malloc(std::max(kind, std::size_t{1}) * unit);
  if (!block) throw std::bad_alloc();
  return block;
}
void operator delete(void* block) noexcept {
  std::free(block);
}
void operator delete(void* block, std::size_t size) noexcept {
  if (!block || size > largest) return std::free(block);
  void*& first = spare[(size + unit - 1) / unit];
  *static_cast<void**>(block) = first;
  first = block;
}

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  const double minutes = argc > 1 ? std::atof(argv[1]) : 1;
  const auto is_named = [&](const char* name) {
    return std::find(words.begin(), words.end(), name) != words.end();
  };
  const auto override = [&](const char* key, auto& value) {
    for (const std::string_view word : words) {
      if (word.starts_with(key)) {
        value = static_cast<std::remove_reference_t<decltype(value)>>(
            std::atoll(word.data() + std::strlen(key)));
      }
    }
  };
  bool exhausted = false, good = true;
  if (minutes == 0) {
    for (Scope_Of_Search scope : scopes()) {
      if (!is_named(scope.name)) continue;
      double seconds = 1e9;
      override("seconds=", seconds), override("fused=", scope.fused);
      override("late=", scope.late), override("nodes=", scope.nodes);
      override("live=", scope.live), override("limit=", scope.limit);
      override("rounds=", scope.rounds), override("counts=", scope.counts);
      override("candidates=", scope.candidates);
      Part part = Part::none;
      for (const Described& d : parts) {
        if (is_named(d.name)) part = d.part;
      }
      good = search(scope, part, seconds, false, exhausted) && good;
    }
    return good ? 0 : 1;
  }
  // Each scope gets its share of the time that is left, and a part up to three shares. A busy
  // machine may find less.
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(minutes * 60);
  std::size_t left = scopes().size() + std::size(parts);
  const auto share = [&] {
    return std::chrono::duration<double>(end - Clock::now()).count() / static_cast<double>(left--);
  };
  for (const Described& d : parts) {
    for (const Scope_Of_Search& scope : scopes()) {
      if (std::string_view(scope.name) != d.scope) continue;
      std::printf("without: %s (%s %s): ", d.what, d.scope, d.name);
      if (!search(scope, d.part, 3 * share(), true, exhausted)) continue;
      std::printf("  %s\n", exhausted ? "NOT FOUND" : "not found in time");
      good = good && !exhausted;
    }
  }
  for (const Scope_Of_Search& scope : scopes()) {
    std::printf("%s, %s: ", scope.name, scope.what);
    good = search(scope, Part::none, share(), false, exhausted) && good;
  }
  return good ? 0 : 1;
}
