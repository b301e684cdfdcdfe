#include "daemon/api/page.hpp"

#include <openssl/evp.h>

namespace primgr {

const std::string_view page =
#include "page.html.inc"
    ;

std::string page_policy() {
  const auto hash_of = [](std::string_view tag) {
    const std::string open = "<" + std::string(tag) + ">", close = "</" + std::string(tag) + ">";
    const auto begin = page.find(open) + open.size();
    const std::string_view text = page.substr(begin, page.find(close, begin) - begin);
    unsigned char digest[EVP_MAX_MD_SIZE], base64[2 * EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr);
    EVP_EncodeBlock(base64, digest, static_cast<int>(size));
    return " 'sha256-" + std::string(reinterpret_cast<const char*>(base64)) + "'";
  };
  return "default-src 'none'; style-src" + hash_of("style") + "; script-src" + hash_of("script") +
         "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
         "frame-ancestors 'none'";
}

}  // namespace primgr
