// The settings of the transport, as plain values.

#pragma once

#include <map>
#include <string>

#include "base/address.hpp"

namespace primgr {

// PEM files; empty: not set.
struct Tls_Files {
  std::string cert, key, ca;
};

// The addresses of peers. Without an entry in by_name, it is the host in repmgr.nodes and `port`.
struct Peer_Addresses {
  int port = 5999;
  std::map<std::string, Address> by_name;  // from the keys peer.<name>; port 0: `port`
};

}  // namespace primgr
