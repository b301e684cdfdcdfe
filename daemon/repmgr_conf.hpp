// repmgr's configuration file.

#pragma once

#include <string>

namespace primgr {

// node_name in a repmgr.conf and the files that it includes, as repmgr 5 reads them: the last one
// counts. Lines that neither set it nor include a file are not checked. Throws Config_Error, which
// names file and line, if a line that does cannot be read, or its file; or if there is no name.
std::string read_repmgr_conf(const std::string& path);

}  // namespace primgr
