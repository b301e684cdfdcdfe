#include "repmgr_node.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

namespace primgr {

using namespace std::chrono_literals;

namespace {

// How soon an undecided node looks and asks again, and how often it can be made to look at once.
constexpr Time undecided_interval = 200ms;
constexpr Time look_gap = 100ms;

// How long a look waits for its survey once the pulse is there, so that both are told together.
constexpr Time survey_grace = 100ms;

// While repmgr.nodes is blocked, how often it is asked for: each attempt that fails is a line in
// PostgreSQL's log.
constexpr Time blocked_interval = 5s;

// How often a second connection is tried that the server has refused.
constexpr Time refused_interval = 1min;

// How often an exchange starts anew because its connection broke.
constexpr int most_lost = 10;

// How far another clock must get ahead of CLOCK_BOOTTIME to show that the machine was stopped: more
// than clocks differ because somebody sets one right.
constexpr Time least_unseen = 250ms;

// How long a vote waits for another's promise to be written.
constexpr Time vote_patience = 100ms;

char folded(char c) {
  if (c >= 'A' && c <= 'Z') return static_cast<char>(c - 'A' + 'a');
  return c == '_' ? '-' : c;
}

// libpq's messages end in a newline and may have several lines and tabs.
std::string one_line(std::string_view message) {
  std::string line;
  for (const char c : message) {
    const bool blank = c == '\n' || c == '\t' || c == ' ';
    if (!blank) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  if (line.ends_with(' ')) line.pop_back();
  return line;
}

struct Conninfo_Deleter {
  void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};
using Conninfo = std::unique_ptr<PQconninfoOption, Conninfo_Deleter>;

std::string option(const Conninfo& options, std::string_view keyword) {
  for (auto* o = options.get(); o && o->keyword; ++o) {
    if (o->keyword == keyword) return o->val ? o->val : "";
  }
  return {};
}

bool names_a_host(std::string_view host) {
  return !host.empty() && host.front() != '/' && host.front() != '@';  // else a socket folder
}

struct Result_Deleter {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, Result_Deleter>;

std::optional<double> number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(value >= 0 && value < 1e9)) return std::nullopt;
  return value;
}

// Seconds as extract(epoch …) writes them. Clocks that differ may make them negative: then zero.
std::optional<Time> seconds(const std::string& text) {
  if (text.starts_with('-')) return Time::zero();
  const auto value = number(text);
  if (!value) return std::nullopt;
  return std::chrono::duration_cast<Time>(std::chrono::duration<double>(*value));
}

// A field as text; empty for NULL, and for what the server did not send.
std::string field(const PGresult* rows, int row, int column) {
  if (row >= PQntuples(rows) || column >= PQnfields(rows)) return {};
  const char* value = PQgetvalue(rows, row, column);
  return value ? std::string(value, static_cast<std::size_t>(PQgetlength(rows, row, column)))
               : std::string();
}

Replication read_replication(const PGresult* rows) {
  Replication into;
  const auto text = [&](int column) { return field(rows, 0, column); };
  into.known = PQntuples(rows) == 1;
  if (!into.known) {
    into.problem = std::to_string(PQntuples(rows)) + " rows of replication instead of one";
    return into;
  }
  into.position = parse_lsn(text(0));
  int timeline = 0;
  const std::string file = text(1).substr(0, 8), received = text(4);
  // The first eight digits of a WAL file's name are its timeline.
  const auto [end, error] =
      file.empty() ? std::from_chars(received.data(), received.data() + received.size(), timeline)
                   : std::from_chars(file.data(), file.data() + file.size(), timeline, 16);
  if (error == std::errc()) into.timeline = timeline;
  into.receiving = PQgetisnull(rows, 0, 2) == 0;
  into.status = text(3);
  into.from = text(5);
  into.sender_at = parse_lsn(text(6));
  into.received = parse_lsn(text(7));
  into.since_commit = seconds(text(8));
  into.paused = text(9) == "t";
  return into;
}

std::vector<Attached> read_attached(const PGresult* rows) {
  std::vector<Attached> attached;
  for (int r = 0; r < PQntuples(rows); ++r) {
    const auto text = [&](int column) { return field(rows, r, column); };
    attached.push_back({text(0), text(1), text(2), text(3), parse_lsn(text(4)), seconds(text(5))});
  }
  return attached;
}

std::vector<Node> read_nodes(const PGresult* rows) {
  std::vector<Node> nodes;
  for (int r = 0; r < PQntuples(rows); ++r) {
    const auto text = [&](int column) { return field(rows, r, column); };
    Node node;
    const std::string id = text(0);
    std::from_chars(id.data(), id.data() + id.size(), node.id);
    node.name = text(1);
    node.site = text(2);
    node.type = text(3);
    node.active = text(4) == "t";
    node.host = conninfo_host(text(5));
    nodes.push_back(std::move(node));
  }
  return nodes;
}

std::string print_ms(Time time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(time).count());
}

// What each new connection is told first. A statement that waits for a lock gives up soon, so that
// the replication that is asked for after it stays fresh; none outlives db_timeout. Where there is
// one connection for both exchanges, a slow survey must leave the pulse its time. Nothing is found
// by a search_path that others may have set, and nothing is written.
std::string make_preparation(Time timeout, std::size_t max_connections) {
  const Time statement = max_connections > 1 ? timeout * 9 / 10 : timeout / 2;
  const Time lock = std::min<Time>(500ms, timeout / 2);
  return "SET statement_timeout = " + print_ms(statement) +
         "; SET lock_timeout = " + print_ms(lock) +
         "; SET search_path = pg_catalog, pg_temp; SET default_transaction_read_only = on;"
         " PREPARE primgr_pulse AS SELECT pg_catalog.pg_is_in_recovery()";
}

}  // namespace

Time boottime() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

std::string tell_time(Time time) {
  using std::chrono::seconds;
  if (time < 1min) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f s",
                  std::chrono::duration<double>(std::max(time, Time::zero())).count());
    return text;
  }
  struct Unit {
    const char* name;
    seconds length;
  };
  static constexpr Unit units[] = {{" d", 24h}, {" h", 1h}, {" min", 1min}, {" s", 1s}};
  auto rest = std::chrono::duration_cast<seconds>(time);
  const Unit* unit = units;
  while (rest < unit->length) ++unit;
  const std::string first = std::to_string(rest / unit->length) + unit->name;
  rest %= unit->length;
  ++unit;
  return first + " " + std::to_string(rest / unit->length) + unit->name;
}

const char* to_string(State state) {
  switch (state) {
    case State::primary:
      return "Primary";
    case State::standby:
      return "Standby";
    case State::unknown:
      return "Unknown";
    case State::down:
      break;
  }
  return "Down";
}

std::optional<Lsn> parse_lsn(std::string_view text) {
  std::uint32_t high = 0, low = 0;
  const char* last = text.data() + text.size();
  const auto first = std::from_chars(text.data(), last, high, 16);
  if (first.ec != std::errc() || first.ptr == last || *first.ptr != '/') return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, last, low, 16);
  if (second.ec != std::errc() || second.ptr != last) return std::nullopt;
  return Lsn{high} << 32 | low;
}

std::string print_lsn(Lsn lsn) {
  char text[32];
  std::snprintf(text, sizeof text, "%X/%X", static_cast<unsigned>(lsn >> 32),
                static_cast<unsigned>(lsn & 0xffffffff));
  return text;
}

// ---- the rules ----------------------------------------------------------------------------------

bool names_equal(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return folded(x) == folded(y); });
}

std::string conninfo_host(const std::string& conninfo) {
  const Conninfo options(PQconninfoParse(conninfo.c_str(), nullptr));
  std::string host = option(options, "hostaddr");
  if (host.empty()) host = option(options, "host");
  host = host.substr(0, host.find(','));
  // An @ is in no host's name: it is a password's that ran into it, and hosts are told to others.
  const bool has_at = host.find('@') != host.npos;
  return names_a_host(host) && !has_at ? host : std::string();
}

const Node* named_primary(const std::vector<Node>& nodes) {
  const Node* primary = nullptr;
  for (const Node& node : nodes) {
    if (node.type != "primary" || !node.active) continue;
    if (primary) return nullptr;
    primary = &node;
  }
  return primary;
}

const Node* find_node(const std::vector<Node>& nodes, std::string_view name) {
  const Node* found = nullptr;
  for (const Node& node : nodes) {
    if (!names_equal(node.name, name)) continue;
    if (found) return nullptr;
    found = &node;
  }
  return found;
}

