// A real cluster that lab/lab brings up.

#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/http/answer.hpp"
#include "tests/support.hpp"

using primgr::Answer;

// Whether tests on the lab can run. If not, the test counts as skipped.
bool lab_possible(const char* test);

// While this object exists, the calling thread opens its sockets in a network namespace.
class In_Namespace {
 public:
  explicit In_Namespace(const std::string& name);
  ~In_Namespace();
  In_Namespace(const In_Namespace&) = delete;
  In_Namespace& operator=(const In_Namespace&) = delete;

 private:
  const int home_;
};

// The variables with which lab/lab finds the lab of this process. If there is enough memory, the
// lab is in memory, because on a disk it takes longer to remove a cluster than to make one.
std::string lab_variables();

// A cluster of lab/lab, which is up while this object exists. Verbs are run as a user runs them.
class Lab {
 public:
  explicit Lab(const std::string& options = "");
  ~Lab() { attempt("down"); }

  // Runs a verb. Returns its output, including standard error.
  Ran attempt(const std::string& verb) const;
  // Runs a verb that must succeed. Returns its standard output.
  std::string run(const std::string& verb) const;
  // Runs SQL on a node, as superuser.
  std::string sql(const std::string& node, const std::string& statement) const;
  // A value that `lab/lab conf` prints.
  std::string conf(const std::string& node, const std::string& key) const;
  // The log of a node's primgr.
  std::string log(const std::string& node) const;

  // The answer of a node's primgr. status 0: no answer.
  Answer ask(const std::string& node, const std::string& path = "/state") const;
  Answer ask_at(const std::string& address, const std::string& path) const;
  // Waits until the node answers with that status. Returns whether it did in time.
  bool answers(const std::string& node, int status, const std::string& path = "/state",
               double seconds = 20) const;
  // A number of /metrics, by its name and labels. -1: there is none.
  double metric(const std::string& node, const std::string& name) const;
  std::string address(const std::string& node) const;
  const std::string& hub() const { return hub_; }

  // The node that HAProxy's port leads to. Empty: none.
  std::string server(const std::string& port) const;
  std::vector<std::string> nodes() const;

 private:
  Ran call(const std::string& verb, const std::string& redirection) const;

  std::string hub_;
  mutable std::map<std::string, std::string> addresses_;
  mutable std::vector<std::string> nodes_;
};

// Requests a node's /state again and again, and records each change of its status.
class Watcher {
 public:
  Watcher(const Lab& lab, const std::string& node);
  ~Watcher();
  // Waits for a status. Returns how many seconds after `start` it was first seen, or -1 if it was
  // not seen in time.
  double seen(int status, Steady::time_point start, double seconds) const;
  bool ever(int status) const;

 private:
  const std::string address_;
  mutable std::mutex mutex_;
  std::vector<std::pair<Steady::time_point, int>> changes_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};
