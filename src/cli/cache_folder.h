// A cache folder as `fathom cache` opens it: without an engine, on nothing but a model's headers, while no server runs.
//
// One thread.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cache/kv_cache.h"
#include "format/model_file.h"
#include "text/tokenizer.h"

namespace fathom {

struct CacheFolderOptions {
  std::string directory;  // empty: $XDG_CACHE_HOME/fathom/kv, where `fathom serve --cache-disk` has it
  std::string model;
  std::string kv_type = "auto";  // auto: the one of which there are blocks
  std::string key_file;
  std::string tenant;
  bool json = false;
};

/// --cache-dir, -m, --kv-type, --cache-key-file, --tenant, --json.
void AddCacheFolderOptions(CLI::App& command, CacheFolderOptions& options);

/// What a folder holds of one space, seen without opening it.
struct SpaceListing {
  std::string digest;  // 32 hex digits, the folder's name
  int64_t files = 0, bytes = 0;
};

/// $XDG_CACHE_HOME/fathom/kv, ~/.cache/fathom/kv; empty when neither variable is set.
std::string DefaultCacheFolder();
/// The folder that is meant. Errors: kNotFound when it is not there, or is not a cache's.
Result<std::string> FindCacheFolder(const CacheFolderOptions& options);
/// Sorted by digest. Needs no lock. Errors: kIo.
Result<std::vector<SpaceListing>> ListSpaces(const std::string& directory);

struct CacheFolder {
  std::string directory;
  std::unique_ptr<ModelFile> model;
  KvSpace space;
  std::unique_ptr<KvPool> pool;
  std::unique_ptr<KvCache> cache;  // dies before the pool
};

/// Opens the folder for a model. disk_bytes: a new size, 0: leave it as large as it is. ttl_seconds 0: none. Errors:
/// kNotFound (no folder, no blocks of this model), kInvalidArgument (blocks of several element types and none named),
/// kResource when a server holds it (the message says what to do), and those of the cache.
Result<CacheFolder> OpenCacheFolder(const CacheFolderOptions& options, int64_t disk_bytes = 0, int64_t ttl_seconds = 0);

/// A prompt as somebody names it.
struct PromptWords {
  std::string text, file, messages;
  bool has_text = false;
  std::vector<int32_t> tokens;
};

/// TEXT, -f, --messages, --tokens.
void AddPromptWords(CLI::App& command, PromptWords& words);
/// Exactly one of them as token ids, as the server makes them. Errors: kInvalidArgument, kUnsupported without a usable
/// tokenizer, and those of reading the file.
Result<std::vector<int32_t>> ReadPromptWords(const ModelFile& model, const PromptWords& words);

}  // namespace fathom