std::vector<Node> electorate(const std::vector<Node>& nodes, const Node& self, bool whole_cluster) {
  std::vector<Node> voters;
  for (const Node& node : nodes) {
    if (whole_cluster || node.site == self.site) voters.push_back(node);
  }
  return voters;
}

std::size_t votes_needed(std::size_t voters) {
  return voters / 2 + 1;
}

bool check_consensus(std::size_t votes_counted, std::size_t votes_needed) {
  return votes_counted >= votes_needed;
}

Ballot cast_vote(const Grant& last, std::string_view named, std::string_view candidate, Time now) {
  if (now < last.until && !names_equal(last.to, candidate)) return {last.to, false};
  return {std::string(named), !named.empty() && names_equal(named, candidate)};
}

Time vote_lifetime(Time vote_lease) {
  return vote_lease - vote_lease / 100;
}

std::vector<Time> count_votes(const std::vector<Node>& voters, const Node& self, const Votes& votes,
                              Time lifetime, Time now) {
  std::vector<Time> expiries;
  for (const Node& voter : voters) {
    const auto found = votes.find(voter.name);
    if (found == votes.end()) continue;
    const Vote& vote = found->second;
    const Time expiry = vote.sent_at + lifetime;
    if (vote.names.empty() || expiry <= now) continue;
    if (names_equal(vote.names, self.name)) expiries.push_back(expiry);
  }
  return expiries;
}

std::vector<Voter> tell_voters(const std::vector<Node>& voters, const Node& self,
                               const Votes& votes, Time lifetime, Time now) {
  std::vector<Voter> told;
  for (const Node& node : voters) {
    Voter& voter = told.emplace_back();
    voter.name = node.name;
    voter.self = node.id == self.id;
    const auto found = votes.find(node.name);
    if (found == votes.end()) {
      voter.why = "not asked yet";
      continue;
    }
    const Vote& vote = found->second;
    if (vote.names.empty() || vote.sent_at + lifetime <= now) {
      voter.why = vote.why.empty() ? "vote expired" : vote.why;
      continue;
    }
    voter.names = vote.names;
    voter.age = now - vote.sent_at;
    voter.left = vote.sent_at + lifetime - now;
    voter.counts = !count_votes({node}, self, votes, lifetime, now).empty();
  }
  return told;
}

std::size_t votes_counted(const std::vector<Voter>& voters) {
  return static_cast<std::size_t>(
      std::count_if(voters.begin(), voters.end(), [](const Voter& voter) { return voter.counts; }));
}

std::string tell_votes(const std::vector<Voter>& voters) {
  std::string told = std::to_string(votes_counted(voters)) + " of " +
                     std::to_string(voters.size()) + " votes, " +
                     std::to_string(votes_needed(voters.size())) + " needed: ";
  for (const Voter& voter : voters) {
    if (&voter != &voters.front()) told += ", ";
    told += voter.name;
    if (voter.self) told += " (this node)";
    told += voter.names.empty() ? ": " + voter.why : " names " + voter.names;
  }
  return told;
}

Decision decide(const Facts& facts, const std::string& self_name, bool whole_cluster,
                const Votes& votes, Time lifetime, Time now) {
  if (!facts.reachable) return {State::down, Time::max(), facts.problem};
  if (facts.in_recovery) return {State::standby, Time::max(), "in recovery"};
  if (!facts.nodes_known) {
    return {State::unknown, Time::max(), "repmgr.nodes cannot be read: " + facts.problem};
  }
  const Node* self = find_node(facts.nodes, self_name);
  if (!self) {
    return {State::unknown, Time::max(),
            "repmgr.nodes does not list exactly one node named \"" + self_name +
                "\": register it, or set node_name"};
  }
  if (self->type == "witness") {
    return {State::unknown, Time::max(), "a witness is never primary"};
  }

  const std::vector<Node> voters = electorate(facts.nodes, *self, whole_cluster);
  std::vector<Time> expiries = count_votes(voters, *self, votes, lifetime, now);
  const std::size_t needed = votes_needed(voters.size());
  if (!check_consensus(expiries.size(), needed)) {
    return {State::unknown, Time::max(), "no majority votes for it"};
  }
  // It holds until so many have expired that the rest is no majority.
  std::nth_element(expiries.begin(), expiries.begin() + static_cast<std::ptrdiff_t>(needed) - 1,
                   expiries.end(), std::greater<>());
  return {State::primary, expiries[needed - 1], "a majority votes for it"};
}

void Replay_History::saw(Time now, Lsn sender_at, Lsn replayed) {
  if (!seen_.empty() && sender_at < seen_.back().lsn) forget();  // it follows another now
  while (seen_.size() > 1 && seen_[1].lsn <= replayed) seen_.pop_front();
  if (seen_.size() <= 1) step_ = Time::zero();
  if (!seen_.empty() && (seen_.back().lsn == sender_at || now < seen_.back().at + step_)) return;
  seen_.push_back({now, sender_at});
  if (seen_.size() <= 1024) return;
  // Replay has stood for long: half as fine is fine enough. The oldest that waits stays.
  for (std::size_t i = 2; i < seen_.size(); ++i) seen_.erase(seen_.begin() + static_cast<long>(i));
  step_ = (now - seen_[1].at) / 512;
}

std::optional<Time> Replay_History::delay(Time now, Lsn replayed) const {
  if (seen_.empty()) return std::nullopt;
  if (seen_.back().lsn <= replayed) return Time::zero();
  if (seen_.front().lsn > replayed) return std::nullopt;
  const auto waiting = std::find_if(seen_.begin(), seen_.end(),
                                    [&](const Seen& seen) { return seen.lsn > replayed; });
  return now - waiting->at;
}

Lag measure_lag(const Facts& facts, const Replay_History& history) {
  const Replication& r = facts.replication;
  Lag lag;
  lag.streaming = r.status == "streaming";
  if (!r.known) {
    lag.problem = r.problem.empty() ? "replication could not be looked at" : r.problem;
  } else if (!r.receiving) {
    lag.problem = "there is no WAL receiver: nothing is streamed to it";
  } else if (r.status.empty()) {
    lag.problem = "its WAL receiver is not shown: GRANT pg_read_all_stats TO primgr's role";
  } else if (!lag.streaming) {
    lag.problem = "its WAL receiver is " + r.status + ", not streaming";
  } else if (!r.sender_at || !r.position) {
    lag.problem = "its sender has not told yet how far it is";
  } else {
    const Lsn end = r.end();
    lag.receive = end - std::min(end, r.received.value_or(0));
    lag.replay = end - std::min(end, *r.position);
    lag.delay = history.delay(r.asked_at, *r.position);
    // From before this node began to watch: the time of the last commit tells, by two clocks.
    if (!lag.delay) lag.delay = *lag.replay ? r.since_commit : std::optional(Time::zero());
    // Replay may have stood still since it was looked at.
    if (lag.delay) *lag.delay += std::max(facts.asked_at - r.asked_at, Time::zero());
  }
  return lag;
}

std::string too_late(const Lag& lag, std::optional<Lsn> most_bytes,
                     std::optional<Time> most_delay) {
  if (!lag.streaming) return lag.problem;
  if ((most_bytes && !lag.replay) || (most_delay && !lag.delay)) {
    return lag.problem.empty() ? "it is not known how late it is" : lag.problem;
  }
  if (most_bytes && *lag.replay > *most_bytes) {
    return "it has " + std::to_string(*lag.replay) + " bytes of WAL to replay, more than " +
           std::to_string(*most_bytes);
  }
  if (most_delay && *lag.delay > *most_delay) {
    return "it is " + print_ms(*lag.delay) + " ms late, more than " + print_ms(*most_delay) + " ms";
  }
  return {};
}

// ---- peers --------------------------------------------------------------------------------------

namespace {

std::string url_encoded(std::string_view text) {
  static constexpr char digits[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || c == '-' || c == '_' || c == '.' || c == '~') {
      encoded += c;
    } else {
      encoded += {'%', digits[byte >> 4], digits[byte & 15]};
    }
  }
  return encoded;
}

// The string at a key of a JSON object; none if the body is not that.
std::optional<std::string> json_string(const std::string& body,
                                       std::initializer_list<const char*> keys) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  for (const char* key : keys) {
    const auto value = json.find(key);
    if (value != json.end() && value->is_string()) return value->get<std::string>();
  }
  return std::nullopt;
}

std::optional<std::string> reported_state(const Http_Reply& reply) {
  return json_string(reply.body, {"state", "State"});
}

}  // namespace

