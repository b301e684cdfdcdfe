// repmgr's configuration file.

#pragma once

#include <string>

namespace primgr {

struct Repmgr_Conf {
  std::string node_name;
  int node_id = 0;  // 0: there is none, or repmgr would refuse it
};

// The settings in a repmgr.conf and in the files that it includes, read as repmgr 5 reads them. If
// a setting is repeated, the last one counts. Lines that neither set node_name or node_id nor
// include a file are not checked. Throws Input_Error, which names file and line, if another line
// cannot be parsed, or if its file cannot be read. Throws it, too, if there is no node_name.
Repmgr_Conf read_repmgr_conf(const std::string& path);

}  // namespace primgr
