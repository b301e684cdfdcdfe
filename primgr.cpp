// primgr: says over HTTP and to shell scripts what this node of a repmgr cluster is right now.
//
// This file is the process and the wire: command line, configuration, log, signals, the HTTP
// endpoints and the HTTP client. What the node knows and decides is in repmgr_node.hpp.

// cpp-httplib's own backlog of 5 drops SYNs under many connections, which stalls checks.
#define CPPHTTPLIB_LISTEN_BACKLOG 4096
// Bounds a line of a request or a reply. Also for safety: the client matches the status line with
// std::regex, which recurses for each character (a line of 4,096 needs 1 MB of stack).
#define CPPHTTPLIB_MAX_LINE_LENGTH 4096
#define CPPHTTPLIB_OPENSSL_SUPPORT
#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <httplib.h>
#include <limits.h>
#include <malloc.h>
#include <netdb.h>
#include <nss.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include <algorithm>
#include <charconv>
#include <cmath>
#include <condition_variable>
#include <fstream>
#include <iostream>
#include <list>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "repmgr_node.hpp"

namespace primgr {

using namespace std::chrono_literals;
using std::chrono::duration_cast;
using std::chrono::milliseconds;
using Deadline = std::chrono::steady_clock::time_point;

// Exit statuses from sysexits.h, as repmgr and others use them.
constexpr int exit_usage = 64;
constexpr int exit_unavailable = 69;
constexpr int exit_config = 78;

// ---- log ----------------------------------------------------------------------------------------

constexpr const char* log_level_names[] = {"error", "warning", "info", "debug"};

// A character that begins at `at`: its length, and whether it is shown as it is. Control characters
// (those of C1 too, which terminals obey) and those that turn the direction of writing or break the
// line are not; nor are bytes that are no UTF-8, of which one is taken at a time.
struct Character {
  std::size_t length = 1;
  char32_t code = 0;  // of a character that is UTF-8
  bool is_utf8 = false;
  bool shown = false;
};
Character character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  Character c;
  const unsigned char first = byte(at);
  c.length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (c.length == 0 || first > 0xf4 || at + c.length > text.size()) return {};
  c.code = c.length == 1 ? first : first & (0x7fU >> c.length);
  for (std::size_t i = 1; i < c.length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return {};
    c.code = c.code << 6 | (byte(at + i) & 0x3fU);
  }
  // Written longer than need be, a surrogate, or beyond Unicode.
  if ((c.length == 3 && c.code < 0x800) || (c.length == 4 && c.code < 0x10000) ||
      (c.code >= 0xd800 && c.code < 0xe000) || c.code > 0x10ffff) {
    return {};
  }
  const auto among = [&](char32_t low, char32_t high) { return c.code >= low && c.code <= high; };
  c.is_utf8 = true;
  c.shown = !(c.code < 0x20 || among(0x7f, 0x9f) || c.code == 0x61c || among(0x200e, 0x200f) ||
              among(0x2028, 0x202e) || among(0x2066, 0x2069));
  return c;
}

// Names and messages come from the network and the database: what is not to be shown as it is (see
// above) is written as an escape, so that it does not reach the terminal.
std::string printable(std::string_view text) {
  std::string safe;
  for (std::size_t at = 0; at < text.size();) {
    const Character c = character_at(text, at);
    if (c.shown) {
      safe += text.substr(at, c.length);
    } else {
      char escaped[8];
      const bool wide = c.is_utf8 && c.code >= 0x80;
      std::snprintf(escaped, sizeof escaped, wide ? "\\u%04x" : "\\x%02x",
                    wide ? static_cast<unsigned>(c.code) : static_cast<unsigned char>(text[at]));
      safe += escaped;
    }
    at += c.length;
  }
  return safe;
}

// The same for a JSON text, of which it makes one that says the same: such characters stand in
// strings only.
std::string printable_json(std::string json) {
  for (std::size_t at = 0; at < json.size();) {
    const auto byte = static_cast<unsigned char>(json[at]);
    const Character c = byte < 0x7f ? Character{1, byte, true, true} : character_at(json, at);
    if (c.is_utf8 && !c.shown) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c.code));
      json.replace(at, c.length, escaped);
    }
    at += c.length;
  }
  return json;
}

using Json = nlohmann::ordered_json;

// Bytes that are no UTF-8 (a database in SQL_ASCII can name a node so) are replaced, not refused.
std::string dump(const Json& json) {
  return printable_json(json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

// A moment in UTC, as RFC 3339 has it.
std::string print_time(const timespec& time) {
  tm utc{};
  gmtime_r(&time.tv_sec, &utc);
  char day[32], text[48];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text, sizeof text, "%s.%03ldZ", day, time.tv_nsec / 1'000'000);
  return text;
}

// The wall clock, so long ago.
timespec wall_clock(Time ago = {}) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const Time then = std::chrono::seconds(now.tv_sec) + Time(now.tv_nsec) - ago;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(then);
  return {seconds.count(), (then - seconds).count()};
}

enum class Log_Format { text, json };

// Writes one line an event to standard error, with the time, or for journald (which knows the time)
// with the priority that it understands.
//
// Thread-safe, and never waits for whoever reads the log: checks are answered also while nobody
// does. A line that is not taken at once is dropped, and counted; as soon as lines are taken again,
// one of them says how many were lost. The mutex keeps lines whole and guards what is below it.
// Nothing blocks while it is held:
// - to a socket (journald's) everything is sent with MSG_DONTWAIT;
// - a pipe or a terminal is opened anew with O_NONBLOCK. Set on the inherited descriptor, the flag
//   would be in force for every process that shares it. Where it cannot be opened anew (no /proc,
//   or another user's), poll(2) tells first whether it takes PIPE_BUF bytes, and a line to a pipe
//   is no longer than that. Another process that fills the pipe in between can still make this one
//   wait;
// - a file is written to as ever.
class Stderr_Log {
 public:
  explicit Stderr_Log(Log_Level level, Log_Format format = Log_Format::text)
      : level_(level), format_(format), journal_(getenv("JOURNAL_STREAM")) {
    struct stat file {};
    if (fstat(STDERR_FILENO, &file) != 0) return;
    is_socket_ = S_ISSOCK(file.st_mode);
    if (S_ISFIFO(file.st_mode)) most_ = PIPE_BUF;
    if (S_ISFIFO(file.st_mode) || isatty(STDERR_FILENO)) {
      const int fd =
          open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_APPEND | O_CLOEXEC);
      if (fd >= 0) fd_ = fd;
    }
  }
  ~Stderr_Log() {
    if (fd_ != STDERR_FILENO) close(fd_);
  }
  Stderr_Log(const Stderr_Log&) = delete;
  Stderr_Log& operator=(const Stderr_Log&) = delete;

  bool wants(Log_Level level) const { return level <= level_; }

  void operator()(Log_Level level, const std::string& message) const {
    if (!wants(level)) return;
    const std::lock_guard lock(mutex_);
    try {
      put_line(print(level, message));
    } catch (const std::bad_alloc&) {
      ++lost_;
    }
  }

 private:
  // REQUIRES mutex_.
  void put_line(const std::string& line) const {
    // A line that was taken in part is ended before the next.
    const auto put = [&](const std::string& text) {
      if (!rest_.empty()) rest_.erase(0, write_some(rest_));
      if (!rest_.empty()) return false;
      const std::size_t taken = write_some(text);
      if (taken > 0) rest_ = text.substr(taken);
      return taken > 0;
    };
    if (lost_ > 0 && put(print(Log_Level::warning, std::to_string(lost_) +
                                                       " lines of this log were lost: nobody "
                                                       "took them from standard error"))) {
      lost_ = 0;
    }
    if (lost_ > 0 || !put(line)) ++lost_;
  }

  std::string print(Log_Level level, const std::string& message) const {
    static constexpr const char* priority[] = {"<3>", "<4>", "<6>", "<7>"};
    const char* name = log_level_names[static_cast<int>(level)];
    const std::string time = print_time(wall_clock());
    const auto form = [&](const std::string& text) {
      std::string line = journal_ ? priority[static_cast<int>(level)] : "";
      if (format_ == Log_Format::json) {
        line += dump({{"time", time}, {"level", name}, {"message", text}});
      } else {
        if (!journal_) line += time + " " + name + ": ";
        line += printable(text);
      }
      return line + '\n';
    };
    std::string line = form(message);
    for (std::size_t kept = message.size(); line.size() > most_ && kept > 0;) {
      kept = kept * most_ / line.size();
      line = form(message.substr(0, kept) + "...");
    }
    return line;
  }

  // How much of it is taken now.
  std::size_t write_some(const std::string& text) const {
    ssize_t taken = -1;
    if (is_socket_) {
      taken = send(fd_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    } else if (pollfd ready{fd_, POLLOUT, 0}; fd_ != STDERR_FILENO || poll(&ready, 1, 0) > 0) {
      taken = write(fd_, text.data(), text.size());
    }
    return static_cast<std::size_t>(std::max<ssize_t>(taken, 0));
  }

  const Log_Level level_;
  const Log_Format format_;
  const bool journal_;
  int fd_ = STDERR_FILENO;
  bool is_socket_ = false;
  std::size_t most_ = SIZE_MAX;  // bytes a line
  mutable std::mutex mutex_;
  mutable std::string rest_;  // of a line that was taken in part
  mutable std::uint64_t lost_ = 0;
};

// ---- configuration ------------------------------------------------------------------------------

// Where HTTP is served or asked.
struct Address {
  std::string host;  // a name or an address; IPv6 without brackets
  int port = 0;
};

struct Config {
  Node_Settings node;
  Address listen{"0.0.0.0", 5999};
  std::string repmgr_conf;
  int peer_port = 5999;
  std::map<std::string, Address> peers;  // by node name as configured; port 0: peer_port
  std::string state_file;
  int http_threads = 8;
  std::string tls_cert, tls_key, tls_ca;  // names of PEM files
  Log_Level log_level = Log_Level::info;
};

// What is wrong with a value, a line or the command line; what() is for the user to read.
struct Config_Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

int parse_integer(const std::string& text, int low, int high) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < low || number > high) {
    throw Config_Error("\"" + text + "\" is not a whole number from " + std::to_string(low) +
                       " to " + std::to_string(high));
  }
  return number;
}

struct Unit {
  const char* name;
  Time length;
};
constexpr Unit units[] = {{"us", 1us},   {"ms", 1ms}, {"s", 1s},
                          {"min", 1min}, {"h", 1h},   {"d", 24h}};

// In the largest unit that tells it in a whole number.
std::string print_duration(Time duration) {
  const Unit* unit = &units[0];
  for (const Unit& u : units) {
    if (duration % u.length == 0ns) unit = &u;
  }
  return std::to_string(duration / unit->length) + unit->name;
}

// A duration as in postgresql.conf: a number and a unit; a bare number is seconds.
Time parse_duration(const std::string& text, Time low, Time high) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit_name(end, text.data() + text.size());
  unit_name.erase(0, unit_name.find_first_not_of(' '));
  const auto* unit = std::find_if(std::begin(units), std::end(units),
                                  [&](const Unit& u) { return u.name == unit_name; });
  if (unit_name.empty()) unit = &units[2];
  if (error != std::errc() || unit == std::end(units) || !std::isfinite(number)) {
    throw Config_Error("\"" + text + "\" is not a duration such as 200ms, 3s or 1min");
  }
  const double length = number * static_cast<double>(unit->length.count());
  if (length < static_cast<double>(low.count()) || length > static_cast<double>(high.count())) {
    throw Config_Error("\"" + text + "\" is not between " + print_duration(low) + " and " +
                       print_duration(high));
  }
  return Time(std::llround(length));
}

// A size in bytes as in postgresql.conf: a number and a unit; a bare number is bytes.
Lsn parse_size(const std::string& text) {
  static constexpr std::pair<const char*, double> sizes[] = {
      {"", 1}, {"B", 1}, {"kB", 0x1p10}, {"MB", 0x1p20}, {"GB", 0x1p30}, {"TB", 0x1p40}};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit_name(end, text.data() + text.size());
  const auto* unit = std::find_if(std::begin(sizes), std::end(sizes),
                                  [&](const auto& size) { return size.first == unit_name; });
  if (error != std::errc() || unit == std::end(sizes) || !(number >= 0) ||
      number * unit->second > 0x1p60) {
    throw Config_Error("\"" + text + "\" is not a size such as 512kB, 16MB or 1GB");
  }
  return static_cast<Lsn>(number * unit->second);
}

// host:port, [IPv6]:port; the port may be left out where default_port is not 0.
Address parse_address(const std::string& text, bool port_needed) {
  Address address;
  std::string rest;
  if (!text.empty() && text.front() == '[') {
    const auto close = text.find(']');
    if (close == std::string::npos) throw Config_Error("\"" + text + "\" has no ] after [");
    address.host = text.substr(1, close - 1);
    rest = text.substr(close + 1);
  } else {
    address.host = text.substr(0, text.find(':'));
    rest = text.substr(address.host.size());
    if (std::count(rest.begin(), rest.end(), ':') > 1) {
      throw Config_Error("\"" + text + "\": write an IPv6 address in brackets: [" + text + "]");
    }
  }
  if (address.host.empty() || (rest.empty() && port_needed) || (!rest.empty() && rest[0] != ':') ||
      address.host.find_first_of(" \t/@?#[]") != std::string::npos) {
    throw Config_Error("\"" + text + "\" is not " + (port_needed ? "ADDRESS:PORT" : "HOST[:PORT]"));
  }
  if (!rest.empty()) address.port = parse_integer(rest.substr(1), 1, 65535);
  return address;
}

std::string print_address(const Address& address) {
  const bool brackets = address.host.find(':') != std::string::npos;
  return (brackets ? "[" + address.host + "]" : address.host) +
         (address.port ? ":" + std::to_string(address.port) : "");
}

// What is wrong with a connection string that libpq cannot read, from its complaint. libpq quotes
// the part that it cannot read, which may be one of a password (user:password@host/db), so it is
// told in words of our own, and of what is quoted only a keyword where nothing looks like a secret.
std::string tell_conninfo_error(const std::string& text, std::string_view complaint) {
  constexpr std::string_view option = "invalid connection option \"";
  const auto has = [&](const char* part) { return text.find(part) != std::string::npos; };
  const bool smells = has("pass") || has("scram") || has("secret") || has(":") || has("@");
  if (complaint.starts_with(option) && !smells) {
    const std::string_view keyword =
        complaint.substr(option.size(), complaint.find('"', option.size()) - option.size());
    if (keyword.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == keyword.npos)
      return "libpq knows no option \"" + std::string(keyword) + "\"";
  }
  std::string what = "a keyword in it is none that libpq knows";
  if (text.starts_with("postgresql://") || text.starts_with("postgres://")) {
    what = "not of the form postgresql://user@host:port/dbname?keyword=value";
  } else if (complaint.starts_with("missing \"=\"")) {
    what = "not of the form keyword=value keyword=value";
  } else if (complaint.starts_with("unterminated quoted string")) {
    what = "the closing quote of a value is missing";
  } else if (!complaint.starts_with(option)) {
    what = "libpq cannot read it";
  }
  return what +
         " (libpq's own words are not shown, since they may quote a password: psql -d with "
         "the same string tells them)";
}

// Throws Config_Error for what libpq cannot read, and for what it would only complain about, with
// the value, when it connects.
std::string parse_conninfo(const std::string& text) {
  char* error = nullptr;
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(
      PQconninfoParse(text.c_str(), &error), PQconninfoFree);
  if (!options) {
    const std::string complaint = error ? error : "out of memory";
    PQfreemem(error);
    throw Config_Error("not a libpq connection string: " + tell_conninfo_error(text, complaint));
  }
  for (const auto* option = options.get(); option->keyword; ++option) {
    if (!option->val || *option->dispchar == '*') continue;
    const std::string_view keyword = option->keyword, value = option->val;
    if (keyword == "port" && value.find_first_not_of("0123456789,") != value.npos) {
      throw Config_Error("its port is no number: is the part from user to host complete?");
    }
    if (value.find("://") != value.npos) {
      throw Config_Error("its " + std::string(keyword) +
                         " is a URL: give the URL alone, without keyword=");
    }
    // No host has one, but for a socket in the abstract namespace, which begins with it.
    if (keyword == "host" && value.find('@', 1) != value.npos) {
      throw Config_Error("its host has an @: in a URL, write that of a password as %40");
    }
  }
  return text;
}

// The connection string as keywords and values, with its secrets hidden.
std::string print_conninfo(const std::string& conninfo) {
  PQconninfoOption* options = PQconninfoParse(conninfo.c_str(), nullptr);
  std::string text;
  for (auto* option = options; option && option->keyword; ++option) {
    if (!option->val) continue;
    std::string value;
    const std::string_view keyword = option->keyword;
    // libpq marks passwords, and not the keys that are as good as one.
    // A database's name with an @ or = may be the rest of one.
    const bool rest = keyword == "dbname" && strpbrk(option->val, "@=");
    if (std::string_view(option->dispchar) == "*" || keyword.starts_with("scram_") || rest) {
      value = "********";
    } else {
      for (const char c : std::string_view(option->val)) {
        if (c == '\'' || c == '\\') value += '\\';
        value += c;
      }
    }
    const bool plain = !value.empty() && value.find_first_of(" \t\n\v\f\r'\\") == std::string::npos;
    text += (text.empty() ? "" : " ") + std::string(keyword) + "=" +
            (plain ? value : "'" + value + "'");
  }
  PQconninfoFree(options);
  return text;
}

Log_Level parse_log_level(const std::string& text) {
  const auto* found = std::find(std::begin(log_level_names), std::end(log_level_names), text);
  if (found == std::end(log_level_names)) {
    throw Config_Error("\"" + text + "\" is not error, warning, info or debug");
  }
  return static_cast<Log_Level>(found - std::begin(log_level_names));
}

std::string parse_name(const std::string& text) {
  if (text.empty()) throw Config_Error("the value is empty");
  return text;
}

// Every key but peer.<name>: how its value is read and shown.
struct Config_Key {
  const char* name;
  void (*parse)(Config&, const std::string&);
  std::string (*print)(const Config&);
};

constexpr Config_Key config_keys[] = {
    {"listen", [](Config& c, const std::string& v) { c.listen = parse_address(v, true); },
     [](const Config& c) { return print_address(c.listen); }},
    {"conninfo", [](Config& c, const std::string& v) { c.node.conninfo = parse_conninfo(v); },
     [](const Config& c) { return print_conninfo(c.node.conninfo); }},
    {"max_connections_in_pool",
     [](Config& c, const std::string& v) {
       c.node.max_connections_in_pool = static_cast<std::size_t>(parse_integer(v, 1, 3));
     },
     [](const Config& c) { return std::to_string(c.node.max_connections_in_pool); }},
    {"db_timeout",
     [](Config& c, const std::string& v) { c.node.db_timeout = parse_duration(v, 10ms, 1h); },
     [](const Config& c) { return print_duration(c.node.db_timeout); }},
    {"node_name", [](Config& c, const std::string& v) { c.node.node_name = parse_name(v); },
     [](const Config& c) { return c.node.node_name; }},
    {"repmgr_conf", [](Config& c, const std::string& v) { c.repmgr_conf = parse_name(v); },
     [](const Config& c) { return c.repmgr_conf; }},
    {"peer_port", [](Config& c, const std::string& v) { c.peer_port = parse_integer(v, 1, 65535); },
     [](const Config& c) { return std::to_string(c.peer_port); }},
    {"peer_timeout",
     [](Config& c, const std::string& v) { c.node.peer_timeout = parse_duration(v, 10ms, 1min); },
     [](const Config& c) { return print_duration(c.node.peer_timeout); }},
    {"refresh_interval",
     [](Config& c, const std::string& v) {
       c.node.refresh_interval = parse_duration(v, 10ms, 20s);
     },
     [](const Config& c) { return print_duration(c.node.refresh_interval); }},
    {"vote_lease",
     [](Config& c, const std::string& v) { c.node.vote_lease = parse_duration(v, 20ms, 1min); },
     [](const Config& c) { return print_duration(c.node.vote_lease); }},
    {"cache_ttl",
     [](Config& c, const std::string& v) { c.node.cache_ttl = parse_duration(v, 10ms, 20s); },
     [](const Config& c) { return print_duration(c.node.cache_ttl); }},
    {"consensus",
     [](Config& c, const std::string& v) {
       if (v != "site" && v != "cluster")
         throw Config_Error("\"" + v + "\" is not site or cluster");
       c.node.consensus_cluster = v == "cluster";
     },
     [](const Config& c) { return std::string(c.node.consensus_cluster ? "cluster" : "site"); }},
    {"state_file", [](Config& c, const std::string& v) { c.state_file = parse_name(v); },
     [](const Config& c) { return c.state_file; }},
    {"http_threads",
     [](Config& c, const std::string& v) { c.http_threads = parse_integer(v, 1, 256); },
     [](const Config& c) { return std::to_string(c.http_threads); }},
    {"tls_cert", [](Config& c, const std::string& v) { c.tls_cert = parse_name(v); },
     [](const Config& c) { return c.tls_cert; }},
    {"tls_key", [](Config& c, const std::string& v) { c.tls_key = parse_name(v); },
     [](const Config& c) { return c.tls_key; }},
    {"tls_ca", [](Config& c, const std::string& v) { c.tls_ca = parse_name(v); },
     [](const Config& c) { return c.tls_ca; }},
    {"log_level", [](Config& c, const std::string& v) { c.log_level = parse_log_level(v); },
     [](const Config& c) { return std::string(log_level_names[static_cast<int>(c.log_level)]); }},
};

