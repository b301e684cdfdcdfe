#include "node/database/conninfo.hpp"

#include <cstring>

#include "base/error.hpp"

namespace primgr {

std::string libpq_version() {
  return std::to_string(PQlibVersion() / 10000) + '.' + std::to_string(PQlibVersion() % 10000);
}

std::string conninfo_option(const Conninfo& options, std::string_view keyword) {
  for (auto* o = options.get(); o && o->keyword; ++o) {
    if (o->keyword == keyword) return o->val ? o->val : "";
  }
  return {};
}

bool is_tcp_host(std::string_view host) {
  return !host.empty() && host.front() != '/' && host.front() != '@';
}

Conninfo_Host conninfo_host(const std::string& conninfo) {
  const Conninfo options(PQconninfoParse(conninfo.c_str(), nullptr));
  const auto first = [&](const char* keyword) {
    const std::string hosts = conninfo_option(options, keyword);
    const std::string host = hosts.substr(0, hosts.find(','));
    // No host name contains an @. It comes from a password that was not escaped in a URL, and the
    // result is shown to other hosts.
    const bool has_at = host.find('@') != host.npos;
    return is_tcp_host(host) && !has_at ? host : std::string();
  };
  const std::string name = first("host"), address = first("hostaddr");
  if (name.empty()) return {address, {}};
  return {name, address};
}

namespace {

// An error message for a connection string that libpq cannot parse, made from libpq's message.
// libpq's message quotes the part that it cannot parse, which may be part of a password
// (user:password@host/db). So its words are not used. The exception is a keyword that it quotes, if
// nothing in `text` looks like a secret.
std::string describe_conninfo_error(const std::string& text, std::string_view message) {
  constexpr std::string_view option = "invalid connection option \"";
  const auto has = [&](const char* part) { return text.find(part) != std::string::npos; };
  const bool may_hold_secret = has("pass") || has("scram") || has("secret") || has(":") || has("@");
  if (message.starts_with(option) && !may_hold_secret) {
    const std::string_view keyword =
        message.substr(option.size(), message.find('"', option.size()) - option.size());
    const bool is_word = keyword.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == keyword.npos;
    if (!keyword.empty() && is_word)
      return "libpq knows no option \"" + std::string(keyword) + "\"";
  }
  std::string what = "a keyword in it is none that libpq knows";
  if (text.starts_with("postgresql://") || text.starts_with("postgres://")) {
    what = "not of the form postgresql://user@host:port/dbname?keyword=value";
  } else if (message.starts_with(std::string(option) + "\"")) {
    what = "a keyword is missing, or begins with a double quote";
  } else if (message.starts_with("missing \"=\"")) {
    what = "not of the form keyword=value keyword=value";
  } else if (message.starts_with("unterminated quoted string")) {
    what = "the closing quote of a value is missing";
  } else if (!message.starts_with(option)) {
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
    const std::string message = error ? error : "out of memory";
    PQfreemem(error);
    throw Input_Error("not a libpq connection string: " + describe_conninfo_error(text, message));
  }
  for (const auto* option = options.get(); option->keyword; ++option) {
    if (!option->val || *option->dispchar == '*') continue;
    const std::string_view keyword = option->keyword, value = option->val;
    if (keyword == "port" && value.find_first_not_of("0123456789,") != value.npos) {
      throw Input_Error("its port is no number: is the part from user to host complete?");
    }
    if (value.find("://") != value.npos) {
      throw Input_Error("its " + std::string(keyword) +
                        " is a URL: give the URL alone, without keyword=");
    }
    // Only the name of a socket in the abstract namespace has an @, as its first character.
    if (keyword == "host" && value.find('@', 1) != value.npos) {
      throw Input_Error("its host has an @: in a URL, write that of a password as %40");
    }
  }
  return text;
}

bool is_server_up(const std::string& conninfo) {
  // The connection string is expanded at the position of dbname; later keywords override it.
  const char* const keywords[] = {"dbname", "connect_timeout", nullptr};
  const char* const values[] = {conninfo.c_str(), "2", nullptr};
  return PQpingParams(keywords, values, 1) == PQPING_OK;
}

std::string print_conninfo(const std::string& conninfo, bool secrets_left_out) {
  const Conninfo options(PQconninfoParse(conninfo.c_str(), nullptr));
  std::string text;
  for (auto* option = options.get(); option && option->keyword; ++option) {
    if (!option->val) continue;
    std::string value;
    const std::string_view keyword = option->keyword;
    // libpq marks passwords with "*", but not SCRAM keys, which are also secret. A dbname with an @
    // or = may be the end of a password that was not escaped.
    const bool may_be_password = keyword == "dbname" && strpbrk(option->val, "@=");
    if (std::string_view(option->dispchar) == "*" || keyword.starts_with("scram_") ||
        may_be_password) {
      if (secrets_left_out) continue;
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
