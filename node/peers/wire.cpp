#include "node/peers/wire.hpp"

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/text.hpp"
#include "node/peers/lists_text.hpp"

namespace primgr {

namespace {

using nlohmann::json;
using std::chrono::milliseconds;

// The value of the first of `keys` that a JSON object has as a string; none if there is none.
std::optional<std::string> json_string(const json& object,
                                       std::initializer_list<const char*> keys) {
  if (!object.is_object()) return std::nullopt;
  for (const char* key : keys) {
    const auto value = object.find(key);
    if (value != object.end() && value->is_string()) return value->get<std::string>();
  }
  return std::nullopt;
}

constexpr std::int64_t longest_milliseconds = 3'600'000;

// A number of milliseconds, limited to an hour; none if there is none. Zero if it is no integer.
std::optional<Time> json_milliseconds(const json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) return std::nullopt;
  const json& value = object[key];
  if (!value.is_number_integer()) return Time::zero();
  return milliseconds(std::clamp<std::int64_t>(value.get<std::int64_t>(), 0, longest_milliseconds));
}

// The voter's report about the node that had its vote before: all of it, or nothing.
void read_predecessor(const json& body, Promise_Terms& terms) {
  constexpr std::size_t longest_name = 63;
  auto name = json_string(body, {"before"});
  if (!name || name->size() > longest_name) return;
  const auto since = body.find("since"), handed_back = body.find("handedBack");
  if (since == body.end() || !since->is_number_integer()) return;
  if (handed_back == body.end() || !handed_back->is_boolean()) return;
  terms.before = std::move(*name);
  terms.since = json_milliseconds(body, "since").value_or(Time::zero());
  terms.handed_back = handed_back->get<bool>();
}

// The greatest length of a token, of the digests in State_Report::list, and of an instance.
constexpr std::size_t longest_token = 64;

Promise_Terms read_terms(const json& body) {
  Promise_Terms terms;
  terms.lease = json_milliseconds(body, "lease").value_or(Time::max());
  terms.token = json_string(body, {"token"}).value_or("").substr(0, longest_token);
  terms.bound_for = json_milliseconds(body, "bound").value_or(Time::zero());
  read_predecessor(body, terms);
  return terms;
}

std::optional<std::string> reported_state(const json& body) {
  return json_string(body, {"state", "State"});
}

int state_status(State state) {
  switch (state) {
    case State::primary:
      return 200;
    case State::standby:
      return 202;
    case State::unknown:
      return 509;
    case State::down:
      break;
  }
  return 503;
}

// A parameter in ms, limited to an hour; none if it is no number.
std::optional<Time> milliseconds_param(const Params& params, const std::string& name) {
  const std::string text = param(params, name);
  std::int64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec == std::errc::invalid_argument) return std::nullopt;
  if (read.ec == std::errc::result_out_of_range) value = INT64_MAX;
  return milliseconds(std::clamp<std::int64_t>(value, 0, longest_milliseconds));
}

std::int64_t whole_ms(Time time) {
  return std::chrono::floor<milliseconds>(time).count();
}

// The number of a list, or a round, as text: ROUND.MAKER.COUNT.
std::string print_number(const lists::Number& number) {
  return std::to_string(number.round.number) + "." + std::to_string(number.round.maker) + "." +
         std::to_string(number.count);
}

// A number in decimal digits. None: it is not a number, or not from 0 to `most`.
std::optional<std::uint64_t> parse_whole(std::string_view text, std::uint64_t most) {
  std::uint64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = read.ec == std::errc() && read.ptr == text.data() + text.size();
  return whole && value <= most ? std::optional(value) : std::nullopt;
}

