// Certificates for tests, made with openssl(1).

#pragma once

#include <cstdlib>
#include <string>

#include "daemon/config/config.hpp"

using namespace primgr;

// Two authorities (ca, other-ca), and certificates signed by them. The destructor removes their
// folder.
struct Certificates {
  Certificates();
  ~Certificates();
  // With 0 days, the certificate has already expired. (Recent versions of openssl refuse less than
  // 0.)
  void sign(const std::string& name, const std::string& ca, const std::string& san,
            int days = 9) const;
  void sh(const std::string& command) const;
  Config config(const std::string& name, bool with_ca = true) const;
  const std::string folder = [] {
    char made[] = "/tmp/primgr-tls-XXXXXX";
    return std::string(mkdtemp(made));
  }();
};
