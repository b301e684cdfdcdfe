#include "daemon/commands.hpp"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>

#include "daemon/endpoints.hpp"
#include "daemon/http.hpp"
#include "daemon/json.hpp"
#include "daemon/look_socket.hpp"
#include "daemon/status.hpp"

namespace primgr {

using namespace std::chrono_literals;

int flush_output(int status) {
  errno = 0;
  if (std::cout.flush()) return status;
  std::cerr << "primgr: cannot write to standard output"
            << (errno ? std::string(": ") + std::strerror(errno) : "") << std::endl;
  return exit_unavailable;
}

int report_error(const std::exception& error, int status) {
  std::cerr << "primgr: " << printable(error.what()) << '\n';
  return status;
}

int run_look(const Options& options) {
  // With --listen, the configuration is not needed.
  const int port = options.listen.empty() ? read_config(options.config_file).listen.port
                                          : parse_address(options.listen, true).port;
  Look_Socket socket(port);
  if (socket.notify()) return 0;
  std::cerr << "primgr: no daemon was told to look: "
            << (errno == ECONNREFUSED ? "none answers for port " + std::to_string(port) +
                                            " of this host (is primgr running here, and is this "
                                            "its configuration?)"
                                      : std::strerror(errno))
            << std::endl;
  return exit_unavailable;
}

namespace {

// The URL of the daemon of this host, by its configuration.
Url own_daemon_url(const Config& config) {
  Url url{!config.tls_cert.empty(), config.listen};
  if (url.address.host == "0.0.0.0" || url.address.host == "*") url.address.host = "127.0.0.1";
  if (url.address.host == "::") url.address.host = "::1";
  return url;
}

// Prints a daemon's answer to /cluster. Returns the exit status: 0 if there is exactly one Primary,
// 2 if there is none or more than one, exit_unavailable if there is no answer.
int print_cluster(const Http_Reply& reply, const Url& url, const Options& options, bool colour) {
  constexpr int max_depth = 9;
  const Json cluster = parse_json(reply.body, max_depth);
  if (reply.status != 0 && at(cluster, "sites").is_array()) {
    if (options.json) {
      std::cout << printable_json(reply.body) << '\n';
    } else {
      std::cout << print_status(cluster, colour);
    }
    return at(cluster, "realPrimary").is_string() ? 0 : 2;
  }
  std::cerr << "primgr: no answer to /cluster from " << print_url(url) << ": "
            << (reply.status == 0     ? reply.error
                : reply.status == 200 ? "not what a primgr says"
                                      : "HTTP status " + std::to_string(reply.status))
            << (options.url.empty() ? " (is primgr running here? --url asks another node)" : "")
            << std::endl;
  return exit_unavailable;
}

// The answer of the daemon of this host to /realPrimary; none if it gives no valid one. It may
// still know the nodes that it read before the database went down.
std::optional<Answer> ask_real_primary(const Config& config, const Tls& tls) {
  const Http_Reply reply = ask_daemon(tls, own_daemon_url(config), true, "/realPrimary");
  const Json told = parse_json(reply.body, 2);
  const bool is_one = reply.status == 200 && at(told, "realPrimary").is_string();
  const bool is_none =
      reply.status != 0 && reply.status != 200 && told.is_object() && told.contains("realPrimary");
  if (!is_one && !is_none) return std::nullopt;
  return Answer{reply.status, reply.body};
}

// The answer to --once, the word to print of it, and the exit status.
struct Once {
  Answer answer;
  std::string word;
  int status = 0;
};
Once ask_once(const Config& config, const Tls& tls, Repmgr_Node& node, const std::string& subject) {
  if (subject == "state") {
    const State state = node.get_state();
    return {get_reported_state(node), to_string(state), static_cast<int>(state)};
  }
  const bool real = subject == "real-primary";
  Answer answer = real ? get_reported_real_primary(node) : get_reported_primary(node, {}, {});
  if (real && !node.get_real_primary().nodes_known) {
    answer = ask_real_primary(config, tls).value_or(answer);
  }
  const auto body = Json::parse(answer.body);
  if (answer.status == 200) {
    const std::string name = body.at(real ? "realPrimary" : "Primary");
    return {answer, name, 0};
  }
  const std::string state = body.value("state", "Unknown");
  return {answer, state, state == "Down" ? 3 : 2};
}

}  // namespace

int run_status(const Config& config, const Options& options, const Stderr_Log& log) {
  const bool own = options.url.empty();
  const Url url = own ? own_daemon_url(config) : parse_url(options.url);
  const Tls tls(url.tls ? config : Config(), log);
  const char* no_colour = getenv("NO_COLOR");
  const bool terminal = isatty(STDOUT_FILENO);
  const bool colour = terminal && !(no_colour && *no_colour);
  if (options.watch) signal(SIGHUP, SIG_DFL);  // main() ignores it; this must end with its terminal
  for (;; std::this_thread::sleep_for(2s)) {
    const Http_Reply reply = ask_daemon(tls, url, own, "/cluster");
    if (options.watch && terminal && !options.json) std::cout << "\x1b[H\x1b[J";
    const int status = print_cluster(reply, url, options, colour);
    if (!options.watch) return flush_output(status);
    if (!terminal && !options.json) std::cout << '\n';
    if (const int failed = flush_output(0)) return failed;
  }
}

void run_once(Config config, const Tls& tls, const Options& options, const Stderr_Log& log) {
  config.node.candidate = false;
  Wired_Node wired(config, tls, log);
  wired.node.run([&] { return wired.node.settled(options.subject == "real-primary"); });
  const Once once = ask_once(config, tls, wired.node, options.subject);
  std::cout << (options.json ? once.answer.body : printable(once.word)) << '\n';
  // The answer is final. A normal exit would wait for the peers that have not answered.
  std::_Exit(flush_output(once.status));
}

}  // namespace primgr