std::optional<std::string> http_node_reports_primary(const Http_Reply& reply, std::string& why) {
  why.clear();
  if (reply.status == 0) {
    why = reply.error;
  } else if (reply.body.size() > max_reply_size) {
    why = "reply too long";
  } else if (reply.status == 200) {
    auto name = json_string(reply.body, {"Primary"});
    if (name && !name->empty()) return name;
    why = "200 without the name of a primary";
  } else if (reply.status == 503) {
    why = "names none, its state is " + reported_state(reply).value_or("not told");
  } else {
    why = "HTTP status " + std::to_string(reply.status);
  }
  return std::nullopt;
}

State http_node_reports_state(const Http_Reply& reply) {
  if (reply.status == 0 || reply.body.size() > max_reply_size) return State::unknown;
  const auto word = reported_state(reply);
  if (reply.status == 200 && word == "Primary") return State::primary;
  if (reply.status == 202 && word == "Standby") return State::standby;
  if (reply.status == 503 && word == "Down") return State::down;
  return State::unknown;
}

// ---- Connection_Pool ----------------------------------------------------------------------------

namespace {

// Whether the other side has ended the connection of `fd`. What it still sends is thrown away.
bool is_ended(int fd) {
  char rest[4096];
  ssize_t n;
  while ((n = ::recv(fd, rest, sizeof rest, MSG_DONTWAIT)) > 0) {
  }
  return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

// A host that vanished with the server on it closes nothing: TCP is to find that out in a minute.
// Other sockets do not know these options, and need none.
void watch_peer(int fd) {
  const auto set = [&](int level, int option, int value) {
    setsockopt(fd, level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 15);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 60'000);
}

}  // namespace

Connection_Pool::~Connection_Pool() {
  close();
}

void Connection_Pool::close() {
  const std::lock_guard lock(mutex_);
  for (const Leaving& leaving : leaving_) {
    PQcancelFinish(leaving.cancel);
    PQfinish(leaving.connection);
  }
  for (PGconn* connection : idle_) PQfinish(connection);
  open_ -= leaving_.size() + idle_.size();
  leaving_.clear();
  idle_.clear();
}

PGconn* Connection_Pool::take() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return nullptr;
  PGconn* connection = idle_.front();
  idle_.pop_front();
  return connection;
}

bool Connection_Pool::reserve(std::size_t spare) {
  const std::lock_guard lock(mutex_);
  if (open_ + spare >= max_) return false;
  ++open_;
  return true;
}

void Connection_Pool::put(PGconn* connection) {
  try {
    const std::lock_guard lock(mutex_);
    idle_.push_back(connection);
    return;
  } catch (const std::bad_alloc&) {
    // There is no memory to keep it.
  }
  discard(connection);
}

void Connection_Pool::discard(PGconn* connection) {
  const std::lock_guard lock(mutex_);
  const int fd = connection ? PQsocket(connection) : -1;
  if (fd < 0) {
    PQfinish(connection);
    --open_;
    return;
  }
  PGcancelConn* cancel = nullptr;
  if (PQstatus(connection) == CONNECTION_OK && PQtransactionStatus(connection) == PQTRANS_ACTIVE) {
    cancel = PQcancelCreate(connection);
    if (!PQcancelStart(cancel)) PQcancelFinish(std::exchange(cancel, nullptr));
  }
  watch_peer(fd);
  // The server reads the end as soon as it listens again. Not PQfinish(): that would close the
  // socket, and with it the only sign that the backend has gone.
  ::shutdown(fd, SHUT_WR);
  leaving_.push_back({connection, cancel, POLLOUT});
}

void Connection_Pool::advance_cancel(Leaving& leaving) {
  if (!leaving.cancel) return;
  pollfd ready{PQcancelSocket(leaving.cancel), leaving.cancel_events, 0};
  if (::poll(&ready, 1, 0) <= 0) return;
  switch (PQcancelPoll(leaving.cancel)) {
    case PGRES_POLLING_READING:
      leaving.cancel_events = POLLIN;
      break;
    case PGRES_POLLING_WRITING:
      leaving.cancel_events = POLLOUT;
      break;
    default:  // sent, or it cannot be: the statement has a timeout of its own
      PQcancelFinish(std::exchange(leaving.cancel, nullptr));
  }
}

bool Connection_Pool::collect() {
  const std::lock_guard lock(mutex_);
  const auto gone = std::erase_if(leaving_, [](Leaving& leaving) {
    advance_cancel(leaving);
    if (!is_ended(PQsocket(leaving.connection))) return false;
    PQcancelFinish(leaving.cancel);
    PQfinish(leaving.connection);
    return true;
  });
  open_ -= gone;
  return gone > 0;
}

bool Connection_Pool::drop_lost() {
  std::vector<PGconn*> lost;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(idle_, [&](PGconn* connection) {
      // Asynchronous messages (a changed parameter, a farewell) are read and forgotten.
      const bool alive = PQconsumeInput(connection) == 1 && !PQisBusy(connection) &&
                         PQstatus(connection) == CONNECTION_OK;
      if (!alive) lost.push_back(connection);
      return !alive;
    });
  }
  for (PGconn* connection : lost) discard(connection);
  return !lost.empty();
}

void Connection_Pool::watch(std::vector<pollfd>& into) const {
  const std::lock_guard lock(mutex_);
  for (PGconn* connection : idle_) into.push_back({PQsocket(connection), POLLIN, 0});
  for (const Leaving& leaving : leaving_) {
    into.push_back({PQsocket(leaving.connection), POLLIN, 0});
    if (leaving.cancel) {
      into.push_back({PQcancelSocket(leaving.cancel), leaving.cancel_events, 0});
    }
  }
}

std::size_t Connection_Pool::open() const {
  const std::lock_guard lock(mutex_);
  return open_;
}

std::size_t Connection_Pool::idle() const {
  const std::lock_guard lock(mutex_);
  return idle_.size();
}

// ---- Database -----------------------------------------------------------------------------------

const Database::Statement Database::pulse_statement = {
    "EXECUTE primgr_pulse", 1,
    [](Database& into, const PGresult* rows) {
      const std::string answer = field(rows, 0, 0);
      if (PQntuples(rows) != 1 || (answer != "t" && answer != "f")) {
        into.pulse_.error = "pg_is_in_recovery() is neither true nor false";
        return;
      }
      const char* superuser = PQparameterStatus(into.pulse_.connection, "is_superuser");
      into.superuser_ = superuser && superuser == std::string_view("on");
      into.in_recovery_ = answer == "t";
      into.reachable_ = true;
      into.problem_.clear();
    },
    [](Database& into, const std::string&, const std::string& message) {
      into.pulse_.error = message;
    },
    nullptr};

// The list of nodes comes last, since it alone can be blocked by others.
const Database::Statement Database::survey_statements[] = {
    {"SELECT CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn()"
     " ELSE pg_catalog.pg_current_wal_lsn() END,"
     " CASE WHEN NOT r THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END,"
     " w.pid, w.status, w.received_tli, w.sender_host, w.latest_end_lsn,"
     " pg_catalog.pg_last_wal_receive_lsn(), CASE WHEN r THEN extract(epoch FROM"
     " pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END,"
     " CASE WHEN r THEN pg_catalog.pg_is_wal_replay_paused() END"
     " FROM pg_catalog.pg_is_in_recovery() AS r"
     " LEFT JOIN pg_catalog.pg_stat_wal_receiver AS w ON true",
     10,
     [](Database& into, const PGresult* rows) {
       auto attached = std::move(into.found_.replication.attached);  // until they are read anew
       into.found_.replication = read_replication(rows);
       into.found_.replication.attached = std::move(attached);
       into.found_.replication.asked_at = into.survey_.asked_at;
     },
     [](Database& into, const std::string&, const std::string& message) {
       into.found_.replication = {};
       into.found_.replication.problem = message;
       into.found_.replication.asked_at = into.survey_.asked_at;
     },
     nullptr},
    {"SELECT application_name, client_addr, state, sync_state, replay_lsn,"
     " extract(epoch FROM replay_lag) FROM pg_catalog.pg_stat_replication"
     " ORDER BY application_name, pid LIMIT 32",
     6,
     [](Database& into, const PGresult* rows) {
       into.found_.replication.attached = read_attached(rows);
       into.found_.attached_due = {};
     },
     [](Database& into, const std::string& sqlstate, const std::string& message) {
       into.found_.replication.attached.clear();
       into.found_.replication.problem = message;
       if (is_blocked(sqlstate)) {
         into.found_.attached_due = into.survey_.asked_at + blocked_interval;
       }
     },
     &Found::attached_due},
    // Bounded, whatever stands there.
    {"SELECT node_id, left(node_name, 256), left(location, 256), left(type, 256), active,"
     " CASE WHEN octet_length(conninfo) <= 8192 THEN conninfo END"
     " FROM repmgr.nodes ORDER BY node_id LIMIT 10000",
     6,
     [](Database& into, const PGresult* rows) {
       into.found_.nodes = read_nodes(rows);
       into.found_.nodes_known = true;
       into.found_.nodes_read_at = into.survey_.asked_at;
       into.found_.nodes_due = {};
       into.found_.blocked.clear();
       into.found_.problem.clear();
     },
     [](Database& into, const std::string& sqlstate, const std::string& message) {
       if (is_blocked(sqlstate)) {
         into.found_.blocked = message;
         into.found_.nodes_due = into.survey_.asked_at + blocked_interval;
         return;
       }
       into.found_.nodes_known = false;
       into.found_.nodes.clear();
       into.found_.blocked.clear();
       into.found_.problem = message;
     },
     &Found::nodes_due}};

