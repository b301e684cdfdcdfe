// libpq connection strings: parsing, checking, and printing without secrets.

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

// The version of libpq that is linked in: "17.6".
std::string libpq_version();

// The value of a keyword; empty if it is not set, or `options` is null.
std::string conninfo_option(const Conninfo& options, std::string_view keyword);

// Whether a value of `host` is a host that TCP reaches: not empty, no socket folder, no socket in
// the abstract namespace.
bool is_tcp_host(std::string_view host);

// The host of a connection string (the first, if it lists several), as libpq uses it. `name` is the
// host that a certificate must be for. `address` is the address to connect to, if it is not looked
// up by that name. Without `host`, the name is `hostaddr`. The name is empty if there is none, if
// it is a socket folder, if it contains an @ (it may be part of a password), or if the string
// cannot be parsed.
struct Conninfo_Host {
  std::string name, address;
};
Conninfo_Host conninfo_host(const std::string& conninfo);

// Checks a connection string, and returns it unchanged. Throws Input_Error if libpq cannot parse
// it. Also throws it for a value that libpq would reject only when it connects, with a message that
// quotes the value. The text of Input_Error quotes no part of a password.
std::string parse_conninfo(const std::string& text);

// Whether a server answers there, even if it refuses this user: PQping() of libpq. False while it
// is starting or stopping. Blocks, 2 s at most for each address.
bool is_server_up(const std::string& conninfo);

// The connection string as keywords and values, with ******** for each secret. Empty if it cannot
// be parsed. `secrets_left_out`: leaves the secrets out instead, so that libpq looks for them
// elsewhere.
std::string print_conninfo(const std::string& conninfo, bool secrets_left_out = false);

}  // namespace primgr
