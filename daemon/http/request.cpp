#include "daemon/http/request.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/text.hpp"

namespace primgr {

namespace {

// The characters of a token: RFC 9110 5.6.2.
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

// REQUIRES: `lower_case` is in lower case.
bool equal_without_case(std::string_view text, std::string_view lower_case) {
  return text.size() == lower_case.size() &&
         std::equal(text.begin(), text.end(), lower_case.begin(),
                    [](char a, char b) { return lower(a) == b; });
}

// Calls `visit` for each element of a list. Empty elements are ignored (RFC 9110 5.6.1).
template <typename Visit>
void for_each_element(std::string_view list, char separator, Visit visit) {
  while (!list.empty()) {
    const auto end = std::min(list.find(separator), list.size());
    if (const auto element = trimmed(list.substr(0, end)); !element.empty()) visit(element);
    list.remove_prefix(std::min(end + 1, list.size()));
  }
}

// A line of a head. Only CRLF ends it. A line with a control character other than HTAB is bad,
// because other implementations could treat a lone CR, a lone LF or a NUL as its end.
struct Head_Line {
  enum { whole, unfinished, bad } kind;
  std::string_view text;  // without CRLF; if unfinished or bad, the text up to that point
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

// Parses a request line: RFC 9112 3. Returns the status to refuse it with, or 0. Does not check the
// target if the method is not served, because such a request gets 405.
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
  head.is_http_1_0 = version[7] == '0';  // a higher minor version is treated as 1.1: RFC 9110 2.5
  if (head.method != "GET" && head.method != "HEAD" && head.method != "OPTIONS") return 0;
  const auto served = served_target(head.target);
  if (!served) return 400;
  head.target = *served;
  return 0;
}

// The data about the fields so far that is not in Request_Head: how often a field came, and the
// options of Connection.
struct Fields {
  int hosts = 0, lengths = 0, codings = 0, unknown_codings = 0;
  bool close = false, keep_alive = false;
  bool content = false;  // of a length
};

// RFC 9112 6.1, 7. Returns the status to refuse it with, or 0. An unknown coding is only counted
// here. parse_head() refuses it with 501 if nothing else is wrong.
int parse_transfer_encoding(std::string_view value, Fields& fields) {
  ++fields.codings;
  if (equal_without_case(value, "chunked")) return 0;
  bool known = true;
  for_each_element(value, ',', [&](std::string_view coding) {
    if (!equal_without_case(coding, "chunked")) known = false;
  });
  if (known) return 400;  // none, or chunked twice
  ++fields.unknown_codings;
  return 0;
}

// RFC 9112 6.2. Returns the status to refuse it with, or 0.
int parse_content_length(std::string_view value, Fields& fields) {
  if (++fields.lengths > 1 || value.empty()) return 400;
  if (value.find_first_not_of("0123456789") != value.npos) return 400;
  fields.content = value.find_first_not_of('0') != value.npos;
  return 0;
}

// Parses one field line. Returns the status to refuse it with, or 0.
int parse_field(std::string_view line, Fields& fields, Request_Head& head) {
  // A continuation line (obs-fold) begins with whitespace, which is not a token: RFC 9112 5.2.
  const std::string_view name = line.substr(0, line.find(':'));
  if (name.size() == line.size() || !is_token(name)) return 400;
  const std::string_view value = trimmed(line.substr(name.size() + 1));
  if (equal_without_case(name, "host")) {
    if (++fields.hosts > 1 || value.find_first_of(" \t,/?#@\\\"<>") != value.npos) return 400;
  } else if (equal_without_case(name, "content-length")) {
    return parse_content_length(value, fields);
  } else if (equal_without_case(name, "transfer-encoding")) {
    return parse_transfer_encoding(value, fields);
  } else if (equal_without_case(name, "connection")) {
    for_each_element(value, ',', [&](std::string_view option) {
      if (equal_without_case(option, "close")) fields.close = true;
      if (equal_without_case(option, "keep-alive")) fields.keep_alive = true;
    });
  } else if (equal_without_case(name, "accept")) {
    if (!head.accept.empty()) head.accept += ',';
    head.accept += value;
  }
  return 0;
}

}  // namespace

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

Request_Head parse_head(std::string_view bytes) {
  Request_Head head;
  const auto refuse = [&](int status) {
    head.status = status;
    return head;
  };
  std::size_t at = 0;
  // Up to four empty lines before the request line are skipped: RFC 9112 2.2.
  for (; bytes.substr(at).starts_with("\r\n"); at += 2) {
    if (at == 8) return refuse(400);
  }
  Head_Line line = read_line(bytes.substr(at));
  if (line.kind != Head_Line::whole) {
    // A line that cannot become a request line (for example a TLS handshake) is refused before it
    // ends.
    head.method = line.text.substr(0, std::min(line.text.find(' '), max_request_line));
    if (!line.text.empty() && !is_token(head.method)) return refuse(400);
    if (line.text.size() > max_request_line) return refuse(414);
    return line.kind == Head_Line::bad ? refuse(400) : head;
  }
  if (const int status = parse_request_line(line.text, head)) return refuse(status);
  at += line.text.size() + 2;

  Fields fields;
  for (;; at += line.text.size() + 2) {
    line = read_line(bytes.substr(at));
    if (at + line.text.size() + 2 > max_head) return refuse(431);
    if (line.kind == Head_Line::bad) return refuse(400);
    if (line.kind == Head_Line::unfinished) return head;
    if (line.text.empty()) break;
    if (const int status = parse_field(line.text, fields, head)) return refuse(status);
  }
  if (fields.codings > 0 && (fields.lengths > 0 || head.is_http_1_0)) return refuse(400);
  if (fields.unknown_codings > 0) return refuse(501);
  if (fields.codings > 1) return refuse(400);
  if (is_answered(head.method) && (fields.content || fields.codings == 1)) return refuse(413);
  head.keep_alive = !fields.close && (fields.keep_alive || !head.is_http_1_0);
  head.size = at + 2;
  return head;
}

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

}  // namespace primgr