std::optional<lists::Number> parse_number(std::string_view text) {
  std::uint64_t parts[3];
  const std::uint64_t most[3] = {lists::highest_round, INT_MAX, UINT32_MAX};
  for (int i = 0; i < 3; ++i) {
    const auto end = i < 2 ? text.find('.') : text.size();
    if (end == text.npos) return std::nullopt;
    const auto value = parse_whole(text.substr(0, end), most[i]);
    if (!value) return std::nullopt;
    parts[i] = *value;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lists::Number{{parts[0], static_cast<int>(parts[1])},
                       static_cast<std::uint32_t>(parts[2])};
}

// A number that may be left out, which is 0 then.
std::optional<std::uint64_t> whole_param(const Params& params, const char* name,
                                         std::uint64_t most) {
  return params.contains(name) ? parse_whole(param(params, name), most) : 0;
}

// None: the system identifier is no number.
std::optional<lists::Scope> read_scope(const Params& params) {
  lists::Scope scope;
  if (params.contains("site")) scope.site = param(params, "site");
  const auto system = whole_param(params, "system", UINT64_MAX);
  if (!system) return std::nullopt;
  scope.system = *system;
  return scope;
}

std::string print_lists_question(const Lists_Question& lists) {
  const lists::Question& numbers = lists.numbers;
  std::string text = "id=" + std::to_string(numbers.candidate) +
                     "&round=" + std::to_string(numbers.round) +
                     "&current=" + print_number(numbers.current) + "&";
  if (numbers.pending) text += "pending=" + print_number(numbers.pending) + "&";
  if (lists.scope.site) text += "site=" + url_encoded(*lists.scope.site) + "&";
  if (lists.scope.system) text += "system=" + std::to_string(lists.scope.system) + "&";
  if (lists.timeline) text += "timeline=" + std::to_string(lists.timeline) + "&";
  return text;
}

std::optional<Lists_Question> read_lists_params(const Params& params) {
  const auto id = parse_whole(param(params, "id"), INT_MAX);
  const auto round = parse_whole(param(params, "round"), lists::highest_round);
  const auto current = parse_number(param(params, "current"));
  const std::string made = param(params, "pending");
  const auto pending = made.empty() ? lists::Number() : parse_number(made);
  const auto scope = read_scope(params);
  const auto timeline = whole_param(params, "timeline", INT_MAX);
  if (!id || !round || !current || !pending || !scope || !timeline) return std::nullopt;
  return Lists_Question{
      *scope, {static_cast<int>(*id), *current, *round, *pending}, static_cast<int>(*timeline)};
}

Json print_lists_reply(const lists::Reply& lists) {
  Json said = {{"current", print_number(lists.current)},
               {"noted", print_number({lists.noted, 0})},
               {"vote", lists.vote}};
  if (lists.newer) said["newer"] = true;
  if (lists.held) said["held"] = print_number(lists.held);
  if (lists.acknowledged) said["acknowledged"] = print_number(lists.acknowledged);
  return said;
}

std::optional<lists::Number> json_numbers(const json& object, const char* key) {
  const auto text = json_string(object, {key});
  return text ? parse_number(*text) : std::nullopt;
}

std::optional<int> json_positive(const json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) return std::nullopt;
  const json& value = object[key];
  const bool is_one = value.is_number_unsigned() && value.get<std::uint64_t>() <= INT_MAX;
  return is_one ? std::optional(value.get<int>()) : std::nullopt;
}

Sync_Report unknown_sync(std::string why) {
  return {"", {}, std::move(why)};
}

}  // namespace

std::size_t most_reply_bytes(std::string_view target) {
  if (target.starts_with("/node")) return max_node_size;
  return target.starts_with("/lists") ? most_list_bytes : max_reply_size;
}

Json or_null(const std::optional<State>& state) {
  return state ? Json(to_string(*state)) : Json(nullptr);
}

Json name_body(const char* key, const std::string& name) {
  const std::string host = host_name(name);
  Json body = {{key, host}};
  if (host != name) body["node"] = name;
  return body;
}

// ---- votes --------------------------------------------------------------------------------------

std::string vote_question(const std::string& candidate, const std::string& voter, Time lease,
                          const std::string& token, const std::optional<Lists_Question>& lists) {
  std::string target = "/primary?";
  if (!candidate.empty()) {
    target += "candidate=" + url_encoded(candidate) +
              "&lease=" + print_milliseconds(std::chrono::ceil<std::chrono::milliseconds>(lease)) +
              "&accepts=less&";
    if (lists) target += print_lists_question(*lists);
    if (!token.empty()) target += "token=" + url_encoded(token) + "&";
  }
  return target + "voter=" + url_encoded(voter);
}

std::string hand_back_request(const std::string& candidate, const std::string& voter,
                              const std::string& token, std::optional<Time> since_last_200) {
  return "/primary?candidate=" + url_encoded(candidate) + "&handback=" + url_encoded(token) +
         "&voter=" + url_encoded(voter) +
         (since_last_200 ? "&ago=" + print_milliseconds(*since_last_200) : "");
}

