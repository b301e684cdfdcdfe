#include "base/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/descriptor.hpp"
#include "base/error.hpp"

namespace primgr {

std::string read_file(const std::string& path) {
  constexpr std::size_t limit = 1 << 20;
  const auto failed = [&] {
    return Input_Error(path + ": cannot read it: " + std::strerror(errno));
  };
  // stat() first, since opening some devices has an effect. fstat() again after it, since the file
  // may have been replaced in between.
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) throw failed();
  const auto check = [&] {
    if (!S_ISREG(status.st_mode)) throw Input_Error(path + ": not a regular file");
  };
  check();
  const Descriptor fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (fd.get() < 0) throw failed();
  if (fstat(fd.get(), &status) != 0) throw failed();
  check();
  std::string text(limit + 1, '\0');
  std::size_t size = 0;
  for (ssize_t n = 1; n > 0 && size < text.size();) {
    n = read(fd.get(), text.data() + size, text.size() - size);
    if (n < 0 && errno != EINTR) throw failed();
    size += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
    if (n < 0) n = 1;
  }
  text.resize(size);
  if (text.size() > limit) throw Input_Error(path + ": larger than 1 MB: this is no such file");
  if (text.find('\0') != text.npos) throw Input_Error(path + ": has a NUL byte: this is no text");
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  return text;
}

}  // namespace primgr
