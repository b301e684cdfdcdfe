#include "node/rules/history.hpp"

#include <algorithm>
#include <utility>

namespace primgr {

void add_change(History& history, State_Change change) {
  history.push_back(std::move(change));
  while (history.size() > max_changes) history.pop_front();
}

void end_run(History& history, Wall_Time alive, const std::string& reason) {
  if (history.empty() || !history.back().to) return;
  const State_Change& last = history.back();
  State_Change end;
  end.at = std::max(alive, last.at);
  end.from = last.to;
  end.reason = bounded_reason(reason);
  end.lasted = end.at - last.at;
  add_change(history, std::move(end));
}

std::string bounded_reason(std::string text) {
  if (text.size() <= max_reason) return text;
  std::size_t end = max_reason - 3;
  while (end > 0 && (text[end] & 0xc0) == 0x80) --end;  // the rest of a UTF-8 character
  return text.substr(0, end) + "...";
}

}  // namespace primgr
