// A browser for tests.

#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "tests/lab.hpp"

using primgr::Json;

// Whether tests with a browser can run. If not, adds the reason to `skipped`.
bool browser_possible(const char* test);

// A headless Chromium. chromedriver controls it by W3C WebDriver. Leaves no files except those in
// build/screenshots/.
class Browser {
 public:
  // `network`: the network namespace to run in. Empty: the current one.
  explicit Browser(const std::string& network = "");
  ~Browser() { end(); }
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  void open(const std::string& url) { command("POST", "/url", {{"url", url}}); }
  std::string title() { return command("GET", "/title").get<std::string>(); }

  // The visible text of each element that a CSS selector finds.
  std::vector<std::string> texts(const std::string& selector);
  std::string text(const std::string& selector);
  // Waits until the visible text of the first element that the selector finds contains `what`.
  void shows(const std::string& selector, const std::string& what);
  // Waits until the page has received the answer to a request that it sent after this call.
  void shows_new_answer();
  // Types into an element. `keys` may contain the key codes of WebDriver.
  void type(const std::string& selector, const std::string& keys);
  Json run(const std::string& script);
  // The new messages on the browser's console: errors and warnings.
  std::string console_messages();
  bool has_dialog();

  // Writes the whole page to build/screenshots/, once as on a desktop in dark mode, and once as on
  // a phone in light mode.
  void screenshot(const std::string& name);
  // Writes the page to build/screenshots/ as it is printed from a desktop in dark mode.
  void print(const std::string& name) { take(name + "-print", 794, 1123, "dark", "print"); }

 private:
  std::optional<In_Namespace> enter() const;
  // Throws std::runtime_error with the error message of WebDriver.
  Json call(const std::string& method, const std::string& path, const Json& body = Json::object());
  Json command(const std::string& method, const std::string& path,
               const Json& body = Json::object());
  std::vector<std::string> find(const std::string& selector);
  Json devtools(const std::string& name, const Json& parameters);
  void take(const std::string& name, int width, int height, const std::string& scheme,
            const std::string& medium = "screen");
  void end();

  const std::string network_;
  std::string home_;
  int port_ = 0;
  pid_t driver_ = -1;
  std::string session_;
};
