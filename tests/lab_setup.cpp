// doc/setup.md as an operator follows it: every command, in order, by the user and on the host that
// its prompt names, and the answers that it shows. The hosts are the lab's nodes and its hub, each
// with a mount namespace of its own that tests/setup/host makes look like a host.

#include <doctest/doctest.h>

#include <map>
#include <regex>
#include <sstream>

#include "base/file.hpp"
#include "tests/lab.hpp"

TEST_SUITE_BEGIN("lab");

namespace {

const std::vector<std::string> nodes{"db1", "db2", "witness"};

// ---- the page -----------------------------------------------------------------------------------

struct Command {
  std::string user;
  std::vector<std::string> hosts;
  std::string text;
  std::string answer;  // empty: whatever it may be
};

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream rest(text);
  for (std::string part; std::getline(rest, part, at);) parts.push_back(part);
  return parts;
}

// What is indented by four is a command, with its prompt, or a line of the last one's answer.
std::vector<Command> commands_of(const std::string& page) {
  static const std::regex prompt(
      "    (root|postgres)@((?:db1|db2|witness|lb)(?:,(?:db1|db2|witness|lb))*)([#$]) (.+)");
  std::vector<Command> commands;
  bool inside = false;  // of a block that has begun with a command
  for (const std::string& line : split(page, '\n')) {
    CAPTURE(line);
    REQUIRE_FALSE(line.starts_with("```"));
    std::smatch found;
    if (!line.starts_with("    ")) {
      inside = false;
    } else if (std::regex_match(line, found, prompt)) {
      REQUIRE((found[1] == "root") == (found[3] == "#"));
      commands.push_back({found[1], split(found[2], ','), found[4], ""});
      inside = true;
    } else {
      REQUIRE(inside);
      REQUIRE_FALSE(std::regex_search(line, std::regex("^ *[a-z]+@[a-z0-9,]+[#$] ")));
      commands.back().answer += line + "\n";
    }
  }
  REQUIRE_FALSE(commands.empty());
  return commands;
}

std::string squeezed(const std::string& text) {
  std::istringstream words(text);
  std::string all;
  for (std::string word; words >> word;) all += word + " ";
  return all;
}

// Whether an output is the answer, but for white space; … in that stands for anything.
bool fits(const std::string& answer, const std::string& output) {
  static const std::string any = "…";
  std::string rest = squeezed(answer), text = squeezed(output);
  bool anywhere = false;  // whether a … stands before the rest
  for (std::size_t end; (end = rest.find(any)) != rest.npos; anywhere = true) {
    const std::size_t at = text.find(rest.substr(0, end));
    if (at == text.npos || (at != 0 && !anywhere)) return false;
    text.erase(0, at + end);
    rest.erase(0, end + any.size());
  }
  return anywhere ? text.ends_with(rest) : text == rest;
}

// ---- the hosts ----------------------------------------------------------------------------------

// Whether this machine can make them; if not, the test counts as skipped.
bool hosts_possible() {
  if (!lab_possible("doc/setup.md")) return false;
  const Ran ran = shell(
      "exec 2>&1; command -v apt-get dpkg-deb unshare nsenter setpriv runuser >/dev/null ||"
      " { echo 'needs Debian'; exit 1; };"
      " unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/upper /run/work &&"
      " mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc'");
  if (ran.status != 0) skipped.push_back("doc/setup.md: no overlay here: " + ran.output);
  return ran.status == 0;
}

// The packages that the page names: that of the program under test, and newer ones, which are the
// same but for their version.
std::string make_packages(const std::string& page, const std::string& folder) {
  static const std::regex name("primgr_([0-9.]+)_[a-z0-9]+\\.deb");
  const std::string arch = shell("dpkg --print-architecture").output;
  std::string first, files;
  for (std::sregex_iterator found(page.begin(), page.end(), name), end; found != end; ++found) {
    const std::string version = (*found)[1],
                      file = folder + "/primgr_" + version + "_" + arch + ".deb";
    if (files.find(file) != files.npos) continue;
    const Ran made = first.empty()
                         ? shell("VERSION=" + version + " OUT=" + folder +
                                 " tools/make-package deb " + program() + " " + arch + " 2>&1")
                         : shell("exec 2>&1; cd " + folder + " && dpkg-deb -R " + first +
                                 " newer && sed -i 's/^Version: .*/Version: " + version +
                                 "/' newer/DEBIAN/control && dpkg-deb -Znone -b newer " + file);
    INFO(made.output);
    REQUIRE(made.status == 0);
    if (first.empty()) {
      first = file;
      // The page is of this version.
      CHECK(shell(program() + " --version").output.starts_with("primgr " + version + " "));
    }
    files += " " + file;
  }
  return files;
}

