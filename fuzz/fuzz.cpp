// Coverage-guided fuzzing (libFuzzer) of the code that reads bytes from outside. `make fuzz
// SECONDS=600` runs each target with its folder of fuzz/corpus; FUZZ_TARGET names the target. A
// finding is a crash, a sanitizer's report, or a call of require() that fails.

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>
#include <tuple>

#include "base/descriptor.hpp"
#include "base/error.hpp"
#include "daemon/api/node_document.hpp"
#include "daemon/cli/status.hpp"
#include "daemon/config/config.hpp"
#include "daemon/http/request.hpp"
#include "daemon/run/service.hpp"
#include "daemon/state/grant_file.hpp"
#include "node/database/database.hpp"
#include "node/peers/lists_text.hpp"
#include "tests/fake_postgres.hpp"

namespace {

using namespace primgr;
using namespace std::chrono_literals;

void require(bool held, const char* what) {
  if (held) return;
  std::fprintf(stderr, "fuzz: broken: %s (errno %d)\n", what, errno);
  std::abort();
}

// A configuration that can be parsed is printed and parsed again with the same result.
void config(const std::string& text) {
  Config read;
  try {
    read = parse_config(text, "f");
  } catch (const Input_Error& error) {
    require(std::string(error.what()).starts_with("f:"), "an error names file and line");
    return;
  }
  const std::string printed = print_config(read);
  try {
    require(print_config(parse_config(printed, "printed")) == printed, "printed is read the same");
  } catch (const Input_Error&) {
    require(false, "what is printed can be read");
  }
}

// A peer's reply: the first byte selects the status, the others are the body.
void reply(const std::string& bytes) {
  static constexpr int statuses[] = {0, 200, 202, 503, 509, 302};
  if (bytes.empty()) return;
  const int status = statuses[static_cast<unsigned char>(bytes[0]) % std::size(statuses)];
  const Http_Reply answer{status, bytes.substr(1), "", {}};
  std::string why;
  Promise_Terms terms;
  const auto named = http_node_reports_primary(answer, why, &terms);
  require(!named || (status == 200 && !named->empty()), "only 200 names a primary");
  require(named.has_value() == why.empty() || status == 0, "no name has a reason");
  require(terms.before.size() <= 63 && terms.since >= 0s && terms.since <= 1h,
          "what is told of a handover is limited");
  require(http_node_reports_state(answer) != State::primary || status == 200,
          "only 200 is Primary");
  const Sync_Report report = read_standby_reply(answer);
  require(report.sync.empty() ? !report.why.empty() : status == 200 && report.why.empty(),
          "only 200 tells which standby is synchronous, and all else has a reason");
  require(report.age >= 0s && report.age <= 1h && report.why.size() <= 256,
          "what it tells is limited");
}

// Requires that the text contains no control character, but '\n' if `line_end`, and no character
// that changes the writing direction. Compares bytes, so as to be independent of printable().
void require_harmless(const std::string& shown, bool line_end) {
  for (const char c : shown) {
    const auto byte = static_cast<unsigned char>(c);
    require((byte >= 0x20 && byte != 0x7f) || (line_end && c == '\n'), "no control character");
  }
  for (const auto& [head, low, high] : {std::tuple("\xc2", 0x80, 0x9f),
                                        {"\xd8", 0x9c, 0x9c},
                                        {"\xe2\x80", 0x8e, 0x8f},
                                        {"\xe2\x80", 0xa8, 0xae},
                                        {"\xe2\x81", 0xa6, 0xa9}}) {
    const std::string_view prefix = head;
    for (auto at = shown.find(prefix); at != shown.npos; at = shown.find(prefix, at + 1)) {
      if (at + prefix.size() == shown.size()) continue;
      const auto last = static_cast<unsigned char>(shown[at + prefix.size()]);
      require(last < low || last > high, "no control character of C1, none of direction");
    }
  }
}

// A peer's document of itself, which /cluster passes on and --status prints.
void node(const std::string& bytes) {
  Node peer;
  peer.name = "n1";
  std::string why;
  Json document = parse_node_document(peer, {200, bytes, "", {}}, why);
  require(why.empty() == document.is_object(), "a document, or a reason");
  if (why.empty())
    require(names_equal(document["name"].get<std::string>(), "n1"), "it is the one asked");
  document["reachable"] = why.empty();
  const Json cluster = {{"sites", {{{"site", "s"}, {"nodes", {document}}}}}};
  require(!dump(cluster).empty(), "it can be serialized");
  require_harmless(dump(cluster), false);
  require(!Json::parse(dump(cluster), nullptr, false).is_discarded(), "what is passed on is JSON");
  require_harmless(print_status(cluster, false), true);
  if (!Json::parse(bytes, nullptr, false).is_discarded()) {
    const std::string passed_on = printable_json(bytes);
    require(Json::parse(passed_on, nullptr, false) == Json::parse(bytes), "it says the same");
  }
}

// A record of the state_file, as it is and padded: libFuzzer prefers short inputs, so a | in one is
// replaced by as many spaces as make it a record of full size.
void grants(const std::string& text) {
  std::string padded = text;
  if (const auto pad = padded.find("|"); pad != padded.npos) {
    padded.replace(pad, 1, std::max(Grant_File::record_size + 1 - std::ssize(text), 0L), ' ');
  }
  for (const std::string& record : {text, padded}) {
    std::string why;
    const auto grant = Grant_File::parse(record, "boot", "n1", 1h, why);
    require(grant.has_value() == why.empty(), "a grant, or a reason");
    if (!grant) continue;
    require(grant->until <= 1h + 2min, "no promise is longer than any lease");
    require(record.size() == Grant_File::record_size, "a record is whole");
    // A record that is cut short is rejected.
    require(!Grant_File::parse(record.substr(0, record.size() - 1), "boot", "n1", 1h, why), "cut");
    const auto again =
        Grant_File::parse(Grant_File::print(*grant, "boot", "n1"), "boot", "n1", 1h, why);
    require(again && again->to == grant->to && again->until == grant->until, "read back the same");
  }
}

// What another node serves of its lists of voters, and the file of one's own.
void lists_text(const std::string& text) {
  std::string why;
  Addresses addresses;
  if (const auto served = parse_lists(text, addresses, why)) {
    const std::string printed = print_lists(*served, addresses);
    require(printed.size() <= most_list_bytes, "what is served is limited");
    Addresses again;
    require(parse_lists(printed, again, why) == served, "lists are read back the same");
    for (const lists::List* list : {&served->held.current, &served->held.pending}) {
      require(list->members.size() <= lists::most_members, "a list is limited");
      require(std::is_sorted(list->members.begin(), list->members.end()), "members ascend");
    }
  } else {
    require(!why.empty(), "lists, or a reason");
  }
  why.clear();
  for (const bool whole_cluster : {false, true}) {
    if (const auto held = parse_held(text, whole_cluster, why)) {
      const std::string printed = print_held(*held);
      const auto again = parse_held(printed, whole_cluster, why);
      require(again && print_held(*again) == printed, "a file is read back the same");
    } else {
      require(!why.empty(), "a file, or a reason");
    }
  }
}

// Two looks at a database server, in virtual time. The first byte selects the statement that gets
// the other bytes as its answer; all other statements get correct answers.
void database(const std::string& bytes) {
  if (bytes.empty()) return;
  const std::map<std::string, std::string> correct = {
      {"BEGIN;", pg_complete("BEGIN") + pg_complete("PREPARE") + pg_complete("COMMIT")},
      {"EXECUTE ", pg_table(1, {{"f"}})},
      {"SELECT pg_catalog.pg_backend_pid()",
       pg_table(1, {{std::to_string(Fake_Postgres::backend)}})},
      {"SELECT CASE ", pg_table(11, {Pg_Row(11, "1")})},
      {"SELECT system_identifier", pg_table(1, {{"7"}})},
      {"SELECT application_name", pg_table(6, {Pg_Row(6, "1")})},
      {"SELECT node_id", pg_table(6, {{"1", "n1", "s", "primary", "t", "host=h"}})}};
  auto hostile = correct.begin();
  std::advance(hostile, static_cast<unsigned char>(bytes[0]) % correct.size());
  const auto answer_to = [&](const std::string& sql) -> std::optional<std::string> {
    if (sql.starts_with(hostile->first)) return bytes.substr(1);
    for (const auto& [begin, answer] : correct) {
      if (sql.starts_with(begin)) return answer;
    }
    return std::nullopt;
  };
  Fake_Postgres server([&](const std::string& sql) -> std::optional<std::string> {
    const auto answer = answer_to(sql);
    if (!answer || !sql.starts_with("BEGIN;")) return answer;
    // The first statement of a connection comes in one query with what prepares that.
    const std::string end = "COMMIT; ";
    const auto next = answer_to(sql.substr(sql.find(end) + end.size()));
    return next ? *answer + *next : next;
  });
  Database database(server.conninfo(), 100ms, 3, nullptr);
  Time now = 1h;
  for (int look = 0; look < 2; ++look, now += 1s) {
    database.begin(now);
    Time end = now + 400ms;
    for (; now < end; now += 10ms) {
      server.step();
      const auto facts = database.advance(now);
      require(database.connections() <= 3, "there are no more connections than may be");
      if (!facts) continue;
      end = std::min<Time>(end, now + 30ms);  // a survey may still come
      require(facts->reachable || !facts->problem.empty(), "what failed has a reason");
      require(facts->nodes_known || facts->nodes.empty(), "nodes are known, or none");
      require(facts->replication.standbys.size() < 10'000, "no more is read than was sent");
    }
    require(!database.looking(), "a look ends");
  }
}

// An answer of the HTTP server.
struct Http_Answer {
  int status = 0;
  bool closes = false;
  std::string body;
};

// Removes an answer from the front of `all`, and requires that it is valid. `is_head`: it is the
// answer to HEAD, which has no body.
Http_Answer take_answer(std::string_view& all, bool is_head) {
  Http_Answer taken;
  const auto end = all.find("\r\n\r\n");
  require(all.starts_with("HTTP/1.1 ") && end != all.npos, "an answer is HTTP, and whole");
  const std::string head(all.substr(0, end + 2));
  all.remove_prefix(end + 4);
  taken.status = std::stoi(head.substr(9, 3));
  if (taken.status == 100) return taken;
  taken.closes = head.find("\r\nConnection: close\r\n") != head.npos;
  const auto length = head.find("\r\nContent-Length: ");
  require(length != head.npos, "an answer tells its length");
  const std::size_t size = is_head ? 0 : std::stoul(head.substr(length + 18));
  require(all.size() >= size, "an answer's body is as long as it says");
  taken.body = all.substr(0, size);
  all.remove_prefix(size);
  return taken;
}

// The requests that are in some bytes.
struct Requests {
  std::vector<bool> is_head;  // of each that is to be answered
  std::string_view rest;      // after the last of these
};

// Splits `bytes` into requests with the server's own parser, up to one that is refused or ends the
// connection. Requires that the parser finds the same end of a request however much has come.
Requests split(std::string_view bytes) {
  Requests requests;
  requests.rest = bytes;
  while (!requests.rest.empty()) {
    const Request_Head head = parse_head(requests.rest);
    require(head.size == 0 || head.status == 0, "a head is understood or refused");
    require(head.size <= requests.rest.size(), "a head is no longer than what came");
    for (std::size_t n = 0; n < requests.rest.size(); n += 1 + n / 8) {
      const Request_Head part = parse_head(requests.rest.substr(0, n));
      if (part.size || part.status)
        require(part.size == head.size && part.status == head.status, "more changes nothing");
    }
    if (head.size == 0) break;
    const std::string_view text = requests.rest.substr(0, head.size);
    for (std::size_t i = 0; i < text.size(); ++i) {
      require(text[i] != '\n' || (i > 0 && text[i - 1] == '\r'), "CRLF alone ends a line");
      require(text[i] != '\0', "no NUL is understood");
    }
    if (!is_answered(head.method)) break;
    requests.is_head.push_back(head.method == "HEAD");
    requests.rest.remove_prefix(head.size);
    if (!head.keep_alive) break;
  }
  return requests;
}

// The shipped HTTP server on a free port of the loopback interface. Its node is n2, a standby in a
// cluster of three whose primary is n1.
struct Served {
  Served() {
    Facts facts;
    facts.reachable = facts.in_recovery = facts.nodes_known = true;
    facts.asked_at = boottime() + 24h;  // so that the cache does not expire during a run
    for (const char* name : {"n1", "n2", "n3"}) {
      facts.nodes.push_back({1 + static_cast<int>(facts.nodes.size()), name, "default",
                             facts.nodes.empty() ? "primary" : "standby", true, "127.0.0.1"});
    }
    node.learn(std::move(facts));
    node.refresh();
    port = server.bind_to_any_port("127.0.0.1");
    std::thread([this] { server.run(); }).detach();
  }
  static Node_Settings settings() {
    Node_Settings made;
    made.node_name = "n2";
    return made;
  }
  Config config;
  Stderr_Log log{Log_Level::error};
  Tls tls{config.tls, log};
  Repmgr_Node node{settings(),
                   {.http_get = [](const Node&, const std::string&, Time,
                                   std::function<void(Http_Reply)> done) { done({}); },
                    .http_drop = nullptr,
                    .resolve = nullptr,
                    .clock = boottime,
                    .other_clocks = {},
                    .log = [](Log_Level, const std::string&) {},
                    .grants = {}}};
  Service server{cpp_httplib(), config, node, tls, log};
  int port = 0;
};

// Connects to a port of the loopback interface; none if a signal interrupted that.
Descriptor connect_to(int port) {
  Descriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // From many addresses: a run makes more connections than one has ports.
  static std::uint32_t runs = 0;
  sockaddr_in from = to;
  from.sin_port = 0;
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + runs++ % 60'000);
  require(bind(fd.get(), reinterpret_cast<sockaddr*>(&from), sizeof from) == 0,
          "an address is free");
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
    require(errno == EINTR, "the server is there");  // libFuzzer's own timer
    fd.reset();
  }
  return fd;
}

// Sends all, ends the sending direction, and reads what is answered.
std::string exchange(int fd, std::string_view all) {
  // libFuzzer's own timer interrupts what waits.
  const auto again = [](ssize_t n) { return n > 0 || (n < 0 && errno == EINTR); };
  ssize_t n = 0;
  while (!all.empty() && again(n = send(fd, all.data(), all.size(), MSG_NOSIGNAL))) {
    all.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  }
  shutdown(fd, SHUT_WR);
  std::string answers;
  char buffer[4096];
  while (again(n = recv(fd, buffer, sizeof buffer, 0))) {
    answers.append(buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  }
  return answers;
}

// The bytes are sent with a valid request behind them. Each request gets one answer, and the last
// one only if all requests before it were valid.
void http(const std::string& bytes) {
  static Served& served = *new Served;
  static const std::string known = "GET /primary?voter=n2&fuzz HTTP/1.1\r\n\r\n";
  static const std::string known_answer = R"({"Primary":"n1"})";
  const std::string all = bytes + known;
  std::string answers;
  if (const Descriptor fd = connect_to(served.port)) {
    answers = exchange(fd.get(), all);
  } else {
    return;
  }
  require(answers.find("{\"state\":\"Primary\"}") == answers.npos, "a standby is never Primary");

  const Requests requests = split(all);
  std::string_view left = answers;
  for (const bool is_head : requests.is_head) {
    Http_Answer answer;
    do {
      require(!left.empty(), "each request that is understood has an answer");
      answer = take_answer(left, is_head);
    } while (answer.status == 100);
    require(answer.status != 405 && answer.status != 413, "what is understood is answered");
    if (answer.closes) require(left.empty(), "nothing follows the last answer");
  }
  // A request that is refused has one answer, without a body if it is HEAD, and the connection
  // ends. A "100 Continue" may come before it.
  bool continued = false;
  for (int more = 0; !left.empty(); ++more) {
    require(!requests.rest.empty(), "there are no more answers than requests");
    const Http_Answer answer = take_answer(left, parse_head(requests.rest).method == "HEAD");
    if (answer.status == 100 && !std::exchange(continued, true)) {
      --more;
      continue;
    }
    require(more == 0 && left.empty(), "what is not understood has one answer");
    require(answer.closes && answer.status >= 400, "and the connection ends");
    require(answer.body != known_answer, "a request behind it is not run");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::map<std::string, void (*)(const std::string&)> targets = {
      {"config", config}, {"reply", reply},       {"node", node},       {"grants", grants},
      {"http", http},     {"database", database}, {"lists", lists_text}};
  static const auto target = [] {
    const char* name = getenv("FUZZ_TARGET");
    const auto found = targets.find(name ? name : "");
    require(found != targets.end(),
            "FUZZ_TARGET is config, reply, node, grants, lists, http or database");
    signal(SIGPIPE, SIG_IGN);
    return found->second;
  }();
  target(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
