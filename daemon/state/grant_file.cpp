#include "daemon/state/grant_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.hpp"
#include "base/text.hpp"

namespace primgr {

using namespace std::chrono_literals;

Grant_File::Grant_File(std::string path, std::string node)
    : path_(std::move(path)), node_(std::move(node)) {
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot_id_);
}

void Grant_File::check(const std::string& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode)) return;
  throw Input_Error("state_file: " + path + " is " +
                    (S_ISLNK(status.st_mode) ? "a link" : "not a regular file") +
                    ": name a file that is this primgr's alone, such as /run/primgr/grants");
}

std::optional<Grant> Grant_File::load(std::string& why) {
  check(path_);
  // The previous process may need a moment to end and to unlock the file.
  why = open_and_lock(1s);
  if (locked_by_another_) throw State_File_In_Use("state_file: " + why);
  if (why == path_ + foreign) throw Input_Error("state_file: " + why);
  if (!why.empty()) return std::nullopt;
  std::string text(record_size + 1, '\0');
  const ssize_t size = pread(fd_.get(), text.data(), text.size(), 0);
  if (size < 0) why = failed("read");
  if (size <= 0) return std::nullopt;
  text.resize(static_cast<std::size_t>(size));
  const auto grant = parse(text, boot_id_, node_, boottime(), why);
  if (!grant) why = path_ + " " + why;
  return grant;
}

std::string Grant_File::save(const Grant& grant) {
  if (const std::string why = open_and_lock(); !why.empty()) return why;
  const std::string record = print(grant, boot_id_, node_);
  if (record.size() != record_size) return path_ + ": the names of the nodes are too long for it";
  struct stat status {};
  if (fstat(fd_.get(), &status) != 0) return failed("read");
  // A file of another size is emptied first, so that no old bytes remain after the record.
  if (status.st_size != record_size && ftruncate(fd_.get(), 0) != 0) return failed("write");
  errno = 0;
  if (pwrite(fd_.get(), record.data(), record.size(), 0) == record_size) return {};
  if (errno == 0) errno = ENOSPC;
  const std::string why = failed("write");
  [[maybe_unused]] const int emptied = ftruncate(fd_.get(), 0);
  return why;
}

std::string Grant_File::print(const Grant& grant, std::string_view boot_id, std::string_view node) {
  const std::string until = std::to_string(grant.until.count());
  std::string text = "primgr 2 boot=" + std::string(boot_id) + " until=" + until +
                     " kept=" + std::to_string(grant.kept_until.count()) +
                     " token=" + url_encoded(grant.token) + " node=" + url_encoded(node) +
                     " to=" + url_encoded(grant.to) + " ";
  const std::string end = " until=" + until + "\n";
  if (text.size() + end.size() < record_size) text.resize(record_size - end.size(), ' ');
  return text + end;
}

namespace {

std::optional<Time> parse_time(std::string_view digits) {
  std::int64_t time = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), time);
  if (error != std::errc() || end != digits.data() + digits.size() || time < 0) return std::nullopt;
  return Time(time);
}

// Reads the fields of a record, "key=value", in the order in which print() writes them.
class Fields {
 public:
  explicit Fields(std::string_view text) : text_(text) {}
  // The value of the next field if it has that key.
  std::optional<std::string_view> next(std::string_view key) {
    if (!text_.starts_with(key)) return std::nullopt;
    const auto end = std::min(text_.find(' '), text_.size());
    const std::string_view value = text_.substr(key.size(), end - key.size());
    text_.remove_prefix(std::min(end + 1, text_.size()));
    return value;
  }

 private:
  std::string_view text_;
};

}  // namespace

namespace {

// The reason to ignore a record that does not begin as a record of print() does.
const char* explain_version(std::string_view text) {
  if (text.starts_with("primgr 1 ")) {
    return "is of an earlier version of primgr, as it is once, after the upgrade";
  }
  const bool later = text.size() > 8 && text.starts_with("primgr ") && text[7] > '2' &&
                     text[7] <= '9' && text[8] == ' ';
  return later ? "is of a later version of primgr" : "is damaged";
}

}  // namespace

