// Rotary position tables: which angle each pair of a head turns by at a position, with every scaling rule that the
// families use.
//
// Sources: RoPE (arXiv 2104.09864); YaRN (arXiv 2309.00071) as DeepSeek applies it (modeling_deepseek.py on the hub:
// yarn_get_mscale, yarn_find_correction_range); Llama-3 (transformers modeling_rope_utils.py). Immutable, thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "format/model_config.h"

namespace fathom {

/// 0.1 * mscale * ln(factor) + 1, or 1 when factor <= 1 (DeepSeek's yarn_get_mscale).
float YarnMscale(float factor, float mscale);

class RopeTable {
 public:
  explicit RopeTable(const RopeConfig& config, bool deepseek);

  /// Angular frequency of each pair, dim / 2, scaling applied. YaRN's blend applies at every position, short prompts
  /// included.
  std::span<const float> frequencies() const { return frequencies_; }
  /// Factor on cos and sin: mscale / mscale_all_dim for DeepSeek (1 for the published models), YaRN's attention factor
  /// elsewhere.
  float magnitude() const { return magnitude_; }
  /// Factor on the softmax scale: yarn_get_mscale(factor, mscale_all_dim)² for DeepSeek, else 1.
  float softmax_factor() const { return softmax_factor_; }

  /// cos and sin of one position, dim / 2 each.
  void Fill(int64_t position, float* cos, float* sin) const;

 private:
  std::vector<float> frequencies_;
  float magnitude_ = 1.0f;
  float softmax_factor_ = 1.0f;
};

}  // namespace fathom
