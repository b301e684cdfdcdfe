// The fault campaign.
//
// Random faults on a real cluster, while every node and HAProxy are watched and rows are written
// through HAProxy. `make faults FAULTS=300 NODES=5 FAULT_SEED=7`; a short one is part of every test
// run.

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <iomanip>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#include "base/time.hpp"
#include "tests/cluster_members.hpp"
#include "tests/cluster_repair.hpp"
#include "tests/cluster_watch.hpp"
#include "tests/fault_members.hpp"
#include "tests/haproxy_watch.hpp"
#include "tests/lab.hpp"
#include "tests/row_writers.hpp"

namespace {

// What README.md promises, in seconds; that two primaries never show needs no number.
constexpr double crashed_p95 = 0.3;
constexpr double isolated_beyond_lease = 0.5;
constexpr double hung_max = 5.5;
constexpr double taken_over_p95 = 0.5;
// While a standby's database is up and nobody is cut off. A busy machine makes one client wait.
constexpr double without_reads_max = 2;

// What the program under test has in force.
struct Timing {
  double lease = 0, check_delay = 0;
  bool hands_back = false;  // it gives votes back when it is Primary no more
};

Timing read_timing(const std::string& conf) {
  const Ran ran = shell(program() + " --check-config --config " + quoted(conf) + " 2>&1");
  INFO(ran.output);
  REQUIRE(ran.status == 0);
  const auto duration = [&](const std::string& key) -> std::optional<double> {
    const std::string line = "\n" + key + " = '", all = "\n" + ran.output;
    const auto at = all.find(line);
    if (at == all.npos) return std::nullopt;
    const auto begin = at + line.size();
    const auto value =
        primgr::parse_duration(all.substr(begin, all.find('\'', begin) - begin), 0s, 1h);
    return std::chrono::duration<double>(value).count();
  };
  const auto check_delay = duration("check_delay");
  return {duration("vote_lease").value(), check_delay.value_or(0), check_delay.has_value()};
}

double percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<std::size_t>(p * static_cast<double>(values.size())))];
}

class Campaign {
 public:
  Campaign(int nodes, std::uint64_t seed)
      : seed_(seed),
        random_(seed),
        // A promotion whose node was rejoined meanwhile would keep repmgrd waiting for a minute.
        lab_("--nodes " + std::to_string(nodes) +
             " --state-file --repmgr-set promote_check_timeout=5"),
        timing_(read_timing(lab_.conf("n1", "primgr_conf"))),
        watch_(lab_),
        members_(lab_, watch_),
        member_faults_(lab_, watch_, members_, random_),
        repair_(lab_, watch_, members_),
        haproxy_(lab_.run("env | sed -n 's/^LAB_DIR=//p'") + "/haproxy.admin", "postgres_write") {
    choose_kinds();
    lab_.run("write 'CREATE TABLE written (n bigint PRIMARY KEY)'");
    writers_ = std::make_unique<Row_Writers>(lab_.hub());
    reader_ = std::make_unique<Reader>(lab_.hub());
  }

  void run(int faults) {
    converge("the start");
    for (int i = 0; i < faults && trouble_.empty(); ++i) fault();
  }

  // Rows are written, and no fault is injected: any answer of the primary but 200 is a false alarm.
  void quiet(double seconds) {
    if (!trouble_.empty()) return;  // there may be no primary
    const std::size_t leader = watch_.leader();
    const double start = seconds_now();
    while (seconds_now() - start < seconds) std::this_thread::sleep_for(100ms);
    false_alarms_ += watch_.not_200(leader, start, seconds_now());
    quiet_ += seconds;
  }

