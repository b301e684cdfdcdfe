// Reading files that an operator names.

#pragma once

#include <string>

namespace primgr {

// The contents of a text file, without a byte order mark. Throws Input_Error if it cannot be read,
// is larger than 1 MB, has a NUL byte, or is not a regular file: a pipe could block the reader for
// ever.
std::string read_file(const std::string& path);

}  // namespace primgr
