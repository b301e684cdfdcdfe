#include "daemon/run/daemon.hpp"

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "base/descriptor.hpp"
#include "base/error.hpp"
#include "base/memory_reserve.hpp"
#include "base/text.hpp"
#include "daemon/config/reload.hpp"
#include "daemon/hook/change_hook.hpp"
#include "daemon/run/connected_node.hpp"
#include "daemon/run/look_socket.hpp"
#include "daemon/run/service.hpp"
#include "daemon/run/systemd.hpp"
#include "daemon/state/kept.hpp"
#include "node/database/conninfo.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// Raises the soft limit to the hard limit, 65,536 at most, because each connection and request
// needs a file descriptor.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::max(limit.rlim_cur, std::min<rlim_t>(limit.rlim_max, 65536));
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::string describe_bind_error(int error) {
  const std::string what = error ? std::strerror(error) : "no such address";
  if (error == EADDRINUSE) return what + ": is another primgr running?";
  if (error == EADDRNOTAVAIL) return what + ": no interface has it (listen)";
  if (error == EACCES) return what + ": ports below 1024 are for root";
  return what;
}

// The threads of the daemon. The destructor joins them. So they end before the objects that they
// use, also after an exception.
class Daemon_Threads {
 public:
  Daemon_Threads(Service& server, Repmgr_Node& node) : server_(server), node_(node) {}
  ~Daemon_Threads() { stop(); }
  Daemon_Threads(const Daemon_Threads&) = delete;
  Daemon_Threads& operator=(const Daemon_Threads&) = delete;

  // Starts the refresher and the listener. Requests wait until the node has settled, 1.5 s at most,
  // so that the first answer is a final one. That is longer than the default peer_timeout, after
  // which every voter has answered or failed. The exceptions are requests for lists of voters and
  // for the state of this node. Other nodes need the lists before they can vote. This node also
  // asks itself for its state: see Core::why_not_itself().
  void start() {
    server_.hold();
    listener_ = std::thread([this] { server_.run(); });
    refresher_ = std::thread([this] {
      for (;; std::this_thread::sleep_for(10ms)) {
        try {
          return node_.run();
        } catch (const std::bad_alloc&) {
          // There may be memory again later, so this tries again.
        }
      }
    });
    const Deadline deadline = std::chrono::steady_clock::now() + 1500ms;
    while (!node_.settled() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(1ms);
    }
    server_.release();
  }

  void stop() {
    server_.stop();
    node_.stop();
    if (refresher_.joinable()) refresher_.join();
    if (listener_.joinable()) listener_.join();
  }

 private:
  Service& server_;
  Repmgr_Node& node_;
  std::thread refresher_, listener_;
};

// The periodic work of the main thread. It reads replaced certificates, notifies systemd's watchdog
// while the refresher works, reads the files of commands, returns memory to the system after a load
// spike, and receives --look. Not thread-safe.
class Main_Loop {
 public:
  Main_Loop(const Config& config, Tls& tls, Repmgr_Node& node, Kept& kept, const Stderr_Log& log)
      : tls_(tls), node_(node), kept_(kept), log_(log), look_socket_(config.listen.port) {}

  // Waits for a signal, 2 s at most, and does the work that is due. Returns the signal's number. 0:
  // none.
  int wait_for_signal(int signal_fd) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= due_) run(false);
    // After a --look message, no other is read for 100 ms, so that many messages cost little.
    const bool muted = now < muted_until_;
    pollfd ready[] = {{signal_fd, POLLIN, 0}, {muted ? -1 : look_socket_.fd(), POLLIN, 0}};
    poll(ready, 2, muted ? 100 : 2000);
    if (ready[1].revents) {
      look_socket_.drain();
      muted_until_ = std::chrono::steady_clock::now() + 100ms;
      log_(Log_Level::debug, "told to look (--look)");
      node_.look_now();
    }
    signalfd_siginfo taken{};
    const bool any = read(signal_fd, &taken, sizeof taken) == sizeof taken;
    return any ? static_cast<int>(taken.ssi_signo) : 0;
  }

  // Does the work now. `reload`: reads the certificates again even if their files did not change.
  void run(bool reload) {
    due_ = std::chrono::steady_clock::now() + 2s;
    malloc_trim(0);
    Memory_Reserve::refill();
    try {
      tls_.reload(reload);
    } catch (const std::bad_alloc&) {
      // The next run tries again.
    }
    // refresh() starts at least once in each refresh_interval, unless the refresher is stuck.
    const Time refreshed = node_.refreshed_at();
    if (std::exchange(refreshed_at_, refreshed) != refreshed) notify_systemd("WATCHDOG=1");
    notify_status();
    node_.set_drain(kept_.drain());
    if (auto note = kept_.take_lost_note()) node_.declare_lost(std::move(*note));
    if (kept_.take_forget_timeline_note()) node_.forget_timeline();
    // The previous daemon may still have the name while it ends, so this is tried again each time.
    if (look_socket_.fd() < 0 && !look_socket_.bind() &&
        !std::exchange(look_socket_warned_, true)) {
      log_(Log_Level::warning,
           std::string("--look does not reach this daemon for now: ") + std::strerror(errno));
    }
  }

 private:
  // Sends the state and its reason to `systemctl status` when they have changed.
  void notify_status() {
    const Report report = node_.get_report();
    const std::string status = std::string("STATUS=") + to_string(report.decision.state) + ": " +
                               one_line(report.decision.reason);
    if (std::exchange(status_, status) != status) notify_systemd(status.c_str());
  }

  Tls& tls_;
  Repmgr_Node& node_;
  Kept& kept_;
  const Stderr_Log& log_;
  std::string status_;
  Look_Socket look_socket_;
  bool look_socket_warned_ = false;
  Time refreshed_at_{};
  Deadline due_{}, muted_until_{};
};

