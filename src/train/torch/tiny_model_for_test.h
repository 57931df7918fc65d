// Models of a few thousand parameters and batches for them, for the trainer's tests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "train/torch/module.h"

namespace fathom::train {

/// V3 in every part: q_lora, a dense layer, groups of experts, a shared expert, one MTP layer.
inline ModelConfig TinyConfig() {
  ModelConfig c;
  c.family = ArchFamily::kDeepseek2;
  c.architecture = "DeepseekV3ForCausalLM";
  c.vocab_size = 29;
  c.hidden_size = 16;
  c.intermediate_size = 20;
  c.num_hidden_layers = 2;
  c.num_nextn_predict_layers = 1;
  c.num_attention_heads = 2;
  c.max_position_embeddings = 64;
  c.rope.dim = 4;
  c.rope.layout = RopeLayout::kInterleaved;
  c.mla = {.q_lora_rank = 10, .kv_lora_rank = 9, .qk_nope_head_dim = 6, .qk_rope_head_dim = 4, .v_head_dim = 7};
  c.moe = {.n_routed_experts = 8, .num_experts_per_tok = 3, .n_shared_experts = 1, .moe_intermediate_size = 6,
           .first_k_dense_replace = 1, .n_group = 4, .topk_group = 2, .scoring_func = GatingFunction::kSigmoid,
           .norm_topk_prob = true, .routed_scaling_factor = 2.5f, .group_score_top2 = true,
           .has_correction_bias = true};
  return c;
}

/// Documents of the given lengths end to end, then padding; targets are the next tokens, some of them uncounted.
inline Batch TinyBatch(const std::vector<int64_t>& lengths, int64_t padding, int32_t vocab, uint32_t seed) {
  Batch batch;
  const auto draw = [&] {
    seed = seed * 1664525u + 1013904223u;
    return static_cast<int32_t>((seed >> 8) % static_cast<uint32_t>(vocab));
  };
  for (const int64_t length : lengths) {
    batch.doc_begin.push_back(static_cast<int64_t>(batch.tokens.size()));
    int32_t token = draw();
    for (int64_t i = 0; i < length; ++i) {
      batch.tokens.push_back(token);
      token = draw();
      batch.targets.push_back(i % 5 == 3 ? kNoTarget : token);
      batch.positions.push_back(static_cast<int32_t>(i));
    }
  }
  if (padding > 0) batch.doc_begin.push_back(static_cast<int64_t>(batch.tokens.size()));
  for (int64_t i = 0; i < padding; ++i) {
    batch.tokens.push_back(0);
    batch.targets.push_back(kNoTarget);
    batch.positions.push_back(static_cast<int32_t>(i));
  }
  batch.doc_begin.push_back(static_cast<int64_t>(batch.tokens.size()));
  batch.padding = padding;
  return batch;
}

/// A model and the single rank it lives on.
struct TinyModel {
  explicit TinyModel(const ModelConfig& config = TinyConfig(), at::ScalarType compute = at::kFloat,
                     const LossSpec& loss = {}, bool checkpointed = false, uint64_t seed = 3)
      : ranks(MakeSingleRank()), model(config, loss, seed, at::Device("cpu"), compute, checkpointed, *ranks) {}

  Parameter& Find(const std::string& name) {
    for (Parameter& parameter : model.parameters()) {
      if (parameter.name == name) return parameter;
    }
    throw std::out_of_range(name);
  }

  std::unique_ptr<Ranks> ranks;
  TrainModel model;
};

}  // namespace fathom::train
