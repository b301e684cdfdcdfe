// What a node knows and decides, as a value, and the one function that changes it:
//
//     Effects step(Core&, const Event&, Time now);
//
// Core has no clock, thread, lock, log, file or socket. The caller passes each thing that happened
// as an event, carries out the returned effects, and passes their results as further events.
// Repmgr_Node does so with a database, peers and a store; a test does so with made-up values. Log
// text, history and statistics are in Journal, so that equal states of a Core compare equal.
//
// A turn of the refresher consists of these events, in this order:
//
//     Clock_Missed                if its clock did not count some time
//     Tick{Part::begin}           sets which nodes are asked in this turn (Core::turn); a candidate
//                                 votes for itself
//     Votes_Wanted, Answers_Late  for a candidate: asks the voters; drops questions that are late
//     Tick{Part::states}          asks the other nodes for their states
//     Tick{Part::decision}        decides
//     Tick{Part::lists}           updates the lists of voters, also from what was fetched
//     Tick{Part::hand_back}       hands back votes that are of no use any more
//
// The refresher then waits until Core::turn_due() or the next event. Facts_Read, replies and
// questions may come between any two of these events.
//
// Not thread-safe. All functions throw std::bad_alloc only. After that, step() may be called again:
// no promise was given or forgotten, and the questions of the failed step count as not asked.

#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "node/peers/polls.hpp"
#include "node/peers/wire.hpp"
#include "node/rules/lag.hpp"
#include "node/rules/model.hpp"
#include "node/rules/promise.hpp"
#include "node/rules/report.hpp"
#include "node/rules/staleness.hpp"
#include "node/rules/synchrony.hpp"
#include "node/rules/voters.hpp"

namespace primgr {

struct Core_Settings {
  std::string node_name;  // this node's name in repmgr.nodes
  // 0: not known; else this node is the row with this id, even if its name changes
  int node_id = 0;
  Time peer_timeout = std::chrono::seconds(1);
  Time refresh_interval = std::chrono::seconds(1);
  Time cache_ttl = std::chrono::seconds(20);
  Time vote_lease = std::chrono::seconds(4);   // for how long this node promises its vote
  Time check_delay = std::chrono::seconds(1);  // how long a node may be used after its last 200
  bool consensus_cluster = false;  // all nodes of the cluster vote, not only those of the site
  bool keeps_lists = true;         // lists survive a restart; false: there is no state_directory
  // Identifies this process. Empty: the node does not check whether another process has its name.
  std::string instance;
  bool candidate = true;  // false (--once): reads which node the others name, and asks for no votes

