// The folder (state_directory) in which a daemon saves what it needs after a restart or a reboot.
// Commands leave notes for the daemon there.

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/descriptor.hpp"
#include "base/log_level.hpp"
#include "base/worker.hpp"
#include "node/rules/model.hpp"

namespace primgr {

// The modification time of this file shows when a daemon was last alive.
inline constexpr const char* alive_file = "alive";

// Small files. Each is replaced as a whole (a new file, fsync(2), rename(2)). A file system that
// hangs delays no caller longer than its time limit, because a separate thread uses the files. What
// the thread has not written when the process ends is lost.
//
// Thread-safe. The mutex is not held while a file is read or written. Log messages are written
// while the mutex is held, but never by the thread.
class State_Directory {
 public:
  // `notes`: the names of the files that commands write. Throws std::system_error if no thread can
  // be started.
  State_Directory(const std::string& path, std::vector<std::string> notes, Logger log);
  // The destructor waits until all is written, 100 ms at most.

  // Throws Input_Error if `path` is not a folder, or if this process may not write to it.
  static void check(const std::string& path);

  // Locks the folder with flock(2) until the thread ends. Returns empty on success, else the
  // reason. `in_use`: whether another process has locked it for longer than 1 s.
  std::string lock(std::chrono::milliseconds timeout, bool& in_use);
  // The contents of a file. None if there is no such file. A file that cannot be read, or not
  // within `timeout`, is logged as a warning, and there are no contents either. `why`, unless null,
  // is set to the reason why an existing file cannot be read. It is set to empty if the file was
  // read or does not exist. It is not changed if the folder does not answer.
  std::optional<std::string> load(const std::string& name, std::chrono::milliseconds timeout,
                                  std::string* why = nullptr);
  // When the previous daemon of this folder was last alive, to within a minute: once a minute the
  // thread sets the time of the file "alive". None: not known, or lock() failed.
  std::optional<std::chrono::system_clock::time_point> last_alive() const;
  // Renames a file before any file is written, so that this process does not overwrite it. Returns
  // at once: the thread does the work.
  void set_aside(const std::string& name, const std::string& as);
  // Writes a file. Returns at once: the thread does the work. If several contents of a file wait,
  // only the last is written. A failure is logged once, and the write is tried again each second.
  void save(const std::string& name, std::string contents);
  // The same, but waits until the file is written, `until` at most. Returns whether it is written:
  // then the file and its name in the folder have reached the disk. If not, it may be written
  // later.
  bool store(const std::string& name, std::string contents, Deadline until);
  // Starts to read a file that commands write and remove: now, and then each second. Call it once.
  // Blocks until the file has been read once, `timeout` at most. If the file is not a regular file
  // or cannot be read, the last contents stay, and a warning is logged once. The same is true of
  // take_note().
  void watch(const std::string& name, std::chrono::milliseconds timeout);
  // The contents of that file when it was last read. None: there is no such file. Does not block.
  std::optional<std::string> watched() const;
  // The contents of a note, once: the note is removed after it was read. None: there is no note, or
  // it cannot be read or removed. The thread looks for notes each second. Does not block.
  std::optional<std::string> take_note(const std::string& name);

  // Replaces a file as save() does, but in the caller's thread. Returns empty on success, else the
  // reason. `mode`: the permissions of the file.
  static std::string write(const std::string& path, const std::string& contents, unsigned mode);

 private:
  struct Shared : Worker_State {
    std::string path;
    std::vector<std::string> notes;
    Descriptor folder;  // locked; used by the thread only
    // Contents that wait to be written, and the last contents that this process wrote. By the name
    // of the file.
    std::map<std::string, std::string> waiting GUARDED_BY(mutex), written GUARDED_BY(mutex);
    // Files to rename: old name, new name.
    std::map<std::string, std::string> aside GUARDED_BY(mutex);
    // The request of lock(), and its result.
    bool to_lock GUARDED_BY(mutex) = false, in_use GUARDED_BY(mutex) = false;
    std::optional<std::chrono::system_clock::time_point> last_alive GUARDED_BY(mutex);
    std::string to_read GUARDED_BY(mutex);              // the request of load(); empty: none
    std::optional<std::string> read GUARDED_BY(mutex);  // its result
    std::string why GUARDED_BY(mutex);                  // why it could not be locked or read
    std::map<std::string, std::string> noted GUARDED_BY(mutex);  // notes, by the name of the file
    // Why files that commands wrote cannot be used, by the name of the file.
    std::map<std::string, std::string> refused GUARDED_BY(mutex);
    std::string to_watch GUARDED_BY(mutex);  // the file of watch(); empty: none
    std::optional<std::string> watched GUARDED_BY(mutex);
    bool watched_once GUARDED_BY(mutex) = false;
    // Why the last write failed. Empty: it succeeded.
    std::string problem GUARDED_BY(mutex);
  };
  static void work(Shared& shared);
  static std::string lock_folder(Shared& shared, bool& in_use);
  // These release the mutex while they use files.
  static void take_notes(Shared& shared) REQUIRES(shared.mutex);
  static void read_watched(Shared& shared) REQUIRES(shared.mutex);
  static void work_once(Shared& shared) REQUIRES(shared.mutex);
  static bool has_work(const Shared& shared) REQUIRES(shared.mutex);
  static void stay_alive(const std::string& path);
  void log_problem() REQUIRES(shared_.mutex);

  const Logger log_;
  Worker<Shared> worker_;
  Shared& shared_ = worker_.state();
  std::string logged_problem_ GUARDED_BY(shared_.mutex);
  std::map<std::string, std::string> logged_refused_ GUARDED_BY(shared_.mutex);
};

}  // namespace primgr
