#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/file.hpp"
#include "base/text.hpp"
#include "daemon/state/grant_file.hpp"
#include "tests/state_folder.hpp"
#include "tests/world.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("grant_file");

TEST_CASE("the state file: what is written is read back, anything else is rejected") {
  const Grant grant{"Node 1", 5s};
  const std::string text = Grant_File::print(grant, "boot", "Me");
  std::string why;
  const auto read = [&](std::string_view t) { return Grant_File::parse(t, "boot", "me", 4s, why); };
  REQUIRE(read(text));
  CHECK(read(text)->to == "Node 1");
  CHECK(read(text)->until == 5s);
  CHECK(why.empty());
  CHECK(text.size() == Grant_File::record_size);
  CHECK(read(Grant_File::print({"", 5s}, "boot", "me"))->to == "");
  const Grant whole{"n1", 5s, "0a1b", 4s};
  CHECK(read(Grant_File::print(whole, "boot", "me")) == whole);
  CHECK_FALSE(read(Grant_File::print({"n1", 5s, "", 1h}, "boot", "me")));
  CHECK_FALSE(read(Grant_File::print({"n1", 5s, "", -1ns}, "boot", "me")));
  std::string every_byte;
  for (int c = 0; c < 256; ++c) every_byte += static_cast<char>(c);
  CHECK(Grant_File::parse(Grant_File::print({every_byte, 5s}, "boot", every_byte), "boot",
                          every_byte, 4s, why)
            ->to == every_byte);
  CHECK_FALSE(Grant_File::parse(text, "other boot", "me", 4s, why));
  CHECK(why == "is of an earlier boot");
  CHECK_FALSE(Grant_File::parse(text, "", "me", 4s, why));
  CHECK_FALSE(Grant_File::parse(text, "boot", "n2", 4s, why));
  CHECK(why == "is of the node \"Me\", not of this one");
  CHECK_FALSE(read(Grant_File::print({"n1", 1h}, "boot", "me")));  // longer than any lease
  CHECK_FALSE(read(Grant_File::print({"n1", -5ns}, "boot", "me")));
  for (std::size_t n = 0; n < text.size(); ++n) {
    CAPTURE(n);
    CHECK_FALSE(read(text.substr(0, n)));
    // Torn: the first bytes are of one record, the others of the one before.
    const std::string before = Grant_File::print({"Node 2", 4s}, "boot", "Me");
    const std::string mixed = text.substr(0, n) + before.substr(n);
    if (mixed != text && mixed != before) CHECK_FALSE(read(mixed));
  }
  CHECK_FALSE(read(text + " "));
  CHECK_FALSE(read("primgr 1 boot 5000000000 n1\n"));
  CHECK(why == "is of an earlier version of primgr, as it is once, after the upgrade");
  CHECK_FALSE(read("primgr 3 boot=x"));
  CHECK(why == "is of a later version of primgr");
  CHECK_FALSE(read("primgr"));
  CHECK(why == "is damaged");
  std::string changed = text;
  changed[100] = 'x';
  CHECK_FALSE(read(changed));
}

TEST_CASE("the state file belongs to one node, and a failed write is reported") {
  const State_Folder folder;
  const std::string path = folder.path();
  std::string why;
  {
    Grant_File file(path, "n1");
    CHECK_FALSE(file.load(why));
    CHECK(why.empty());  // there was none
    REQUIRE(file.save({"n1", boottime() + 3s}).empty());
    REQUIRE(file.load(why));
    CHECK(file.load(why)->to == "n1");
    CHECK(file.save({std::string(5000, 'x'), 5s}).find("too long") != std::string::npos);
    CHECK(file.load(why)->to == "n1");
  }
  CHECK(std::filesystem::status(path).permissions() == std::filesystem::perms(0600));
  {
    Grant_File other(path, "n2");
    CHECK_FALSE(other.load(why));
    CHECK(why == path + " is of the node \"n1\", not of this one");
    REQUIRE(other.save({"n1", boottime() + 3s}).empty());
  }
  Grant_File file(path, "n1");
  CHECK_FALSE(file.load(why));  // n2 has written it
}

