// Every message between nodes: how it is written and how it is read. What comes from another host
// may be anything: whatever is not understood is no vote and no state.
//
// Pure functions: no I/O, no state. Thread-safe. They throw std::bad_alloc only.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "node/rules/model.hpp"
#include "node/rules/synchrony.hpp"
#include "node/rules/voting.hpp"

namespace primgr {

// The parameters of a query string, percent-decoded.
using Params = std::multimap<std::string, std::string>;

// The first value of a parameter; empty if there is none.
inline std::string param(const Params& params, const std::string& name) {
  const auto found = params.find(name);
  return found == params.end() ? std::string() : found->second;
}

// What a peer answered over HTTP.
struct Http_Reply {
  int status = 0;      // 0: no valid reply (late, too long, unreachable, …)
  std::string body;    // at most max_reply_size bytes
  std::string error;   // why there is no reply
  Time sent_at{};      // when the request was sent, or earlier, on the asker's clock
  bool alive = false;  // there is no valid reply, but something answers there
};

// In bytes. A longer body from a peer counts as no reply.
inline constexpr std::size_t max_reply_size = 1024;
// The same for /node: it lists max_listed voters and standbys at most.
inline constexpr std::size_t max_node_size = 64 * 1024;
// The limit for the reply to `GET target`.
std::size_t most_reply_bytes(std::string_view target);

// What a node answers.
struct Reply {
  int status = 0;
  std::string body;  // JSON
};

// A body that names a node under `key`, written as a host name: other programs connect to it, and
// the peers of the original implementation compare it. `node` stands beside it where that is not
// the name in repmgr.nodes.
Json name_body(const char* key, const std::string& name);

// The word of the state, null if there is none.
Json or_null(const std::optional<State>& state);

// ---- votes

// What a voter says of its promise.
struct Promise_Terms {
  Time lease = Time::max();  // for how long it grants its vote; max(): it does not say, as an older
                             // voter, which grants what was asked for; zero: nothing sensible
  std::string token;         // with which the vote can be handed back; empty: it cannot
  Time bound_for{};          // for how long it is bound to the node that it names
  std::string before;        // the node that had its vote before, 63 bytes at most; empty: not told
  Time since{};              // the last 200 of that node, from 0 to an hour
  bool handed_back = false;  // that node handed the vote back
};

// What a candidate says of its cluster's history and asks about lists of voters: numbers only, see
// node/rules/lists.hpp.
struct Lists_Question {
  lists::Scope scope;
  lists::Question numbers;
  int timeline = 0;  // of the candidate's WAL; 0: it is not known

  bool operator==(const Lists_Question&) const = default;
};

// The question to `voter` for its vote. It contains the voter's name, so that if a wrong conninfo
// leads to another node, that node's answer is not counted as this voter's. `candidate`: empty if
// it asks for no vote, only whom the other names. `lease`: for how long the candidate counts the
// vote of a voter of version 1.0.0. `token`: that of the voter's last vote, or empty. `lists`: none
// if it asks for no vote. Throws std::bad_alloc only.
std::string vote_question(const std::string& candidate, const std::string& voter, Time lease,
                          const std::string& token, const std::optional<Lists_Question>& lists);

// The request to `voter` that hands its vote back. `since_last_200`: how long the last 200 of
// `candidate` is ago; none: it never answered 200. Throws std::bad_alloc only.
std::string hand_back_request(const std::string& candidate, const std::string& voter,
                              const std::string& token, std::optional<Time> since_last_200);

// The node that a peer's reply to /primary names, or none with `why` set. It is `node` if the reply
// has that and it is the name in `Primary`, written as a node name; else what `Primary` has. Sets
// `terms` if that is not null. Throws std::bad_alloc only.
std::optional<std::string> http_node_reports_primary(const Http_Reply& reply, std::string& why,
                                                     Promise_Terms* terms = nullptr);

// What a node that is asked for /primary reads in the question. The names are those of the
// parameters.
struct Primary_Question {
  std::string candidate, voter;         // empty: none is given
  bool accepts_less = false;            // the candidate heeds the lease of the answer
  std::optional<Time> lease;            // from 0 to an hour; none: no number
  std::optional<Lists_Question> lists;  // none: of an older version, or not understood
  std::string token;
  std::optional<std::string> handback;
  std::optional<Time> ago;  // from 0 to an hour; none: no number
};
Primary_Question read_primary_question(const Params& params);

// The answer that names a node, and what else a candidate that accepts less is sent. None if
// `ballot` names none, or a name that is too long. `vote_lease`: that of this voter.
std::optional<Reply> primary_reply(const Ballot& ballot, bool accepts_less, Time vote_lease);
// The answer that names none. `down`: the state of the node is Down. The rest is as in a Ballot.
Reply primary_reply_without_name(bool down, const std::optional<lists::Reply>& lists = std::nullopt,
                                 int newer_timeline = 0);
// What a voter's reply says of lists of voters; none: nothing that is understood.
std::optional<lists::Reply> read_lists_reply(const Http_Reply& reply);

// ---- lists of voters

// The question to `node` for its lists of voters. It contains the node's name, as that for its
// state does.
std::string lists_question(const std::string& node, const lists::Scope& scope);
// Reads that. None: it is no such question, or means another node than `name`.
std::optional<lists::Scope> read_lists_question(const Params& params, std::string_view name);
Reply lists_reply(const lists::Served& served, const Addresses& addresses);
// None: there is no reply, or it is none to that question. Its body may have most_list_bytes.
std::optional<lists::Served> read_served_lists(const Http_Reply& reply, Addresses& addresses);

// ---- states

// What a node answers about itself to another node that asks for its state.
struct State_Report {
  State state = State::unknown;
  // For how long it has been bound by no promise; none: it is bound, or does not report it.
  std::optional<Time> unbound;
  // Which lists of voters of its own scope it holds: digest() of each. If it holds none: of the
  // voters by its own database.
  std::string list;
  // Of a Primary: the end of its WAL, as it read it two refresh_intervals ago or later, or 1 s.
  std::optional<Lsn> position;
  std::optional<int> timeline;  // of its WAL, as it read that then
  std::uint64_t system = 0;     // the system identifier of its cluster; 0: it is not known
  std::string instance;         // Core_Settings::instance of who answers
  int id = 0;                   // the node_id of who answers; 0: it does not report it
  bool detailed = false;        // it reports these where they apply; false: an earlier version

  bool operator==(const State_Report&) const = default;
};

// The question to `node` for its state. It contains the node's name, so that a node to which a
// wrong conninfo leads reports its state, its node_id, and nothing else. Throws std::bad_alloc
// only.
std::string state_question(const std::string& node);
State_Report read_state_reply(const Http_Reply& reply);

// The state that a peer's reply to /state reports; Unknown for any reply that is not the
// contract's. Understands the key "State" of the original implementation. Throws std::bad_alloc
// only.
State http_node_reports_state(const Http_Reply& reply);

// Whether this is the question of a peer that means the node `name`.
bool is_state_question(const Params& params, std::string_view name);
// The answer to that, and to everybody else.
Reply state_reply(const State_Report& report);
// `id`: its node_id, for a node that meant another one; 0: none.
Reply state_reply(State state, int id = 0);

// ---- standbys

// The question of a standby to its primary, and what the reply tells.
std::string standby_question(std::string_view standby);
Sync_Report read_standby_reply(const Http_Reply& reply);
// The standby that is asked for; empty: none is.
std::string read_standby_question(const Params& params);
Reply standby_reply(const Sync_Report& report);

}  // namespace primgr
