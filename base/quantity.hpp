// A number with a unit, in the format of postgresql.conf.

#pragma once

#include <charconv>
#include <cmath>
#include <string_view>

namespace primgr {

// A number and its unit. If there is no number, the unit is the whole text.
struct Quantity {
  double number = 0;
  bool is_number = false;
  std::string_view unit;
};

inline Quantity split_quantity(std::string_view text) {
  Quantity quantity;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), quantity.number);
  quantity.is_number = error == std::errc() && std::isfinite(quantity.number);
  quantity.unit = text.substr(static_cast<std::size_t>(end - text.data()));
  return quantity;
}

}  // namespace primgr