class Hosts {
 public:
  explicit Hosts(const std::string& page)
      : lab_("--nodes 2 --names db1,db2,witness --witness --no-repmgrd --no-haproxy --no-wait") {
    shell("mkdir " + folder_);
    const std::string packages = make_packages(page, folder_);
    std::string names =
        "127.0.0.1 localhost\n" + lab_.run("env | sed -n 's/^WRITE_HOST=//p'") + " lb\n";
    for (const std::string& node : nodes) names += lab_.address(node) + " " + node + "\n";
    make("lb", lab_.hub(), "''", ::quoted(names) + packages);
    for (const std::string& node : nodes) {
      lab_.run("primgr " + node + " stop");
      make(node, lab_.conf(node, "netns"), lab_.conf(node, "dir"), ::quoted(names) + packages);
    }
    // As it is before primgr comes; the lab has made its role, and lets everybody in.
    for (const char* node : {"db1", "witness"}) {
      lab_.sql(node, "DROP OWNED BY primgr; DROP ROLE primgr");
    }
    for (const std::string& node : nodes) {
      lab_.run("exec-node " + node + " sed -i 's/^local .*/local all postgres peer/' " +
               lab_.conf(node, "data") + "/pg_hba.conf");
      must(node, "postgres", "repmgr node service --action=restart");
      must(node, "root", "systemctl start repmgrd");
    }
  }
  // What runs in the hosts' names; the lab would wait for it.
  ~Hosts() {
    for (const auto& [host, enter] : enter_) run(host, "root", "kill $(cat /run/*.pid)");
  }

  Ran run(const std::string& host, const std::string& user, const std::string& command) const {
    return shell("timeout -k 5 120 " + enter_.at(host) + " setpriv --reuid " + user + " --regid " +
                 user + " --init-groups --reset-env bash -c " + quoted("cd && " + command) +
                 " </dev/null 2>&1");
  }

 private:
  void must(const std::string& host, const std::string& user, const std::string& command) const {
    const Ran ran = run(host, user, command);
    INFO(host << ": " << command << "\n" << ran.output);
    REQUIRE(ran.status == 0);
  }
  void make(const std::string& host, const std::string& netns, const std::string& node,
            const std::string& rest) {
    const std::string log = folder_ + "/" + host + ".log",
                      net = "nsenter --net=/run/netns/" + netns;
    shell(net + " unshare -m tests/setup/host " + node + " " + rest + " >" + log +
          " 2>&1 </dev/null &");
    std::string said;
    const bool ready = eventually(20, [&] {
      return (said = primgr::read_file(log)).starts_with("ready ") && said.ends_with("\n");
    });
    INFO(host << ": " << said);
    REQUIRE(ready);
    enter_[host] = net + " --mount=/proc/" + said.substr(6, said.size() - 7) + "/ns/mnt";
  }

  const Lab lab_;
  const std::string folder_ = lab_.run("env | sed -n 's/^LAB_DIR=//p'") + "/hosts";
  std::map<std::string, std::string> enter_;  // what a command on a host begins with
};

// An answer that the page shows may take a moment to come.
void follow(const Hosts& hosts, const Command& command, const std::string& host) {
  Ran ran;
  const bool right = eventually(command.answer.empty() ? 0 : 60, [&] {
    ran = hosts.run(host, command.user, command.text);
    return ran.status == 0 && (command.answer.empty() || fits(command.answer, ran.output));
  });
  if (right) return;
  std::string logs;
  for (const std::string& node : nodes) {
    logs += node + ":\n" + hosts.run(node, "root", "tail -n 60 /run/*.service.log").output + "\n";
  }
  FAIL(command.user, "@", host, ": ", command.text, "\nended with ", ran.status, ":\n", ran.output,
       "\nthe page has:\n", command.answer, "\n", logs);
}

}  // namespace

TEST_CASE(
    "lab: every command of doc/setup.md works as it stands, in order, on hosts without primgr") {
  if (!hosts_possible()) return;
  const std::string page = primgr::read_file("doc/setup.md");
  const std::string arch = shell("dpkg --print-architecture").output;
  const std::vector<Command> commands =
      commands_of(std::regex_replace(page, std::regex("_amd64\\.deb"), "_" + arch + ".deb"));
  const Hosts hosts(page);
  for (const Command& command : commands) {
    for (const std::string& host : command.hosts) follow(hosts, command, host);
  }
}

TEST_SUITE_END();
