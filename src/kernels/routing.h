// Which experts a token goes to, and with what weight: the gates of DeepSeek-V2 (arXiv 2405.04434 §2.2) and
// DeepSeek-V3 (arXiv 2412.19437 §2.1.2), as their published code computes them.
//
// Pure function, thread-safe.
#pragma once

#include <cstdint>
#include <span>

namespace fathom {

struct RoutingParams {
  int32_t experts = 0;
  int32_t top_k = 0;
  int32_t n_group = 1, topk_group = 1;  // experts is a multiple of n_group; group-limited when topk_group < n_group
  bool sigmoid = false;                 // scores: sigmoid, or softmax over all experts
  bool group_score_top2 = false;        // a group's score: sum of its two best, or its best
  bool norm_topk_prob = false;          // weights divided by their sum + 1e-20
  float routed_scaling_factor = 1.0f;
};

/// logits [experts] of one token; bias [experts] or nullptr (e_score_correction_bias: moves the choice, never the
/// weight). Writes top_k expert ids, best first (lowest id on ties), and their weights. Experts of groups that are not
/// chosen cannot be chosen, whatever their score (-inf, as the authors' code has it). logits are overwritten.
void RouteToken(const RoutingParams& params, float* logits, const float* bias, int32_t* ids, float* weights);

}  // namespace fathom
