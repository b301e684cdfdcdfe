#include "daemon/api/metrics_text.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/json.hpp"

namespace primgr {

Metrics& Metrics::family(const char* name, const char* type, const char* help) {
  name_ = name;
  text_ += std::string("# HELP primgr_") + name + " " + help + "\n# TYPE primgr_" + name + " " +
           type + "\n";
  return *this;
}

Metrics& Metrics::sample(double value, const Labels& labels, const char* suffix) {
  text_ += std::string("primgr_") + name_ + suffix;
  const char* separator = "{";
  for (const auto& [label, label_value] : labels) {
    text_ += separator + std::string(label) + "=\"" + escaped(label_value) + "\"";
    separator = ",";
  }
  if (!labels.empty()) text_ += "}";
  char number[48];
  std::snprintf(number, sizeof number, " %.15g\n", value);
  text_ += number;
  return *this;
}

void Metrics::gauge(const char* name, const char* help, double value) {
  family(name, "gauge", help).sample(value);
}

void Metrics::counter(const char* name, const char* help, double value) {
  family(name, "counter", help).sample(value);
}

std::string Metrics::escaped(const std::string& text) {
  std::string safe;
  // The text goes through JSON, because dump() replaces bytes that are not UTF-8.
  for (const char c : Json::parse(dump(text)).get<std::string>()) {
    if (c == '\\' || c == '"') safe += '\\';
    safe += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return safe;
}

}  // namespace primgr
