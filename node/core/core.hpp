// What a node knows and decides, as a value, and the one function that changes it:
//
//     Effects step(Core&, const Event&, Time now);
//
// It has no clock, thread, lock, log, file or socket. Whoever runs it tells what happened, does
// what it asks for, and tells of that: Repmgr_Node does so with a database, peers and a store; a
// test with what it makes up. Text for the log, history and statistics are in Journal, so that
// equal states are equal.
//
// A turn of the refresher is, in this order:
//
//     Clock_Missed                if its clock did not count some time
//     Tick{Part::begin}           whom it asks in this turn (Core::turn); votes for itself
//     Votes_Wanted, Answers_Late  of a candidate: asks the voters; drops questions that are late
//     Tick{Part::states}          asks the others for their states
//     Tick{Part::decision}        decides
//     Tick{Part::lists}           what follows for the lists of voters, with what was fetched
//     Tick{Part::hand_back}       hands votes back that are of no use any more
//
// and then waits until Core::turn_due() or the next event. Facts_Read, replies and questions may
// come between any two of these.
//
// Not thread-safe. All functions throw std::bad_alloc only. step() may be called again then: no
// promise was given or forgotten, and what it would have asked counts as not asked.

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
  int node_id = 0;        // if known, this node is the one with that, whatever its name is
  Time peer_timeout = std::chrono::seconds(1);
  Time refresh_interval = std::chrono::seconds(1);
  Time cache_ttl = std::chrono::seconds(20);
  Time vote_lease = std::chrono::seconds(4);   // for how long this node promises its vote
  Time check_delay = std::chrono::seconds(1);  // how long a node may be used after its last 200
  bool consensus_cluster = false;  // all nodes of the cluster vote, not only those of the site
  bool keeps_lists = true;         // over a restart: false: there is no state_directory
  // Tells this process from all others. Empty: it is not asked whether another one has its name.
  std::string instance;
  bool candidate = true;  // false (--once): reads whom the others name, and asks for no votes

  bool operator==(const Core_Settings&) const = default;
};

// ---- events

// The database was looked at.
struct Facts_Read {
  Facts facts;
};
// A peer answered, or did not in time. `missed`: as for Tick.
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
// What a peer serves of its lists of voters.
struct Lists_Replied {
  Replied to;
  std::optional<lists::Served> served;  // none: nothing that is understood
  Addresses addresses;
};
// There was no memory for what was answered.
struct Reply_Lost {
  Question_Kind kind;
  Replied to;
};
// The questions with this number and later ones could not be sent.
struct Not_Sent {
  std::uint64_t number;
};
// A candidate asks for a vote that it counts for `lease`. `shown`, `fresh`: see Voter_Question.
// `lists`: what it says of lists of voters; none: an older version, which says nothing.
struct Vote_Asked {
  std::string candidate;
  Time lease{};
  std::optional<std::string> shown;
  std::optional<Lists_Question> lists;
  std::string fresh;
};
// The store is sure to hold this grant, see Promise::stored(). Effects::ballot is that of the vote
// that waited for it.
struct Grant_Stored {
  std::optional<Grant> saved;
};
// Whether the store is sure to hold Effects::store_lists.
struct Lists_Stored {
  bool stored = false;
};
// A candidate hands a vote back. `ago`: how long its last 200 is ago; none: it does not say.
struct Handed_Back {
  std::string by, token;
  std::optional<Time> ago;
};
// This node was to vote for itself, but another ballot waited for the store for too long.
struct Own_Vote_Late {};
// This node hands its vote for itself back.
struct Own_Vote_Handed_Back {
  std::string token;
};
// The operator has this node forget on which timeline the Primary was that it voted for.
struct Timeline_Forgotten {};
// The operator takes these voters for lost.
struct Lost_Declared {
  Lost_Declaration declaration;
};
// The clock did not count this time.
struct Clock_Missed {
  Time missed{};
};
// Somebody wants to know whether this standby is a synchronous one.
struct Synchrony_Wanted {};
// A turn, see above.
struct Votes_Wanted {
  std::vector<Node> voters;  // but for the candidate itself
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
  // How much time the clock did not count since the last Clock_Missed: see Core::state_at().
  Time missed{};
};

using Event =
    std::variant<Facts_Read, Vote_Replied, State_Replied, Standby_Replied, Hand_Back_Replied,
                 Lists_Replied, Reply_Lost, Not_Sent, Vote_Asked, Grant_Stored, Lists_Stored,
                 Handed_Back, Own_Vote_Late, Own_Vote_Handed_Back, Timeline_Forgotten,
                 Lost_Declared, Clock_Missed, Synchrony_Wanted, Votes_Wanted, Answers_Late, Tick>;

// What a peer answered to a question of that kind.
Event read_reply(Question_Kind kind, const Replied& to, const Http_Reply& reply);

// ---- effects

