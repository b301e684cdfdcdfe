#include "tests/world.hpp"

#include <algorithm>
#include <sstream>

#include "node/rules/voting.hpp"

Node make_node(int id, const std::string& name, const std::string& type, const std::string& site) {
  Node node;
  node.id = id;
  node.name = name;
  node.site = site;
  node.type = type;
  node.active = true;
  node.host = "127.0.0.1";
  return node;
}

std::vector<Node> make_site(int size) {
  std::vector<Node> nodes;
  for (int i = 1; i <= size; ++i) {
    nodes.push_back(make_node(i, "n" + std::to_string(i), i == 1 ? "primary" : "standby"));
  }
  return nodes;
}

Voter_Lists known_site(int size) {
  lists::Held held;
  held.scope.site = "default";
  held.current = lists::first_list(members_of(make_site(size)));
  Voter_Lists known;
  known.held.push_back(std::move(held));
  return known;
}

Facts make_facts(std::vector<Node> nodes, bool in_recovery, Time asked_at) {
  Facts facts;
  facts.asked_at = facts.nodes_read_at = asked_at;
  facts.reachable = facts.nodes_known = true;
  facts.in_recovery = in_recovery;
  facts.nodes = std::move(nodes);
  return facts;
}

Facts standby_facts(Lsn sender_lsn, Lsn received, Lsn replayed) {
  Facts facts = make_facts(make_site(3), true);
  facts.replication.known = facts.replication.receiving = true;
  facts.replication.status = "streaming";
  facts.replication.from = "10.0.0.1";
  facts.replication.sender_lsn = sender_lsn;
  facts.replication.received = received;
  facts.replication.position = replayed;
  facts.replication.timeline = 3;
  return facts;
}

std::string votes_of(const Repmgr_Node& node) {
  const Report report = node.get_report();
  return report.lists.empty() ? std::string() : describe_lists(report.lists);
}

Params parameters(const std::string& target) {
  Params params;
  std::istringstream query(target.substr(target.find('?') + 1));
  for (std::string field; std::getline(query, field, '&');) {
    const auto equals = field.find('=');
    params.emplace(field.substr(0, equals), field.substr(equals + 1));
  }
  return params;
}

World::World(Node_Settings settings, Grant_Store grants, History history, Voter_Lists voters)
    : node(std::move(settings), {.http_get =
                                     [this](const Node& peer, const std::string& target, Time,
                                            std::function<void(Http_Reply)> done) {
                                       asked.emplace_back(peer.name,
                                                          target.substr(0, target.find("&lease")));
                                       if (hold) {
                                         held.push_back({peer.name, target, now, std::move(done)});
                                       } else {
                                         done(reply(peer.name, target, now));
                                       }
                                     },
                                 .http_drop = nullptr,
                                 .resolve = nullptr,
                                 .clock = [this] { return now; },
                                 .other_clocks = {[this] { return now + stopped; }},
                                 .log =
                                     [this](Log_Level, const std::string& line) {
                                       if (lost_lines > 0 && lost_lines-- > 0)
                                         throw std::bad_alloc();
                                       log.push_back(line);
                                     },
                                 .grants = std::move(grants),
                                 .voters = std::move(voters),
                                 .store_voters =
                                     [this](const Voter_Lists& lists, Deadline) {
                                       if (!store_fails) stored = lists;
                                       return !store_fails;
                                     },
                                 .history = std::move(history),
                                 .on_change =
                                     [this](const History& told) {
                                       if (scarce > 0 && scarce-- > 0) throw std::bad_alloc();
                                       changes = told;
                                     },
                                 .wall_clock = [this] { return started + (now - 1000s); }}) {}

Http_Reply World::reply(const std::string& peer, const std::string& target, Time sent_at) const {
  const auto& replies = target.starts_with("/state")     ? states
                        : target.starts_with("/standby") ? standbys
                        : target.starts_with("/lists")   ? served
                                                         : primaries;
  const auto found = replies.find(peer);
  Http_Reply reply = answers                  ? answers(peer, target)
                     : found == replies.end() ? Http_Reply{0, {}, "connection refused"}
                                              : found->second;
  reply.sent_at = sent_at;
  return reply;
}

void World::names(const std::string& voter, const std::string& primary) {
  primaries[voter] = {200, R"({"Primary":")" + primary + R"("})", {}};
}

void World::primary_reports(Lsn position) {
  states["n1"] = {200,
                  R"({"state":"Primary","unbound":null,"position":")" + print_lsn(position) +
                      R"(","timeline":3})",
                  {}};
}

void World::release() {
  for (auto& question : std::exchange(held, {})) {
    question.done(reply(question.peer, question.target, question.sent_at));
  }
}

void World::look(Facts facts, Time list_age) {
  facts.asked_at = facts.replication.asked_at = facts.replication.standbys_asked_at = now;
  facts.nodes_read_at = now - list_age;
  node.learn(std::move(facts));
  node.refresh();
  node.refresh();
}

void World::pass(Time time) {
  now += time;
  node.refresh();
  node.refresh();
}

std::ptrdiff_t World::logged(const std::string& what) const {
  return std::count_if(log.begin(), log.end(),
                       [&](const std::string& line) { return line.find(what) != line.npos; });
}
