#include "daemon/hook/program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <string_view>
#include <thread>
#include <utility>

#include "base/descriptor.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

using Steady_Time = std::chrono::steady_clock::time_point;

// Variables that systemd sets for this process only, so the program must not inherit them.
constexpr std::string_view not_inherited[] = {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC",
                                              "JOURNAL_STREAM"};

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

std::vector<std::string> environment_of(const Program& program) {
  std::vector<std::string> all = program.environment;
  const auto given = [&](std::string_view name) {
    return std::any_of(program.environment.begin(), program.environment.end(),
                       [&](const std::string& variable) { return name_of(variable) == name; });
  };
  for (char** variable = environ; variable && *variable; ++variable) {
    const std::string_view name = name_of(*variable);
    if (given(name) || std::count(std::begin(not_inherited), std::end(not_inherited), name)) {
      continue;
    }
    all.emplace_back(*variable);
  }
  return all;
}

// An array of pointers as execve(2) needs it. Valid as long as the strings are.
std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> all;
  for (std::string& text : strings) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

// The attributes and actions of posix_spawn(3).
class Spawn_Settings {
 public:
  explicit Spawn_Settings(int output) {
    posix_spawnattr_init(&attributes_);
    posix_spawn_file_actions_init(&actions_);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    const bool complete =
        posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0) == 0 &&
        posix_spawn_file_actions_adddup2(&actions_, output, 1) == 0 &&
        posix_spawn_file_actions_adddup2(&actions_, output, 2) == 0 &&
        posix_spawn_file_actions_addclosefrom_np(&actions_, 3) == 0;
    if (complete) return;
    destroy();
    throw std::bad_alloc();
  }
  ~Spawn_Settings() { destroy(); }
  Spawn_Settings(const Spawn_Settings&) = delete;
  Spawn_Settings& operator=(const Spawn_Settings&) = delete;

  const posix_spawnattr_t* attributes() const { return &attributes_; }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }

 private:
  void destroy() {
    posix_spawnattr_destroy(&attributes_);
    posix_spawn_file_actions_destroy(&actions_);
  }

  posix_spawnattr_t attributes_{};
  posix_spawn_file_actions_t actions_{};
};

// Splits the output of a program into lines, and limits their length and number.
class Lines {
 public:
  explicit Lines(const std::function<void(const std::string&)>& line) : line_(line) {
    part_.reserve(max_output_line + 3);
  }

  void add(std::string_view text) {
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      add_part(text.substr(0, end));
      if (end < text.size()) finish();
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }
  // Passes on the last part, which has no newline yet.
  void finish() {
    if (part_.empty()) return;
    if (cut_) part_ += "...";
    try {
      line_(part_);
    } catch (const std::bad_alloc&) {
      left_out_ += part_.size();
    }
    ++count_;
    cut_ = false;
    part_.clear();
  }
  bool full() const { return count_ == max_output_lines; }
  std::uint64_t left_out() const { return left_out_; }

 private:
  void add_part(std::string_view text) {
    const std::size_t room = full() ? 0 : max_output_line - part_.size();
    part_ += text.substr(0, room);
    if (text.size() <= room) return;
    cut_ = true;
    left_out_ += text.size() - room;
  }

  const std::function<void(const std::string&)>& line_;
  std::string part_;  // the beginning of the line that has no end yet
  bool cut_ = false;
  std::size_t count_ = 0;
  std::uint64_t left_out_ = 0;
};

