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

/// What a preferred expert's logit counts more; logits that are not finite prefer nobody.
float BonusOf(const RoutingPreference& preference, const float* logits, int32_t n) {
  if (preference.preferred == nullptr || !(preference.strength > 0)) return 0;
  const auto [least, most] = std::minmax_element(logits, logits + n);
  const float bonus = preference.strength * (*most - *least);
  return std::isfinite(bonus) ? bonus : 0;
}

}  // namespace

void RouteToken(const RoutingParams& params, float* logits, const float* bias, int32_t* ids, float* weights,
                const RoutingPreference& preference) {
  const int32_t n = params.experts;
  const float bonus = BonusOf(preference, logits, n);
  thread_local std::vector<float> choice;
  choice.assign(logits, logits + n);
  float* scores = logits;
  if (params.sigmoid) {
    for (int32_t e = 0; e < n; ++e) scores[e] = 1.0f / (1.0f + std::exp(-scores[e]));
  } else {
    Softmax(scores, n);
  }
  if (bonus > 0) {
    // A softmax with this logit changed has the same order as the old one with this score times e^bonus.
    const float factor = std::exp(std::min(bonus, 80.0f));
    for (int32_t e = 0; e < n; ++e) {
      if (preference.preferred[e] == 0) {
        choice[e] = scores[e];
      } else {
        choice[e] = params.sigmoid ? 1.0f / (1.0f + std::exp(-(choice[e] + bonus))) : scores[e] * factor;
      }
    }
  } else {
    std::copy_n(scores, n, choice.begin());
  }
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

int64_t TokensThatUse(double share, int32_t experts, int32_t top_k) {
  if (top_k >= experts) return 1;
  const double left_out = std::log1p(-static_cast<double>(top_k) / experts);
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(std::log1p(-share) / left_out)));
}

}  // namespace fathom
