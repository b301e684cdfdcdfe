#include "daemon/cli/commands.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "base/text.hpp"
#include "base/time.hpp"
#include "daemon/api/endpoints.hpp"
#include "daemon/api/node_document.hpp"
#include "daemon/cli/status.hpp"
#include "daemon/http/http.hpp"
#include "daemon/run/connected_node.hpp"
#include "daemon/run/look_socket.hpp"
#include "daemon/state/drain_file.hpp"
#include "daemon/state/note_folder.hpp"
#include "daemon/state/state_directory.hpp"
#include "daemon/state/voters_file.hpp"
#include "node/database/conninfo.hpp"
#include "node/peers/lists_text.hpp"

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

// The voters that the daemon of this host has saved in its state_directory.
Voter_List written_voters(const std::string& directory, bool whole_cluster) {
  const std::string path = directory + "/" + voters_file;
  std::string why;
  // A candidate that was never Primary has no list yet.
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) return {};
  const auto lists = parse_held(read_file(path), whole_cluster, why);
  if (!lists) throw Input_Error(path + " " + why);
  Voter_List known;
  for (const auto& [id, address] : lists->addresses) {
    known.emplace_back().name = address.name;
  }
  for (const Lost_Voter& voter : lists->lost) known.push_back(voter.node);
  return known;
}

// The URL of the daemon of this host, by its configuration.
Url own_daemon_url(const Config& config) {
  Url url{!config.tls.cert.empty(), config.listen};
  if (url.address.host == "0.0.0.0" || url.address.host == "*") url.address.host = "127.0.0.1";
  if (url.address.host == "::") url.address.host = "::1";
  return url;
}

// Prints a daemon's answer to /cluster. Returns the exit status. It is exit_unavailable if there is
// no answer. For --status it is 0 if there is exactly one Primary, and 2 if there is none or more
// than one.
int print_cluster(const Http_Reply& reply, const Url& url, const Options& options, bool colour) {
  constexpr int max_depth = 9;
  const bool history = options.mode == Options::Mode::history;
  const Json cluster = parse_json(reply.body, max_depth);
  if (reply.status != 0 && at(cluster, "sites").is_array()) {
    if (options.json) {
      std::cout << printable_json(reply.body) << '\n';
    } else if (history) {
      std::cout << print_changes(cluster, colour);
    } else {
      std::cout << print_status(cluster, colour);
    }
    return history || at(cluster, "realPrimary").is_string() ? 0 : 2;
  }
  std::cerr << "primgr: no answer to /cluster from " << print_url(url) << ": "
            << (reply.status == 0     ? reply.error
                : reply.status == 200 ? "not what a primgr says"
                                      : "HTTP status " + std::to_string(reply.status))
            << (options.url.empty() ? " (is primgr running here? --url asks another node)" : "")
            << std::endl;
  return exit_unavailable;
}

// How long --drain, --forget-timeline and --lost wait for the daemon. The daemon reads their files
// each second, acts on them every 2 s, and asks voters that are declared lost twice.
constexpr auto command_limit = 20s;

// How long --once waits for the daemon of this host, which answers from its cache.
constexpr auto once_limit = 2s;

// The answer of the daemon of this host to /realPrimary; none if it gives no valid one.
std::optional<Answer> ask_real_primary(const Http_Library& http, const Config& config,
                                       const Tls& tls) {
  const Http_Reply reply =
      http.ask_daemon(tls, own_daemon_url(config), true, "/realPrimary", once_limit);
  const Json told = parse_json(reply.body, 2);
  const bool is_one = reply.status == 200 && at(told, "realPrimary").is_string();
  const bool is_none =
      reply.status != 0 && reply.status != 200 && told.is_object() && told.contains("realPrimary");
  if (!is_one && !is_none) return std::nullopt;
  return Answer{reply.status, reply.body};
}

// The answer of the daemon of this host to /node, without its history.
Own_Daemon ask_own_node(const Http_Library& http, const Config& config, const Tls& tls) {
  const Url url = own_daemon_url(config);
  Node self;
  self.name = config.node.node_name;
  const Http_Reply reply = http.ask_daemon(tls, url, true, "/node?history=0", once_limit);
  Own_Daemon daemon;
  daemon.answered = reply.status != 0;
  daemon.address = print_address(url.address);
  daemon.node = parse_node_document(self, reply, daemon.why);
  return daemon;
}