// What the server may answer to a statement that nothing is wrong with: PostgreSQL's error classes
// 40 (rolled back, as by a conflict with recovery), 53 (resources), 57 (operator intervention,
// timeouts too), and a lock that was not to be had.
bool Database::is_blocked(const std::string& sqlstate) {
  return sqlstate.starts_with("40") || sqlstate.starts_with("53") || sqlstate.starts_with("57") ||
         sqlstate == "55P03";
}

Database::Database(std::string conninfo, Time timeout, std::size_t max_connections, Resolve resolve)
    : conninfo_(std::move(conninfo)),
      timeout_(timeout),
      max_connections_(max_connections),
      preparation_(make_preparation(timeout, max_connections)),
      resolve_(std::move(resolve)),
      pool_(max_connections) {}

Database::~Database() {
  close();
}

void Database::close() {
  for (Exchange* exchange : {&pulse_, &survey_}) {
    // What is on its way is cancelled by its timeout, as nobody is left to wait for it.
    if (exchange->connection) pool_.discard(std::exchange(exchange->connection, nullptr));
    exchange->phase = Phase::idle;
  }
  pool_.close();
  looking_ = false;
}

void Database::begin(Time now, bool urgent) {
  looking_ = survey_due_ = true;
  urgent_ = urgent;
  no_place_ = false;
  start(pulse_, &pulse_statement, &pulse_statement + 1, now);
  if (!take_idle(pulse_)) return;
  // A server that hung right after its last answer is to be told db_timeout after that, not a whole
  // interval later; but a look has half of db_timeout for itself.
  pulse_.deadline = std::max(answered_at_ + timeout_, now + timeout_ / 2);
  // With a connection for each, both go at once.
  if (survey_.phase != Phase::idle || pool_.idle() == 0) return;
  begin_survey(now);
  take_idle(survey_);
}

void Database::begin_survey(Time now) {
  survey_due_ = false;
  if (survey_.phase != Phase::idle) return;
  start(survey_, std::begin(survey_statements), std::end(survey_statements), now);
}

void Database::start(Exchange& exchange, const Statement* first, const Statement* end, Time now) {
  exchange = {};
  exchange.phase = Phase::waiting;
  exchange.statement = first;
  exchange.end = end;
  exchange.asked_at = now;
  exchange.deadline = now + timeout_;
}

std::optional<Facts> Database::advance(Time now) {
  bool surveyed = false;
  for (bool again = true; again;) {
    again = pulse_.phase != Phase::idle && advance(pulse_, now);
    if (again && reachable_) {
      answered_at_ = now;
      told_until_ = now + survey_grace;
      // The survey opens a connection of its own, if it may, while the pulse still has the other.
      if (survey_due_) {
        begin_survey(now);
        if (survey_.phase == Phase::waiting && !take_idle(survey_)) open(survey_, now);
      }
      pool_.put(std::exchange(pulse_.connection, nullptr));
    }
    if (survey_.phase != Phase::idle && advance(survey_, now)) {
      surveyed = true;
      if (survey_.connection) {
        survey_hung_ = false;
        pool_.put(std::exchange(survey_.connection, nullptr));
      }
      again = again || pulse_.phase == Phase::waiting;
    }
  }
  if (looking_) {
    if (pulse_.phase != Phase::idle) return std::nullopt;
    // What is blocked is not waited for, but replication is.
    const bool survey_may_come =
        reachable_ && survey_.phase != Phase::idle &&
        (found_.blocked.empty() || found_.replication.asked_at < survey_.asked_at);
    if (survey_may_come && now < told_until_) return std::nullopt;
    looking_ = false;
    return facts();
  }
  if (surveyed && reachable_) return facts();
  return std::nullopt;
}

bool Database::changed() {
  const bool lost = pool_.drop_lost();
  pool_.collect();
  return lost || (no_place_ && pool_.open() < max_connections_);
}

Time Database::deadline() const {
  Time earliest = Time::max();
  for (const Exchange* exchange : {&pulse_, &survey_}) {
    if (exchange->phase != Phase::idle) earliest = std::min(earliest, exchange->deadline);
  }
  const bool waits = looking_ && pulse_.phase == Phase::idle;
  return waits ? std::min(earliest, told_until_) : earliest;
}

void Database::watch(std::vector<pollfd>& into) const {
  for (const Exchange* exchange : {&pulse_, &survey_}) {
    if (exchange->connection) into.push_back({PQsocket(exchange->connection), exchange->events, 0});
  }
  pool_.watch(into);
}

Facts Database::facts() const {
  Facts facts;
  facts.asked_at = pulse_.asked_at;
  facts.reachable = reachable_;
  if (!reachable_) {
    facts.problem = problem_;
    return facts;
  }
  facts.in_recovery = in_recovery_;
  facts.superuser = superuser_;
  facts.nodes_known = found_.nodes_known;
  facts.nodes = found_.nodes;
  facts.nodes_read_at = found_.nodes_read_at;
  facts.blocked = found_.blocked;
  if (!facts.nodes_known) {
    facts.problem = found_.problem;
    facts.nodes_pending = found_.problem.empty() && found_.blocked.empty();
    if (!found_.blocked.empty()) {
      facts.problem = "it is blocked, and was not read before: " + found_.blocked;
    }
  }
  facts.replication = found_.replication;
  return facts;
}

// Takes an idle connection, if the exchange may.
bool Database::take_idle(Exchange& exchange) {
  // The pulse always has one for itself, where there may be two: what holds up the survey must not
  // hold up the pulse. Only if the server lets in no second one, and lets none hang, they share.
  const bool shares = max_connections_ == 1 || (!survey_refused_.empty() && !survey_hung_);
  if (&exchange == &survey_ && !pulse_.connection && pool_.idle() < 2 && !shares) return false;
  exchange.connection = pool_.take();
  if (!exchange.connection) return false;
  exchange.reused = true;
  send(exchange);
  return true;
}

// Begins to open a connection, unless that was refused before, or there is no place for it.
bool Database::open(Exchange& exchange, Time now) {
  if (!exchange.refused.empty()) return false;
  // Each attempt is a line in PostgreSQL's log.
  if (&exchange == &survey_ && !survey_refused_.empty() && now < survey_open_due_) return false;
  pool_.collect();
  // The survey leaves a place to the pulse.
  const bool pulse_needs_one = &exchange == &survey_ && looking_ && !pulse_.connection;
  if (!pool_.reserve(pulse_needs_one ? 1 : 0)) return false;
  connect(exchange, exchange.deadline - now);
  return exchange.connection != nullptr;
}

// REQUIRES: it waits for a connection. True when it has one, or is over.
bool Database::find_connection(Exchange& exchange, Time now) {
  if (take_idle(exchange) || open(exchange, now)) return true;
  // The one that the other exchange has may come back in time.
  const Exchange& other = &exchange == &pulse_ ? survey_ : pulse_;
  if (other.phase == Phase::asking || other.phase == Phase::preparing) return false;
  if (other.phase == Phase::connecting && exchange.refused.empty()) return false;
  if (!exchange.refused.empty()) return fail(exchange, exchange.refused);
  if (&exchange == &survey_ && !survey_refused_.empty()) return fail(exchange, survey_refused_);
  if (&exchange == &pulse_) no_place_ = true;
  const std::string before = &exchange == &pulse_ ? problem_ : found_.blocked;
  return fail(exchange,
              before.empty() ? "the server has not closed the connections before" : before);
}