  bool operator==(const Core_Settings&) const = default;
};

// ---- events

// The database was looked at.
struct Facts_Read {
  Facts facts;
};
// A peer answered, or did not answer in time. `missed`: as for Tick.
struct Vote_Replied {
  Replied to;
  Vote_Answer answer;
  Time missed{};
};
struct State_Replied {
  Replied to;
  State_Report report;
};
struct Standby_Replied {
  Replied to;
  Sync_Report report;
};
struct Hand_Back_Replied {
  Replied to;
};
// The lists of voters that a peer serves.
struct Lists_Replied {
  Replied to;
  std::optional<lists::Served> served;  // none: there was no valid reply
  Addresses addresses;
};
// There was not enough memory to read a reply.
struct Reply_Lost {
  Question_Kind kind;
  Replied to;
};
// The questions with this number and later ones could not be sent.
struct Not_Sent {
  std::uint64_t number;
};
// A candidate asks for a vote, and will count it for `lease`. `shown`, `fresh`: see Voter_Question.
// `lists`: the candidate's lists of voters; none: an older version, which sends no lists.
struct Vote_Asked {
  std::string candidate;
  Time lease{};
  std::optional<std::string> shown;
  std::optional<Lists_Question> lists;
  std::string fresh;
};
// The grant that the store is sure to hold, see Promise::stored(). Effects::ballot is the ballot
// that waited for the store.
struct Grant_Stored {
  std::optional<Grant> saved;
};
// Whether the store is sure to hold Effects::store_lists.
struct Lists_Stored {
  bool stored = false;
};
// A candidate hands a vote back. `ago`: the time since its last 200; none: the candidate did not
// send it.
struct Handed_Back {
  std::string by, token;
  std::optional<Time> ago;
};
// This node was to vote for itself, but another ballot or a list waited too long for the store.
struct Own_Vote_Late {};
// This node hands back its vote for itself.
struct Own_Vote_Handed_Back {
  std::string token;
};
// The operator makes this node forget the timeline of the Primary that it voted for.
struct Timeline_Forgotten {};
// The operator declares these voters lost.
struct Lost_Declared {
  Lost_Declaration declaration;
};
// The clock did not count this time.
struct Clock_Missed {
  Time missed{};
};
// A client asked whether this standby is a synchronous one.
struct Synchrony_Wanted {};
// The events of a turn, see above.
struct Votes_Wanted {
  std::vector<Node> voters;  // without the candidate itself
  std::string candidate;
  Time missed{};  // as for Tick
};
struct Answers_Late {
  std::vector<Node> voters;
  std::string candidate;
};
enum class Part { begin, states, decision, lists, hand_back };
struct Tick {
  Part part{};
  std::string fresh;  // Part::begin: as for Vote_Asked
  // The time that the clock did not count since the last Clock_Missed, see Core::state_at().
  Time missed{};
};

using Event =
    std::variant<Facts_Read, Vote_Replied, State_Replied, Standby_Replied, Hand_Back_Replied,
                 Lists_Replied, Reply_Lost, Not_Sent, Vote_Asked, Grant_Stored, Lists_Stored,
                 Handed_Back, Own_Vote_Late, Own_Vote_Handed_Back, Timeline_Forgotten,
                 Lost_Declared, Clock_Missed, Synchrony_Wanted, Votes_Wanted, Answers_Late, Tick>;

// The event for a peer's reply to a question of that kind.
Event read_reply(Question_Kind kind, const Replied& to, const Http_Reply& reply);

// ---- effects

// For the log: a change of the lists of voters, or of what this node has voted for.
struct Note {
  enum class Kind {
    not_lost,  // `names` were declared lost, but they answer
    // without `names` no voter would be left, or the lists that count are not known yet
    none_left,
    taken_for_lost,  // `names` count as lost; empty: no voter does
    new_voters,      // the voters are now `names`; they were `before`
    votes_again,     // `names` was lost, and votes for this node
    // the candidate `names` gets no vote: it is on timeline `before`, and this node has voted for a
    // Primary on timeline `count`
    older_timeline,
    // the database names `names`, which is on an older timeline than `count`; the vote stays with
    // `before`
    outdated,
    other_history,  // the cluster's system identifier is now `names`; it was `before`
    namesake,       // `names` are left out, since their name equals that of `before`
    renamed,        // this node is `names` in repmgr.nodes; it was `before`
    // this node forgot that it had voted for a Primary on timeline `count`; 0: it had not voted for
    // any
    forgotten
  };
  Kind kind{};
  std::string names, before;
  std::size_t count = 1;  // the number of `names`, unless the kind gives another meaning

  bool operator==(const Note&) const = default;
};

struct Effects {
  std::vector<Question> ask;           // send these, in this order
  std::vector<Dropped_Question> drop;  // abandon these
  // Another ballot, or a list of voters, waits for the store. Nothing has changed. Pass the same
  // event again after Grant_Stored or Lists_Stored.
  bool busy = false;
  std::optional<Grant> store;                // store this, then pass Grant_Stored
  std::optional<Voter_Lists> store_lists;    // store this, then pass Lists_Stored
  std::optional<Ballot> ballot;              // send this as the answer
  std::optional<std::string> hand_back_own;  // pass Own_Vote_Handed_Back with this token
  bool look = false;                         // query the database now
  bool turn = false;                         // begin a turn now
  // The reply belongs to a question that was under way, or the hand-back ended a promise.
  bool accepted = false;
  std::list<Note> notes;
};

// ---- the value

struct Core {
  // A node that starts with this promise and these saved lists of voters.
  Core(Core_Settings settings, Promise promise, Voter_Lists lists);

  // -- What can be read. `missed`: the time that the clock did not count since the last
  // Clock_Missed.