  // Prints the figures, and checks them against what README.md promises.
  void report() {
    const auto rows = writers_->rows();
    const auto samples = watch_.samples();
    report_faults(samples.size());
    const std::size_t violations = report_violations(samples);
    const std::size_t overlaps = report_overlaps(), stale = report_stale(rows);
    const std::size_t misrouted = count_misrouted(rows, samples);
    MESSAGE("rows acknowledged: ", rows.size(), ", lost by asynchronous failover: ",
            trouble_.empty() ? std::to_string(count_lost(rows)) : "unknown",
            ", accepted by a server that primgr refused: ", misrouted,
            ", sent to a standby: ", writers_->sent_to_standbys());
    const auto reads = reader_->reads();
    const std::size_t misread = count_misrouted(reads, watch_.read_samples());
    MESSAGE("reads: ", reads.size(), ", answered by a server that primgr refused: ", misread);
    const bool read_on = report_reads(reads);
    report_times();
    const bool never = violations == 0 && overlaps == 0 && stale == 0 && misrouted == 0 &&
                       misread == 0 && writers_->sent_to_standbys() == 0 && read_on;
    if (!never && trouble_.empty()) repair_.keep_logs(folder());
    CHECK(violations == 0);
    CHECK(overlaps == 0);
    CHECK(stale == 0);
    CHECK(misrouted == 0);
    CHECK(writers_->sent_to_standbys() == 0);
    CHECK(misread == 0);
    CHECK(read_on);
    CHECK(false_alarms_ == 0);
    CHECK(percentile(crashed_, 0.95) <= crashed_p95);
    CHECK(percentile(isolated_, 1) <= timing_.lease - timing_.check_delay + isolated_beyond_lease);
    CHECK(percentile(hung_, 1) <= hung_max);
    CHECK(percentile(taken_over_, 0.95) <= taken_over_p95);
    CHECK(static_cast<double>(haproxy_.rounds()) > seconds_now() - begun_);  // it was watched
    CHECK(trouble_ == "");
  }

 private:
  // What was done to the cluster.
  struct Fault {
    std::string kind;
    // The primary must answer 200 all the while.
    bool harmless = false;
    // The old primary's primgr could tell its voters that it is Primary no more.
    bool could_hand_back = false;
    // How long a takeover takes is measured. It is not while the voters change, too.
    bool measured = true;
    // Nobody is cut off, and a standby's server is up all the while: there must be reads.
    bool reads = false;
  };
  // By its key KINDS picks it. REQUIRES: `inject` takes the primary and another node.
  struct Kind {
    const char* key;
    int weight;
    Fault (Campaign::*inject)(std::size_t p, std::size_t other);
  };
  static const std::vector<Kind> kinds;  // the takeovers last

  // KINDS="takeover kill": those, and those of which a word is the part before the dash.
  void choose_kinds() {
    const char* asked = getenv("KINDS");
    std::istringstream words(asked ? asked : "");
    for (std::string word; words >> word;) {
      bool known = false;
      for (const Kind& kind : kinds) {
        const std::string key = kind.key;
        if (key != word && !key.starts_with(word + "-")) continue;
        known = true;
        chosen_.push_back(&kind);
      }
      REQUIRE_MESSAGE(known, "KINDS: no kind of fault '", word, "'");
    }
    if (!chosen_.empty()) return;
    // Changes of the membership take long to undo. The short campaign of every test run has none:
    // tests/lab_members.cpp has their like.
    const bool is_short = !getenv("FAULTS");
    for (const Kind& kind : kinds) {
      if (is_short && std::string(kind.key).starts_with("members-")) continue;
      chosen_.insert(chosen_.end(), static_cast<std::size_t>(kind.weight), &kind);
    }
  }

  // Even a short campaign has both takeovers, which ask most of primgr and nothing of repmgrd.
  const Kind& next_kind() {
    const std::size_t picked = random_() % chosen_.size();
    const bool all = !getenv("KINDS") || !*getenv("KINDS");
    return all && history_.size() < 2 ? kinds[kinds.size() - 2 + history_.size()]
                                      : *chosen_[picked];
  }

  void fault() {
    const std::size_t p = watch_.leader(), other = other_than(p);
    const double start = seconds_now();
    const Kind& kind = next_kind();
    history_.push_back({start, kind.key});
    const Fault fault = (this->*kind.inject)(p, other);
    ++count_[fault.kind];
    if (fault.reads) with_reads_.push_back({fault.kind, start, seconds_now()});
    if (fault.harmless) {
      const std::size_t alarms = watch_.not_200(p, start, seconds_now());
      if (alarms) {
        MESSAGE("false alarm: ", fault.kind, ": ", alarms, " answers other than 200 from ",
                name(p));
      }
      false_alarms_ += alarms;
    }
    converge(fault.kind);
    if (getenv("FAULT_TRACE")) {
      const auto majority = watch_.majority();
      MESSAGE(fault.kind, ": ", name(p), " -> ", name(watch_.leader()),
              ", named by a majority: ", majority.name, " ", majority.since - start,
              " s after, repaired in ", seconds_now() - start, " s");
    }
    if (trouble_.empty() && fault.measured) note_takeover(kind.key, fault, p, start);
    if (watch_.leader() != p) rejoined_ = p;
  }

