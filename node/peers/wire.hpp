// Every message between nodes: how it is written, and how it is read. A message from another host
// may have any content: a message that is not understood is no vote and no state.
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

// A peer's answer over HTTP.
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

// A node's answer.
struct Reply {
  int status = 0;
  std::string body;  // JSON
};

// A body that names a node under `key`, in the form of a host name: other programs connect to it,
// and the peers of the original implementation compare it. The key `node` is added if the name in
// repmgr.nodes is different.
Json name_body(const char* key, const std::string& name);

// The name of the state; null if there is none.
Json or_null(const std::optional<State>& state);

// ---- votes

// The part of a voter's reply about its promise.
struct Promise_Terms {
  // How long it grants its vote. max(): it sends none, as an older voter does, which grants the
  // time that was asked for. Zero: the value is not valid.
  Time lease = Time::max();
  // the token to hand the vote back with; empty: it cannot be handed back
  std::string token;
  Time bound_for{};          // how long it is bound to the node that it names
  std::string before;        // the node that had its vote before, 63 bytes at most; empty: not sent
  Time since{};              // the time since the last 200 of that node, from 0 to an hour
  bool handed_back = false;  // that node handed the vote back
};

// What a candidate sends about its cluster's history, and asks about lists of voters. Numbers only,
// see node/rules/lists.hpp.
struct Lists_Question {
  lists::Scope scope;
  lists::Question numbers;
  int timeline = 0;  // of the candidate's WAL; 0: it is not known

  bool operator==(const Lists_Question&) const = default;
};

// The question to `voter` for its vote. It contains the voter's name, so that if a wrong conninfo
// leads to another node, that node's answer is not counted as this voter's. `candidate`: empty if
// it asks for no vote, but only for the primary that the other node names. `lease`: for how long
// the candidate counts the vote of a voter of version 1.0.0. `token`: the token of the voter's last
// vote, or empty. `lists`: none if it asks for no vote. Throws std::bad_alloc only.
std::string vote_question(const std::string& candidate, const std::string& voter, Time lease,
                          const std::string& token, const std::optional<Lists_Question>& lists);

// The request to `voter` that hands its vote back. `since_last_200`: the time since the last 200 of
// `candidate`; none: it never answered 200, or the vote was for another site's list. Throws
// std::bad_alloc only.
std::string hand_back_request(const std::string& candidate, const std::string& voter,
                              const std::string& token, std::optional<Time> since_last_200);

// The node that a peer's reply to /primary names; or none, with `why` set. This is the value of
// `node`, if the reply has that and if it is the same name as `Primary`; else the value of
// `Primary`. Sets `terms` if that is not null. Throws std::bad_alloc only.
std::optional<std::string> http_node_reports_primary(const Http_Reply& reply, std::string& why,
                                                     Promise_Terms* terms = nullptr);

// The parameters of a question for /primary. The members have the names of the parameters.
struct Primary_Question {
  std::string candidate, voter;  // empty: none is given
  bool accepts_less = false;     // the candidate respects the lease in the answer
  std::optional<Time> lease;     // from 0 to an hour; none: no number
  // none: the candidate has an older version, or they are not valid
  std::optional<Lists_Question> lists;
  std::string token;
  std::optional<std::string> handback;
  std::optional<Time> ago;  // from 0 to an hour; none: no number
};
Primary_Question read_primary_question(const Params& params);

// The answer that names a node; a candidate with `accepts_less` also receives the terms of the
// promise. None if `ballot` names none, or a name that is too long. `vote_lease`: that of this
// voter.
std::optional<Reply> primary_reply(const Ballot& ballot, bool accepts_less, Time vote_lease);
// The answer that names none. `down`: the state of the node is Down. The rest is as in a Ballot.
Reply primary_reply_without_name(bool down, const std::optional<lists::Reply>& lists = std::nullopt,
                                 int newer_timeline = 0);
// The part of a voter's reply about lists of voters; none: there is no valid one.
std::optional<lists::Reply> read_lists_reply(const Http_Reply& reply);

// ---- lists of voters

// The question to `node` for its lists of voters. It contains the node's name, as the question for
// its state does.
std::string lists_question(const std::string& node, const lists::Scope& scope);
// Reads the result of lists_question(). None: it is no such question, or means another node than
// `name`.
std::optional<lists::Scope> read_lists_question(const Params& params, std::string_view name);
Reply lists_reply(const lists::Served& served, const Addresses& addresses);
// The lists in a reply. None: there is no reply, or it is not valid. Its body may have
// most_list_bytes.
std::optional<lists::Served> read_served_lists(const Http_Reply& reply, Addresses& addresses);

// ---- states

// A node's answer about itself to another node that asks for its state.
struct State_Report {
  State state = State::unknown;
  // How long it has been bound by no promise; none: it is bound, or does not report it.
  std::optional<Time> unbound;
  // The digest() of each list of voters of its own scope that it holds. If it holds none: the
  // digest() of the voters by its own database.
  std::string list;
  // For a Primary: the end of its WAL. It was read at most two refresh_intervals ago, or 1 s if
  // that is longer.
  std::optional<Lsn> position;
  std::optional<int> timeline;  // of its WAL, read at the same time
  std::uint64_t system = 0;     // the system identifier of its cluster; 0: it is not known
  std::string instance;         // Core_Settings::instance of the node that answers
  int id = 0;                   // the node_id of the node that answers; 0: it is not reported
  // it reports the values above where they apply; false: an earlier version
  bool detailed = false;

  bool operator==(const State_Report&) const = default;
};

// The question to `node` for its state. It contains the node's name. So if a wrong conninfo leads
// to another node, that node reports its state and its node_id, and nothing else. Throws
// std::bad_alloc only.
std::string state_question(const std::string& node);
State_Report read_state_reply(const Http_Reply& reply);

// The state in a peer's reply to /state; Unknown for any reply that does not follow the contract.
// Understands the key "State" of the original implementation. Throws std::bad_alloc only.
State http_node_reports_state(const Http_Reply& reply);

// Whether this is a peer's question for the state of the node `name`.
bool is_state_question(const Params& params, std::string_view name);
// The answer to such a question; the function below makes the answer for all other clients.
Reply state_reply(const State_Report& report);
// `id`: this node's node_id, for a node that asked for another node; 0: left out.
Reply state_reply(State state, int id = 0);

// ---- standbys

// A standby's question to its primary, and the report in the reply.
std::string standby_question(std::string_view standby);
Sync_Report read_standby_reply(const Http_Reply& reply);
// The standby that is asked for; empty: none is.
std::string read_standby_question(const Params& params);
Reply standby_reply(const Sync_Report& report);

}  // namespace primgr
