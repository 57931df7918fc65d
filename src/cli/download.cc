#include "cli/download.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <mutex>
#include <optional>
#include <thread>

#include "cli/part_file.h"
#include "cli/sha256.h"
#include "cli/terminal.h"

namespace fathom {
namespace {

constexpr int64_t kSpareDisk = int64_t{64} << 20;  // left free beyond the file itself
constexpr int kMostAttempts = 1000;                // a server that drips bytes must end too

void InitCurl() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\r' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

int64_t ParseCount(std::string_view text) {
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 ? value : -1;
}

/// What the last response in a chain of redirects said.
struct Response {
  long status = 0;
  int64_t content_length = -1;
  int64_t range_begin = -1, range_total = -1;
  std::string etag;           // only strong ones
  std::string linked_sha256;  // X-Linked-Etag of any response in the chain: the hub's hash of the file

  void Header(std::string_view line) {
    if (line.starts_with("HTTP/")) {
      const std::string kept = std::move(linked_sha256);
      *this = Response();
      linked_sha256 = kept;
      const size_t space = line.find(' ');
      if (space != std::string_view::npos) status = static_cast<long>(ParseCount(line.substr(space + 1, 3)));
      return;
    }
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    const std::string name = Lower(line.substr(0, colon));
    const std::string_view value = Trim(line.substr(colon + 1));
    if (name == "content-length") {
      content_length = ParseCount(value);
    } else if (name == "etag") {
      if (!value.starts_with("W/")) etag = value;
    } else if (name == "x-linked-etag") {
      std::string_view quoted = value;
      if (quoted.starts_with("W/")) quoted.remove_prefix(2);
      if (quoted.size() > 2 && quoted.front() == '"') quoted = quoted.substr(1, quoted.size() - 2);
      linked_sha256 = NormalSha256(quoted);
    } else if (name == "content-range") {  // "bytes 100-199/200" or "bytes */200"
      std::string_view range = value;
      if (!range.starts_with("bytes ")) return;
      range.remove_prefix(6);
      const size_t slash = range.find('/'), dash = range.find('-');
      if (slash == std::string_view::npos) return;
      range_total = ParseCount(range.substr(slash + 1));
      if (dash < slash) range_begin = ParseCount(range.substr(0, dash));
    }
  }
};

size_t OnHeader(char* data, size_t size, size_t count, void* user) {
  static_cast<Response*>(user)->Header(Trim(std::string_view(data, size * count)));
  return size * count;
}

struct CurlHandle {
  CURL* curl = curl_easy_init();
  curl_slist* headers = nullptr;
  char error[CURL_ERROR_SIZE] = {};
  ~CurlHandle() {
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
  }
};

void SetCommon(CurlHandle& handle, const std::string& url, const std::string& bearer, Response& response,
               std::chrono::seconds stall) {
  CURL* curl = handle.curl;
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, handle.error);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  // From https never down to http; a test or a local mirror may be http throughout.
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, Lower(url).starts_with("https:") ? "https" : "http,https");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(stall.count()));
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "fathom/" FATHOM_VERSION);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, OnHeader);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &response);
  if (!bearer.empty()) {  // curl does not send this on to another host
    curl_easy_setopt(curl, CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
    curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, bearer.c_str());
  }
}

/// Errors that will not be better next time.
std::optional<Error> Permanent(long status, const std::string& url) {
  if (status == 404 || status == 410)
    return Error{ErrorCode::kNotFound, fmt::format("{}: not there (HTTP {})", url, status)};
  if (status == 401 || status == 403) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: refused (HTTP {})\nIf the repository asks for a login, put your access token into "
                             "HF_TOKEN.", url, status)};
  }
  if (status >= 400 && status < 500 && status != 408 && status != 416 && status != 425 && status != 429) {
    return Error{ErrorCode::kIo, fmt::format("{}: HTTP {}", url, status)};
  }
  return std::nullopt;
}

/// Sleeps in small steps while `go_on` says so.
bool Wait(std::chrono::milliseconds time, const std::function<bool()>& go_on) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
    if (go_on && !go_on()) return false;
    std::this_thread::sleep_for(std::min<std::chrono::milliseconds>(time, std::chrono::milliseconds(50)));
  }
  return true;
}