std::optional<std::string> http_node_reports_primary(const Http_Reply& reply, std::string& why,
                                                     Promise_Terms* terms) {
  why.clear();
  if (reply.status == 0) {
    why = reply.error;
  } else if (reply.body.size() > max_reply_size) {
    why = "reply too long";
  } else if (reply.status == 200) {
    const json body = json::parse(reply.body, nullptr, false);
    if (terms) *terms = read_terms(body);
    const auto name = json_string(body, {"Primary"}), node = json_string(body, {"node"});
    if (name && !name->empty()) return node && names_equal(*node, *name) ? node : name;
    why = "200 without the name of a primary";
  } else if (reply.status == 503) {
    const json body = json::parse(reply.body, nullptr, false);
    const int newer = json_positive(body, "newerTimeline").value_or(0);
    why = newer ? describe_newer_timeline(newer)
                : "names none, its state is " + reported_state(body).value_or("not told");
  } else {
    why = "HTTP status " + std::to_string(reply.status);
  }
  return std::nullopt;
}

Primary_Question read_primary_question(const Params& params) {
  Primary_Question question;
  question.candidate = param(params, "candidate");
  question.voter = param(params, "voter");
  question.accepts_less = param(params, "accepts") == "less";
  question.lease = milliseconds_param(params, "lease");
  question.lists = read_lists_params(params);
  question.token = param(params, "token");
  if (params.contains("handback")) question.handback = param(params, "handback");
  question.ago = milliseconds_param(params, "ago");
  return question;
}

std::optional<Reply> primary_reply(const Ballot& ballot, bool accepts_less, Time vote_lease) {
  if (ballot.names.empty()) return std::nullopt;
  Json body = name_body("Primary", ballot.names);
  if (ballot.lists) body["lists"] = print_lists_reply(*ballot.lists);
  if (accepts_less && ballot.granted) {
    body["lease"] = whole_ms(vote_lease);
    if (!ballot.token.empty()) body["token"] = ballot.token;
    if (!ballot.before.empty()) {
      Json more = body;
      more["before"] = ballot.before;
      more["since"] = whole_ms(ballot.since);
      more["handedBack"] = ballot.handed_back;
      // If the reply is too long, only the vote is sent.
      if (Reply reply{200, dump(more)}; reply.body.size() <= max_reply_size) return reply;
    }
  } else if (accepts_less && ballot.bound_for > Time::zero()) {
    body["bound"] = whole_ms(ballot.bound_for);
  }
  Reply reply{200, dump(body)};
  return reply.body.size() <= max_reply_size ? std::optional(std::move(reply)) : std::nullopt;
}

Reply primary_reply_without_name(bool down, const std::optional<lists::Reply>& lists,
                                 int newer_timeline) {
  Json body = {{"state", to_string(down ? State::down : State::unknown)}};
  if (newer_timeline) body["newerTimeline"] = newer_timeline;
  if (lists) body["lists"] = print_lists_reply(*lists);
  return {503, dump(body)};
}

std::optional<lists::Reply> read_lists_reply(const Http_Reply& reply) {
  if (reply.status == 0 || reply.body.size() > max_reply_size) return std::nullopt;
  const json body = json::parse(reply.body, nullptr, false);
  if (!body.is_object() || !body.contains("lists") || !body["lists"].is_object()) {
    return std::nullopt;
  }
  const json& said = body["lists"];
  const auto flag = [&](const char* key) {
    return said.contains(key) && said[key].is_boolean() && said[key].get<bool>();
  };
  const auto numbers = [&](const char* key) { return json_numbers(said, key); };
  lists::Reply read;
  const auto noted = numbers("noted"), current = numbers("current");
  if (!noted || noted->count != 0 || !current) return std::nullopt;
  read.vote = flag("vote");
  read.newer = flag("newer");
  read.noted = noted->round;
  read.current = *current;
  read.held = numbers("held").value_or(lists::Number());
  read.acknowledged = numbers("acknowledged").value_or(lists::Number());
  return read;
}

// ---- lists of voters ----------------------------------------------------------------------------

std::string lists_question(const std::string& node, const lists::Scope& scope) {
  return "/lists?node=" + url_encoded(node) +
         (scope.site ? "&site=" + url_encoded(*scope.site) : "") +
         (scope.system ? "&system=" + std::to_string(scope.system) : "");
}

std::optional<lists::Scope> read_lists_question(const Params& params, std::string_view name) {
  if (!names_equal(param(params, "node"), name)) return std::nullopt;
  return read_scope(params);
}

Reply lists_reply(const lists::Served& served, const Addresses& addresses) {
  return {200, print_lists(served, addresses)};
}

