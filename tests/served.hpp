// The server of the product, with a simulated node.

#pragma once

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>

#include "daemon/run/service.hpp"
#include "tests/http_client.hpp"
#include "tests/world.hpp"

// Listens on a free port of 127.0.0.1. `peers` answers the requests of /cluster.
struct Served {
  explicit Served(World& world, Config with = {}, Http_Get peers = nullptr)
      : config(std::move(with)),
        tls(config.tls, log),
        server(cpp_httplib(), config, world.node, tls, log, std::move(peers)) {
    port = server.bind_to_any_port("127.0.0.1");
    REQUIRE(port > 0);
    thread = std::thread([this] { server.run(); });
  }
  ~Served() {
    server.stop();
    thread.join();
  }
  Response ask(const std::string& method, const std::string& path,
               const std::string& fields = "") const {
    Client client("127.0.0.1", port);
    const Response response = client.send(method, path, fields);
    REQUIRE(response.status != 0);
    return response;
  }
  // Sends bytes unchanged. Returns everything that arrives until the server closes the connection.
  std::string raw(const std::string& bytes) const {
    const int fd = connect_from("127.0.0.1", port);
    REQUIRE(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0);
    ::shutdown(fd, SHUT_WR);
    const std::string all = read_answer(fd);
    ::close(fd);
    return all;
  }

  Config config;
  Stderr_Log log{Log_Level::none};
  Tls tls;
  Service server;
  int port = 0;
  std::thread thread;
};
