// Addresses and URLs, of HTTP servers and for HTTP requests.

#pragma once

#include <string>

namespace primgr {

struct Address {
  std::string host;  // a name or an address; IPv6 without brackets
  int port = 0;
};

// A whole decimal number from `low` to `high`, both included. Throws Input_Error for anything
// else.
int parse_integer(const std::string& text, int low, int high);

// Parses HOST:PORT or [IPv6]:PORT. Unless `port_needed`, the port may be left out; it is 0 then.
// Throws Input_Error.
Address parse_address(const std::string& text, bool port_needed);
std::string print_address(const Address& address);

// Whether `host` is an IPv4 or IPv6 address, as opposed to a name.
bool is_address(const std::string& host);

// A daemon's URL, for --status.
struct Url {
  bool tls = false;
  Address address;
};

// Parses http://HOST[:PORT] or https://HOST[:PORT]; the default port is 5999. Throws Input_Error.
Url parse_url(std::string text);
std::string print_url(const Url& url);

}  // namespace primgr
