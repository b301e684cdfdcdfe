#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/file.hpp"
#include "daemon/config/config.hpp"
#include "daemon/config/repmgr_conf.hpp"
#include "node/database/conninfo.hpp"
#include "tests/state_folder.hpp"
#include "tests/support.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("config");

TEST_CASE("values, quotes, comments") {
  const Config config = parse_config(
      "# a comment\n\n  listen=[::]:6000   # trailing\n"
      "conninfo = 'host=/tmp password=''a#b'' dbname=x'\r\n"
      "db_timeout = 1.5s\npeer_timeout = 200ms\nrefresh_interval = '500 ms'\ncache_ttl=20\n"
      "node_name = DB#1\npeer.N_2 = 10.0.0.2\npeer.n3 = [fe80::1]:7000\nconsensus = cluster\n"
      "max_clients = 128\nmax_connections_in_pool = 1\nlog_level = debug\npeer_port = 1\n"
      "on_change = /opt/my hook\non_change_timeout = 2min",
      "f");
  CHECK(config.listen.host == "::");
  CHECK(config.listen.port == 6000);
  CHECK(config.node.conninfo == "host=/tmp password='a#b' dbname=x");
  CHECK(config.node.db_timeout == 1500ms);
  CHECK(config.node.peer_timeout == 200ms);
  CHECK(config.node.refresh_interval == 500ms);
  CHECK(config.node.cache_ttl == 20s);
  CHECK(config.node.node_name == "DB#1");
  CHECK(config.peers.by_name.at("N_2").host == "10.0.0.2");
  CHECK(config.peers.by_name.at("n3").port == 7000);
  CHECK(config.node.consensus_cluster);
  CHECK(config.log_level == Log_Level::debug);
  CHECK(config.on_change == "/opt/my hook");
  CHECK(config.on_change_timeout == 2min);
  CHECK(config.max_clients == 128);
}

TEST_CASE("a key of the version before is understood, under its new name") {
  const Config config = parse_config("http_threads = 4\n", "f");
  CHECK(config.max_clients == 128);
  CHECK(print_config(config).find("max_clients = '128'\n") != std::string::npos);
  CHECK(print_config(config).find("http_threads") == std::string::npos);
  CHECK(error_of([] {
          parse_config("http_threads = 4\nmax_clients = 64\n", "f");
        }).find("f:2: key \"max_clients\" was set before, at f:1") == 0);
  CHECK(error_of([] { parse_config("http_threads = 0\n", "f"); }).find("max_clients now") !=
        std::string::npos);
}

TEST_CASE("the name of a peer may be any") {
  const Config config = parse_config(
      "peer.node 2 = 10.0.0.2 # = x\npeer.'a=b' = b\n peer.it's\t= c:7\npeer. x='d'\n"
      "peer.' # y ' = e\npeer.n#1=f\npeer.'it''s 2' = g",
      "f");
  const auto host = [&](const char* name) { return config.peers.by_name.at(name).host; };
  CHECK(config.peers.by_name.size() == 7);
  CHECK(host("node 2") == "10.0.0.2");
  CHECK(host("a=b") == "b");
  CHECK(host("it's") == "c");
  CHECK(host(" x") == "d");
  CHECK(host(" # y ") == "e");
  CHECK(host("n#1") == "f");
  CHECK(host("it's 2") == "g");
  const std::string printed = print_config(config);
  CHECK(printed.find("\npeer.node 2 = '10.0.0.2'\n") != printed.npos);
  CHECK(print_config(parse_config(printed, "printed")) == printed);
  CHECK(error_of([] { parse_config("peer.Node 2 = a\npeer.'node 2' = b", "f"); }) ==
        "f:2: key \"peer.node 2\" was set before, at f:1");
  for (const char* line : {"peer.node 2", "peer.'x = y", "peer.'x' y", "peer.'' = x"}) {
    CAPTURE(line);
    CHECK(error_of([&] { parse_config(line, "f"); }).starts_with("f:1: "));
  }
}

