// The folder in which a daemon keeps what it is to know after a restart or a reboot
// (state_directory), and in which commands leave a note for it.

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

// The file whose time says when a daemon was alive.
inline constexpr const char* alive_file = "alive";

// Small files, each written anew as a whole (a new file, fsync(2), rename(2)). A file system that
// hangs delays nobody: all of it is done in a thread of its own. What that has not written when the
// process ends is lost.
//
// Thread-safe. The mutex is not held while a file is read or written; the log is written under it,
// and not by the thread.
class State_Directory {
 public:
  // `notes`: the names of the files that commands leave. Throws std::system_error if no thread can
  // be started.
  State_Directory(const std::string& path, std::vector<std::string> notes, Logger log);
  // The destructor waits until all is written, 100 ms at most.

  // Throws Input_Error if `path` is not a folder, or this process may not write to it.
  static void check(const std::string& path);

  // Locks the folder with flock(2) until the thread ends. Empty on success, else the reason.
  // `in_use`: another process has had it locked for longer than 1 s.
  std::string lock(std::chrono::milliseconds timeout, bool& in_use);
  // The contents of a file; none if there is no such file. If it cannot be read, or not within
  // `timeout`, that is logged as a warning, and there is none either. `why`, unless null: why a
  // file that is there cannot be read; empty: it was read, there is none, or the folder does not
  // answer.
  std::optional<std::string> load(const std::string& name, std::chrono::milliseconds timeout,
                                  std::string* why = nullptr);
  // When the daemon that had the folder before was alive for the last time, within a minute: once a
  // minute the thread sets the time of the file "alive". None: not known, or lock() failed.
  std::optional<std::chrono::system_clock::time_point> last_alive() const;
  // Has a file renamed, before any is written: it is not this process's to overwrite. Returns at
  // once.
  void set_aside(const std::string& name, const std::string& as);
  // Has a file written. Returns at once. Of several that wait, only the last contents of each file
  // are written. What cannot be written is logged once, and tried again each second.
  void save(const std::string& name, std::string contents);
  // The same, but waits until it is written, `until` at most. Returns whether it is: then the file
  // and its name in the folder have reached the disk. If not, it may be written later.
  bool store(const std::string& name, std::string contents, Deadline until);
  // Has a file read, now and then each second, that commands write and remove. Call it once. Blocks
  // until it was read, `timeout` at most. What is not a regular file that can be read changes
  // nothing, here and in take_note(), and is logged as a warning, once.
  void watch(const std::string& name, std::chrono::milliseconds timeout);
  // What that file holds, as last read; none: there is none. Does not block.
  std::optional<std::string> watched() const;
  // The contents of a note, once: it is removed when it has been read. None: there is none, or it
  // cannot be read or removed.
  // It is looked for each second. Does not block.
  std::optional<std::string> take_note(const std::string& name);

  // Writes a file anew, as save() does, but in the caller's thread. Empty on success, else the
  // reason. `mode`: of the file.
  static std::string write(const std::string& path, const std::string& contents, unsigned mode);

 private:
  struct Shared : Worker_State {
    std::string path;
    std::vector<std::string> notes;
    Descriptor folder;  // locked; used by the thread only
    // To be written, and written last by this process, by the name of the file.
    std::map<std::string, std::string> waiting GUARDED_BY(mutex), written GUARDED_BY(mutex);
    std::map<std::string, std::string> aside GUARDED_BY(mutex);  // to be renamed, and to what
    // By lock(), and its result.
    bool to_lock GUARDED_BY(mutex) = false, in_use GUARDED_BY(mutex) = false;
    std::optional<std::chrono::system_clock::time_point> last_alive GUARDED_BY(mutex);
    std::string to_read GUARDED_BY(mutex);              // by load(); empty: nothing
    std::optional<std::string> read GUARDED_BY(mutex);  // what it holds
    std::string why GUARDED_BY(mutex);                  // why it could not be locked or read
    std::map<std::string, std::string> noted GUARDED_BY(mutex);  // by the name of the file
    // Why what commands have left cannot be taken, by the name of the file.
    std::map<std::string, std::string> refused GUARDED_BY(mutex);
    std::string to_watch GUARDED_BY(mutex);  // by watch(); empty: nothing
    std::optional<std::string> watched GUARDED_BY(mutex);
    bool watched_once GUARDED_BY(mutex) = false;
    // Why a file could not be written; empty: it could.
    std::string problem GUARDED_BY(mutex);
  };
  static void work(Shared& shared);
  static std::string lock_folder(Shared& shared, bool& in_use);
  // These give the mutex up while they use files.
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
