#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "kernels/vec_ops.h"

namespace fathom {
namespace {

// top-p and min-p look at no more candidates than this before top-k has said anything: beyond it tokens have no
// noticeable probability, and sorting whole vocabularies costs more than a layer.
constexpr size_t kSortedPrefix = 2048;

Status CheckRange(const char* field, double value, double low, double high) {
  if (value >= low && value <= high) return {};  // false for NaN
  return Fail(ErrorCode::kInvalidArgument, "{} is {}, it must lie in [{}, {}]", field, value, low, high);
}

}  // namespace

Status ValidateSampling(const SamplingParams& params, int32_t vocab_size) {
  FATHOM_CHECK_OK(CheckRange("temperature", params.temperature, 0, 100));
  FATHOM_CHECK_OK(CheckRange("top_k", params.top_k, 0, 1e9));
  FATHOM_CHECK_OK(CheckRange("top_p", params.top_p, 1e-9, 1));
  FATHOM_CHECK_OK(CheckRange("min_p", params.min_p, 0, 1));
  FATHOM_CHECK_OK(CheckRange("repetition_penalty", params.repetition_penalty, 1e-3, 1e3));
  FATHOM_CHECK_OK(CheckRange("presence_penalty", params.presence_penalty, -2, 2));
  FATHOM_CHECK_OK(CheckRange("frequency_penalty", params.frequency_penalty, -2, 2));
  FATHOM_CHECK_OK(CheckRange("penalty_last_n", params.penalty_last_n, -1, 1e9));
  for (const auto& [id, bias] : params.logit_bias) {
    if (id < 0 || id >= vocab_size)
      return Fail(ErrorCode::kInvalidArgument, "logit_bias names token {}, the vocabulary has {}", id, vocab_size);
    if (std::isnan(bias)) return Fail(ErrorCode::kInvalidArgument, "logit_bias of token {} is not a number", id);
  }
  return {};
}

Sampler::Sampler(const SamplingParams& params)
    : params_(params), seed_(params.seed != 0 ? params.seed : (uint64_t{std::random_device{}()} << 32 | std::random_device{}()) | 1),
      random_(seed_) {}

TokenId Sampler::Sample(std::span<float> logits, std::span<const TokenId> history) {
  for (const auto& [id, bias] : params_.logit_bias) logits[id] += bias;

  const bool penalise =
      params_.repetition_penalty != 1 || params_.presence_penalty != 0 || params_.frequency_penalty != 0;
  if (penalise && params_.penalty_last_n != 0) {
    const size_t window =
        params_.penalty_last_n < 0 ? history.size() : std::min<size_t>(history.size(), params_.penalty_last_n);
    std::unordered_map<TokenId, int> counts;
    for (TokenId id : history.last(window)) ++counts[id];
    for (const auto& [id, count] : counts) {
      if (id < 0 || id >= static_cast<TokenId>(logits.size())) continue;
      float& logit = logits[id];
      logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
      logit -= params_.presence_penalty + static_cast<float>(count) * params_.frequency_penalty;
    }
  }
  if (params_.temperature == 0 || params_.top_k == 1)
    return static_cast<TokenId>(ArgMax(logits.data(), static_cast<int64_t>(logits.size())));

  // The best candidates, sorted; ties by id, so that the order does not depend on the sort.
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (!std::isnan(logits[i])) candidates_.push_back({static_cast<TokenId>(i), logits[i], 0});
  if (candidates_.empty()) return 0;
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  const bool truncating = params_.top_k > 0 || params_.top_p < 1 || params_.min_p > 0;
  size_t keep = candidates_.size();
  if (truncating) {
    keep = std::min(keep, params_.top_k > 0 ? static_cast<size_t>(params_.top_k) : kSortedPrefix);
    std::partial_sort(candidates_.begin(), candidates_.begin() + keep, candidates_.end(), better);
  }
  const float best = truncating ? candidates_[0].logit
                                : std::max_element(candidates_.begin(), candidates_.end(), [&](auto& a, auto& b) {
                                    return better(b, a);
                                  })->logit;

  // Probabilities at temperature 1 decide what top-p and min-p keep. Without top-k they are relative to everything.
  const size_t counted = params_.top_k > 0 ? keep : candidates_.size();
  double total = 0;
  for (size_t i = 0; i < counted; ++i) {
    candidates_[i].probability = std::exp(candidates_[i].logit - best);
    total += candidates_[i].probability;
  }
  if (params_.top_p < 1) {
    double sum = 0;
    for (size_t i = 0; i < keep; ++i) {
      sum += candidates_[i].probability;
      if (sum >= params_.top_p * total) {
        keep = i + 1;
        break;
      }
    }
  }
  if (params_.min_p > 0)
    while (keep > 1 && candidates_[keep - 1].probability < params_.min_p) --keep;
  candidates_.resize(keep);

  double sum = 0;
  for (Candidate& candidate : candidates_) {
    candidate.probability = std::exp((candidate.logit - best) / params_.temperature);
    sum += candidate.probability;
  }
  // 53 bits from the generator by hand: std::uniform_real_distribution differs between standard libraries.
  double draw = static_cast<double>(random_() >> 11) * 0x1p-53 * sum;
  for (const Candidate& candidate : candidates_) {
    draw -= candidate.probability;
    if (draw < 0) return candidate.id;
  }
  return candidates_.back().id;
}

}  // namespace fathom