  // The state at this moment. It is not Primary if its votes have expired. It is Down if the cache
  // is older than cache_ttl.
  State state_at(Time now, Time missed) const;
  // Whether the node would still be Primary if `missed` were zero, and is not Primary because of
  // it.
  bool stopped_at(Time now, Time missed) const;
  Decision decision_at(Time now, Time missed) const;
  // The node that this node's own database names as primary. Null if the database names none, or if
  // the node is Down.
  const Node* primary_at(Time now, Time missed) const;
  // Why this process may not be Primary under its node's name: another process answers at that
  // node's address, or this is not known yet. Empty: it may be.
  std::string why_not_itself() const;
  bool has_asked_itself() const;
  // The reply to another node that asks for the state.
  State_Report state_report(Time now, Time missed) const;
  // Whether this node may serve reads. A standby may. A node that was promoted may while it is
  // Unknown and no node that it knows of is Primary. Until a node is Primary, its data are those of
  // the standby that it was, and are as stale by the same rules.
  bool may_serve_reads(Time now, Time missed) const;
  // How far this node is behind. REQUIRES: may_serve_reads().
  Lag lag_at(Time now) const;
  Synchrony synchrony_at(Time now, Time missed) const;
  // The nodes that report that they are Primary. This node is included by its own state.
  std::vector<std::string> claimants(Time now, Time missed) const;
  // The voters of a candidate, with their votes, one entry for each list. Empty if this node is no
  // candidate.
  std::vector<std::vector<Voter>> voters_at(Time now) const;
  // All votes, with its own vote. A vote under another list of voters names nobody.
  Votes all_votes() const;
  // The node_ids of the voters in that scope whose votes for this node are unexpired.
  lists::Members voting(const lists::Scope& of, Time now) const;
  // Whether the report is from a database with another system identifier than this node's database.
  bool is_of_another_cluster(const State_Report& report) const;
  // The voters that are asked in that scope; null if none is asked.
  const Voter_List* voters_in(const lists::Scope& of) const;
  // This node's part in the lists of its own scope; null: it has not read repmgr.nodes yet.
  const lists::Participant* part() const { return part(scope); }
  const lists::Participant* part(const lists::Scope& of) const;
  // That scope as this node stores it. If its system identifier, or this node's, is not known, it
  // gets this node's: an earlier version sends none, and some nodes cannot read it.
  lists::Scope as_held(lists::Scope of) const;
  // Whether this node has voted for a Primary on a newer timeline than that of the candidate that
  // asks this.
  bool has_voted_for_newer(const std::optional<Lists_Question>& asked) const;
  // The lists of other sites in which this node is a voter, as far as it knows, except for lists
  // whose voters equal those of a list that counts anyway.
  std::vector<lists::List> elsewhere() const;
  // The lists of that scope that this node serves. None while they may differ from what is stored.
  std::optional<lists::Served> served_lists(const lists::Scope& of) const;
  // Whether a ballot or a list of voters waits for the store.
  bool awaits_store() const { return promise.awaits_store() || storing; }
  // Whether each peer that this node asks has answered or failed at least once. For votes: true if
  // this node is no candidate.
  bool all_answered(Question_Kind kind) const;
  // This node's row of repmgr.nodes if the node is a candidate: its database is reachable and not
  // in recovery, and the node is no witness. Else null.
  const Node* candidate() const;
  // Whether this node is a candidate that its own database names as primary.
  bool names_itself() const;
  // For a standby: the other node that its database names as primary; null if there is none.
  const Node* followed() const;
  // Whether, of these voters and the candidate, a majority of `num_in_consensus` voters votes for
  // it.
  bool is_elected(const std::vector<Node>& voters, const std::string& candidate,
                  std::size_t num_in_consensus, Time now) const;
  // The time from one query of the database to the next.
  Time look_interval(Time now) const;
  // When the next turn begins at the latest.
  Time turn_due(Time now) const;
  // The highest normal age of what is known of another node. The node is asked once a
  // refresh_interval, one reply may be lost, and the next one may be late.
  Time max_peer_age() const { return 3 * settings.refresh_interval + settings.peer_timeout; }
  // How long a voter may take to answer if the outcome is certain without it.
  Time straggler_timeout() const { return settings.peer_timeout / 4; }
  // The node to ask whether this node is a synchronous standby. Null if no client asked lately, or
  // if there is no such node.
  const Node* sync_source(Time now) const;

  bool operator==(const Core&) const = default;

  // -- The data.

  Core_Settings settings;
  Lease lease;

  Facts facts;                 // of the last query of the database
  bool looked = false;         // the first query of the database is over
  std::vector<Node> nodes;     // the list of nodes as last read, also when the database is down
  std::string server_started;  // Replication::server_started
  std::optional<Time> answered_at;  // when the last query that the database answered began
  Replay_History replay;
  Staleness staleness;
  std::optional<Time> sync_wanted_at;  // the time of the last Synchrony_Wanted

