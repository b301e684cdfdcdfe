#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>

#include "base/file.hpp"
#include "daemon/config/config.hpp"
#include "tests/http_client.hpp"
#include "tests/raw_server.hpp"
#include "tests/support.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("limits");

namespace {

// The program under test as a process of its own, with limits that the test sets, on a free port of
// 127.0.0.1. Its database is nowhere.
class Daemon {
 public:
  // `limit` is run in the child, between fork() and exec: system calls only.
  explicit Daemon(const std::function<void()>& limit, const std::string& host = "127.0.0.1") {
    port_ = Raw_Server(nullptr, INADDR_ANY).port();  // free on all addresses
    folder_ =
        std::filesystem::temp_directory_path() / ("primgr-limits-" + std::to_string(getpid()));
    std::filesystem::create_directory(folder_);
    const std::string config = folder_ / "conf", log = folder_ / "log",
                      listen = host + ":" + std::to_string(port_);
    std::ofstream(config) << "conninfo = 'host=127.0.0.1 port=1 dbname=x'\nnode_name = n1\n";
    const int binary = ::open(program_path().c_str(), O_PATH | O_CLOEXEC);
    REQUIRE(binary >= 0);
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    const char* argv[] = {"primgr",   "--config",     config.c_str(),
                          "--listen", listen.c_str(), nullptr};
    char* environment[] = {nullptr};
    pid_ = fork();
    if (pid_ == 0) {
      dup2(out, STDERR_FILENO);
      limit();
      fexecve(binary, const_cast<char**>(argv), environment);
      _exit(127);
    }
    for (const int fd : {binary, out}) ::close(fd);
    INFO(this->log());
    const bool up =
        eventually(20, [&] { return ended() || !check_from("127.0.0.9", port_).empty(); });
    CHECK(up);
    CHECK_FALSE(ended());
  }
  ~Daemon() {
    if (!ended()) kill(pid_, SIGKILL);
    if (!ended()) waitpid(pid_, nullptr, 0);
    std::filesystem::remove_all(folder_);
  }
  int port() const { return port_; }
  std::string log() const { return read_file(folder_ / "log"); }
  bool ended() {
    if (!status_) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
    }
    return status_.has_value();
  }
  // Ends it as an operator does; its wait status, -1 if it goes on.
  int end() {
    kill(pid_, SIGTERM);
    return eventually(20, [&] { return ended(); }) ? *status_ : -1;
  }

 private:
  int port_ = 0;
  pid_t pid_ = -1;
  std::optional<int> status_;
  std::filesystem::path folder_;
};

// Whether the test is skipped; says why.
bool has_no_program(const char* test) {
  if (!is_shipped()) {
    skipped.push_back(std::string(test) + ": a sanitizer needs what is limited");
    return true;
  }
  if (access(program_path().c_str(), X_OK) == 0) return false;
  skipped.push_back(std::string(test) + ": there is no ./primgr: make");
  return true;
}

void limit_to(decltype(RLIMIT_AS) what, rlim_t value) {
  const rlimit limit{value, value};
  setrlimit(what, &limit);
}

}  // namespace

TEST_CASE("out of memory: primgr keeps answering, and SIGTERM ends it with status 0") {
  if (has_no_program("out of memory")) return;
  for (const rlim_t limit : {60'000, 80'000, 100'000, 120'000, 150'000, 200'000}) {
    CAPTURE(limit);
    Daemon daemon([&] { limit_to(RLIMIT_AS, limit * 1024); });
    const std::string request =
        "GET /node HTTP/1.1\r\nCookie: " + std::string(3000, 'x') + "\r\n\r\n";
    std::vector<int> fds;
    for (int i = 0; i < 3 * 320 && !daemon.ended(); ++i) {
      const auto from = "127.0." + std::to_string(1 + i % 40) + ".1";
      const int fd = try_connect(from.c_str(), daemon.port());
      if (fd < 0) continue;
      ::send(fd, request.data(), request.size() - i % 2, MSG_NOSIGNAL);
      fds.push_back(fd);
    }
    INFO(daemon.log());
    CHECK_FALSE(daemon.ended());
    CHECK(eventually(
        20, [&] { return check_from("127.0.0.9", daemon.port()).starts_with("HTTP/1.1 503 "); }));
    CHECK(daemon.end() == 0);
    for (const int fd : fds) ::close(fd);
  }
}

