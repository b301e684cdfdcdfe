#include "daemon/config/repmgr_conf.hpp"

#include <strings.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <sstream>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/file.hpp"

namespace primgr {

namespace {

namespace fs = std::filesystem;

// How many levels of includes are allowed. repmgr refuses a sixth level.
constexpr int max_includes = 5;

// repmgr has no such limit. Without it, files that include each other many times would be read for
// a very long time.
constexpr int max_files = 1000;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_ascii_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_letter(char c) {
  return is_ascii_letter(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool is_hex_digit(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool is_in_identifier(char c) {
  return is_letter(c) || is_digit(c);
}
bool is_in_word(char c) {
  return is_in_identifier(c) || std::string_view("-._:/").find(c) != std::string_view::npos;
}

// The first position at or after `at` whose character is not of the kind.
std::size_t skip(std::string_view text, std::size_t at, bool (*is_of_kind)(char)) {
  while (at < text.size() && is_of_kind(text[at])) ++at;
  return at;
}

// The length of the number, with or without a unit, at the beginning of `text`; 0: there is none.
std::size_t number_length(std::string_view text) {
  const std::size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const std::size_t digits = skip(text, sign, is_digit);
  std::size_t length = digits > sign ? skip(text, digits, is_ascii_letter) : 0;
  if (text.substr(sign).starts_with("0x") && skip(text, sign + 2, is_hex_digit) > sign + 2) {
    length = std::max(length, skip(text, skip(text, sign + 2, is_hex_digit), is_ascii_letter));
  }
  if (digits >= text.size() || text[digits] != '.') return length;
  const std::size_t fraction = skip(text, digits + 1, is_digit);
  length = std::max(length, fraction);
  if (fraction >= text.size() || (text[fraction] != 'e' && text[fraction] != 'E')) return length;
  const std::size_t after = fraction + 1;
  const bool has_sign = after < text.size() && (text[after] == '-' || text[after] == '+');
  const std::size_t exponent = after + (has_sign ? 1 : 0);
  const std::size_t end = skip(text, exponent, is_digit);
  return end > exponent ? std::max(length, end) : length;
}

// The length of the quoted text at the beginning of `text`, with the quotes. 0: it has no closing
// quote.
std::size_t quoted_length(std::string_view text) {
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '\'') {
      if (i + 1 >= text.size() || text[i + 1] != '\'') return i + 1;
      ++i;
    }
  }
  return 0;
}

// The tokens of a line. A key is an identifier, or two identifiers with a dot between them. A value
// is an identifier, a word, a number, or quoted text.
struct Token {
  enum class Kind { end, equals, identifier, dotted, word, number, quoted, other } kind;
  std::string_view text{};
};

// Removes the first token from a line, and returns it.
Token take_token(std::string_view& line) {
  using Kind = Token::Kind;
  line.remove_prefix(skip(line, 0, [](char c) { return c == ' ' || c == '\t' || c == '\r'; }));
  if (line.empty() || line.front() == '#') return {Kind::end};
  Token token{Kind::other, line.substr(0, 1)};
  const auto take = [&](Kind kind, std::size_t length) {
    if (length > 0) token = {kind, line.substr(0, length)};
  };
  if (line.front() == '=') {
    take(Kind::equals, 1);
  } else if (line.front() == '\'') {
    take(Kind::quoted, quoted_length(line));
  } else if (is_letter(line.front())) {
    const std::size_t word = skip(line, 0, is_in_word);
    const std::size_t identifier = skip(line, 0, is_in_identifier);
    const bool dotted = identifier + 1 < word && line[identifier] == '.' &&
                        is_letter(line[identifier + 1]) &&
                        skip(line, identifier + 1, is_in_identifier) == word;
    take(identifier == word ? Kind::identifier : dotted ? Kind::dotted : Kind::word, word);
  } else {
    take(Kind::number, number_length(line));
  }
  line.remove_prefix(token.text.size());
  return token;
}

// A quoted text without its quotes. '' and \ escapes are replaced. It ends at \0, as a C string
// does.
std::string unquoted(std::string_view text) {
  constexpr std::string_view letters = "bfnrt", controls = "\b\f\n\r\t";
  std::string value;
  text = text.substr(1, text.size() - 2);
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '\'') {
      ++i;
    } else if (c == '\\') {
      c = text[++i];
      if (const auto letter = letters.find(c); letter != letters.npos) {
        c = controls[letter];
      } else if (c >= '0' && c <= '7') {
        unsigned octal = 0;
        const std::size_t end = std::min(text.size(), i + 3);
        for (; i < end && text[i] >= '0' && text[i] <= '7'; ++i) {
          octal = octal * 8 + static_cast<unsigned>(text[i] - '0');
        }
        --i;
        c = static_cast<char>(octal);
      }
    }
    if (c == '\0') break;
    value += c;
  }
  return value;
}

// The value at the end of a line, after its key. Throws Input_Error.
std::string take_value(std::string_view line) {
  using Kind = Token::Kind;
  Token token = take_token(line);
  if (token.kind == Kind::equals) token = take_token(line);
  const bool is_value = token.kind == Kind::identifier || token.kind == Kind::word ||
                        token.kind == Kind::number || token.kind == Kind::quoted;
  if (token.kind == Kind::other && token.text == "'") {
    throw Input_Error("the closing quote is missing");
  }
  if (token.kind == Kind::end || token.kind == Kind::equals) throw Input_Error("it has no value");
  if (!is_value || take_token(line).kind != Kind::end) {
    throw Input_Error("repmgr cannot read its value: put it in single quotes");
  }
  return token.kind == Kind::quoted ? unquoted(token.text) : std::string(token.text);
}

// Reads a file, and the files that it includes. The results are in `name`, `id` and `includes`.
class Reader {
 public:
  void read(const std::string& path, int depth) {
    if (++files_ > max_files) {
      throw Input_Error("more than " + std::to_string(max_files) + " files are included");
    }
    std::istringstream lines(read_file(path));
    std::string line;
    for (int number = 1; std::getline(lines, line); ++number) {
      std::string_view rest = line;
      const Token key = take_token(rest);
      if (key.kind != Token::Kind::identifier) continue;
      try {
        take_setting(path, std::string(key.text), rest, depth);
      } catch (const Input_Error& error) {
        throw Input_Error(path + ":" + std::to_string(number) + ": " + std::string(key.text) +
                          ": " + error.what());
      }
    }
  }

