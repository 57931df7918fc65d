// A model's weights, found by name in an opened file and checked for shape: what the forward pass multiplies with.
//
// Matrices are views into the file's mapping; only what cannot be used in place is made at load (the transposed key
// up-projection of files that store kv_b, norms and biases as f32) and counted in derived_bytes. The ModelFile must
// outlive the weights. Immutable after loading, thread-safe.
#pragma once

#include <memory>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "format/model_file.h"
#include "tensor/view.h"

namespace fathom {

struct FeedForwardWeights {
  WeightView gate, up;  // [intermediate, hidden]
  WeightView down;      // [hidden, intermediate]
};

struct LayerWeights {
  std::vector<float> attn_norm, ffn_norm;  // [hidden]

  // MLA. Queries are either q, or q_b * norm(q_a x).
  WeightView q;                               // [heads * (nope + rope), hidden]
  WeightView q_a, q_b;                        // [q_lora, hidden], [heads * (nope + rope), q_lora]
  WeightView kv_a;                            // [kv_lora + rope, hidden]
  std::vector<float> q_a_norm, kv_a_norm;     // [q_lora], [kv_lora]
  std::vector<WeightView> k_b;                // per head W_UK transposed: [kv_lora, nope]
  std::vector<WeightView> v_b;                // per head W_UV: [v, kv_lora]
  WeightView o;                               // [hidden, heads * v]

  // GQA (q and o as above, with head_dim).
  WeightView k, v;                            // [kv_heads * head_dim, hidden]
  std::vector<float> q_bias, k_bias, v_bias;  // empty when the model has none

  FeedForwardWeights dense;                   // dense layers
  WeightView router;                          // [experts, hidden]
  std::vector<float> router_bias;             // [experts] or empty
  std::vector<FeedForwardWeights> experts;
  FeedForwardWeights shared;                  // all shared experts side by side; empty when there are none
};

struct ModelWeights {
  WeightView embedding;              // [vocab, hidden]
  WeightView head;                   // [vocab, hidden]; the embedding when tied
  std::vector<float> output_norm;    // [hidden]
  std::vector<LayerWeights> layers;

  std::vector<AlignedBuffer> derived;
  int64_t derived_bytes = 0;
};

/// The layer behind the last one that predicts one token further (DeepSeek-V3, arXiv 2412.19437, §2.2).
struct MtpWeights {
  WeightView eh_proj;                     // [hidden, 2 hidden]: of the token's embedding, then of the hidden state before it
  std::vector<float> enorm, hnorm, norm;  // [hidden]: of the two halves, and before the head
  LayerWeights layer;
  WeightView embedding, head;             // its own where the file has them, else the model's

  std::vector<AlignedBuffer> derived;
  int64_t derived_bytes = 0;
};

/// Errors: kCorrupt (a tensor is missing or has the wrong shape; both are named), kUnsupported (a type that cannot be
/// multiplied with), kResource.
Result<ModelWeights> LoadWeights(const ModelFile& file, ThreadPool& pool);

/// The first MTP layer. `main`: the same file's weights. Errors: kNotFound when there is none, else as LoadWeights.
Result<MtpWeights> LoadMtpWeights(const ModelFile& file, const ModelWeights& main, ThreadPool& pool);

}  // namespace fathom