std::chrono::milliseconds Pause(std::chrono::milliseconds backoff, int failures, curl_off_t retry_after) {
  const auto most = std::chrono::milliseconds(60000);
  auto pause = backoff * (1 << std::min(failures - 1, 10));
  if (retry_after > 0) pause = std::max<std::chrono::milliseconds>(pause, std::chrono::seconds(retry_after));
  return std::min<std::chrono::milliseconds>(pause, most);
}

class Downloader {
 public:
  Downloader(const DownloadRequest& request, const DownloadHooks& hooks, PartFile& part)
      : request_(request), hooks_(hooks), part_(part) {}

  Result<DownloadResult> Run() {
    FATHOM_CHECK_OK(PrepareResume());
    result_.resumed_from = part_.size();
    bool resumed = part_.size() > 0;
    for (;;) {
      FATHOM_CHECK_OK(TransferWithRetries());
      const Status checked = Check();
      if (checked) break;
      if (checked.error().code == ErrorCode::kCancelled) return std::unexpected(checked.error());
      if (checked.error().code != ErrorCode::kCorrupt || !resumed) {
        part_.Discard();
        return std::unexpected(checked.error());
      }
      // The bytes that were kept from before may be the wrong ones; one clean try.
      Notice("the resumed file is wrong; starting over");
      resumed = false;
      result_.resumed_from = 0;
      FATHOM_CHECK_OK(part_.Restart());
    }
    FATHOM_CHECK_OK(part_.Commit());
    result_.path = request_.destination;
    result_.bytes = part_.size();
    return result_;
  }

 private:
  enum class Outcome { kDone, kRetry };

  void Notice(const std::string& what) const {
    if (hooks_.notice) hooks_.notice(what);
  }
  bool GoOn(int64_t total) const { return !hooks_.progress || hooks_.progress(part_.size(), total); }

  /// Keeps earlier bytes only when they can be shown to belong to this file: the same URL, and an ETag to ask with or a
  /// checksum to find out by.
  Status PrepareResume() {
    if (part_.size() == 0) return {};
    const PartFile::Note note = part_.ReadNote();
    etag_ = note.url == request_.url ? note.etag : "";
    const bool usable = note.url == request_.url && (!etag_.empty() || !request_.sha256.empty()) &&
                        (request_.bytes < 0 || part_.size() <= request_.bytes);
    return usable ? Status() : part_.Restart();
  }