  // The lists of voters: this node's state in each scope, and the scope of the node itself.
  std::vector<lists::Participant> parts;
  lists::Scope scope;
  Addresses addresses, stored_addresses;
  std::vector<Lost_Voter> lost;
  Primary_Timeline voted;  // as in Voter_Lists
  // When the data above have to be stored at the latest; none: they need not be.
  std::optional<Time> store_due;
  int timeline = 0;        // of the server's WAL, as last read; 0: not known
  bool to_forget = false;  // the operator wants `voted.number` to be forgotten
  // The node that its own database names, if that node is known to be on an older timeline; else
  // empty. See Core_Step::named_for().
  std::string outdated;
  bool outdated_noted = false;  // it was logged
  // The last candidate that got no vote because it is on an older timeline.
  struct Refused {
    std::string name;
    int timeline = 0, voted = 0;
    bool noted = false;  // it was logged

    bool operator==(const Refused&) const = default;
  };
  std::optional<Refused> refused;
  std::string unreadable;  // as in Voter_Lists, until the node has a current list and may vote
  Voter_List read;         // the voters by its own database
  std::string holds;       // State_Report::list
  // `counted`: the lists of its own scope that count. `required`: the voters of each list of which
  // it needs a majority. `voters`: the nodes that it asks for votes. `unlisted`: nodes that its own
  // database does not list, but that it asks: voters, also those of other sites, and lost voters.
  std::vector<lists::List> counted;
  std::vector<Voter_List> required;
  Voter_List voters, unlisted;
  // `to_fetch`: the nodes to fetch lists from, by name, and the scope of these lists. `fetched`:
  // lists that were fetched, and are not evaluated yet.
  std::map<std::string, lists::Scope> to_fetch;
  struct Fetched {
    std::string from;
    lists::Served served;

    bool operator==(const Fetched&) const = default;
  };
  std::vector<Fetched> fetched;
  // this node is to take in its own lists as if it had fetched them
  bool own_to_fetch = false;
  std::optional<Time> list_changed_at;  // when its own current list last changed
  // For the cluster's Primary: the other sites, whose lists of voters it makes.
  struct Site {
    lists::Scope scope;
    Voter_List wished;  // the voters there by its own database
    Voter_List voters;  // the nodes that are asked; empty once a majority holds the wished list

    bool operator==(const Site&) const = default;
  };
  std::vector<Site> sites;
  std::map<std::string, lists::Scope> asked_in;  // the scope of the last question for a vote
  std::vector<int>
      namesakes;  // node_ids that are left out of facts.nodes, see leave_out_namesakes()
  // A decision that takes effect as soon as it is stored, and the votes that arrive meanwhile.
  struct Storing {
    std::vector<lists::Participant> parts;
    std::vector<Lost_Voter> lost;
    Addresses addresses;
    std::list<Note> notes;
    struct Late {
      lists::Scope scope;
      int from = 0;
      lists::Reply reply;
      lists::Members votes;

      bool operator==(const Late&) const = default;
    };
    std::vector<Late> late;

    bool operator==(const Storing&) const = default;
  };
  std::optional<Storing> storing;
  std::list<Note> notes;  // about what is in effect already
  // the store may hold something else; all must be stored before any of it is sent
  bool unsure = false;
  Lost_Declaration declaration;     // the last one
  std::optional<Time> declared_at;  // when it was declared; none once it is judged

  // As a voter.
  Promise promise;
  // The question whose ballot waits for the store.
  struct Awaited {
    std::string candidate, named;
    std::optional<Lists_Question> lists;      // as for Vote_Asked
    std::optional<lists::Reply> lists_reply;  // the reply to `lists`
    bool own = false;                         // this node asked itself
    Time asked_at{};

    bool operator==(const Awaited&) const = default;
  };
  std::optional<Awaited> awaited;
  // When the last promise to another node ends, or ended early.
  std::optional<Time> bound_until;
  std::optional<Time> freed_at;  // when the last promise was handed back

  // As a candidate.
  Polls polls;
  std::optional<Vote> own_vote;
  std::string own_token;         // of the promise to itself
  std::optional<Time> last_200;  // its last 200 by earlier decisions: the real one was not later
  // The nodes that it asks in this turn.
  struct Turn {
    std::vector<Node> others;      // all other nodes
    std::vector<Node> voters;      // for a candidate: all voters except itself
    std::string candidate;         // its own name in repmgr.nodes; empty: it is no candidate
    std::size_t in_consensus = 0;  // how many voters there are

    bool operator==(const Turn&) const = default;
  } turn;

  // The decision, and when the query of the database that it rests on began.
  Time looked_at{};
  Decision decision{State::down, Time::max(), "the database was not asked yet"};
  // The decision rests on a full reading of the database, and on an answer, or a failure, of each
  // voter, and the lists of voters are not about to change.
  bool complete = false;
};

Effects step(Core& core, const Event& event, Time now);

}  // namespace primgr
