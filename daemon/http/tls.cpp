#include "daemon/http/tls.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include <cstdint>
#include <utility>

#include "base/error.hpp"
#include "base/file.hpp"

namespace primgr {

using namespace std::chrono_literals;

Tls::Tls(Tls_Files files, const Stderr_Log& log) : files_(std::move(files)), log_(log) {
  if (!enabled()) return;
  loaded_stamp_ = files_stamp();
  context_ = load();
  if (const std::string why = why_rejected(context_.get()); !why.empty()) {
    log_(Log_Level::error, why + ": other nodes will not take it");
  }
}

std::shared_ptr<SSL_CTX> Tls::context() const {
  const Mutex_Lock lock(mutex_);
  return context_;
}

void Tls::configure_client(SSL_CTX* client, const std::string& host) const {
  const auto in_use = context();
  SSL_CTX* from = in_use.get();
  verify_error = X509_V_OK;
  STACK_OF(X509)* chain = nullptr;
  SSL_CTX_get0_chain_certs(from, &chain);
  if (!SSL_CTX_set_min_proto_version(client, TLS1_2_VERSION) ||
      !SSL_CTX_use_certificate(client, SSL_CTX_get0_certificate(from)) ||
      !SSL_CTX_set1_chain(client, chain) ||
      !SSL_CTX_use_PrivateKey(client, SSL_CTX_get0_privatekey(from))) {
    throw_tls_error("tls");
  }
  if (!verifies()) return;
  SSL_CTX_set1_cert_store(client, SSL_CTX_get_cert_store(from));
  SSL_CTX_set_verify(client, SSL_VERIFY_PEER, [](int ok, X509_STORE_CTX* chain_of) {
    if (!ok) verify_error = X509_STORE_CTX_get_error(chain_of);
    return ok;
  });
  X509_VERIFY_PARAM* expected = SSL_CTX_get0_param(client);
  if (!host.empty() && !X509_VERIFY_PARAM_set1_ip_asc(expected, host.c_str()) &&
      !X509_VERIFY_PARAM_set1_host(expected, host.data(), host.size())) {
    throw_tls_error("tls");
  }
}

void Tls::reload(bool force) {
  if (!enabled()) return;
  const std::string stamped = files_stamp();
  if (force || stamped != loaded_stamp_) {
    loaded_stamp_ = stamped;
    try {
      const auto loaded = load();
      // A certificate that peers would reject does not replace one that they accept.
      const std::string why = why_rejected(loaded.get());
      if (!why.empty() && why_rejected(context().get()).empty()) throw Input_Error(why);
      log_(Log_Level::info, "tls: read " + files_.cert + " again");
      expiry_logged_at_ = {};
      const Mutex_Lock lock(mutex_);
      context_ = loaded;
    } catch (const Input_Error& error) {
      log_(Log_Level::error, std::string(error.what()) + ": the certificate read before stays");
    }
  }
  warn_of_expiry();
}

std::optional<double> Tls::expiry() const {
  const auto in_use = context();
  const X509* cert = in_use ? SSL_CTX_get0_certificate(in_use.get()) : nullptr;
  tm utc{};
  if (!cert || !ASN1_TIME_to_tm(X509_get0_notAfter(cert), &utc)) return std::nullopt;
  return static_cast<double>(timegm(&utc));
}

void Tls::warn_of_expiry() {
  const auto now = std::chrono::steady_clock::now();
  if (!enabled() || (expiry_logged_at_ && now < *expiry_logged_at_ + 24h)) return;
  expiry_logged_at_ = now;
  int days = 0, seconds = 0;
  const X509* cert = SSL_CTX_get0_certificate(context().get());
  if (!cert || !ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(cert))) return;
  if (days < 0 || seconds < 0) {
    log_(Log_Level::error, "tls_cert: " + files_.cert + " has expired: replace it");
  } else if (days < 30) {
    log_(Log_Level::warning,
         "tls_cert: " + files_.cert + " expires in " + std::to_string(days) + " days: replace it");
  }
}

