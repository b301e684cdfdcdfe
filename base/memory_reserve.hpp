// Memory that is reserved for destructors.

#pragma once

namespace primgr {

// The destructor of a JSON document allocates, and must not throw. So some memory is reserved, and
// freed when an allocation fails for the first time. The HTTP server begins no request from then on
// until refill() has succeeded.
//
// Thread-safe: one atomic pointer, for the whole process.
class Memory_Reserve {
 public:
  // Fills the reserve, and sets the process's std::new_handler to free it. Call it once.
  static void install();
  // Allocates the reserve again if it was freed and there is memory; does not throw.
  static void refill();
  // Whether it was freed and not refilled yet. False without install() (fuzzers, some tests).
  static bool is_spent();
};

}  // namespace primgr
