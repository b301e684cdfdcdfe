// Whether a standby is synchronous. Its own database does not know that, the primary's does: so the
// standby's primgr asks the primary's, once a refresh_interval, while somebody wants to know.
//
// Thread-safe: functions without state. They throw std::bad_alloc only.

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "node/rules/model.hpp"

namespace primgr {

// What a primary tells of a standby.
struct Sync_Report {
  std::string sync;  // "sync", "quorum", "potential" or "async"; empty: not known
  Time age{};        // of that, when it was told
  std::string why;   // why it is not known; empty only if it is

  bool operator==(const Sync_Report&) const = default;
};

// Whether that is a value of pg_stat_replication.sync_state.
bool is_sync_state(std::string_view word);

// What pg_stat_replication of this node tells of the standby with that name, its application_name.
// REQUIRES: this node is Primary.
Sync_Report find_standby(const Replication& replication, std::string_view name, Time now);

// What a standby knows of itself.
struct Synchrony {
  std::optional<bool>
      synchronous;  // false: asynchronous, also if it is a potential synchronous one
  std::string why;  // why it is not known
};

// What follows at `now` from a report of `primary`, that was asked for at `asked_at`. It is not
// used once the primary's look at its standbys is older than `max_age`.
Synchrony judge_synchrony(const Sync_Report& report, Time asked_at, Time now, Time max_age,
                          const std::string& primary);

}  // namespace primgr