// Starts to connect. libpq would look a host name up with a getaddrinfo() that blocks for as long
// as name service pleases, so the name is looked up here and libpq is given the addresses.
// REQUIRES: a place was reserved.
void Database::connect(Exchange& exchange, Time budget) try {
  std::string host, hostaddr;
  const Conninfo options(PQconninfoParse(conninfo_.c_str(), nullptr));
  const std::string name = option(options, "host");
  if (resolve_ && names_a_host(name) && name.find(',') == std::string::npos &&
      option(options, "hostaddr").empty()) {
    for (const std::string& address : resolve_(name, budget)) {
      host += (host.empty() ? "" : ",") + name;
      hostaddr += (hostaddr.empty() ? "" : ",") + address;
    }
    if (hostaddr.empty()) {  // libpq would look it up itself, and wait
      exchange.refused = "no address found for " + name;
      pool_.discard(nullptr);
      return;
    }
  }
  std::vector<const char*> keys = {"dbname", "fallback_application_name", "client_encoding"};
  std::vector<const char*> values = {conninfo_.c_str(), "primgr", "UTF8"};
  if (!hostaddr.empty()) {
    keys.insert(keys.end(), {"host", "hostaddr"});
    values.insert(values.end(), {host.c_str(), hostaddr.c_str()});
  }
  keys.push_back(nullptr);
  values.push_back(nullptr);
  exchange.connection = PQconnectStartParams(keys.data(), values.data(), 1);
  if (!exchange.connection) {
    exchange.refused = "out of memory";
    pool_.discard(nullptr);
    return;
  }
  PQsetNoticeProcessor(
      exchange.connection, [](void*, const char*) {}, nullptr);
  exchange.phase = Phase::connecting;
  exchange.reused = false;
  exchange.events = POLLOUT;  // libpq: as if PQconnectPoll() had returned PGRES_POLLING_WRITING
} catch (const std::bad_alloc&) {
  pool_.discard(nullptr);
  exchange.refused = "out of memory";
}

// A failure to send shows in the connection's status, which advance() reads.
void Database::prepare(Exchange& exchange) {
  survey_refused_.clear();  // the server lets somebody in again
  exchange.phase = Phase::preparing;
  exchange.events = POLLIN | POLLOUT;
  if (PQsetnonblocking(exchange.connection, 1) == 0) {
    PQsendQuery(exchange.connection, preparation_.c_str());
  }
}

void Database::send(Exchange& exchange) {
  exchange.phase = Phase::asking;
  exchange.events = POLLIN | POLLOUT;
  PQsendQuery(exchange.connection, exchange.statement->sql);
}

// The connection failed. One that was there once is worth another attempt, since the server may be
// there all the same; and if that fails, one more, since it may have been ended like the first.
void Database::broken(Exchange& exchange) {
  const bool was_open = exchange.phase != Phase::connecting;
  const bool again = was_open ? exchange.lost++ < most_lost
                              : exchange.lost > 0 && !std::exchange(exchange.refused_once, true);
  if (was_open) exchange.refused_once = false;
  if (!again) {
    const std::string problem = one_line(PQerrorMessage(exchange.connection));
    // libpq has no words for a socket() that fails.
    exchange.refused = problem.empty() ? "no connection, and libpq does not say why" : problem;
    if (&exchange == &survey_) {
      survey_refused_ = exchange.refused;
      survey_open_due_ = exchange.asked_at + refused_interval;
    }
  }
  pool_.discard(std::exchange(exchange.connection, nullptr));
  exchange.phase = Phase::waiting;
  exchange.error.clear();
}

bool Database::fail(Exchange& exchange, const std::string& problem) {
  if (&exchange == &survey_ && exchange.connection) survey_hung_ = true;
  if (exchange.connection) pool_.discard(std::exchange(exchange.connection, nullptr));
  exchange.phase = Phase::idle;
  if (&exchange == &pulse_) {
    reachable_ = false;
    problem_ = problem;
    found_.nodes_due = found_.attached_due = {};
  } else {
    found_.blocked = problem;
    if (found_.replication.asked_at < exchange.asked_at) {
      found_.replication = {};
      found_.replication.asked_at = exchange.asked_at;
      found_.replication.problem = problem;
    }
  }
  return true;
}

std::string Database::too_late(Phase phase) const {
  const bool connected = phase == Phase::asking || phase == Phase::preparing;
  return std::string(connected ? "no answer" : "no connection") + " within db_timeout (" +
         print_ms(timeout_) + " ms)";
}

bool Database::advance(Exchange& exchange, Time now) {
  // Bounded, so that a server that sends without an end cannot hold the caller.
  for (int i = 0; i < 100; ++i) {
    const bool late = now >= exchange.deadline;
    if (exchange.phase == Phase::waiting) {
      if (late) return fail(exchange, too_late(exchange.phase));
      if (!find_connection(exchange, now)) return false;
      if (exchange.phase == Phase::idle) return true;
    }
    if (PQstatus(exchange.connection) == CONNECTION_BAD) {
      broken(exchange);
      continue;
    }
    // What has come is read also if it is this process that is late.
    pollfd ready{PQsocket(exchange.connection), exchange.events, 0};
    const bool is_ready = ::poll(&ready, 1, 0) > 0;
    if (late && (!is_ready || now >= exchange.deadline + timeout_)) {
      return fail(exchange, too_late(exchange.phase));
    }
    if (!is_ready) return false;

    if (exchange.phase == Phase::connecting) {
      switch (PQconnectPoll(exchange.connection)) {
        case PGRES_POLLING_OK:
          prepare(exchange);
          break;
        case PGRES_POLLING_READING:
          exchange.events = POLLIN;
          break;
        case PGRES_POLLING_WRITING:
          exchange.events = POLLOUT;
          break;
        default:
          break;  // its status is CONNECTION_BAD now
      }
      continue;
    }
    exchange.events =
        static_cast<short>(PQflush(exchange.connection) > 0 ? POLLIN | POLLOUT : POLLIN);
    if ((ready.revents & ~POLLOUT) && PQconsumeInput(exchange.connection) == 0) continue;
    if (read_answers(exchange)) return true;
  }
  return false;
}

// Reads what has come. True when the exchange is over.
bool Database::read_answers(Exchange& exchange) {
  while (!PQisBusy(exchange.connection)) {
    const Result result(PQgetResult(exchange.connection));
    if (result) {
      const ExecStatusType status = PQresultStatus(result.get());
      // The likes of COPY would go on for ever, and nothing here asks for them.
      if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_FATAL_ERROR) {
        return fail(exchange, std::string("the server answered with ") + PQresStatus(status));
      }
      take_answer(exchange, result.get());
      continue;
    }
    // The answer to one message is complete.
    if (PQstatus(exchange.connection) == CONNECTION_BAD) return false;
    if (exchange.phase == Phase::asking && !std::exchange(exchange.answered, false)) {
      exchange.statement->failed(*this, "", "the server answers nothing");
    }
    if (!exchange.error.empty()) {
      const std::string error = std::exchange(exchange.error, {});
      const bool repeat = exchange.repeat && exchange.phase == Phase::asking;
      if (!repeat || exchange.lost++ >= most_lost) return fail(exchange, error);
    } else if (exchange.phase == Phase::asking) {
      // What was blocked a moment ago is left out, unless it is urgent.
      do ++exchange.statement;
      while (exchange.statement != exchange.end && exchange.statement->due && !urgent_ &&
             exchange.asked_at < found_.*exchange.statement->due);
      if (exchange.statement == exchange.end) {
        exchange.phase = Phase::idle;
        return true;
      }
    }
    send(exchange);
    return false;
  }
  return false;
}

void Database::take_answer(Exchange& exchange, const PGresult* result) {
  const bool preparing = exchange.phase == Phase::preparing;
  const ExecStatusType status = PQresultStatus(result);
  if (preparing && status == PGRES_COMMAND_OK) return;
  exchange.answered = true;
  if (!preparing && status == PGRES_TUPLES_OK && PQnfields(result) == exchange.statement->columns) {
    exchange.statement->read(*this, result);
    return;
  }
  const char* sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char* message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  std::string problem = one_line(message ? message : PQresultErrorMessage(result));
  if (status != PGRES_FATAL_ERROR) {
    problem = "the server answered with " + std::to_string(PQnfields(result)) +
              " columns instead of " + std::to_string(exchange.statement->columns);
  } else if (problem.empty()) {
    problem = "the server reports an error without words";
  }
  exchange.repeat = sqlstate && is_blocked(sqlstate);
  if (preparing) {
    exchange.error = problem;
  } else {
    exchange.statement->failed(*this, sqlstate ? sqlstate : "", problem);
  }
}

