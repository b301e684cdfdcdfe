#include "base/memory_reserve.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace primgr {

namespace {

// Below malloc's threshold for mmap() (mallopt(3), M_MMAP_THRESHOLD), so that free() makes it
// available to the next malloc() and does not return it to the system.
constexpr std::size_t reserve_size = 100 * 1024;
std::atomic<void*> reserve{nullptr};

}  // namespace

void Memory_Reserve::install() {
  refill();
  std::set_new_handler([] {
    void* const held = reserve.exchange(nullptr);
    if (!held) throw std::bad_alloc();
    std::free(held);
  });
}

void Memory_Reserve::refill() {
  if (reserve) return;
  void* const fresh = std::malloc(reserve_size);
  void* none = nullptr;
  if (fresh && !reserve.compare_exchange_strong(none, fresh)) std::free(fresh);
}

bool Memory_Reserve::is_spent() {
  return std::get_new_handler() != nullptr && !reserve;
}

}  // namespace primgr
