// TLS: one certificate, key and CA for both directions.

#pragma once

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "daemon/config.hpp"
#include "daemon/log.hpp"

namespace primgr {

// Certificate (with its chain), key and CA as configured: loaded together, found to fit together,
// and in use together, for those who connect to this node and for the questions to its peers. A
// question reads no file.
//
// Thread-safe: the mutex guards the context in use; a connection keeps the one that it began with.
// A context is not changed once it is in use, so what it holds may be shared by clients.
class Tls {
 public:
  // Throws Config_Error if the files are no pair of certificate and key, or no CA.
  Tls(const Config& config, const Stderr_Log& log);

  bool enabled() const { return !cert_.empty(); }
  bool verifies() const { return !ca_.empty(); }

  // What a connection is to speak; null: plain HTTP.
  std::shared_ptr<SSL_CTX> context() const;

  // Lets a client show the certificate in use, and take a server only if tls_ca signed its
  // certificate (if there is one), and if that is for `host` (empty: for any). REQUIRES: enabled().
  //
  // cpp-httplib's own verification is not used: it would add the system's authorities to ours.
  void equip(SSL_CTX* client, const std::string& host) const;

  // Why the certificate of the server that this thread asked last was not taken: X509_V_OK if it
  // was, or if it did not come to that. A handshake takes place in the thread that asks.
  static inline thread_local int verify_error = X509_V_OK;

  // Reads the files again if they changed, or if told so. Files that do not fit together leave what
  // is in use as it is: they may be half replaced.
  void renew(bool now);

  // When the certificate in use ends, in seconds since the epoch; none without one.
  std::optional<double> expiry() const;

  // Once a day, from 30 days before the certificate ends. Call it often.
  void tell_expiry();

 private:
  struct Free {
    void operator()(X509* cert) const { X509_free(cert); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(BIO* bio) const { BIO_free(bio); }
  };
  using Certificates = std::vector<std::unique_ptr<X509, Free>>;

  // Changes when a file does.
  std::string stamp() const;

  [[noreturn]] static void fail(const std::string& what);

  static std::string read(const char* key, const std::string& path);

  static std::unique_ptr<BIO, Free> bio_of(const std::string& text);

  // Every certificate of a file, one at least, and none that is cut short.
  static Certificates read_certificates(const char* key, const std::string& path);

  // A key with a passphrase must not make a daemon ask for it on a terminal.
  static int no_passphrase(char*, int, int, void*) { return -1; }

  // Why others will not take the certificate: it has expired, or tls_ca, which is theirs too, has
  // not signed it. Empty: they will.
  std::string unusable(SSL_CTX* of) const;

  std::shared_ptr<SSL_CTX> load() const;

  const std::string cert_, key_, ca_;
  const Stderr_Log& log_;
  std::string seen_;                                                  // renew()'s alone
  std::optional<std::chrono::steady_clock::time_point> expiry_told_;  // likewise
  mutable std::mutex mutex_;
  std::shared_ptr<SSL_CTX> context_;
};

}  // namespace primgr
