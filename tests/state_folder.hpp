// A folder for state files.

#pragma once

// A folder of its own for a state file, gone afterwards.
struct State_Folder {
  ~State_Folder() { std::filesystem::remove_all(folder); }
  std::string path(const std::string& name = "grants") const { return folder + "/" + name; }
  const std::string folder = [] {
    char made[] = "/tmp/primgr-state-XXXXXX";
    return std::string(mkdtemp(made));
  }();
};
