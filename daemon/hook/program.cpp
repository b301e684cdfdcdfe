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

// What systemd sets for the process that it starts, which the program is not.
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

// As execve(2) wants them; valid as long as the strings are.
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

// Cuts what a program writes into lines, and bounds them.
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
  // Hands on what has no newline yet.
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
  std::string part_;  // of the line that has no end yet
  bool cut_ = false;
  std::size_t count_ = 0;
  std::uint64_t left_out_ = 0;
};

// A program that was started. It is reaped by the destructor only: until then its pid, which is
// that of its group too, is nobody else's, so signals reach no stranger.
class Running {
 public:
  Running(pid_t pid, Descriptor output, Lines& lines)
      : pid_(pid), output_(std::move(output)), lines_(lines) {
    // A kernel before 5.3, or a filter of system calls, may refuse it.
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

  // Waits until something happens, or `until`. `stop`: a descriptor that ends the wait, too;
  // negative: none. Returns whether `stop` did.
  bool wait(Steady_Time until, int stop) {
    pollfd ready[] = {{output_.get(), POLLIN, 0}, {exit_.get(), POLLIN, 0}, {stop, POLLIN, 0}};
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    left = std::clamp<std::chrono::milliseconds>(left, 0ms, exit_ ? 1h : 20ms);
    if (poll(ready, 3, static_cast<int>(left.count())) <= 0) return false;
    if (ready[0].revents) read();
    return ready[2].revents != 0;
  }
  // Whether it has ended, and then how. It is not reaped yet.
  bool ended(Program_End& end) const {
    siginfo_t info{};
    if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
      return errno != EINTR;
    }
    if (info.si_pid == 0) return false;
    (info.si_code == CLD_EXITED ? end.status : end.signal) = info.si_status;
    return true;
  }
  // To its group, and to itself if it has joined another.
  void send(int signal) const {
    kill(-pid_, signal);
    kill(pid_, signal);
  }
  // What is left in the pipe. Others may still write to it, so that is bounded.
  void drain() {
    for (int i = 0; i < 16 && output_ && read(); ++i) {
    }
  }

 private:
  // Whether there was anything.
  bool read() {
    const ssize_t n = ::read(output_.get(), buffer_.data(), buffer_.size());
    if (n > 0) {
      lines_.add({buffer_.data(), static_cast<std::size_t>(n)});
      // What floods is slowed down, so that it leaves the processor to others.
      if (lines_.full()) std::this_thread::sleep_for(1ms);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
      output_.reset();
    }
    return n > 0;
  }

  const pid_t pid_;
  Descriptor output_, exit_;
  Lines& lines_;
  std::array<char, 64 * 1024> buffer_;  // as much as a pipe holds
};

// Until it has ended, which it is made to do when its time is over.
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
  // If it was inherited as ignored, the kernel would reap the program, and its pid might be reused.
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
