#include "node/conninfo.hpp"

#include <cstring>

#include "node/units.hpp"

namespace primgr {

std::string conninfo_option(const Conninfo& options, std::string_view keyword) {
  for (auto* o = options.get(); o && o->keyword; ++o) {
    if (o->keyword == keyword) return o->val ? o->val : "";
  }
  return {};
}

bool is_tcp_host(std::string_view host) {
  return !host.empty() && host.front() != '/' && host.front() != '@';
}

std::string conninfo_host(const std::string& conninfo) {
  const Conninfo options(PQconninfoParse(conninfo.c_str(), nullptr));
  std::string host = conninfo_option(options, "hostaddr");
  if (host.empty()) host = conninfo_option(options, "host");
  host = host.substr(0, host.find(','));
  // An @ is in no host's name: it is a password's that ran into it, and hosts are told to others.
  const bool has_at = host.find('@') != host.npos;
  return is_tcp_host(host) && !has_at ? host : std::string();
}

namespace {

// What is wrong with a connection string that libpq cannot read, from its complaint. libpq quotes
// the part that it cannot read, which may be one of a password (user:password@host/db), so it is
// told in words of our own, and of what is quoted only a keyword where nothing looks like a secret.
std::string describe_conninfo_error(const std::string& text, std::string_view complaint) {
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

}  // namespace

std::string parse_conninfo(const std::string& text) {
  char* error = nullptr;
  const Conninfo options(PQconninfoParse(text.c_str(), &error));
  if (!options) {
    const std::string complaint = error ? error : "out of memory";
    PQfreemem(error);
    throw Config_Error("not a libpq connection string: " +
                       describe_conninfo_error(text, complaint));
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

std::string print_conninfo(const std::string& conninfo) {
  const Conninfo options(PQconninfoParse(conninfo.c_str(), nullptr));
  std::string text;
  for (auto* option = options.get(); option && option->keyword; ++option) {
    if (!option->val) continue;
    std::string value;
    const std::string_view keyword = option->keyword;
    // libpq marks passwords, and not the keys that are as good as one. A database's name with an @
    // or = may be the rest of one.
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
  return text;
}

}  // namespace primgr
