// A folder for the files of a test.

#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

// The folder is created with this object, and removed with it.
struct State_Folder {
  ~State_Folder() { std::filesystem::remove_all(folder); }
  std::string path(const std::string& name = "grants") const { return folder + "/" + name; }
  const std::string folder = [] {
    char made[] = "/tmp/primgr-state-XXXXXX";
    return std::string(mkdtemp(made));
  }();
};
