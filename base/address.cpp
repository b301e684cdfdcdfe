#include "base/address.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "base/error.hpp"

namespace primgr {

int parse_integer(const std::string& text, int low, int high) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < low || number > high) {
    throw Input_Error("\"" + text + "\" is not a whole number from " + std::to_string(low) +
                      " to " + std::to_string(high));
  }
  return number;
}

Address parse_address(const std::string& text, bool port_needed) {
  Address address;
  std::string rest;
  if (!text.empty() && text.front() == '[') {
    const auto close = text.find(']');
    if (close == std::string::npos) throw Input_Error("\"" + text + "\" has no ] after [");
    address.host = text.substr(1, close - 1);
    rest = text.substr(close + 1);
  } else {
    address.host = text.substr(0, text.find(':'));
    rest = text.substr(address.host.size());
    if (std::count(rest.begin(), rest.end(), ':') > 1) {
      throw Input_Error("\"" + text + "\": write an IPv6 address in brackets: [" + text + "]");
    }
  }
  if (address.host.empty() || (rest.empty() && port_needed) || (!rest.empty() && rest[0] != ':') ||
      address.host.find_first_of(" \t/@?#[]") != std::string::npos) {
    throw Input_Error("\"" + text + "\" is not " + (port_needed ? "ADDRESS:PORT" : "HOST[:PORT]"));
  }
  if (!rest.empty()) address.port = parse_integer(rest.substr(1), 1, 65535);
  return address;
}

std::string print_address(const Address& address) {
  const bool brackets = address.host.find(':') != std::string::npos;
  return (brackets ? "[" + address.host + "]" : address.host) +
         (address.port ? ":" + std::to_string(address.port) : "");
}

bool is_address(const std::string& host) {
  in6_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &address) == 1 ||
         (host.find(':') != host.npos && host.find('%') != host.npos);  // IPv6 with a zone
}

Url parse_url(std::string text) {
  const std::string whole = text;
  Url url;
  url.tls = text.starts_with("https://");
  if (!url.tls && !text.starts_with("http://")) {
    throw Input_Error("\"" + whole + "\" is not http://HOST[:PORT] or https://HOST[:PORT]");
  }
  text.erase(0, text.find("://") + 3);
  if (text.ends_with('/')) text.pop_back();
  url.address = parse_address(text, false);
  if (url.address.port == 0) url.address.port = 5999;
  return url;
}

std::string print_url(const Url& url) {
  return (url.tls ? "https://" : "http://") + print_address(url.address);
}

}  // namespace primgr