TEST_CASE("what is wrong is told with file and line") {
  const auto error = [](const std::string& text) {
    return error_of([&] { parse_config(text, "f"); });
  };
  CHECK(error("listen = 1:1\n\nfoo = 1") ==
        "f:3: unknown key \"foo\"; primgr.conf.example shows every key");
  CHECK(error("db_timeout = 1s\ndb_timeout = 2s") ==
        "f:2: key \"db_timeout\" was set before, at f:1");
  CHECK(error("peer.n_1 = a\npeer.N-1 = b") == "f:2: key \"peer.N-1\" was set before, at f:1");
  CHECK(error("listen") == "f:1: not of the form key = value");
  CHECK(error("= 3") == "f:1: not of the form key = value");
  CHECK(error("db_timeout 3s").starts_with("f:1: not of the form"));
  CHECK(error("node_name = 'a").ends_with("the closing quote is missing"));
  CHECK(error("node_name = 'a' b").ends_with("there is more after the closing quote"));
  CHECK(error("node_name =").ends_with("the value is empty"));
  CHECK(error("on_change = fence") ==
        "f:1: on_change: \"fence\" is not the whole path of a program");
  CHECK(error("peer. = x").ends_with("the value is empty"));
  CHECK(error("cache_ttl = 1s\nrefresh_interval = 1s")
            .starts_with("f:1: cache_ttl (1s) must be longer than refresh_interval (1s)"));
  CHECK(error("\nvote_lease = 3s")
            .starts_with("f:2: vote_lease (3s) less 1 % and check_delay (1s) must be longer than "
                         "refresh_interval + peer_timeout (2s), or votes expire"));
  CHECK(error("peer_timeout = 2s").starts_with("f:1: vote_lease (4s) less 1 % and"));
  CHECK(error("check_delay = 1960ms").starts_with("f:1: vote_lease (4s) less 1 % and"));
  CHECK(error("check_delay = 1959ms") == "no error");
  CHECK(error("check_delay = 0\nvote_lease = 2030ms") == "no error");
  CHECK(error("conninfo = 'hots=x'").starts_with("f:1: conninfo: not a libpq connection string: "));
  for (const char* line :
       {"conninfo = 'password=not hush'", "conninfo = 'scram_client_key=not hush'",
        "conninfo = postgresql://u:p@[hush"}) {
    CAPTURE(line);
    CHECK(error(line).starts_with("f:1: conninfo: not a libpq connection string"));
    CHECK(error(line).find("hush") == std::string::npos);
  }
}

TEST_CASE("bad values are refused with their line") {
  for (const char* line : {"listen = 5999",
                           "listen = :5999",
                           "listen = a:",
                           "listen = a:0",
                           "listen = a:65536",
                           "listen = ::1:5999",
                           "listen = [::1",
                           "listen = [[x]:1",
                           "listen = [::1]5999",
                           "peer.a = b c",
                           "peer.a =",
                           "db_timeout = 5 parsecs",
                           "db_timeout = s",
                           "db_timeout = -1s",
                           "db_timeout = 0",
                           "db_timeout = nan",
                           "db_timeout = inf",
                           "db_timeout = 1e99s",
                           "db_timeout = 9h",
                           "cache_ttl = 21s",
                           "peer_timeout = 2min",
                           "max_connections_in_pool = 4",
                           "max_connections_in_pool = 0",
                           "max_clients = 40x",
                           "max_clients = 31",
                           "max_clients = 99999999999",
                           "http_threads = 1x",
                           "http_threads = 257",
                           "consensus = Site",
                           "log_level = loud",
                           "on_change =",
                           "on_change = notify",
                           "on_change = ~/notify",
                           "on_change_timeout = 0",
                           "on_change_timeout = 61min",
                           "peer_port = -1"}) {
    CAPTURE(line);
    CHECK(error_of([&] { parse_config(line, "f"); }).starts_with("f:1: "));
  }
}