std::optional<lists::Served> read_served_lists(const Http_Reply& reply, Addresses& addresses) {
  if (reply.status != 200) return std::nullopt;
  std::string why;
  return parse_lists(reply.body, addresses, why);
}

// ---- states -------------------------------------------------------------------------------------

std::string state_question(const std::string& node) {
  return "/state?node=" + url_encoded(node);
}

State_Report read_state_reply(const Http_Reply& reply) {
  State_Report report;
  if (reply.status == 0 || reply.body.size() > max_reply_size) return report;
  const json body = json::parse(reply.body, nullptr, false);
  const auto word = reported_state(body);
  if (reply.status == 200 && word == "Primary") report.state = State::primary;
  if (reply.status == 202 && word == "Standby") report.state = State::standby;
  if (reply.status == 503 && word == "Down") report.state = State::down;
  if (report.state == State::unknown && !(reply.status == 509 && word == "Unknown")) return report;
  report.id = json_positive(body, "id").value_or(0);
  const auto unbound = body.find("unbound");
  if (unbound == body.end()) return report;
  report.detailed = true;
  if (unbound->is_number_integer()) report.unbound = json_milliseconds(body, "unbound");
  report.list = json_string(body, {"list"}).value_or("").substr(0, longest_token);
  report.timeline = json_positive(body, "timeline");
  report.system = parse_whole(json_string(body, {"system"}).value_or(""), UINT64_MAX).value_or(0);
  report.instance = json_string(body, {"instance"}).value_or("").substr(0, longest_token);
  if (report.state != State::primary) return report;
  report.position = parse_lsn(json_string(body, {"position"}).value_or(""));
  return report;
}

State http_node_reports_state(const Http_Reply& reply) {
  return read_state_reply(reply).state;
}

bool is_state_question(const Params& params, std::string_view name) {
  return !params.empty() && names_equal(param(params, "node"), name);
}

Reply state_reply(const State_Report& report) {
  Json body = {{"state", to_string(report.state)}, {"unbound", nullptr}, {"list", report.list}};
  if (report.unbound) body["unbound"] = whole_ms(*report.unbound);
  if (report.state == State::primary) {
    body["position"] = report.position ? Json(print_lsn(*report.position)) : Json(nullptr);
  }
  body["timeline"] = report.timeline ? Json(*report.timeline) : Json(nullptr);
  if (report.system) body["system"] = std::to_string(report.system);
  if (!report.instance.empty()) body["instance"] = report.instance;
  if (report.id) body["id"] = report.id;
  return {state_status(report.state), dump(body)};
}

// The short reply, without the details of a State_Report.
Reply state_reply(State state, int id) {
  Json body = {{"state", to_string(state)}};
  if (id) body["id"] = id;
  return {state_status(state), dump(body)};
}

// ---- standbys -----------------------------------------------------------------------------------

std::string standby_question(std::string_view standby) {
  return "/standby?name=" + url_encoded(standby);
}

Sync_Report read_standby_reply(const Http_Reply& reply) {
  if (reply.status == 0) return unknown_sync(reply.error.empty() ? "no reply" : reply.error);
  if (reply.status != 200 && reply.status != 503) {
    return unknown_sync("HTTP status " + std::to_string(reply.status) + " (an older version?)");
  }
  const json body =
      reply.body.size() <= max_reply_size ? json::parse(reply.body, nullptr, false) : json();
  if (reply.status == 503) {
    constexpr std::size_t longest_reason = 200;  // the text is passed on to clients
    const std::string why = json_string(body, {"reason"}).value_or("").substr(0, longest_reason);
    return unknown_sync(why.empty() ? "HTTP status 503" : why);
  }
  Sync_Report report{json_string(body, {"sync"}).value_or(""), {}, ""};
  if (!is_sync_state(report.sync) || !body.contains("ageSeconds") ||
      !body["ageSeconds"].is_number()) {
    return unknown_sync("its answer to /standby is none");
  }
  constexpr double longest = 3600;
  const double age = body["ageSeconds"].get<double>();
  if (!(age >= 0 && age <= longest)) return unknown_sync("its answer to /standby is none");
  report.age = std::chrono::duration_cast<Time>(std::chrono::duration<double>(age));
  return report;
}

std::string read_standby_question(const Params& params) {
  return param(params, "name");
}

Reply standby_reply(const Sync_Report& report) {
  if (report.sync.empty()) return {503, dump({{"reason", report.why}})};
  return {200, dump({{"sync", report.sync}, {"ageSeconds", in_seconds(report.age)}})};
}

}  // namespace primgr
