// The HTML page that browsers get.

#pragma once

#include <string>
#include <string_view>

namespace primgr {

// The contents of web/page.html.
extern const std::string_view page;

// The page's Content-Security-Policy: its own style and script, by their hashes, and requests to
// the node that it came from; nothing else.
std::string page_policy();

}  // namespace primgr
