// libpq connection strings: read, checked, and shown without their secrets.

#pragma once

#include <libpq-fe.h>

#include <memory>
#include <string>
#include <string_view>

namespace primgr {

struct Conninfo_Deleter {
  void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};
// The options of a connection string, as PQconninfoParse() returns them; null: it cannot be read.
using Conninfo = std::unique_ptr<PQconninfoOption, Conninfo_Deleter>;

// The value of a keyword; empty if it is not set. Also of a null Conninfo.
std::string conninfo_option(const Conninfo& options, std::string_view keyword);

// Whether a value of `host` is a host, and not a folder of sockets or nothing.
bool is_tcp_host(std::string_view host);

// The host of a connection string (the first, if it lists several): hostaddr, else host.
// Empty if there is none, if it is a socket folder, or if the string cannot be parsed.
std::string conninfo_host(const std::string& conninfo);

// The connection string, unchanged. Throws Config_Error, which quotes no part of a password, for
// what libpq cannot read, and for what it would only complain about, with the value, when it
// connects.
std::string parse_conninfo(const std::string& text);

// The connection string as keywords and values, with its secrets hidden.
std::string print_conninfo(const std::string& conninfo);

}  // namespace primgr
