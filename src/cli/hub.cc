#include "cli/hub.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cli/download.h"
#include "cli/sha256.h"

namespace fathom {
namespace {

std::string Encode(std::string_view text, std::string_view keep) {
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x80 && std::isalnum(byte)) || keep.find(c) != std::string_view::npos) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", byte);
    }
  }
  return encoded;
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// Splits "stem-00002-of-00005.gguf"; false for other names.
bool SplitName(const std::string& path, std::string& stem, int& parts) {
  static constexpr size_t kTail = sizeof("-00001-of-00005.gguf") - 1;
  if (path.size() <= kTail || !path.ends_with(".gguf")) return false;
  const std::string_view tail = std::string_view(path).substr(path.size() - kTail);
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-") return false;
  const auto number = [&](size_t at, int& value) {
    const auto [end, error] = std::from_chars(tail.data() + at, tail.data() + at + 5, value);
    return error == std::errc() && end == tail.data() + at + 5;
  };
  int index = 0;
  if (!number(1, index) || !number(10, parts) || parts < 1 || index < 1 || index > parts) return false;
  stem = path.substr(0, path.size() - kTail);
  return true;
}

}  // namespace

Result<HubSettings> FindHub(const std::string& option, const std::string& revision) {
  HubSettings hub;
  hub.address = option;
  if (hub.address.empty()) hub.address = Environment("FATHOM_HUB");
  if (hub.address.empty()) hub.address = Environment("HF_ENDPOINT");
  if (hub.address.empty()) {
    return Fail(ErrorCode::kInvalidArgument,
                "no hub is set, so there is nowhere to get this model from\n"
                "Name your model hub (or a mirror of it) with --hub https://HOST, or put it into FATHOM_HUB or\n"
                "HF_ENDPOINT. fathom has no hub built in: it goes only where you send it.");
  }
  while (hub.address.ends_with('/')) hub.address.pop_back();
  if (!hub.address.starts_with("http://") && !hub.address.starts_with("https://")) {
    return Fail(ErrorCode::kInvalidArgument, "hub {}: must start with https:// or http://", hub.address);
  }
  hub.token = Environment("HF_TOKEN");
  if (!revision.empty()) hub.revision = revision;
  return hub;
}

bool IsRepositoryName(std::string_view text) {
  if (text.empty() || text.size() > 200 || std::count(text.begin(), text.end(), '/') > 1) return false;
  if (!IsSafePath(text)) return false;
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/';
  });
}

bool IsSafePath(std::string_view path) {
  if (path.empty() || path.size() > 1000) return false;
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    const std::string_view piece = path.substr(at, end - at);
    if (piece.empty() || piece == "." || piece == "..") return false;  // also absolute paths
    at = end + 1;
  }
  return std::none_of(path.begin(), path.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '\\'; });
}

std::string FileUrl(const HubSettings& hub, const std::string& repository, const std::string& path) {
  return fmt::format("{}/{}/resolve/{}/{}", hub.address, Encode(repository, "-_./"), Encode(hub.revision, "-_."),
                     Encode(path, "-_./"));
}

std::string ListUrl(const HubSettings& hub, const std::string& repository) {
  return fmt::format("{}/api/models/{}/tree/{}?recursive=true", hub.address, Encode(repository, "-_./"),
                     Encode(hub.revision, "-_."));
}

Result<std::vector<HubFile>> ParseFileList(const std::string& url, const std::string& text) {
  const auto list = nlohmann::json::parse(text, nullptr, false);
  if (!list.is_array()) return Fail(ErrorCode::kCorrupt, "{}: the answer is not a JSON array of files", url);
  std::vector<HubFile> files;
  for (size_t i = 0; i < list.size(); ++i) {
    const auto& entry = list[i];
    if (!entry.is_object()) return Fail(ErrorCode::kCorrupt, "{}: entry {} is not an object", url, i);
    const auto type = entry.find("type");
    if (type != entry.end() && *type == "directory") continue;
    const auto path = entry.find("path");
    if (path == entry.end() || !path->is_string()) return Fail(ErrorCode::kCorrupt, "{}: entry {} has no path", url, i);
    HubFile file;
    file.path = path->get<std::string>();
    if (!IsSafePath(file.path)) return Fail(ErrorCode::kCorrupt, "{}: entry {}: unsafe path", url, i);
    const auto size_of = [&](const nlohmann::json& object) -> int64_t {
      const auto size = object.find("size");
      return size != object.end() && size->is_number_unsigned() && *size <= uint64_t{1} << 50 ? size->get<int64_t>()
                                                                                              : -1;
    };
    file.bytes = size_of(entry);
    if (const auto lfs = entry.find("lfs"); lfs != entry.end() && lfs->is_object()) {
      if (const int64_t bytes = size_of(*lfs); bytes >= 0) file.bytes = bytes;
      if (const auto oid = lfs->find("oid"); oid != lfs->end() && oid->is_string()) {
        file.sha256 = NormalSha256(oid->get_ref<const std::string&>());
      }
    }
    files.push_back(std::move(file));
  }
  return files;
}

Result<std::vector<HubFile>> ListFiles(const HubSettings& hub, const std::string& repository,
                                       const std::function<bool()>& go_on) {
  const std::string url = ListUrl(hub, repository);
  FATHOM_TRY(const std::string text,
             FetchText(url, hub.token, size_t{16} << 20, 4, std::chrono::milliseconds(500), go_on));
  return ParseFileList(url, text);
}

std::vector<HubFile> DirectoryFiles(const std::vector<HubFile>& files) {
  static constexpr std::string_view kNames[] = {
      "config.json",          "generation_config.json",       "tokenizer.json",     "tokenizer_config.json",
      "chat_template.jinja",  "model.safetensors.index.json", "special_tokens_map.json", "LICENSE"};
  std::vector<HubFile> chosen;
  for (const HubFile& file : files) {
    const bool named = std::find(std::begin(kNames), std::end(kNames), file.path) != std::end(kNames);
    const bool weights = file.path.find('/') == std::string::npos && file.path.ends_with(".safetensors");
    if (named || weights) chosen.push_back(file);
  }
  // Small files first: a wrong choice shows before the gigabytes come.
  std::stable_sort(chosen.begin(), chosen.end(), [](const HubFile& a, const HubFile& b) {
    return a.path.ends_with(".safetensors") < b.path.ends_with(".safetensors");
  });
  return chosen;
}

Result<std::vector<HubFile>> GgufParts(const std::vector<HubFile>& files, const std::string& file) {
  const auto find = [&](const std::string& path) {
    return std::find_if(files.begin(), files.end(), [&](const HubFile& f) { return f.path == path; });
  };
  if (find(file) == files.end()) {
    std::vector<std::string> have;
    for (const HubFile& f : files) {
      if (f.path.ends_with(".gguf") && have.size() < 30) have.push_back(f.path);
    }
    return Fail(ErrorCode::kNotFound, "{}: not in the repository\nIts GGUF files: {}", file, fmt::join(have, ", "));
  }
  std::string stem;
  int parts = 0;
  if (!SplitName(file, stem, parts)) return std::vector<HubFile>{*find(file)};
  std::vector<HubFile> all;
  for (int part = 1; part <= parts; ++part) {
    const std::string path = fmt::format("{}-{:05}-of-{:05}.gguf", stem, part, parts);
    const auto it = find(path);
    if (it == files.end())
      return Fail(ErrorCode::kNotFound, "{}: part {} of {} is not in the repository", path, part, parts);
    all.push_back(*it);
  }
  return all;
}

}  // namespace fathom
