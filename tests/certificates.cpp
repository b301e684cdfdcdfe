#include "tests/certificates.hpp"

#include <doctest/doctest.h>

#include <filesystem>

Certificates::Certificates() {
  sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9"
     " -subj /CN=ca -keyout ca.key -out ca.crt");
  sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9"
     " -subj /CN=ca -keyout other-ca.key -out other-ca.crt");
  sign("node", "ca", "IP:127.0.0.1,DNS:localhost");
  sign("elsewhere", "ca", "DNS:elsewhere.example");
  sign("stranger", "other-ca", "IP:127.0.0.1");
}

void Certificates::sign(const std::string& name, const std::string& ca, const std::string& san,
                        int days) const {
  sh("openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=" + name +
     " -addext subjectAltName=" + san + " -keyout " + name + ".key -out " + name + ".csr");
  sh("openssl x509 -req -days " + std::to_string(days) + " -copy_extensions copy -in " + name +
     ".csr -CA " + ca + ".crt -CAkey " + ca + ".key -CAcreateserial -out " + name + ".crt");
}

void Certificates::sh(const std::string& command) const {
  REQUIRE(std::system(("cd " + folder + " && { " + command + "; } >log 2>&1").c_str()) == 0);
}

Config Certificates::config(const std::string& name, bool with_ca) const {
  Config made;
  made.tls.cert = folder + "/" + name + ".crt";
  made.tls.key = folder + "/" + name + ".key";
  if (with_ca) made.tls.ca = folder + "/ca.crt";
  return made;
}

Certificates::~Certificates() {
  std::filesystem::remove_all(folder);
}
