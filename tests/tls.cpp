#include <doctest/doctest.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <memory>
#include <set>
#include <thread>

#include "tests/asker.hpp"
#include "tests/certificates.hpp"
#include "tests/served.hpp"

using namespace primgr;

namespace {

// The TLS settings of a client that verifies nothing.
using Context = std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)>;
Context make_context() {
  return {SSL_CTX_new(TLS_client_method()), SSL_CTX_free};
}

}  // namespace

TEST_SUITE_BEGIN("tls");

TEST_CASE(
    "TLS: peers verify each other by tls_ca; a client without such a certificate is refused") {
  const Certificates certificates;
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world, certificates.config("node"));
  std::string why;
  const auto ask = [&](const Config& as, const std::string& host = "127.0.0.1") {
    Asker asker;
    asker.config = as;
    return http_node_reports_primary(asker.ask({host, served.port}, 10s), why);
  };
  CHECK(ask(certificates.config("node")) == "n1");
  CHECK(ask(certificates.config("node"), "localhost") == "n1");
  CHECK(ask(certificates.config("elsewhere")) == "n1");  // a client's name does not matter
  CHECK_FALSE(ask(certificates.config("stranger")));
  CHECK_FALSE(ask(Config()));  // plain HTTP
  Config trusting_another = certificates.config("node");
  trusting_another.tls.ca = certificates.folder + "/other-ca.crt";
  CHECK_FALSE(ask(trusting_another));
  CHECK(why.find("tls_ca") != std::string::npos);
  // No certificate at all.
  const Context nobody = make_context();
  CHECK(Client("127.0.0.1", served.port, 20s, nobody.get()).get("/state").status == 0);
  // A server's certificate has to be for the host that was asked.
  const Served impostor(world, certificates.config("elsewhere"));
  Asker asker;
  asker.config = certificates.config("node");
  CHECK_FALSE(http_node_reports_primary(asker.ask({"127.0.0.1", impostor.port}, 10s), why));
  CHECK(why.find("another host") != std::string::npos);
}

TEST_CASE("TLS without tls_ca: any client, no peer is verified; nothing below TLS 1.2") {
  const Certificates certificates;
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  const Served served(world, certificates.config("node", false));
  const Context verifying = make_context();
  REQUIRE(SSL_CTX_load_verify_file(verifying.get(), (certificates.folder + "/ca.crt").c_str()));
  SSL_CTX_set_verify(verifying.get(), SSL_VERIFY_PEER, nullptr);
  REQUIRE(X509_VERIFY_PARAM_set1_ip_asc(SSL_CTX_get0_param(verifying.get()), "127.0.0.1"));
  CHECK(Client("127.0.0.1", served.port, 20s, verifying.get()).get("/state").status == 202);
  Asker asker;
  asker.config = certificates.config("stranger", false);
  CHECK(asker.ask({"127.0.0.1", served.port}, 10s).status == 200);
  const Context old = make_context();
  SSL_CTX_set_security_level(old.get(), 0);
  REQUIRE(SSL_CTX_set_max_proto_version(old.get(), TLS1_1_VERSION));
  CHECK(Client("127.0.0.1", served.port, 20s, old.get()).get("/state").status == 0);
}

TEST_CASE(
    "TLS: files that change are read again; a key of another certificate leaves the old ones in "
    "use") {
  const Certificates certificates;
  World world(World::named("n2"));
  world.look(make_facts(make_site(3), true));
  Served served(world, certificates.config("node", false));
  const auto shown = [&] {
    const Context context = make_context();
    Client client("127.0.0.1", served.port, 20s, context.get());
    CHECK(client.get("/state").status == 202);
    char name[64] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(client.certificate()), NID_commonName, name,
                              sizeof name);
    return std::string(name);
  };
  CHECK(shown() == "node");
  served.tls.reload(false);
  certificates.sh("cp elsewhere.crt node.crt");
  served.tls.reload(false);
  CHECK(shown() == "node");
  certificates.sh("cp elsewhere.key node.key");
  served.tls.reload(false);
  CHECK(shown() == "elsewhere");
}

