// Certificates made on the spot.

#pragma once

#include <cstdlib>
#include <string>

#include "daemon/config.hpp"

using namespace primgr;

// Two authorities, and what each signed.
struct Certificates {
  Certificates();
  ~Certificates();
  void sign(const std::string& name, const std::string& ca, const std::string& san,
            int days = 9) const;
  void sh(const std::string& command) const;
  Config config(const std::string& name, bool with_ca = true) const;
  const std::string folder = [] {
    char made[] = "/tmp/primgr-tls-XXXXXX";
    return std::string(mkdtemp(made));
  }();
};
