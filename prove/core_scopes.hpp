// In which small clusters step() is searched, and which rule is left out in which of them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "prove/core_host.hpp"

namespace primgr::prove {

struct Core_Scope {
  const char* name;
  const char* what;
  int nodes = 3;
  int first = 7;                 // who is a voter at the beginning: bit 0 is n1
  int behind = 0;                // these know only the list before, which had them, too
  int candidates = 7;            // who may be promoted
  std::vector<int> wished = {};  // what a promoted node's database may list: Database_State::rows
  Time unit = std::chrono::seconds(1);  // time passes in steps of that
  Time vote_lease = std::chrono::seconds(2);
  Time check_delay = std::chrono::milliseconds(500);
  int longer_lease = 0;                     // these have a vote_lease that is a unit longer
  int files = 0;                            // these have a state_file
  int restarts = 0;                         // these may be restarted
  int late = 0;                             // so many messages may be under way, 2 at most
  bool answers_lost = false;                // a question arrives, and its answer does not
  bool copies = false;                      // a question, or a hand-back, may arrive twice
  bool forged = false;                      // anybody may ask, and hand back, in another's name
  int stores_fail = 0;                      // of these
  int clocks_stop = 0;                      // of these
  int rates[4] = {1000, 1000, 1000, 1000};  // how fast the clocks are, in 0.1 %
  bool cut = false;                         // n1 and n3 are cut off from each other
  bool any_database = true;
  bool databases = false;  // databases may be down, and keep what they name
  bool lists = false, reads = false;
  bool fused = false;  // who is asked by a candidate that has something to tell fetches at once
  int lost = 0;        // these may be declared lost, once they are gone
  std::uint64_t rounds = 0;      // of lists, at most
  int changes = 0;               // so many promotions and follows, at most; 0: any number
  int units = 0;                 // so long, at most; 0: for ever
  std::size_t live = 50;         // each so many states are checked for liveness
  std::size_t most = 5'000'000;  // states
};

struct Core_Rule {
  Left_Out left_out;
  const char* name;
  const char* what;
  const char* scope;  // in which it is found
};

const std::vector<Core_Scope>& core_scopes();
const std::vector<Core_Rule>& core_rules();

}  // namespace primgr::prove
