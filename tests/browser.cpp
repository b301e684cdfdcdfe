#include "tests/browser.hpp"

#include <doctest/doctest.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/http_client.hpp"
#include "tests/raw_server.hpp"

bool browser_possible(const char* test) {
  if (shell("command -v chromedriver").status == 0) return true;
  skipped.push_back(std::string(test) + ": no chromedriver: install chromium and chromium-driver");
  return false;
}

Browser::Browser(const std::string& network) : network_(network) {
  char made[] = "/tmp/primgr-browser-XXXXXX";
  home_ = mkdtemp(made);
  {
    const auto there = enter();
    port_ = Raw_Server(nullptr).port();  // free
    driver_ = fork();
    if (driver_ == 0) {
      setpgid(0, 0);
      setenv("HOME", home_.c_str(), 1);
      setenv("TMPDIR", home_.c_str(), 1);
      const std::string port = "--port=" + std::to_string(port_);
      execlp("chromedriver", "chromedriver", port.c_str(), "--log-level=OFF", nullptr);
      _exit(127);
    }
  }
  std::string last = "chromedriver does not answer";
  const bool started = eventually(60, [&] {
    try {
      const Json arguments = {"--headless=new", "--no-sandbox", "--disable-gpu",
                              "--disable-dev-shm-usage", "--hide-scrollbars"};
      const Json options = {{"browserName", "chrome"},
                            {"goog:loggingPrefs", {{"browser", "ALL"}}},
                            {"goog:chromeOptions", {{"args", arguments}}}};
      const Json session = call("POST", "/session", {{"capabilities", {{"alwaysMatch", options}}}});
      session_ = "/session/" + session["sessionId"].get<std::string>();
    } catch (const std::runtime_error& error) {
      last = error.what();
    }
    return !session_.empty();
  });
  if (!started) end();
  INFO(last);
  REQUIRE(started);
}

namespace {

// Calls `use` again for as long as the page, which updates itself every second, has replaced an
// element between the search for it and its use.
template <typename Use>
auto with_elements(Use use) {
  for (int tries = 1;; ++tries) {
    try {
      return use();
    } catch (const std::runtime_error& error) {
      const bool stale = std::string(error.what()).find("stale element") != std::string::npos;
      if (!stale || tries == 20) throw;
    }
  }
}

}  // namespace

std::vector<std::string> Browser::texts(const std::string& selector) {
  return with_elements([&] {
    std::vector<std::string> all;
    for (const std::string& element : find(selector)) {
      all.push_back(command("GET", element + "/text").get<std::string>());
    }
    return all;
  });
}

std::string Browser::text(const std::string& selector) {
  const auto all = texts(selector);
  return all.empty() ? "" : all.front();
}

void Browser::shows(const std::string& selector, const std::string& what) {
  std::string last;
  const bool shown =
      eventually(20, [&] { return (last = text(selector)).find(what) != std::string::npos; });
  INFO(selector, " is to show: ", what, "\nbut shows: ", last);
  CHECK(shown);
}

void Browser::shows_new_answer() {
  for (int i = 0; i < 2; ++i) {
    const Json before = run("return live.received");
    CHECK(eventually(20, [&] { return run("return live.received") != before; }));
  }
}

void Browser::type(const std::string& selector, const std::string& keys) {
  with_elements([&] { command("POST", find(selector).at(0) + "/value", {{"text", keys}}); });
}

Json Browser::run(const std::string& script) {
  return command("POST", "/execute/sync", {{"script", script}, {"args", Json::array()}});
}

std::string Browser::console_messages() {
  std::string all;
  for (const Json& line : command("POST", "/se/log", {{"type", "browser"}})) {
    all += line["message"].get<std::string>() + "\n";
  }
  return all;
}

bool Browser::has_dialog() {
  try {
    command("GET", "/alert/text");
    return true;
  } catch (const std::runtime_error&) {
    return false;
  }
}

void Browser::screenshot(const std::string& name) {
  take(name, 1280, 800, "dark");
  take(name + "-phone", 360, 740, "light");
}

std::optional<In_Namespace> Browser::enter() const {
  if (network_.empty()) return std::nullopt;
  return std::optional<In_Namespace>(std::in_place, network_);
}

Json Browser::call(const std::string& method, const std::string& path, const Json& body) {
  const auto there = enter();
  Client client("127.0.0.1", port_, 60s);
  const Response response = client.send(method, path, "Content-Type: application/json\r\n",
                                        method == "POST" ? body.dump() : "");
  if (response.status == 0) throw std::runtime_error("no answer from chromedriver");
  const Json value = Json::parse(response.body, nullptr, false);
  if (response.status != 200) throw std::runtime_error(response.body.substr(0, 1000));
  return value.at("value");
}

Json Browser::command(const std::string& method, const std::string& path, const Json& body) {
  return call(method, session_ + path, body);
}

std::vector<std::string> Browser::find(const std::string& selector) {
  std::vector<std::string> elements;
  for (const Json& found :
       command("POST", "/elements", {{"using", "css selector"}, {"value", selector}})) {
    elements.push_back("/element/" + found.front().get<std::string>());
  }
  return elements;
}

Json Browser::devtools(const std::string& name, const Json& parameters) {
  return command("POST", "/goog/cdp/execute", {{"cmd", name}, {"params", parameters}});
}

void Browser::take(const std::string& name, int width, int height, const std::string& scheme,
                   const std::string& medium) {
  devtools(
      "Emulation.setDeviceMetricsOverride",
      {{"width", width}, {"height", height}, {"deviceScaleFactor", 1}, {"mobile", width < 500}});
  const Json feature = {{"name", "prefers-color-scheme"}, {"value", scheme}};
  devtools("Emulation.setEmulatedMedia", {{"media", medium}, {"features", Json::array({feature})}});
  CHECK(run("return document.documentElement.scrollWidth <= innerWidth") == true);
  const std::string base64 =
      devtools("Page.captureScreenshot", {{"captureBeyondViewport", true}})["data"];
  std::string png(base64.size(), '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(png.data()),
                                   reinterpret_cast<const unsigned char*>(base64.data()),
                                   static_cast<int>(base64.size()));
  REQUIRE(size > 0);
  png.resize(static_cast<std::size_t>(size));
  std::filesystem::create_directories("build/screenshots");
  std::ofstream("build/screenshots/" + name + ".png", std::ios::binary) << png;
}

void Browser::end() {
  if (driver_ <= 0) return;
  try {
    if (!session_.empty()) call("DELETE", session_);
  } catch (const std::runtime_error&) {
  }
  kill(-driver_, SIGKILL);
  waitpid(driver_, nullptr, 0);
  driver_ = -1;
  // A helper of Chromium's may still be ending.
  std::error_code busy;
  eventually(5, [&] { return std::filesystem::remove_all(home_, busy) == 0 && !busy; });
}
