// Host names.

#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "node/units.hpp"

namespace primgr {

// Looks host names up beside those who need them. getaddrinfo() blocks for as long as name service
// pleases, so each look-up has a thread of its own, one a name at most, and whoever asks gets the
// last good addresses at once: when name service dies with the network, nothing changes.
//
// Thread-safe. A look-up that never ends holds on to what it writes to, not to the Resolver.
class Resolver {
 public:
  // Addresses of `host`, best first; waits for them, `timeout` at most, only while none is known.
  std::vector<std::string> operator()(const std::string& host, Time timeout);

 private:
  struct Entry {
    std::vector<std::string> addresses;
    bool looking = false;
    Deadline fresh_until{};
  };
  struct Shared {
    std::mutex mutex;  // guards entries
    std::condition_variable looked;
    std::map<std::string, Entry> entries;
  };

  static void look_up(std::shared_ptr<Shared> shared, std::string host);

  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace primgr