// ---- Repmgr_Node --------------------------------------------------------------------------------

Repmgr_Node::Repmgr_Node(Node_Settings settings, Http_Get http_get, Resolve resolve, Clock clock,
                         Logger log, Grant_Store grants, Http_Drop http_drop,
                         std::vector<Clock> other_clocks)
    : settings_(std::move(settings)),
      http_get_(std::move(http_get)),
      http_drop_(std::move(http_drop)),
      clock_(std::move(clock)),
      other_clocks_(std::move(other_clocks)),
      log_(std::move(log)),
      grants_(std::move(grants)),
      database_(settings_.conninfo, settings_.db_timeout, settings_.max_connections_in_pool,
                std::move(resolve)),
      wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  turned_at_ = clock_();
  read_clocks(turned_at_);
  if (wake_fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  if (auto known = grants_.load ? grants_.load() : std::nullopt) {
    grant_ = saved_ = *known;
  } else {
    grant_ = {"", clock_() + settings_.vote_lease};
    if (grants_.save)
      saved_ = grants_.save(grant_, std::chrono::steady_clock::now() + vote_patience);
  }
}

Repmgr_Node::~Repmgr_Node() {
  std::unique_lock lock(mutex_);
  none_under_way_.wait(lock, [this] { return under_way_ == 0; });
  lock.unlock();
  close(wake_fd_);
}

void Repmgr_Node::wake() const {
  const std::uint64_t one = 1;
  // Fails only if a wake-up is pending already, which is just as good.
  [[maybe_unused]] const auto written = write(wake_fd_, &one, sizeof one);
}

void Repmgr_Node::stop() {
  stopping_ = true;
  wake();
}

void Repmgr_Node::look_now() {
  look_wanted_ = true;
  wake();
}

void Repmgr_Node::run(const std::function<bool()>& done) {
  Time began = clock_() - settings_.refresh_interval;
  std::vector<pollfd> watched;
  for (;;) {
    Time now = clock_();
    Time look_due = Time::max();
    if (!database_.looking()) {
      if (database_.changed()) look_wanted_ = true;
      {
        const std::lock_guard lock(mutex_);
        look_due = began + pause();
      }
      if (look_wanted_) look_due = std::min(look_due, began + look_gap);
      if (now >= look_due) {
        began = now;
        database_.begin(now, look_wanted_.exchange(false));
      }
    }
    if (auto facts = database_.advance(now)) {
      learn(std::move(*facts));
      look_due = now;  // decided anew in refresh(): the next turn knows when the next look is due
    }
    const Time due = std::min({refresh(), database_.deadline(), look_due});
    if (stopping_ || (done && done())) break;

    now = clock_();
    const Time nap = std::clamp(due - now, Time::zero(), Time(1h));
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(nap);
    const timespec timeout{seconds.count(), (nap - seconds).count()};
    watched.assign(1, {wake_fd_, POLLIN, 0});
    database_.watch(watched);
    if (ppoll(watched.data(), watched.size(), &timeout, nullptr) <= 0) continue;
    if (watched[0].revents) {
      std::uint64_t count = 0;
      [[maybe_unused]] const auto taken = read(wake_fd_, &count, sizeof count);
    }
  }
  database_.close();
}

const Node* Repmgr_Node::candidate() const {
  if (!facts_.reachable || facts_.in_recovery || !facts_.nodes_known) return nullptr;
  const Node* self = find_node(facts_.nodes, settings_.node_name);
  return self && self->type != "witness" ? self : nullptr;
}

Time Repmgr_Node::lifetime() const {
  return vote_lifetime(settings_.vote_lease);
}

// The time since votes were last aged that clock_ did not count. A hypervisor that pauses the
// machine may stop CLOCK_BOOTTIME with it, while a voter's promise runs out elsewhere. Half of the
// time that clock_ counted is allowed for: a cycle counter may tick at another rate after a move to
// another host.
Time Repmgr_Node::unseen(Time now) const {
  const Time counted = now - clock_read_;
  Time most{};
  for (std::size_t i = 0; i < other_clocks_.size(); ++i) {
    most = std::max(most, other_clocks_[i]() - other_clocks_read_[i] - counted);
  }
  return most >= std::max(least_unseen, counted / 2) ? most : Time::zero();
}

void Repmgr_Node::read_clocks(Time now) {
  clock_read_ = now;
  other_clocks_read_.clear();
  for (const Clock& clock : other_clocks_) other_clocks_read_.push_back(clock());
}

// Lets votes age by what clock_ did not count, and returns that. Promises to others do not: for a
// voter, to keep one for too long is safe.
Time Repmgr_Node::age_votes(Time now) {
  const Time missed = unseen(now);
  read_clocks(now);
  if (missed == Time::zero()) return missed;
  unseen_ += missed;
  for (auto& [name, vote] : votes_) vote.sent_at -= missed;
  for (auto& [name, peer] : peers_) {
    if (!peer.vote.under_way) peer.vote.asked_at.reset();  // asked again at once
  }
  return missed;
}

// The time from one look, and one question for a vote, to the next: short while the node is
// undecided or its votes run out. A witness has nothing to decide.
Time Repmgr_Node::pause() const {
  const bool short_of_votes =
      cache_.decision.until != Time::max() && cache_.decision.until < clock_() + lifetime() / 2;
  const bool witness = facts_.reachable && facts_.nodes_known && !facts_.in_recovery &&
                       !candidate() && find_node(facts_.nodes, settings_.node_name);
  const bool undecided = cache_.decision.state == State::unknown && !witness;
  return undecided || short_of_votes ? std::min(undecided_interval, settings_.refresh_interval)
                                     : settings_.refresh_interval;
}

State Repmgr_Node::state_at(Time now) const {
  if (now - cache_.looked_at > settings_.cache_ttl) return State::down;
  if (now >= cache_.decision.until) return State::unknown;
  if (cache_.decision.state == State::primary && now + unseen(now) >= cache_.decision.until) {
    wake();  // to ask for votes
    return State::unknown;
  }
  return cache_.decision.state;
}

Decision Repmgr_Node::decision_at(Time now) const {
  const State state = state_at(now);
  if (!looked_ || state == cache_.decision.state) return cache_.decision;
  return {state, Time::max(),
          state == State::down ? "nothing was learnt for longer than cache_ttl"
                               : "no majority votes for it: the votes expired"};
}

void Repmgr_Node::learn(Facts facts) {
  std::vector<std::pair<Log_Level, std::string>> lines;
  {
    const std::lock_guard lock(mutex_);
    // The survey of a look may come later than its pulse.
    if (!looked_ || facts.asked_at != facts_.asked_at) {
      ++looks_;
      looked_for_ += clock_() - facts.asked_at;
      if (!facts.reachable) ++failed_looks_;
    }
    looked_ = true;
    facts_ = std::move(facts);
    if (const Replication& r = facts_.replication; r.sender_at && r.position) {
      replay_.saw(r.asked_at, r.end(), *r.position);
    } else {
      replay_.forget();
    }
    if (facts_.nodes_known) take_nodes();
    lines = tell_database();
  }
  for (const auto& [level, line] : lines) log_(level, line);
}

void Repmgr_Node::take_nodes() {
  nodes_ = facts_.nodes;
  const auto listed = [&](const auto& entry) {
    return std::any_of(nodes_.begin(), nodes_.end(),
                       [&](const Node& node) { return node.name == entry.first; });
  };
  std::erase_if(peers_, [&](const auto& peer) { return !listed(peer); });
  std::erase_if(votes_, [&](const auto& vote) { return !listed(vote); });
}

std::optional<Time> Repmgr_Node::nodes_age(Time now) const {
  if (!facts_.nodes_known) return std::nullopt;
  return std::max(now - facts_.nodes_read_at, Time::zero());
}

// Whether the list that stands is old enough to be told. A busy server may take its time once; and
// one that is always slow is told once, not at each of its answers.
bool Repmgr_Node::nodes_blocked() const {
  if (!facts_.nodes_known) return false;
  const Time age = facts_.asked_at - facts_.nodes_read_at;
  const Time soon = 2 * settings_.refresh_interval + 1s;
  if (!facts_.blocked.empty() || blocked_since_) return age > soon;
  return age > soon + 10s;  // no answer yet
}

std::string Repmgr_Node::nodes_problem() const {
  if (!nodes_blocked()) return {};
  return facts_.blocked.empty() ? "no answer yet" : facts_.blocked;
}