  Status TransferWithRetries() {
    int failures = 0;
    for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
      const int64_t before = part_.size();
      failure_ = {};
      retry_after_ = 0;
      FATHOM_TRY(const Outcome outcome, Transfer());
      if (outcome == Outcome::kDone) return {};
      failures = part_.size() > before ? 1 : failures + 1;
      if (failures > request_.retries) break;
      const auto pause = Pause(request_.backoff, failures, retry_after_);
      Notice(fmt::format("{}; trying again in {} ({} of {})", failure_,
                         HumanSeconds(std::chrono::duration<double>(pause).count()), failures, request_.retries));
      if (!Wait(pause, [&] { return GoOn(total_); })) return Fail(ErrorCode::kCancelled, "interrupted");
    }
    return Fail(ErrorCode::kIo, "{}: {}\nWhat has come is kept; the same command goes on from there.", request_.url,
                failure_);
  }

  /// The first bytes of a good response: is it what was asked for, and is there room?
  Status Begin() {
    begun_ = true;
    if (response_.status == 206) {
      if (response_.range_begin != part_.size()) {
        restart_ = true;
        return Fail(ErrorCode::kIo, "the server sent another range than asked for");
      }
      total_ = response_.range_total;
    } else {  // 200: the whole file, whatever was asked for
      if (part_.size() > 0) {
        Notice("the server starts from the beginning");
        FATHOM_CHECK_OK(part_.Restart());
        result_.resumed_from = 0;
      }
      total_ = response_.content_length;
    }
    if (total_ < 0) total_ = request_.bytes;
    if (request_.bytes >= 0 && total_ != request_.bytes) {
      return Fail(ErrorCode::kCorrupt, "{}: has {} bytes, {} were expected", request_.url, total_, request_.bytes);
    }
    const int64_t free = FreeDiskSpace(request_.destination.parent_path());
    if (total_ >= 0 && free >= 0 && total_ - part_.size() > free - kSpareDisk) {
      return Fail(ErrorCode::kResource, "{}: needs {} more and only {} are free", request_.destination.string(),
                  HumanBytes(total_ - part_.size()), HumanBytes(free));
    }
    etag_ = response_.etag;
    return part_.WriteNote({request_.url, etag_});
  }

  size_t Write(const char* data, size_t bytes) {
    if (response_.status != 200 && response_.status != 206) return bytes;  // an error page
    if (!begun_) {
      if (Status status = Begin(); !status) {
        stopped_ = std::move(status).error();
        return CURL_WRITEFUNC_ERROR;
      }
    }
    if (total_ >= 0 && part_.size() + static_cast<int64_t>(bytes) > total_) {
      stopped_ =
          Error{ErrorCode::kCorrupt, fmt::format("{}: sends more than the {} bytes it has", request_.url, total_)};
      return CURL_WRITEFUNC_ERROR;
    }
    if (Status status = part_.Append(data, bytes); !status) {
      stopped_ = std::move(status).error();
      return CURL_WRITEFUNC_ERROR;
    }
    return bytes;
  }

  Result<Outcome> Transfer() {
    InitCurl();
    CurlHandle handle;
    if (handle.curl == nullptr) return Fail(ErrorCode::kResource, "libcurl cannot start");
    response_ = Response();
    begun_ = restart_ = false;
    stopped_.reset();
    SetCommon(handle, request_.url, request_.bearer, response_, request_.stall);
    curl_easy_setopt(handle.curl, CURLOPT_WRITEFUNCTION, +[](char* data, size_t size, size_t count, void* user) {
      return static_cast<Downloader*>(user)->Write(data, size * count);
    });
    curl_easy_setopt(handle.curl, CURLOPT_WRITEDATA, this);
    curl_easy_setopt(handle.curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(handle.curl, CURLOPT_XFERINFODATA, this);
    curl_easy_setopt(handle.curl, CURLOPT_XFERINFOFUNCTION,
                     +[](void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) -> int {
                       auto* self = static_cast<Downloader*>(user);
                       return self->GoOn(self->total_) ? 0 : 1;
                     });
    std::string range;
    if (part_.size() > 0) {
      range = fmt::format("{}-", part_.size());
      curl_easy_setopt(handle.curl, CURLOPT_RANGE, range.c_str());
      if (!etag_.empty()) handle.headers = curl_slist_append(handle.headers, ("If-Range: " + etag_).c_str());
      curl_easy_setopt(handle.curl, CURLOPT_HTTPHEADER, handle.headers);
    }
    const CURLcode code = curl_easy_perform(handle.curl);
    curl_easy_getinfo(handle.curl, CURLINFO_RETRY_AFTER, &retry_after_);
    if (!response_.linked_sha256.empty()) linked_sha256_ = response_.linked_sha256;
    return Judge(code, handle.error);
  }

  Result<Outcome> Judge(CURLcode code, const char* words) {
    if (code == CURLE_ABORTED_BY_CALLBACK) return Fail(ErrorCode::kCancelled, "interrupted");
    if (restart_) {
      FATHOM_CHECK_OK(part_.Restart());
      failure_ = stopped_->message;
      return Outcome::kRetry;
    }
    if (stopped_) {
      if (stopped_->code == ErrorCode::kCorrupt) part_.Discard();
      return std::unexpected(*stopped_);
    }
    if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT || code == CURLE_TOO_MANY_REDIRECTS ||
        code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
      return Fail(ErrorCode::kIo, "{}: {}", request_.url, *words != '\0' ? words : curl_easy_strerror(code));
    }
    const long status = response_.status;
    if (auto permanent = Permanent(status, request_.url)) return std::unexpected(*permanent);
    if (status == 416) {  // nothing beyond what we have: whole already, or not this file
      if (response_.range_total == part_.size() && part_.size() > 0) return Outcome::kDone;
      FATHOM_CHECK_OK(part_.Restart());
      failure_ = "the part that was there does not fit the file";
      return Outcome::kRetry;
    }
    if (code != CURLE_OK) {
      failure_ = *words != '\0' ? words : curl_easy_strerror(code);
      return Outcome::kRetry;
    }
    if (status == 200 || status == 206) {
      if (!begun_) FATHOM_CHECK_OK(Begin());  // an empty body
      if (total_ < 0 || part_.size() == total_) return Outcome::kDone;
      failure_ = fmt::format("the connection ended after {} of {} bytes", part_.size(), total_);
      return Outcome::kRetry;
    }
    failure_ = fmt::format("the server answered HTTP {}", status);
    return Outcome::kRetry;
  }

  Status Check() {
    if (request_.bytes >= 0 && part_.size() != request_.bytes) {
      return Fail(ErrorCode::kCorrupt, "{}: {} bytes came, {} were expected", request_.url, part_.size(),
                  request_.bytes);
    }
    Notice("checking");
    FATHOM_TRY(result_.sha256, Sha256OfFile(part_.path(), hooks_.progress));
    const std::string& expected = request_.sha256.empty() ? linked_sha256_ : request_.sha256;
    result_.verified = !expected.empty();
    if (result_.verified && result_.sha256 != expected) {
      return Fail(ErrorCode::kCorrupt, "{}: SHA-256 is {}, {} was expected; the file was removed", request_.url,
                  result_.sha256, expected);
    }
    return {};
  }

  const DownloadRequest& request_;
  const DownloadHooks& hooks_;
  PartFile& part_;
  DownloadResult result_;
  Response response_;
  std::string etag_, linked_sha256_;
  std::string failure_;
  std::optional<Error> stopped_;
  curl_off_t retry_after_ = 0;
  int64_t total_ = -1;
  bool begun_ = false, restart_ = false;
};

}  // namespace