constexpr std::string_view blank = " \t\r";

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(blank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

// The value that starts a line's rest: in single quotes ('' is a quote), or up to a comment.
std::string parse_value(std::string_view rest) {
  rest = trimmed(rest);
  if (rest.empty() || rest.front() != '\'') {
    for (std::size_t i = 0; i < rest.size(); ++i) {
      if (rest[i] == '#' && (i == 0 || blank.find(rest[i - 1]) != blank.npos)) {
        rest = rest.substr(0, i);
      }
    }
    return std::string(trimmed(rest));
  }
  std::string value;
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (rest[i] != '\'') {
      value += rest[i];
    } else if (i + 1 < rest.size() && rest[i + 1] == '\'') {
      value += rest[i++];
    } else {
      const std::string_view after = trimmed(rest.substr(i + 1));
      if (after.empty() || after.front() == '#') return value;
      throw Config_Error("there is more after the closing quote");
    }
  }
  throw Config_Error("the closing quote is missing");
}

// A line `key = value`; an empty key for a blank line or a comment.
std::pair<std::string, std::string> parse_line(std::string_view line) {
  line = trimmed(line);
  if (line.empty() || line.front() == '#') return {};
  const auto key_end = std::min(line.find_first_of(" \t="), line.size());
  const std::string_view rest = trimmed(line.substr(key_end));
  if (key_end == 0 || !rest.starts_with('=')) throw Config_Error("not of the form key = value");
  return {std::string(line.substr(0, key_end)), parse_value(rest.substr(1))};
}

// A key, quoted, for a complaint. A line that begins with a connection string has one that may hold
// a password.
std::string tell_key(const std::string& key) {
  const bool plain = key.find_first_of(":@") == key.npos;
  return plain ? " \"" + key + "\"" : "";
}

// The whole of a regular file. Throws Config_Error if it is none (it is not waited for whoever has
// the other end of a pipe), cannot be read, or is no text of sensible size.
std::string read_file(const std::string& path) {
  constexpr std::size_t limit = 1 << 20;
  const auto failed = [&] {
    return Config_Error(path + ": cannot read it: " + std::strerror(errno));
  };
  // Some devices do something when they are opened, hence stat() first.
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) throw failed();
  const auto check = [&] {
    if (!S_ISREG(status.st_mode)) throw Config_Error(path + ": not a regular file");
  };
  check();
  const int fd = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) throw failed();
  struct Closed {
    const int fd;
    ~Closed() { close(fd); }
  } const closed{fd};
  if (fstat(fd, &status) != 0) throw failed();
  check();
  std::string text(limit + 1, '\0');
  std::size_t size = 0;
  for (ssize_t n = 1; n > 0 && size < text.size();) {
    n = read(fd, text.data() + size, text.size() - size);
    if (n < 0 && errno != EINTR) throw failed();
    size += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
    if (n < 0) n = 1;
  }
  text.resize(size);
  if (text.size() > limit) throw Config_Error(path + ": larger than 1 MB: this is no such file");
  if (text.find('\0') != text.npos) throw Config_Error(path + ": has a NUL byte: this is no text");
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  return text;
}

// Calls `take` with each line and its "file:line: " prefix.
template <typename Take>
void for_each_line(const std::string& text, const std::string& file, Take take) {
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    take(line, file + ":" + std::to_string(number) + ": ");
  }
}

// Reads the text of a configuration file; `file` is for messages. Throws Config_Error, with
// "file:line: ", at an unknown key, a bad value or a repeated key.
Config parse_config(const std::string& text, const std::string& file) {
  constexpr const char* lease_keys[] = {"vote_lease", "refresh_interval", "peer_timeout"};
  Config config;
  std::map<std::string, std::string> seen;  // key, where
  for_each_line(text, file, [&](const std::string& line, const std::string& where) {
    try {
      const auto [key, value] = parse_line(line);
      if (key.empty()) return;
      const bool is_peer = key.starts_with("peer.");
      std::string canonical = key;
      if (is_peer) {
        for (char& c : canonical) c = c == '_' ? '-' : static_cast<char>(std::tolower(c));
      }
      if (const auto [first, added] = seen.emplace(canonical, where); !added) {
        throw Config_Error("key" + tell_key(key) + " was set before, at " +
                           first->second.substr(0, first->second.size() - 2));
      }
      if (is_peer) {
        config.peers[parse_name(key.substr(5))] = parse_address(value, false);
        return;
      }
      const auto* known =
          std::find_if(std::begin(config_keys), std::end(config_keys),
                       [&, &name = key](const Config_Key& k) { return name == k.name; });
      if (known == std::end(config_keys)) {
        throw Config_Error("unknown key" + tell_key(key) + "; primgr.conf.example shows every key");
      }
      try {
        known->parse(config, value);
      } catch (const Config_Error& error) {
        throw Config_Error(key + ": " + error.what());
      }
    } catch (const Config_Error& error) {
      throw Config_Error(where + error.what());
    }
  });
  const Time renewal = config.node.refresh_interval + config.node.peer_timeout;
  if (config.node.vote_lease <= renewal) {
    const auto key = std::find_if(std::begin(lease_keys), std::end(lease_keys),
                                  [&](const char* k) { return seen.contains(k); });
    throw Config_Error(seen[*key] + "vote_lease (" + print_duration(config.node.vote_lease) +
                       ") must be longer than refresh_interval + peer_timeout (" +
                       print_duration(renewal) + "), or votes expire before they are renewed");
  }
  if (config.node.cache_ttl <= config.node.refresh_interval) {
    throw Config_Error(seen[seen.contains("cache_ttl") ? "cache_ttl" : "refresh_interval"] +
                       "cache_ttl (" + print_duration(config.node.cache_ttl) +
                       ") must be longer than refresh_interval (" +
                       print_duration(config.node.refresh_interval) + ")");
  }
  if (config.tls_cert.empty() != config.tls_key.empty()) {
    const bool has_cert = config.tls_key.empty();
    throw Config_Error(seen[has_cert ? "tls_cert" : "tls_key"] +
                       "tls_cert and tls_key go together: set " +
                       (has_cert ? "tls_key" : "tls_cert") + " too");
  }
  if (config.tls_cert.empty() && !config.tls_ca.empty()) {
    throw Config_Error(seen["tls_ca"] + "tls_ca goes with tls_cert and tls_key: set them too");
  }
  return config;
}

// node_name of a repmgr.conf, where the = may be left out. Other lines are repmgr's business.
std::string read_repmgr_conf(const std::string& path) {
  constexpr std::string_view key = "node_name";
  std::string name;
  for_each_line(read_file(path), path, [&](std::string_view line, const std::string& where) {
    line = trimmed(line);
    if (!line.starts_with(key)) return;
    line = line.substr(key.size());
    if (line.empty() || (line.front() != '=' && blank.find(line.front()) == blank.npos)) return;
    line = trimmed(line);
    if (line.starts_with('=')) line.remove_prefix(1);
    try {
      name = parse_value(line);
    } catch (const Config_Error& error) {
      throw Config_Error(where + error.what());
    }
  });
  if (name.empty()) throw Config_Error(path + ": has no node_name");
  return name;
}

constexpr const char* default_config_file = "/etc/primgr.conf";

// The configuration file's, and the defaults. No file name: the default file, if there is one.
Config read_config(const std::string& file) {
  const bool no_file = file.empty() && access(default_config_file, F_OK) != 0;
  const std::string path = file.empty() ? default_config_file : file;
  return no_file ? Config() : parse_config(read_file(path), path);
}

// The configuration in force: that, and who this node is (node_name, else that of repmgr_conf, else
// the host name).
Config load_config(const std::string& file) {
  Config config = read_config(file);
  // systemd names the RuntimeDirectory= of a unit so.
  const char* runtime = getenv("RUNTIME_DIRECTORY");
  if (config.state_file.empty() && runtime && *runtime == '/') {
    config.state_file = std::string(runtime) + "/grants";
  }
  if (!config.node.node_name.empty()) return config;
  if (!config.repmgr_conf.empty()) {
    config.node.node_name = read_repmgr_conf(config.repmgr_conf);
    return config;
  }
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  config.node.node_name = host;
  return config;
}

// What --check-config prints: it can be read back as a configuration file.
std::string print_config(const Config& config) {
  std::string text;
  const auto line = [&](const std::string& key, const std::string& value) {
    std::string quoted;
    for (const char c : value) quoted += c == '\'' ? std::string("\'\'") : std::string(1, c);
    text += key + " = \'" + quoted + "\'\n";
  };
  for (const Config_Key& key : config_keys) {
    const std::string value = key.print(config);
    // An empty conninfo means libpq's defaults, not ours.
    if (!value.empty() || key.name == std::string_view("conninfo")) line(key.name, value);
  }
  for (const auto& [name, address] : config.peers) line("peer." + name, print_address(address));
  return text;
}

// ---- the promise that outlives the process ------------------------------------------------------

// The state_file is another process's.
struct In_Use : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Keeps a voter's grant in a file: one record of a fixed size that names the boot, the voter, whom
// it promised its vote, and until when. Times are those of CLOCK_BOOTTIME, so the kernel's boot id
// tells whether they still mean anything. What is of an earlier boot, of another voter or not whole
// is not believed, and the start-up silence covers it.
//
// The record is overwritten in place, by one pwrite(2). That is enough, since it has to outlive the
// process only, never the kernel: what is written is in the page cache, whether or not it is on a
// disk. A process that is killed meanwhile leaves the old record or the new one, since the kernel
// copies a page before it looks for signals. What is torn in some other way (a full disk) does not
// end in the number that it began with, and is not believed. So there is no second file, and no
// rename(), that could lead elsewhere.
//
// The file is held (flock) for as long as this lives; the kernel lets go of it when the process
// ends, whichever way. Nothing but a regular file is opened, and no link followed.
//
// Not thread-safe: one thread at a time. Any of it may block for as long as the file system
// pleases.
class Grant_File {
 public:
  Grant_File(std::string path, std::string node) : path_(std::move(path)), node_(std::move(node)) {
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot_id_);
  }
  ~Grant_File() { release(); }
  Grant_File(const Grant_File&) = delete;
  Grant_File& operator=(const Grant_File&) = delete;

  // Throws Config_Error if there is something else than a regular file. It touches nothing.
  static void check(const std::string& path) {
    struct stat status {};
    if (lstat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode)) return;
    throw Config_Error("state_file: " + path + " is " +
                       (S_ISLNK(status.st_mode) ? "a link" : "not a regular file") +
                       ": name a file that is this primgr's alone, such as /run/primgr/grants");
  }

  // What is promised. None if that is not known: then `why` says why, or is empty where there was
  // nothing yet. Throws Config_Error as check() does, and if the file holds something that no
  // primgr wrote; In_Use if another process has it.
  std::optional<Grant> load(std::string& why) {
    check(path_);
    why = hold();
    // One that is just ending may need a moment for it.
    for (int i = 0; held_by_another_ && i < 50; ++i) {
      std::this_thread::sleep_for(20ms);
      why = hold();
    }
    if (held_by_another_) throw In_Use("state_file: " + why);
    if (why == path_ + foreign) throw Config_Error("state_file: " + why);
    if (!why.empty()) return std::nullopt;
    std::string text(record_size + 1, '\0');
    const ssize_t size = pread(fd_, text.data(), text.size(), 0);
    if (size < 0) why = failed("read");
    if (size <= 0) return std::nullopt;
    text.resize(static_cast<std::size_t>(size));
    const auto grant = parse(text, boot_id_, node_, boottime(), why);
    if (!grant) why = path_ + " " + why;
    return grant;
  }

  // Empty: it is kept. Otherwise why it is not; then what the file holds is of no later promise.
  std::string save(const Grant& grant) {
    if (const std::string why = hold(); !why.empty()) return why;
    const std::string record = print(grant, boot_id_, node_);
    if (record.size() != record_size) return path_ + ": the names of the nodes are too long for it";
    struct stat status {};
    if (fstat(fd_, &status) != 0) return failed("read");
    // Something else, or longer: nothing of it may stay behind the record.
    if (status.st_size != record_size && ftruncate(fd_, 0) != 0) return failed("write");
    errno = 0;
    if (pwrite(fd_, record.data(), record.size(), 0) == record_size) return {};
    if (errno == 0) errno = ENOSPC;
    const std::string why = failed("write");
    [[maybe_unused]] const int emptied = ftruncate(fd_, 0);
    return why;
  }

  static constexpr ssize_t record_size = 4096;

  // Longer than record_size if the names are.
  static std::string print(const Grant& grant, std::string_view boot_id, std::string_view node) {
    const std::string until = std::to_string(grant.until.count());
    std::string text = "primgr 2 boot=" + std::string(boot_id) + " until=" + until +
                       " node=" + escaped(node) + " to=" + escaped(grant.to) + " ";
    const std::string end = " until=" + until + "\n";
    if (text.size() + end.size() < record_size) text.resize(record_size - end.size(), ' ');
    return text + end;
  }

  // None, and why, if the text is not what print() makes, is of another boot or another node, or
  // promises longer than any vote_lease can: then nothing is known.
  static std::optional<Grant> parse(std::string_view text, std::string_view boot_id,
                                    std::string_view node, Time now, std::string& why) {
    const std::string_view whole = text;
    why = "is damaged, or of another version";
    const auto next = [&](std::string_view key) -> std::optional<std::string_view> {
      if (!text.starts_with(key)) return std::nullopt;
      const auto end = std::min(text.find(' '), text.size());
      const std::string_view value = text.substr(key.size(), end - key.size());
      text.remove_prefix(std::min(end + 1, text.size()));
      return value;
    };
    if (!text.starts_with("primgr 2 ")) return std::nullopt;
    text.remove_prefix(9);
    const auto boot = next("boot="), until = next("until="), of = next("node="), to = next("to=");
    if (!boot || !until || !of || !to) return std::nullopt;
    std::int64_t time = 0;
    const auto [end, error] = std::from_chars(until->data(), until->data() + until->size(), time);
    const auto own = unescaped(*of), name = unescaped(*to);
    if (error != std::errc() || end != until->data() + until->size() || !own || !name) {
      return std::nullopt;
    }
    const Grant grant{*name, Time(time)};
    if (whole.size() != record_size || print(grant, *boot, *own) != whole) return std::nullopt;
    if (boot_id.empty() || *boot != boot_id) {
      why = "is of an earlier boot";
      return std::nullopt;
    }
    if (!names_equal(*own, node)) {
      why = "is of the node \"" + *own + "\", not of this one";
      return std::nullopt;
    }
    if (time < 0 || grant.until > now + 2min) {
      why = "promises for longer than a vote_lease can be";
      return std::nullopt;
    }
    why.clear();
    return grant;
  }

 private:
  // As in URLs, so that any byte survives and a name is one word.
  static std::string escaped(std::string_view name) {
    std::string text;
    for (const char c : name) {
      const auto byte = static_cast<unsigned char>(c);
      char hex[4];
      std::snprintf(hex, sizeof hex, "%%%02X", byte);
      const bool plain = std::isalnum(byte) || c == '-' || c == '_' || c == '.';
      text += plain ? std::string(1, c) : hex;
    }
    return text;
  }
  static std::optional<std::string> unescaped(std::string_view text) {
    std::string name;
    for (std::size_t i = 0; i < text.size(); ++i) {
      unsigned char byte = static_cast<unsigned char>(text[i]);
      if (text[i] == '%') {
        if (i + 2 >= text.size()) return std::nullopt;
        const char* const hex = text.data() + i + 1;
        const auto [end, error] = std::from_chars(hex, hex + 2, byte, 16);
        if (error != std::errc() || end != hex + 2) return std::nullopt;
        i += 2;
      }
      name += static_cast<char>(byte);
    }
    return name;
  }

  std::string failed(const char* what) const {
    return "cannot " + std::string(what) + " " + path_ + ": " + std::strerror(errno);
  }

  void release() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

  // Opens the file that the path names now, and locks it, unless that is so. Empty, or why not.
  std::string hold() {
    held_by_another_ = false;
    struct stat there {
    }, here{};
    const bool exists = lstat(path_.c_str(), &there) == 0;
    if (exists && !S_ISREG(there.st_mode)) return path_ + " is no longer a regular file";
    if (exists && fd_ >= 0 && fstat(fd_, &here) == 0 && here.st_ino == there.st_ino &&
        here.st_dev == there.st_dev) {
      return {};
    }
    release();
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
               0600);
    if (fd_ < 0) return failed("open");
    std::string why;
    if (fstat(fd_, &here) != 0) {
      why = failed("open");
    } else if (!S_ISREG(here.st_mode)) {
      why = path_ + " is no longer a regular file";
    } else if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      held_by_another_ = errno == EWOULDBLOCK;
      why = held_by_another_ ? path_ + " is in use by another process" + holder(here)
                             : failed("lock");
    } else if (is_foreign()) {
      why = path_ + foreign;
    }
    if (!why.empty()) release();
    return why;
  }

  static constexpr const char* foreign =
      " holds something else than a promise: name a file that is this primgr's alone";

  // Whether there is something in the file that no primgr wrote: it is not to be overwritten.
  bool is_foreign() const {
    char begin[7];
    const ssize_t size = pread(fd_, begin, sizeof begin, 0);
    const auto known = std::string_view("primgr ").substr(0, size > 0 ? std::size_t(size) : 0);
    return size > 0 && std::string_view(begin, std::size_t(size)) != known;
  }

  // Which one has it, if the kernel tells: "12: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode>
  // ….
  static std::string holder(const struct stat& file) {
    char place[64];
    std::snprintf(place, sizeof place, "%02x:%02x:%ju", major(file.st_dev), minor(file.st_dev),
                  static_cast<std::uintmax_t>(file.st_ino));
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);) {
      std::istringstream words(line);
      std::string number, kind, mode, access, pid, where;
      if (words >> number >> kind >> mode >> access >> pid >> where && kind == "FLOCK" &&
          where == place) {
        return " (pid " + pid + ")";
      }
    }
    return {};
  }

  const std::string path_, node_;
  std::string boot_id_;
  int fd_ = -1;
  bool held_by_another_ = false;
};

// Lets a store whose functions may block be one that does not: they run in a thread of their own,
// and whoever wants something of it waits for so long only.
//
// Thread-safe. The mutex guards what is in Shared, and is not held while the store works. The
// thread has its share in that, so that one which hangs for ever outlives this harmlessly: it logs
// nothing, and touches nothing else. One thing is done at a time, in the order in which it was
// wanted.
class Grant_Keeper {
 public:
  struct Store {
    // As Grant_File's load() and save().
    std::function<std::optional<Grant>(std::string& why)> load;
    std::function<std::string(const Grant&)> save;
  };

  // Throws std::system_error if there is no thread to be had.
  Grant_Keeper(Store store, Logger log) : log_(std::move(log)) {
    shared_->store = std::move(store);
    std::thread(serve, shared_).detach();
  }
  // Waits for the thread, but not for one that hangs.
  ~Grant_Keeper() {
    std::unique_lock lock(shared_->mutex);
    shared_->ending = true;
    shared_->changed.notify_all();
    shared_->changed.wait_for(lock, 100ms, [this] { return shared_->ended; });
  }
  Grant_Keeper(const Grant_Keeper&) = delete;
  Grant_Keeper& operator=(const Grant_Keeper&) = delete;

