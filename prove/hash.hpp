// A hash of the bytes of a value.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace primgr::prove {

// REQUIRES: values that are equal have equal bytes, also between their members.
template <class Value>
std::uint64_t hash_of(const Value& value) {
  static_assert(std::is_trivially_copyable_v<Value>);
  std::uint64_t h = 1469598103934665603U;
  const auto* bytes = reinterpret_cast<const unsigned char*>(&value);
  for (std::size_t i = 0; i < sizeof value; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + i, std::min<std::size_t>(8, sizeof value - i));
    h = (h ^ word) * 0x9E3779B97F4A7C15U;
    h ^= h >> 29;
  }
  return h;
}

}  // namespace primgr::prove