  void converge(const std::string& after) {
    if (repair_.converge()) return;
    trouble_ = "after " + after + " the cluster does not come back";
    MESSAGE(trouble_);
    repair_.diagnose();
    repair_.keep_logs(folder());
  }

  // ---- the kinds -------------------------------------------------------------------------------

  Fault kill_primary(std::size_t p, std::size_t) {
    const double start = seconds_now();
    lab_.attempt("kill " + name(p));
    if (watch_.first_other(p, start, 5)) {
      crashed_.push_back(std::max(0.0, watch_.first_other_after_200(p)));
    }
    hold(0, 8);
    return {"kill the primary", false, true, true, true};
  }
  Fault stop_primary(std::size_t p, std::size_t) {
    lab_.attempt("stop " + name(p));
    hold(0, 8);
    return {"stop the primary", false, true, true, true};
  }
  Fault pause_primary(std::size_t p, std::size_t) {
    lab_.attempt("pause " + name(p));
    measure_first_other(p, hung_);
    hold(0, 6);
    lab_.attempt("resume " + name(p));
    return {"pause the primary", false, true, true, true};
  }
  Fault cut_primary(std::size_t p, std::size_t) {
    lab_.attempt("cut " + name(p));
    measure_first_other(p, isolated_);
    hold(0, 8);
    lab_.attempt("heal");
    return {"cut the primary off"};
  }
  Fault cut_link(std::size_t p, std::size_t other) {
    lab_.attempt("cut " + name(p) + " " + name(other));
    hold(1, 6);
    lab_.attempt("heal");
    return {"cut one link of the primary", watch_.size() > 2};
  }
  Fault cut_one_way(std::size_t p, std::size_t other) {
    lab_.attempt("cut " + name(other) + " " + name(p) + " --oneway");
    hold(1, 6);
    lab_.attempt("heal");
    return {"cut one direction"};
  }
  Fault partition(std::size_t p, std::size_t other) {
    std::string rest;
    for (std::size_t i = 0; i < watch_.size(); ++i) {
      if (i != p && i != other) rest += (rest.empty() ? "" : ",") + name(i);
    }
    lab_.attempt("partition " + name(p) + "," + name(other) + " / " + rest);
    if (watch_.size() > 4) measure_first_other(p, isolated_);
    hold(1, 8);
    lab_.attempt("heal");
    return {"partition in two"};
  }
  Fault promote_by_hand(std::size_t, std::size_t other) {
    lab_.attempt("psql " + name(other) + " -c 'SELECT pg_promote()'");
    hold(1, 4);
    return {"promote by hand while the primary lives"};
  }
  Fault kill_standby(std::size_t, std::size_t other) {
    lab_.attempt("kill " + name(other));
    hold(1, 4);
    return {"kill a standby", true, false, true, true};
  }
  Fault restart_primgr(std::size_t p, std::size_t other) {
    const std::size_t victim = random_() % 2 ? p : other;
    const bool term = random_() % 2;
    lab_.attempt("primgr " + name(victim) + (term ? " stop" : " kill"));
    lab_.attempt("primgr " + name(victim) + " start");
    hold(1, 4);
    return {std::string("restart primgr with ") + (term ? "SIGTERM" : "SIGKILL"), true, false, true,
            true};
  }
  // Clients and HAProxy still reach the old primary, which knows of nothing. The successor is cut
  // off last, so that no other standby is ahead of it.
  Fault take_over_from_cut(std::size_t p, std::size_t other) {
    const std::size_t successor = settled(p, other);
    for (std::size_t i = 0; i < watch_.size(); ++i) {
      if (i != p && i != successor) lab_.attempt("cut " + name(p) + " " + name(i));
    }
    const double last = seconds_now();
    lab_.attempt("cut " + name(p) + " " + name(successor));
    take_over(successor);
    if (const auto took = watch_.first_other(p, last, 10)) isolated_.push_back(*took);
    hold(0, 4);
    lab_.attempt("heal");
    return {"take over at once from a primary that its peers do not reach"};
  }
  Fault take_over_from_stopped(std::size_t p, std::size_t other) {
    const std::size_t successor = settled(p, other);
    lab_.attempt("stop " + name(p));
    take_over(successor);
    hold(1, 5);
    return {"take over at once from a stopped primary", false, true, true, true};
  }
  // A fault of membership.
  template <Member_Faults::Done (Member_Faults::*done)(std::size_t, std::size_t)>
  Fault change_members(std::size_t p, std::size_t other) {
    const auto [what, harmless] = (member_faults_.*done)(p, other);
    return {what, harmless, false, false};
  }
  void take_over(std::size_t successor) {
    const Ran ran = lab_.attempt("takeover " + name(successor));
    if (ran.status != 0) MESSAGE("takeover ", name(successor), ": ", ran.output);
  }
  // For a moment after a rejoin repmgrd takes a node that is promoted for the old primary that it
  // was, and records it as a standby: then nobody is primary. So another than that node, if there
  // is one.
  std::size_t settled(std::size_t p, std::size_t other) const {
    for (std::size_t i = 0; other == rejoined_ && i < watch_.size(); ++i) {
      if (i != p && i != rejoined_) return i;
    }
    return other;
  }

