#include "daemon/state/state_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "base/descriptor.hpp"
#include "base/error.hpp"
#include "base/file.hpp"
#include "base/time.hpp"

namespace primgr {

using namespace std::chrono_literals;

namespace {

// The contents of a file that need not exist. `why`: why it cannot be read, else empty.
std::optional<std::string> read_if_there(const std::string& path, std::string& why) {
  why.clear();
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) return std::nullopt;
  try {
    return read_file(path);
  } catch (const Input_Error& error) {
    why = error.what();
    return std::nullopt;
  }
}

std::optional<std::chrono::system_clock::time_point> file_time(const std::string& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return std::nullopt;
  return std::chrono::system_clock::time_point(std::chrono::seconds(status.st_mtim.tv_sec) +
                                               std::chrono::nanoseconds(status.st_mtim.tv_nsec));
}

// Records why a file that a command wrote cannot be used. Empty: it can be used, or there is no
// file.
void note_refusal(std::map<std::string, std::string>& refused, const std::string& name,
                  std::string why) {
  if (why.empty()) {
    refused.erase(name);
  } else {
    refused[name] = std::move(why);
  }
}

}  // namespace

State_Directory::State_Directory(const std::string& path, std::vector<std::string> notes,
                                 Logger log)
    : log_(std::move(log)) {
  shared_.path = path + "/";
  shared_.notes = std::move(notes);
  worker_.start(work);
}

void State_Directory::check(const std::string& path) {
  struct stat status {};
  const bool found = stat(path.c_str(), &status) == 0;
  if (found && !S_ISDIR(status.st_mode))
    throw Input_Error("state_directory: " + path + " is not a folder");
  if (found && access(path.c_str(), W_OK | X_OK) == 0) return;
  throw Input_Error("state_directory: " + path + ": " + std::strerror(errno) +
                    ": make the folder, and give it to primgr's user");
}

std::string State_Directory::lock(std::chrono::milliseconds timeout, bool& in_use) {
  const Mutex_Lock lock(shared_.mutex);
  shared_.to_lock = true;
  shared_.changed.notify_all();
  const Deadline until = std::chrono::steady_clock::now() + timeout;
  while (shared_.to_lock && shared_.changed.wait_until(shared_.mutex, until)) {
  }
  if (shared_.to_lock) return shared_.path + " does not answer";
  in_use = shared_.in_use;
  return shared_.why;
}

