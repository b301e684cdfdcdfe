// The small clusters in which step() is searched, and the rules that are left out in them.

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
  int first = 7;       // the voters at the beginning: bit 0 is n1
  int behind = 0;      // nodes that know only the previous list, which contained them too
  int candidates = 7;  // nodes that may be promoted
  // Lists that a promoted node's database may have: Database_State::rows.
  std::vector<int> wished = {};
  Time unit = std::chrono::seconds(1);  // the length of a step of time
  Time vote_lease = std::chrono::seconds(2);
  Time check_delay = std::chrono::milliseconds(500);
  int longer_lease = 0;       // these nodes have a vote_lease that is one unit longer
  int files = 0;              // these nodes have a state_file
  int restarts = 0;           // these nodes may be restarted
  int late = 0;               // how many messages may be under way, 2 at most
  bool answers_lost = false;  // a question may arrive while its answer is lost
  bool copies = false;        // a question, or a hand-back, may arrive twice
  bool forged = false;        // anybody may ask, and hand back, in the name of another node
  int stores_fail = 0;        // the stores of these nodes may fail
  int clocks_stop = 0;        // the clocks of these nodes may stop
  int rates[4] = {1000, 1000, 1000, 1000};  // the speed of the clocks, in 0.1 %
  bool cut = false;                         // n1 and n3 are cut off from each other
  bool any_database = true;
  bool databases = false;  // databases may be down; what they name changes only by a step
  bool lists = false, reads = false;
  // A node that a candidate reaches fetches its lists at once, if there is anything to fetch.
  bool fused = false;
  int lost = 0;              // these nodes may be declared lost, once they are gone
  std::uint64_t rounds = 0;  // the highest round of lists
  int changes = 0;           // the number of promotions and other changes of databases; 0: no limit
  int units = 0;             // the number of steps of time; 0: no limit
  std::size_t live = 50;     // one in so many states is checked for liveness
  std::size_t most = 5'000'000;  // the highest number of states
};

struct Core_Rule {
  Left_Out left_out;
  const char* name;
  const char* what;
  const char* scope;  // the scope in which the violation is found
};

const std::vector<Core_Scope>& core_scopes();
const std::vector<Core_Rule>& core_rules();

}  // namespace primgr::prove
