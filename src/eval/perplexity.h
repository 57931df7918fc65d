// How surprised a model is by a text: exp of the mean negative log likelihood of its tokens.
//
// Chunked windows are llama.cpp's (tools/perplexity): the text is cut into windows of `window` tokens, the first of
// each replaced by BOS where the model has one, and only the second half is scored, so that every scored token has
// context. With a stride, windows slide by it and each scores the tokens that the window before did not reach (the way
// of the Hugging Face documentation). Not thread-safe.
#pragma once

#include <functional>
#include <span>

#include "base/result.h"
#include "engine/engine.h"

namespace fathom {

/// Logits that are held at once: at most so many floats (256 MiB).
inline constexpr int64_t kPerplexityLogits = int64_t{64} << 20;

struct PerplexityParams {
  int32_t window = 512;
  int32_t stride = 0;  // 0: chunked
  int64_t max_windows = -1;
  TokenId bos = -1;  // replaces the first token of a chunk; -1: the text's own token stays
};

struct PerplexityResult {
  double perplexity = 0;
  double standard_error = 0;  // of the perplexity, by the delta method, as llama.cpp prints it
  double mean_nll = 0;        // nats a token
  int64_t scored_tokens = 0;
  int64_t windows = 0;
};

/// Windows that a text of `tokens` gives.
int64_t CountWindows(int64_t tokens, const PerplexityParams& params);

/// kInvalidArgument when the parameters make no sense or the text is shorter than a window.
Status CheckPerplexityParams(int64_t tokens, const PerplexityParams& params);

/// -log softmax(logits)[target], in double.
double NegativeLogLikelihood(std::span<const float> logits, TokenId target);

/// After each window `progress` is told windows done and to do and the value so far; false stops (kCancelled).
/// Errors: as CheckPerplexityParams and Session::Eval.
Result<PerplexityResult> MeasurePerplexity(
    Session& session, std::span<const TokenId> tokens, int32_t vocab_size, const PerplexityParams& params,
    const std::function<bool(int64_t done, int64_t total, const PerplexityResult& so_far)>& progress);

}  // namespace fathom