  std::size_t other_than(std::size_t i) {
    const std::size_t other = random_() % (watch_.size() - 1);
    return other < i ? other : other + 1;
  }
  const std::string& name(std::size_t i) const { return watch_.name(i); }
  void hold(double least, double most) { ::hold(random_, least, most); }

  // ---- what is measured ------------------------------------------------------------------------

  // How long a node goes on answering 200 from now.
  void measure_first_other(std::size_t node, std::vector<double>& into) {
    if (const auto took = watch_.first_other(node, seconds_now(), 10)) into.push_back(*took);
  }

  // How long the new primary took, from when it could answer 200 to when it did, and from when it
  // took writes by itself to the first row through HAProxy.
  void note_takeover(const std::string& key, const Fault& fault, std::size_t old, double start) {
    const std::size_t successor = watch_.leader();
    const auto majority = watch_.majority();
    if (successor == old || majority.name != name(successor) || majority.since <= start) return;
    const auto first = watch_.first_200_after(successor, start);
    if (!first) return;
    const bool handed_back = timing_.hands_back && fault.could_hand_back;
    const double free =
        watch_.last_200_before(old, *first) + (handed_back ? timing_.check_delay : timing_.lease);
    taken_over_.push_back(std::max(0.0, *first - std::max(majority.since, free)));
    const auto writable = watch_.writable_after(successor, start);
    if (!writable) return;
    std::optional<double> row;
    eventually(5, [&] {
      row = writers_->first_after(watch_.address(successor), *writable);
      return row.has_value();
    });
    to_200_[key].push_back(*first - *writable);
    if (row) to_row_[key].push_back(*row - *writable);
  }

  // The kind of the fault that was being dealt with then.
  std::string during(double time) const {
    for (auto past = history_.rbegin(); past != history_.rend(); ++past) {
      if (past->begun > time) continue;
      std::ostringstream text;
      text << past->key << ", " << std::fixed << std::setprecision(2) << time - past->begun
           << " s after it began";
      return text.str();
    }
    return "before the first fault";
  }

  std::size_t count_lost(const std::vector<Row>& rows) const {
    std::set<long> there;
    if (const auto connection = watch_.connect(watch_.leader(), "postgres")) {
      const Result result = query(connection, "SELECT n FROM written");
      for (int r = 0; result && r < PQntuples(result.get()); ++r) {
        there.insert(std::atol(PQgetvalue(result.get(), r, 0)));
      }
    }
    return static_cast<std::size_t>(std::count_if(
        rows.begin(), rows.end(), [&](const Row& row) { return !there.contains(row.number); }));
  }

  // Rows, or reads, that a server took whose node had answered nothing but 509 and 503 for so long
  // that HAProxy has seen two failed checks.
  template <typename Row_Or_Read>
  std::size_t count_misrouted(const std::vector<Row_Or_Read>& rows,
                              const std::vector<Sample>& samples) const {
    const double blind = 2.0;
    std::size_t misrouted = 0;
    for (const Row_Or_Read& row : rows) {
      bool refused = false, other = false;
      auto s = std::lower_bound(samples.begin(), samples.end(), row.sent - blind,
                                [](const Sample& a, double time) { return a.received < time; });
      // A moment later counts too: HAProxy may have asked between two of these samples.
      for (; s != samples.end() && s->received <= row.sent + 1.1; ++s) {
        if (watch_.address(s->node) != row.server || s->sent > row.sent + 0.1) continue;
        (s->status == 509 || s->status == 503 ? refused : other) = true;
      }
      misrouted += refused && !other;
    }
    return misrouted;
  }