  std::string name, id;
  bool includes = false;

 private:
  void take_setting(const std::string& file, const std::string& key, std::string_view rest,
                    int depth) {
    // repmgr compares these names without regard to case, and node_name with regard to case.
    const auto is = [&](const char* directive) { return strcasecmp(key.c_str(), directive) == 0; };
    const bool directory = is("include_dir"), optional = is("include_if_exists");
    if (key == "node_name") name = take_value(rest);
    if (key == "node_id") id = take_value(rest);
    if (!directory && !optional && !is("include")) return;
    includes = true;
    const std::string value = take_value(rest);
    if (value.find_first_not_of(" \t\r\n") == value.npos) throw Input_Error("the value is empty");
    if (depth == max_includes) {
      throw Input_Error("files include each other more than " + std::to_string(max_includes) +
                        " deep");
    }
    const fs::path target = fs::path(file).parent_path() / value;
    if (directory) return read_directory(target, depth);
    // A file that exists but cannot be read is an error. repmgr runs as another user, and may find
    // a name in it.
    std::error_code error;
    if (optional && !fs::exists(target, error) && !error) return;
    read(target, depth + 1);
  }

  void read_directory(const fs::path& directory, int depth) {
    std::error_code error;
    std::vector<std::string> found;
    fs::directory_iterator entry(directory, error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
      const std::string file = entry->path().filename();
      std::error_code unknown;
      const bool left_out = file.size() < 6 || file.starts_with('.') || !file.ends_with(".conf") ||
                            entry->is_directory(unknown);
      if (!left_out) found.push_back(entry->path());
    }
    if (error) throw Input_Error(directory.string() + ": cannot read it: " + error.message());
    std::sort(found.begin(), found.end());
    for (const std::string& file : found) read(file, depth + 1);
  }

  int files_ = 0;
};

}  // namespace

Repmgr_Conf read_repmgr_conf(const std::string& path) {
  Reader reader;
  reader.read(path, 0);
  if (reader.name.empty()) {
    throw Input_Error(path + ": has no node_name" +
                      (reader.includes ? ", and neither has a file that it includes" : ""));
  }
  Repmgr_Conf conf{reader.name, 0};
  const std::string& id = reader.id;
  const auto read = std::from_chars(id.data(), id.data() + id.size(), conf.node_id);
  if (read.ec != std::errc() || read.ptr != id.data() + id.size() || conf.node_id < 0) {
    conf.node_id = 0;
  }
  return conf;
}

}  // namespace primgr
