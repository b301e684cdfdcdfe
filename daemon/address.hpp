// Where HTTP is served or asked: addresses and URLs.

#pragma once

#include <string>

namespace primgr {

// Where HTTP is served or asked.
struct Address {
  std::string host;  // a name or an address; IPv6 without brackets
  int port = 0;
};

// A whole number from `low` to `high`. Throws Config_Error if the text is none.
int parse_integer(const std::string& text, int low, int high);

// host:port, [IPv6]:port; the port may be left out, and is 0 then, unless it is needed. Throws
// Config_Error.
Address parse_address(const std::string& text, bool port_needed);
std::string print_address(const Address& address);

// Whether a host is an address, and no name.
bool is_address(const std::string& host);

// Where --status asks: a daemon's address, and whether it speaks TLS.
struct Url {
  bool tls = false;
  Address address;
};

// http://HOST[:PORT] or https://HOST[:PORT]. Throws Config_Error.
Url parse_url(std::string text);
std::string print_url(const Url& url);

}  // namespace primgr