namespace {

// A node that asks itself over TLS, with one set of files for both directions.
struct Both_Ways {
  explicit Both_Ways(const Config& config)
      : world(World::named("n2")),
        served(world, config),
        client(cpp_httplib().make_client(served.config.peers, resolver, served.tls)) {
    world.look(make_facts(make_site(3), true));
    served.config.peers.port = served.port;
    client->use_addresses(served.config.peers);
  }
  Http_Reply ask(const std::string& host = "127.0.0.1", const std::string& hostaddr = "") {
    Node peer = make_node(1, "peer");
    peer.host = host;
    peer.hostaddr = hostaddr;
    std::promise<Http_Reply> reply;
    client->get(peer, "/primary", 20s, [&](Http_Reply r) { reply.set_value(std::move(r)); });
    return reply.get_future().get();
  }
  World world;
  Served served;
  Resolver resolver;
  std::unique_ptr<Http_Client> client;
};

}  // namespace

namespace {

// The files that a node uses, in a folder of their own, each of which a test may replace.
struct Used_Files {
  Used_Files() {
    certificates.sh("mkdir used");
    use("node.crt", "node.key", "ca.crt");
  }
  void use(const std::string& cert, const std::string& key, const std::string& ca) const {
    certificates.sh("rm -rf used/*; cp " + cert + " used/crt; cp " + key + " used/key; cp " + ca +
                    " used/ca");
  }
  Config config() const {
    Config made;
    made.tls.cert = certificates.folder + "/used/crt";
    made.tls.key = certificates.folder + "/used/key";
    made.tls.ca = certificates.folder + "/used/ca";
    return made;
  }
  const Certificates certificates;
};

// Asks again and again while this lives. Each question has to be answered.
class Asking {
 public:
  explicit Asking(Both_Ways& both)
      : thread_([&] {
          while (!ending_) {
            if (const Http_Reply reply = both.ask(); reply.status != 200) {
              failures_.insert(reply.error);
            }
          }
        }) {}
  ~Asking() {
    ending_ = true;
    thread_.join();
    for (const std::string& failure : failures_) FAIL_CHECK(failure);
  }

 private:
  std::atomic<bool> ending_ = false;
  std::set<std::string> failures_;  // the thread's, then the destructor's
  std::thread thread_;
};

// Files that do not match, or cannot be read, made from those that do.
const char* const mismatches[] = {
    "cp elsewhere.crt used/crt",
    "cp elsewhere.key used/key",
    "cp stranger.crt used/crt",
    "rm used/ca",
    "rm used/crt",
    "rm used/key",
    "rm used/*",
    ": >used/ca",
    ": >used/crt",
    ": >used/key",
    "cp node.key used/ca",
    "cp node.crt used/key",
    "head -c 300 node.crt >used/crt",
    "head -c 150 node.key >used/key",
    "head -c 300 ca.crt >used/ca",
    "head -c -40 chain.crt >used/crt",
    "head -c -40 ca2.crt >used/ca",
    "rm used/ca; mkfifo used/ca",
    "rm used/key; mkdir used/key",
    "cp other-ca.crt used/ca",
    "cp stranger.crt used/crt; cp stranger.key used/key",
    "cp expired.crt used/crt; cp expired.key used/key",
};

}  // namespace

TEST_CASE("TLS: files that do not match are used in neither direction, files that match in both") {
  const Used_Files files;
  const Certificates& certificates = files.certificates;
  Both_Ways both(files.config());
  REQUIRE(both.ask().status == 200);
  const auto in_use = both.served.tls.context();
  certificates.sh("cat node.crt ca.crt >chain.crt; cat ca.crt ca.crt >ca2.crt");
  certificates.sign("expired", "ca", "IP:127.0.0.1", 0);
  {
    const Asking meanwhile(both);
    for (const char* change : mismatches) {
      CAPTURE(change);
      files.use("node.crt", "node.key", "ca.crt");
      certificates.sh(change);
      for (const bool reload : {false, true}) {
        both.served.tls.reload(reload);
        const Http_Reply reply = both.ask();
        CAPTURE(reply.error);
        CHECK(reply.status == 200);
        CHECK(both.served.tls.context() == in_use);
      }
    }
  }

  // All files are of another authority now: in both directions, or the question would fail.
  files.use("stranger.crt", "stranger.key", "other-ca.crt");
  both.served.tls.reload(false);
  const Http_Reply reply = both.ask();
  CAPTURE(reply.error);
  CHECK(reply.status == 200);
  Asker old;
  old.config = certificates.config("node");
  CHECK(old.ask({"127.0.0.1", both.served.port}, 20s).error.find("not signed by tls_ca") !=
        std::string::npos);
}

