#include "node/handover.hpp"

#include <algorithm>
#include <utility>

namespace primgr {

using namespace std::chrono_literals;

void Promise_History::granted(const std::string& to, Time now, Time until) {
  if (!names_equal(current_.name, to)) {
    before_ = std::exchange(current_, {to, {}, false});
    granted_at_ = now;
  }
  current_.last_200 = until - check_delay_;
  current_.handed_back = false;
}

void Promise_History::handed_back(std::string_view by, std::optional<Time> last_200) {
  if (!last_200) {
    current_ = std::exchange(before_, {});
    return;
  }
  // After a restart this voter has the promise from its file, and no history.
  if (!names_equal(current_.name, by)) current_ = {std::string(by), *last_200, true};
  current_.last_200 = std::min(current_.last_200, *last_200);
  current_.handed_back = true;
}

std::optional<Predecessor> Promise_History::before(Time now) const {
  const bool recent = now - granted_at_ < 1min && now - before_.last_200 < 1h;
  if (before_.name.empty() || !recent) return std::nullopt;
  return before_;
}

void Promise_History::tell(Ballot& ballot, Time now) const {
  const auto told = before(now);
  if (!told) return;
  ballot.before = told->name;
  ballot.since = std::max(now - told->last_200, Time::zero());
  ballot.handed_back = told->handed_back;
}

}  // namespace primgr
