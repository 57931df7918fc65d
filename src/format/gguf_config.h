// From GGUF metadata to ModelConfig and TokenizerSource (docs/formats/gguf.md has the table). Pure functions.
#pragma once

#include "base/result.h"
#include "format/gguf.h"
#include "format/model_config.h"
#include "format/model_file.h"

namespace fathom {

/// What the configuration needs to know of the tensors, which may lie in several files.
struct GgufTensorFacts {
  bool has_output = false;             // output.weight: embeddings are not tied
  bool has_correction_bias = false;    // some blk.N.exp_probs_b.bias (or, in some files, without ".bias")
  bool has_attention_bias = false;     // some blk.N.attn_q.bias
  int64_t embedding_rows = 0;          // of token_embd.weight; 0 when absent
  std::vector<float> rope_freqs = {};  // rope_freqs.weight; empty when absent
};

/// Errors: kUnsupported for another architecture or an unknown choice (named), kCorrupt for a missing or wrong key.
/// The result has passed ValidateConfig.
Result<ModelConfig> ConfigFromGguf(const GgufFile& file, const GgufTensorFacts& facts);

/// An empty source (no tokens) when the file has no tokenizer.
Result<TokenizerSource> TokenizerFromGguf(const GgufFile& file);

}  // namespace fathom
