// The HTML page for browsers.

#pragma once

#include <string>
#include <string_view>

namespace primgr {

// The contents of web/page.html.
extern const std::string_view page;

// The page's Content-Security-Policy. It allows only the page's own style and script, by their
// hashes, and requests to the node that served the page.
std::string page_policy();

}  // namespace primgr