// What is to be logged of the database beside the state, each once.
std::vector<std::pair<Log_Level, std::string>> Repmgr_Node::tell_database() {
  std::vector<std::pair<Log_Level, std::string>> lines;
  if (facts_.superuser && !std::exchange(superuser_told_, true)) {
    lines.emplace_back(Log_Level::warning,
                       "conninfo logs in as a superuser: primgr needs no such rights "
                       "(deploy/primgr.sql makes a role for it)");
  }
  const bool blocked = nodes_blocked();
  if (blocked && !blocked_since_) {
    lines.emplace_back(Log_Level::warning,
                       "repmgr.nodes is blocked (" + nodes_problem() + "): the list of " +
                           tell_time(facts_.asked_at - facts_.nodes_read_at) + " ago stands");
    blocked_since_ = facts_.nodes_read_at;
  } else if (!blocked && blocked_since_ && facts_.reachable) {
    if (facts_.nodes_known) {
      lines.emplace_back(Log_Level::info, "repmgr.nodes is read again, after " +
                                              tell_time(facts_.nodes_read_at - *blocked_since_));
    }
    blocked_since_.reset();
  }
  return lines;
}

Time Repmgr_Node::refresh() {
  turned_at_ = clock_();
  std::vector<Node> others, voters;
  std::optional<Node> self;
  Time missed;
  {
    const std::lock_guard lock(mutex_);
    missed = age_votes(turned_at_);
    for (const Node& node : nodes_) {
      if (!names_equal(node.name, settings_.node_name)) others.push_back(node);
    }
    if (const Node* node = candidate()) {
      self = *node;
      voters = electorate(nodes_, *node, settings_.consensus_cluster);
    }
  }
  if (missed > Time::zero()) {
    log_(Log_Level::warning,
         "this machine was stopped for " + tell_time(missed) +
             ", or its clock was set forward by that: votes are that much older");
  }
  if (!self) {
    const std::lock_guard lock(mutex_);
    for (auto& [name, peer] : peers_) peer.vote.answered = false;
  } else {
    const std::size_t all = voters.size();
    vote_for_itself(*self, all == 1);
    std::erase_if(voters, [&](const Node& node) { return node.id == self->id; });
    poll_other_nodes(voters, self->name, all);
  }
  for (const Node& peer : others) {
    ask(peer, &Peer::state, "/state", settings_.refresh_interval,
        [](Peer& to, const Http_Reply& reply) { to.reported = http_node_reports_state(reply); });
  }
  write_cache();

  const std::lock_guard lock(mutex_);
  const Time now = clock_();
  // Once an interval at least, so that a stalled look is noticed and told.
  Time due = std::min(now + settings_.refresh_interval, cache_.decision.until);
  const auto when = [&](const Question& question, Time interval) {
    return question.under_way ? Time::max() : question.asked_at.value_or(now) + interval;
  };
  for (const Node& node : others)
    due = std::min(due, when(peers_[node.name].state, settings_.refresh_interval));
  for (const Node& node : voters) {
    const Question& question = peers_[node.name].vote;
    due = std::min(due, when(question, pause()));
    if (question.under_way && *question.asked_at + grace() > now) {
      due = std::min(due, *question.asked_at + grace());
    }
  }
  return due;
}

// How long a voter may take that the decision does not need.
Time Repmgr_Node::grace() const {
  return settings_.peer_timeout / 4;
}

// Votes, and keeps the promise that this is before anybody hears of it. `alone`: there is no other
// voter, so nothing can have been promised that this node does not know.
Ballot Repmgr_Node::vote(std::string_view named, std::string_view candidate, bool alone) {
  const auto until = std::chrono::steady_clock::now() + vote_patience;
  {
    std::unique_lock lock(vote_mutex_);
    if (!voted_.wait_until(lock, until, [this] { return !voting_; })) return {"", false, false};
    voting_ = true;
  }
  struct Turn {
    Repmgr_Node& of;
    ~Turn() {
      const std::lock_guard lock(of.vote_mutex_);
      of.voting_ = false;
      of.voted_.notify_one();
    }
  } const turn{*this};
  return vote_now(named, candidate, alone, until);
}

Ballot Repmgr_Node::vote_now(std::string_view named, std::string_view candidate, bool alone,
                             std::chrono::steady_clock::time_point until) {
  const Time now = clock_();
  const bool silent = grant_.to.empty();
  const Ballot ballot = cast_vote(silent && alone ? Grant{} : grant_, named, candidate, now);
  if (!ballot.granted) return ballot;
  const Grant promise{ballot.names, now + settings_.vote_lease};
  const auto is_kept = [&] { return promise.to == saved_.to && promise.until <= saved_.until; };
  if (grants_.save && !is_kept()) {
    // A save that fails or is late leaves saved_ as what is certain: nothing is promised on what
    // was there before, and a grant that is written after all binds this voter to nobody's harm.
    saved_ = grants_.save({promise.to, promise.until + settings_.vote_lease / 4}, until);
    if (!is_kept()) return {"", false, false};
  }
  grant_ = promise;
  return ballot;
}

// Every node is its own voter too, by the same rule.
void Repmgr_Node::vote_for_itself(const Node& self, bool alone) {
  std::string named;
  {
    const std::lock_guard lock(mutex_);
    const Node* primary = named_primary(facts_.nodes);
    if (primary) named = primary->name;
  }
  const Time now = clock_();
  Ballot ballot{named, false};
  if (settings_.candidate) ballot = vote(named, self.name, alone);
  const std::lock_guard lock(mutex_);
  Vote& own = votes_[self.name];
  if (!ballot.kept) {
    // The one before is kept, and lasts out its time.
    own.why = "its promise cannot be kept in state_file";
    return;
  }
  own = {now, ballot.names, named.empty() ? "names none" : "keeps an earlier promise"};
}

bool Repmgr_Node::poll_other_nodes(const std::vector<Node>& nodes_to_poll,
                                   const std::string& candidate_node,
                                   std::size_t num_in_consensus) {
  std::string target = "/primary?";
  if (settings_.candidate) {
    const auto lease = std::chrono::ceil<std::chrono::milliseconds>(settings_.vote_lease).count();
    target += "candidate=" + url_encoded(candidate_node) + "&lease=" + std::to_string(lease) + "&";
  }
  // Named, so that a primgr that a wrong conninfo leads to is not counted for another.
  const auto addressed = [&](const Node& voter) {
    return target + "voter=" + url_encoded(voter.name);
  };
  Time interval;
  {
    const std::lock_guard lock(mutex_);
    interval = pause();
  }
  for (const Node& voter : nodes_to_poll) {
    ask(voter, &Peer::vote, addressed(voter), interval,
        [this, name = voter.name](Peer& peer, const Http_Reply& reply) {
          std::string why;
          const auto named = http_node_reports_primary(reply, why);
          // Only a name is an answer: the vote that was given before lasts out its time, as the
          // voter keeps its promise also while it or its database is down.
          Vote& vote = votes_[name];
          if (named) {
            vote = {reply.sent_at - (unseen_ - peer.vote.unseen_before), *named, ""};
          }
          vote.why = why;
        });
  }
  std::vector<Node> not_needed;
  bool elected = false;
  {
    const std::lock_guard lock(mutex_);
    const Node* self = find_node(facts_.nodes, candidate_node);
    if (!self) return false;
    const Time now = clock_();
    const auto votes_of = [&](const std::vector<Node>& voters) {
      return count_votes(voters, *self, votes_, lifetime(), now).size();
    };
    const std::size_t needed = votes_needed(num_in_consensus);
    // Once the outcome is certain either way, those who are still silent have a moment left: a
    // live voter's renewal is not lost, and a dead one holds no thread for all of peer_timeout.
    std::vector<Node> answered = {*self}, silent;
    for (const Node& voter : nodes_to_poll) {
      (peers_[voter.name].vote.under_way ? silent : answered).push_back(voter);
    }
    const std::size_t fresh = votes_of(answered);
    if (check_consensus(fresh, needed) || !check_consensus(fresh + silent.size(), needed)) {
      for (const Node& voter : silent) {
        if (*peers_[voter.name].vote.asked_at + grace() <= now) not_needed.push_back(voter);
      }
    }
    answered.insert(answered.end(), silent.begin(), silent.end());
    elected = check_consensus(votes_of(answered), needed);
  }
  if (http_drop_) {
    for (const Node& voter : not_needed) http_drop_(voter, addressed(voter));
  }
  return elected;
}

