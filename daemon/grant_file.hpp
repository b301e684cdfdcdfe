// The voter's promise on disk, so that it outlives the process.

#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "daemon/descriptor.hpp"
#include "node/model.hpp"

namespace primgr {

// The state_file is another process's.
struct In_Use : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Keeps a voter's grant in a file: one record of a fixed size that names the boot, the voter, whom
// it promised its vote, and until when. Times are those of CLOCK_BOOTTIME, so the kernel's boot id
// tells whether they still mean anything. What is of an earlier boot, of another voter or not whole
// is not believed, and the start-up silence covers it.
//
// The record is overwritten in place, by one pwrite(2). That is enough, since it has to outlive the
// process only, never the kernel: what is written is in the page cache, whether or not it is on a
// disk. A process that is killed meanwhile leaves the old record or the new one, since the kernel
// copies a page before it looks for signals. What is torn in some other way (a full disk) does not
// end in the number that it began with, and is not believed. So there is no second file, and no
// rename(), that could lead elsewhere.
//
// The file is held (flock) for as long as this lives; the kernel lets go of it when the process
// ends, whichever way. Nothing but a regular file is opened, and no link followed.
//
// Not thread-safe: one thread at a time. Any of it may block for as long as the file system
// pleases.
class Grant_File {
 public:
  Grant_File(std::string path, std::string node);
  Grant_File(const Grant_File&) = delete;
  Grant_File& operator=(const Grant_File&) = delete;

  // Throws Config_Error if there is something else than a regular file. It touches nothing.
  static void check(const std::string& path);

  // What is promised. None if that is not known: then `why` says why, or is empty where there was
  // nothing yet. Throws Config_Error as check() does, and if the file holds something that no
  // primgr wrote; In_Use if another process has it.
  std::optional<Grant> load(std::string& why);

  // Empty: it is kept. Otherwise why it is not; then what the file holds is of no later promise.
  std::string save(const Grant& grant);

  static constexpr ssize_t record_size = 4096;

  // Longer than record_size if the names are.
  static std::string print(const Grant& grant, std::string_view boot_id, std::string_view node);

  // None, and why, if the text is not what print() makes, is of another boot or another node, or
  // promises longer than any vote_lease can: then nothing is known.
  static std::optional<Grant> parse(std::string_view text, std::string_view boot_id,
                                    std::string_view node, Time now, std::string& why);

 private:
  std::string failed(const char* what) const;

  // Opens the file that the path names now, and locks it, unless that is so. Empty, or why not.
  std::string hold();

  static constexpr const char* foreign =
      " holds something else than a promise: name a file that is this primgr's alone";

  // Whether there is something in the file that no primgr wrote: it is not to be overwritten.
  bool is_foreign() const;

  // Which one has it, if the kernel tells: "12: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode>
  // …".
  static std::string holder(const struct stat& file);

  const std::string path_, node_;
  std::string boot_id_;
  Descriptor fd_;
  bool held_by_another_ = false;
};

}  // namespace primgr
