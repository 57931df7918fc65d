#include "format/model_file.h"

#include "format/gguf_model.h"
#include "io/env.h"

namespace fathom {

Result<std::unique_ptr<ModelFile>> ModelFile::Open(const std::string& path) { return Open(path, Env::Default()); }

Result<std::unique_ptr<ModelFile>> ModelFile::Open(const std::string& path, Env& env) {
  if (path.empty()) return Fail(ErrorCode::kInvalidArgument, "no model given");
  if (!env.Exists(path)) return Fail(ErrorCode::kNotFound, "{}: no such file or directory", path);
  return OpenGgufModel(env, path);
}

Result<TokenizerFile> OpenTokenizer(const std::string& path) { return OpenTokenizer(path, Env::Default()); }

Result<TokenizerFile> OpenTokenizer(const std::string& path, Env& env) {
  if (path.empty()) return Fail(ErrorCode::kInvalidArgument, "no tokenizer given");
  if (!env.Exists(path)) return Fail(ErrorCode::kNotFound, "{}: no such file or directory", path);
  FATHOM_TRY(auto source, OpenGgufTokenizer(env, path));
  return TokenizerFile{std::move(source), path};
}

}  // namespace fathom
