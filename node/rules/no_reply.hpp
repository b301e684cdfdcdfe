// Why another node gave no valid reply, in words. The HTTP client sets them (Http_Reply::error),
// the log and /node show them, and the advice to an operator depends on them.
//
// Pure functions. Thread-safe. They throw std::bad_alloc only.

#pragma once

#include <string>
#include <string_view>

namespace primgr {

inline constexpr char timed_out[] = "timed out";
inline constexpr char host_unreachable[] = "host unreachable";
inline constexpr char not_waited_for[] = "silent, and not waited for";
inline constexpr char connection_refused[] = "connection refused";
inline constexpr char not_asked[] = "this host cannot ask it";  // the reason is appended
inline constexpr char tls_failed[] = "TLS handshake failed";
// what is wrong with it is appended
inline constexpr char other_certificate[] = "its certificate is ";
inline constexpr char no_http[] = "no valid HTTP reply";

// It answers, but names no primary: its state is Down.
inline constexpr char names_none_down[] = "names none, its state is Down";

// The message that a host name has no address.
std::string describe_unresolved(const std::string& host);

// Whether nothing answers there at all. Only such a node may be gone for good. A node that refuses
// the connection is running, and nothing is known of a node whose name does not resolve.
bool is_silence(std::string_view why);

// What an operator should check. Empty: `why` is clear enough, or there is no advice.
std::string_view what_to_check(std::string_view why);

}  // namespace primgr