Result<DownloadResult> Download(const DownloadRequest& request, const DownloadHooks& hooks) {
  bool told = false;
  FATHOM_TRY(PartFile part, PartFile::Open(request.destination, [&] {
               if (!told && hooks.notice) hooks.notice("another fathom is getting this file; waiting for it");
               told = true;
               return !hooks.progress || hooks.progress(0, -1);
             }));
  if (part.done()) {
    DownloadResult result;
    result.path = request.destination;
    std::error_code ignored;
    result.bytes = static_cast<int64_t>(std::filesystem::file_size(request.destination, ignored));
    result.already_there = true;
    return result;
  }
  Downloader downloader(request, hooks, part);
  auto result = downloader.Run();
  if (!result && result.error().code != ErrorCode::kCancelled && part.size() == 0)
    part.Discard();  // nothing worth keeping
  return result;
}

Result<std::string> FetchText(const std::string& url, const std::string& bearer, size_t most_bytes, int retries,
                              std::chrono::milliseconds backoff, const std::function<bool()>& go_on) {
  InitCurl();
  std::string failure;
  for (int failures = 0; failures <= retries; ++failures) {
    if (failures > 0 && !Wait(Pause(backoff, failures, 0), go_on)) return Fail(ErrorCode::kCancelled, "interrupted");
    CurlHandle handle;
    if (handle.curl == nullptr) return Fail(ErrorCode::kResource, "libcurl cannot start");
    Response response;
    struct Body {
      std::string text;
      size_t most;
    } body{{}, most_bytes};
    SetCommon(handle, url, bearer, response, std::chrono::seconds(60));
    curl_easy_setopt(
        handle.curl, CURLOPT_WRITEFUNCTION, +[](char* data, size_t size, size_t count, void* user) -> size_t {
          auto* into = static_cast<Body*>(user);
          if (into->text.size() + size * count > into->most) return CURL_WRITEFUNC_ERROR;
          into->text.append(data, size * count);
          return size * count;
        });
    curl_easy_setopt(handle.curl, CURLOPT_WRITEDATA, &body);
    const CURLcode code = curl_easy_perform(handle.curl);
    if (code == CURLE_WRITE_ERROR)
      return Fail(ErrorCode::kCorrupt, "{}: the answer is longer than {} bytes", url, most_bytes);
    if (auto permanent = Permanent(response.status, url)) return std::unexpected(*permanent);
    if (code == CURLE_OK && response.status == 200) return std::move(body.text);
    failure = code != CURLE_OK ? (*handle.error != '\0' ? handle.error : curl_easy_strerror(code))
                               : fmt::format("HTTP {}", response.status);
    if (go_on && !go_on()) return Fail(ErrorCode::kCancelled, "interrupted");
  }
  return Fail(ErrorCode::kIo, "{}: {}", url, failure);
}

}  // namespace fathom
