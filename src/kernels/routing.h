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

/// Experts that the choice leans to while the weights stay the gate's: each counts as if its logit were
/// strength × (largest − smallest logit of this token) higher. 0: as without; at 1 none of them comes behind one of the
/// others. (Cache-Prior, arXiv 2412.00099, with the token's own range in place of a running mean.)
struct RoutingPreference {
  const uint8_t* preferred = nullptr;  // [experts], 0 or 1; nullptr: nobody
  float strength = 0;                  // >= 0
};

/// logits [experts] of one token; bias [experts] or nullptr (e_score_correction_bias: moves the choice, never the
/// weight). Writes top_k expert ids, best first (lowest id on ties), and their weights. Experts of groups that are not
/// chosen cannot be chosen, whatever their score (-inf, as the authors' code has it). logits are overwritten by the scores,
/// which neither bias nor preference has touched.
void RouteToken(const RoutingParams& params, float* logits, const float* bias, int32_t* ids, float* weights,
                const RoutingPreference& preference = {});

/// Tokens of which so large a share of the experts can be expected to be chosen by somebody, if all experts are equally
/// popular: the least t with 1 − (1 − top_k / experts)^t >= share. REQUIRES: 0 < top_k <= experts, 0 < share < 1.
int64_t TokensThatUse(double share, int32_t experts, int32_t top_k);

}  // namespace fathom
