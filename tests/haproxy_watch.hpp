// Continuously records to which servers HAProxy sends connections.

#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

// The servers that accept connections, from the answer to `show servers state`. A server that has
// failed some checks, but not enough of them, is still included.
std::vector<std::string> servers_up(const std::string& answer);

class Haproxy_Watch {
 public:
  // Requests the servers of `backend` on HAProxy's admin socket, every 10 ms.
  Haproxy_Watch(std::string socket, const std::string& backend);
  ~Haproxy_Watch();
  Haproxy_Watch(const Haproxy_Watch&) = delete;
  Haproxy_Watch& operator=(const Haproxy_Watch&) = delete;

  // Consecutive rounds in which several servers were up. Times are results of seconds_now().
  struct Overlap {
    double first, last;
    std::size_t rounds;
    std::string servers;
  };
  // A change of the servers that are up: when, and which servers are up now.
  struct Change {
    double when;
    std::string servers;
  };
  std::vector<Overlap> overlaps() const;
  std::vector<Change> changes() const;
  std::size_t rounds() const;
  // The longest time between two rounds. A shorter change may have been missed.
  double longest_gap() const;

 private:
  void watch();
  bool connect();
  // The answer, up to the prompt. None: the connection is lost.
  std::optional<std::string> ask(const std::string& command);
  void note(double sent, double received, const std::vector<std::string>& up);

  const std::string socket_, command_;
  int fd_ = -1;
  mutable std::mutex mutex_;  // guards the members below; never held during a request to HAProxy
  std::vector<Overlap> overlaps_;
  std::vector<Change> changes_;
  std::size_t rounds_ = 0, up_ = 0;
  double last_round_ = 0, longest_gap_ = 0;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};
