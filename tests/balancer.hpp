// A load balancer in simulated time, as far as its checks decide which servers it uses.

#pragma once

#include <cstddef>
#include <vector>

// When it checks, in seconds. As HAProxy: `inter` after a check, or `fastinter` while failures are
// counted; a check that has no answer after `timeout` has failed; `fall` failures in a row mark a
// server down, and one success marks it up.
struct Check_Times {
  double inter = 0, fastinter = 0, timeout = 0;
  int fall = 1;

  // How long the server may be used after its last 200 was written: the answer arrived as late as
  // it may, and the next checks failed as late as they can.
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
  // Takes in the result of a check. Returns after how many seconds the next one begins.
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