TEST_CASE("a state file that was damaged, removed or replaced: the next promise is in a good one") {
  const State_Folder folder;
  const std::string path = folder.path();
  std::string why;
  Grant_File file(path, "n1");
  REQUIRE_FALSE(file.load(why));
  REQUIRE(file.save({"n1", boottime() + 3s}).empty());
  // Nothing stays behind a record that was shorter.
  std::ofstream(path, std::ios::app) << std::string(9999, 'x');
  CHECK_FALSE(file.load(why));
  REQUIRE(file.save({"n1", boottime() + 3s}).empty());
  REQUIRE(file.load(why));
  // The file was taken away: the next promise is in a new one.
  std::filesystem::remove(path);
  REQUIRE(file.save({"n3", boottime() + 3s}).empty());
  CHECK(std::filesystem::file_size(path) == Grant_File::record_size);
  // Or it was replaced.
  std::filesystem::rename(path, path + "-old");
  std::ofstream(path) << "noise";
  const std::string foreign =
      " holds something else than a promise: name a file that is this primgr's alone";
  CHECK(file.save({"n3", boottime() + 3s}) == path + foreign);
  CHECK(read_file(path) == "noise");
  CHECK(error_of([&] { Grant_File(path, "n1").load(why); }) == "state_file: " + path + foreign);
  std::filesystem::remove(path);
  REQUIRE(file.save({"n3", boottime() + 3s}).empty());
  CHECK(file.load(why)->to == "n3");
}

TEST_CASE("a state file that cannot be written: the error of the system call is reported") {
  std::string why;
  Grant_File nowhere("/nonexistent/grants", "n1");
  CHECK_FALSE(nowhere.load(why));
  CHECK(why == "cannot open /nonexistent/grants: No such file or directory");
  CHECK(nowhere.save({"n1", 5s}) == why);
  // A full file system: of one page, which another file takes. Mounting it needs root.
  const State_Folder folder;
  const std::string mount = folder.path("full");
  std::filesystem::create_directory(mount);
  if (std::system(("mount -t tmpfs -o size=4k tmpfs " + mount + " 2>/dev/null").c_str()) != 0) {
    return;
  }
  std::ofstream(mount + "/other") << "x";
  Grant_File full(mount + "/grants", "n1");
  CHECK_FALSE(full.load(why));
  CHECK(full.save({"n1", 5s}).ends_with("No space left on device"));
  std::filesystem::remove(mount + "/other");
  CHECK(full.save({"n1", 5s}).empty());
  CHECK(std::system(("umount -l " + mount).c_str()) == 0);
}

TEST_CASE("the state file is locked by one process") {
  const State_Folder folder;
  const std::string path = folder.path();
  std::string why;
  Grant_File file(path, "n1");
  REQUIRE_FALSE(file.load(why));
  REQUIRE(file.save({"n1", boottime() + 3s}).empty());
  Grant_File second(path, "n1");
  std::string error;
  try {
    second.load(why);
  } catch (const State_File_In_Use& in_use) {
    error = in_use.what();
  }
  CHECK(error == "state_file: " + path + " is in use by another process (pid " +
                     std::to_string(getpid()) + ")");
  CHECK(second.save({"n2", boottime() + 3s}).find("in use") != std::string::npos);
  CHECK(file.load(why)->to == "n1");
}

TEST_CASE("a state file that is not a regular file is refused, also if it was replaced in use") {
  const State_Folder folder;
  const std::string target = folder.path("target"), path = folder.path();
  const std::map<std::string, std::function<void()>> kinds = {
      {"link", [&] { std::filesystem::create_symlink(target, path); }},
      {"dangling link", [&] { std::filesystem::create_symlink(folder.path("none"), path); }},
      {"fifo", [&] { REQUIRE(mkfifo(path.c_str(), 0600) == 0); }},
      {"folder", [&] { std::filesystem::create_directory(path); }},
      {"device",
       [&] {
         if (mknod(path.c_str(), S_IFCHR | 0600, makedev(1, 3)) != 0)
           std::filesystem::create_directory(path);
       }},
      {"socket",
       [&] {
         const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
         sockaddr_un at{};
         at.sun_family = AF_UNIX;
         path.copy(at.sun_path, sizeof at.sun_path - 1);
         REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
         ::close(fd);
       }},
  };
  for (const auto& [kind, make] : kinds) {
    const std::string which(kind);
    CAPTURE(which);
    std::filesystem::remove_all(path);
    std::ofstream(target) << "precious";
    std::string why;
    Grant_File before(path, "n1");
    REQUIRE_FALSE(before.load(why));
    REQUIRE(before.save({"n1", boottime() + 3s}).empty());
    std::filesystem::remove(path);
    make();
    const auto type = std::filesystem::symlink_status(path).type();
    const std::string complaint =
        kind.ends_with("link") ? " is a link: name a file" : " is not a regular file: name a file";
    Grant_File at_start(path, "n1");
    for (const std::string& error :
         {error_of([&] { at_start.load(why); }), error_of([&] { Grant_File::check(path); })}) {
      CHECK(error.find("state_file: " + path + complaint) == 0);
    }
    CHECK(at_start.save({"n1", boottime() + 3s}) == path + " is no longer a regular file");
    CHECK(before.save({"n1", boottime() + 3s}) == path + " is no longer a regular file");
    CHECK(std::filesystem::symlink_status(path).type() == type);
    CHECK(read_file(target) == "precious");
    CHECK_FALSE(std::filesystem::exists(folder.path("none")));
  }
}

TEST_SUITE_END();
