// A load balancer in simulated time. Only the part that decides from checks which servers it uses.

#pragma once

#include <cstddef>
#include <vector>

// The times of the checks, in seconds, as HAProxy has them. The next check comes `inter` after the
// last one, or `fastinter` while failures are counted. A check without an answer after `timeout`
// has failed. `fall` failures in a row mark a server down, and one success marks it up.
struct Check_Times {
  double inter = 0, fastinter = 0, timeout = 0;
  int fall = 1;

  // The longest time for which the server may be used after it wrote its last 200. In that case the
  // answer arrived at the last moment, and each of the next checks failed as late as possible.
  double delay() const { return timeout + inter + fall * timeout + (fall - 1) * fastinter; }
  void scale(double factor) {
    for (double* time : {&inter, &fastinter, &timeout}) *time *= factor;
  }
};

class Balancer {
 public:
  Balancer(Check_Times times, std::size_t servers) : times_(times), servers_(servers) {}

  const Check_Times& times() const { return times_; }
  bool is_up(std::size_t server) const { return servers_[server].up; }
  // Records the result of a check. Returns the number of seconds until the next check begins.
  double checked(std::size_t server, bool success) {
    Server& s = servers_[server];
    s.failures = success ? 0 : s.failures + 1;
    if (success) s.up = true;
    if (s.failures >= times_.fall) s.up = false;
    return s.up && s.failures > 0 ? times_.fastinter : times_.inter;
  }

 private:
  struct Server {
    bool up = false;
    int failures = 0;
  };
  const Check_Times times_;
  std::vector<Server> servers_;
};
