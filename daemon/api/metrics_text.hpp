// Prometheus' text format, version 0.0.4.

#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/time.hpp"

namespace primgr {

// Call family() once for each metric, then sample() for each of its values; gauge() and counter()
// do both. The prefix "primgr_" is added to each name. Not thread-safe.
class Metrics {
 public:
  using Labels = std::vector<std::pair<const char*, std::string>>;

  Metrics& family(const char* name, const char* type, const char* help);
  Metrics& sample(double value, const Labels& labels = {}, const char* suffix = "");
  void gauge(const char* name, const char* help, double value);
  // Writes nothing without a value. A Time is written in seconds.
  template <typename T>
  void gauge(const char* name, const char* help, const std::optional<T>& value) {
    if (!value) return;
    if constexpr (std::is_same_v<T, Time>) {
      gauge(name, help, std::chrono::duration<double>(*value).count());
    } else {
      gauge(name, help, static_cast<double>(*value));
    }
  }
  void counter(const char* name, const char* help, double value);
  std::string text() && { return std::move(text_); }

 private:
  // A label's value. The format requires UTF-8, and has only the escapes \\, \" and \n.
  static std::string escaped(const std::string& text);

  const char* name_ = "";
  std::string text_;
};

}  // namespace primgr
