#include "daemon/state/drain_file.hpp"

#include <nlohmann/json.hpp>

#include "base/json.hpp"
#include "node/rules/history.hpp"

namespace primgr {

std::string print_drain(const Drain& drain) {
  return dump({{"since", drain.since}, {"reason", drain.reason}}) + "\n";
}

Drain parse_drain(const std::string& text) {
  const Json json = parse_json(text, 1);
  const std::string since = text_at(json, "since");
  if (since.empty() || since.size() > 32 || !at(json, "reason").is_string()) {
    return {"its file cannot be read", "an unknown time"};
  }
  return {bounded_reason(text_at(json, "reason")), since};
}

}  // namespace primgr
