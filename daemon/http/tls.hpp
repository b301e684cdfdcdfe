// TLS with one certificate, key and CA for both the server and the clients of this node.

#pragma once

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "base/mutex.hpp"
#include "daemon/http/settings.hpp"

namespace primgr {

// Certificate (with its chain), key and CA from the configuration. They are loaded, checked and
// replaced together. They are used for connections to this node and for requests to its peers. Only
// the constructor and reload() read files.
//
// Thread-safe, except reload() and warn_of_expiry(), which only one thread (main) may call. The
// mutex guards the pointer to the context in use. A connection keeps the context that it started
// with. A context is not changed once it is in use, so clients may share its contents.
class Tls {
 public:
  // Throws Input_Error if a file cannot be read, or if the key does not belong to the certificate.
  Tls(Tls_Files files, const Stderr_Log& log);

  bool enabled() const { return !files_.cert.empty(); }
  bool verifies() const { return !files_.ca.empty(); }

  // The context for new server connections; null: plain HTTP.
  std::shared_ptr<SSL_CTX> context() const;

  // Configures a client with the certificate in use. If there is a tls_ca, the client accepts a
  // server only if tls_ca signed its certificate, and only for `host` (empty: any host). Throws
  // Input_Error. REQUIRES: enabled().
  //
  // cpp-httplib's own verification is not used, because it would also trust the system's
  // authorities.
  void configure_client(SSL_CTX* client, const std::string& host) const;

  // Why this thread's last client rejected the certificate of its server. X509_V_OK: it did not. A
  // handshake runs in the thread of the client, so the variable is thread_local.
  static inline thread_local int verify_error = X509_V_OK;

  // Reads the files again if they have changed, or if `force`, and calls warn_of_expiry(). If the
  // files do not match each other, logs an error and keeps the ones in use: the files may be
  // replaced one after the other. Does not throw Input_Error.
  void reload(bool force);

  // When the certificate in use expires, in seconds since the epoch. None without a certificate.
  std::optional<double> expiry() const;

  // Logs a warning once a day, starting 30 days before the certificate expires, and an error once a
  // day after that. Call it often.
  void warn_of_expiry();

 private:
  struct Deleter {
    void operator()(X509* cert) const { X509_free(cert); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(BIO* bio) const { BIO_free(bio); }
  };
  using Certificates = std::vector<std::unique_ptr<X509, Deleter>>;

  // Modification times, inodes and sizes of the files. The text changes if a file is replaced.
  std::string files_stamp() const;

  // Throws Input_Error with OpenSSL's reason.
  [[noreturn]] static void throw_tls_error(const std::string& what);

  static std::string read(const char* key, const std::string& path);

  static std::unique_ptr<BIO, Deleter> bio_of(const std::string& text);

  // All certificates of a PEM file. Throws Input_Error if there is none, or if one is damaged.
  static Certificates read_certificates(const char* key, const std::string& path);

  // Without this callback, OpenSSL would ask for a key's passphrase on the terminal.
  static int no_passphrase(char*, int, int, void*) { return -1; }

  // Why peers will reject the certificate. Either it has expired, or tls_ca, which the peers have
  // too, did not sign it. Empty: they will accept it.
  std::string why_rejected(SSL_CTX* of) const;

  std::shared_ptr<SSL_CTX> load() const;

  const Tls_Files files_;
  const Stderr_Log& log_;
  std::string loaded_stamp_;  // the result of files_stamp() when the files were loaded
  std::optional<std::chrono::steady_clock::time_point> expiry_logged_at_;
  mutable Mutex mutex_;
  std::shared_ptr<SSL_CTX> context_ GUARDED_BY(mutex_);
};

}  // namespace primgr
