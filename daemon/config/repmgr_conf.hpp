// repmgr's configuration file.

#pragma once

#include <string>

namespace primgr {

struct Repmgr_Conf {
  std::string node_name;
  int node_id = 0;  // 0: none, or none that repmgr would take
};

// What a repmgr.conf and the files that it includes, as repmgr 5 reads them: the last one
// counts. Lines that neither set it nor include a file are not checked. Throws Input_Error, which
// names file and line, if a line that does cannot be read, or its file; or if there is no name.
Repmgr_Conf read_repmgr_conf(const std::string& path);

}  // namespace primgr