// The answer of the daemon of this host to --once. The daemon holds the votes, and may still know
// the nodes that it read before the database went down. None if there is no daemon, or if it is the
// daemon of another node.
std::optional<Answer> ask_own_daemon(const Http_Library& http, const Config& config, const Tls& tls,
                                     const Stderr_Log& log, const std::string& subject) {
  const Own_Daemon daemon = ask_own_node(http, config, tls);
  const Json& node = daemon.node;
  const std::optional<State> state = parse_state(text_at(node, "state"));
  log(Log_Level::info, state ? "the daemon of this host says: " + text_at(node, "reason")
                             : "no daemon of this host answers: " + daemon.why);
  if (!state) return std::nullopt;
  if (subject == "real-primary") return ask_real_primary(http, config, tls);
  if (subject == "state") return Answer{0, dump({{"state", to_string(*state)}})};
  const Json& primary = at(node, "primary");
  if (primary.is_string()) return Answer{200, dump(name_body("Primary", primary))};
  return Answer{503,
                dump({{"state", to_string(*state == State::down ? State::down : State::unknown)}})};
}

// The answer to --once from this process's own look at the database.
Answer look(Repmgr_Node& node, const std::string& subject) {
  if (subject == "state") return get_reported_state(node);
  return subject == "primary" ? get_reported_primary(node, {}) : get_reported_real_primary(node);
}

// Prints on standard error why the server is up but did not return the information: a permission, a
// role or a password is missing. Prints nothing if the server is down.
void explain_refusal(const Repmgr_Node& node, const std::string& conninfo) {
  const Report report = node.get_report();
  const bool refused = report.decision.state == State::down && is_server_up(conninfo);
  const bool unreadable =
      report.decision.state == State::unknown && !node.get_real_primary().nodes_known;
  if (!refused && !unreadable) return;
  std::cerr << "primgr: " << (refused ? "the server is up, but does not let primgr look: " : "")
            << printable(report.decision.reason) << std::endl;
}

// Prints an answer to --once as one word, or as JSON. Returns the exit status.
int print_once(const Answer& answer, const Options& options) {
  const Json body = parse_json(answer.body, 3);
  std::string word;
  for (const char* key : {"node", "Primary", "realPrimary", "state"}) {
    if (word.empty()) word = text_at(body, key);
  }
  if (word.empty()) word = "Unknown";  // several nodes claim to be Primary
  std::cout << (options.json ? answer.body : word) << '\n';
  if (options.subject != "state") {
    return flush_output(answer.status == 200 ? 0 : word == "Down" ? 3 : 2);
  }
  return flush_output(static_cast<int>(parse_state(word).value()));
}

// The daemon may wait for its peers, so this is longer.
constexpr auto status_limit = 15s;

}  // namespace

int run_status(const Http_Library& http, const Config& config, const Options& options,
               const Stderr_Log& log) {
  const bool own = options.url.empty();
  const Url url = own ? own_daemon_url(config) : parse_url(options.url);
  const Tls tls(url.tls ? config.tls : Tls_Files(), log);
  const char* no_colour = getenv("NO_COLOR");
  const bool terminal = isatty(STDOUT_FILENO);
  const bool colour = terminal && !(no_colour && *no_colour);
  // main() ignores SIGHUP, but this command must end when its terminal closes.
  if (options.watch) signal(SIGHUP, SIG_DFL);
  for (;; std::this_thread::sleep_for(2s)) {
    const Http_Reply reply = http.ask_daemon(tls, url, own, "/cluster", status_limit);
    if (options.watch && terminal && !options.json) std::cout << "\x1b[H\x1b[J";
    const int status = print_cluster(reply, url, options, colour);
    if (!options.watch) return flush_output(status);
    if (!terminal && !options.json) std::cout << '\n';
    if (const int failed = flush_output(0)) return failed;
  }
}

namespace {

// How long a daemon may give no answer because it is being restarted.
constexpr auto restart_limit = 5s;

// Asks the daemon of this host until its /node satisfies `wanted`, for command_limit at most.
// Returns its last answer. Null if it does not answer any more.
Json wait_for_daemon(const Http_Library& http, const Config& config, const Tls& tls,
                     const std::function<bool(const Json&)>& wanted) {
  const Deadline begin = std::chrono::steady_clock::now();
  Deadline answered = begin;
  for (;;) {
    Json node = ask_own_node(http, config, tls).node;
    const Deadline now = std::chrono::steady_clock::now();
    if (node.is_object()) answered = now;
    const bool over = now > begin + command_limit || now > answered + restart_limit;
    if (over || (node.is_object() && wanted(node))) return node;
    std::this_thread::sleep_for(100ms);
  }
}

// Prints why a file for the daemon could not be written or removed. Returns the exit status.
int report_unwritten(const char* option, const std::string& why) {
  std::cerr << "primgr: " << option << ": " << printable(why)
            << " (run it as root, or as the daemon's user)\n";
  return exit_unavailable;
}

// A file that a command writes to the daemon's state_directory.
class Command_Note {
 public:
  Command_Note(const char* option, const char* name) : option_(option), name_(name) {}

