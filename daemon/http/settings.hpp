// The settings of the transport: plain values, without what uses them.

#pragma once

#include <map>
#include <string>

#include "base/address.hpp"

namespace primgr {

// PEM files; empty: not set.
struct Tls_Files {
  std::string cert, key, ca;
};

// Where peers are asked: at their host in repmgr.nodes and `port`, unless by_name says otherwise.
struct Peer_Addresses {
  int port = 5999;
  std::map<std::string, Address> by_name;  // peer.<name>; port 0: `port`
};

}  // namespace primgr
