// Sends a request to one peer, through the client of the product.

#pragma once

#include <string>

#include "daemon/config/config.hpp"
#include "daemon/http/http.hpp"
#include "tests/world.hpp"

struct Asker {
  Http_Reply ask(const Address& address, Time timeout, const std::string& host = "");

  Config config;
  Resolver resolver;
  double took = 0;
};
