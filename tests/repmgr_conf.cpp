#include "daemon/config/repmgr_conf.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/state_folder.hpp"
#include "tests/support.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("config");

namespace {

// Files, repmgr.conf among them, and the name in them; empty: it is refused. KEY stands for
// node_name, and @ for the folder.
struct Case {
  std::map<std::string, std::string> files;
  std::string name;
};

// `of` files that include each other, the last of which has the name.
std::map<std::string, std::string> chain(int of) {
  std::map<std::string, std::string> files;
  for (int i = 0; i < of; ++i) {
    files[i ? std::to_string(i) : "repmgr.conf"] = "include '" + std::to_string(i + 1) + "'\n";
  }
  files[std::to_string(of)] = "KEY=deep\n";
  return files;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> made;
    const auto value = [&](const std::string& line, const std::string& name) {
      made.push_back({{{"repmgr.conf", line}}, name});
    };
    value("KEY=n1", "n1");
    value("log_level=INFO\nKEY='Node_1' # x\nlocation='a'\n", "Node_1");
    value("KEY=n2\n#KEY=n3\n", "n2");
    value("KEY=n1\nKEY=n2\nKEY='n3'\n", "n3");
    value("  KEY   n4 \r\n", "n4");
    value("KEY\tn4", "n4");
    value("KEY=n3#4", "n3");
    value("KEY='n3'# x", "n3");
    value("KEY='n#3'", "n#3");
    value("KEY=' n 3 '", " n 3 ");
    value("KEY='it''s'", "it's");
    value(R"(KEY='it\'s')", "it's");
    value(R"(KEY='a\\b\q\"')", R"(a\bq")");
    value(R"(KEY='a\b\f\n\r\tb')", "a\b\f\n\r\tb");
    value(R"(KEY='\101\1012\7\1108')", "AA2\aH8");
    value(R"(KEY='a\0b')", "a");
    value("KEY=n\xc3\xa9", "n\xc3\xa9");
    value("KEY=node-1.example.com:5/x", "node-1.example.com:5/x");
    value("KEY=n1_.x-", "n1_.x-");
    for (const char* number :
         {"7", "-7", "+0x1Fq", "10MB", "1.5", ".5", "5.", ".", "1.5e-3", "0xz"})
      value("KEY=" + std::string(number), number);
    for (const char* refused :
         {"n1.example", "/n1", "-n1",    "n1 n2", "2nd-node", "10.0.0.1", "1.5s", "1.5e",
          "a@b",        "a,b", "\"n1\"", "'n1",   "'n1\\",    "'n1''",    "'''",  "'n1'n2",
          "'n1' n2",    "=n1", "",       "''",    "$n",       "\fn1"})
      value("KEY=" + std::string(refused), "");
    value("KEY=n1\nKEY=''", "");
    value("KEY\n=n1", "");
    value("KEYS=n1\n", "");
    value("KEY.x=n1\n", "");
    value("x.KEY=n1\n", "");
    const auto files = [&](std::map<std::string, std::string> of, const std::string& name) {
      made.push_back({std::move(of), name});
    };
    files({{"repmgr.conf", "include 'sub/a'\n"}, {"sub/a", "include 'b'\n"}, {"sub/b", "KEY=n5"}},
          "n5");
    files({{"repmgr.conf", "KEY=n1\ninclude = 'a'\n"}, {"a", "KEY=n2"}}, "n2");
    files({{"repmgr.conf", "INCLUDE 'a'\nKEY=n1\n"}, {"a", "KEY=n2"}}, "n1");
    files({{"repmgr.conf", "include '@/a'"}, {"a", "KEY=n2"}}, "n2");
    files({{"repmgr.conf", "include sub/a.conf"}, {"sub/a.conf", "KEY=n2"}}, "n2");
    files({{"repmgr.conf", "Include_If_Exists a"}, {"a", "KEY=n2"}}, "n2");
    files({{"repmgr.conf", "include_dir 'd'"},
           {"d/B.conf", "KEY=n2"},
           {"d/a.conf", "KEY=n3"},
           {"d/c.config", "KEY=n4"},
           {"d/.d.conf", "KEY=n5"},
           {"d/.conf", "KEY=n6"},
           {"d/e.conf/f.conf", "KEY=n7"},
           {"d/zconf", "KEY=n8"}},
          "n3");
    files({{"repmgr.conf", "KEY=n1\nInclude_Dir 'd'\n"},
           {"d/10.conf", "include '../e'"},
           {"e", "KEY=n2"}},
          "n2");
    files({{"repmgr.conf", "KEY=n1\ninclude_dir 'd'"}, {"d/x", ""}}, "n1");
    files(chain(5), "deep");
    files(chain(6), "");
    files({{"repmgr.conf", "KEY=n1\ninclude 'repmgr.conf'"}}, "");
    files({{"repmgr.conf", "KEY=n1\ninclude_dir '.'"}}, "");
    for (const char* refused :
         {"include 'none'", "include 'd'", "include_dir 'none'", "include a b", "include /a",
          "include ''", "include_dir ' '", "include"})
      files({{"repmgr.conf", std::string("KEY=n1\n") + refused}, {"d/a", ""}, {"a", ""}}, "");
    return made;
  }();
  return all;
}