namespace {

// Checks from another address than that of a flood, all to be answered.
void check_under_flood(Daemon& daemon) {
  for (const char* request : {"GET /sta", "GET /state HTTP/1.1\r\nConnection: close\r\n\r\n"}) {
    CAPTURE(request);
    const bool whole = std::string_view(request).ends_with("\r\n\r\n");
    Load_Generator load("127.0.0.2", daemon.port(), request, 8, whole ? 0 : 20);
    int answered = 0;
    for (int i = 0; i < 100; ++i) {
      answered += check_from("127.0.0.3", daemon.port()).starts_with("HTTP/1.1 503 ");
    }
    INFO(daemon.log());
    CHECK(answered == 100);
  }
  CHECK(daemon.end() == 0);
}

}  // namespace

TEST_CASE("with few file descriptors, checks are answered under a flood from another address") {
  if (has_no_program("few file descriptors")) return;
  for (const rlim_t limit : {16, 24}) {
    CAPTURE(limit);
    Daemon daemon([&] { limit_to(RLIMIT_NOFILE, limit); });
    CHECK(daemon.log().find("(raise LimitNOFILE)") != std::string::npos);
    check_under_flood(daemon);
  }
}

TEST_CASE("with few threads, checks are answered under a flood from another address") {
  if (has_no_program("few threads")) return;
  if (geteuid() != 0) {
    skipped.push_back("few threads: a user without other processes is needed, and so root");
    return;
  }
  Daemon daemon([] {
    limit_to(RLIMIT_NPROC, 12);
    [[maybe_unused]] const int set = setgid(54'321) + setuid(54'321);
  });
  check_under_flood(daemon);
}

namespace {

// From here on, the kernel has no IPv6 for this process.
void forbid_ipv6() {
  constexpr unsigned low_half = std::endian::native == std::endian::little ? 0 : 4;
  sock_filter steps[] = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
                         {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, SYS_socket},
                         {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, args) + low_half},
                         {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, AF_INET6},
                         {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EAFNOSUPPORT},
                         {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
  const sock_fprog program{std::size(steps), steps};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

// The status of the answer to a check, of IPv6 too; 000: there is none.
std::string status_at(const std::string& host, int port) {
  return shell("curl -s -o /dev/null -w '%{http_code}' 'http://" + host + ":" +
               std::to_string(port) + "/state'")
      .output;
}

}  // namespace

TEST_CASE("by default it serves IPv6 and IPv4, and IPv4 alone where there is no IPv6") {
  if (access(program_path().c_str(), X_OK) != 0) {
    skipped.push_back("IPv6: there is no ./primgr: make");
    return;
  }
  if (status_at("127.0.0.1", 1) != "000") {
    skipped.push_back("IPv6: there is no curl");
    return;
  }
  const std::string by_default = Config().listen.host;
  Daemon both([] {}, by_default);
  CHECK(status_at("127.0.0.1", both.port()) == "503");
  if (shell("ip -6 address show lo").output.empty()) {
    skipped.push_back("IPv6: this machine has none");
  } else {
    CHECK(status_at("[::1]", both.port()) == "503");
  }
  CHECK(both.end() == 0);
  Daemon one(forbid_ipv6, by_default);
  CHECK(status_at("127.0.0.1", one.port()) == "503");
  CHECK(one.log().find("info: this host has no IPv6, so it is served over IPv4 alone") !=
        std::string::npos);
  CHECK(one.end() == 0);
  Daemon asked([] {}, "0.0.0.0");
  CHECK(status_at("127.0.0.1", asked.port()) == "503");
  CHECK(status_at("[::1]", asked.port()) == "000");
}

TEST_SUITE_END();
