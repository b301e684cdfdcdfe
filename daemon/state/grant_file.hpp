// Saves the voter's promise in a file (state_file), so that it survives a restart of the process.

#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "base/descriptor.hpp"
#include "node/rules/model.hpp"

namespace primgr {

// Another process has locked the state_file.
struct State_File_In_Use : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Stores a voter's grant as one record of fixed size: boot id, voter, and the members of Grant.
// Times are on CLOCK_BOOTTIME, so they have no meaning after a reboot. The kernel's boot id detects
// a reboot. A record is ignored if it is of an earlier boot, of another voter, or damaged. The
// voter then grants no vote for one vote_lease (see Grant).
//
// The record is overwritten in place by one pwrite(2), without fsync(2). It has to survive the end
// of the process, not a crash of the kernel, and the page cache is enough for that. If the process
// is killed during the write, the file holds the old record or the new one: the kernel copies a
// page before it handles signals. A record that was partly written for another reason (a full disk)
// is recognized: `until` is at the beginning and at the end of the record, and the two differ. So
// no temporary file and no rename(2) is needed, which could follow a link.
//
// The file is locked with flock(2) while this object exists. The kernel unlocks it when the process
// ends for any reason. Only a regular file is opened, and links are not followed.
//
// Not thread-safe. Every function may block for as long as the file system blocks.
class Grant_File {
 public:
  Grant_File(std::string path, std::string node);
  Grant_File(const Grant_File&) = delete;
  Grant_File& operator=(const Grant_File&) = delete;

  // Throws Input_Error if `path` exists and is not a regular file. Creates and changes nothing.
  static void check(const std::string& path);

  // The stored grant. None if there is no valid one: then `why` is the reason, or empty if the file
  // is new. Throws Input_Error in the same cases as check(), and if the file was not written by a
  // primgr. Throws State_File_In_Use if another process has locked it for longer than 1 s.
  std::optional<Grant> load(std::string& why);

  // Stores a grant. Returns empty on success, else the reason: then the file holds an earlier grant
  // or none.
  std::string save(const Grant& grant);

  static constexpr ssize_t record_size = 4096;  // a page, which the kernel copies as a whole

  // The record of a grant. Longer than record_size if the names do not fit.
  static std::string print(const Grant& grant, std::string_view boot_id, std::string_view node);

  // Parses a record. None, with the reason in `why`, if it is not a result of print(), is of
  // another boot or node, or ends later after `now` than the longest vote_lease allows. Public for
  // tests.
  static std::optional<Grant> parse(std::string_view text, std::string_view boot_id,
                                    std::string_view node, Time now, std::string& why);

 private:
  // "cannot <what> <path>: " and the text of errno.
  std::string failed(const char* what) const;

  // Opens and locks the file that is now at the path. Does nothing if this file is already open.
  // Returns empty on success, else the reason.
  std::string open_and_lock(std::chrono::milliseconds patience = {});

  static constexpr const char* foreign =
      " holds something else than a promise: name a file that is this primgr's alone";

  // Whether the file has contents that were not written by a primgr, and so must not be
  // overwritten.
  bool is_foreign() const;

  // " (pid <pid>)" of the process that has locked the file, or empty if it is not known. Read from
  // /proc/locks, whose lines are "12: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> …":
  // proc(5).
  static std::string lock_owner(const struct stat& file);

  const std::string path_, node_;
  std::string boot_id_;
  Descriptor fd_;
  bool locked_by_another_ = false;
};

}  // namespace primgr