  // What was promised, none if it is not known or not told within `timeout`. Throws what the store
  // throws. Call it first.
  std::optional<Grant> load(std::chrono::milliseconds timeout) {
    std::unique_lock lock(shared_->mutex);
    begin([](Shared& shared) {
      shared.thrown = nullptr;
      std::optional<Grant> loaded;
      std::string why;
      std::exception_ptr thrown;
      try {
        loaded = shared.store.load(why);
      } catch (...) {
        thrown = std::current_exception();
      }
      const std::lock_guard held(shared.mutex);
      shared.loaded = loaded;
      shared.why = why;
      shared.thrown = thrown;
    });
    if (!shared_->changed.wait_for(lock, timeout, [this] { return !shared_->job; })) {
      tell(no_answer);
      return std::nullopt;
    }
    if (shared_->thrown) std::rethrow_exception(shared_->thrown);
    if (!shared_->why.empty()) {
      log_(Log_Level::warning,
           "state_file: " + shared_->why + ": this voter is silent for one vote_lease");
    }
    return shared_->loaded;
  }

  // As Grant_Store::save. A grant that is written late was not given, so what it does is to bind
  // this voter after a restart to a promise that nobody has: that costs time and no safety.
  Grant save(const Grant& grant, Deadline until) {
    std::unique_lock lock(shared_->mutex);
    const auto ready = [this] { return !shared_->job; };
    // Who hangs is not waited for again.
    if (!ready() && (!trouble_.empty() || !shared_->changed.wait_until(lock, until, ready))) {
      tell(no_answer);
      return certain();
    }
    shared_->writing = grant;
    begin([grant](Shared& shared) {
      const std::string why = shared.store.save(grant);
      const std::lock_guard held(shared.mutex);
      shared.kept = why.empty() ? grant : Grant{};
      shared.why = why;
    });
    if (!shared_->changed.wait_until(lock, until, ready)) {
      tell(no_answer);
    } else if (!shared_->why.empty()) {
      tell("state_file: " + shared_->why + ": this node votes for nobody until it can be kept");
    } else if (!std::exchange(trouble_, {}).empty()) {
      log_(Log_Level::info, "state_file is written again");
    }
    return certain();
  }

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::function<void(Shared&)> job;  // what the thread is to do, or does
    bool ending = false, ended = false;
    Store store;
    std::optional<Grant> loaded;
    std::exception_ptr thrown;
    std::string why;
    Grant writing;  // last
    Grant kept;     // what was written last; an empty one: not known
  };

  static constexpr const char* no_answer =
      "state_file does not answer: this node votes for nobody until it does";

  // These REQUIRE that the mutex is held.
  void begin(std::function<void(Shared&)> job) {
    shared_->job = std::move(job);
    shared_->changed.notify_all();
  }
  // What a restart would believe at least: while something is being written, that or what was there
  // before.
  Grant certain() const {
    const Grant &kept = shared_->kept, &writing = shared_->writing;
    if (!shared_->job) return kept;
    return kept.to == writing.to ? Grant{kept.to, std::min(kept.until, writing.until)} : Grant{};
  }
  void tell(const std::string& trouble) {
    if (std::exchange(trouble_, trouble) != trouble) log_(Log_Level::error, trouble);
  }

  static void serve(std::shared_ptr<Shared> shared) {
    std::unique_lock lock(shared->mutex);
    for (;;) {
      shared->changed.wait(lock, [&] { return shared->job || shared->ending; });
      if (!shared->job) break;
      const auto job = shared->job;
      lock.unlock();
      job(*shared);
      lock.lock();
      shared->job = nullptr;
      shared->changed.notify_all();
    }
    {
      const Store let_go = std::exchange(shared->store, {});
      lock.unlock();
    }
    lock.lock();
    shared->ended = true;
    shared->changed.notify_all();
  }

  const Logger log_;
  std::string trouble_;  // that was told and is not over; guarded by the mutex too
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

// The state_file of a configuration. REQUIRES: there is one.
Grant_Keeper::Store file_store(const Config& config) {
  const auto file = std::make_shared<Grant_File>(config.state_file, config.node.node_name);
  return {[file](std::string& why) { return file->load(why); },
          [file](const Grant& grant) { return file->save(grant); }};
}

// ---- names of hosts -----------------------------------------------------------------------------

bool is_address(const std::string& host) {
  in6_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &address) == 1 ||
         (host.find(':') != host.npos && host.find('%') != host.npos);  // IPv6 with a zone
}

// Looks host names up beside those who need them. getaddrinfo() blocks for as long as name service
// pleases, so each look-up has a thread of its own, one a name at most, and whoever asks gets the
// last good addresses at once: when name service dies with the network, nothing changes.
//
// Thread-safe. A look-up that never ends holds on to what it writes to, not to the Resolver.
class Resolver {
 public:
  // Addresses of `host`, best first; waits for them, `timeout` at most, only while none is known.
  std::vector<std::string> operator()(const std::string& host, Time timeout) {
    if (is_address(host)) return {host};
    const Deadline deadline = std::chrono::steady_clock::now() + timeout;
    std::unique_lock lock(shared_->mutex);
    Entry& entry = shared_->entries[host];
    if (!entry.looking && std::chrono::steady_clock::now() >= entry.fresh_until) {
      try {
        std::thread(look_up, shared_, host).detach();
        entry.looking = true;
      } catch (const std::exception&) {
        // No thread or no memory is to be had now: the last good addresses must do.
      }
    }
    if (entry.addresses.empty()) {
      shared_->looked.wait_until(lock, deadline, [&] { return !entry.looking; });
    }
    return entry.addresses;
  }

 private:
  struct Entry {
    std::vector<std::string> addresses;
    bool looking = false;
    Deadline fresh_until{};
  };
  struct Shared {
    std::mutex mutex;  // guards entries
    std::condition_variable looked;
    std::map<std::string, Entry> entries;
  };

  static void look_up(std::shared_ptr<Shared> shared, std::string host) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    std::vector<std::string> addresses;
    if (getaddrinfo(host.c_str(), nullptr, &hints, &found) == 0) {
      try {
        for (const addrinfo* a = found; a; a = a->ai_next) {
          char text[NI_MAXHOST];
          if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, nullptr, 0,
                          NI_NUMERICHOST) == 0) {
            addresses.emplace_back(text);
          }
        }
      } catch (const std::bad_alloc&) {
        // Those that there was memory for must do.
      }
      freeaddrinfo(found);
    }
    const std::lock_guard lock(shared->mutex);
    Entry& entry = shared->entries[host];
    entry.looking = false;
    if (!addresses.empty()) {
      entry.addresses = std::move(addresses);
      entry.fresh_until = std::chrono::steady_clock::now() + 10s;
    }
    shared->looked.notify_all();
  }

  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

// ---- TLS ----------------------------------------------------------------------------------------

// Certificate (with its chain), key and CA as configured: loaded together, found to fit together,
// and in use together, for those who connect to this node and for the questions to its peers. A
// question reads no file.
//
// Thread-safe: the mutex guards the context in use; a connection keeps the one that it began with.
// A context is not changed once it is in use, so what it holds may be shared by clients.
class Tls {
 public:
  // Throws Config_Error if the files are no pair of certificate and key, or no CA.
  Tls(const Config& config, const Stderr_Log& log)
      : cert_(config.tls_cert), key_(config.tls_key), ca_(config.tls_ca), log_(log) {
    if (!enabled()) return;
    seen_ = stamp();
    context_ = load();
    if (const std::string why = unusable(context_.get()); !why.empty()) {
      log_(Log_Level::error, why + ": other nodes will not take it");
    }
  }

  bool enabled() const { return !cert_.empty(); }
  bool verifies() const { return !ca_.empty(); }

  // What a connection is to speak; null: plain HTTP.
  std::shared_ptr<SSL_CTX> context() const {
    const std::lock_guard lock(mutex_);
    return context_;
  }

  // Lets a client show the certificate in use, and take a server only if tls_ca signed its
  // certificate (if there is one), and if that is for `host` (empty: for any). REQUIRES: enabled().
  //
  // cpp-httplib's own verification is not used: it would add the system's authorities to ours.
  void equip(SSL_CTX* client, const std::string& host) const {
    const auto in_use = context();
    SSL_CTX* from = in_use.get();
    verify_error = X509_V_OK;
    STACK_OF(X509)* chain = nullptr;
    SSL_CTX_get0_chain_certs(from, &chain);
    if (!SSL_CTX_set_min_proto_version(client, TLS1_2_VERSION) ||
        !SSL_CTX_use_certificate(client, SSL_CTX_get0_certificate(from)) ||
        !SSL_CTX_set1_chain(client, chain) ||
        !SSL_CTX_use_PrivateKey(client, SSL_CTX_get0_privatekey(from))) {
      fail("tls");
    }
    if (!verifies()) return;
    SSL_CTX_set1_cert_store(client, SSL_CTX_get_cert_store(from));
    SSL_CTX_set_verify(client, SSL_VERIFY_PEER, [](int ok, X509_STORE_CTX* chain_of) {
      if (!ok) verify_error = X509_STORE_CTX_get_error(chain_of);
      return ok;
    });
    X509_VERIFY_PARAM* expected = SSL_CTX_get0_param(client);
    if (!host.empty() && !X509_VERIFY_PARAM_set1_ip_asc(expected, host.c_str()) &&
        !X509_VERIFY_PARAM_set1_host(expected, host.data(), host.size())) {
      fail("tls");
    }
  }

  // Why the certificate of the server that this thread asked last was not taken: X509_V_OK if it
  // was, or if it did not come to that. A handshake takes place in the thread that asks.
  static inline thread_local int verify_error = X509_V_OK;

  // Reads the files again if they changed, or if told so. Files that do not fit together leave what
  // is in use as it is: they may be half replaced.
  void renew(bool now) {
    if (!enabled()) return;
    const std::string stamped = stamp();
    if (now || stamped != seen_) {
      seen_ = stamped;
      try {
        const auto loaded = load();
        // One that nobody will take is no better than the one in use, unless that is as bad.
        const std::string why = unusable(loaded.get());
        if (!why.empty() && unusable(context().get()).empty()) throw Config_Error(why);
        log_(Log_Level::info, "tls: read " + cert_ + " again");
        expiry_told_ = {};
        const std::lock_guard lock(mutex_);
        context_ = loaded;
      } catch (const Config_Error& error) {
        log_(Log_Level::error, std::string(error.what()) + ": the certificate read before stays");
      }
    }
    tell_expiry();
  }

  // When the certificate in use ends, in seconds since the epoch; none without one.
  std::optional<double> expiry() const {
    const auto in_use = context();
    const X509* cert = in_use ? SSL_CTX_get0_certificate(in_use.get()) : nullptr;
    tm utc{};
    if (!cert || !ASN1_TIME_to_tm(X509_get0_notAfter(cert), &utc)) return std::nullopt;
    return static_cast<double>(timegm(&utc));
  }

  // Once a day, from 30 days before the certificate ends. Call it often.
  void tell_expiry() {
    const auto now = std::chrono::steady_clock::now();
    if (!enabled() || (expiry_told_ && now < *expiry_told_ + 24h)) return;
    expiry_told_ = now;
    int days = 0, seconds = 0;
    const X509* cert = SSL_CTX_get0_certificate(context().get());
    if (!cert || !ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(cert))) return;
    if (days < 0 || seconds < 0) {
      log_(Log_Level::error, "tls_cert: " + cert_ + " has expired: replace it");
    } else if (days < 30) {
      log_(Log_Level::warning,
           "tls_cert: " + cert_ + " expires in " + std::to_string(days) + " days: replace it");
    }
  }

 private:
  struct Free {
    void operator()(X509* cert) const { X509_free(cert); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(BIO* bio) const { BIO_free(bio); }
  };
  using Certificates = std::vector<std::unique_ptr<X509, Free>>;

  // Changes when a file does.
  std::string stamp() const {
    std::string text;
    for (const std::string& path : {cert_, key_, ca_}) {
      struct stat file {};
      if (path.empty() || stat(path.c_str(), &file) != 0) continue;
      for (const auto value :
           {static_cast<std::int64_t>(file.st_mtim.tv_sec),
            static_cast<std::int64_t>(file.st_mtim.tv_nsec), static_cast<std::int64_t>(file.st_ino),
            static_cast<std::int64_t>(file.st_size)}) {
        text += std::to_string(value) + " ";
      }
    }
    return text;
  }

  [[noreturn]] static void fail(const std::string& what) {
    char reason[256];
    ERR_error_string_n(ERR_peek_last_error(), reason, sizeof reason);
    ERR_clear_error();
    throw Config_Error(what + ": " + reason);
  }

  static std::string read(const char* key, const std::string& path) {
    try {
      return read_file(path);
    } catch (const Config_Error& error) {
      throw Config_Error(std::string(key) + ": " + error.what());
    }
  }

  static std::unique_ptr<BIO, Free> bio_of(const std::string& text) {
    return std::unique_ptr<BIO, Free>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  }

  // Every certificate of a file, one at least, and none that is cut short.
  static Certificates read_certificates(const char* key, const std::string& path) {
    const std::string text = read(key, path);
    const auto bio = bio_of(text);
    Certificates found;
    while (X509* cert = PEM_read_bio_X509_AUX(bio.get(), nullptr, no_passphrase, nullptr)) {
      found.emplace_back(cert);
    }
    if (found.empty() || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
      fail(std::string(key) + ": cannot read " + (found.empty() ? "a certificate" : "all of them") +
           " from " + path);
    }
    ERR_clear_error();
    return found;
  }

  // A key with a passphrase must not make a daemon ask for it on a terminal.
  static int no_passphrase(char*, int, int, void*) { return -1; }

  // Why others will not take the certificate: it has expired, or tls_ca, which is theirs too, has
  // not signed it. Empty: they will.
  std::string unusable(SSL_CTX* of) const {
    X509* cert = SSL_CTX_get0_certificate(of);
    if (!verifies()) {
      const bool expired = X509_cmp_current_time(X509_get0_notAfter(cert)) < 0;
      return expired ? "tls_cert: " + cert_ + " has expired" : "";
    }
    STACK_OF(X509)* chain = nullptr;
    SSL_CTX_get0_chain_certs(of, &chain);
    const std::unique_ptr<X509_STORE_CTX, void (*)(X509_STORE_CTX*)> check(X509_STORE_CTX_new(),
                                                                           X509_STORE_CTX_free);
    if (!check || !X509_STORE_CTX_init(check.get(), SSL_CTX_get_cert_store(of), cert, chain)) {
      return {};
    }
    if (X509_verify_cert(check.get()) == 1) return {};
    return "tls_cert: tls_ca does not verify " + cert_ + " (" +
           X509_verify_cert_error_string(X509_STORE_CTX_get_error(check.get())) + ")";
  }

  std::shared_ptr<SSL_CTX> load() const {
    ERR_clear_error();
    const std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
    SSL_CTX* c = context.get();
    if (!c || !SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION)) fail("tls");
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    const Certificates certs = read_certificates("tls_cert", cert_);
    if (SSL_CTX_use_certificate(c, certs[0].get()) != 1) fail("tls_cert: cannot use " + cert_);
    for (std::size_t i = 1; i < certs.size(); ++i) {
      if (!SSL_CTX_add1_chain_cert(c, certs[i].get())) fail("tls_cert: cannot use " + cert_);
    }
    const std::string text = read("tls_key", key_);
    const std::unique_ptr<EVP_PKEY, Free> key(
        PEM_read_bio_PrivateKey(bio_of(text).get(), nullptr, no_passphrase, nullptr));
    if (!key) fail("tls_key: cannot read a key without passphrase from " + key_);
    if (SSL_CTX_use_PrivateKey(c, key.get()) != 1 || SSL_CTX_check_private_key(c) != 1) {
      fail("tls_key: " + key_ + " is not the key of the certificate in " + cert_);
    }
    if (!verifies()) return context;
    for (const auto& ca : read_certificates("tls_ca", ca_)) {
      if (!X509_STORE_add_cert(SSL_CTX_get_cert_store(c), ca.get()) ||
          !SSL_CTX_add_client_CA(c, ca.get())) {
        fail("tls_ca: cannot use " + ca_);
      }
    }
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    return context;
  }

  const std::string cert_, key_, ca_;
  const Stderr_Log& log_;
  std::string seen_;                                                  // renew()'s alone
  std::optional<std::chrono::steady_clock::time_point> expiry_told_;  // likewise
  mutable std::mutex mutex_;
  std::shared_ptr<SSL_CTX> context_;
};

// ---- threads ------------------------------------------------------------------------------------

// Starts a detached thread; false if the system has no thread or no memory to give. What `body`
// throws ends the thread, not the process. Sanitizers need more stack.
bool start_thread(std::size_t stack, std::function<void()> body) noexcept try {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  stack *= 8;
#endif
  auto owned = std::make_unique<std::function<void()>>(std::move(body));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, stack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int error = pthread_create(
      &thread, &attributes,
      [](void* argument) -> void* {
        const std::unique_ptr<std::function<void()>> run(
            static_cast<std::function<void()>*>(argument));
        try {
          (*run)();
        } catch (const std::exception&) {
        }
        return nullptr;
      },
      owned.get());
  pthread_attr_destroy(&attributes);
  if (error == 0) owned.release();  // the thread's now
  return error == 0;
} catch (const std::bad_alloc&) {
  return false;
}

// Memory for those who cannot do without: the destructor of a JSON document allocates and must not
// throw. The first allocation that fails gets it; from then on, until refill() has it again, no
// request is begun.
//
// Thread-safe.
class Reserve {
 public:
  static void install() {
    refill();
    std::set_new_handler([] {
      void* const held = block_.exchange(nullptr);
      if (!held) throw std::bad_alloc();
      std::free(held);
    });
  }
  static void refill() {
    if (block_) return;
    void* const fresh = std::malloc(size);
    void* none = nullptr;
    if (fresh && !block_.compare_exchange_strong(none, fresh)) std::free(fresh);
  }
  static bool is_spent() { return installed() && !block_; }

 private:
  static bool installed() { return std::get_new_handler() != nullptr; }
  // Below malloc's threshold for mmap(), so that what is freed can be had by anybody.
  static constexpr std::size_t size = 100 * 1024;
  static inline std::atomic<void*> block_{nullptr};
};

// Whether the process could have so much more address space (RLIMIT_AS).
bool has_room(std::size_t size) {
  void* room = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return false;
  munmap(room, size);
  return true;
}

// A pool of threads: as many as there are jobs, `most` at most; they end when idle for a while, but
// for `least`, which are there from the start: what one pool takes of scarce threads, another
// lacks. cpp-httplib's own pool grows only when no thread is idle, so of a burst of connections
// some wait behind idle threads that others take, until a client leaves.
//
// Thread-safe. The mutex guards what is below it.
class Threads {
 public:
  struct Limits {
    std::size_t least, most;
    std::size_t stack;  // bytes of each
    std::size_t spare;  // of address space, that more threads than `least` leave to others
  };

  // Throws std::system_error if `least` are not to be had.
  explicit Threads(const Limits& limits) : limits_(limits) {
    std::unique_lock lock(mutex_);
    while (threads_ < limits_.least) {
      if (start()) continue;
      end(lock);
      throw std::system_error(EAGAIN, std::generic_category(), "no threads, or no memory for them");
    }
  }
  // Waits for the jobs.
  ~Threads() {
    std::unique_lock lock(mutex_);
    end(lock);
  }

  // Runs `job` in a thread; what it throws is lost. If it must wait for another's end since the
  // system has no thread to give, returns how many threads there are. Throws std::bad_alloc if
  // there is no memory to keep the job, which then never runs.
  std::optional<std::size_t> run(std::function<void()> job) {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    const bool wanted = jobs_.size() > idle_ + starting_ && threads_ < limits_.most;
    const bool lacking = wanted && !(has_room(limits_.spare) && start());
    changed_.notify_one();
    return lacking ? std::optional(threads_) : std::nullopt;
  }

 private:
  // REQUIRES mutex_, as end() does.
  bool start() {
    if (!start_thread(limits_.stack, [this] { serve(); })) return false;
    ++threads_;
    ++starting_;
    return true;
  }

