#include "tests/lab.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "base/file.hpp"
#include "tests/http_client.hpp"

bool lab_possible(const char* test) {
  if (geteuid() == 0) return true;
  skipped.push_back(std::string(test) + ": network namespaces need root");
  return false;
}

In_Namespace::In_Namespace(const std::string& name)
    : home_(::open("/proc/thread-self/ns/net", O_RDONLY)) {
  const int there = ::open(("/run/netns/" + name).c_str(), O_RDONLY);
  if (there < 0 || setns(there, CLONE_NEWNET) != 0)
    throw std::runtime_error("no namespace " + name);
  ::close(there);
}

In_Namespace::~In_Namespace() {
  setns(home_, CLONE_NEWNET);
  ::close(home_);
}

namespace {

std::string lab_name() {
  return "check-" + std::to_string(getpid());
}

// Has the lab of this process brought down when the process has ended, however it ended: a process
// of its own session waits for the end of a pipe that only this one holds open.
void start_janitor() {
  static const bool started = [] {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const std::string script =
        "trap '' INT TERM HUP; cat >/dev/null; " + lab_variables() + " exec lab/lab down";
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      ::setsid();
      ::dup2(ends[0], STDIN_FILENO);
      ::execl("/bin/sh", "sh", "-c", script.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(ends[0]);
    return true;
  }();
  static_cast<void>(started);
}

}  // namespace

std::string lab_variables() {
  static const std::string folder = [] {
    constexpr unsigned long plenty = 4UL << 30;
    struct statvfs memory = {};
    const bool fits =
        statvfs("/dev/shm", &memory) == 0 && memory.f_bavail * memory.f_frsize > plenty;
    return (fits ? "/dev/shm/lab-" : "/tmp/primgr-lab-") + lab_name();
  }();
  return "LAB=" + lab_name() + " LAB_DIR=" + folder;
}

Lab::Lab(const std::string& options) {
  start_janitor();
  const Ran up = attempt("up " + options);
  INFO(up.output);
  REQUIRE(up.status == 0);
  hub_ = run("env | sed -n 's/^HUB_NS=//p'");
}

Ran Lab::attempt(const std::string& verb) const {
  return call(verb, "2>&1");
}

Ran Lab::call(const std::string& verb, const std::string& redirection) const {
  const auto start = Steady::now();
  Ran ran =
      shell("export " + lab_variables() + "; { lab/lab " + verb + "; } </dev/null " + redirection);
  if (seconds_since(start) > 5) MESSAGE("lab/lab ", verb, " took ", seconds_since(start), " s");
  return ran;
}

std::string Lab::run(const std::string& verb) const {
  // What a program complains of is not part of its answer.
  static std::atomic<int> calls = 0;
  const std::string errors = "/tmp/primgr-" + lab_name() + "-" + std::to_string(++calls);
  const Ran ran = call(verb, "2>" + errors);
  const std::string complaints = primgr::read_file(errors);
  ::unlink(errors.c_str());
  INFO("lab/lab " << verb << "\n" << ran.output << "\n" << complaints);
  REQUIRE(ran.status == 0);
  return ran.output;
}

std::string Lab::sql(const std::string& node, const std::string& statement) const {
  return run("psql " + node + " -qAtc " + quoted(statement));
}

std::string Lab::conf(const std::string& node, const std::string& key) const {
  return run("conf " + node + " | sed -n 's/^" + key + "=//p'");
}

Answer Lab::ask(const std::string& node, const std::string& path) const {
  return ask_at(address(node), path);
}

Answer Lab::ask_at(const std::string& address, const std::string& path) const {
  const In_Namespace there(hub_);
  Client client(address, 5999);
  const Response response = client.send("GET", path, "Connection: close\r\n");
  return {response.status, response.body};
}

bool Lab::answers(const std::string& node, int status, const std::string& path,
                  double seconds) const {
  const std::string at = address(node);
  Answer last;
  const bool came = eventually(seconds, [&] { return (last = ask_at(at, path)).status == status; });
  if (!came) MESSAGE(node, " ", path, ": ", last.status, " ", last.body, ", not ", status);
  return came;
}

double Lab::metric(const std::string& node, const std::string& name) const {
  const std::string body = ask(node, "/metrics").body, line = "\n" + name + " ";
  const auto at = body.find(line);
  return at == body.npos ? -1 : std::stod(body.substr(at + line.size()));
}

std::string Lab::address(const std::string& node) const {
  if (const auto known = addresses_.find(node); known != addresses_.end()) return known->second;
  return addresses_[node] = conf(node, "address");
}

std::string Lab::server(const std::string& port) const {
  const Ran ran = attempt(port + " 'SELECT inet_server_addr()' | tail -n 1");
  for (const std::string& node : nodes()) {
    if (ran.output.find(address(node)) != std::string::npos) return node;
  }
  return {};
}

std::vector<std::string> Lab::nodes() const {
  if (nodes_.empty()) {
    std::istringstream names(run("nodes"));
    for (std::string name; names >> name;) nodes_.push_back(name);
  }
  return nodes_;
}

Watcher::Watcher(const Lab& lab, const std::string& node)
    : address_(lab.address(node)), thread_([this, &lab] {
        while (!ending_) {
          const int status = lab.ask_at(address_, "/state").status;
          {
            const std::lock_guard lock(mutex_);
            if (changes_.empty() || changes_.back().second != status) {
              changes_.emplace_back(Steady::now(), status);
            }
          }
          std::this_thread::sleep_for(5ms);
        }
      }) {}
Watcher::~Watcher() {
  ending_ = true;
  thread_.join();
}

double Watcher::seen(int status, Steady::time_point start, double seconds) const {
  double after = -1;
  eventually(seconds, [&] {
    const std::lock_guard lock(mutex_);
    for (const auto& [when, what] : changes_) {
      if (what == status && when >= start) {
        after = std::chrono::duration<double>(when - start).count();
        return true;
      }
    }
    return false;
  });
  return after;
}

bool Watcher::ever(int status) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(changes_.begin(), changes_.end(),
                     [&](const auto& change) { return change.second == status; });
}

std::string Lab::log(const std::string& node) const {
  return primgr::read_file(conf(node, "primgr_log"));
}
