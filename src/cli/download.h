// One file over HTTP, made to survive: resume after broken connections and restarts, retries with back-off, free space
// checked first, SHA-256 checked before the file gets its name.
//
// Blocking; one thread a download. While it goes, the bytes are in DESTINATION.part. A server that cannot resume, or
// whose file has changed (ETag), is read from the start again.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/result.h"

namespace fathom {

struct DownloadRequest {
  std::string url;  // http or https
  std::filesystem::path destination;
  std::string sha256;       // expected; empty: what the server says in X-Linked-Etag, else unverified
  int64_t bytes = -1;       // expected; -1 unknown
  std::string bearer;       // access token, sent to the first host only
  int retries = 5;          // failures in a row without a byte gained
  std::chrono::milliseconds backoff{1000};  // doubles, at most a minute
  std::chrono::seconds stall{60};           // no byte for so long is a failure
};

struct DownloadHooks {
  /// Bytes there and to come (-1 unknown); false stops, the part file stays.
  std::function<bool(int64_t done, int64_t total)> progress;
  /// "connection lost, trying again in 2 s (1 of 5)", "checking", …
  std::function<void(const std::string& what)> notice;
};

struct DownloadResult {
  std::filesystem::path path;
  int64_t bytes = 0;
  std::string sha256;
  bool verified = false;    // the checksum was known and equal
  bool already_there = false;
  int64_t resumed_from = 0; // bytes kept from an earlier run
};

/// Errors: kNotFound (404), kUnsupported (refused: 401, 403), kIo (the network, after all retries), kResource (disk),
/// kCorrupt (checksum or length), kCancelled. The message names the URL.
Result<DownloadResult> Download(const DownloadRequest& request, const DownloadHooks& hooks);

/// A small document, at most `most_bytes`, with the same retries; for a hub's file lists.
Result<std::string> FetchText(const std::string& url, const std::string& bearer, size_t most_bytes, int retries,
                              std::chrono::milliseconds backoff, const std::function<bool()>& go_on);

}  // namespace fathom