  void end(std::unique_lock<std::mutex>& lock) {
    ending_ = true;
    changed_.notify_all();
    ended_.wait(lock, [this] { return threads_ == 0; });
  }

  void serve() {
    std::unique_lock lock(mutex_);
    --starting_;
    for (;;) {
      ++idle_;
      changed_.wait_for(lock, 5s, [this] { return ending_ || !jobs_.empty(); });
      --idle_;
      if (!jobs_.empty()) {
        {
          const auto job = std::move(jobs_.front());
          jobs_.pop_front();
          lock.unlock();
          try {
            job();
          } catch (const std::exception&) {
          }
        }
        lock.lock();
      } else if (ending_ || threads_ > limits_.least) {
        break;
      }
    }
    if (--threads_ == 0) ended_.notify_all();
  }

  const Limits limits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable ended_;
  std::deque<std::function<void()>> jobs_;
  std::size_t threads_ = 0;
  std::size_t starting_ = 0;  // of those, not begun yet
  std::size_t idle_ = 0;
  bool ending_ = false;
};

// ---- the HTTP client ----------------------------------------------------------------------------

// A longer reply to /node is none. A node tells of 32 voters and 32 standbys at most.
constexpr std::size_t max_node_size = 64 * 1024;

// The context that a client will make its connections of. (cpp-httplib 0.18 names it otherwise.)
template <typename Client>
SSL_CTX* context_of(const Client& client) {
  if constexpr (requires { client.tls_context(); }) {
    return static_cast<SSL_CTX*>(client.tls_context());
  } else {
    return client.ssl_context();
  }
}

// A client of the host `to`, found at the address `at`: HTTPS with this node's certificate if it
// has one. A certificate is to be that of the host as configured, not of the address it is found
// at. Throws Config_Error if TLS cannot be set up.
std::unique_ptr<httplib::ClientImpl> make_client(const Tls& tls, const Address& to,
                                                 const std::string& at) {
  if (!tls.enabled()) return std::make_unique<httplib::ClientImpl>(at, to.port);
  auto client = std::make_unique<httplib::SSLClient>(to.host, to.port);
  client->set_hostname_addr_map({{to.host, at}});
  client->enable_server_certificate_verification(false);
  if (!client->is_valid()) throw Config_Error("tls: out of memory");
  tls.equip(context_of(*client), to.host);
  return client;
}

// Why there is no reply.
std::string tell(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
      return "connection refused or host unreachable";
    case httplib::Error::ConnectionTimeout:
      return "timed out";
    case httplib::Error::SSLConnection:
      if (Tls::verify_error == X509_V_OK) return "TLS handshake failed";
      if (Tls::verify_error == X509_V_ERR_HOSTNAME_MISMATCH ||
          Tls::verify_error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        return "its certificate is for another host";
      }
      return std::string("its certificate is not signed by tls_ca (") +
             X509_verify_cert_error_string(Tls::verify_error) + ")";
    case httplib::Error::SSLServerVerification:
      return "its certificate is signed by no authority that is known here";
    case httplib::Error::SSLServerHostnameVerification:
      return "its certificate is for another host";
    default:
      return "no valid HTTP reply";
  }
}

// Asks peers, each question in a thread of its own: cpp-httplib's client blocks, and peers are to
// be asked in parallel, each within its time whatever the others do.
//
// Thread-safe. The mutex guards the list of questions under way; the watchdog ends those whose time
// is up by shutting their sockets down. It is needed because cpp-httplib's own deadline holds for a
// peer that is silent, not for one that sends without an end.
class Http_Client {
 public:
  Http_Client(const Config& config, Resolver& resolver, const Tls& tls)
      : config_(config), resolver_(resolver), tls_(tls), watchdog_([this] { watch(); }) {
    // cpp-httplib compiles a std::regex in each thread, and libstdc++ fills the cache of the
    // locale's narrow() without a lock: fill it before there are such threads.
    for (int c = 0; c < 256; ++c) {
      std::use_facet<std::ctype<char>>(std::locale()).narrow(static_cast<char>(c), '\0');
    }
  }

  ~Http_Client() {
    threads_.reset();  // waits for the questions under way
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    watchdog_.join();
  }

  // An Http_Get. `done` is called once, also when there is no memory to ask.
  void get(const Node& peer, const std::string& target, Time timeout,
           std::function<void(Http_Reply)> done) {
    std::shared_ptr<Question> question;
    try {
      question = std::make_shared<Question>(
          Question{peer, target, std::chrono::steady_clock::now() + timeout});
      {
        const std::lock_guard lock(mutex_);
        under_way_.push_back(question);
      }
      changed_.notify_all();
      question->done = std::move(done);
      threads_->run([this, question] {
        Http_Reply reply = fetch(*question);
        end(question);
        question->done(std::move(reply));
      });
    } catch (const std::bad_alloc&) {
      if (question) end(question);
      (question && question->done ? question->done : done)({0, {}, "out of memory", {}});
    }
  }

  // An Http_Drop: gives a question under way up.
  void drop(const Node& peer, const std::string& target) {
    const std::lock_guard lock(mutex_);
    for (const auto& question : under_way_) {
      if (question->target == target && question->peer.name == peer.name) question->cut();
    }
  }

 private:
  // A question under way.
  struct Question {
    const Node peer;
    const std::string target;
    const Deadline deadline;
    std::function<void(Http_Reply)> done{};
    // These are guarded by mutex_.
    int socket = -1;  // a descriptor of its own: cpp-httplib closes its one when it likes
    bool over = false;

    void hold(int of) {
      let_go();
      socket = fcntl(of, F_DUPFD_CLOEXEC, 0);
      if (over) cut();
    }
    void let_go() {
      if (socket >= 0) close(std::exchange(socket, -1));
    }
    void cut() {
      over = true;
      if (socket >= 0) shutdown(socket, SHUT_RDWR);
    }
  };

  void end(const std::shared_ptr<Question>& question) {
    const std::lock_guard lock(mutex_);
    question->let_go();
    under_way_.remove(question);
  }

  Address address_of(const Node& peer) const {
    Address address{peer.host, config_.peer_port};
    for (const auto& [name, configured] : config_.peers) {
      if (!names_equal(name, peer.name)) continue;
      address.host = configured.host;
      if (configured.port) address.port = configured.port;
    }
    return address;
  }

  Http_Reply fetch(Question& question) try {
    const auto left = [&] { return question.deadline - std::chrono::steady_clock::now(); };
    const Address address = address_of(question.peer);
    if (address.host.empty()) {
      return {0, {}, "its conninfo has no host: set peer." + question.peer.name};
    }
    const std::vector<std::string> addresses = resolver_(address.host, left());
    if (addresses.empty()) return {0, {}, "no address found for " + address.host};
    Http_Reply reply;
    for (std::size_t i = 0; i < addresses.size() && left() > 0ns; ++i) {
      // A host may have addresses that do not answer: each gets its share of the time.
      const auto share = left() / static_cast<int>(addresses.size() - i);
      reply = request(question, address, addresses[i], share);
      if (reply.status != 0) break;
    }
    if (reply.status == 0 && reply.error.empty()) reply.error = "timed out";
    return reply;
  } catch (const std::exception& error) {
    return {0, {}, error.what()};
  }

  Http_Reply request(Question& question, const Address& to, const std::string& at,
                     std::chrono::nanoseconds connect) {
    const auto client = make_client(tls_, to, at);
    const auto left =
        std::max(duration_cast<milliseconds>(question.deadline - std::chrono::steady_clock::now()),
                 milliseconds(1));
    client->set_connection_timeout(std::max(duration_cast<milliseconds>(connect), milliseconds(1)));
    client->set_read_timeout(left);
    client->set_write_timeout(left);
    client->set_max_timeout(left);
    client->set_keep_alive(false);
    client->set_tcp_nodelay(true);
    client->set_socket_options([&](socket_t socket) {
      const std::lock_guard lock(mutex_);
      question.hold(socket);
    });
    Http_Reply reply;
    reply.sent_at = boottime();
    bool too_long = false;
    const std::size_t most = question.target.starts_with("/node") ? max_node_size : max_reply_size;
    const auto result = client->Get(question.target, [&](const char* data, std::size_t size) {
      too_long = reply.body.size() + size > most;
      if (!too_long) reply.body.append(data, size);
      return !too_long;
    });
    if (result) {
      reply.status = result->status;
      return reply;
    }
    const bool late = std::chrono::steady_clock::now() + 5ms >= question.deadline ||
                      result.error() == httplib::Error::ConnectionTimeout;
    {
      const std::lock_guard lock(mutex_);
      if (question.over && !late) return {0, {}, "silent, and not waited for", {}};
    }
    return {0, {}, too_long ? "reply too long" : late ? "timed out" : tell(result.error()), {}};
  }

  // Questions come with the same timeout for the most part, so the first is the next to end.
  void watch() {
    std::unique_lock lock(mutex_);
    while (!ending_) {
      Deadline next = Deadline::max();
      const auto now = std::chrono::steady_clock::now();
      for (const auto& question : under_way_) {
        const Deadline end = question->deadline + 50ms;
        if (end <= now && !question->over) question->cut();
        if (!question->over) next = std::min(next, end);
      }
      if (next == Deadline::max()) {
        changed_.wait(lock);
      } else {
        changed_.wait_until(lock, next);
      }
    }
  }

  // A status line of 4,096 bytes (see above) is matched by a recursion that takes 1 MB of stack.
  static constexpr std::size_t stack = 1280 * 1024;
  static constexpr std::size_t most_threads = 2048;

  const Config& config_;
  Resolver& resolver_;
  const Tls& tls_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ending_ = false;
  std::list<std::shared_ptr<Question>> under_way_;
  std::unique_ptr<Threads> threads_ =
      std::make_unique<Threads>(Threads::Limits{2, most_threads, stack, 0});
  std::thread watchdog_;
};

// ---- the answers --------------------------------------------------------------------------------

// An endpoint's answer: status and JSON body of the HTTP contract.
struct Answer {
  int status;
  std::string body;
};

// `/state`: what this node is. Thread-safe; reads the cache only.
Answer get_reported_state(const Repmgr_Node& node) {
  switch (node.get_state()) {
    case State::primary:
      return {200, R"({"state":"Primary"})"};
    case State::standby:
      return {202, R"({"state":"Standby"})"};
    case State::unknown:
      return {509, R"({"state":"Unknown"})"};
    case State::down:
      break;
  }
  return {503, R"({"state":"Down"})"};
}

// `/primary`: the node that this node's own database names; to a `candidate`, this node's vote,
// granted unless the candidate counts it for longer (`lease`, in ms). A question to another `voter`
// came here by mistake, and gets no name. Thread-safe; reads the cache, and writes state_file for a
// grant.
Answer get_reported_primary(Repmgr_Node& node, const std::string& candidate,
                            const std::string& lease, const std::string& voter = {}) {
  // No lease told: that of this node, as it is to be the same on all.
  long long milliseconds_told = 0;
  std::from_chars(lease.data(), lease.data() + lease.size(), milliseconds_told);
  const auto told = milliseconds(std::clamp(milliseconds_told, 0LL, 3'600'000LL));
  std::optional<std::string> name;
  if (voter.empty() || names_equal(voter, node.name())) {
    name = candidate.empty() ? node.get_primary() : node.get_primary(candidate, told);
  }
  if (name) {
    if (Answer answer{200, dump({{"Primary", *name}})}; answer.body.size() <= max_reply_size) {
      return answer;
    }
  }
  const bool down = node.get_state() == State::down;
  return {503, dump({{"state", to_string(down ? State::down : State::unknown)}})};
}

// `/realPrimary`: the one node of the whole cluster whose state is Primary. Thread-safe; reads the
// cache only.
Answer get_reported_real_primary(const Repmgr_Node& node) {
  Real_Primary real = node.get_real_primary();
  if (!real.nodes_known) return {503, dump({{"realPrimary", nullptr}, {"state", "Down"}})};
  if (real.claimants.size() == 1) {
    if (Answer answer{200, dump({{"realPrimary", real.claimants[0]}})};
        answer.body.size() <= max_reply_size) {
      return answer;
    }
  }
  if (real.claimants.size() < 2) {
    return {503, dump({{"realPrimary", nullptr}, {"state", "Unknown"}})};
  }
  for (;;) {  // as many as an answer may hold
    Answer answer{509, dump({{"realPrimary", nullptr}, {"claimants", real.claimants}})};
    if (answer.body.size() <= max_reply_size) return answer;
    real.claimants.pop_back();
  }
}

// What a standby may be read from is bounded by: /replica?lag=16MB&delay=10s. Throws Config_Error.
struct Bounds {
  std::optional<Lsn> lag;     // bytes to replay
  std::optional<Time> delay;  // time that they have been waiting
};
Bounds parse_bounds(const httplib::Params& params) {
  Bounds bounds;
  for (const auto& [key, value] : params) {
    if (params.count(key) > 1) throw Config_Error(key + " is given twice");
    try {
      if (key == "lag") {
        bounds.lag = parse_size(value);
      } else if (key == "delay") {
        bounds.delay = parse_duration(value, 0s, 24h * 365);
      } else {
        throw Config_Error("there is no such parameter; lag=16MB and delay=10s are");
      }
    } catch (const Config_Error& error) {
      throw Config_Error(key + ": " + error.what());
    }
  }
  return bounds;
}

double in_seconds(Time time) {
  return std::round(std::chrono::duration<double, std::milli>(time).count()) / 1000;
}

template <typename T>
Json or_null(const std::optional<T>& value) {
  if (!value) return nullptr;
  if constexpr (std::is_same_v<T, Time>) {
    return in_seconds(*value);
  } else {
    return *value;
  }
}

Json or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

// `/replica`: 200 on a standby that streams and is within the bounds, else 503 with the reason.
// `or_primary`: 200 on the Primary too, as `/read-only` and `/readiness`. Thread-safe; reads the
// cache only.
Answer get_readable(const Repmgr_Node& node, const httplib::Params& params, bool or_primary) {
  Bounds bounds;
  try {
    bounds = parse_bounds(params);
  } catch (const Config_Error& error) {
    return {400, dump({{"error", std::string(error.what()).substr(0, max_reply_size / 2)}})};
  }
  const State state = node.get_state();
  Json body = {{"state", to_string(state)}};
  if (or_primary && state == State::primary) return {200, dump(body)};
  const auto lag = node.get_lag();
  if (!lag) {
    body["reason"] = "it is no standby";
    return {503, dump(body)};
  }
  const std::string reason = too_late(*lag, bounds.lag, bounds.delay);
  body["replayLagBytes"] = or_null(lag->replay);
  body["replayLagSeconds"] = or_null(lag->delay);
  if (!reason.empty()) body["reason"] = reason;
  return {reason.empty() ? 200 : 503, dump(body)};
}

// This process, as far as its node does not know it.
struct Process {
  Time started = boottime();
  std::size_t most_connections = 0;  // of the pool
};

// How many voters and standbys are told of, at most.
constexpr std::size_t most_told = 32;

// A vote that does not count is the one that is looked for.
std::vector<Voter> first_voters(std::vector<Voter> voters) {
  if (voters.size() <= most_told) return voters;
  std::stable_partition(voters.begin(), voters.end(),
                        [](const Voter& voter) { return !voter.counts; });
  voters.resize(most_told);
  return voters;
}

Json tell_voting(const Report& report) {
  if (report.voters.empty()) return nullptr;
  Json voters = Json::array();
  for (const Voter& voter : first_voters(report.voters)) {
    voters.push_back({{"name", voter.name},
                      {"counts", voter.counts},
                      {"names", or_null(voter.names)},
                      {"ageSeconds", or_null(voter.age)},
                      {"leaseSeconds", or_null(voter.left)},
                      {"error", or_null(voter.why)}});
  }
  return {{"counted", votes_counted(report.voters)},
          {"needed", votes_needed(report.voters.size())},
          {"of", report.voters.size()},
          {"leaseSeconds", in_seconds(report.lease)},
          {"voters", voters}};
}

Json tell_replication(const Report& report) {
  if (!report.in_recovery) return nullptr;
  return {{"streaming", report.lag.streaming},
          {"from", or_null(report.replication.from)},
          {"receiveLagBytes", or_null(report.lag.receive)},
          {"replayLagBytes", or_null(report.lag.replay)},
          {"replayLagSeconds", or_null(report.lag.delay)},
          {"replayPaused", report.replication.paused},
          {"problem", or_null(report.lag.problem)}};
}

Json tell_standbys(const Replication& replication) {
  if (!replication.known) return nullptr;
  Json standbys = Json::array();
  for (const Attached& standby : replication.attached) {
    std::optional<Lsn> behind;
    if (standby.replayed && replication.position) {
      behind = *replication.position - std::min(*replication.position, *standby.replayed);
    }
    standbys.push_back({{"name", standby.name},
                        {"address", or_null(standby.address)},
                        {"state", or_null(standby.state)},
                        {"sync", or_null(standby.sync)},
                        {"lagBytes", or_null(behind)},
                        {"lagSeconds", or_null(standby.lag)}});
  }
  return standbys;
}

// `/node`: this node whole. Thread-safe; reads the cache only.
Json get_node(const Repmgr_Node& node, const Process& process) {
  const Report report = node.get_report();
  const auto& self = report.self;
  Json told = {{"name", self ? self->name : report.name},
               {"id", self ? Json(self->id) : Json(nullptr)},
               {"site", self ? Json(self->site) : Json(nullptr)},
               {"role", self ? Json(self->type) : Json(nullptr)}};
  std::string reason = report.decision.reason;
  if (!report.voters.empty()) reason += " (" + tell_votes(first_voters(report.voters)) + ")";
  told["state"] = to_string(report.decision.state);
  told["since"] = print_time(wall_clock(report.state_for));
  told["stateSeconds"] = in_seconds(report.state_for);
  told["reason"] = reason;
  told["primary"] = or_null(report.primary);
  told["votes"] = tell_voting(report);
  told["timeline"] = or_null(report.replication.timeline);
  const auto& position = report.replication.position;
  told["position"] = position ? Json(print_lsn(*position)) : Json(nullptr);
  told["replication"] = tell_replication(report);
  told["standbys"] = tell_standbys(report.replication);
  told["cacheAgeSeconds"] = in_seconds(report.cache_age);
  told["nodesAgeSeconds"] = or_null(report.nodes_age);
  told["nodesProblem"] = or_null(report.nodes_problem);
  told["connections"] = {{"open", report.connections}, {"most", process.most_connections}};
  told["version"] = PRIMGR_VERSION;
  told["uptimeSeconds"] = in_seconds(boottime() - process.started);
  return told;
}

// What a peer answered to /node, with `why` set if that is not to be told on. Hostile until parsed:
// a thousand brackets in one another are not taken in.
Json read_node(const Node& node, const Http_Reply& reply, std::string& why) {
  constexpr int deepest = 5;
  if (reply.status == 0) {
    why = reply.error;
  } else if (reply.status != 200) {
    why = "HTTP status " + std::to_string(reply.status) + " to /node: another version?";
  } else {
    Json told = Json::parse(
        reply.body, [](int depth, Json::parse_event_t, Json&) { return depth <= deepest; }, false);
    const auto name = told.is_object() ? told.find("name") : told.end();
    if (!told.is_object() || name == told.end() || !name->is_string()) {
      why = "its answer to /node is none";
    } else if (!names_equal(name->get<std::string>(), node.name)) {
      why = "another node answers at its address: " + name->get<std::string>();
    } else {
      return told;
    }
  }
  return nullptr;
}

// `/cluster`: every node as seen from here now, asked in parallel, within peer_timeout.
//
// Thread-safe; waits for the peers if it may. The mutex guards the last answer and whether one is
// being collected: who asks meanwhile, or just after, gets the same one, so that a crowd of clients
// costs the peers no more than a single one.
class Cluster {
 public:
  Cluster(const Config& config, const Repmgr_Node& node, const Process& process, Http_Get get)
      : timeout_(config.node.peer_timeout), node_(node), process_(process), get_(std::move(get)) {}

