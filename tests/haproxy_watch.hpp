// Which servers HAProxy sends connections to, watched all the while.

#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

// The servers that take connections, by the answer to `show servers state`. One that fails its
// checks but has not failed enough of them is still among them.
std::vector<std::string> servers_up(const std::string& answer);

class Haproxy_Watch {
 public:
  // Asks on HAProxy's admin socket for the servers of `backend`, every 10 ms.
  Haproxy_Watch(std::string socket, const std::string& backend);
  ~Haproxy_Watch();
  Haproxy_Watch(const Haproxy_Watch&) = delete;
  Haproxy_Watch& operator=(const Haproxy_Watch&) = delete;

  // Rounds, one after another, in which several servers were up. Times are those of seconds_now().
  struct Overlap {
    double first, last;
    std::size_t rounds;
    std::string servers;
  };
  // When the servers that are up became these, and which.
  struct Change {
    double when;
    std::string servers;
  };
  std::vector<Overlap> overlaps() const;
  std::vector<Change> changes() const;
  std::size_t rounds() const;
  // The longest time between two rounds: what is shorter may have been missed.
  double longest_gap() const;

 private:
  void watch();
  bool connect();
  // What is answered, up to the prompt; nothing: the connection is lost.
  std::optional<std::string> ask(const std::string& command);
  void note(double sent, double received, const std::vector<std::string>& up);

  const std::string socket_, command_;
  int fd_ = -1;
  mutable std::mutex mutex_;  // guards what follows; never held while HAProxy is asked
  std::vector<Overlap> overlaps_;
  std::vector<Change> changes_;
  std::size_t rounds_ = 0, up_ = 0;
  double last_round_ = 0, longest_gap_ = 0;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};
