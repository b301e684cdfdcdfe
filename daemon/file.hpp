// Files that an operator names.

#pragma once

#include <string>

namespace primgr {

// The whole of a regular file, without a byte order mark. Throws Config_Error if it is none (it is
// not waited for whoever has the other end of a pipe), cannot be read, or is no text of at most
// 1 MB.
std::string read_file(const std::string& path);

}  // namespace primgr