TEST_CASE("what --check-config prints reads back as the same, and shows no secret") {
  bool knows_scram_keys = false;  // since PostgreSQL 18
  PQconninfoOption* const known = PQconndefaults();
  for (const auto* option = known; option && option->keyword; ++option) {
    if (std::string_view(option->keyword) == "scram_server_key") knows_scram_keys = true;
  }
  PQconninfoFree(known);
  const Config config = parse_config(
      "conninfo = 'host=/tmp password=hu''sh user=''a b'' dbname=''\tc'' sslpassword=hush" +
          std::string(knows_scram_keys ? " scram_server_key=hush" : "") +
          "'\npeer.n2 = [::1]:7\nnode_name = '#o''x'",
      "f");
  const std::string text = print_config(config);
  CHECK(text.find("dbname=''\tc''") != std::string::npos);
  CHECK(text.find("hush") == std::string::npos);
  CHECK(text.find("hu'sh") == std::string::npos);
  const Config again = parse_config(text, "printed");
  CHECK(again.node.node_name == "#o'x");
  CHECK(print_config(again) == text);
}

TEST_CASE("primgr.conf.example shows every key with its default") {
  const std::string example = read_file("primgr.conf.example");
  const Config defaults = parse_config(example, "primgr.conf.example");
  std::string uncommented;
  std::istringstream lines(example);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("#") && line.size() > 1 && line[1] != ' ') {
      uncommented += line.substr(1) + "\n";
    }
  }
  const Config shown = parse_config(uncommented, "example");
  for (const Config_Key& key : config_keys()) {
    CAPTURE(key.name);
    CHECK(uncommented.find(std::string(key.name) + " = ") != std::string::npos);
    const std::string name = key.name;
    if (name != "node_name" && name != "repmgr_conf" && name != "state_file" &&
        name != "state_directory" && name != "on_change" && !name.starts_with("tls_"))
      CHECK(key.print(shown) == key.print(defaults));
    CHECK(key.print(defaults) == key.print(Config()));
  }
  CHECK(shown.peers.by_name.size() == 2);
}

TEST_CASE("what may be part of a password is not shown") {
  CHECK(error_of([] { parse_config("conninfo = postgresql://u:my@secret@h/db\n", "f"); }) ==
        "f:1: conninfo: its host has an @: in a URL, write that of a password as %40");
  CHECK(print_conninfo("postgresql://u:12/secret@h/db").find("secret") == std::string::npos);
  CHECK(print_conninfo("dbname='password=secret x=1'").find("secret") == std::string::npos);
  CHECK(print_conninfo("user=u password=x host=h", true) == "user=u host=h");
  CHECK(print_conninfo("host=@abstract dbname=db").find("host=@abstract") != std::string::npos);
  CHECK(conninfo_host("postgresql://u:my@secret@h/db").name == "");
}

TEST_CASE("a file that is no configuration is refused with the reason") {
  CHECK(error_of([] {
          read_file("/nonexistent/x");
        }).starts_with("/nonexistent/x: cannot read it: "));
  CHECK(error_of([] { read_file("/"); }) == "/: not a regular file");
  CHECK(error_of([] { read_file("/dev/zero"); }) == "/dev/zero: not a regular file");
  const State_Folder folder;
  const std::string path = folder.path("file");
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);  // nobody writes to it
  CHECK(error_of([&] { read_file(path); }) == path + ": not a regular file");
  CHECK(error_of([&] { load_config(path); }) == path + ": not a regular file");
  CHECK(error_of([&] { read_repmgr_conf(path); }) == path + ": not a regular file");
  std::filesystem::remove(path);
  std::ofstream(path) << std::string(1 << 20, '#');
  CHECK(read_file(path).size() == 1 << 20);
  std::ofstream(path, std::ios::app) << '#';
  CHECK(error_of([&] { read_file(path); }).starts_with(path + ": larger than 1 MB"));
  std::filesystem::remove(path);
  CHECK(error_of([] { read_file("build/tests"); }).starts_with("build/tests: "));
}

