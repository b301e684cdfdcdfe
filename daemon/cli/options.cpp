#include "daemon/cli/options.hpp"

#include <getopt.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"

namespace primgr {

const char* const usage =
    R"(usage: primgr [--config FILE] [--listen ADDR:PORT] [--log-level LEVEL] [--log-format FORMAT]
       primgr --once [state|primary|real-primary] [--json]
       primgr --status [--watch] [--json] [--url URL]
       primgr --history [--json] [--url URL]
       primgr --look
       primgr --lost NODE... | --found
       primgr --forget-timeline
       primgr --drain [REASON...] | --undrain
       primgr --check-config
       primgr --version | --help

Says what this node of a repmgr cluster is right now: Primary, Standby, Unknown or Down.
Without --once it serves that over HTTP: /state, /primary, /realPrimary, /cluster and more.

  -c, --config FILE       read FILE instead of /etc/primgr.conf
  -l, --listen ADDR:PORT  serve there instead of where the configuration says
  -L, --log-level LEVEL   error, warning, info or debug
  -F, --log-format FORMAT text or json: a line an event, either way
  -1, --once [WHAT]       print one word, exit; asks the daemon of this host, else looks itself
                            state         0 Primary, 1 Standby, 2 Unknown, 3 Down
                            primary       whom this node's database names: 0 printed, 2 none, 3 Down
                            real-primary  the cluster's one Primary: 0 printed, 2 none or several, 3 Down
  -s, --status            show the cluster as the daemon of this host sees it: 0 exactly one
                            Primary, 2 none or several, 69 no daemon answers
  -H, --history           show when the nodes changed their states, and why, and when a site had
                            no Primary: 0 shown, 69 no daemon answers
  -u, --url URL           with --status, --history: ask http[s]://HOST[:PORT] instead
  -w, --watch             with --status: again every 2 s
  -n, --look              tell the daemon of this host to look at its database now: 0 told, 69 no
                            daemon; for repmgr's event_notification_command, as any user
  -x, --lost NODE...      say that these voters are gone for good, so that this node can become
                            Primary without them. If they live, two nodes take writes then.
                            0 done, 69 one answers, 64 no such voter
  -X, --found             withdraw what --lost said: no voter is declared lost any more. 0 done
  -T, --forget-timeline   let this node vote again for a Primary on an older timeline than that
                            of one that it has voted for: for a cluster that was rebuilt from a
                            backup. On each voter. 0 done, 69 the daemon does not heed it
  -d, --drain [REASON...] take this standby out of the service of reads: /replica, /read-only and
                            the like are 503, also after a restart; it votes as before.
                            0 done, 69 it is Primary, or nothing can be written
  -D, --undrain           take it back in: 0 done
  -j, --json              with --once, --status, --history: print what the HTTP endpoint answers
  -C, --check-config      print the configuration in force, exit
  -V, --version           print the versions of primgr and of what is inside, exit
  -h, --help              print this, exit
)";

