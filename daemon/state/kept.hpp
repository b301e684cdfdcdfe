// What the daemon saves for the time after a restart. Its promise is in state_file. The lists of
// voters that count, and its history, are in state_directory.

#pragma once

#include <optional>

#include "daemon/config/config.hpp"
#include "daemon/state/grant_keeper.hpp"
#include "daemon/state/state_directory.hpp"
#include "daemon/state/voters_file.hpp"
#include "repmgr_node.hpp"

namespace primgr {

// open() is called once, by the thread that constructed the object, before any other function. The
// functions in environment() may be called by any thread, and so may all other members. None may be
// called after the object is destroyed.
class Kept {
 public:
  explicit Kept(Logger log) : log_(std::move(log)) {}
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;

  // Opens and reads the files that the configuration names. Returns 0, or the exit status if the
  // daemon cannot run with them. The reason is logged. Blocks for some seconds at most. Throws
  // std::system_error if no thread can be started.
  int open(const Config& config);
  // The saved data, and the callbacks that save it.
  Node_Environment environment();
  // The note that `primgr --lost` has written. Each note is returned once. Does not block.
  std::optional<Lost_Declaration> take_lost_note();
  // Whether `primgr --forget-timeline` has written its note. True once for each note. Does not
  // block.
  bool take_forget_timeline_note();
  // Whether an operator has drained this node, when the file was last read. Does not block.
  std::optional<Drain> drain() const;
  // Adds the end of this run to the history, and saves it.
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
