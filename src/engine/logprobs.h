// Natural logarithms of the model's own distribution over the next token: log softmax of raw logits. Pure.
#pragma once

#include <span>
#include <vector>

#include "engine/service.h"

namespace fathom {

/// log of the sum of exp(logit); logits that are not numbers count as impossible.
double LogSumExp(std::span<const float> logits);
/// The `count` likeliest tokens, best first, ties by id.
std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, int32_t count, double log_sum_exp);

}  // namespace fathom
