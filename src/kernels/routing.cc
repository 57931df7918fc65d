#include "kernels/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace fathom {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

void Softmax(float* x, int32_t n) {
  const float max = *std::max_element(x, x + n);
  float sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += x[i] = std::exp(x[i] - max);
  for (int32_t i = 0; i < n; ++i) x[i] /= sum;
}

// Sets the scores of experts outside the best topk_group groups to -inf.
void LimitGroups(const RoutingParams& params, float* choice) {
  const int32_t size = params.experts / params.n_group;
  std::vector<float> score(params.n_group);
  for (int32_t g = 0; g < params.n_group; ++g) {
    float best = kMinusInfinity, second = kMinusInfinity;
    for (int32_t e = g * size; e < (g + 1) * size; ++e) {
      if (choice[e] > best) {
        second = best;
        best = choice[e];
      } else if (choice[e] > second) {
        second = choice[e];
      }
    }
    score[g] = params.group_score_top2 && size > 1 ? best + second : best;
  }
  std::vector<int32_t> order(params.n_group);
  for (int32_t g = 0; g < params.n_group; ++g) order[g] = g;
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score[a] > score[b]; });
  for (int32_t i = params.topk_group; i < params.n_group; ++i)
    std::fill_n(choice + order[i] * size, size, kMinusInfinity);
}

}  // namespace

void RouteToken(const RoutingParams& params, float* logits, const float* bias, int32_t* ids, float* weights) {
  const int32_t n = params.experts;
  float* scores = logits;
  if (params.sigmoid) {
    for (int32_t e = 0; e < n; ++e) scores[e] = 1.0f / (1.0f + std::exp(-scores[e]));
  } else {
    Softmax(scores, n);
  }
  thread_local std::vector<float> choice;
  choice.assign(scores, scores + n);
  if (bias != nullptr)
    for (int32_t e = 0; e < n; ++e) choice[e] += bias[e];
  if (params.topk_group < params.n_group) LimitGroups(params, choice.data());

  float sum = 0;
  for (int32_t k = 0; k < params.top_k; ++k) {
    int32_t best = -1;
    for (int32_t e = 0; e < n; ++e)
      if (best < 0 ? !std::isnan(choice[e]) : choice[e] > choice[best]) best = e;
    if (best < 0) best = k;  // all NaN: any choice, so that the caller's indices stay in range
    ids[k] = best;
    weights[k] = scores[best];
    sum += weights[k];
    choice[best] = std::numeric_limits<float>::quiet_NaN();  // taken
  }
  const float scale = params.routed_scaling_factor / (params.norm_topk_prob ? sum + 1e-20f : 1.0f);
  for (int32_t k = 0; k < params.top_k; ++k) weights[k] *= scale;
}

}  // namespace fathom
