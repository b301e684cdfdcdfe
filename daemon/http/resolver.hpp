// Resolves host names.

#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.hpp"
#include "base/time.hpp"

namespace primgr {

// Resolves host names in the background. getaddrinfo() may block without a limit, so each look-up
// has a separate thread. A name has one look-up at a time. A caller gets the last good addresses at
// once, so that nothing changes when the name service fails together with the network.
//
// Thread-safe. The detached look-up threads share ownership of Shared, so a thread that never ends
// may outlive the Resolver. Nothing blocks while the mutex is held.
class Resolver {
 public:
  // Addresses of `host` in the order of getaddrinfo(3). Empty: unknown. Blocks, for `timeout` at
  // most, only if no address was ever found. Addresses older than 10 s are returned too, and looked
  // up again for the next caller.
  std::vector<std::string> operator()(const std::string& host, Time timeout);

 private:
  struct Entry {
    std::vector<std::string> addresses;
    bool lookup_running = false;
    Deadline fresh_until{};
  };
  struct Shared {
    Mutex mutex;
    Condition lookup_done;
    std::map<std::string, Entry> entries GUARDED_BY(mutex);
  };

  static void look_up(std::shared_ptr<Shared> shared, std::string host);

  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace primgr
