#include "format/model_file.h"

#include <array>
#include <cstring>

#include "format/gguf_model.h"
#include "format/hf_model.h"
#include "io/env.h"

namespace fathom {
namespace {

// Told by content, not by name: files of the hub's cache and of other programs have no suffix.
Result<bool> LooksLikeGguf(Env& env, const std::string& path) {
  FATHOM_TRY(const auto file, env.OpenForReading(path));
  std::array<std::byte, 4> magic{};
  if (file->size() < static_cast<int64_t>(magic.size())) return false;
  FATHOM_CHECK_OK(ReadExactly(*file, path, 0, magic));
  return std::memcmp(magic.data(), "GGUF", magic.size()) == 0;
}

Status CheckThere(Env& env, const std::string& path, std::string_view what) {
  if (path.empty()) return Fail(ErrorCode::kInvalidArgument, "no {} given", what);
  if (!env.Exists(path)) return Fail(ErrorCode::kNotFound, "{}: no such file or directory", path);
  return {};
}

}  // namespace

Status ModelFile::Read(const TensorInfo& tensor, int64_t offset, std::span<std::byte> out) const {
  std::memcpy(out.data(), tensor.data + offset, out.size());
  return {};
}

Result<std::unique_ptr<ModelFile>> ModelFile::Open(const std::string& path) { return Open(path, Env::Default()); }

Result<std::unique_ptr<ModelFile>> ModelFile::Open(const std::string& path, Env& env) {
  FATHOM_CHECK_OK(CheckThere(env, path, "model"));
  if (env.IsDirectory(path)) return OpenHuggingFaceModel(env, path);
  FATHOM_TRY(const bool gguf, LooksLikeGguf(env, path));
  if (!gguf && (path.ends_with(".safetensors") || path.ends_with(".json"))) {
    return Fail(ErrorCode::kInvalidArgument, "{}: give the directory that holds this file and config.json", path);
  }
  return OpenGgufModel(env, path);
}

Result<TokenizerFile> OpenTokenizer(const std::string& path) { return OpenTokenizer(path, Env::Default()); }

Result<TokenizerFile> OpenTokenizer(const std::string& path, Env& env) {
  FATHOM_CHECK_OK(CheckThere(env, path, "tokenizer"));
  bool gguf = false;
  if (!env.IsDirectory(path)) {
    FATHOM_TRY(gguf, LooksLikeGguf(env, path));
    if (!gguf && path.ends_with(".gguf"))
      return Fail(ErrorCode::kCorrupt, "{}: not a GGUF file (it does not begin with \"GGUF\")", path);
  }
  if (gguf) {
    FATHOM_TRY(auto source, OpenGgufTokenizer(env, path));
    return TokenizerFile{std::move(source), path};
  }
  FATHOM_TRY(auto source, OpenHuggingFaceTokenizer(env, path));
  return TokenizerFile{std::move(source), path};
}

}  // namespace fathom