  // Finds the folder, and locks it against other commands. Returns 0, or the exit status after it
  // has printed the reason.
  int open(const Http_Library& http, const Config& config, const Tls& tls) {
    std::string why;
    const Deadline deadline = std::chrono::steady_clock::now() + restart_limit;
    do {
      if (daemon_.address.size()) std::this_thread::sleep_for(100ms);
      daemon_ = ask_own_node(http, config, tls);
      folder_ = find_note_folder(config, daemon_, why);
    } while (folder_.empty() && !daemon_.answered && std::chrono::steady_clock::now() < deadline);
    if (folder_.empty()) {
      std::cerr << "primgr: " << option_ << ": " << printable(why) << '\n';
      return exit_unavailable;
    }
    if (const std::string failed = lock_.lock(folder_); !failed.empty()) {
      return report_unwritten(option_, failed);
    }
    try {
      if (exists()) before_ = read_file(path());
    } catch (const Input_Error& error) {
      std::cerr << "primgr: " << option_ << ": " << printable(error.what()) << '\n';
      return exit_unavailable;
    }
    return 0;
  }

  const std::string& folder() const { return folder_; }
  std::string path() const { return folder_ + "/" + name_; }
  const Json& node() const { return daemon_.node; }
  bool exists() const { return access(path().c_str(), F_OK) == 0 || errno != ENOENT; }
  // Both return 0, or the exit status after they have printed the reason.
  int write(const std::string& contents) const {
    const std::string why = State_Directory::write(path(), contents, 0644);
    return why.empty() ? 0 : report_unwritten(option_, why);
  }
  int remove() const {
    if (unlink(path().c_str()) == 0 || errno == ENOENT) return 0;
    return report_unwritten(option_, "cannot remove " + path() + ": " + std::strerror(errno));
  }
  // Restores the previous file, because the daemon did not act on the new one. Prints that, and
  // returns the exit status.
  int take_back() const {
    std::string outcome = "it was taken back";
    if (before_) {
      const std::string why = State_Directory::write(path(), *before_, 0644);
      if (!why.empty()) outcome = why;
    } else if (unlink(path().c_str()) != 0) {
      outcome = errno == ENOENT ? "has read it only now"
                                : "it cannot be removed: " + std::string(std::strerror(errno));
    }
    std::cerr << "primgr: " << option_ << ": the daemon of this host did not heed "
              << printable(path()) << " in time: " << outcome
              << ": see its log, and primgr --status\n";
    return exit_unavailable;
  }

 private:
  const char* const option_;
  const char* const name_;
  Own_Daemon daemon_;
  std::string folder_;
  std::optional<std::string> before_;
  Command_Lock lock_;
};

// Prints which of the voters that the operator named were not declared lost. Returns the exit
// status.
int print_lost(const Json& lost, const std::vector<std::string>& named) {
  std::vector<std::string> alive;
  for (const std::string& name : named) {
    const bool is_lost =
        lost.is_array() && std::any_of(lost.begin(), lost.end(), [&](const Json& voter) {
          return voter.is_string() && names_equal(voter.get<std::string>(), name);
        });
    if (!is_lost) alive.push_back(printable(name));
  }
  if (!alive.empty()) {
    std::cerr << "primgr: --lost: not declared lost, since something answers there, or since it is "
                 "not a voter of this node: "
              << joined(alive)
              << ". Whoever answers, even with an error, is alive: see primgr --status\n";
    return exit_unavailable;
  }
  std::cout << (named.empty()
                    ? "No voter is declared lost any more. "
                    : "The daemon of this host goes on without the votes of these. If one of them "
                      "lives, two nodes may take writes: make sure that it never comes back as it "
                      "was. ")
            << "See: primgr --status\n";
  return flush_output(0);
}

}  // namespace

