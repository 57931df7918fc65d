// Logits to the next token: penalties, bias, temperature, top-k, top-p, min-p, with a seed.
//
// Order, as llama.cpp's default chain has it: logit bias, penalties, top-k, top-p, min-p, temperature, draw. Greedy
// (temperature 0) takes the largest logit after bias and penalties; ties go to the lowest id. The same seed and logits
// give the same token on every machine. One per stream; not thread-safe.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"

namespace fathom {

struct SamplingParams {
  float temperature = 0.8f;  // 0: greedy; in [0, 100]
  int32_t top_k = 40;        // 0: all
  float top_p = 0.95f;       // in (0, 1]
  float min_p = 0.05f;       // in [0, 1]; relative to the best token's probability
  float repetition_penalty = 1.0f;  // > 0; divides positive logits, multiplies negative ones (CTRL, arXiv 1909.05858)
  float presence_penalty = 0.0f;    // in [-2, 2], OpenAI: subtracted once for tokens already generated
  float frequency_penalty = 0.0f;   // in [-2, 2], OpenAI: subtracted per occurrence
  int32_t penalty_last_n = 64;      // window for penalties, tokens; -1: everything, 0: off
  uint64_t seed = 0;                // 0: from the system's random source
  std::vector<std::pair<TokenId, float>> logit_bias;
};

/// Every field in range; the message names the field (kInvalidArgument).
Status ValidateSampling(const SamplingParams& params, int32_t vocab_size);

class Sampler {
 public:
  /// REQUIRES: ValidateSampling passed.
  explicit Sampler(const SamplingParams& params);
  /// logits are changed in place. history: prompt and generated tokens, for the repetition penalty.
  TokenId Sample(std::span<float> logits, std::span<const TokenId> history);
  uint64_t seed() const { return seed_; }

 private:
  struct Candidate {
    TokenId id;
    float logit;
    float probability;
  };
  SamplingParams params_;
  uint64_t seed_;
  std::mt19937_64 random_;
  std::vector<Candidate> candidates_;
};

}  // namespace fathom