  // ---- what is printed -------------------------------------------------------------------------

  void report_faults(std::size_t samples) const {
    MESSAGE(count_.size(), " kinds of faults, ", history_.size(), " faults in ",
            seconds_now() - begun_, " s; vote_lease ", timing_.lease, " s, check_delay ",
            timing_.check_delay, " s, votes are ", std::string(timing_.hands_back ? "" : "not "),
            "handed back");
    for (const auto& [kind, n] : count_) MESSAGE("  ", kind, ": ", n);
    MESSAGE("false alarms: ", false_alarms_, " (quiet seconds under load: ", quiet_,
            "); samples: ", samples);
    MESSAGE("repaired by hand: what repmgr should have: ", repair_.repmgr_trouble(),
            ", servers that did not come to answer: ", repair_.postgres_trouble());
  }

  std::size_t report_violations(const std::vector<Sample>& samples) const {
    const auto violations = find_violations(samples, timing_.lease);
    double shown = -1;  // the beginning of the fault that was
    for (const auto& [a, b] : violations) {
      const auto next = std::find_if(history_.begin(), history_.end(),
                                     [&](const Past& past) { return past.begun > b.sent; });
      const double begun = next == history_.begin() ? 0 : std::prev(next)->begun;
      if (begun == std::exchange(shown, begun)) continue;
      MESSAGE("two primaries: ", name(a.node), " and ", name(b.node), "; ", during(b.sent));
    }
    MESSAGE("two nodes answering 200 within a lease: ", violations.size());
    return violations.size();
  }

  std::size_t report_overlaps() const {
    const auto overlaps = haproxy_.overlaps();
    std::size_t rounds = 0;
    double longest = 0;
    for (const auto& overlap : overlaps) {
      rounds += overlap.rounds;
      longest = std::max(longest, overlap.last - overlap.first);
      MESSAGE("two servers up: ", overlap.servers, " for ", overlap.last - overlap.first, " s, ",
              overlap.rounds, " rounds; ", during(overlap.first));
    }
    MESSAGE("HAProxy with two servers up for writes: ", overlaps.size(), " times, ", rounds, " of ",
            haproxy_.rounds(), " rounds, longest ", longest, " s; longest time between two rounds ",
            haproxy_.longest_gap(), " s");
    return rounds;
  }

  std::size_t report_stale(const std::vector<Row>& rows) const {
    const auto stale = stale_rows(rows);
    std::set<std::pair<std::string, std::string>> takeovers;
    double longest = 0;
    for (const auto& [row, newer] : stale) {
      longest = std::max(longest, row.sent - newer.acknowledged);
      if (!takeovers.emplace(row.timeline, newer.timeline).second) continue;
      MESSAGE("a row sent ", row.sent - newer.acknowledged, " s after ", newer.server,
              " (timeline ", newer.timeline, ") had acknowledged one was taken by ", row.server,
              " (timeline ", row.timeline, "); ", during(row.sent));
    }
    MESSAGE("rows that an old primary took after the new one's first: ", stale.size(), " in ",
            takeovers.size(), " takeovers, the last ", longest, " s after it");
    return stale.size();
  }

  // False: for too long there were no reads, though there was a standby to read from.
  bool report_reads(const std::vector<Read>& reads) const {
    double longest = 0;
    for (const auto& [kind, from, to] : with_reads_) {
      const double gap = longest_gap(reads, from, to);
      if (gap > without_reads_max) MESSAGE("no reads for ", gap, " s: ", kind);
      longest = std::max(longest, gap);
    }
    MESSAGE("longest time without reads while a standby was up and nobody cut off: ", longest,
            " s, in ", with_reads_.size(), " faults");
    return longest <= without_reads_max;
  }

