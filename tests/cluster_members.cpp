#include "tests/cluster_members.hpp"

#include <doctest/doctest.h>

namespace {

std::string ids(const Cluster_Members::Nodes& nodes) {
  std::string text;
  for (const std::size_t node : nodes) text += (text.empty() ? "" : ",") + std::to_string(node + 1);
  return "(" + text + ")";
}

// Waits for the databases to be seen.
std::string members_of(const Cluster_Watch& watch) {
  REQUIRE(eventually(10, [&] {
    for (std::size_t i = 0; i < watch.size(); ++i) {
      if (watch.view(i).members.empty()) return false;
    }
    return true;
  }));
  return watch.view(0).members;
}

}  // namespace

Cluster_Members::Cluster_Members(const Lab& lab, const Cluster_Watch& watch)
    : lab_(lab), watch_(watch), members_(members_of(watch)) {
  for (std::size_t i = 0; i < watch_.size(); ++i) {
    rows_.push_back(lab_.sql(watch_.name(0),
                             "SELECT format('(%s, %L, %L, %s, %L, %L, %L)', node_id, node_name,"
                             " location, priority, conninfo, repluser, config_file) FROM"
                             " repmgr.nodes WHERE node_id = " +
                                 std::to_string(i + 1)));
    REQUIRE(rows_.back() != "");
  }
}

bool Cluster_Members::whole() const {
  for (std::size_t i = 0; i < watch_.size(); ++i) {
    if (!whole(i)) return false;
  }
  return true;
}

void Cluster_Members::sql(std::size_t on, const std::string& statements) const {
  lab_.attempt("psql " + watch_.name(on) + " -qAtc " + quoted("BEGIN; " + statements + "; COMMIT"));
}

void Cluster_Members::unregister(std::size_t on, const Nodes& nodes) const {
  if (nodes.empty()) return;
  sql(on, "UPDATE repmgr.nodes SET upstream_node_id = NULL WHERE upstream_node_id IN " +
              ids(nodes) + "; DELETE FROM repmgr.nodes WHERE node_id IN " + ids(nodes));
}

void Cluster_Members::move(std::size_t on, const Nodes& nodes, const std::string& site) const {
  sql(on, "UPDATE repmgr.nodes SET location = '" + site + "' WHERE node_id IN " + ids(nodes));
}

void Cluster_Members::add_strangers(std::size_t on, std::size_t many, bool at_own_address) const {
  const std::string own = watch_.address(on);
  const std::string nowhere = own.substr(0, own.rfind('.')) + ".250";
  std::string rows;
  for (std::size_t i = 0; i < many; ++i) {
    const std::string id = std::to_string(90 + i);
    rows += (i ? ", (" : "(") + id + ", 'n" + id +
            "', 'default', 'host=" + (at_own_address ? own : nowhere) +
            " dbname=repmgr', 'repmgr', 'standby', true)";
  }
  sql(on,
      "INSERT INTO repmgr.nodes (node_id, node_name, location, conninfo, repluser, type, active)"
      " VALUES " +
          rows + " ON CONFLICT DO NOTHING");
}

void Cluster_Members::rename(std::size_t on, std::size_t node) {
  const std::string name = watch_.name(node) + "x";
  renamed_[node] = name;
  sql(on, "UPDATE repmgr.nodes SET node_name = '" + name + "' WHERE node_id IN " + ids({node}));
  set_name(node, name);
}

void Cluster_Members::register_again(std::size_t on, const Nodes& nodes) const {
  if (nodes.empty()) return;
  std::string rows;
  for (const std::size_t node : nodes) {
    rows += (rows.empty() ? "" : ", ") + rows_[node];
    // While its host has another name, so has its row.
    if (const auto found = renamed_.find(node); found != renamed_.end()) {
      rows.replace(rows.rfind("'" + watch_.name(node) + "'"), watch_.name(node).size() + 2,
                   "'" + found->second + "'");
    }
  }
  sql(on,
      "INSERT INTO repmgr.nodes (node_id, node_name, location, priority, conninfo, repluser,"
      " config_file, type, active, upstream_node_id) SELECT v.*, 'standby', true, (SELECT"
      " min(node_id) FROM repmgr.nodes WHERE type = 'primary' AND active) FROM (VALUES " +
          rows +
          ") AS v ON CONFLICT (node_id) DO UPDATE SET node_name = excluded.node_name, location ="
          " excluded.location");
}

void Cluster_Members::restore(std::size_t on) const {
  sql(on, "DELETE FROM repmgr.nodes WHERE node_id > " + std::to_string(watch_.size()));
  Nodes all(watch_.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  register_again(on, all);
}

// primgr takes its name from repmgr.conf.
void Cluster_Members::set_name(std::size_t node, const std::string& name) const {
  const std::string& lab_name = watch_.name(node);
  const std::string conf = quoted(lab_.conf(lab_name, "repmgr_conf"));
  REQUIRE(shell("sed -i \"s/^node_name=.*/node_name='" + name + "'/\" " + conf).status == 0);
  lab_.attempt("primgr " + lab_name + " restart");
  lab_.attempt("repmgrd " + lab_name + " restart");
}

void Cluster_Members::name_back() {
  for (const auto& [node, name] : renamed_) set_name(node, watch_.name(node));
  renamed_.clear();
}

void Cluster_Members::start_repmgrds() const {
  for (std::size_t i = 0; i < watch_.size(); ++i) {
    const std::string& name = watch_.name(i);
    if (lab_.conf(name, "repmgrd_pid").empty()) lab_.attempt("repmgrd " + name + " start");
  }
}