  // Who may not wait gets the last answer, unless it is old; status 503 without "sites" otherwise.
  Answer get(bool may_wait) {
    std::unique_lock lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    if (!collecting_ && now < collected_at_ + 200ms) return answer_;
    if (!may_wait) {
      if (now < collected_at_ + timeout_ + 5s) return answer_;
      return {503, dump({{"error", "too many wait for the other nodes: ask again"}})};
    }
    if (collecting_) {
      const std::uint64_t current = collected_;
      changed_.wait_for(lock, timeout_ + 1s, [&] { return collected_ != current; });
      return answer_;
    }
    collecting_ = true;
    lock.unlock();
    Answer answer{503, {}};
    try {
      answer = collect();
    } catch (const std::exception&) {
      // No memory, say. There is nothing to tell now; the next who asks starts anew.
    }
    lock.lock();
    collecting_ = false;
    ++collected_;
    collected_at_ = std::chrono::steady_clock::now();
    if (answer.body.empty()) {
      answer.body = R"({"error":"no memory"})";
      collected_at_ = {};
    }
    answer_ = std::move(answer);
    changed_.notify_all();
    return answer_;
  }

  // How long until who could not wait is to ask again, in seconds.
  long long patience() const { return std::chrono::ceil<std::chrono::seconds>(timeout_).count(); }

 private:
  // What the peers tell; theirs as long as they may, this collection's as long as it waits.
  struct Collection {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::optional<Http_Reply>> replies;
    std::size_t missing = 0;
  };

  Answer collect() const {
    const std::vector<Node> nodes = node_.get_all_nodes();
    const auto collection = std::make_shared<Collection>();
    collection->replies.resize(nodes.size());
    const auto is_self = [&](const Node& node) { return names_equal(node.name, node_.name()); };
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (is_self(nodes[i]) || !get_) continue;
      {
        const std::lock_guard lock(collection->mutex);
        ++collection->missing;
      }
      get_(nodes[i], "/node", timeout_, [collection, i](Http_Reply reply) {
        const std::lock_guard lock(collection->mutex);
        collection->replies[i] = std::move(reply);
        --collection->missing;
        collection->changed.notify_all();
      });
    }
    std::unique_lock lock(collection->mutex);
    collection->changed.wait_for(lock, timeout_ + 100ms, [&] { return collection->missing == 0; });

    // Documents are told on as text, one by one: of a thousand nodes they would be a lot as
    // objects.
    std::vector<std::string> claimants;
    std::map<std::string, std::string> sites;  // the nodes of each
    const auto add = [&](const Node& node, Json told, const std::string& error) {
      Json entry = {{"name", node.name}, {"id", node.id}, {"site", node.site}};
      entry["reachable"] = error.empty();
      if (error.empty()) {
        if (told.value("state", Json()) == "Primary") claimants.push_back(node.name);
        for (auto& [key, value] : told.items()) {
          if (!entry.contains(key)) entry[key] = std::move(value);
        }
      } else {
        entry["role"] = node.type;
        entry["error"] = error;
      }
      std::string& site = sites[node.site];
      site += (site.empty() ? "" : ",") + dump(entry);
    };
    bool self_listed = false;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      std::string error;
      if (is_self(nodes[i])) {
        self_listed = true;
        add(nodes[i], get_node(node_, process_), error);
      } else {
        Json told = read_node(
            nodes[i], collection->replies[i].value_or(Http_Reply{0, {}, "timed out", {}}), error);
        add(nodes[i], std::move(told), error);
      }
    }
    if (!self_listed) {
      Node self;
      self.name = node_.name();
      add(self, get_node(node_, process_), {});
    }

    Json head = {{"from", node_.name()}, {"at", print_time(wall_clock())}};
    head["realPrimary"] = claimants.size() == 1 ? Json(claimants[0]) : Json(nullptr);
    if (claimants.size() > 1) head["claimants"] = claimants;
    std::string body = dump(head);
    body.back() = ',';
    body += R"("sites":[)";
    for (const auto& [name, told] : sites) {
      if (body.back() != '[') body += ',';
      body += R"({"site":)" + dump(name) + R"(,"nodes":[)" + told + "]}";
    }
    return {nodes.empty() ? 503 : 200, body + "]}"};
  }

  const Time timeout_;
  const Repmgr_Node& node_;
  const Process& process_;
  const Http_Get get_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool collecting_ = false;
  std::uint64_t collected_ = 0;
  Deadline collected_at_{};
  Answer answer_{503, R"({"error":"nothing is known yet"})"};
};

// ---- metrics ------------------------------------------------------------------------------------

// The text format of Prometheus: a family's help and type once, then its samples.
class Metrics {
 public:
  using Labels = std::vector<std::pair<const char*, std::string>>;

  Metrics& family(const char* name, const char* type, const char* help) {
    name_ = name;
    text_ += std::string("# HELP primgr_") + name + " " + help + "\n# TYPE primgr_" + name + " " +
             type + "\n";
    return *this;
  }
  Metrics& sample(double value, const Labels& labels = {}, const char* suffix = "") {
    text_ += std::string("primgr_") + name_ + suffix;
    const char* separator = "{";
    for (const auto& [label, of] : labels) {
      text_ += separator + std::string(label) + "=\"" + escaped(of) + "\"";
      separator = ",";
    }
    if (!labels.empty()) text_ += "}";
    char number[48];
    std::snprintf(number, sizeof number, " %.15g\n", value);
    text_ += number;
    return *this;
  }
  void gauge(const char* name, const char* help, double value) {
    family(name, "gauge", help).sample(value);
  }
  template <typename T>
  void gauge(const char* name, const char* help, const std::optional<T>& value) {
    if (!value) return;
    if constexpr (std::is_same_v<T, Time>) {
      gauge(name, help, std::chrono::duration<double>(*value).count());
    } else {
      gauge(name, help, static_cast<double>(*value));
    }
  }
  void counter(const char* name, const char* help, double value) {
    family(name, "counter", help).sample(value);
  }
  std::string text() && { return std::move(text_); }

 private:
  // Prometheus wants UTF-8, and knows no other escapes than these.
  static std::string escaped(const std::string& text) {
    std::string safe;
    for (const char c : Json::parse(dump(text)).get<std::string>()) {
      if (c == '\\' || c == '"') safe += '\\';
      safe += c == '\n' ? std::string("\\n") : std::string(1, c);
    }
    return safe;
  }

  const char* name_ = "";
  std::string text_;
};

// How often each path was asked for and answered with each status. Thread-safe.
class Request_Counts {
 public:
  static constexpr const char* paths[] = {
      "/",         "/state",     "/primary", "/realPrimary", "/replica", "/read-only", "/health",
      "/liveness", "/readiness", "/node",    "/cluster",     "/metrics", "other"};
  static constexpr int codes[] = {200, 202, 400, 404, 405, 503, 509, 0};  // 0: any other

  void add(std::string_view path, int code) {
    const auto* of_path = std::find(std::begin(paths), std::end(paths) - 1, path);
    const auto* of_code = std::find(std::begin(codes), std::end(codes) - 1, code);
    counts_[of_path - paths][of_code - codes].fetch_add(1, std::memory_order_relaxed);
  }
  void tell(Metrics& metrics) const {
    metrics.family("http_requests_total", "counter", "Requests answered, by path and status.");
    for (std::size_t p = 0; p < std::size(paths); ++p) {
      for (std::size_t c = 0; c < std::size(codes); ++c) {
        const auto count = counts_[p][c].load(std::memory_order_relaxed);
        if (count == 0) continue;
        metrics.sample(
            static_cast<double>(count),
            {{"path", paths[p]}, {"code", codes[c] ? std::to_string(codes[c]) : "other"}});
      }
    }
  }

 private:
  std::atomic<std::uint64_t> counts_[std::size(paths)][std::size(codes)]{};
};

// `/metrics`. Thread-safe; reads the cache only.
std::string get_metrics(const Repmgr_Node& node, const Process& process, const Tls& tls,
                        const Request_Counts& requests) {
  const Report report = node.get_report();
  const auto seconds = [](Time time) { return std::chrono::duration<double>(time).count(); };
  Metrics m;
  m.family("build_info", "gauge", "The program and the node that it answers for.")
      .sample(1, {{"version", PRIMGR_VERSION},
                  {"node", report.self ? report.self->name : report.name},
                  {"site", report.self ? report.self->site : ""},
                  {"role", report.self ? report.self->type : ""}});
  m.gauge("start_time_seconds", "When this process started, since the epoch.",
          static_cast<double>(wall_clock(boottime() - process.started).tv_sec));
  m.family("state", "gauge", "1 for the state that this node is in.");
  for (const State state : {State::primary, State::standby, State::unknown, State::down}) {
    m.sample(report.decision.state == state, {{"state", to_string(state)}});
  }
  m.gauge("state_seconds", "How long it has been in that state.", seconds(report.state_for));
  m.gauge("cache_age_seconds", "How old the look at the database is that answers rest on.",
          seconds(report.cache_age));
  m.gauge("nodes_age_seconds", "How old the list of nodes in use is.", report.nodes_age);
  if (!report.voters.empty()) {
    m.gauge("votes", "Votes that count for this node now.",
            static_cast<double>(votes_counted(report.voters)));
    m.gauge("votes_needed", "Votes that are a majority.",
            static_cast<double>(votes_needed(report.voters.size())));
    m.gauge("voters", "Nodes that have a vote, this one too.",
            static_cast<double>(report.voters.size()));
    m.gauge("vote_lease_seconds", "Until too few votes are left; 0 without a majority.",
            seconds(report.lease));
  }
  m.gauge("claimants", "Nodes of the whole cluster that say they are Primary.",
          static_cast<double>(report.claimants));
  m.family("peer_requests_total", "counter", "Questions to other nodes, by kind and result.");
  for (const Question_Count& q : report.questions) {
    m.sample(static_cast<double>(q.replied),
             {{"peer", q.peer}, {"question", q.kind}, {"result", "ok"}});
    m.sample(static_cast<double>(q.failed),
             {{"peer", q.peer}, {"question", q.kind}, {"result", "failed"}});
  }
  m.family("peer_request_seconds_total", "counter", "Time that questions to other nodes took.");
  for (const Question_Count& q : report.questions) {
    m.sample(seconds(q.taken), {{"peer", q.peer}, {"question", q.kind}});
  }
  m.family("refresh_seconds", "summary", "Time that looks at the local database took.")
      .sample(seconds(report.looked_for), {}, "_sum")
      .sample(static_cast<double>(report.looks), {}, "_count");
  m.counter("database_errors_total", "Looks at the local database that failed.",
            static_cast<double>(report.failed_looks));
  m.gauge("pool_connections", "Connections to the local database.",
          static_cast<double>(report.connections));
  m.gauge("pool_connections_max", "As many as there may be.",
          static_cast<double>(process.most_connections));
  if (report.in_recovery) {
    m.gauge("streaming", "1 if this standby's WAL receiver streams.", report.lag.streaming);
    m.gauge("receive_lag_bytes", "WAL that its sender has and this standby has not flushed.",
            report.lag.receive);
    m.gauge("replay_lag_bytes", "WAL that its sender has and this standby has not replayed.",
            report.lag.replay);
    m.gauge("replay_lag_seconds", "How long the oldest WAL not replayed has been there.",
            report.lag.delay);
  }
  if (report.replication.known) {
    m.gauge("standbys", "Servers that stream from this one (32 are counted at most).",
            static_cast<double>(report.replication.attached.size()));
  }
  m.gauge("tls_certificate_expiry_timestamp_seconds", "When tls_cert ends, since the epoch.",
          tls.expiry());
  requests.tell(m);
  return std::move(m).text();
}

// ---- the page -----------------------------------------------------------------------------------

constexpr std::string_view page =
#include "page.hpp"
    ;

// The policy that lets the page's own style and script run, known by their hashes, and reach the
// node that it came from; nothing else.
std::string page_policy() {
  const auto hash_of = [](std::string_view tag) {
    const std::string open = "<" + std::string(tag) + ">", close = "</" + std::string(tag) + ">";
    const auto begin = page.find(open) + open.size();
    const std::string_view text = page.substr(begin, page.find(close, begin) - begin);
    unsigned char digest[EVP_MAX_MD_SIZE], base64[2 * EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr);
    EVP_EncodeBlock(base64, digest, static_cast<int>(size));
    return " 'sha256-" + std::string(reinterpret_cast<const char*>(base64)) + "'";
  };
  return "default-src 'none'; style-src" + hash_of("style") + "; script-src" + hash_of("script") +
         "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
         "frame-ancestors 'none'";
}

// ---- requests -----------------------------------------------------------------------------------

// Longer than this a request is refused. cpp-httplib reads the request line again, so that it must
// fit there, with its CRLF.
constexpr std::size_t max_request_line = CPPHTTPLIB_MAX_LINE_LENGTH - 2;
constexpr std::size_t max_head = 16 * 1024;
constexpr std::size_t max_body = 1024;
constexpr std::size_t max_chunked = 8 * 1024;  // with sizes, extensions and trailers

// RFC 9110 5.6.2.
constexpr auto token_characters = [] {
  std::array<bool, 256> is{};
  for (const char c : std::string_view("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ")) {
    is[static_cast<unsigned char>(c)] = true;
  }
  return is;
}();

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return token_characters[static_cast<unsigned char>(c)];
  });
}

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// `lower_case` is.
bool equal_without_case(std::string_view text, std::string_view lower_case) {
  return text.size() == lower_case.size() &&
         std::equal(text.begin(), text.end(), lower_case.begin(),
                    [](char a, char b) { return lower(a) == b; });
}

// Calls `take` for each element of a list. Empty ones are allowed (RFC 9110 5.6.1).
template <typename Take>
void for_each_element(std::string_view list, char separator, Take take) {
  while (!list.empty()) {
    const auto end = std::min(list.find(separator), list.size());
    if (const auto element = trimmed(list.substr(0, end)); !element.empty()) take(element);
    list.remove_prefix(std::min(end + 1, list.size()));
  }
}

// A line of a head. CRLF alone ends one, and no other control character but HTAB may be in it: what
// others would read as the end of a line, or of the text, makes it bad.
struct Head_Line {
  enum { whole, unfinished, bad } is;
  std::string_view text;  // without CRLF; what there is of it if it is not whole
};
Head_Line read_line(std::string_view bytes) {
  std::size_t end = 0;
  while (end < bytes.size()) {
    const auto c = static_cast<unsigned char>(bytes[end]);
    if ((c < 0x20 && c != '\t') || c == 0x7f) break;
    ++end;
  }
  const std::string_view text = bytes.substr(0, end), rest = bytes.substr(end);
  if (rest.starts_with("\r\n")) return {Head_Line::whole, text};
  return {rest.empty() || rest == "\r" ? Head_Line::unfinished : Head_Line::bad, text};
}

// A request's head: request line and header fields, up to and with the empty line.
struct Request_Head {
  std::size_t size = 0;  // how many bytes it takes; 0: more are to come, unless it is refused
  int status = 0;        // what to refuse it with; 0: it is understood
  std::string_view method;
  std::string_view target;  // path and query; begins with neither "/" nor "*": the path is "/"
  std::string accept;       // all Accept fields
  bool minor_0 = false;     // HTTP/1.0
  bool keep_alive = false;  // the client wants to go on after it
  bool expects_continue = false;
  bool chunked = false;    // its body is
  std::size_t length = 0;  // of a body that is not
};

// The target that an absolute-form names at this server (RFC 9112 3.2.2), the target itself if it
// is an origin-form or "*", none if it is neither.
std::optional<std::string_view> served_target(std::string_view target) {
  if (target.starts_with('/') || target == "*") return target;
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!equal_without_case(target.substr(0, scheme.size()), scheme)) continue;
    target.remove_prefix(scheme.size());
    const std::string_view authority = target.substr(0, target.find_first_of("/?#"));
    if (authority.empty() || authority.find('@') != authority.npos) return std::nullopt;
    return target.substr(authority.size());
  }
  return std::nullopt;
}

// RFC 9112 3. The status to refuse it with, or 0.
int parse_request_line(std::string_view line, Request_Head& head) {
  head.method = line.substr(0, std::min(line.find(' '), max_request_line));
  if (!is_token(head.method)) return 400;
  if (line.size() > max_request_line) return 414;
  if (head.method.size() == line.size()) return 400;
  line.remove_prefix(head.method.size() + 1);
  head.target = line.substr(0, line.find(' '));
  if (head.target.empty() || head.target.size() == line.size()) return 400;
  for (const char c : head.target) {
    if (c < 0x21 || c > 0x7e) return 400;
  }
  const std::string_view version = line.substr(head.target.size() + 1);
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (version.size() != 8 || !version.starts_with("HTTP/") || !digit(version[5]) ||
      version[6] != '.' || !digit(version[7])) {
    return 400;
  }
  if (version[5] != '1') return 505;
  head.minor_0 = version[7] == '0';  // a later minor version than 1 is as 1: RFC 9110 2.5
  if (head.method != "GET" && head.method != "HEAD" && head.method != "OPTIONS") return 0;
  const auto served = served_target(head.target);
  if (!served) return 400;
  head.target = *served;
  return 0;
}

// Parses a request's head, strictly: where another could read other bytes as the end of this
// request, it is refused (RFC 9112 11.2). It may be called with each byte that comes: what it says
// of a part, other than that more is to come, it says of the whole.
Request_Head parse_head(std::string_view bytes) {
  Request_Head head;
  const auto refuse = [&](int status) {
    head.status = status;
    return head;
  };
  std::size_t at = 0;
  // A few empty lines before it are skipped: RFC 9112 2.2.
  for (; bytes.substr(at).starts_with("\r\n"); at += 2) {
    if (at == 8) return refuse(400);
  }
  Head_Line line = read_line(bytes.substr(at));
  if (line.is != Head_Line::whole) {
    // A TLS handshake, say, is refused at once.
    head.method = line.text.substr(0, std::min(line.text.find(' '), max_request_line));
    if (!line.text.empty() && !is_token(head.method)) return refuse(400);
    if (line.text.size() > max_request_line) return refuse(414);
    return line.is == Head_Line::bad ? refuse(400) : head;
  }
  if (const int status = parse_request_line(line.text, head)) return refuse(status);
  at += line.text.size() + 2;

  int hosts = 0, lengths = 0, codings = 0, unknown_codings = 0;
  bool close = false, keep_alive = false;
  for (;; at += line.text.size() + 2) {
    line = read_line(bytes.substr(at));
    if (at + line.text.size() + 2 > max_head) return refuse(431);
    if (line.is == Head_Line::bad) return refuse(400);
    if (line.is == Head_Line::unfinished) return head;
    if (line.text.empty()) break;
    // A continuation of the line before (obs-fold) begins with whitespace, and so is no field.
    const std::string_view name = line.text.substr(0, line.text.find(':'));
    if (name.size() == line.text.size() || !is_token(name)) return refuse(400);
    const std::string_view value = trimmed(line.text.substr(name.size() + 1));
    if (equal_without_case(name, "host")) {
      if (++hosts > 1 || value.find_first_of(" \t,/?#@\\\"<>") != value.npos) return refuse(400);
    } else if (equal_without_case(name, "content-length")) {
      if (++lengths > 1 || value.empty()) return refuse(400);
      for (const char c : value) {
        if (c < '0' || c > '9') return refuse(400);
        head.length = std::min<std::size_t>(10 * head.length + static_cast<std::size_t>(c - '0'),
                                            max_body + 1);
      }
    } else if (equal_without_case(name, "transfer-encoding")) {
      ++codings;
      if (!equal_without_case(value, "chunked")) {
        bool known = true;
        for_each_element(value, ',', [&](std::string_view coding) {
          if (!equal_without_case(coding, "chunked")) known = false;
        });
        if (known) return refuse(400);  // none, or chunked twice
        ++unknown_codings;
      }
    } else if (equal_without_case(name, "connection")) {
      for_each_element(value, ',', [&](std::string_view option) {
        if (equal_without_case(option, "close")) close = true;
        if (equal_without_case(option, "keep-alive")) keep_alive = true;
      });
    } else if (equal_without_case(name, "expect")) {
      if (equal_without_case(value, "100-continue")) head.expects_continue = true;
    } else if (equal_without_case(name, "accept")) {
      if (!head.accept.empty()) head.accept += ',';
      head.accept += value;
    }
  }
  if (codings > 0 && (lengths > 0 || head.minor_0)) return refuse(400);
  if (unknown_codings > 0) return refuse(501);
  if (codings > 1) return refuse(400);
  head.chunked = codings == 1;
  head.keep_alive = !close && (keep_alive || !head.minor_0);
  if (head.minor_0) head.expects_continue = false;  // RFC 9110 10.1.1
  head.size = at + 2;
  return head;
}

