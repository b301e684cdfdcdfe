// A node in simulated time. The test chooses the answers of its peers and of its database.

#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "daemon/http/answer.hpp"
#include "repmgr_node.hpp"
#include "tests/support.hpp"

using namespace primgr;

Node make_node(int id, const std::string& name, const std::string& type = "standby",
               const std::string& site = "default");

// A site of `size` nodes n1, n2, …, of which n1 is the primary.
std::vector<Node> make_site(int size);

// The saved lists of a node that was in such a site, whose list never changed.
Voter_Lists known_site(int size);

Facts make_facts(std::vector<Node> nodes, bool in_recovery = false, Time asked_at = 0s);

// Facts of a standby that streams. The WAL positions are those that its sender has, that it has
// received, and that it has replayed.
Facts standby_facts(Lsn sender_lsn, Lsn received, Lsn replayed);

// Which voters vote for which node, in words. Empty if the node is not a candidate.
std::string votes_of(const Repmgr_Node& node);

// The parameters of a request target whose values need no decoding.
Params parameters(const std::string& target);

// The clock stands still until the test moves it. The database and the peers answer what the test
// chooses. The peers answer at once, or on release().
struct World {
  // By default, the node starts with the knowledge that it has promised nothing.
  explicit World(Node_Settings settings = named("n1"),
                 Grant_Store grants = {[] { return Grant{}; }, nullptr}, History history = {},
                 Voter_Lists voters = known_site(3));
  ~World() { release(); }

  static Node_Settings named(const std::string& name) {
    Node_Settings settings;
    settings.node_name = name;
    return settings;
  }

  Http_Reply reply(const std::string& peer, const std::string& target, Time sent_at) const;
  void names(const std::string& voter, const std::string& primary);
  // n1 answers that it is Primary, and that its WAL has reached `position` on the timeline of
  // standby_facts().
  void primary_reports(Lsn position);
  // Delivers the answers that were held back.
  void release();
  // Gives the node facts that were read now, with a list of nodes of that age. Then it asks its
  // peers, and gets their answers.
  void look(Facts facts, Time list_age = 0s);
  void pass(Time time);
  // How many lines of the log contain `what`.
  std::ptrdiff_t logged(const std::string& what) const;

  Time now = 1000s;
  const Wall_Time started = std::chrono::system_clock::now() - 1h;
  Time stopped{};  // how far another clock is ahead
  bool hold = false;
  std::map<std::string, Http_Reply> primaries, states, standbys, served;  // by path
  // If set, peers answer what this returns.
  std::function<Http_Reply(const std::string& peer, const std::string& target)> answers;
  std::vector<std::pair<std::string, std::string>> asked;
  struct Held {
    std::string peer, target;
    Time sent_at;
    std::function<void(Http_Reply)> done;
  };
  std::vector<Held> held;
  std::vector<std::string> log;
  Voter_Lists stored;        // the lists that it would have after a restart
  bool store_fails = false;  // `stored` cannot be written
  History changes;           // of state, as passed to the last on_change
  int scarce = 0;            // how many more calls of on_change throw std::bad_alloc
  int lost_lines = 0;        // how many more lines cannot be logged, for the same reason
  Repmgr_Node node;
};