std::optional<Grant> Grant_File::parse(std::string_view text, std::string_view boot_id,
                                       std::string_view node, Time now, std::string& why) {
  constexpr std::string_view version = "primgr 2 ";
  why = "is damaged";
  if (!text.starts_with(version)) {
    why = explain_version(text);
    return std::nullopt;
  }
  Fields fields(text.substr(version.size()));
  const auto boot = fields.next("boot="), until = fields.next("until="),
             kept = fields.next("kept="), token = fields.next("token="), of = fields.next("node="),
             to = fields.next("to=");
  if (!boot || !until || !kept || !token || !of || !to) return std::nullopt;
  const auto time = parse_time(*until), kept_until = parse_time(*kept);
  const auto shown = url_decoded(*token), own = url_decoded(*of), name = url_decoded(*to);
  if (!time || !kept_until || !shown || !own || !name) return std::nullopt;
  const Grant grant{*name, *time, *shown, *kept_until};
  if (text.size() != record_size || print(grant, *boot, *own) != text) return std::nullopt;
  if (boot_id.empty() || *boot != boot_id) {
    why = "is of an earlier boot";
    return std::nullopt;
  }
  if (!names_equal(*own, node)) {
    why = "is of the node \"" + *own + "\", not of this one";
    return std::nullopt;
  }
  if (std::max(grant.until, grant.kept_until) > now + 2min) {
    why = "promises for longer than a vote_lease can be";
    return std::nullopt;
  }
  why.clear();
  return grant;
}

std::string Grant_File::failed(const char* what) const {
  return "cannot " + std::string(what) + " " + path_ + ": " + std::strerror(errno);
}

std::string Grant_File::open_and_lock(std::chrono::milliseconds patience) {
  locked_by_another_ = false;
  struct stat at_path {
  }, opened{};
  const bool exists = lstat(path_.c_str(), &at_path) == 0;
  if (exists && !S_ISREG(at_path.st_mode)) return path_ + " is no longer a regular file";
  if (exists && fd_ && fstat(fd_.get(), &opened) == 0 && opened.st_ino == at_path.st_ino &&
      opened.st_dev == at_path.st_dev) {
    return {};
  }
  fd_.reset();
  fd_.reset(
      open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600));
  if (!fd_) return failed("open");
  std::string why;
  if (fstat(fd_.get(), &opened) != 0) {
    why = failed("open");
  } else if (!S_ISREG(opened.st_mode)) {
    why = path_ + " is no longer a regular file";
  } else if (const int error = lock_file(fd_, patience); error != 0) {
    errno = error;
    locked_by_another_ = error == EWOULDBLOCK;
    why = locked_by_another_ ? path_ + " is in use by another process" + lock_owner(opened)
                             : failed("lock");
  } else if (is_foreign()) {
    why = path_ + foreign;
  }
  if (!why.empty()) fd_.reset();
  return why;
}

bool Grant_File::is_foreign() const {
  char begin[7];
  const ssize_t size = pread(fd_.get(), begin, sizeof begin, 0);
  const auto known = std::string_view("primgr ").substr(0, size > 0 ? std::size_t(size) : 0);
  return size > 0 && std::string_view(begin, std::size_t(size)) != known;
}

std::string Grant_File::lock_owner(const struct stat& file) {
  char place[64];
  std::snprintf(place, sizeof place, "%02x:%02x:%ju", major(file.st_dev), minor(file.st_dev),
                static_cast<std::uintmax_t>(file.st_ino));
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, kind, mode, access, pid, where;
    if (words >> number >> kind >> mode >> access >> pid >> where && kind == "FLOCK" &&
        where == place) {
      return " (pid " + pid + ")";
    }
  }
  return {};
}

}  // namespace primgr
