// The folder in which a daemon keeps what it is to know after a restart or a reboot
// (state_directory), and in which commands leave a note for it.

#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/descriptor.hpp"
#include "base/log_level.hpp"
#include "node/rules/model.hpp"

namespace primgr {

// The file whose time says when a daemon was alive.
inline constexpr const char* alive_file = "alive";

// Small files, each written anew as a whole (a new file, fsync(2), rename(2)). A file system that
// hangs delays nobody: all of it is done in a thread of its own. What that has not written when the
// process ends is lost.
//
// Thread-safe. The mutex guards the members of Shared but `path`. It is not held while a file is
// read or written; the log is written under it. The thread shares ownership of Shared and uses
// nothing else, so it may outlive this object if the file system hangs.
class State_Directory {
 public:
  // `notes`: the names of the files that commands leave. Throws std::system_error if no thread can
  // be started.
  State_Directory(const std::string& path, std::vector<std::string> notes, Logger log);
  // Waits until all is written, 100 ms at most.
  ~State_Directory();
  State_Directory(const State_Directory&) = delete;
  State_Directory& operator=(const State_Directory&) = delete;

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
  struct Shared {
    std::string path;
    std::vector<std::string> notes;
    std::mutex mutex;
    std::condition_variable changed;
    // To be written, and written last by this process, by the name of the file.
    std::map<std::string, std::string> waiting, written;
    std::map<std::string, std::string> aside;  // to be renamed, and to what
    bool to_lock = false, in_use = false;      // by lock(), and its result
    Descriptor folder;                         // locked; used by the thread only
    std::optional<std::chrono::system_clock::time_point> last_alive;  // found by lock()
    std::string to_read;                                              // by load(); empty: nothing
    std::optional<std::string> read;                                  // what it holds
    std::string why;                           // why it could not be locked or read
    std::map<std::string, std::string> noted;  // by the name of the file
    // Why what commands have left cannot be taken, by the name of the file.
    std::map<std::string, std::string> refused;
    std::string to_watch;  // by watch(); empty: nothing
    std::optional<std::string> watched;
    bool watched_once = false;
    std::string problem;  // why a file could not be written; empty: it could
    bool ending = false, ended = false;
  };
  static void work(std::shared_ptr<Shared> shared);
  static std::string lock_folder(Shared& shared, bool& in_use);
  static void take_notes(Shared& shared, std::unique_lock<std::mutex>& lock);
  static void read_watched(Shared& shared, std::unique_lock<std::mutex>& lock);
  static void stay_alive(const std::string& path);
  static void work_once(Shared& shared, std::unique_lock<std::mutex>& lock);
  void log_problem();

  const Logger log_;
  std::string logged_problem_;
  std::map<std::string, std::string> logged_refused_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace primgr