int run_lost(const Http_Library& http, const Config& config, const Tls& tls,
             const Options& options) {
  const char* const option = options.mode == Options::Mode::found ? "--found" : "--lost";
  Command_Note note(option, lost_note_file);
  if (const int status = note.open(http, config, tls)) return status;
  Voter_List known;
  try {
    known = written_voters(note.folder(), config.node.consensus_cluster);
  } catch (const Input_Error& error) {
    return report_unwritten(option, error.what());
  }
  for (const std::string& name : options.lost) {
    const bool self = names_equal(name, config.node.node_name);
    // The daemon ignores names that it does not know, so they are refused here.
    if (!self && (known.empty() || find_node(known, name))) continue;
    std::cerr << "primgr: --lost: " << (self ? "this node is " : "no voter is called ")
              << printable(name) << "; the voters are: " << printable(names_of(known)) << std::endl;
    return exit_usage;
  }
  const std::string since = print_time(wall_clock());
  if (const int status = note.write(print_lost_note({options.lost, since}))) return status;
  const auto heeded = [&](const Json& node) {
    const Json& lost = at(node, "lost");
    return text_at(lost, "declared") == since && at(lost, "pending") == false;
  };
  const Json node = wait_for_daemon(http, config, tls, heeded);
  if (node.is_null()) {
    std::cout << "No daemon answers here; it will ask these voters, and heed this, when it runs.\n";
    return flush_output(0);
  }
  if (heeded(node)) return print_lost(at(at(node, "lost"), "names"), options.lost);
  if (note.exists()) return note.take_back();
  std::cerr << "primgr: the daemon of this host has read " << printable(note.path())
            << ", and still asks these voters: see its log, and primgr --status\n";
  return exit_unavailable;
}

int run_forget_timeline(const Http_Library& http, const Config& config, const Tls& tls) {
  Command_Note note("--forget-timeline", forget_timeline_note_file);
  if (const int status = note.open(http, config, tls)) return status;
  if (const int status = note.write(print_time(wall_clock()) + "\n")) return status;
  const auto taken = [&](const Json&) { return !note.exists(); };
  const Json node = wait_for_daemon(http, config, tls, taken);
  if (node.is_null() && note.exists()) {
    std::cout << "No daemon answers here; it will heed this when it runs.\n";
    return flush_output(0);
  }
  if (note.exists()) return note.take_back();
  std::cout << "This node may vote for a Primary on an older timeline. Do this on each voter. If a "
               "primary with newer data lives, stop it first.\n";
  return flush_output(0);
}

int run_drain(const Http_Library& http, const Config& config, const Tls& tls,
              const Options& options) {
  const bool drain = options.mode == Options::Mode::drain;
  Command_Note note(drain ? "--drain" : "--undrain", drain_file);
  if (const int status = note.open(http, config, tls)) return status;
  if (drain && text_at(note.node(), "state") == "Primary") {
    std::cerr << "primgr: --drain: this node is Primary, which takes the writes: make another node "
                 "the primary first (on that: repmgr standby switchover), then drain this one\n";
    return exit_unavailable;
  }
  const std::string since = print_time(wall_clock());
  const int failed =
      drain ? note.write(print_drain({bounded_reason(options.reason), since})) : note.remove();
  if (failed) return failed;
  const auto heeded = [&](const Json& told) {
    const Json& drained = at(told, "drain");
    return drain ? text_at(drained, "since") == since : drained.is_null();
  };
  const Json node = wait_for_daemon(http, config, tls, heeded);
  if (node.is_object() && !heeded(node)) return note.take_back();
  std::cout << (drain ? "This node takes no new reads. " : "This node takes reads. ")
            << (node.is_object() ? "See: primgr --status\n"
                                 : "No daemon answers here; it will heed that when it runs.\n");
  return flush_output(0);
}

void run_once(const Http_Library& http, Config config, const Tls& tls, const Options& options,
              const Stderr_Log& log) {
  if (const auto answer = ask_own_daemon(http, config, tls, log, options.subject)) {
    std::_Exit(print_once(*answer, options));
  }
  try {
    complete_node_name(config);
  } catch (const Input_Error& error) {
    throw Input_Error("no daemon of this host answers, and this process cannot look itself: " +
                      std::string(error.what()));
  }
  config.node.candidate = false;
  Connected_Node connected(http, config, tls, log);
  connected.node.run([&] { return connected.node.settled(options.subject == "real-primary"); });
  explain_refusal(connected.node, config.node.conninfo);
  // The answer is final. A normal exit would wait for peers that have not answered.
  std::_Exit(print_once(look(connected.node, options.subject), options));
}

}  // namespace primgr
