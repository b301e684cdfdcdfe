// What an operator says and asks afterwards: --drain, --history.

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/json.hpp"
#include "tests/lab.hpp"

using namespace primgr;

TEST_SUITE_BEGIN("lab");

namespace {

Json node_of(const Lab& lab, const std::string& node) {
  return parse_json(lab.ask(node, "/node").body, 8);
}

// primgr on a node, with its configuration.
struct Command {
  Ran operator()(const std::string& node, const std::string& arguments) const {
    return lab.attempt("exec-node " + node + " " + program() + " --config " +
                       lab.conf(node, "primgr_conf") + " " + arguments);
  }
  const Lab& lab;
};

// Waits until a load balancer's reads go to nobody but that node.
void check_reads(const Lab& lab, const std::string& node) {
  std::string got;
  const bool only = eventually(10, [&] {
    got.clear();
    for (int i = 0; i < 4; ++i) got += lab.server("read") + " ";
    return got == node + " " + node + " " + node + " " + node + " ";
  });
  CHECK_MESSAGE(only, "reads go to " << got);
}

void check_drain(const Lab& lab) {
  const Command primgr{lab};
  Ran ran = primgr("n1", "--drain");
  CHECK_MESSAGE((ran.status == 69 && ran.output.find("this node is Primary") != ran.output.npos),
                ran.output);
  CHECK(lab.answers("n1", 200, "/read-only"));

  ran = primgr("n2", "--drain a new disk");
  CHECK_MESSAGE(ran.status == 0, ran.output);
  for (const char* path : {"/replica", "/read-only", "/readiness"}) {
    const Answer answer = lab.ask("n2", path);
    CAPTURE(answer.body);
    CHECK(answer.status == 503);
    CHECK(answer.body.find(": a new disk\"") != std::string::npos);
  }
  CHECK(lab.ask("n2").status == 202);
  CHECK(lab.metric("n2", "primgr_drained") == 1);
  CHECK(primgr("n3", "--status").output.find("n2: drained since ") != std::string::npos);
  check_reads(lab, "n3");
  // It votes as before, and knows that it is drained from its first answer on.
  lab.run("primgr n2 kill");
  lab.run("primgr n2 start");
  CHECK(lab.answers("n2", 202));
  CHECK(lab.ask("n2", "/replica").status == 503);
  lab.run("primgr n3 stop");
  CHECK(lab.answers("n1", 200));
  lab.run("primgr n3 start");
  CHECK(lab.answers("n3", 200, "/replica"));
  CHECK(lab.ask("n1").status == 200);

  CHECK(primgr("n2", "--undrain").status == 0);
  CHECK(lab.ask("n2", "/replica").status == 200);
  CHECK(node_of(lab, "n2")["drain"].is_null());
}

// Of nobody's: only root and the daemon's user may.
void check_rights(const Lab& lab) {
  const Ran ran = lab.attempt("exec-node n2 setpriv --reuid=nobody --clear-groups " + program() +
                              " --config " + lab.conf("n2", "primgr_conf") + " --drain");
  CHECK_MESSAGE(ran.status == 69, ran.output);
  CHECK(ran.output.find("as root, or as the daemon's user") != std::string::npos);
  CHECK(lab.ask("n2", "/replica").status == 200);
}

}  // namespace

TEST_CASE("lab: a drained standby takes no reads; the history outlives restarts and kills") {
  if (!lab_possible("the drain and the history")) return;
  const Lab lab("--no-repmgrd --state-file");
  check_drain(lab);
  check_rights(lab);

  // n2 was killed once; n3 was ended in order.
  const Json killed = node_of(lab, "n2")["history"], ended = node_of(lab, "n3")["history"];
  CAPTURE(killed.dump());
  CAPTURE(ended.dump());
  const auto ends = [](const Json& history) {
    std::vector<std::string> reasons;
    for (const Json& change : history) {
      if (change["to"].is_null()) reasons.push_back(change["reason"]);
    }
    return reasons;
  };
  CHECK(ends(killed) ==
        std::vector<std::string>{"primgr ended without a word: it was killed, or the machine was"});
  CHECK(ends(ended) == std::vector<std::string>{"primgr was ended"});
  CHECK(killed.back()["to"] == "Standby");
  CHECK(killed.back()["from"].is_null());

  lab.run("takeover n2");
  CHECK(lab.answers("n2", 200));
  const Ran shown = Command{lab}("n3", "--history");
  CAPTURE(shown.output);
  CHECK(shown.status == 0);
  CHECK(shown.output.find("| no Primary |") < shown.output.find("until n2 was Primary"));
  CHECK(shown.output.find("| (end) ") != std::string::npos);
  CHECK(Command{lab}("n3", "--history --json").output.starts_with("{\"from\":\"n3\""));
  lab.run("primgr n3 stop");
  CHECK(Command{lab}("n3", "--history").status == 69);
}

TEST_SUITE_END();
