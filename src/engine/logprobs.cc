#include "engine/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace fathom {

double LogSumExp(std::span<const float> logits) {
  float best = -std::numeric_limits<float>::infinity();
  for (const float logit : logits) {
    if (logit > best) best = logit;  // false for NaN
  }
  if (std::isinf(best)) return best;
  double sum = 0;
  for (const float logit : logits) {
    if (!std::isnan(logit)) sum += std::exp(static_cast<double>(logit - best));
  }
  return best + std::log(sum);
}

std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, int32_t count, double log_sum_exp) {
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::erase_if(ids, [&](TokenId id) { return std::isnan(logits[static_cast<size_t>(id)]); });
  const auto keep = static_cast<std::ptrdiff_t>(std::clamp<size_t>(static_cast<size_t>(std::max(0, count)), 0, ids.size()));
  std::partial_sort(ids.begin(), ids.begin() + keep, ids.end(), [&](TokenId a, TokenId b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  std::vector<TokenLogprob> top;
  for (std::ptrdiff_t i = 0; i < keep; ++i) {
    const TokenId id = ids[static_cast<size_t>(i)];
    top.push_back({id, static_cast<float>(logits[static_cast<size_t>(id)] - log_sum_exp)});
  }
  return top;
}

}  // namespace fathom
