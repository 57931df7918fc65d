// The web page at /.
#include "server/app.h"
#include "server/gunzip.h"
#include "server/web_page.h"

namespace fathom {
namespace {

constexpr char kNoPage[] =
    "fathom is running here.\n"
    "\n"
    "This program was built without the web page. With npm installed, 'npm ci && npm run build' in webui/ and another\n"
    "build put it here. The API is at /v1, for example:\n"
    "\n"
    "  curl http://HOST/v1/chat/completions -H 'Content-Type: application/json' \\\n"
    "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'\n";

Answer HandlePage(App&, const Call& call) {
  const std::string_view asked = call.head->path == "/" ? std::string_view("/index.html") : call.head->path;
  HttpResponse response;
  response.headers = {{"Content-Security-Policy", std::string(kWebPagePolicy)},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cross-Origin-Opener-Policy", "same-origin"},
                      {"X-Frame-Options", "DENY"}};
  for (const Asset& asset : WebPageAssets()) {
    if (asset.path != asked) continue;
    response.content_type = asset.content_type;
    response.headers.emplace_back("Cache-Control",
                                  asset.immutable ? "public, max-age=31536000, immutable" : "no-cache");
    response.body = asset.bytes;
    if (asset.gzip) {
      response.headers.emplace_back("Vary", "Accept-Encoding");
      if (AcceptsGzip(call.head->Header("accept-encoding"))) {
        response.headers.emplace_back("Content-Encoding", "gzip");
      } else if (!Gunzip(asset.bytes, response.body)) {
        return {ErrorResponse(Dialect::kOpenAi, ApiError{500, "The page is damaged.", "", "internal_error"}), nullptr};
      }
    }
    return {std::move(response), nullptr};
  }
  if (asked == "/index.html") {
    response.content_type = "text/plain; charset=utf-8";
    response.body = kNoPage;
    return {std::move(response), nullptr};
  }
  return {ErrorResponse(Dialect::kOpenAi, ApiError{404, "There is no such file.", "", "not_found"}), nullptr};
}

}  // namespace

void AddPageRoutes(std::vector<Route>& routes) {
  const auto add = [&](std::string_view path) {
    routes.push_back({.method = "GET", .pattern = path, .open = true, .handle = HandlePage});
  };
  add("/");
  add("/favicon.ico");  // browsers ask for it whatever the page says; an honest 404 without a key
  for (const Asset& asset : WebPageAssets()) add(asset.path);
}

}  // namespace fathom
