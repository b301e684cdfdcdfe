#include "node/rules/synchrony.hpp"

#include <algorithm>
#include <iterator>
#include <string>

#include "base/text.hpp"

namespace primgr {

namespace {

// The values of pg_stat_replication.sync_state.
constexpr std::string_view sync_states[] = {"sync", "quorum", "potential", "async"};

Sync_Report unknown(std::string why) {
  return {"", {}, std::move(why)};
}

// A server shows 63 bytes of application_name. It replaces each byte that is not printable ASCII by
// '?', or from PostgreSQL 16 on by "\xNN".
std::string application_name(std::string_view name, bool escaped) {
  constexpr std::size_t longest = 63;
  std::string shown;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 32 && byte < 127) {
      shown += c;
    } else if (escaped) {
      shown += "\\x" + hexadecimal({&c, 1});
    } else {
      shown += '?';
    }
  }
  return shown.substr(0, longest);
}

}  // namespace

bool is_sync_state(std::string_view word) {
  return std::find(std::begin(sync_states), std::end(sync_states), word) != std::end(sync_states);
}

Sync_Report find_standby(const Replication& replication, std::string_view name, Time now) {
  if (!replication.known || !replication.problem.empty()) {
    return unknown("it cannot read pg_stat_replication");
  }
  const std::string shown[] = {application_name(name, false), application_name(name, true)};
  const Attached_Standby* found = nullptr;
  for (const Attached_Standby& standby : replication.standbys) {
    if (!names_equal(standby.name, shown[0]) && !names_equal(standby.name, shown[1])) continue;
    if (found) return unknown("several standbys with this application_name stream from it");
    found = &standby;
  }
  if (!found) return unknown("no standby with this application_name streams from it");
  if (!is_sync_state(found->sync)) {
    return unknown("its standbys are not shown: GRANT pg_read_all_stats TO primgr's role");
  }
  // The primary does not wait yet for a standby that is catching up, whatever its configured role.
  if (found->state != "streaming") return unknown("to it this standby is in state " + found->state);
  return {found->sync, std::max(now - replication.standbys_asked_at, Time::zero()), ""};
}

Synchrony judge_synchrony(const Sync_Report& report, Time asked_at, Time now, Time max_age,
                          const std::string& primary) {
  const bool in_time = now - asked_at + report.age <= max_age;
  if (report.sync.empty() || !in_time) {
    const std::string why = report.why.empty() ? "what it told last is too old" : report.why;
    return {std::nullopt, primary + " does not tell whether it is synchronous: " + why};
  }
  return {report.sync == "sync" || report.sync == "quorum", ""};
}

}  // namespace primgr
