// A Hugging Face style hub: what files a repository has, and where each can be fetched.
//
// The hub's address is a setting (no default stands in the code). Answers from it are hostile until checked: names must
// stay inside the destination folder, sizes must be sane. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

struct HubSettings {
  std::string address;   // "https://hub.example", without a slash at its end
  std::string token;     // HF_TOKEN, may be empty
  std::string revision = "main";
};

/// From --hub, else $FATHOM_HUB, else $HF_ENDPOINT. Errors: kInvalidArgument telling what to set.
Result<HubSettings> FindHub(const std::string& option, const std::string& revision);

struct HubFile {
  std::string path;    // inside the repository
  int64_t bytes = -1;
  std::string sha256;  // of files in large-file storage; else empty
};

/// "owner/name" or "name": letters, digits, '-', '_', '.'; no "..".
bool IsRepositoryName(std::string_view text);
/// A relative path that stays where it is put.
bool IsSafePath(std::string_view path);

/// {address}/{repository}/resolve/{revision}/{path}, percent-encoded.
std::string FileUrl(const HubSettings& hub, const std::string& repository, const std::string& path);
std::string ListUrl(const HubSettings& hub, const std::string& repository);

/// The answer to ListUrl. Errors: kCorrupt naming the entry and the field.
Result<std::vector<HubFile>> ParseFileList(const std::string& url, const std::string& json);
Result<std::vector<HubFile>> ListFiles(const HubSettings& hub, const std::string& repository,
                                       const std::function<bool()>& go_on);

/// Of a repository's files, those that a model directory needs: configs, tokenizer, safetensors with their index.
std::vector<HubFile> DirectoryFiles(const std::vector<HubFile>& files);
/// All parts of a split GGUF when `file` is one of them (…-00001-of-00003.gguf), else `file` alone. Errors: kNotFound.
Result<std::vector<HubFile>> GgufParts(const std::vector<HubFile>& files, const std::string& file);

}  // namespace fathom
