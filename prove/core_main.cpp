// Searches every order of events in small clusters, breadth first, through step()
// (node/core/core.hpp), the function that the daemon runs.
//
//   build/prove-core MINUTES          each rule left out, which must be found; then each scope
//   build/prove-core SCOPE [RULE]     one scope, and a rule to leave out; prints the steps

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "prove/core_search.hpp"

using namespace primgr::prove;

namespace {

// Returns whether no violation was found.
bool search(const Core_Scope& scope, Left_Out left_out, double seconds, bool trace,
            bool& exhausted) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  Core_Search search(scope, left_out);
  search.memory.compare_each = 200;
  const bool good = search.run(seconds);
  exhausted = search.exhausted;
  const double took = std::chrono::duration<double>(Clock::now() - begin).count();
  if (!good) {
    std::printf("%s", search.result.c_str());
  } else if (search.exhausted) {
    std::printf("exhausted");
  } else {
    std::printf("not exhausted, all of less than %d steps", search.depth);
  }
  std::printf(": %zu states of %zu hosts, %zu times through a step, %zu healed, %.1f s\n",
              search.states(), search.memory.hosts(), search.memory.steps(), search.healed, took);
  if (search.memory.different) {
    std::printf("  %zu of %zu hosts that seemed equal are not\n", search.memory.different,
                search.memory.compared);
  }
  int number = 0;  // of the steps; the lines about the results of a step are indented
  for (const std::string& line : search.trace) {
    if (!trace) break;
    line.starts_with(' ') ? std::printf("    %s\n", line.c_str())
                          : std::printf("%3d  %s\n", ++number, line.c_str());
  }
  std::fflush(stdout);
  return good && !search.memory.different;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view first = argc > 1 ? argv[1] : "1", second = argc > 2 ? argv[2] : "";
  bool good = true, exhausted = false;
  const double minutes = std::atof(first.data());
  if (minutes <= 0) {
    for (const Core_Scope& scope : core_scopes()) {
      if (first != scope.name) continue;
      Left_Out left_out = Left_Out::nothing;
      for (const Core_Rule& rule : core_rules()) {
        if (second == rule.name) left_out = rule.left_out;
      }
      good = search(scope, left_out, argc > 3 ? std::atof(argv[3]) : 1e9, true, exhausted);
    }
    return good ? 0 : 1;
  }
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(minutes * 60);
  std::size_t left = core_scopes().size() + core_rules().size();
  const auto share = [&] {
    return std::chrono::duration<double>(end - Clock::now()).count() / static_cast<double>(left--);
  };
  for (const Core_Rule& rule : core_rules()) {
    for (const Core_Scope& scope : core_scopes()) {
      if (std::string_view(scope.name) != rule.scope) continue;
      std::printf("without: %s (%s %s): ", rule.what, scope.name, rule.name);
      if (!search(scope, rule.left_out, 3 * share(), false, exhausted)) continue;
      std::printf("  %s\n", exhausted ? "NOT FOUND" : "not found in time");
      good = good && !exhausted;
    }
  }
  for (const Core_Scope& scope : core_scopes()) {
    std::printf("%s, %s: ", scope.name, scope.what);
    good = search(scope, Left_Out::nothing, share(), true, exhausted) && good;
  }
  return good ? 0 : 1;
}
