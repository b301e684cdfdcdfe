#include "daemon/http/answer.hpp"

#include <nlohmann/json.hpp>

#include "base/json.hpp"

namespace primgr {

std::string error_body(const std::string& error) {
  return dump({{"error", error}});
}

}  // namespace primgr