// Ends the process with status 0 after half a second if it has not ended by then. Shutdown must not
// wait for a slow name service or a silent peer. Needs no thread and no memory.
void limit_shutdown_time() {
  ::signal(SIGALRM, [](int) { std::_Exit(0); });
  const itimerval timer{{}, {0, 500'000}};
  setitimer(ITIMER_REAL, &timer, nullptr);
}

void log_start(const Config& config, const Tls& tls, const Stderr_Log& log) {
  log(Log_Level::info, "primgr " PRIMGR_VERSION " answers for node \"" + config.node.node_name +
                           "\" on " + print_address(config.listen) +
                           (tls.enabled() ? " (TLS)" : ""));
}

// run_daemon(), after it has blocked `signals` in every thread. Throws std::system_error and
// std::bad_alloc.
int run(const Http_Library& http, const Config& config, const std::function<Config()>& read_again,
        Tls& tls, Stderr_Log& log, const sigset_t& signals) {
  raise_descriptor_limit();
  const Descriptor signal_fd(signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signal_fd) throw std::system_error(errno, std::generic_category(), "signalfd");
  const Logger logger = [&log](Log_Level level, const std::string& message) {
    log(level, message);
  };
  Kept kept(logger);
  if (const int status = kept.open(config)) return status;
  Change_Hook hook(config.node.node_name, print_conninfo(config.node.conninfo, true), logger);
  hook.configure(config.on_change, config.on_change_timeout);
  Node_Environment known = kept.environment();
  known.on_change = [&hook, store = std::move(known.on_change)](const History& history) {
    if (store) store(history);
    hook.tell(history.back());
  };
  Connected_Node connected(http, config, tls, log, std::move(known));
  Service server(http, config, connected.node, tls, log, connected.http_get());
  if (!server.bind(config.listen)) {
    log(Log_Level::error,
        "cannot listen on " + print_address(config.listen) + ": " + describe_bind_error(errno));
    return exit_unavailable;
  }
  log_start(config, tls, log);
  connected.node.set_drain(kept.drain());
  tls.warn_of_expiry();
  Daemon_Threads threads(server, connected.node);
  threads.start();
  notify_systemd("READY=1");

  Reload reload(config, read_again, logger);
  reload.add([&log](const Config& read) { log.set_level(read.log_level); });
  reload.add([&connected](const Config& read) { connected.client->use_addresses(read.peers); });
  reload.add(
      [&hook](const Config& read) { hook.configure(read.on_change, read.on_change_timeout); });
  Main_Loop loop(config, tls, connected.node, kept, log);
  int signal = 0;
  while (signal != SIGTERM && signal != SIGINT) {
    try {
      signal = loop.wait_for_signal(signal_fd.get());
      reload.run(signal == SIGHUP);
      if (signal == SIGHUP) loop.run(true);
      if (signal == SIGUSR1) connected.node.look_now();
    } catch (const std::bad_alloc&) {
      // A line of the log is lost. A signal that was not read yet is read in the next round.
    } catch (const std::system_error&) {
      // No thread for on_change. An unfinished reload is tried again.
    }
  }
  limit_shutdown_time();
  notify_systemd("STOPPING=1");
  server.stop();
  hook.end();
  try {
    log(Log_Level::info,
        std::string("primgr ends on ") + (signal == SIGINT ? "SIGINT" : "SIGTERM"));
  } catch (const std::bad_alloc&) {
    // The process ends without this line.
  }
  threads.stop();
  kept.end(connected.node.get_history());
  return 0;
}

}  // namespace

int run_daemon(const Http_Library& http, const Config& config,
               const std::function<Config()>& read_again, Tls& tls, Stderr_Log& log) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGUSR1, SIG_DFL);
  signal(SIGHUP, SIG_DFL);
  try {
    return run(http, config, read_again, tls, log, signals);
  } catch (const std::exception& error) {  // std::system_error for threads, or std::bad_alloc
    log(Log_Level::error, std::string("cannot run: ") + error.what() +
                              " (raise LimitNPROC, LimitNOFILE or the limits of memory)");
    return exit_unavailable;
  }
}

}  // namespace primgr