std::string Tls::files_stamp() const {
  std::string text;
  for (const std::string& path : {files_.cert, files_.key, files_.ca}) {
    struct stat file {};
    if (path.empty() || stat(path.c_str(), &file) != 0) continue;
    for (const auto value :
         {static_cast<std::int64_t>(file.st_mtim.tv_sec),
          static_cast<std::int64_t>(file.st_mtim.tv_nsec), static_cast<std::int64_t>(file.st_ino),
          static_cast<std::int64_t>(file.st_size)}) {
      text += std::to_string(value) + " ";
    }
  }
  return text;
}

void Tls::throw_tls_error(const std::string& what) {
  char reason[256];
  ERR_error_string_n(ERR_peek_last_error(), reason, sizeof reason);
  ERR_clear_error();
  throw Input_Error(what + ": " + reason);
}

std::string Tls::read(const char* key, const std::string& path) {
  try {
    return read_file(path);
  } catch (const Input_Error& error) {
    throw Input_Error(std::string(key) + ": " + error.what());
  }
}

std::unique_ptr<BIO, Tls::Deleter> Tls::bio_of(const std::string& text) {
  return std::unique_ptr<BIO, Deleter>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

Tls::Certificates Tls::read_certificates(const char* key, const std::string& path) {
  const std::string text = read(key, path);
  const auto bio = bio_of(text);
  Certificates found;
  while (X509* cert = PEM_read_bio_X509_AUX(bio.get(), nullptr, no_passphrase, nullptr)) {
    found.emplace_back(cert);
  }
  if (found.empty() || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    throw_tls_error(std::string(key) + ": cannot read " +
                    (found.empty() ? "a certificate" : "all of them") + " from " + path);
  }
  ERR_clear_error();
  return found;
}

std::string Tls::why_rejected(SSL_CTX* of) const {
  X509* cert = SSL_CTX_get0_certificate(of);
  if (!verifies()) {
    const bool expired = X509_cmp_current_time(X509_get0_notAfter(cert)) < 0;
    return expired ? "tls_cert: " + files_.cert + " has expired" : "";
  }
  STACK_OF(X509)* chain = nullptr;
  SSL_CTX_get0_chain_certs(of, &chain);
  const std::unique_ptr<X509_STORE_CTX, void (*)(X509_STORE_CTX*)> check(X509_STORE_CTX_new(),
                                                                         X509_STORE_CTX_free);
  if (!check || !X509_STORE_CTX_init(check.get(), SSL_CTX_get_cert_store(of), cert, chain)) {
    return {};
  }
  if (X509_verify_cert(check.get()) == 1) return {};
  return "tls_cert: tls_ca does not verify " + files_.cert + " (" +
         X509_verify_cert_error_string(X509_STORE_CTX_get_error(check.get())) + ")";
}

std::shared_ptr<SSL_CTX> Tls::load() const {
  ERR_clear_error();
  const std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  SSL_CTX* c = context.get();
  if (!c || !SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION)) throw_tls_error("tls");
  SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
  SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  const Certificates certs = read_certificates("tls_cert", files_.cert);
  if (SSL_CTX_use_certificate(c, certs[0].get()) != 1)
    throw_tls_error("tls_cert: cannot use " + files_.cert);
  for (std::size_t i = 1; i < certs.size(); ++i) {
    if (!SSL_CTX_add1_chain_cert(c, certs[i].get()))
      throw_tls_error("tls_cert: cannot use " + files_.cert);
  }
  const std::string text = read("tls_key", files_.key);
  const std::unique_ptr<EVP_PKEY, Deleter> key(
      PEM_read_bio_PrivateKey(bio_of(text).get(), nullptr, no_passphrase, nullptr));
  if (!key) throw_tls_error("tls_key: cannot read a key without passphrase from " + files_.key);
  if (SSL_CTX_use_PrivateKey(c, key.get()) != 1 || SSL_CTX_check_private_key(c) != 1) {
    throw_tls_error("tls_key: " + files_.key + " is not the key of the certificate in " +
                    files_.cert);
  }
  if (!verifies()) return context;
  for (const auto& ca : read_certificates("tls_ca", files_.ca)) {
    if (!X509_STORE_add_cert(SSL_CTX_get_cert_store(c), ca.get()) ||
        !SSL_CTX_add_client_CA(c, ca.get())) {
      throw_tls_error("tls_ca: cannot use " + files_.ca);
    }
  }
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return context;
}

}  // namespace primgr
