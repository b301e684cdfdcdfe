// bare: what cpp-httplib alone can do, for `make bench` to compare primgr with. It answers
// GET /state with a fixed body, under the settings that primgr.cpp's Http_Server has (keep the two
// alike), but for the threads. There are enough from the start: cpp-httplib's growing pool leaves
// some connections of a burst without one, which makes the others faster, and wrk does not tell.
//
//   bare ADDR PORT       serves until it is killed; prints nothing

#define CPPHTTPLIB_LISTEN_BACKLOG 1024
#define CPPHTTPLIB_MAX_LINE_LENGTH 4096
#define CPPHTTPLIB_USE_POLL
#define CPPHTTPLIB_KEEPALIVE_TIMEOUT_CHECK_INTERVAL_USECOND 100000
#include <httplib.h>
#include <signal.h>

#include <cstdlib>

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  signal(SIGPIPE, SIG_IGN);
  httplib::Server server;
  server.new_task_queue = [] { return new httplib::ThreadPool(64); };
  server.set_keep_alive_max_count(100'000);
  server.set_keep_alive_timeout(5);
  server.set_read_timeout(5);
  server.set_write_timeout(5);
  server.set_payload_max_length(1024);
  server.set_tcp_nodelay(true);
  server.set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  server.set_default_headers({{"Cache-Control", "no-store"}});
  server.Get("/state", [](const httplib::Request&, httplib::Response& to) {
    to.set_content(R"({"state":"Primary"})", "application/json");
  });
  return server.listen(argv[1], std::atoi(argv[2])) ? EXIT_SUCCESS : EXIT_FAILURE;
}