// Something that happened to the lists of voters, or to what it has voted for, for the log.
struct Note {
  enum class Kind {
    not_lost,        // `names` were declared lost, but answer
    none_left,       // without `names` no voter would be left, or it is not known who they are
    taken_for_lost,  // `names`; empty: none
    new_voters,      // the voters are now `names`; they were `before`
    votes_again,     // `names` was lost, and votes for this node
    older_timeline,  // the candidate `names` gets no vote: it is on timeline `before`, and this
                     // node has voted for a Primary on timeline `count`
    outdated,        // the database names `names`, which is on an older timeline than `count`; the
                     // vote stays with `before`
    other_history,   // the cluster's system identifier is now `names`; it was `before`
    namesake,        // `names` are left out: `before` has a name that is equal
    renamed,         // this node is `names` in repmgr.nodes; it was `before`
    forgotten        // that it had voted for a Primary on timeline `count`; 0: it had not
  };
  Kind kind{};
  std::string names, before;
  std::size_t count = 1;  // of `names`, if it is not said what else

  bool operator==(const Note&) const = default;
};

struct Effects {
  std::vector<Question> ask;           // send these, in this order
  std::vector<Dropped_Question> drop;  // abandon these
  // Another ballot, or a list of voters, waits for the store: tell the same event again after
  // Grant_Stored or Lists_Stored. Nothing has changed.
  bool busy = false;
  std::optional<Grant> store;                // store this, and tell Grant_Stored
  std::optional<Voter_Lists> store_lists;    // store this, and tell Lists_Stored
  std::optional<Ballot> ballot;              // answer this
  std::optional<std::string> hand_back_own;  // tell Own_Vote_Handed_Back with this token
  bool look = false;                         // look at the database now
  bool turn = false;                         // begin a turn now
  // A reply was to a question that was under way; a hand-back ended a promise.
  bool accepted = false;
  std::list<Note> notes;
};

// ---- the value

struct Core {
  // A node that starts with this promise and what it knew of lists of voters.
  Core(Core_Settings settings, Promise promise, Voter_Lists lists);

  // -- What can be read. `missed`: how much time the clock did not count since the last
  // Clock_Missed.

  // The state at this moment: not Primary if its votes have expired, and Down if the cache is older
  // than cache_ttl.
  State state_at(Time now, Time missed) const;
  // Whether that is Primary no more only since the clock missed some time.
  bool stopped_at(Time now, Time missed) const;
  Decision decision_at(Time now, Time missed) const;
  // The node that this node's own database names as primary; null if it names none or is down.
  const Node* primary_at(Time now, Time missed) const;
  // Why this process may not stand for the node of its name: another one answers at that node's
  // address, or it is not known yet whether one does. Empty: it may.
  std::string why_not_itself() const;
  bool has_asked_itself() const;
  // What another node is sent that asks for the state.
  State_Report state_report(Time now, Time missed) const;
  // Whether it is a standby, or was promoted while no node is Primary that it knows of. Until one
  // is, its data are those of the standby that it was: as stale, by the same rules.
  bool may_serve_reads(Time now, Time missed) const;
  // How far it is behind. REQUIRES: may_serve_reads().
  Lag lag_at(Time now) const;
  Synchrony synchrony_at(Time now, Time missed) const;
  // The nodes that report that they are Primary. Includes this node by its own state.
  std::vector<std::string> claimants(Time now, Time missed) const;
  // The voters of a candidate, with their votes, by list; empty if this node is none.
  std::vector<std::vector<Voter>> voters_at(Time now) const;
  // All votes, its own too. A vote under another list of voters names nobody.
  Votes all_votes() const;
  // The node_ids of those of the voters in that scope whose votes for this node are unexpired.
  lists::Members voting(const lists::Scope& of, Time now) const;
  // Whether who reported that has a database of another system identifier than this node's.
  bool is_of_another_cluster(const State_Report& report) const;
  // Who is asked for votes in that scope; null if nobody is.
  const Voter_List* voters_in(const lists::Scope& of) const;
  // This node's part in the lists of its own scope; null: it has not read repmgr.nodes yet.
  const lists::Participant* part() const { return part(scope); }
  const lists::Participant* part(const lists::Scope& of) const;
  // That scope as this node has it. Where a system identifier is not known, it is taken for that of
  // this node's cluster: of an earlier version, or of a node that cannot read it.
  lists::Scope as_held(lists::Scope of) const;
  // Whether this node has voted for a Primary on a newer timeline than that of who asks this.
  bool has_voted_for_newer(const std::optional<Lists_Question>& asked) const;
  // The lists of other sites of which this node is a voter, by the last that it knows.
  std::vector<lists::List> elsewhere() const;
  // What it serves of the lists of that scope; none while that may be other than what is stored.
  std::optional<lists::Served> served_lists(const lists::Scope& of) const;
  // Whether a ballot or a list of voters waits for the store.
  bool awaits_store() const { return promise.awaits_store() || storing; }
  // Whether each peer that this node asks has answered or failed at least once.
  bool all_answered(Question_Kind kind) const;
  // This node's row of repmgr.nodes if it asks for votes; null if it does not.
  const Node* candidate() const;
  // Whether it is a candidate whose own database names it as primary.
  bool names_itself() const;
  // Of a standby: the other node that its database names as primary; null if there is none.
  const Node* followed() const;
  // Whether these voters, and the candidate, are a majority of `num_in_consensus` voters for it.
  bool is_elected(const std::vector<Node>& voters, const std::string& candidate,
                  std::size_t num_in_consensus, Time now) const;
  // From one look at the database to the next.
  Time look_interval(Time now) const;
  // When the next turn begins at the latest.
  Time turn_due(Time now) const;
  // How old what is known of another node may be at times: questions go to it each
  // refresh_interval, one reply may be lost, and the next be late.
  Time max_peer_age() const { return 3 * settings.refresh_interval + settings.peer_timeout; }
  // How long a voter may take to answer if the outcome is certain without it.
  Time straggler_timeout() const { return settings.peer_timeout / 4; }
  // The node to ask whether this one is a synchronous standby; null if nobody wants to know, or if
  // there is none.
  const Node* sync_source(Time now) const;

