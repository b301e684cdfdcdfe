#include "daemon/hook/change_hook.hpp"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <new>
#include <utility>

#include "base/error.hpp"
#include "base/json.hpp"
#include "base/text.hpp"
#include "base/time.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

std::atomic<std::uint64_t> runs = 0, failures = 0;

constexpr std::size_t usual_name = 64;  // NAMEDATALEN

// Whether the error may be gone a moment later.
bool is_scarcity(int error) {
  return error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE;
}

std::string why_not_started(int error) {
  std::string why = std::string("cannot be started: ") + strerror(error);
  if (is_scarcity(error)) return why + ": it is tried again each second";
  if (error == ENOEXEC) return why + ": a script begins with a line such as #!/bin/sh";
  if (error == ENOENT) return why + ": is it there, and the interpreter that its first line names?";
  return why + ": set on_change to a program that primgr's user may run";
}

// The text of the log about a run that failed.
std::string describe_failure(const Program_End& end, Time timeout) {
  const std::string above = ": what it printed is above";
  if (end.error) return why_not_started(end.error);
  if (end.stopped) return "was ended, since primgr ends";
  if (end.late) {
    return "was ended, since it took longer than on_change_timeout (" + print_duration(timeout) +
           ")" + above;
  }
  if (end.signal) return std::string("was ended by signal ") + strsignal(end.signal) + above;
  return "has failed with exit status " + std::to_string(end.status) + above;
}

}  // namespace

// A run that is about to start.
struct Change_Hook::Run {
  explicit Run(const Shared& shared) REQUIRES(shared.mutex) : told(shared.latest) {
    const std::string old = shared.told.state ? to_string(*shared.told.state) : "none";
    const std::string now = to_string(*told.state), reason = printable(one_line(told.reason));
    const std::string node = printable(shared.node), primary = printable(told.primary);
    program.path = shared.path;
    program.timeout = shared.timeout;
    program.arguments = {old, now, node, primary, reason};
    program.environment = {"PRIMGR_OLD=" + old,       "PRIMGR_NEW=" + now,
                           "PRIMGR_NODE=" + node,     "PRIMGR_PRIMARY=" + primary,
                           "PRIMGR_REASON=" + reason, "PRIMGR_CONNINFO=" + shared.conninfo};
    name = "on_change: " + program.path + " (" + old + ", " + now + ")";
  }

  Told told;
  Program program;
  std::string name;  // for the log
};

Change_Hook::Change_Hook(const std::string& node, const std::string& conninfo, Logger log) {
  shared_.node = node;
  shared_.conninfo = conninfo;
  const Mutex_Lock lock(shared_.mutex);
  shared_.log = std::move(log);
  shared_.latest.primary.reserve(usual_name);
  shared_.latest.reason.reserve(max_reason);
}

void Change_Hook::configure(const std::string& path, Time timeout) {
  const Mutex_Lock lock(shared_.mutex);
  shared_.timeout = timeout;
  if (shared_.path == path) return;
  if (!path.empty() && !shared_.started) {
    worker_.start(work);
    shared_.started = true;
  }
  shared_.path = path;
  shared_.told = {};
  shared_.waiting = shared_.latest.state.has_value();
  shared_.to_check = true;
  shared_.changed.notify_all();
}

void Change_Hook::tell(const State_Change& change) {
  if (!change.to) return;
  const Mutex_Lock lock(shared_.mutex);
  // Texts of the usual length fit into the reserved memory. So a change is passed on even when
  // there is no free memory.
  shared_.latest.primary.assign(change.primary);
  shared_.latest.reason.assign(change.reason);
  shared_.latest.state = change.to;
  shared_.waiting = true;
  shared_.changed.notify_all();
}

void Change_Hook::end() {
  shared_.stop.wake();
  worker_.end();
  const Mutex_Lock lock(shared_.mutex);
  shared_.log = nullptr;
}

Change_Hook::Counts Change_Hook::counts() {
  return {runs, failures};
}

std::string Change_Hook::problem(const std::string& path) {
  if (path.empty()) return {};
  struct stat file {};
  int error = 0;
  if (stat(path.c_str(), &file) != 0) error = errno;
  if (!error && !S_ISREG(file.st_mode)) return "on_change: " + path + " is not a regular file";
  if (!error && access(path.c_str(), X_OK) != 0) error = errno;
  if (!error) return {};
  return "on_change: " + path + ": " + strerror(error) +
         ": set it to a program that primgr's user may run";
}

void Change_Hook::check(const std::string& path) {
  if (const std::string why = problem(path); !why.empty()) throw Input_Error(why);
}

void Change_Hook::work(Shared& shared) {
  bool complained = false;  // whether a lack of memory or processes was logged
  const Mutex_Lock lock(shared.mutex);
  while (!shared.ending) {
    if (!shared.to_check && (!shared.waiting || shared.path.empty())) {
      shared.changed.wait(shared.mutex);
      continue;
    }
    try {
      if (std::exchange(shared.to_check, false)) {
        check_path(shared);
        continue;
      }
      if (run_next(shared, complained)) continue;
    } catch (const std::bad_alloc&) {
      // The change still waits, and is tried again.
    }
    const Deadline until = std::chrono::steady_clock::now() + 1s;
    while (!shared.ending && shared.changed.wait_until(shared.mutex, until)) {
    }
  }
}

void Change_Hook::check_path(Shared& shared) {
  const std::string path = shared.path;
  std::string why;
  {
    const Mutex_Unlock unlock(shared.mutex);
    why = problem(path);
  }
  if (!why.empty() && shared.log) shared.log(Log_Level::error, why);
}

bool Change_Hook::run_next(Shared& shared, bool& complained) {
  if (shared.told.state == shared.latest.state && shared.told.primary == shared.latest.primary) {
    shared.waiting = false;
    return true;
  }
  Run run(shared);
  shared.waiting = false;
  Program_End end;
  {
    const Mutex_Unlock unlock(shared.mutex);
    try {
      end = run_program(run.program, shared.stop, [&](const std::string& line) {
        const Mutex_Lock logging(shared.mutex);
        if (shared.log) shared.log(Log_Level::info, "on_change: " + line);
      });
    } catch (const std::bad_alloc&) {
      end.error = ENOMEM;
    }
  }
  const bool again = is_scarcity(end.error);
  if (again) {
    shared.waiting = true;
    if (std::exchange(complained, true)) return false;
  } else {
    complained = false;
    ++runs;
    if (!end.succeeded()) ++failures;
    if (shared.path == run.program.path) shared.told = std::move(run.told);
  }
  log_end(shared, run, end);
  return !again;
}

void Change_Hook::log_end(const Shared& shared, const Run& run, const Program_End& end) {
  if (!shared.log) return;
  if (end.left_out) {
    shared.log(Log_Level::warning, "on_change: " + std::to_string(end.left_out) +
                                       " more bytes of what it printed are left out");
  }
  if (end.succeeded()) {
    shared.log(Log_Level::info,
               run.name + " has ended after " + print_milliseconds(end.took) + " ms");
  } else {
    shared.log(Log_Level::error, run.name + " " + describe_failure(end, run.program.timeout));
  }
}

}  // namespace primgr