std::string State_Directory::lock_folder(Shared& shared, bool& in_use) {
  shared.folder.reset(open(shared.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!shared.folder) return "cannot open " + shared.path + ": " + std::strerror(errno);
  // The previous process may need a moment to end and to unlock the folder.
  const int error = lock_file(shared.folder, 1s);
  if (error == 0) return {};
  in_use = error == EWOULDBLOCK;
  return in_use ? shared.path + " is in use by another process: each daemon needs its own"
                : "cannot lock " + shared.path + ": " + std::strerror(error);
}

std::optional<std::chrono::system_clock::time_point> State_Directory::last_alive() const {
  const Mutex_Lock lock(shared_.mutex);
  return shared_.last_alive;
}

// Without fsync(2), which would load the disk too much for this purpose.
void State_Directory::stay_alive(const std::string& path) {
  const Descriptor fd(
      open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  if (fd) futimens(fd.get(), nullptr);
}

std::optional<std::string> State_Directory::load(const std::string& name,
                                                 std::chrono::milliseconds timeout,
                                                 std::string* why) {
  const Mutex_Lock lock(shared_.mutex);
  shared_.to_read = name;
  shared_.changed.notify_all();
  const Deadline until = std::chrono::steady_clock::now() + timeout;
  while (!shared_.to_read.empty() && shared_.changed.wait_until(shared_.mutex, until)) {
  }
  if (!shared_.to_read.empty()) {
    log_(Log_Level::warning, "state_directory: " + shared_.path + name + " does not answer");
    return std::nullopt;
  }
  if (!shared_.why.empty()) log_(Log_Level::warning, "state_directory: " + shared_.why);
  if (why) *why = shared_.why;
  return std::exchange(shared_.read, std::nullopt);
}

void State_Directory::set_aside(const std::string& name, const std::string& as) {
  const Mutex_Lock lock(shared_.mutex);
  shared_.aside[name] = as;
  shared_.changed.notify_all();
}

void State_Directory::save(const std::string& name, std::string contents) {
  const Mutex_Lock lock(shared_.mutex);
  shared_.waiting[name] = std::move(contents);
  shared_.changed.notify_all();
}

bool State_Directory::store(const std::string& name, std::string contents, Deadline until) {
  const Mutex_Lock lock(shared_.mutex);
  const auto is_written = [&]() REQUIRES(shared_.mutex) {
    const auto found = shared_.written.find(name);
    return !shared_.waiting.contains(name) && found != shared_.written.end() &&
           found->second == contents;
  };
  if (is_written()) return true;
  shared_.waiting[name] = contents;
  shared_.changed.notify_all();
  // After a failure the thread tries again each second. Callers do not wait for that.
  if (!shared_.problem.empty()) return false;
  while (shared_.problem.empty() && shared_.waiting.contains(name) &&
         shared_.changed.wait_until(shared_.mutex, until)) {
  }
  return is_written();
}

void State_Directory::watch(const std::string& name, std::chrono::milliseconds timeout) {
  const Mutex_Lock lock(shared_.mutex);
  shared_.to_watch = name;
  shared_.changed.notify_all();
  const Deadline until = std::chrono::steady_clock::now() + timeout;
  while (!shared_.watched_once && shared_.changed.wait_until(shared_.mutex, until)) {
  }
  log_problem();
}

std::optional<std::string> State_Directory::watched() const {
  const Mutex_Lock lock(shared_.mutex);
  return shared_.watched;
}

std::optional<std::string> State_Directory::take_note(const std::string& name) {
  const Mutex_Lock lock(shared_.mutex);
  log_problem();
  auto note = shared_.noted.extract(name);
  return note ? std::optional(std::move(note.mapped())) : std::nullopt;
}

void State_Directory::log_problem() {
  for (const auto& [name, why] : shared_.refused) {
    if (logged_refused_[name] == why) continue;
    log_(Log_Level::warning, "state_directory: " + why + ": " + name + " is not heeded");
  }
  logged_refused_ = shared_.refused;
  if (std::exchange(logged_problem_, shared_.problem) == shared_.problem) return;
  if (shared_.problem.empty()) {
    log_(Log_Level::info, "state_directory is written again");
  } else {
    log_(Log_Level::error, "state_directory: " + shared_.problem +
                               ": after a restart this node does not know what is to be there");
  }
}

std::string State_Directory::write(const std::string& path, const std::string& contents,
                                   unsigned mode) {
  const std::string fresh = path + ".new";
  const auto failed = [&](const std::string& file) {
    std::string why = "cannot write " + file + ": " + std::strerror(errno);
    unlink(fresh.c_str());
    return why;
  };
  // Removes a file that a killed process has left. O_EXCL follows no link that is in its place.
  unlink(fresh.c_str());
  const Descriptor fd(open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd || fchmod(fd.get(), mode) != 0) return failed(fresh);
  for (std::size_t written = 0; written < contents.size();) {
    const ssize_t n = ::write(fd.get(), contents.data() + written, contents.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed(fresh);
    written += static_cast<std::size_t>(n);
  }
  if (fsync(fd.get()) != 0 || rename(fresh.c_str(), path.c_str()) != 0) return failed(path);
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  const Descriptor in(
      open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!in || fsync(in.get()) != 0) {
    return "cannot write " + folder + ": " + std::strerror(errno);
  }
  return {};
}

void State_Directory::work(Shared& shared) {
  const Mutex_Lock lock(shared.mutex);
  auto alive_due = std::chrono::steady_clock::now() + 1s;
  while (!shared.ending || !shared.aside.empty() ||
         (!shared.waiting.empty() && shared.problem.empty())) {
    try {
      work_once(shared);
    } catch (const std::bad_alloc&) {
      // The work is tried again.
    }
    if (shared.folder && std::chrono::steady_clock::now() >= alive_due) {
      alive_due = std::chrono::steady_clock::now() + 1min;
      const Mutex_Unlock unlock(shared.mutex);
      stay_alive(shared.path + alive_file);
    }
    const Deadline until = std::chrono::steady_clock::now() + 1s;
    while (!has_work(shared) && shared.changed.wait_until(shared.mutex, until)) {
    }
  }
  shared.folder.reset();
}

// A file that could not be written is tried again after a second, so it is not work now.
bool State_Directory::has_work(const Shared& shared) {
  return shared.ending || shared.to_lock || !shared.to_read.empty() || !shared.aside.empty() ||
         (!shared.waiting.empty() && shared.problem.empty()) ||
         (!shared.to_watch.empty() && !shared.watched_once);
}

// If the file exists but cannot be read, the contents that were read before stay.
void State_Directory::read_watched(Shared& shared) {
  if (shared.to_watch.empty()) return;
  const std::string path = shared.path + shared.to_watch;
  std::string why;
  std::optional<std::string> contents;
  {
    const Mutex_Unlock unlock(shared.mutex);
    contents = read_if_there(path, why);
  }
  if (why.empty()) shared.watched = std::move(contents);
  note_refusal(shared.refused, shared.to_watch, std::move(why));
  shared.watched_once = true;
  shared.changed.notify_all();
}

// Locks the folder, reads and renames the requested files, writes the waiting files, and looks for
// notes.
void State_Directory::work_once(Shared& shared) {
  if (shared.to_lock) {
    bool in_use = false;
    std::string why;
    std::optional<std::chrono::system_clock::time_point> alive;
    {
      const Mutex_Unlock unlock(shared.mutex);
      why = lock_folder(shared, in_use);
      if (why.empty()) alive = file_time(shared.path + alive_file);
    }
    shared.in_use = in_use;
    shared.last_alive = alive;
    shared.why = std::move(why);
    shared.to_lock = false;
    shared.changed.notify_all();
  }
  if (!shared.to_read.empty()) {
    const std::string path = shared.path + shared.to_read;
    std::string why;
    std::optional<std::string> contents;
    {
      const Mutex_Unlock unlock(shared.mutex);
      contents = read_if_there(path, why);
    }
    shared.read = std::move(contents);
    shared.why = std::move(why);
    shared.to_read.clear();
    shared.changed.notify_all();
  }
  while (!shared.aside.empty()) {
    const auto renamed = shared.aside.extract(shared.aside.begin());
    const Mutex_Unlock unlock(shared.mutex);
    rename((shared.path + renamed.key()).c_str(), (shared.path + renamed.mapped()).c_str());
  }
  while (!shared.waiting.empty()) {
    const auto [name, contents] = *shared.waiting.begin();
    std::string problem;
    {
      const Mutex_Unlock unlock(shared.mutex);
      problem = write(shared.path + name, contents, 0600);
    }
    shared.problem = std::move(problem);
    if (!shared.problem.empty()) break;
    shared.written[name] = contents;
    // The name stays in `waiting` if save() or store() has set newer contents meanwhile.
    if (shared.waiting[name] == contents) shared.waiting.erase(name);
    shared.changed.notify_all();
  }
  shared.changed.notify_all();
  read_watched(shared);
  take_notes(shared);
}

// A note that cannot be removed is not used: it would be used again each second.
void State_Directory::take_notes(Shared& shared) {
  for (const std::string& name : shared.notes) {
    const std::string path = shared.path + name;
    std::string why;
    std::optional<std::string> note;
    {
      const Mutex_Unlock unlock(shared.mutex);
      note = read_if_there(path, why);
      if (note && unlink(path.c_str()) != 0) {
        why = "cannot remove " + path + ": " + std::strerror(errno);
      }
    }
    if (note && why.empty()) shared.noted[name] = std::move(*note);
    note_refusal(shared.refused, name, std::move(why));
  }
}

}  // namespace primgr
