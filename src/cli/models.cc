#include "cli/models.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <set>
#include <system_error>

namespace fathom {
namespace {

namespace fs = std::filesystem;

constexpr char kFirstModel[] = "smollm2-135m", kEmbeddedModel[] = "fathom-nano";

bool IsModelDirectory(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path / "config.json", ignored) || fs::is_regular_file(path / "tokenizer.json", ignored);
}

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/// The one model that a folder of GGUF files holds: the only file, or the first part of the only split one.
std::optional<fs::path> OnlyGguf(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!EndsWith(name, ".gguf")) continue;
    const bool later_part = name.find("-of-") != std::string::npos && name.find("-00001-of-") == std::string::npos;
    if (!later_part) found.push_back(it->path());
  }
  if (found.size() != 1) return std::nullopt;
  return found.front();
}

std::optional<std::string> FindPulled(const fs::path& folder, const std::string& name) {
  std::error_code ignored;
  const fs::path relative(name);
  // A name is a name, not a way out of the folder.
  if (relative.is_absolute() ||
      std::any_of(relative.begin(), relative.end(), [](const fs::path& p) { return p == ".."; })) {
    return std::nullopt;
  }
  const fs::path path = folder / relative;
  if (fs::path file = path; fs::is_regular_file(file += ".gguf", ignored)) return file.string();
  if (fs::is_regular_file(path, ignored)) return path.string();
  if (fs::is_directory(path, ignored)) {
    if (IsModelDirectory(path)) return path.string();
    if (const auto only = OnlyGguf(path)) return only->string();
  }
  return std::nullopt;
}

}  // namespace

Result<fs::path> ModelsFolder() {
  const char* xdg = std::getenv("XDG_DATA_HOME");
  if (xdg != nullptr && *xdg == '/') return fs::path(xdg) / "fathom" / "models";  // relative values are invalid
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home != '\0') return fs::path(home) / ".local" / "share" / "fathom" / "models";
  return Fail(ErrorCode::kNotFound, "neither XDG_DATA_HOME nor HOME is set, so there is no place for models");
}

std::vector<std::string> PulledModels() {
  std::set<std::string> names;
  const auto folder = ModelsFolder();
  if (!folder) return {};
  std::error_code error;
  fs::recursive_directory_iterator it(*folder, fs::directory_options::skip_permission_denied, error), end;
  for (; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    const fs::path relative = it->path().lexically_relative(*folder);
    if (it->is_directory(ignored)) {
      if (it.depth() >= 3) it.disable_recursion_pending();
      if (IsModelDirectory(it->path())) names.insert(relative.string());
    } else if (EndsWith(relative.string(), ".gguf")) {
      std::string name = relative.string();
      const bool later_part = name.find("-of-") != std::string::npos && name.find("-00001-of-") == std::string::npos;
      if (later_part) continue;
      if (it.depth() == 0) name.resize(name.size() - 5);
      names.insert(name);
    }
  }
  return {names.begin(), names.end()};
}

std::string EmbeddedModel() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const fs::path folder = program.parent_path();
  // build/PRESET/fathom in a source tree; PREFIX/bin/fathom when installed.
  for (const fs::path& models : {folder / "../../models", folder / "../share/fathom/models"}) {
    if (const auto found = OnlyGguf(models / kEmbeddedModel)) return found->lexically_normal().string();
  }
  return {};
}

Result<std::string> ResolveModel(const std::string& name) {
  const auto folder = ModelsFolder();
  if (!name.empty()) {
    std::error_code ignored;
    if (fs::exists(name, ignored)) return name;
    if (folder) {
      if (auto found = FindPulled(*folder, name)) return *found;
    }
    if (name == kEmbeddedModel) {
      if (std::string embedded = EmbeddedModel(); !embedded.empty()) return embedded;
    }
    const auto have = PulledModels();
    return Fail(ErrorCode::kNotFound, "{}: no such file, directory or pulled model\n{}", name,
                have.empty() ? std::string("Nothing was pulled yet; 'fathom pull' shows what there is.")
                             : fmt::format("Pulled models: {}", fmt::join(have, ", ")));
  }
  if (const char* chosen = std::getenv("FATHOM_MODEL"); chosen != nullptr && *chosen != '\0')
    return ResolveModel(chosen);
  if (folder) {
    if (auto found = FindPulled(*folder, kFirstModel)) return *found;
    if (const auto have = PulledModels(); have.size() == 1) {
      if (auto found = FindPulled(*folder, have.front())) return *found;
    } else if (!have.empty()) {
      return Fail(ErrorCode::kInvalidArgument, "which model? Name one with -m\nPulled models: {}",
                  fmt::join(have, ", "));
    }
  }
  if (std::string embedded = EmbeddedModel(); !embedded.empty()) return embedded;
  return Fail(ErrorCode::kNotFound,
              "no model: name one with -m FILE.gguf\nOr get one to begin with: fathom pull {}", kFirstModel);
}

}  // namespace fathom
