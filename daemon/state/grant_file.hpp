// The voter's promise in a file (state_file), so that it outlives the process.

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
// Times are on CLOCK_BOOTTIME, so they mean nothing after a reboot, and the kernel's boot id tells.
// A record of an earlier boot or of another voter, or one that is damaged, is ignored: the voter is
// then silent for one vote_lease (see Grant).
//
// The record is overwritten in place by one pwrite(2), without fsync(2): it has to outlive the
// process, not the kernel, and the page cache does. A process killed meanwhile leaves the old
// record or the new one, since the kernel copies a page before it handles signals. A record torn in
// another way (a full disk) is recognized: `until` stands at its begin and at its end, and differs.
// So no temporary file and no rename(2) is needed, which could follow a link.
//
// The file is locked with flock(2) while this object lives; the kernel unlocks it however the
// process ends. Only a regular file is opened, and links are not followed.
//
// Not thread-safe. Every function may block for as long as the file system does.
class Grant_File {
 public:
  Grant_File(std::string path, std::string node);
  Grant_File(const Grant_File&) = delete;
  Grant_File& operator=(const Grant_File&) = delete;

  // Throws Input_Error if `path` exists and is not a regular file. Creates and changes nothing.
  static void check(const std::string& path);

  // The stored grant. None if there is none that is valid: then `why` is the reason, empty if the
  // file is new. Throws Input_Error as check() does, and if the file was not written by a primgr;
  // State_File_In_Use if another process has it locked for longer than 1 s.
  std::optional<Grant> load(std::string& why);

  // Stores a grant. Empty on success, else the reason: then the file holds an earlier grant or
  // none.
  std::string save(const Grant& grant);

  static constexpr ssize_t record_size = 4096;  // a page, which the kernel copies as a whole

  // The record of a grant. Longer than record_size if the names do not fit.
  static std::string print(const Grant& grant, std::string_view boot_id, std::string_view node);

  // Reads a record. None, with the reason in `why`, if it is not a result of print(), is of another
  // boot or node, or ends later after `now` than the longest vote_lease allows. Public for tests.
  static std::optional<Grant> parse(std::string_view text, std::string_view boot_id,
                                    std::string_view node, Time now, std::string& why);

 private:
  // "cannot <what> <path>: " and the text of errno.
  std::string failed(const char* what) const;

  // Opens and locks the file that the path names now, unless that is the one already open. Returns
  // empty on success, else the reason.
  std::string open_and_lock(std::chrono::milliseconds patience = {});

  static constexpr const char* foreign =
      " holds something else than a promise: name a file that is this primgr's alone";

  // Whether the file has contents that were not written by a primgr, and so must be kept.
  bool is_foreign() const;

  // " (pid <pid>)" of the process that has locked the file, or empty. From /proc/locks, whose lines
  // are "12: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> …": proc(5).
  static std::string lock_owner(const struct stat& file);

  const std::string path_, node_;
  std::string boot_id_;
  Descriptor fd_;
  bool locked_by_another_ = false;
};

}  // namespace primgr