// A chunked body (RFC 9112 7.1), as parse_head().
struct Chunked_Body {
  std::size_t size = 0;
  int status = 0;
};
Chunked_Body parse_chunked(std::string_view bytes) {
  std::size_t at = 0, length = 0;
  const auto more = [&] { return Chunked_Body{0, bytes.size() > max_chunked ? 413 : 0}; };
  for (;;) {
    const Head_Line line = read_line(bytes.substr(at));
    if (line.is == Head_Line::bad) return {0, 400};
    if (at + line.text.size() > max_chunked) return {0, 413};
    const std::string_view digits =
        line.text.substr(0, line.text.find_first_not_of("0123456789abcdefABCDEF"));
    const std::string_view extension = trimmed(line.text.substr(digits.size()));
    if (!extension.empty() && extension[0] != ';') return {0, 400};
    if (line.is == Head_Line::unfinished) return more();
    std::size_t size = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), size, 16);
    if (digits.empty()) return {0, 400};
    if (error != std::errc() || size > max_body - length) return {0, 413};
    length += size;
    at += line.text.size() + 2;
    if (size == 0) break;
    const std::string_view after = bytes.substr(std::min(at + size, bytes.size()));
    if (after.size() < 2) return after.empty() || after[0] == '\r' ? more() : Chunked_Body{0, 400};
    if (!after.starts_with("\r\n")) return {0, 400};
    at += size + 2;
  }
  for (;;) {  // trailers, which nobody reads
    const Head_Line line = read_line(bytes.substr(at));
    if (line.is == Head_Line::bad) return {0, 400};
    if (at + line.text.size() > max_chunked) return {0, 413};
    if (line.is == Head_Line::unfinished) return more();
    at += line.text.size() + 2;
    if (line.text.empty()) return {at, 0};
    const std::string_view name = line.text.substr(0, line.text.find(':'));
    if (name.size() == line.text.size() || !is_token(name)) return {0, 400};
  }
}

// Whether who asks would rather see a page than JSON: a browser says so, a load balancer does not.
// What is no media range is as if it were not there.
bool wants_page(std::string_view accept) {
  double html = 0, json = 0;
  bool html_first = false;
  for_each_element(accept, ',', [&](std::string_view range) {
    const std::string_view type = trimmed(range.substr(0, range.find(';')));
    const bool is_html = equal_without_case(type, "text/html");
    if (!is_html && !equal_without_case(type, "application/json")) return;
    double quality = 1;
    for_each_element(range.substr(type.size()), ';', [&](std::string_view parameter) {
      if (!equal_without_case(parameter.substr(0, 2), "q=")) return;
      const char* end = parameter.data() + parameter.size();
      const auto [read, error] = std::from_chars(parameter.data() + 2, end, quality);
      if (error != std::errc() || read != end || !(quality >= 0 && quality <= 1)) quality = 0;
    });
    if (is_html && html == 0 && json == 0) html_first = true;
    (is_html ? html : json) = std::max(is_html ? html : json, quality);
  });
  return html > json || (html > 0 && html == json && html_first);
}

// ---- the HTTP server ----------------------------------------------------------------------------

// A connection, plain or TLS, with one deadline for all that is done with it, not one for each
// read. An answer is collected and sent at once.
//
// receive() takes a request in, body and all. cpp-httplib's parser is lenient, so what it reads is
// not what came, but the request as it was understood: one line, and the few fields that matter.
//
// One thread's. Another may shut the socket down, which ends every wait.
class Connection : public httplib::Stream {
 public:
  // Takes a non-blocking socket, and leaves it open.
  Connection(int socket, std::shared_ptr<SSL_CTX> context)
      : socket_(socket), context_(std::move(context)) {
    if (context_) ssl_.reset(SSL_new(context_.get()));
    if (ssl_) SSL_set_fd(ssl_.get(), socket_);
  }

  void set_deadline(Deadline deadline) { deadline_ = deadline; }

  // False: nobody who is let in.
  bool handshake() {
    if (!context_) return true;
    if (!ssl_) return false;
    return repeat([&] { return SSL_accept(ssl_.get()); }) == 1;
  }

  // Sends what was written.
  bool flush() {
    std::size_t sent = 0;
    while (sent < out_.size()) {
      const char* data = out_.data() + sent;
      const std::size_t size = out_.size() - sent;
      const ssize_t n =
          ssl_ ? repeat([&] { return SSL_write(ssl_.get(), data, static_cast<int>(size)); })
               : repeat([&] { return ::send(socket_, data, size, MSG_NOSIGNAL); });
      if (n <= 0) return false;
      sent += static_cast<std::size_t>(n);
    }
    out_.clear();
    return true;
  }

  // Says that nothing more comes. What the client still sends is thrown away, until it ends too or
  // for `patience`, so that it is not reset before it has read the answer.
  void finish(milliseconds patience) {
    if (ssl_) SSL_shutdown(ssl_.get());
    ::shutdown(socket_, SHUT_WR);
    out_.clear();
    deadline_ = std::chrono::steady_clock::now() + patience;
    char rest[4096];
    for (int i = 0; i < 16 || std::chrono::steady_clock::now() < deadline_; ++i) {
      const ssize_t n = ::recv(socket_, rest, sizeof rest, MSG_DONTWAIT);
      if (n == 0 || (n < 0 && (errno != EAGAIN || !wait(POLLIN)))) break;
    }
  }

  // What came when a request was waited for.
  struct Received {
    bool any = false;      // false: the client has ended the connection, or its time is up
    int status = 0;        // what to refuse it with; 0: it is understood, and read() has it
    bool is_head = false;  // its answer has no body
    bool last = true;      // nothing is to be read after it
  };
  Received receive() {
    Received received;
    const auto refuse = [&](int status) {
      received.any = true;
      received.status = status;
      return received;
    };
    Request_Head head;
    for (;;) {
      head = parse_head(in_);
      received.is_head = head.method == "HEAD";
      if (head.status) return refuse(head.status);
      if (head.size) break;
      const ssize_t n = fill();
      if (n < 0) return received;
      if (n == 0) return in_.find_first_not_of("\r\n") == in_.npos ? received : refuse(400);
    }
    const bool answered = received.is_head || head.method == "GET" || head.method == "OPTIONS";
    request_ = head.method;
    request_ += head.target.starts_with('/') || head.target == "*" ? " " : " /";
    request_ += head.target;
    request_ += " HTTP/1.1\r\n";
    if (wants_page(head.accept)) request_ += "Accept: text/html\r\n";
    if (!head.keep_alive) {
      request_ += "Connection: close\r\n";
    } else if (head.minor_0) {
      request_ += "Connection: keep-alive\r\n";
    }
    request_ += "\r\n";
    read_ = 0;
    in_.erase(0, head.size);  // with what method and target are views of
    const int status = receive_body(head.chunked, head.length, head.expects_continue);
    if (status < 0) return received;
    if (status > 0) return refuse(status);
    if (!answered) return refuse(405);
    received.any = true;
    received.last = !head.keep_alive;
    return received;
  }

  // -- httplib::Stream
  ssize_t read(char* to, std::size_t size) override {
    const std::size_t n = request_.copy(to, size, read_);
    read_ += n;
    return static_cast<ssize_t>(n);
  }
  ssize_t write(const char* data, std::size_t size) override {
    out_.append(data, size);
    return static_cast<ssize_t>(size);
  }
  bool is_readable() const override { return read_ != request_.size(); }
  bool wait_readable() const override { return is_readable(); }
  bool wait_writable() const override { return true; }
  bool is_peer_alive() const override { return true; }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return socket_; }
  time_t duration() const override { return 0; }

 private:
  // Adds to in_ what comes next, of which there is some; 0 at the end of all, -1 if the time is up.
  ssize_t fill() {
    // An answer, or a "100 Continue", may be what the client waits for.
    if (!out_.empty() && !flush()) return -1;
    char more[2048];
    const ssize_t n = ssl_ ? repeat([&] { return SSL_read(ssl_.get(), more, sizeof more); })
                           : repeat([&] { return ::recv(socket_, more, sizeof more, 0); });
    if (n > 0) in_.append(more, static_cast<std::size_t>(n));
    return n;
  }

  // Takes a body from in_, and throws it away: no request needs one. The status to refuse it with,
  // 0, or -1 if the time is up.
  int receive_body(bool chunked, std::size_t length, bool expects_continue) {
    if (!chunked && length > max_body) return 413;
    for (;;) {
      const Chunked_Body body =
          chunked ? parse_chunked(in_) : Chunked_Body{in_.size() < length ? 0 : length, 0};
      if (body.status) return body.status;
      if (body.size || (!chunked && length == 0)) {
        in_.erase(0, body.size);
        return 0;
      }
      if (std::exchange(expects_continue, false) && in_.empty()) {
        out_ += "HTTP/1.1 100 Continue\r\n\r\n";
      }
      const ssize_t n = fill();
      if (n <= 0) return n < 0 ? -1 : 400;
    }
  }

  // Whether the socket is ready before the deadline.
  bool wait(short events) const {
    const auto left = duration_cast<milliseconds>(deadline_ - std::chrono::steady_clock::now());
    if (left <= 0ms) return false;
    pollfd ready{socket_, events, 0};
    return ::poll(&ready, 1, static_cast<int>(left.count()) + 1) > 0;
  }

  // Does `step` until it is done, fails or is out of time; its result.
  template <typename Step>
  ssize_t repeat(Step step) {
    for (;;) {
      ERR_clear_error();
      const ssize_t n = step();
      if (n > 0) return n;
      short events = 0;
      if (ssl_) {
        const int error = SSL_get_error(ssl_.get(), static_cast<int>(n));
        if (error == SSL_ERROR_WANT_READ) events = POLLIN;
        if (error == SSL_ERROR_WANT_WRITE) events = POLLOUT;
      } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        events = out_.empty() ? POLLIN : POLLOUT;
      }
      if (events == 0) return n;
      if (!wait(events)) return -1;
    }
  }

  struct Ssl_Deleter {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  const int socket_;
  const std::shared_ptr<SSL_CTX> context_;
  std::unique_ptr<SSL, Ssl_Deleter> ssl_;
  Deadline deadline_{};
  std::string in_;        // received, and not understood yet
  std::string request_;   // for cpp-httplib,
  std::size_t read_ = 0;  // which has read so much of it
  std::string out_;
};

// Bounds how many requests wait for something else than the cache, in all and of one address, so
// that those who ask for it cannot hold what a check needs. Thread-safe; the mutex guards the list.
class Waiting {
 public:
  Waiting(std::size_t most, std::size_t most_of_address)
      : most_(most), most_of_address_(most_of_address) {}

  // One that waits while this lives; false: it may not.
  class Place {
   public:
    Place(Waiting& of, const std::string& address) : of_(of) {
      const std::lock_guard lock(of_.mutex_);
      const auto waiting = std::count(of_.addresses_.begin(), of_.addresses_.end(), address);
      if (of_.addresses_.size() >= of_.most_ ||
          static_cast<std::size_t>(waiting) >= of_.most_of_address_) {
        return;
      }
      of_.addresses_.push_front(address);
      at_ = of_.addresses_.begin();
    }
    ~Place() {
      const std::lock_guard lock(of_.mutex_);
      if (at_) of_.addresses_.erase(*at_);
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    explicit operator bool() const { return at_.has_value(); }

   private:
    Waiting& of_;
    std::optional<std::list<std::string>::iterator> at_;
  };

