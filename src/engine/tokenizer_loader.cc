#include "engine/tokenizer_loader.h"

namespace fathom {

TokenizerSpec SpecOf(const TokenizerSource& source) {
  TokenizerSpec spec;
  spec.tokenizer_json = source.tokenizer_json;
  spec.tokenizer_config_json = source.tokenizer_config_json;
  spec.generation_config_json = source.generation_config_json;
  spec.ggml_model = source.ggml_model;
  spec.ggml_pre = source.ggml_pre;
  spec.tokens = source.tokens;
  spec.token_types = source.token_types;
  spec.merges = source.merges;
  spec.bos_id = source.bos_id;
  spec.eos_id = source.eos_id;
  spec.pad_id = source.pad_id;
  spec.unk_id = source.unk_id;
  spec.eot_id = source.eot_id;
  spec.eog_ids = source.eog_ids;
  spec.add_bos = source.add_bos;
  spec.add_eos = source.add_eos;
  return spec;
}

Result<std::unique_ptr<Tokenizer>> LoadTokenizer(const TokenizerSource& source) {
  if (source.tokenizer_json.empty() && source.tokens.empty()) {
    return Fail(ErrorCode::kNotFound, "no vocabulary: neither tokenizer.json nor tokenizer.ggml.tokens");
  }
  return Tokenizer::Create(SpecOf(source));
}

Result<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path) {
  FATHOM_TRY(const TokenizerFile file, OpenTokenizer(path));
  auto tokenizer = LoadTokenizer(file.source);
  if (!tokenizer) return Prefix(tokenizer.error(), file.path.empty() ? path : file.path);
  return tokenizer;
}

}  // namespace fathom
