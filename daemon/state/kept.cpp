#include "daemon/state/kept.hpp"

#include <chrono>
#include <utility>

#include "base/error.hpp"
#include "daemon/state/drain_file.hpp"
#include "daemon/state/grant_file.hpp"
#include "daemon/state/history_file.hpp"
#include "node/peers/lists_text.hpp"

namespace primgr {

using namespace std::chrono_literals;

int Kept::open(const Config& config) {
  owner_ = owner_of_files(config);
  if (const int status = open_state_file(config)) return status;
  return open_state_directory(config);
}

int Kept::open_state_file(const Config& config) {
  if (config.state_file.empty()) return 0;
  keeper_.emplace(state_file_store(config.state_file, owner_), log_);
  try {
    // The wait has a time limit, because SIGTERM has no effect before it ends.
    grants_.load = [known = keeper_->load(2s)] { return known; };
  } catch (const Input_Error& error) {
    log_(Log_Level::error, error.what());
    return exit_config;
  } catch (const State_File_In_Use& error) {
    log_(Log_Level::error, error.what());
    return exit_unavailable;
  }
  grants_.save = [this](const Grant& grant, Deadline until) { return keeper_->save(grant, until); };
  return 0;
}

// A state_directory that cannot be used is logged, and the daemon runs without it: the cluster must
// not lose its Primary because of it. The exception is a folder that another process uses.
int Kept::open_state_directory(const Config& config) {
  if (config.state_directory.empty()) return 0;
  directory_.emplace(config.state_directory,
                     std::vector<std::string>{lost_note_file, forget_timeline_note_file}, log_);
  bool in_use = false;
  if (const std::string why = directory_->lock(2s, in_use); !why.empty()) {
    log_(Log_Level::error, "state_directory: " + why);
    if (in_use) return exit_unavailable;
  }
  load_voters(config.node.consensus_cluster);
  load_history();
  directory_->watch(drain_file, 2s);
  end_run(history_, directory_->last_alive().value_or(Wall_Time()),
          "primgr ended without a word: it was killed, or the machine was");
  return 0;
}

// A node that cannot read its saved lists must not take the list in repmgr.nodes for the complete
// list.
void Kept::load_voters(bool whole_cluster) {
  std::string why;
  const auto text = directory_->load(voters_file, 2s, &why);
  auto voters = text ? parse_held(*text, whole_cluster, why) : std::nullopt;
  if (voters) voters_ = std::move(*voters);
  if (why.empty()) return;
  const std::string remedy =
      ": this node does not vote, and is not Primary, until a Primary reports which voters count. "
      "If "
      "no node of the site becomes Primary: stop primgr on all of its nodes, remove that file on "
      "each, and start them: they take the voters that repmgr.nodes lists";
  voters_.unreadable = std::string("state_directory: ") + voters_file + ": " + why + remedy;
  log_(Log_Level::error, voters_.unreadable);
}

void Kept::load_history() {
  std::string why;
  const auto text = directory_->load(history_file, 2s, &why);
  if (auto history = text ? parse_history(*text, owner_, why) : std::nullopt) history_ = *history;
  if (why.empty()) return;
  const std::string aside = std::string(history_file) + ".set-aside";
  directory_->set_aside(history_file, aside);
  log_(Log_Level::warning, std::string("state_directory: ") + history_file +
                               (text ? " " + why : " cannot be read") +
                               ": the history of this node begins anew; the file is now " + aside);
}

Node_Environment Kept::environment() {
  Node_Environment environment;
  environment.grants = grants_;
  environment.voters = voters_;
  environment.history = history_;
  if (!directory_) return environment;
  environment.store_voters = [this](const Voter_Lists& lists, Deadline until) {
    return directory_->store(voters_file, print_held(lists), until);
  };
  environment.on_change = [this](const History& history) {
    directory_->save(history_file, print_history(history, owner_));
  };
  return environment;
}

std::optional<Drain> Kept::drain() const {
  const auto text = directory_ ? directory_->watched() : std::nullopt;
  return text ? std::optional(parse_drain(*text)) : std::nullopt;
}

std::optional<Lost_Declaration> Kept::take_lost_note() {
  const auto text = directory_ ? directory_->take_note(lost_note_file) : std::nullopt;
  if (!text) return std::nullopt;
  auto note = parse_lost_note(*text);
  if (!note) {
    log_(Log_Level::error, "state_directory: the note that --lost left cannot be read");
  }
  return note;
}

bool Kept::take_forget_timeline_note() {
  return directory_ && directory_->take_note(forget_timeline_note_file);
}

void Kept::end(History history) {
  end_run(history, std::chrono::system_clock::now(), "primgr was ended");
  if (directory_) directory_->save(history_file, print_history(history, owner_));
}

}  // namespace primgr
