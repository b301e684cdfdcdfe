// The page that a browser is shown.

#pragma once

#include <string>
#include <string_view>

namespace primgr {

// web/page.html.
extern const std::string_view page;

// The policy that lets the page's own style and script run, known by their hashes, and reach the
// node that it came from; nothing else.
std::string page_policy();

}  // namespace primgr