 private:
  const std::size_t most_, most_of_address_;
  std::mutex mutex_;
  std::list<std::string> addresses_;
};

// The endpoints on a cpp-httplib server. Handlers run in its threads, and only read the cache, but
// for those few that a Waiting lets wait.
//
// A check must get its answer whoever else is connected, so a connection holds a thread, but none
// for long: it has request_time for each whole request, and when there are `capacity_` connections,
// or a quarter of that from one address, the one that has been waiting longest is closed for the
// new. They hold no more than half of the file descriptors: the database and the peers need theirs.
//
// A connection that is closed while its request waits goes only when that has its answer: as many
// may wait as there is room for beyond capacity_, so that they keep nobody out.
//
// Where descriptors, threads or memory run out all the same, capacity_ is as many connections as
// there turned out to be enough for, and those of the address that has the most are closed until it
// holds. It grows again slowly.
//
// The mutex guards the list of connections. A connection is its thread's; others only shut its
// socket down, which is safe as long as it is in the list. capacity_ is the accepting thread's.
class Http_Server : private httplib::Server {
 public:
  // Throws std::system_error if there is no thread to be had.
  // `peers` asks the other nodes, for /cluster.
  Http_Server(const Config& config, Repmgr_Node& node, const Tls& tls, const Stderr_Log& log,
              Http_Get peers = nullptr)
      : node_(node),
        tls_(tls),
        log_(log),
        process_{boottime(), config.node.max_connections_in_pool},
        cluster_(config, node, process_, std::move(peers)),
        most_(std::min(32 * static_cast<std::size_t>(config.http_threads), descriptors() / 2)),
        leaving_(std::clamp<std::size_t>(most_ / 4, 2, 64)),
        capacity_(most_),
        threads_(std::make_unique<Threads>(
            Threads::Limits{least, most_ + leaving_, stack, spare_memory})) {
    if (const auto wanted = 32 * config.http_threads; most_ < static_cast<std::size_t>(wanted)) {
      log_(Log_Level::warning, "only " + std::to_string(descriptors()) + " file descriptors: " +
                                   std::to_string(most_) + " of " + std::to_string(wanted) +
                                   " connections can be served at a time (raise LimitNOFILE)");
    }
    // Not SO_REUSEPORT, cpp-httplib's default: a second primgr on the port must fail.
    // Connections inherit the buffers: small, so that who asks and never reads is stopped soon.
    set_socket_options([](socket_t socket) {
      httplib::set_socket_opt(socket, SOL_SOCKET, SO_REUSEADDR, 1);
      httplib::set_socket_opt(socket, SOL_SOCKET, SO_SNDBUF, 16 * 1024);
      httplib::set_socket_opt(socket, SOL_SOCKET, SO_RCVBUF, 16 * 1024);
    });
    set_default_headers({{"Cache-Control", "no-store"}});
    set_keep_alive_timeout(request_time.count());  // it says so in its answers
    set_keep_alive_max_count(requests_a_connection);
    set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& to) {
      handle(request, to);
      return HandlerResponse::Handled;
    });
    set_error_handler([](const httplib::Request&, httplib::Response& to) {
      // The answers that carry no state have a JSON body too.
      if (to.body.empty()) to.set_content(tell_error(to.status), "application/json");
      return HandlerResponse::Handled;
    });
    set_post_routing_handler([](const httplib::Request& request, httplib::Response& to) {
      // cpp-httplib says "close" with each status from 400 on. Here they are states, and the
      // connection goes on if the client wants it to.
      const std::string connection = request.get_header_value("Connection");
      if (connection == "close") return;
      if (to.status >= 400) to.headers.erase("Connection");
      if (!connection.empty()) to.set_header("Connection", connection);
    });
    set_logger([this](const httplib::Request& request, const httplib::Response& to) {
      requests_.add(request.path, to.status);
      if (!log_.wants(Log_Level::debug)) return;  // at full speed, the line alone costs
      log_(Log_Level::debug, request.method + " " + request.path + " " + std::to_string(to.status) +
                                 " to " + request.remote_addr);
    });
  }
  ~Http_Server() override {
    stop();
    threads_.reset();  // waits for the connections
    if (svr_sock_ != INVALID_SOCKET) ::close(svr_sock_);
  }

  // From here on connections queue; run() answers them. False, with errno, if the address cannot be
  // had.
  bool bind(const Address& address) {
    errno = 0;
    // PostgreSQL's and HAProxy's word for every address of both families.
    if (address.host == "*")
      return bind_to_port("::", address.port) || bind_to_port("0.0.0.0", address.port);
    return bind_to_port(address.host, address.port);
  }
  // Any free port, for tests; the port, or -1.
  using httplib::Server::bind_to_any_port;

  // Takes connections until stop(). Blocks.
  void run() {
    while (!stopping_) {
      try {
        take_connection();
      } catch (const std::bad_alloc&) {
        make_do("no memory for another connection");
      }
      Reserve::refill();
    }
  }

  // Ends run(), and each connection after the answer that is under way. From any thread.
  void stop() {
    stopping_ = true;
    if (svr_sock_ != INVALID_SOCKET) ::shutdown(svr_sock_, SHUT_RDWR);
    const std::lock_guard lock(mutex_);
    for (const Held& held : held_) ::shutdown(held.socket, SHUT_RD);
  }

 private:
  static constexpr auto request_time = 5s;
  static constexpr auto lingering = 2000ms;  // see Connection::finish()
  static constexpr int requests_a_connection = 100'000;
  static constexpr std::size_t stack = 256 * 1024;
  static constexpr std::size_t least = 4;               // threads, and connections
  static constexpr std::size_t spare_memory = 8 << 20;  // bytes that connections leave to others

  // How many this process may have open.
  static std::size_t descriptors() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
    return std::clamp<std::size_t>(limit.rlim_cur, 16, 1 << 20);
  }

  using Source = std::array<unsigned char, 16>;  // an IPv6 address, also for IPv4

  // A connection.
  struct Held {
    Held(int s, Source f) : socket(s), from(f) {}
    const int socket;
    const Source from;
    std::atomic<Deadline> waiting_since{std::chrono::steady_clock::now()};
    bool evicted = false;
  };

  // Closes a socket that no connection has taken over.
  struct Socket {
    int fd;
    ~Socket() {
      if (fd >= 0) ::close(fd);
    }
  };

  static Source source(const sockaddr_storage& from) {
    Source bytes{};
    if (from.ss_family == AF_INET6) {
      std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6&>(from).sin6_addr, 16);
    } else {
      bytes[10] = bytes[11] = 0xff;
      std::memcpy(&bytes[12], &reinterpret_cast<const sockaddr_in&>(from).sin_addr, 4);
    }
    return bytes;
  }

  static std::string print(const Source& source) {
    char text[INET6_ADDRSTRLEN] = "";
    const bool ipv4 = IN6_IS_ADDR_V4MAPPED(reinterpret_cast<const in6_addr*>(source.data()));
    inet_ntop(ipv4 ? AF_INET : AF_INET6, source.data() + (ipv4 ? 12 : 0), text, sizeof text);
    return text;
  }

  void take_connection() {
    if (starved_.exchange(false)) make_do("no memory for a connection");
    {
      // Of a burst, those that were closed for others are to leave first.
      std::unique_lock lock(mutex_);
      left_.wait_for(lock, 100ms, [this] { return held_.size() < capacity_ + leaving_; });
    }
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    Socket socket{accept4(svr_sock_, reinterpret_cast<sockaddr*>(&from), &size,
                          SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (socket.fd >= 0) {
      serve_soon(socket, source(from));
    } else if (!stopping_ && errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
      make_do("cannot take a connection", errno);
    }
  }

  void serve_soon(Socket& socket, const Source& from) {
    httplib::set_socket_opt(socket.fd, IPPROTO_TCP, TCP_NODELAY, 1);
    Held* held;
    {
      const std::lock_guard lock(mutex_);
      std::size_t all = 0, of_address = 0;
      for (const Held& other : held_) {
        if (other.evicted) continue;
        ++all;
        of_address += other.from == from;
      }
      if (of_address >= std::max<std::size_t>(capacity_ / 4, 1)) {
        evict_one_of(&from);
      } else if (all >= capacity_) {
        evict_one_of(nullptr);
      }
      held = &held_.emplace_back(socket.fd, from);
    }
    std::optional<std::size_t> threads;
    try {
      threads = threads_->run([this, held] { serve(*held); });
      socket.fd = -1;  // serve()'s now
    } catch (const std::bad_alloc&) {
      const std::lock_guard lock(mutex_);
      held_.pop_back();
      throw;
    }
    // Those that were told to go give their threads up in a moment.
    if (threads && staying() > *threads) {
      make_do("no thread for another connection");
    } else if (const auto now = std::chrono::steady_clock::now(); now >= grow_at_) {
      capacity_ = std::min(most_, capacity_ + capacity_ / 8 + 1);
      grow_at_ = now + 1s;
    }
  }

  // How many connections were not told to go.
  std::size_t staying() {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(
        std::count_if(held_.begin(), held_.end(), [](const Held& held) { return !held.evicted; }));
  }

  // There is not enough for the connections that there are: there are to be fewer. Waits a moment
  // for one to leave. Needs no memory but for the log.
  void make_do(const char* what, int error = 0) noexcept {
    try {
      tell_exhausted(what + (error ? std::string(": ") + std::strerror(error) : ""));
    } catch (const std::bad_alloc&) {
    }
    std::size_t stay = staying();
    capacity_ = std::clamp<std::size_t>(stay, least + 1, most_) - 1;
    grow_at_ = std::chrono::steady_clock::now() + 1s;
    std::unique_lock lock(mutex_);
    const std::size_t before = held_.size();
    for (bool none_goes = stay >= before; none_goes || stay > capacity_; none_goes = false) {
      const Source* most = heaviest();
      if (!most || !evict_one_of(most)) break;
      --stay;
    }
    left_.wait_for(lock, before ? 100ms : 5ms, [&] { return held_.size() < before; });
  }

  // The address with the most connections; none without any. REQUIRES mutex_.
  // Of several, that of the connection that has been waiting longest.
  const Source* heaviest() const {
    const Held* heaviest = nullptr;
    std::ptrdiff_t most = 0;
    for (const Held& held : held_) {
      if (held.evicted) continue;
      const auto count = std::count_if(held_.begin(), held_.end(), [&](const Held& other) {
        return !other.evicted && other.from == held.from;
      });
      const bool longer = heaviest && held.waiting_since.load() < heaviest->waiting_since.load();
      if (count > most || (count == most && longer)) {
        most = count;
        heaviest = &held;
      }
    }
    return heaviest ? &heaviest->from : nullptr;
  }

  // Ends the connection that has been waiting longest; false if there is none.
  // REQUIRES mutex_. `from`: of that address; null: of any.
  bool evict_one_of(const Source* from) {
    Held* longest = nullptr;
    for (Held& held : held_) {
      if (held.evicted || (from && held.from != *from)) continue;
      if (!longest || held.waiting_since.load() < longest->waiting_since.load()) longest = &held;
    }
    if (!longest) return false;
    longest->evicted = true;
    ::shutdown(longest->socket, SHUT_RDWR);
    return true;
  }

  // Once a minute at most. The accepting thread's.
  void tell_exhausted(const std::string& what) {
    const auto now = std::chrono::steady_clock::now();
    if (now < quiet_until_) return;
    quiet_until_ = now + 1min;
    log_(Log_Level::error, what +
                               ": connections that wait longest are closed (more LimitNOFILE, "
                               "LimitNPROC or memory helps)");
  }

  void serve(Held& held) {
    try {
      talk(held);
    } catch (const std::exception&) {
      // There was no memory for it; the accepting thread sees to it that there will be.
      starved_ = true;
    }
    const std::lock_guard lock(mutex_);
    ::close(held.socket);
    held_.remove_if([&](const Held& other) { return &other == &held; });
    left_.notify_one();
  }

  void talk(Held& held) {
    // glibc ends the process if it has no memory to note a thread_local's destructor, and
    // cpp-httplib has such: where there is not even this, do not begin.
    ::operator delete(::operator new(64 * 1024));
    Connection connection(held.socket, tls_.context());
    const std::string from = print(held.from);
    const auto begin = [&](Deadline now) {
      held.waiting_since = now;
      connection.set_deadline(now + request_time);
    };
    begin(held.waiting_since);
    bool refused = false;
    bool last = !connection.handshake();
    for (int left = requests_a_connection; !last && !stopping_;
         begin(std::chrono::steady_clock::now())) {
      const auto received = connection.receive();
      if (!received.any) break;
      if (Reserve::is_spent()) throw std::bad_alloc();
      last = received.last || --left == 0;
      if (received.status) {
        // After what is not understood, there is no telling where the next request begins.
        refused = last = true;
        refuse(received.status, received.is_head, from, connection);
      } else {
        bool ended = false;
        last = !process_request(connection, from, 0, {}, 0, last, ended, nullptr) || last;
        last = !connection.flush() || last;
      }
    }
    connection.finish(refused ? lingering : 0ms);
  }

  static std::string tell_error(int status) {
    return dump({{"error", httplib::status_message(status)}});
  }

  // The one answer to what is not understood, or not allowed; the connection ends with it.
  void refuse(int status, bool is_head, const std::string& from, Connection& connection) {
    const std::string body = tell_error(status);
    const std::string answer = "HTTP/1.1 " + std::to_string(status) + " " +
                               httplib::status_message(status) +
                               "\r\nCache-Control: no-store\r\nConnection: close\r\n" +
                               (status == 405 ? "Allow: GET, HEAD, OPTIONS\r\n" : "") +
                               "Content-Length: " + std::to_string(body.size()) +
                               "\r\nContent-Type: application/json\r\n\r\n" + (is_head ? "" : body);
    connection.write(answer.data(), answer.size());
    if (!connection.flush()) return;
    requests_.add("other", status);
    if (!log_.wants(Log_Level::debug)) return;
    log_(Log_Level::debug, "refused with " + std::to_string(status) + " to " + from);
  }

  void handle(const httplib::Request& request, httplib::Response& to) {
    const std::string& path = request.path;
    if (path == "/state") {
      answer(get_reported_state(node_), to);
    } else if (path == "/") {
      answer_root(request, to);
    } else if (path == "/primary") {
      answer_primary(request, to);
    } else if (path == "/realPrimary") {
      answer(get_reported_real_primary(node_), to);
    } else if (path == "/replica" || path == "/read-only" || path == "/readiness") {
      answer(get_readable(node_, request.params, path != "/replica"), to);
    } else if (path == "/health") {
      const State state = node_.get_state();
      answer({state == State::down ? 503 : 200, dump({{"state", to_string(state)}})}, to);
    } else if (path == "/liveness") {
      const bool alive = node_.alive();
      answer({alive ? 200 : 503, dump({{"alive", alive}})}, to);
    } else if (path == "/node") {
      answer({200, dump(get_node(node_, process_))}, to);
    } else if (path == "/cluster") {
      const Waiting::Place place(waiting_for_nodes_, request.remote_addr);
      answer(cluster_.get(bool(place)), to);
      if (!place && to.status == 503) {
        to.set_header("Retry-After", std::to_string(cluster_.patience()));
      }
    } else if (path == "/metrics") {
      to.status = 200;
      to.set_content(get_metrics(node_, process_, tls_, requests_),
                     "text/plain; version=0.0.4; charset=utf-8");
    } else {
      to.status = 404;
    }
  }

  // A vote waits for its promise to be written, and for others' votes.
  void answer_primary(const httplib::Request& request, httplib::Response& to) {
    const std::string candidate = request.get_param_value("candidate");
    std::optional<Waiting::Place> place;
    if (!candidate.empty() && !place.emplace(waiting_for_votes_, request.remote_addr)) {
      answer({503, dump({{"state", to_string(State::unknown)}})}, to);
      return;
    }
    answer(get_reported_primary(node_, candidate, request.get_param_value("lease"),
                                request.get_param_value("voter")),
           to);
  }

  // The page for a browser, else the body of /state; the status is that of /state for both, since a
  // bare `option httpchk` asks for it.
  void answer_root(const httplib::Request& request, httplib::Response& to) {
    answer(get_reported_state(node_), to);
    to.set_header("Vary", "Accept");
    if (!request.has_header("Accept")) return;  // it is passed on if the page is what they want
    static const std::string policy = page_policy();
    to.set_header("Content-Security-Policy", policy);
    to.set_header("X-Content-Type-Options", "nosniff");
    to.set_header("Referrer-Policy", "no-referrer");
    to.set_content(page.data(), page.size(), "text/html; charset=utf-8");
  }

  static void answer(Answer&& answer, httplib::Response& to) {
    to.status = answer.status;
    to.set_content(std::move(answer.body), "application/json");
  }

  Repmgr_Node& node_;
  const Tls& tls_;
  const Stderr_Log& log_;
  const Process process_;
  Cluster cluster_;
  Request_Counts requests_;
  const std::size_t most_;
  const std::size_t
      leaving_;  // connections that were told to go, and go when nothing is waited for
  Waiting waiting_for_nodes_{leaving_ / 2, std::max<std::size_t>(leaving_ * 3 / 8, 1)};
  Waiting waiting_for_votes_{leaving_ / 2, std::max<std::size_t>(leaving_ * 3 / 8, 1)};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> starved_{false};  // a connection had no memory
  std::size_t capacity_;
  Deadline grow_at_{};
  Deadline quiet_until_{};
  std::mutex mutex_;
  std::list<Held> held_;
  std::condition_variable left_;
  std::unique_ptr<Threads> threads_;
};

// ---- the two ways to run ------------------------------------------------------------------------

// What the command line asks for.
struct Options {
  enum class What { daemon, once, status, look, check_config, version, help } what = What::daemon;
  std::string config_file;
  std::string listen;
  std::string log_level;
  Log_Format log_format = Log_Format::text;
  std::string question = "state";  // of --once
  std::string url;                 // of --status
  bool watch = false;
  bool json = false;
};

// Clocks that tell that a hypervisor has stopped this machine, where CLOCK_BOOTTIME does not: the
// wall clock, which somebody sets right afterwards, and on x86 the cycle counter, which goes on.
std::vector<Clock> other_clocks() {
  std::vector<Clock> clocks = {[] {
    const timespec now = wall_clock();
    return Time(std::chrono::seconds(now.tv_sec)) + Time(now.tv_nsec);
  }};
#if defined(__x86_64__)
  // How fast it counts is measured: some percent are good enough.
  const std::uint64_t first = __rdtsc();
  const Time begin = boottime();
  while (boottime() < begin + 1ms) {
  }
  const std::uint64_t cycles = __rdtsc() - first;
  const double length = static_cast<double>((boottime() - begin).count());
  if (cycles > 0) {
    clocks.push_back([first, rate = length / static_cast<double>(cycles)] {
      return Time(std::llround(static_cast<double>(__rdtsc() - first) * rate));
    });
  }
#endif
  return clocks;
}

constexpr const char* mode_names[] = {"",          "--once", "--status", "--look", "--check-config",
                                      "--version", "--help"};

// A node and what it reaches the world through.
struct Wired_Node {
  Wired_Node(const Config& config, const Tls& tls, const Stderr_Log& log, Grant_Store grants = {})
      : client(config, resolver, tls),
        node(
            config.node,
            [this](const Node& peer, const std::string& target, Time timeout,
                   std::function<void(Http_Reply)> done) {
              client.get(peer, target, timeout, std::move(done));
            },
            [this](const std::string& host, Time timeout) { return resolver(host, timeout); },
            boottime, [&log](Log_Level level, const std::string& message) { log(level, message); },
            std::move(grants),
            [this](const Node& peer, const std::string& target) { client.drop(peer, target); },
            other_clocks()) {}

  Resolver resolver;
  Http_Client client;
  Repmgr_Node node;
};

// Tells systemd how the daemon is, if it wants to know: sd_notify(3)'s protocol, one datagram to
// $NOTIFY_SOCKET.
void notify(const char* state) {
  const char* path = getenv("NOTIFY_SOCKET");
  sockaddr_un to{};
  if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof to.sun_path) return;
  to.sun_family = AF_UNIX;
  std::strcpy(to.sun_path, path);
  if (*path == '@') to.sun_path[0] = '\0';
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return;
  const auto size = offsetof(sockaddr_un, sun_path) + strlen(path);
  sendto(socket, state, strlen(state), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&to),
         static_cast<socklen_t>(size));
  close(socket);
}

// Where the daemon that listens on a port is told to look at its database now (`primgr --look`): a
// datagram socket in the abstract namespace, which has no file and so no folder, owner or mode: who
// tells is repmgrd, whose user is not the daemon's. Each network namespace has its own.
//
// Anybody on the host may send to it. A message says "look now", whatever is in it, and causes what
// a question for a vote from anywhere can cause too: one look, at most every 100 ms. Who takes the
// name first keeps notifications from the daemon, and nothing else.
class Look_Socket {
 public:
  explicit Look_Socket(int port) {
    address_.sun_family = AF_UNIX;
    const std::string name = "primgr:" + std::to_string(port);
    name.copy(address_.sun_path + 1, name.size());  // after a NUL
    size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  }
  ~Look_Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Look_Socket(const Look_Socket&) = delete;
  Look_Socket& operator=(const Look_Socket&) = delete;

  // Takes the name. False, with errno: not to be had now.
  bool bind() {
    if (!open()) return false;
    if (::bind(fd_, reinterpret_cast<const sockaddr*>(&address_), size_) == 0) return true;
    const int error = errno;
    close(std::exchange(fd_, -1));
    errno = error;
    return false;
  }
  // To poll(2) for; -1: without the name.
  int fd() const { return fd_; }
  // Forgets what has come; so much at a time, lest who sends without end keeps the caller.
  void drain() const {
    char ignored;
    for (int i = 0; i < 1000 && recv(fd_, &ignored, 1, MSG_DONTWAIT) >= 0;) ++i;
  }

  // Tells who has the name to look. False, with errno: nobody was told.
  bool tell() {
    if (!open()) return false;
    const auto sent = sendto(fd_, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL,
                             reinterpret_cast<const sockaddr*>(&address_), size_);
    return sent == 0 || errno == EAGAIN;  // full of such messages: it has been told
  }

 private:
  bool open() { return fd_ >= 0 || (fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) >= 0; }

  sockaddr_un address_{};
  socklen_t size_ = 0;
  int fd_ = -1;
};

// `primgr --look`. Reads no more than it needs: repmgr's user may read neither key nor passfile.
int run_look(int port) {
  Look_Socket socket(port);
  if (socket.tell()) return 0;
  std::cerr << "primgr: no daemon was told to look: "
            << (errno == ECONNREFUSED ? "none answers for port " + std::to_string(port) +
                                            " of this host (is primgr running here, and is this "
                                            "its configuration?)"
                                      : std::strerror(errno))
            << std::endl;
  return exit_unavailable;
}

// As many descriptors as the system lets this process have: each connection and question is one.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::max(limit.rlim_cur, std::min<rlim_t>(limit.rlim_max, 65536));
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::string why_no_listening(int error) {
  const std::string what = error ? std::strerror(error) : "no such address";
  if (error == EADDRINUSE) return what + ": is another primgr running?";
  if (error == EADDRNOTAVAIL) return what + ": no interface has it (listen)";
  if (error == EACCES) return what + ": ports below 1024 are for root";
  return what;
}

