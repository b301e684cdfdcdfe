#include "daemon/http/resolver.hpp"

#include <netdb.h>

#include <exception>
#include <new>
#include <thread>
#include <utility>

#include "base/address.hpp"

namespace primgr {

using namespace std::chrono_literals;

std::vector<std::string> Resolver::operator()(const std::string& host, Time timeout) {
  if (is_address(host)) return {host};
  const Deadline deadline = std::chrono::steady_clock::now() + timeout;
  const Mutex_Lock lock(shared_->mutex);
  Entry& entry = shared_->entries[host];
  if (!entry.lookup_running && std::chrono::steady_clock::now() >= entry.fresh_until) {
    try {
      std::thread(look_up, shared_, host).detach();
      entry.lookup_running = true;
    } catch (const std::exception&) {
      // No thread or no memory: the last good addresses are used.
    }
  }
  while (entry.addresses.empty() && entry.lookup_running &&
         shared_->lookup_done.wait_until(shared_->mutex, deadline)) {
  }
  return entry.addresses;
}

void Resolver::look_up(std::shared_ptr<Shared> shared, std::string host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  std::vector<std::string> addresses;
  if (getaddrinfo(host.c_str(), nullptr, &hints, &found) == 0) {
    try {
      for (const addrinfo* a = found; a; a = a->ai_next) {
        char text[NI_MAXHOST];
        if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) ==
            0) {
          addresses.emplace_back(text);
        }
      }
    } catch (const std::bad_alloc&) {
      // Out of memory: the addresses found so far are used.
    }
    freeaddrinfo(found);
  }
  const Mutex_Lock lock(shared->mutex);
  Entry& entry = shared->entries[host];
  entry.lookup_running = false;
  if (!addresses.empty()) {
    entry.addresses = std::move(addresses);
    entry.fresh_until = std::chrono::steady_clock::now() + 10s;
  }
  shared->lookup_done.notify_all();
}

}  // namespace primgr
