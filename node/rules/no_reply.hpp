// Why another node gave no valid reply, in words: the HTTP client gives them (Http_Reply::error),
// the log and /node show them, and what an operator is advised depends on them.
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
inline constexpr char not_asked[] = "this host cannot ask it";  // and why
inline constexpr char tls_failed[] = "TLS handshake failed";
inline constexpr char other_certificate[] = "its certificate is ";  // and how it is wrong
inline constexpr char no_http[] = "no valid HTTP reply";

// It answers, but names no primary: its state is Down.
inline constexpr char names_none_down[] = "names none, its state is Down";

// That a host name has no address.
std::string describe_unresolved(const std::string& host);

// Whether nothing answers there at all. Only such a node may be gone for good: one that refuses
// lives, and of one whose name does not resolve nothing is known.
bool is_silence(std::string_view why);

// What an operator is to look at; empty: the words say it, or nobody knows.
std::string_view what_to_check(std::string_view why);

}  // namespace primgr