// Runs the daemon until SIGTERM or SIGINT, which main() has blocked in every thread. Returns the
// exit status.
int run_daemon(const Config& config, Tls& tls, const Stderr_Log& log, const sigset_t& signals) {
  raise_descriptor_limit();
  const int signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  if (signal_fd < 0) throw std::system_error(errno, std::generic_category(), "signalfd");
  std::optional<Grant_Keeper> keeper;
  Grant_Store store;
  if (!config.state_file.empty()) {
    keeper.emplace(file_store(config),
                   [&](Log_Level level, const std::string& message) { log(level, message); });
    try {
      // Not for ever: SIGTERM is looked at only when this is over.
      store.load = [known = keeper->load(2s)] { return known; };
    } catch (const Config_Error& error) {
      log(Log_Level::error, error.what());
      return exit_config;
    } catch (const In_Use& error) {
      log(Log_Level::error, error.what());
      return exit_unavailable;
    }
    store.save = [&](const Grant& grant, Deadline until) { return keeper->save(grant, until); };
  }
  Wired_Node wired(config, tls, log, std::move(store));
  Repmgr_Node& node = wired.node;
  Http_Server server(config, node, tls, log,
                     [&](const Node& peer, const std::string& target, Time timeout,
                         std::function<void(Http_Reply)> done) {
                       wired.client.get(peer, target, timeout, std::move(done));
                     });
  if (!server.bind(config.listen)) {
    log(Log_Level::error,
        "cannot listen on " + print_address(config.listen) + ": " + why_no_listening(errno));
    return exit_unavailable;
  }
  log(Log_Level::info, "primgr " PRIMGR_VERSION " answers for node \"" + config.node.node_name +
                           "\" on " + print_address(config.listen) +
                           (tls.enabled() ? " (TLS)" : ""));
  tls.tell_expiry();

  // Ended whichever way this function is left, before what they use.
  struct Running {
    Http_Server& server;
    Repmgr_Node& node;
    std::thread refresher, listener;
    void end() {
      server.stop();
      node.stop();
      if (refresher.joinable()) refresher.join();
      if (listener.joinable()) listener.join();
    }
    ~Running() { end(); }
  } running{server, node, {}, {}};
  running.refresher = std::thread([&] {
    for (;; std::this_thread::sleep_for(10ms)) {
      try {
        return node.run();
      } catch (const std::bad_alloc&) {
        // There was no memory for this turn: the next may have it.
      }
    }
  });
  // The first answer is to be a true one: connections wait in the backlog for the first look.
  const Deadline patience = std::chrono::steady_clock::now() + 1s;
  while (!node.settled() && std::chrono::steady_clock::now() < patience) {
    std::this_thread::sleep_for(1ms);
  }
  running.listener = std::thread([&] { server.run(); });
  notify("READY=1");

  // Between signals and messages: certificates that were replaced, and systemd's watchdog, which is
  // fed while the refresher turns. It turns once a refresh_interval at least, unless it is stuck.
  Look_Socket looks(config.listen.port);
  bool looks_missed = false;
  int signal = 0;
  Time turned_at{};
  Deadline upkeep_due{}, deaf_until{};
  do {
    const auto now = std::chrono::steady_clock::now();
    if (signal == SIGHUP || now >= upkeep_due) {
      upkeep_due = now + 2s;
      malloc_trim(0);  // return memory after a load spike
      Reserve::refill();
      try {
        tls.renew(signal == SIGHUP);
      } catch (const std::bad_alloc&) {
        // The next turn tries again.
      }
      const Time turned = node.turned_at();
      if (std::exchange(turned_at, turned) != turned) notify("WATCHDOG=1");
      // A daemon that is just ending may have the name for a moment yet.
      if (looks.fd() < 0 && !looks.bind() && !std::exchange(looks_missed, true)) {
        log(Log_Level::warning,
            std::string("--look does not reach this daemon for now: ") + std::strerror(errno));
      }
    }
    const bool deaf = now < deaf_until;
    pollfd ready[] = {{signal_fd, POLLIN, 0}, {deaf ? -1 : looks.fd(), POLLIN, 0}};
    poll(ready, 2, deaf ? 100 : 2000);
    signalfd_siginfo taken{};
    signal = read(signal_fd, &taken, sizeof taken) == sizeof taken
                 ? static_cast<int>(taken.ssi_signo)
                 : 0;
    if (ready[1].revents) {
      looks.drain();
      deaf_until = std::chrono::steady_clock::now() + 100ms;
      log(Log_Level::debug, "told to look (--look)");
    }
    if (signal == SIGUSR1 || ready[1].revents) node.look_now();
  } while (signal != SIGTERM && signal != SIGINT);
  close(signal_fd);

  // A slow name service or a silent peer is not worth waiting for. This needs neither a thread nor
  // memory.
  ::signal(SIGALRM, [](int) { std::_Exit(0); });
  const itimerval patience_at_end{{}, {0, 500'000}};
  setitimer(ITIMER_REAL, &patience_at_end, nullptr);
  notify("STOPPING=1");
  server.stop();
  try {
    log(Log_Level::info,
        std::string("primgr ends on ") + (signal == SIGINT ? "SIGINT" : "SIGTERM"));
  } catch (const std::bad_alloc&) {
  }
  running.end();
  return 0;
}

// ---- asking a daemon ----------------------------------------------------------------------------

// Where --status asks: a daemon's address, and whether it speaks TLS.
struct Url {
  bool tls = false;
  Address address;
};

// http://HOST[:PORT] or https://HOST[:PORT]. Throws Config_Error.
Url parse_url(std::string text) {
  const std::string whole = text;
  Url url;
  url.tls = text.starts_with("https://");
  if (!url.tls && !text.starts_with("http://")) {
    throw Config_Error("--url \"" + whole + "\" is not http://HOST[:PORT] or https://HOST[:PORT]");
  }
  text.erase(0, text.find("://") + 3);
  if (text.ends_with('/')) text.pop_back();
  try {
    url.address = parse_address(text, false);
  } catch (const Config_Error& error) {
    throw Config_Error(std::string("--url: ") + error.what());
  }
  if (url.address.port == 0) url.address.port = 5999;
  return url;
}

std::string print_url(const Url& url) {
  return (url.tls ? "https://" : "http://") + print_address(url.address);
}

// The daemon of this very host, as the configuration has it.
Url own_daemon(const Config& config) {
  Url url{!config.tls_cert.empty(), config.listen};
  if (url.address.host == "0.0.0.0" || url.address.host == "*") url.address.host = "127.0.0.1";
  if (url.address.host == "::") url.address.host = "::1";
  return url;
}

// Asks a daemon. `own`: that of this host, whose certificate is for the host's name and not for the
// address that it is asked at.
Http_Reply ask_daemon(const Tls& tls, const Url& url, bool own, const std::string& path) {
  constexpr std::size_t most = 64 << 20;
  std::unique_ptr<httplib::ClientImpl> client;
  if (url.tls) {
    auto https = std::make_unique<httplib::SSLClient>(url.address.host, url.address.port);
    if (!https->is_valid()) throw Config_Error("tls: out of memory");
    if (tls.enabled()) tls.equip(context_of(*https), own ? "" : url.address.host);
    // Where no tls_ca says whom to believe, the system's authorities do.
    https->enable_server_certificate_verification(!own && !tls.verifies());
    client = std::move(https);
  } else {
    client = std::make_unique<httplib::ClientImpl>(url.address.host, url.address.port);
  }
  client->set_connection_timeout(5s);
  client->set_read_timeout(10s);
  client->set_max_timeout(15s);
  Http_Reply reply;
  const auto result = client->Get(path, [&](const char* data, std::size_t size) {
    if (reply.body.size() + size > most) return false;
    reply.body.append(data, size);
    return true;
  });
  if (!result) return {0, {}, tell(result.error()), {}};
  reply.status = result->status;
  return reply;
}

// What is at a key of a JSON object, if it is of that type: what comes from other hosts is hostile.
const Json& at(const Json& json, const char* key) {
  static const Json nothing;
  const auto found = json.is_object() ? json.find(key) : json.end();
  return !json.is_object() || found == json.end() ? nothing : *found;
}
std::string text_at(const Json& json, const char* key) {
  const Json& value = at(json, key);
  return value.is_string() ? printable(value.get<std::string>()) : std::string();
}
// Within what any integer type of 64 bits holds.
std::optional<double> number_at(const Json& json, const char* key) {
  const Json& value = at(json, key);
  if (!value.is_number()) return std::nullopt;
  return std::clamp(value.get<double>(), -1e15, 1e15);
}

// "12 kB", as pg_size_pretty() has it.
std::string print_size(double bytes) {
  static constexpr const char* names[] = {"bytes", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  for (; bytes >= 10 * 1024 && unit + 1 < std::size(names); ++unit) bytes /= 1024;
  return std::to_string(std::llround(bytes)) + " " + names[unit];
}

// A time from another host: any number.
std::string print_seconds(double seconds) {
  return tell_time(
      duration_cast<Time>(std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e9))));
}

// The answer to /cluster as a table, and what is not as it should be in words. `colour`: with the
// escapes of a terminal.
std::string print_status(const Json& cluster, bool colour) {
  struct Cell {
    std::string text;
    const char* colour = "";
    // As many columns as a terminal gives it: bytes that begin a character.
    std::size_t width() const {
      return static_cast<std::size_t>(
          std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
    }
  };
  static constexpr const char *good = "32", *fair = "33", *bad = "31", *bold = "1;32";
  std::vector<std::vector<Cell>> rows = {{{"Site"},
                                          {"Node"},
                                          {"Role"},
                                          {"State"},
                                          {"Since"},
                                          {"Votes"},
                                          {"Timeline"},
                                          {"Position"},
                                          {"Replay lag"}}};
  std::string remarks;
  const auto remark = [&](const Json& node, const std::string& text) {
    remarks += text_at(node, "name") + ": " + text + "\n";
  };
  for (const Json& site : at(cluster, "sites")) {
    for (const Json& node : at(site, "nodes")) {
      const Json& votes = at(node, "votes");
      const Json& replication = at(node, "replication");
      std::string state = text_at(node, "state"), voted, lag;
      const char* shown = state == "Primary" ? bold : state == "Standby" ? good : bad;
      if (at(node, "reachable") != true) {
        state = "unreachable";
        remark(node, state + ": " + text_at(node, "error"));
      } else if (state != "Primary" && state != "Standby") {
        if (state == "Unknown") shown = fair;
        remark(node, state + ": " + text_at(node, "reason"));
      }
      if (const auto problem = text_at(node, "nodesProblem"); !problem.empty()) {
        remark(node, "repmgr.nodes is blocked (" + problem + "): the list of " +
                         print_seconds(number_at(node, "nodesAgeSeconds").value_or(0)) +
                         " ago stands");
      }
      const auto counted = number_at(votes, "counted"), of = number_at(votes, "of");
      if (counted && of) {
        voted = std::to_string(std::llround(*counted)) + " of " + std::to_string(std::llround(*of));
        if (*counted < *of && state == "Primary") {
          remark(node, "votes are missing: " + text_at(node, "reason"));
        }
      }
      if (state == "Standby") {
        const auto bytes = number_at(replication, "replayLagBytes");
        const auto seconds = number_at(replication, "replayLagSeconds");
        lag = bytes ? print_size(*bytes) : "unbounded";
        if (bytes && seconds) lag += ", " + print_seconds(*seconds);
        if (const auto problem = text_at(replication, "problem"); !problem.empty()) {
          remark(node, problem);
        }
        if (at(replication, "replayPaused") == true) remark(node, "replay is paused");
      }
      const auto since = number_at(node, "stateSeconds"), timeline = number_at(node, "timeline");
      rows.push_back({{text_at(site, "site")},
                      {text_at(node, "name")},
                      {text_at(node, "role")},
                      {state, shown},
                      {since ? print_seconds(*since) : ""},
                      {voted},
                      {timeline ? std::to_string(std::llround(*timeline)) : ""},
                      {text_at(node, "position")},
                      {lag, lag == "unbounded" ? bad : ""}});
    }
  }
  std::vector<std::size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].width());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool coloured = colour && *row[i].colour;
      line += i ? " | " : " ";
      if (coloured) line += std::string("\x1b[") + row[i].colour + "m";
      line += row[i].text;
      if (coloured) line += "\x1b[0m";
      if (i + 1 < row.size()) line.append(widths[i] - row[i].width(), ' ');
    }
    text += line.erase(line.find_last_not_of(' ') + 1) + "\n";
    if (&row != &rows.front()) continue;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      text += (i ? "+" : "") + std::string(widths[i] + 2, '-');
    }
    text += "\n";
  }
  const std::string primary = text_at(cluster, "realPrimary");
  std::string verdict = "Primary: " + primary;
  if (primary.empty()) verdict = "No primary";
  if (const Json& claimants = at(cluster, "claimants"); claimants.is_array()) {
    verdict = "MORE THAN ONE PRIMARY:";
    for (const Json& name : claimants) {
      if (name.is_string()) verdict += " " + printable(name.get<std::string>());
    }
  }
  if (colour)
    verdict = "\x1b[" + std::string(primary.empty() ? bad : bold) + "m" + verdict + "\x1b[0m";
  return text + "\n" + remarks + verdict + " (seen from " + text_at(cluster, "from") + " at " +
         text_at(cluster, "at") + ")\n";
}

// The exit status of who has printed something: `status`, unless it was not taken.
int printed(int status) {
  errno = 0;
  if (std::cout.flush()) return status;
  std::cerr << "primgr: cannot write to standard output"
            << (errno ? std::string(": ") + std::strerror(errno) : "") << std::endl;
  return exit_unavailable;
}

// Asks a daemon for the cluster, prints it, and again if it is to be watched. Returns the exit
// status: 0 exactly one Primary, 2 none or more than one, exit_unavailable no answer.
int run_status(const Config& config, const Options& options, const Stderr_Log& log) {
  const bool own = options.url.empty();
  const Url url = own ? own_daemon(config) : parse_url(options.url);
  const Tls tls(url.tls ? config : Config(), log);
  const char* no_colour = getenv("NO_COLOR");
  const bool terminal = isatty(STDOUT_FILENO);
  if (options.watch) signal(SIGHUP, SIG_DFL);  // it ends with its terminal
  const bool colour = terminal && !(no_colour && *no_colour);
  for (;; std::this_thread::sleep_for(2s)) {
    int status = exit_unavailable;
    const Http_Reply reply = ask_daemon(tls, url, own, "/cluster");
    const Json cluster = Json::parse(
        reply.body, [](int depth, Json::parse_event_t, Json&) { return depth <= 9; }, false);
    if (options.watch && terminal && !options.json) std::cout << "\x1b[H\x1b[J";
    if (reply.status == 0 || !at(cluster, "sites").is_array()) {
      std::cerr << "primgr: no answer to /cluster from " << print_url(url) << ": "
                << (reply.status == 0     ? reply.error
                    : reply.status == 200 ? "not what a primgr says"
                                          : "HTTP status " + std::to_string(reply.status))
                << (own ? " (is primgr running here? --url asks another node)" : "") << std::endl;
    } else {
      if (options.json) {
        std::cout << printable_json(reply.body) << '\n';
      } else {
        std::cout << print_status(cluster, colour);
      }
      status = at(cluster, "realPrimary").is_string() ? 0 : 2;
    }
    if (!options.watch) return printed(status);
    if (!terminal && !options.json) std::cout << '\n';
    if (const int failed = printed(0)) return failed;
  }
}

// What the daemon of this host answers to /realPrimary: it knows the nodes of before its database
// went down.
std::optional<Answer> ask_real_primary(const Config& config, const Tls& tls) {
  const Http_Reply reply = ask_daemon(tls, own_daemon(config), true, "/realPrimary");
  const Json told = Json::parse(reply.body, nullptr, false);
  const bool is_one = reply.status == 200 && at(told, "realPrimary").is_string();
  const bool is_none =
      reply.status != 0 && reply.status != 200 && told.is_object() && told.contains("realPrimary");
  if (!is_one && !is_none) return std::nullopt;
  return Answer{reply.status, reply.body};
}

// Looks, prints, and ends the process with the exit status.
[[noreturn]] void run_once(Config config, const Tls& tls, const Options& options,
                           const Stderr_Log& log) {
  config.node.candidate = false;
  Wired_Node wired(config, tls, log);
  Repmgr_Node& node = wired.node;
  node.run([&] { return node.settled(options.question == "real-primary"); });

  Answer answer;
  int status;
  std::string word;
  if (options.question == "state") {
    answer = get_reported_state(node);
    status = static_cast<int>(node.get_state());
    word = to_string(node.get_state());
  } else {
    const bool real = options.question == "real-primary";
    answer = real ? get_reported_real_primary(node) : get_reported_primary(node, {}, {});
    if (real && !node.get_real_primary().nodes_known) {
      answer = ask_real_primary(config, tls).value_or(answer);
    }
    const auto body = Json::parse(answer.body);
    if (answer.status == 200) {
      word = body.at(real ? "realPrimary" : "Primary");
      status = 0;
    } else {
      word = body.value("state", "Unknown");
      status = word == "Down" ? 3 : 2;
    }
  }
  std::cout << (options.json ? answer.body : printable(word)) << '\n';
  // The answer is certain: the peers that have not spoken yet are not worth waiting for.
  std::_Exit(printed(status));
}

constexpr const char* usage =
    R"(usage: primgr [--config FILE] [--listen ADDR:PORT] [--log-level LEVEL] [--log-format FORMAT]
       primgr --once [state|primary|real-primary] [--json]
       primgr --status [--watch] [--json] [--url URL]
       primgr --look
       primgr --check-config
       primgr --version | --help

Says what this node of a repmgr cluster is right now: Primary, Standby, Unknown or Down.
Without --once it serves that over HTTP: /state, /primary, /realPrimary, /cluster and more.

  -c, --config FILE       read FILE instead of /etc/primgr.conf
  -l, --listen ADDR:PORT  serve there instead of where the configuration says
  -L, --log-level LEVEL   error, warning, info or debug
  -F, --log-format FORMAT text or json: a line an event, either way
  -1, --once [WHAT]       look, print one word, exit; no daemon is needed
                            state         0 Primary, 1 Standby, 2 Unknown, 3 Down
                            primary       whom this node's database names: 0 printed, 2 none, 3 Down
                            real-primary  the cluster's one Primary: 0 printed, 2 none or several, 3 Down
  -s, --status            show the cluster as the daemon of this host sees it: 0 exactly one
                            Primary, 2 none or several, 69 no daemon answers
  -u, --url URL           with --status: ask http[s]://HOST[:PORT] instead
  -w, --watch             with --status: again every 2 s
  -n, --look              tell the daemon of this host to look at its database now: 0 told, 69 no
                            daemon; for repmgr's event_notification_command, as any user
  -j, --json              with --once, --status: print what the HTTP endpoint answers
  -C, --check-config      print the configuration in force, exit
  -V, --version           print the versions of primgr and of what is inside, exit
  -h, --help              print this, exit
)";

// Reads the command line. Throws Config_Error on wrong usage.
Options parse_options(int argc, char** argv) {
  static const option long_options[] = {{"config", required_argument, nullptr, 'c'},
                                        {"listen", required_argument, nullptr, 'l'},
                                        {"log-level", required_argument, nullptr, 'L'},
                                        {"log-format", required_argument, nullptr, 'F'},
                                        {"status", no_argument, nullptr, 's'},
                                        {"url", required_argument, nullptr, 'u'},
                                        {"watch", no_argument, nullptr, 'w'},
                                        {"once", no_argument, nullptr, '1'},
                                        {"json", no_argument, nullptr, 'j'},
                                        {"look", no_argument, nullptr, 'n'},
                                        {"check-config", no_argument, nullptr, 'C'},
                                        {"version", no_argument, nullptr, 'V'},
                                        {"help", no_argument, nullptr, 'h'},
                                        {nullptr, 0, nullptr, 0}};
  Options options;
  const auto mode = [&](Options::What what) {
    if (options.what != Options::What::daemon && options.what != what) {
      throw Config_Error(std::string(mode_names[static_cast<int>(std::min(options.what, what))]) +
                         " and " + mode_names[static_cast<int>(std::max(options.what, what))] +
                         " do not go together");
    }
    options.what = what;
  };
  // Whether a value can be read.
  const auto check = [](const char* name, const auto& parse) {
    try {
      parse(optarg);
    } catch (const Config_Error& error) {
      throw Config_Error(std::string(name) + ": " + error.what());
    }
    return std::string(optarg);
  };
  optind = 0;
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, ":c:l:L:F:1su:wnjCVh", long_options, nullptr)) != -1;) {
    switch (c) {
      case 'c':
        if (!*optarg) throw Config_Error("--config needs the name of a file");
        options.config_file = optarg;
        break;
      case 'l':
        options.listen = check("--listen", [](const char* text) { parse_address(text, true); });
        break;
      case 'L':
        options.log_level = check("--log-level", parse_log_level);
        break;
      case 'F':
        if (optarg != std::string_view("text") && optarg != std::string_view("json"))
          throw Config_Error("--log-format " + std::string(optarg) + ": text or json");
        options.log_format = *optarg == 'j' ? Log_Format::json : Log_Format::text;
        break;
      case 's':
        mode(Options::What::status);
        break;
      case 'u':
        parse_url(optarg);
        options.url = optarg;
        break;
      case 'w':
        options.watch = true;
        break;
      case '1':
        mode(Options::What::once);
        break;
      case 'j':
        options.json = true;
        break;
      case 'n':
        mode(Options::What::look);
        break;
      case 'C':
        mode(Options::What::check_config);
        break;
      case 'V':
        mode(Options::What::version);
        break;
      case 'h':
        mode(Options::What::help);
        break;
      case ':':
        throw Config_Error(std::string(argv[optind - 1]) + " needs a value");
      default:
        throw Config_Error(std::string("unknown option ") + argv[optind - 1]);
    }
  }
  const bool once = options.what == Options::What::once;
  if (once && optind < argc) {
    options.question = argv[optind++];
    if (options.question != "state" && options.question != "primary" &&
        options.question != "real-primary") {
      throw Config_Error("--once " + options.question + ": ask for state, primary or real-primary");
    }
  }
  if (optind < argc) throw Config_Error(std::string("unexpected argument ") + argv[optind]);
  const bool status = options.what == Options::What::status;
  if (options.json && !once && !status) throw Config_Error("--json goes with --once or --status");
  if (options.watch && !status) throw Config_Error("--watch goes with --status");
  if (!options.url.empty() && !status) throw Config_Error("--url goes with --status");
  return options;
}

int run(int argc, char** argv) {
  Options options;
  try {
    options = parse_options(argc, argv);
  } catch (const Config_Error& error) {
    std::cerr << "primgr: " << printable(error.what()) << "\nTry primgr --help\n";
    return exit_usage;
  }
  if (options.what == Options::What::help) {
    std::cout << usage;
    return printed(0);
  }
  if (options.what == Options::What::version) {
    const int libpq = PQlibVersion();
    std::cout << "primgr " PRIMGR_VERSION " (cpp-httplib " CPPHTTPLIB_VERSION ", libpq "
              << libpq / 10000 << '.' << libpq % 10000 << ", " << OpenSSL_version(OPENSSL_VERSION)
              << ")\n";
    return printed(0);
  }
  Config config;
  try {
    if (options.what == Options::What::look) {
      // With --listen there is nothing to read.
      return run_look(options.listen.empty() ? read_config(options.config_file).listen.port
                                             : parse_address(options.listen, true).port);
    }
    config = load_config(options.config_file);
  } catch (const Config_Error& error) {
    std::cerr << "primgr: " << printable(error.what()) << '\n';
    return exit_config;
  }
  if (!options.listen.empty()) config.listen = parse_address(options.listen, true);
  // A script wants its word; why it is that word is told on request.
  if (options.what == Options::What::once) config.log_level = Log_Level::error;
  if (!options.log_level.empty()) config.log_level = parse_log_level(options.log_level);
  const Stderr_Log log(config.log_level, options.log_format);
  std::unique_ptr<Tls> tls;
  try {
    if (options.what == Options::What::status) return run_status(config, options, log);
    tls = std::make_unique<Tls>(config, log);
  } catch (const Config_Error& error) {
    std::cerr << "primgr: " << printable(error.what()) << '\n';
    return exit_config;
  }
  if (options.what == Options::What::check_config) {
    try {
      Grant_File::check(config.state_file);
    } catch (const Config_Error& error) {
      std::cerr << "primgr: " << printable(error.what()) << '\n';
      return exit_config;
    }
    std::cout << print_config(config);
    return printed(0);
  }
  if (options.what == Options::What::once) run_once(config, *tls, options, log);

  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGUSR1, SIG_DFL);
  signal(SIGHUP, SIG_DFL);
  try {
    return run_daemon(config, *tls, log, signals);
  } catch (const std::exception& error) {  // std::system_error for threads, std::bad_alloc
    log(Log_Level::error, std::string("cannot run: ") + error.what() +
                              " (raise LimitNPROC, LimitNOFILE or the limits of memory)");
    return exit_unavailable;
  }
}

}  // namespace primgr

#ifndef PRIMGR_NO_MAIN
int main(int argc, char** argv) {
  // A closed standard stream would be the next socket's descriptor, and the log would go there.
  int fd;
  while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO) {
    // What is to be printed, and cannot be, is an error.
    if (fd == STDOUT_FILENO && close(fd) == 0) open("/dev/null", O_RDONLY);
  }
  if (fd > STDERR_FILENO) close(fd);
  // A static glibc would load the host's NSS modules, which may be another glibc's: these are
  // inside.
  __nss_configure_lookup("hosts", "files dns");
  __nss_configure_lookup("passwd", "files");
  // An arena more takes 64 MB of address space, which a limit on it (RLIMIT_AS) may not have.
  mallopt(M_ARENA_MAX, 1);
  primgr::Reserve::install();
  signal(SIGPIPE, SIG_IGN);
  // They are for the daemon, which takes them up in run(); who sends them to every process of this
  // name must not end one that was only asked something.
  signal(SIGUSR1, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  return primgr::run(argc, argv);
}
#endif
