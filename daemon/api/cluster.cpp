#include "daemon/api/cluster.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/json.hpp"
#include "base/time.hpp"
#include "daemon/api/outages.hpp"
#include "node/rules/no_reply.hpp"

namespace primgr {

using namespace std::chrono_literals;

// Builds the answer. Each node's document is serialized as soon as it is added: a thousand JSON
// objects would take much memory.
class Cluster::Document {
 public:
  // Adds a node with its `document`. If both have a key, the value of `node` is used.
  void add(const Node& node, Json document) {
    Json entry = begin(node, true);
    const std::optional<State> state = parse_state(text_at(document, "state"));
    if (state == State::primary) claimants_.push_back(node.name);
    outages_[node.site].add(node.name, document);
    for (auto& [key, value] : document.items()) {
      if (!entry.contains(key)) entry[key] = std::move(value);
    }
    Json& problems = entry["problems"];
    if (!state) {
      problems = {"its answer tells no state"};
    } else if (!problems.is_array()) {
      problems = {"its primgr tells no problems: it is older than this one"};
    }
    add(node.site, entry);
  }

  // Adds a node that gave no usable answer.
  void add_unreachable(const Node& node, const std::string& why) {
    Json entry = begin(node, false);
    entry["role"] = node.type;
    entry["error"] = why;
    const std::string check(what_to_check(why));
    entry["problems"] = {"unreachable: " + why + (check.empty() ? "" : ". " + node.name + ": ") +
                         check};
    outages_[node.site].add_unreachable();
    add(node.site, entry);
  }

  std::string text(const std::string& from) const {
    Json head = {{"from", from}, {"at", print_time(wall_clock())}};
    head["realPrimary"] = claimants_.size() == 1 ? Json(claimants_[0]) : Json(nullptr);
    if (claimants_.size() > 1) head["claimants"] = claimants_;
    std::string text = dump(head);
    text.back() = ',';
    text += R"("sites":[)";
    for (const auto& [name, nodes] : sites_) {
      if (text.back() != '[') text += ',';
      text += R"({"site":)" + dump(name) + R"(,"withoutPrimary":)" +
              dump(describe(outages_.at(name).find())) + R"(,"nodes":[)" + nodes + "]}";
    }
    return text + "]}";
  }

 private:
  static Json begin(const Node& node, bool reachable) {
    return {{"name", node.name}, {"id", node.id}, {"site", node.site}, {"reachable", reachable}};
  }
  static Json describe(const std::vector<Outage>& outages) {
    Json told = Json::array();
    for (const Outage& outage : outages) {
      told.push_back({{"at", print_time(wall_clock(from_seconds(outage.began)))},
                      {"agoSeconds", in_seconds(from_seconds(outage.began))},
                      {"seconds", in_seconds(from_seconds(outage.began - outage.ended))},
                      {"over", !outage.next.empty()},
                      {"next", or_null(outage.next)}});
    }
    return told;
  }
  void add(const std::string& site, const Json& entry) {
    std::string& nodes = sites_[site];
    nodes += (nodes.empty() ? "" : ",") + dump(entry);
  }

  std::vector<std::string> claimants_;
  // JSON of the nodes of each site, without the brackets
  std::map<std::string, std::string> sites_;
  std::map<std::string, Outage_Finder> outages_;
};

namespace {

// How many changes of state to request from each of `nodes` nodes, so that the answer stays small.
std::size_t changes_told(std::size_t nodes) {
  return std::clamp<std::size_t>(2000 / std::max<std::size_t>(nodes, 1), 4, max_changes);
}

}  // namespace

bool Cluster::is_self(const Node& node) const {
  return names_equal(node.name, node_.name());
}

Cluster::Cluster(Time timeout, const Repmgr_Node& node, const Process& process, Http_Get get)
    : timeout_(timeout), node_(node), process_(process), get_(std::move(get)) {}

Answer Cluster::get(bool may_wait) {
  const Mutex_Lock lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (!collecting_ && now < collected_at_ + 200ms) return answer_;
  if (!may_wait) {
    if (now < collected_at_ + timeout_ + 5s) return answer_;
    return {503, dump({{"error", "too many wait for the other nodes: ask again"}})};
  }
  if (collecting_) {
    const std::uint64_t current = collected_;
    while (collected_ == current && changed_.wait_until(mutex_, now + timeout_ + 1s)) {
    }
    return answer_;
  }
  collecting_ = true;
  Answer answer{503, {}};
  {
    const Mutex_Unlock unlock(mutex_);
    try {
      answer = collect();
    } catch (const std::exception&) {
      // Out of memory. There is no answer now. The next request starts a new collection.
    }
  }
  collecting_ = false;
  ++collected_;
  collected_at_ = std::chrono::steady_clock::now();
  if (answer.body.empty()) {
    answer.body = R"({"error":"no memory"})";
    collected_at_ = {};
  }
  answer_ = std::move(answer);
  changed_.notify_all();
  return answer_;
}

std::shared_ptr<Cluster::Collection> Cluster::ask(const std::vector<Node>& nodes) const {
  const auto collection = std::make_shared<Collection>();
  {
    const Mutex_Lock lock(collection->mutex);
    collection->replies.resize(nodes.size());
  }
  const std::string target = "/node?history=" + std::to_string(changes_told(nodes.size()));
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (is_self(nodes[i]) || !get_) continue;
    {
      const Mutex_Lock lock(collection->mutex);
      ++collection->pending;
    }
    get_(nodes[i], target, timeout_, [collection, i](Http_Reply reply) {
      const Mutex_Lock lock(collection->mutex);
      collection->replies[i] = std::move(reply);
      --collection->pending;
      collection->changed.notify_all();
    });
  }
  return collection;
}

Answer Cluster::collect() const {
  const std::vector<Node> nodes = node_.get_all_nodes();
  const auto collection = ask(nodes);
  const Mutex_Lock lock(collection->mutex);
  const Deadline until = std::chrono::steady_clock::now() + timeout_ + 100ms;
  while (collection->pending > 0 && collection->changed.wait_until(collection->mutex, until)) {
  }

  Document document;
  bool self_listed = false;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (is_self(nodes[i])) {
      self_listed = true;
      document.add(nodes[i], make_node_document(node_, process_, changes_told(nodes.size())));
      continue;
    }
    std::string error;
    Json node_document = parse_node_document(
        nodes[i], collection->replies[i].value_or(Http_Reply{0, {}, timed_out, {}}), error);
    if (error.empty()) {
      document.add(nodes[i], std::move(node_document));
    } else {
      document.add_unreachable(nodes[i], error);
    }
  }
  if (!self_listed) {
    Node self;
    self.name = node_.name();
    document.add(self, make_node_document(node_, process_));
  }
  return {nodes.empty() ? 503 : 200, document.text(node_.name())};
}

}  // namespace primgr