  bool operator==(const Core&) const = default;

  // -- What it is.

  Core_Settings settings;
  Lease lease;

  Facts facts;                 // of the last look
  bool looked = false;         // the first look is over
  std::vector<Node> nodes;     // the list of nodes as last read, also when the database is down
  std::string server_started;  // as Replication has it
  std::optional<Time> answered_at;  // when the database was asked the last time that it answered
  Replay_History replay;
  Staleness staleness;
  std::optional<Time> sync_wanted_at;  // when somebody wanted to know of synchrony last

  // The lists of voters: this node's part in those of each scope, and which scope is its own.
  std::vector<lists::Participant> parts;
  lists::Scope scope;
  Addresses addresses, stored_addresses;
  std::vector<Lost_Voter> lost;
  Primary_Timeline voted;  // as in Voter_Lists
  // When that is to be stored at the latest; none: it is.
  std::optional<Time> store_due;
  int timeline = 0;        // of the server's WAL, as last read; 0: not known
  bool to_forget = false;  // the operator wants `voted.number` to be forgotten
  // The node that its own database names, if that is known to be on an older timeline: see
  // Core_Step::named_for().
  std::string outdated;
  bool outdated_noted = false;  // in the log
  // The last candidate to which it gave no vote since that is on an older timeline.
  struct Refused {
    std::string name;
    int timeline = 0, voted = 0;
    bool noted = false;  // in the log

    bool operator==(const Refused&) const = default;
  };
  std::optional<Refused> refused;
  std::string unreadable;  // as in Voter_Lists, until it is settled
  Voter_List read;         // the voters by its own database
  std::string holds;       // State_Report::list
  // The lists of which it needs a majority each. Who is asked: their voters, and those by its own
  // database; and which of them, and of the lost, that does not list.
  std::vector<lists::List> counted;
  std::vector<Voter_List> required;
  Voter_List voters, unlisted;
  // Who has something to tell of the lists of which scope, by name; what was fetched, and is not
  // taken in yet.
  std::map<std::string, lists::Scope> to_fetch;
  struct Fetched {
    std::string from;
    lists::Served served;

    bool operator==(const Fetched&) const = default;
  };
  std::vector<Fetched> fetched;
  bool own_to_fetch = false;            // this node has something to tell itself
  std::optional<Time> list_changed_at;  // when its own current list became another
  // Of the cluster's Primary: the other sites, whose lists of voters it makes.
  struct Site {
    lists::Scope scope;
    Voter_List wished;  // by its own database
    Voter_List voters;  // who is asked; empty once all know the list that is wished

    bool operator==(const Site&) const = default;
  };
  std::vector<Site> sites;
  std::map<std::string, lists::Scope> asked_in;  // the scope of the last question for a vote
  std::vector<int>
      namesakes;  // node_ids that are left out of facts.nodes: see leave_out_namesakes()
  // What stands as soon as it is stored, and what happens to it meanwhile.
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
  std::list<Note> notes;  // of what stands already
  bool unsure = false;    // the store may hold something else: store all before anything is said
  Lost_Declaration declaration;     // the last one
  std::optional<Time> declared_at;  // of that, until it is judged

  // As a voter.
  Promise promise;
  // The question whose ballot waits for the store.
  struct Awaited {
    std::string candidate, named;
    std::optional<Lists_Question> lists;      // as for Vote_Asked
    std::optional<lists::Reply> lists_reply;  // to that
    bool own = false;                         // this node asks itself
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
  std::optional<Time> last_200;  // by decisions before this one: the last was not later
  // Whom it asks in this turn.
  struct Turn {
    std::vector<Node> others;      // all other nodes
    std::vector<Node> voters;      // of a candidate: all voters but itself
    std::string candidate;         // its own name in repmgr.nodes; empty: it is no candidate
    std::size_t in_consensus = 0;  // how many voters there are

    bool operator==(const Turn&) const = default;
  } turn;

  // The decision, and when the look that it rests on began.
  Time looked_at{};
  Decision decision{State::down, Time::max(), "the database was not asked yet"};
  // It rests on a whole look, and on an answer, or a failure, of each voter, by the newest lists
  // that these know.
  bool complete = false;
};

Effects step(Core& core, const Event& event, Time now);

}  // namespace primgr
