// Whether a standby is synchronous. Its own database does not know that, but the primary's database
// does. So the standby's primgr asks the primary's primgr once a refresh_interval while clients
// want to know.
//
// Thread-safe: functions without state. They throw std::bad_alloc only.

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "node/rules/model.hpp"

namespace primgr {

// A primary's report about a standby.
struct Sync_Report {
  std::string sync;  // "sync", "quorum", "potential" or "async"; empty: not known
  Time age{};        // the age of `sync` when it was sent
  std::string why;   // why it is not known; empty only if it is

  bool operator==(const Sync_Report&) const = default;
};

// Whether that is a value of pg_stat_replication.sync_state.
bool is_sync_state(std::string_view word);

// The report about the standby whose application_name is that name, from this node's
// pg_stat_replication. REQUIRES: this node is Primary.
Sync_Report find_standby(const Replication& replication, std::string_view name, Time now);

// What a standby knows of itself.
struct Synchrony {
  std::optional<bool>
      synchronous;  // false: asynchronous, also if it is a potential synchronous one
  std::string why;  // why it is not known
};

// The result at `now` of a report of `primary` that was requested at `asked_at`. A report is not
// used if the primary queried its standbys more than `max_age` ago.
Synchrony judge_synchrony(const Sync_Report& report, Time asked_at, Time now, Time max_age,
                          const std::string& primary);

}  // namespace primgr
