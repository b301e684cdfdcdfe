// The text format of Prometheus.

#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "node/units.hpp"

namespace primgr {

// A family's help and type once, then its samples. The prefix "primgr_" is added to each name.
class Metrics {
 public:
  using Labels = std::vector<std::pair<const char*, std::string>>;

  Metrics& family(const char* name, const char* type, const char* help);
  Metrics& sample(double value, const Labels& labels = {}, const char* suffix = "");
  void gauge(const char* name, const char* help, double value);
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
  // Prometheus wants UTF-8, and knows no other escapes than these.
  static std::string escaped(const std::string& text);

  const char* name_ = "";
  std::string text_;
};

}  // namespace primgr
