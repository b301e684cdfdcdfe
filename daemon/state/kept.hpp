// What the daemon keeps over a restart: its promise (state_file), which lists of voters count and
// its history (state_directory).

#pragma once

#include <optional>

#include "daemon/config/config.hpp"
#include "daemon/state/grant_keeper.hpp"
#include "daemon/state/state_directory.hpp"
#include "daemon/state/voters_file.hpp"
#include "repmgr_node.hpp"

namespace primgr {

// open() is called once, by the thread that made it, before anything else. The functions in
// environment() may be called by any thread, and are to be called no more when this is gone; so is
// the rest.
class Kept {
 public:
  explicit Kept(Logger log) : log_(std::move(log)) {}
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;

  // Opens and reads what the configuration names. Returns 0, or the exit status if the daemon
  // cannot run with it, which is logged. Blocks for some seconds at most. Throws std::system_error
  // if no thread can be started.
  int open(const Config& config);
  // What was read, and what stores it anew.
  Node_Environment environment();
  // What `primgr --lost` has left, once. Does not block.
  std::optional<Lost_Declaration> take_lost_note();
  // Whether `primgr --forget-timeline` has left its note, once. Does not block.
  bool take_forget_timeline_note();
  // Whether an operator has drained this node, as last read. Does not block.
  std::optional<Drain> drain() const;
  // Stores the history with the end of this run.
  void end(History history);

 private:
  int open_state_file(const Config& config);
  int open_state_directory(const Config& config);
  void load_voters(bool whole_cluster);
  void load_history();

  const Logger log_;
  std::optional<Grant_Keeper> keeper_;
  Grant_Store grants_;
  std::optional<State_Directory> directory_;
  std::string owner_;  // owner_of_files()
  Voter_Lists voters_;
  History history_;
};

}  // namespace primgr
