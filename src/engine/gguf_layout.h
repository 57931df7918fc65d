// Which tensors a GGUF of a model holds: names, shapes and order as llama.cpp's converter writes them
// (conversion/base.py and deepseek.py, gguf-py's tensor_mapping.py, 2026-10; docs/formats/gguf.md). What `synth` and `convert` share.
//
// Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format/model_config.h"

namespace fathom {

enum class GgufLayout {
  kMainline,  // attn_k_b and attn_v_b, as llama.cpp writes today
  kLegacy,    // one attn_kv_b, as files of early 2025 and ik_llama.cpp's have
};

/// What a tensor does, for those who make its values up (synth_tensors.h) or look for them (convert_sources.h).
enum class GgufRole {
  kRopeFactors,   // rope_freqs: computed from the configuration
  kEmbedding,
  kHead,
  kNorm,
  kMatrix,
  kResidual,      // a matrix that writes to the residual stream
  kKeyUp,         // attn_k_b: [heads, kv_lora_rank, qk_nope_head_dim], transposed
  kValueUp,       // attn_v_b: [heads, v_head_dim, kv_lora_rank]
  kRouter,
  kRouterBias,    // exp_probs_b
  kBias,
  kMtp,           // nextn.eh_proj: [hidden, 2 hidden], of the embedding's norm and the hidden state's
  kMtpEmbedding,  // an MTP layer's own embedding and head; only where a file has them
  kMtpHead,
};

struct GgufTensorShape {
  std::string name;
  std::vector<int64_t> shape;  // outermost first, as TensorInfo
  GgufRole role = GgufRole::kMatrix;
  int layer = -1;              // -1 outside layers

  int64_t cols() const { return shape.back(); }
  int64_t rows() const {
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    return rows;
  }
};

struct GgufListOptions {
  GgufLayout layout = GgufLayout::kMainline;
  bool mtp = false;                  // the num_nextn_predict_layers layers after the last one, with their nextn tensors
  bool mtp_embeddings = false;       // each MTP layer has an embedding and a head of its own
};

/// In file order. REQUIRES: ValidateConfig passed.
std::vector<GgufTensorShape> ListGgufTensors(const ModelConfig& config, const GgufListOptions& options);

/// Divisors of the rotary frequencies for Llama 3's scaling (rope_freqs.weight), rope.dim / 2 values.
std::vector<float> Llama3FrequencyFactors(const RopeConfig& rope);

}  // namespace fathom