// Asks a peer, unless such a question is under way or was sent less than `interval` ago. `take`
// stores what the reply says; it is called with the mutex held.
void Repmgr_Node::ask(const Node& peer, Question Peer::*kind, const std::string& target,
                      Time interval, std::function<void(Peer&, const Http_Reply&)> take) {
  std::function<void(Http_Reply)> done;
  {
    const std::lock_guard lock(mutex_);
    const Time now = clock_();
    Question& question = peers_[peer.name].*kind;
    if (question.under_way || (question.asked_at && now < *question.asked_at + interval)) return;
    // Made before the question counts as under way, since there may be no memory for it.
    done = [this, kind, name = peer.name, take = std::move(take)](const Http_Reply& reply) {
      const std::lock_guard lock_for_reply(mutex_);
      const auto found = peers_.find(name);
      if (found != peers_.end()) {  // else it was unregistered meanwhile
        Question& answered = found->second.*kind;
        answered.under_way = false;
        answered.answered = true;
        ++(reply.status ? answered.replied : answered.failed);
        answered.taken += clock_() - *answered.asked_at;
        try {
          take(found->second, reply);
        } catch (const std::bad_alloc&) {
          // There is no memory for what it says; the next reply may be taken in.
        }
      }
      wake();
      if (--under_way_ == 0) none_under_way_.notify_all();
    };
    question.under_way = true;
    question.asked_at = now;
    question.unseen_before = unseen_;
    ++under_way_;
  }
  http_get_(peer, target, settings_.peer_timeout, std::move(done));
}

// Decides anew, and logs the decision if it or its reason changed.
void Repmgr_Node::write_cache() {
  Decision told;
  std::string line;
  {
    const std::lock_guard lock(mutex_);
    if (!looked_) return;
    const Time now = clock_();
    cache_.looked_at = facts_.asked_at;
    cache_.decision =
        decide(facts_, settings_.node_name, settings_.consensus_cluster, votes_, lifetime(), now);
    told = decision_at(now);
    if (!told_since_ || told.state != told_) {
      told_ = told.state;
      told_since_ = now;
    }
    // While the first answers are on their way, there is nothing to tell yet.
    if (told.state == State::unknown && (facts_.nodes_pending || !all_answered(&Peer::vote))) {
      return;
    }
    const std::string words = std::string(to_string(told.state)) + ": " + told.reason;
    if (words == logged_) return;
    logged_ = words;
    line = "state " + words;
    if (const auto voters = told_voters(now); !voters.empty()) {
      line += " (" + tell_votes(voters) + ")";
    }
    if (!logged_since_ || told.state != logged_state_) {
      if (logged_since_) {
        line += std::string("; was ") + to_string(logged_state_) + " for " +
                tell_time(now - *logged_since_);
      }
      logged_state_ = told.state;
      logged_since_ = now;
    }
  }
  const bool well = told.state == State::primary || told.state == State::standby;
  log_(well ? Log_Level::info : Log_Level::warning, line);
}

std::vector<Voter> Repmgr_Node::told_voters(Time now) const {
  const Node* self = candidate();
  if (!self) return {};
  return tell_voters(electorate(facts_.nodes, *self, settings_.consensus_cluster), *self, votes_,
                     lifetime(), now);
}

// Whether each peer that this node would ask has answered or failed at least once.
bool Repmgr_Node::all_answered(Question Peer::*kind) const {
  const Node* self = candidate();
  if (kind == &Peer::vote && !self) return true;
  for (const Node& node : nodes_) {
    if (names_equal(node.name, settings_.node_name)) continue;
    if (kind == &Peer::vote && !settings_.consensus_cluster && node.site != self->site) continue;
    const auto peer = peers_.find(node.name);
    if (peer == peers_.end() || !(peer->second.*kind).answered) return false;
  }
  return true;
}

// ---- what the handlers read ---------------------------------------------------------------------

State Repmgr_Node::get_state() const {
  const std::lock_guard lock(mutex_);
  return state_at(clock_());
}

Decision Repmgr_Node::get_decision() const {
  const std::lock_guard lock(mutex_);
  return decision_at(clock_());
}

std::string Repmgr_Node::get_votes() const {
  const std::lock_guard lock(mutex_);
  const auto voters = told_voters(clock_());
  return voters.empty() ? std::string() : tell_votes(voters);
}

std::optional<Lag> Repmgr_Node::get_lag() const {
  const std::lock_guard lock(mutex_);
  if (state_at(clock_()) != State::standby) return std::nullopt;
  return measure_lag(facts_, replay_);
}

Report Repmgr_Node::get_report() const {
  const std::lock_guard lock(mutex_);
  const Time now = clock_();
  Report report;
  report.name = settings_.node_name;
  if (const Node* self = find_node(nodes_, settings_.node_name)) report.self = *self;
  report.decision = decision_at(now);
  report.state_for = report.decision.state == told_ && told_since_ ? now - *told_since_ : Time();
  const bool answers = report.decision.state != State::down;
  const Node* primary = named_primary(facts_.nodes);
  if (answers && primary) report.primary = primary->name;
  report.voters = told_voters(now);
  if (report.decision.state == State::primary) report.lease = cache_.decision.until - now;
  report.in_recovery = answers && facts_.in_recovery;
  if (answers) report.replication = facts_.replication;
  if (report.in_recovery) report.lag = measure_lag(facts_, replay_);
  report.cache_age = now - cache_.looked_at;
  report.nodes_age = nodes_age(now);
  report.nodes_problem = nodes_problem();
  report.connections = database_.connections();
  report.claimants = claimants(now).size();
  report.looks = looks_;
  report.failed_looks = failed_looks_;
  report.looked_for = looked_for_;
  for (const auto& [name, peer] : peers_) {
    const auto count = [&, &peer_name = name](const char* kind, const Question& question) {
      if (question.asked_at) {
        report.questions.push_back(
            {peer_name, kind, question.replied, question.failed, question.taken});
      }
    };
    count("vote", peer.vote);
    count("state", peer.state);
  }
  return report;
}

std::optional<std::string> Repmgr_Node::get_primary() const {
  const std::lock_guard lock(mutex_);
  if (state_at(clock_()) == State::down) return std::nullopt;
  const Node* named = named_primary(facts_.nodes);
  return named ? std::optional(named->name) : std::nullopt;
}

std::optional<std::string> Repmgr_Node::get_primary(std::string_view candidate, Time lease) {
  const std::optional<std::string> named = get_primary();
  if (!named || !names_equal(*named, candidate)) look_now();
  if (!named && get_state() == State::down) return std::nullopt;
  // A candidate that would count the vote for longer than it is granted gets none.
  if (lease > settings_.vote_lease) return std::nullopt;
  const Ballot ballot = vote(named.value_or(""), candidate, false);
  return ballot.names.empty() ? std::nullopt : std::optional(ballot.names);
}

bool Repmgr_Node::get_is_in_recovery_mode() const {
  const std::lock_guard lock(mutex_);
  return facts_.reachable && facts_.in_recovery;
}

std::optional<std::string> Repmgr_Node::get_node_site() const {
  const std::lock_guard lock(mutex_);
  const Node* self = find_node(nodes_, settings_.node_name);
  return self ? std::optional(self->site) : std::nullopt;
}

std::vector<Node> Repmgr_Node::get_all_other_nodes_in_site() const {
  const std::lock_guard lock(mutex_);
  const Node* self = find_node(nodes_, settings_.node_name);
  if (!self) return {};
  std::vector<Node> others = electorate(nodes_, *self, false);
  std::erase_if(others, [&](const Node& node) { return node.id == self->id; });
  return others;
}

std::vector<Node> Repmgr_Node::get_all_nodes() const {
  const std::lock_guard lock(mutex_);
  return nodes_;
}

std::vector<std::string> Repmgr_Node::claimants(Time now) const {
  std::vector<std::string> found;
  for (const Node& node : nodes_) {
    const auto peer = peers_.find(node.name);
    const State state = names_equal(node.name, settings_.node_name) ? state_at(now)
                        : peer != peers_.end()                      ? peer->second.reported
                                                                    : State::unknown;
    if (state == State::primary) found.push_back(node.name);
  }
  return found;
}

Real_Primary Repmgr_Node::get_real_primary() const {
  const std::lock_guard lock(mutex_);
  return {!nodes_.empty(), claimants(clock_())};
}

bool Repmgr_Node::settled(bool cluster) const {
  const std::lock_guard lock(mutex_);
  if (!looked_ || facts_.nodes_pending) return false;
  if (cluster && !all_answered(&Peer::state)) return false;
  return state_at(clock_()) == State::primary || all_answered(&Peer::vote);
}

}  // namespace primgr
