// Fake nodes for HAProxy, in a separate network, with the addresses and ports of
// deploy/haproxy.cfg. They show how HAProxy reacts to each answer, in hundreds of rounds and
// without a cluster.

#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/state_folder.hpp"
#include "tests/support.hpp"

// While this object exists, the calling thread and the processes that it starts are in a separate
// network: 127.0.0.1, and 10.0.0.1 to 10.0.0.3. Needs root.
class Own_Network {
 public:
  Own_Network();
  ~Own_Network();
  Own_Network(const Own_Network&) = delete;
  Own_Network& operator=(const Own_Network&) = delete;

 private:
  const int home_;
};

// n<number> at 10.0.0.<number>. Port 5999 answers as primgr does, with the status that the test
// chooses. Port 5432 sends its name to each client that connects, and then returns each byte, which
// stands for a row that is committed. Times are results of seconds_now(). REQUIRES: an Own_Network.
class Fake_Node {
 public:
  explicit Fake_Node(int number);
  ~Fake_Node();
  Fake_Node(const Fake_Node&) = delete;
  Fake_Node& operator=(const Fake_Node&) = delete;

  void primary() { answer(200, 503); }
  void standby() { answer(202, 200); }
  void late() { answer(202, 503); }
  void unknown() { answer(509, 503); }
  // Whether port 5432 accepts connections from now on.
  void listen(bool on);

  struct Check {
    double when;
    std::string path, state;  // x-haproxy-server-state
  };
  std::vector<Check> checks(const std::string& path) const;
  // When /state was last answered with 200.
  double last_200() const { return last_200_; }
  // How many connections port 5432 got, and when it last received a byte.
  std::size_t connections() const { return connections_; }
  double last_byte() const { return last_byte_; }

 private:
  struct Answers {
    int state, replica;
  };
  void answer(int state, int replica) { answers_ = Answers{state, replica}; }
  void serve();
  void reply(int fd);

  const int number_;
  std::atomic<Answers> answers_{Answers{503, 503}};
  std::atomic<bool> listening_ = true, is_listening_ = false, ending_ = false;
  std::atomic<double> last_200_ = -1, last_byte_ = -1;
  std::atomic<std::size_t> connections_ = 0;
  mutable std::mutex mutex_;  // guards checks_
  std::vector<Check> checks_;
  std::thread thread_;
};

// Three nodes: n1 is the Primary, n2 a standby, n3 an old primary that is Unknown.
struct Fake_Cluster {
  Fake_Cluster();
  Fake_Node& operator[](int number) { return nodes[static_cast<std::size_t>(number - 1)]; }
  const Own_Network network;
  std::array<Fake_Node, 3> nodes{Fake_Node(1), Fake_Node(2), Fake_Node(3)};
};

// A client's session through HAProxy, at 127.0.0.1.
class Session {
 public:
  // Waits until it knows its server, `seconds` at most.
  explicit Session(int port, double seconds = 5);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // n1, n2 …. Empty: the session was refused, or ended before the name came.
  const std::string& server() const { return server_; }
  // Whether a row came back.
  bool commits();
  // Whether the session ends in time.
  bool ends(double seconds);

 private:
  int fd_ = -1;
  std::string server_;
};

// Clients that open one session after another, while this object exists.
class Clients {
 public:
  Clients(int port, int number);
  ~Clients();
  // How many sessions were on that server. "": how many had no server.
  std::size_t on(const std::string& server) const;
  // All of that, as text for people.
  std::string seen() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::pair<std::string, std::size_t>> seen_;
  std::atomic<bool> ending_ = false;
  std::vector<std::thread> threads_;
};

// A HAProxy that runs deploy/haproxy.cfg as Debian's unit does, except for the edits. An edit is a
// text and its replacement. Only the first occurrence is replaced.
class Front {
 public:
  using Edits = std::vector<std::pair<std::string, std::string>>;
  explicit Front(const Edits& edits = {});
  ~Front() { stop(); }
  Front(const Front&) = delete;
  Front& operator=(const Front&) = delete;

  // `drop_in`: with deploy/examples/haproxy.service.conf. Otherwise with Debian's unit alone.
  void start(bool drop_in = true);
  void stop();
  // Runs deploy/examples/haproxy-reload. Returns whether it succeeded.
  bool reload();
  // Reloads as Debian's unit does.
  void reload_alone();
  std::string log() const;
  // Lines "SECTION/SERVER UP|DOWN …" of the newest process. Empty: it does not answer.
  std::string servers() const;
  // Waits until the sections have these servers. Returns whether they have.
  bool has(const std::string& lines, double seconds = 20) const;

 private:
  const State_Folder folder_;
  int pid_ = -1;
};
