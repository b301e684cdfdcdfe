// Memory for those who cannot do without.

#pragma once

namespace primgr {

// The destructor of a JSON document allocates and must not throw. So some memory is held back: the
// first allocation that fails gets it; from then on, until refill() has it again, no request is
// begun.
//
// Thread-safe. One for the process.
class Memory_Reserve {
 public:
  // As the process's std::new_handler.
  static void install();
  static void refill();
  // False also where it was not installed.
  static bool is_spent();
};

}  // namespace primgr
