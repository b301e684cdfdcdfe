// A PostgreSQL server whose answers a test chooses, for tests of untrusted answers.

#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace primgr {

// Messages of PostgreSQL's protocol 3 (chapter "Frontend/Backend Protocol" of its documentation).
inline std::string big_endian(std::size_t number, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(number >> (8 * i));
  return text;
}
inline std::string pg_message(char type, const std::string& body) {
  return type + big_endian(body.size() + 4, 4) + body;
}
inline std::string pg_ready() {
  return pg_message('Z', "I");
}
inline std::string pg_error(const std::string& sqlstate, const std::string& message) {
  using namespace std::string_literals;
  return pg_message('E', "SERROR\0C"s + sqlstate + "\0M"s + message + "\0\0"s);
}
using Pg_Row = std::vector<std::optional<std::string>>;  // none: NULL
inline std::string pg_row(const Pg_Row& row) {
  std::string body = big_endian(row.size(), 2);
  for (const auto& value : row) {
    body += value ? big_endian(value->size(), 4) + *value : "\xff\xff\xff\xff";
  }
  return pg_message('D', body);
}
// A description of columns of type text.
inline std::string pg_columns(std::size_t columns) {
  std::string body = big_endian(columns, 2);
  for (std::size_t i = 0; i < columns; ++i) {
    body += "c" + std::string(1, '\0') + big_endian(0, 6) + big_endian(25, 4) +
            big_endian(0xffff, 2) + big_endian(0xffffffff, 4) + big_endian(0, 2);
  }
  return pg_message('T', body);
}
inline std::string pg_complete(const std::string& tag) {
  return pg_message('C', tag + std::string(1, '\0'));
}
// The answer to a SELECT.
inline std::string pg_table(std::size_t columns, const std::vector<Pg_Row>& rows) {
  std::string text = pg_columns(columns);
  for (const Pg_Row& row : rows) text += pg_row(row);
  return text + pg_complete("SELECT " + std::to_string(rows.size())) + pg_ready();
}

// Listens on a Unix socket in a separate folder. It works only in step(), which does everything
// that can be done without waiting. So one thread can drive both sides.
class Fake_Postgres {
 public:
  // Its answer to a query. None: the connection ends.
  using Answer = std::function<std::optional<std::string>(const std::string& sql)>;

  explicit Fake_Postgres(Answer answer)
      : answer_(std::move(answer)), fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)) {
    char made[] = "/tmp/primgr-fake-XXXXXX";
    if (!mkdtemp(made)) throw std::runtime_error("mkdtemp");
    folder_ = made;
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    (folder_ + "/.s.PGSQL.5432").copy(at.sun_path, sizeof at.sun_path - 1);
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 || ::listen(fd_, 16) != 0) {
      throw std::runtime_error("cannot listen in " + folder_);
    }
  }
  ~Fake_Postgres() {
    for (const Client& client : clients_) ::close(client.fd);
    ::close(fd_);
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Fake_Postgres(const Fake_Postgres&) = delete;
  Fake_Postgres& operator=(const Fake_Postgres&) = delete;

  std::string conninfo() const {
    return "host=" + folder_ + " port=5432 dbname=d user=u sslmode=disable";
  }
  // Connections that neither side has closed.
  std::size_t clients() const { return clients_.size(); }

  // The version that it reports.
  std::string version = "18.0";
  static constexpr std::size_t backend = 7;
  // The start-up parameters of clients: keywords and values, with a zero byte after each.
  std::vector<std::string> started;

  // Whether one more client is accepted if there are `clients` already. A client that is not
  // accepted gets an error.
  std::function<bool(std::size_t clients)> admit;

  // `awake`: whether to serve a client whose last query is `last`.
  void step(const std::function<bool(const std::string& last)>& awake = nullptr) {
    for (int fd; (fd = ::accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
      clients_.push_back({fd, {}, {}, false});
    }
    clients_.remove_if([&](Client& client) {
      if (awake && !awake(client.last)) return false;
      const bool over = !serve(client);
      if (over) ::close(client.fd);
      return over;
    });
  }

 private:
  struct Client {
    int fd;
    std::string in, last;
    bool greeted;
  };

  bool serve(Client& client) {
    char buffer[4096];
    ssize_t n;
    while ((n = ::recv(client.fd, buffer, sizeof buffer, 0)) > 0) {
      client.in.append(buffer, static_cast<std::size_t>(n));
    }
    const bool ended = n == 0;
    while (const auto message = next(client)) {
      std::optional<std::string> reply;
      if (!client.greeted && admit && !admit(clients_.size() - 1)) {
        const std::string refusal = pg_error("53300", "too many connections");
        ::send(client.fd, refusal.data(), refusal.size(), MSG_NOSIGNAL);
        return false;
      }
      if (!client.greeted) {
        client.greeted = true;
        reply = pg_message('R', big_endian(0, 4)) +
                pg_message('S', std::string("is_superuser\0off\0", 17)) +
                pg_message(
                    'S', "server_version" + std::string(1, '\0') + version + std::string(1, '\0')) +
                pg_message('K', big_endian(backend, 4) + big_endian(1, 4)) + pg_ready();
        started.push_back(message->substr(1));
      } else if (message->front() == 'Q') {
        client.last = message->substr(1, message->size() - 2);
        reply = answer_(client.last);
      }
      if (!reply) return false;
      ::send(client.fd, reply->data(), reply->size(), MSG_NOSIGNAL);
    }
    return !ended;
  }

  // A complete message: its type and body. The first message of a connection has no type.
  static std::optional<std::string> next(Client& client) {
    const std::size_t at = client.greeted ? 1 : 0;
    if (client.in.size() < at + 4) return std::nullopt;
    std::size_t size = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      size = size << 8 | static_cast<unsigned char>(client.in[at + i]);
    }
    if (client.in.size() < at + size) return std::nullopt;
    std::string message = (at ? client.in.substr(0, 1) : "!") + client.in.substr(at + 4, size - 4);
    client.in.erase(0, at + size);
    return message;
  }

  const Answer answer_;
  const int fd_;
  std::string folder_;
  std::list<Client> clients_;
};

}  // namespace primgr