TEST_CASE("under systemd the unit says where the state is, unless configured") {
  const State_Folder folder;
  const std::string path = folder.path("primgr.conf");
  const auto check = [&](std::string Config::*key, const std::string& name, const char* variable,
                         const char* folder_of_unit, const std::string& expected) {
    CAPTURE(name);
    std::ofstream(path) << "node_name = n1\n";
    CHECK(load_config(path).*key == "");
    setenv(variable, folder_of_unit, 1);
    CHECK(load_config(path).*key == expected);
    std::ofstream(path) << "node_name = n1\n" << name << " = /tmp/x\n";
    CHECK(load_config(path).*key == "/tmp/x");
    unsetenv(variable);
  };
  check(&Config::state_file, "state_file", "RUNTIME_DIRECTORY", "/run/primgr",
        "/run/primgr/grants");
  check(&Config::state_directory, "state_directory", "STATE_DIRECTORY", "/var/lib/primgr",
        "/var/lib/primgr");
}

TEST_CASE("an error about a connection string quotes nothing of a password") {
  const auto error = [](const std::string& text) {
    return error_of([&] { parse_config(text, "f"); });
  };
  for (const char* line : {"conninfo = 'user:hush@host/db'",
                           "conninfo = 'user:hush@host/db host=x'",
                           "conninfo = 'user:hush@host/db=x'",
                           "conninfo = 'host=x hush@y'",
                           "conninfo = 'hush'",
                           "conninfo = 'user=x password=a hush=b'",
                           "conninfo = 'host=''x hush'",
                           "conninfo = postgresql://u:hush@h:x/db?foo=1",
                           "conninfo = postgresql://u:%zzhush@h/db",
                           "conninfo = postgresql://u:hush/db",
                           "conninfo = postgres://u:p@h/db?hush",
                           "conninfo = postgresql://u:p@h/db?hush=1",
                           "conninfo = 'dbname=postgresql://u:hush@h/db'",
                           "conninfo = 'host=postgresql://u:hush@h/db'",
                           "postgresql://u:hush@h/db?sslmode=require",
                           "postgresql://u:hush@h/db",
                           "conninfo: 'password=hush'",
                           "password hush",
                           "conninfo = 'password=hush",
                           "conninfo = 'password=hush' hush",
                           "conninfo = host=x\nu:hush@h=1\nu:hush@h=1"}) {
    CAPTURE(line);
    const std::string told = error(line);
    CHECK(told.starts_with("f:"));
    CHECK(told.find("hush") == told.npos);
  }
  CHECK(error("conninfo = 'hots=x'") ==
        "f:1: conninfo: not a libpq connection string: libpq knows no option \"hots\"");
  for (const char* line :
       {"conninfo = '\"host=x\"'", "conninfo = '=x'", "conninfo = '\"host=pass'"}) {
    CHECK(error(line).find("a keyword is missing, or begins with a double quote") !=
          std::string::npos);
  }
  for (const std::string key : {"conninfo", "node_name", "listen", "repmgr_conf", "peer.n2"}) {
    CHECK(error(key + " = \"host=pass x\"") ==
          "f:1: the value begins with a double quote: put it in single quotes");
  }
  CHECK(error("conninfo = 'host'").find("not of the form keyword=value") != std::string::npos);
  CHECK(error("conninfo = postgresql://u@h:65433,g:1/db") == "no error");
  const Config config =
      parse_config("conninfo = postgresql://u:hush%3A@h/db?sslpassword=hush", "f");
  CHECK(print_config(config).find("hush") == std::string::npos);
}

TEST_SUITE_END();
