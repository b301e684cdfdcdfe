#include "daemon/api/outages.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.hpp"

namespace primgr {

void Outage_Finder::add(const std::string& name, const Json& document) {
  const Json& history = at(document, "history");
  if (!history.is_array()) {
    complete_ = false;
    return;
  }
  double known_for = 0;
  for (std::size_t i = 0; i < history.size(); ++i) {
    const Json& change = history[i];
    const auto ago = number_at(change, "agoSeconds");
    if (!ago || *ago < 0) continue;
    const double before = std::max(number_at(change, "seconds").value_or(0), 0.0);
    // The first change also shows the state before it, which has no change of its own in the list.
    if (i == 0) {
      known_for = *ago + before;
      if (text_at(change, "from") == "Primary") {
        reigns_.push_back({*ago + before, *ago, name, std::nullopt});
      }
    }
    if (text_at(change, "to") != "Primary") continue;
    const auto ended =
        i + 1 < history.size() ? number_at(history[i + 1], "agoSeconds") : std::optional(0.0);
    reigns_.push_back({*ago, std::clamp(ended.value_or(0), 0.0, *ago), name,
                       number_at(change, "handoverSeconds")});
  }
  known_for_ = std::min(known_for_, known_for);
}

std::vector<Outage> Outage_Finder::find() const {
  std::vector<Reign> reigns = reigns_;
  std::stable_sort(reigns.begin(), reigns.end(),
                   [](const Reign& a, const Reign& b) { return a.began > b.began; });
  std::vector<Outage> found;
  std::optional<double> last_ended;  // the last end of the reigns so far
  const auto told_by_all = [&] { return complete_ && last_ended && known_for_ >= *last_ended; };
  for (const Reign& next : reigns) {
    std::optional<double> began = next.handover   ? std::optional(next.began + *next.handover)
                                  : told_by_all() ? last_ended
                                                  : std::nullopt;
    if (began && *began > next.began) found.push_back({*began, next.began, next.node});
    last_ended = std::min(last_ended.value_or(next.ended), next.ended);
  }
  if (told_by_all() && *last_ended > 0) found.push_back({*last_ended, 0, ""});
  if (found.size() > max_outages) found.erase(found.begin(), found.end() - max_outages);
  return found;
}

}  // namespace primgr