// Writes the files of a case with `key`. Returns the path of its repmgr.conf.
std::string write(const Case& of, const std::string& key, const State_Folder& folder) {
  namespace fs = std::filesystem;
  fs::permissions(folder.folder, fs::perms(0755));
  for (auto [name, text] : of.files) {
    for (std::size_t at; (at = text.find("KEY")) != text.npos;) text.replace(at, 3, key);
    if (const auto at = text.find("'@"); at != text.npos) text.replace(at + 1, 1, folder.folder);
    fs::create_directories(fs::path(folder.path(name)).parent_path());
    std::ofstream(folder.path(name)) << text;
  }
  return folder.path("repmgr.conf");
}

std::string text_of(const Case& of) {
  std::string text;
  for (const auto& [name, lines] : of.files) text += name + ":\n" + lines + "\n";
  return text;
}

}  // namespace

TEST_CASE("node_name from a repmgr.conf, as repmgr reads it") {
  for (const Case& one : cases()) {
    const State_Folder folder;
    const std::string path = write(one, "node_name", folder);
    CAPTURE(text_of(one));
    std::string name;
    const std::string error = error_of([&] { name = read_repmgr_conf(path).node_name; });
    CHECK(name == one.name);
    CHECK((error == "no error") == !one.name.empty());
    if (name.empty()) CHECK(error.starts_with(folder.folder));
  }
}

// repmgr says what its conninfo is if that is none. It refuses a file for any bad line.
TEST_CASE("a repmgr.conf that is compared with repmgr itself") {
  const std::string run = getuid() == 0 ? "setpriv --reuid=nobody --clear-groups repmgr" : "repmgr";
  if (shell("command -v repmgr").status != 0) {
    skipped.push_back("repmgr is not installed: a repmgr.conf that is compared with repmgr itself");
    return;
  }
  for (const Case& one : cases()) {
    const State_Folder folder;
    const std::string path = write(one, "conninfo", folder);
    CAPTURE(text_of(one));
    const std::string told = shell(run + " -f " + path + " node check 2>&1").output;
    CAPTURE(told);
    const std::string before = "(provided: \"";
    const auto at = told.find(before);
    const auto end = told.find("\")", at);
    const bool refused = told.find("syntax error") != told.npos ||
                         told.find("could not open configuration") != told.npos ||
                         told.find("recursion") != told.npos || at == told.npos;
    CHECK(refused == one.name.empty());
    if (!refused) CHECK(told.substr(at + before.size(), end - at - before.size()) == one.name);
  }
}

TEST_CASE("node_id of a repmgr.conf, as far as repmgr takes it") {
  const State_Folder folder;
  const std::string path = folder.path("repmgr.conf");
  const std::pair<const char*, int> all[] = {{"node_id=7", 7},
                                             {"node_id = '12' # the twelfth", 12},
                                             {"node_id=1\nnode_id=2", 2},
                                             {"", 0},
                                             {"node_id='x'", 0},
                                             {"node_id=-1", 0},
                                             {"node_id='7x'", 0},
                                             {"node_id='99999999999'", 0}};
  for (const auto& [text, id] : all) {
    const std::string which(text);
    CAPTURE(which);
    std::ofstream(path) << "node_name = n1\n" << text << "\n";
    CHECK(read_repmgr_conf(path).node_id == id);
    CHECK(read_repmgr_conf(path).node_name == "n1");
  }
}

TEST_CASE("what is wrong with a repmgr.conf is told with file and line") {
  const State_Folder folder;
  const std::string path = folder.path("repmgr.conf"), other = folder.path("a");
  const auto error = [&](const std::string& text, const std::string& included = "") {
    std::ofstream(path) << text;
    std::ofstream(other) << included;
    return error_of([&] { read_repmgr_conf(path); });
  };
  CHECK(error("") == path + ": has no node_name");
  CHECK(error("Node_Name=n") == path + ": has no node_name");  // repmgr knows no such key
  CHECK(error("include a") == path + ": has no node_name, and neither has a file that it includes");
  CHECK(error("\nnode_name = 'x") == path + ":2: node_name: the closing quote is missing");
  CHECK(error("node_name = a.b") ==
        path + ":1: node_name: repmgr cannot read its value: put it in single quotes");
  CHECK(error("node_name") == path + ":1: node_name: it has no value");
  CHECK(error("include a", "\n\nnode_name = a b") ==
        path + ":1: include: " + other +
            ":3: node_name: repmgr cannot read its value: put it in single quotes");
  CHECK(error("include 'b'") ==
        path + ":1: include: " + folder.path("b") + ": cannot read it: No such file or directory");
  CHECK(error("include_dir b") == path + ":1: include_dir: " + folder.path("b") +
                                      ": cannot read it: No such file or directory");
  CHECK(error("include_if_exists b\nnode_name=n") == "no error");
  // Others may read what this user may not, so it is not as if it were not there.
  CHECK(error("include_if_exists 'a/b'\nnode_name=n") == "no error");
  CHECK(error("include_if_exists '/dev/zero'\nnode_name=n") ==
        path + ":1: include_if_exists: /dev/zero: not a regular file");
  // 1,200 files are not read twelve hundred times.
  std::string twelve;
  for (int i = 0; i < 1200; ++i) twelve += "include 'b'\n";
  std::ofstream(folder.path("b")) << "";
  CHECK(error(twelve).ends_with("more than 1000 files are included"));
}

TEST_SUITE_END();
