// The page at /, as files that are compiled into the program.
//
// cmake/FathomWebPage.cmake generates a source that defines WebPageAssets() from webui/'s build, adds it to
// fathom_server, and sets FATHOM_HAVE_WEB_PAGE=1 on src/server/web_page.cc alone (set_source_files_properties), so that
// the empty table there steps aside. Without it `/` answers with a short plain page that says how to get the real one.
//
// Immutable, thread-safe; everything lives as long as the program.
#pragma once

#include <span>
#include <string_view>

namespace fathom {

struct Asset {
  std::string_view path;          // as asked for: "/index.html", "/assets/index-1a2b3c4d.js"; `/` gives /index.html
  std::string_view content_type;  // "text/html; charset=utf-8"
  std::string_view bytes;         // the body, gzip-compressed when `gzip` (it is inflated for a client that cannot)
  bool gzip = false;
  bool immutable = false;         // the name carries a hash of the content: may be cached for ever
};

/// Empty when the program was built without the page.
std::span<const Asset> WebPageAssets();

/// What `/` and assets are served with: nothing from elsewhere, no inline script or style, and no string becomes markup
/// (Trusted Types without a single policy: the page builds elements, it never parses HTML). index.html says the same.
inline constexpr std::string_view kWebPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

}  // namespace fathom