  void report_times() const {
    const auto figure = [](const std::string& what, const std::vector<double>& values) {
      MESSAGE(what, ": median ", percentile(values, 0.5), " s, p95 ", percentile(values, 0.95),
              " s, max ", percentile(values, 1), " s, n ", values.size());
    };
    figure("crashed primary, last 200 to first other answer", crashed_);
    figure("isolated primary, cut to 509", isolated_);
    figure("hung server, pause to other answer", hung_);
    figure("new primary, from a majority of databases and old leases out to 200", taken_over_);
    std::ostringstream table;
    table << std::fixed << std::setprecision(2)
          << "from when the new server takes writes, in seconds\n"
          << "                   to its first 200           to the first row through HAProxy\n"
          << "fault              median    p95    max      median    p95    max      n\n";
    for (const auto& [key, rows] : to_row_) {
      const auto& answers = to_200_.at(key);
      table << std::left << std::setw(17) << key << std::right;
      for (const auto* values : {&answers, &rows}) {
        table << std::setw(8) << percentile(*values, 0.5) << std::setw(7)
              << percentile(*values, 0.95) << std::setw(7) << percentile(*values, 1) << "    ";
      }
      table << std::setw(3) << rows.size() << "\n";
    }
    MESSAGE(table.str());
  }

  // Where the logs of a campaign that failed are kept.
  std::string folder() const {
    namespace fs = std::filesystem;
    const fs::path above =
        fs::is_directory("build") ? fs::path("build") : fs::temp_directory_path();
    return above / ("faults-" + std::to_string(seed_));
  }

  const std::uint64_t seed_;
  std::mt19937_64 random_;
  const Lab lab_;
  const double begun_ = seconds_now();
  const Timing timing_;
  Cluster_Watch watch_;
  Cluster_Members members_;
  Member_Faults member_faults_;
  Cluster_Repair repair_;
  Haproxy_Watch haproxy_;
  std::unique_ptr<Row_Writers> writers_;
  std::unique_ptr<Reader> reader_;
  struct With_Reads {
    std::string kind;
    double from, to;
  };
  std::vector<With_Reads> with_reads_;
  std::vector<const Kind*> chosen_;
  struct Past {
    double begun;
    std::string key;
  };
  std::vector<Past> history_;
  std::map<std::string, int> count_;
  std::optional<std::size_t> rejoined_;  // the last old primary
  std::size_t false_alarms_ = 0;
  double quiet_ = 0;
  std::vector<double> crashed_, isolated_, hung_, taken_over_;
  std::map<std::string, std::vector<double>> to_200_, to_row_;  // of each kind, by its key
  std::string trouble_;
};

const std::vector<Campaign::Kind> Campaign::kinds = {
    {"kill", 4, &Campaign::kill_primary},
    {"stop", 2, &Campaign::stop_primary},
    {"pause", 4, &Campaign::pause_primary},
    {"cut", 4, &Campaign::cut_primary},
    {"link", 2, &Campaign::cut_link},
    {"oneway", 2, &Campaign::cut_one_way},
    {"partition", 2, &Campaign::partition},
    {"promote", 2, &Campaign::promote_by_hand},
    {"standby", 2, &Campaign::kill_standby},
    {"primgr", 4, &Campaign::restart_primgr},
    {"members-alone", 1, &Campaign::change_members<&Member_Faults::alone>},
    {"members-split", 1, &Campaign::change_members<&Member_Faults::split>},
    {"members-gone", 1, &Campaign::change_members<&Member_Faults::gone>},
    {"members-lag", 1, &Campaign::change_members<&Member_Faults::lag>},
    {"members-again", 1, &Campaign::change_members<&Member_Faults::again>},
    {"members-rename", 1, &Campaign::change_members<&Member_Faults::rename>},
    {"members-move", 1, &Campaign::change_members<&Member_Faults::move>},
    {"members-add", 1, &Campaign::change_members<&Member_Faults::add>},
    {"members-mix", 1, &Campaign::change_members<&Member_Faults::mix>},
    {"takeover-cut", 4, &Campaign::take_over_from_cut},
    {"takeover-stop", 4, &Campaign::take_over_from_stopped},
};

}  // namespace

TEST_SUITE_BEGIN("lab");

TEST_CASE("faults: never two primaries, no false alarm, and every time within its bound") {
  if (!lab_possible("faults")) return;
  const std::uint64_t seed = from_environment("FAULT_SEED", 1);
  const int faults = static_cast<int>(from_environment("FAULTS", 8));
  MESSAGE("seed ", seed);
  Campaign campaign(static_cast<int>(from_environment("NODES", 3)), seed);
  campaign.run(faults);
  campaign.quiet(static_cast<double>(from_environment("QUIET", 10)));
  campaign.report();
}

TEST_SUITE_END();
