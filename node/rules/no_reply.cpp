#include "node/rules/no_reply.hpp"

#include <algorithm>
#include <iterator>

namespace primgr {

namespace {

constexpr std::string_view unresolved = "the name ";

struct Advice {
  std::string_view begins, check;
};
constexpr Advice advices[] = {
    {connection_refused, "is primgr running there, on that port?"},
    {unresolved, "is the name right in peer.NAME of primgr.conf, or else in repmgr.nodes?"},
    {not_asked, "look at the network and the routes of this host"},
    {tls_failed, "has it tls_cert, as this node has? Either all nodes have it or none"},
    {other_certificate, "compare its tls_cert with tls_ca and peer.NAME on this host"},
    {names_none_down, "is PostgreSQL running there? Its vote needs its database"},
    {no_http, "is it primgr that listens on that port? Either all nodes have tls_cert or none"},
};

}  // namespace

std::string describe_unresolved(const std::string& host) {
  return std::string(unresolved) + host + " does not resolve";
}

bool is_silence(std::string_view why) {
  return why == timed_out || why == host_unreachable || why == not_waited_for;
}

std::string_view what_to_check(std::string_view why) {
  const auto found =
      std::find_if(std::begin(advices), std::end(advices),
                   [&](const Advice& advice) { return why.starts_with(advice.begins); });
  return found == std::end(advices) ? std::string_view() : found->check;
}

}  // namespace primgr