TEST_CASE("TLS: intermediate certificates are sent in both directions") {
  const Certificates certificates;
  certificates.sh(
      "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=between"
      " -addext basicConstraints=critical,CA:TRUE -keyout between.key -out between.csr");
  certificates.sh(
      "openssl x509 -req -days 9 -copy_extensions copy -in between.csr -CA ca.crt"
      " -CAkey ca.key -CAcreateserial -out between.crt");
  certificates.sign("leaf", "between", "IP:127.0.0.1");
  certificates.sh("cat leaf.crt between.crt >chained.crt; cp leaf.key chained.key");
  Both_Ways chained(certificates.config("chained"));
  const Http_Reply reply = chained.ask();
  CAPTURE(reply.error);
  CHECK(reply.status == 200);
  // Who does not send it is not trusted: as a server, and as a client.
  Both_Ways alone(certificates.config("leaf"));
  CHECK(alone.ask().error.find("not signed by tls_ca") != std::string::npos);
  Asker asker;
  asker.config = certificates.config("leaf");
  CHECK(asker.ask({"127.0.0.1", chained.served.port}, 20s).status == 0);
}

TEST_CASE("TLS: a node is asked at its hostaddr, and shows a certificate for its host") {
  const Certificates certificates;
  Both_Ways both(certificates.config("elsewhere"));
  const Http_Reply reply = both.ask("elsewhere.example", "127.0.0.1");
  CAPTURE(reply.error);
  CHECK(reply.status == 200);
  const std::string another = "its certificate is for another host";
  CHECK(both.ask("another.example", "127.0.0.1").error == another);
  CHECK(both.ask("127.0.0.1").error == another);
  // peer.<name> stands for both.
  both.served.config.peers.by_name["peer"] = {"127.0.0.1", both.served.port};
  both.client->use_addresses(both.served.config.peers);
  CHECK(both.ask("elsewhere.example", "127.0.0.1").error == another);
}

TEST_CASE("TLS: the system's authorities are not trusted where tls_ca is set") {
  const Certificates certificates;
  // OpenSSL's own place for them.
  setenv("SSL_CERT_FILE", (certificates.folder + "/other-ca.crt").c_str(), 1);
  World world(World::named("n2"));
  const Served impostor(world, certificates.config("stranger", false));
  Asker asker;
  asker.config = certificates.config("node");
  CHECK(asker.ask({"127.0.0.1", impostor.port}, 20s).error.find("not signed by tls_ca") !=
        std::string::npos);
  unsetenv("SSL_CERT_FILE");
}

TEST_CASE("TLS: files that cannot be used are named") {
  const Certificates certificates;
  const Stderr_Log log(Log_Level::none);
  const auto error_with = [&](const Config& config) {
    return error_of([&] { const Tls tls(config.tls, log); });
  };
  Config config = certificates.config("node");
  config.tls.cert = "/nonexistent";
  CHECK(error_with(config).find("tls_cert: ") == 0);
  config = certificates.config("node");
  config.tls.key = certificates.folder + "/stranger.key";
  CHECK(error_with(config).find("tls_key: " + config.tls.key +
                                " is not the key of the certificate in " + config.tls.cert) == 0);
  certificates.sh("openssl ec -in node.key -aes128 -passout pass:x -out locked.key");
  config.tls.key = certificates.folder + "/locked.key";
  CHECK(error_with(config).find("passphrase") != std::string::npos);
  config = certificates.config("node");
  config.tls.ca = certificates.folder + "/node.key";
  CHECK(error_with(config).find("tls_ca: cannot read a certificate from ") == 0);
  config = certificates.config("node");
  config.tls.key = certificates.folder + "/fifo";
  REQUIRE(mkfifo(config.tls.key.c_str(), 0600) == 0);
  CHECK(error_with(config) == "tls_key: " + config.tls.key + ": not a regular file");
  CHECK(error_of([] { parse_config("tls_cert = /x\n", "f"); }) ==
        "f:1: tls_cert and tls_key go together: set tls_key too");
  CHECK(error_of([] { parse_config("\ntls_ca = /x\n", "f"); }).find("f:2: tls_ca goes with") == 0);
}

TEST_SUITE_END();