namespace {

using Mode = Options::Mode;

struct Option {
  char letter;
  const char* name;
  bool has_value;
  Mode mode;  // the mode that it selects; daemon: it selects none
  // Throws Input_Error. Null: there is nothing to apply.
  void (*apply)(Options& options, const std::string& value);
};

constexpr Option option_table[] = {
    {'c', "config", true, Mode::daemon,
     [](Options& o, const std::string& value) {
       if (value.empty()) throw Input_Error("needs the name of a file");
       o.config_file = value;
     }},
    {'l', "listen", true, Mode::daemon,
     [](Options& o, const std::string& value) {
       parse_address(value, true);
       o.listen = value;
     }},
    {'L', "log-level", true, Mode::daemon,
     [](Options& o, const std::string& value) {
       parse_log_level(value);
       o.log_level = value;
     }},
    {'F', "log-format", true, Mode::daemon,
     [](Options& o, const std::string& value) {
       if (value != "text" && value != "json") throw Input_Error(value + ": text or json");
       o.log_format = value == "json" ? Log_Format::json : Log_Format::text;
     }},
    {'1', "once", false, Mode::once, nullptr},
    {'s', "status", false, Mode::status, nullptr},
    {'H', "history", false, Mode::history, nullptr},
    {'u', "url", true, Mode::daemon,
     [](Options& o, const std::string& value) {
       parse_url(value);
       o.url = value;
     }},
    {'w', "watch", false, Mode::daemon, [](Options& o, const std::string&) { o.watch = true; }},
    {'n', "look", false, Mode::look, nullptr},
    {'x', "lost", false, Mode::lost, nullptr},
    {'X', "found", false, Mode::found, nullptr},
    {'T', "forget-timeline", false, Mode::forget_timeline, nullptr},
    {'d', "drain", false, Mode::drain, nullptr},
    {'D', "undrain", false, Mode::undrain, nullptr},
    {'j', "json", false, Mode::daemon, [](Options& o, const std::string&) { o.json = true; }},
    {'C', "check-config", false, Mode::check_config, nullptr},
    {'V', "version", false, Mode::version, nullptr},
    {'h', "help", false, Mode::help, nullptr}};

std::string mode_name(Mode mode) {
  const auto* option = std::find_if(std::begin(option_table), std::end(option_table),
                                    [&](const Option& o) { return o.mode == mode; });
  return std::string("--") + option->name;
}

void set_mode(Options& options, Mode mode) {
  if (options.mode != Mode::daemon && options.mode != mode) {
    throw Input_Error(mode_name(std::min(options.mode, mode)) + " and " +
                      mode_name(std::max(options.mode, mode)) + " do not go together");
  }
  options.mode = mode;
}

// Applies the option that getopt_long() returned as `letter`.
void apply(Options& options, int letter, char** argv) {
  const std::string found = argv[optind - 1];
  if (letter == ':') throw Input_Error(found + " needs a value");
  const auto* option = std::find_if(std::begin(option_table), std::end(option_table),
                                    [&](const Option& o) { return o.letter == letter; });
  if (option == std::end(option_table)) throw Input_Error("unknown option " + found);
  if (option->mode != Mode::daemon) set_mode(options, option->mode);
  if (!option->apply) return;
  try {
    option->apply(options, option->has_value ? optarg : "");
  } catch (const Input_Error& error) {
    throw Input_Error(std::string("--") + option->name + ": " + error.what());
  }
}

// Throws Input_Error if options that are each valid contradict each other.
void check_combinations(const Options& options) {
  const bool once = options.mode == Mode::once, status = options.mode == Mode::status;
  const bool cluster = status || options.mode == Mode::history;
  if (options.json && !once && !cluster) {
    throw Input_Error("--json goes with --once, --status or --history");
  }
  if (options.mode == Mode::lost && options.lost.empty()) {
    throw Input_Error(
        "--lost needs the names of the nodes that are gone for good; --found withdraws it");
  }
  if (options.watch && !status) throw Input_Error("--watch goes with --status");
  if (!options.url.empty() && !cluster) {
    throw Input_Error("--url goes with --status or --history");
  }
}

}  // namespace

Options parse_options(int argc, char** argv) {
  // With this colon, getopt(3) returns : for a missing value, and ? for an unknown option.
  std::string letters = ":";
  std::vector<option> long_options;
  for (const Option& o : option_table) {
    letters += o.letter;
    if (o.has_value) letters += ':';
    long_options.push_back(
        {o.name, o.has_value ? required_argument : no_argument, nullptr, o.letter});
  }
  long_options.push_back({nullptr, 0, nullptr, 0});

  Options options;
  optind = 0;
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, letters.c_str(), long_options.data(), nullptr)) != -1;) {
    apply(options, c, argv);
  }
  if (options.mode == Mode::once && optind < argc) {
    options.subject = argv[optind++];
    if (options.subject != "state" && options.subject != "primary" &&
        options.subject != "real-primary") {
      throw Input_Error("--once " + options.subject + ": ask for state, primary or real-primary");
    }
  }
  while (options.mode == Mode::lost && optind < argc) options.lost.emplace_back(argv[optind++]);
  while (options.mode == Mode::drain && optind < argc) {
    options.reason += (options.reason.empty() ? "" : " ") + std::string(argv[optind++]);
  }
  if (optind < argc) throw Input_Error(std::string("unexpected argument ") + argv[optind]);
  check_combinations(options);
  return options;
}

Config load_config(const Options& options) {
  const bool asks = options.mode == Options::Mode::once || options.mode == Options::Mode::status ||
                    options.mode == Options::Mode::history;
  Config config = load_config(options.config_file, !asks);
  if (!options.listen.empty()) config.listen = parse_address(options.listen, true);
  // A script needs only the answer. --log-level shows the reasons.
  if (options.mode == Mode::once) config.log_level = Log_Level::error;
  if (!options.log_level.empty()) config.log_level = parse_log_level(options.log_level);
  return config;
}

}  // namespace primgr