// A program that was started. Only the destructor reaps it. Until then, no other process can get
// its pid, which is also the id of its group. So signals cannot reach another process.
class Running {
 public:
  Running(pid_t pid, Descriptor output, Lines& lines)
      : pid_(pid), output_(std::move(output)), lines_(lines) {
    // A kernel before 5.3, or a filter of system calls, may refuse this call.
    exit_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  }
  ~Running() {
    send(SIGKILL);
    siginfo_t info{};
    while (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) != 0 && errno == EINTR) {
    }
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  // Waits until something happens, or until `until`. `stop`: a descriptor that also ends the wait;
  // negative: none. Returns whether `stop` ended the wait.
  bool wait(Steady_Time until, int stop) {
    pollfd ready[] = {{output_.get(), POLLIN, 0}, {exit_.get(), POLLIN, 0}, {stop, POLLIN, 0}};
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    left = std::clamp<std::chrono::milliseconds>(left, 0ms, exit_ ? 1h : 20ms);
    if (poll(ready, 3, static_cast<int>(left.count())) <= 0) return false;
    if (ready[0].revents) read();
    return ready[2].revents != 0;
  }
  // Whether the program has ended. If so, sets how. It is not reaped yet.
  bool ended(Program_End& end) const {
    siginfo_t info{};
    if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
      return errno != EINTR;
    }
    if (info.si_pid == 0) return false;
    (info.si_code == CLD_EXITED ? end.status : end.signal) = info.si_status;
    return true;
  }
  // Sends a signal to the program's group. Also sends it to the program itself, which may have
  // joined another group.
  void send(int signal) const {
    kill(-pid_, signal);
    kill(pid_, signal);
  }
  // Reads the rest of the pipe. Other processes may still write to it, so the amount is limited.
  void drain() {
    for (int i = 0; i < 16 && output_ && read(); ++i) {
    }
  }

 private:
  // Returns whether there was any data.
  bool read() {
    const ssize_t n = ::read(output_.get(), buffer_.data(), buffer_.size());
    if (n > 0) {
      lines_.add({buffer_.data(), static_cast<std::size_t>(n)});
      // A program that writes too much is slowed down, so that it leaves processor time to other
      // processes.
      if (lines_.full()) std::this_thread::sleep_for(1ms);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
      output_.reset();
    }
    return n > 0;
  }

  const pid_t pid_;
  Descriptor output_, exit_;
  Lines& lines_;
  std::array<char, 64 * 1024> buffer_;  // the size of a pipe's buffer
};

// Waits until the program has ended. Ends it when its time is over or when `stop` is woken.
void watch(Running& running, Time timeout, const Wake_Up& stop, Program_End& end) {
  enum { free, terminated, killed } phase = free;
  Steady_Time until = std::chrono::steady_clock::now() + timeout;
  while (!running.ended(end)) {
    if (running.wait(until, end.stopped ? -1 : stop.fd())) {
      end.stopped = true;
      if (phase == free) running.send(SIGTERM);
      phase = std::max(phase, terminated);
      until = std::min(until, std::chrono::steady_clock::now() + kill_delay_at_stop);
    }
    if (std::chrono::steady_clock::now() < until || running.ended(end)) continue;
    if (phase == free) end.late = true;
    running.send(phase == free ? SIGTERM : SIGKILL);
    until = phase == free ? std::chrono::steady_clock::now() + kill_delay : Steady_Time::max();
    phase = phase == free ? terminated : killed;
  }
}

}  // namespace

Program_End run_program(const Program& program, const Wake_Up& stop,
                        const std::function<void(const std::string&)>& line) {
  Program_End end;
  // If SIGCHLD is ignored (inherited from the parent), the kernel reaps the program, and its pid
  // might be reused.
  ::signal(SIGCHLD, SIG_DFL);
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::string> arguments{program.path}, environment = environment_of(program);
  arguments.insert(arguments.end(), program.arguments.begin(), program.arguments.end());
  const auto argv = pointers(arguments), envp = pointers(environment);
  Lines lines(line);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    end.error = errno;
    return end;
  }
  Descriptor output(ends[0]), input(ends[1]);
  fcntl(output.get(), F_SETFL, O_NONBLOCK);
  pid_t pid = 0;
  const Spawn_Settings settings(input.get());
  end.error = posix_spawn(&pid, program.path.c_str(), settings.actions(), settings.attributes(),
                          argv.data(), envp.data());
  if (end.error) return end;
  input.reset();
  {
    Running running(pid, std::move(output), lines);
    watch(running, program.timeout, stop, end);
    running.send(SIGKILL);
    running.drain();
  }
  lines.finish();
  end.left_out = lines.left_out();
  end.took = std::chrono::steady_clock::now() - start;
  return end;
}

}  // namespace primgr
