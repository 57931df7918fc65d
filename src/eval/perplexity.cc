#include "eval/perplexity.h"

#include <algorithm>
#include <cmath>

namespace fathom {
namespace {

class Tally {
 public:
  void Add(double nll) { sum_ += nll, squares_ += nll * nll, ++count_; }
  PerplexityResult Result(int64_t windows) const {
    PerplexityResult result;
    result.windows = windows;
    result.scored_tokens = count_;
    if (count_ == 0) return result;
    const double n = static_cast<double>(count_);
    result.mean_nll = sum_ / n;
    result.perplexity = std::exp(result.mean_nll);
    const double variance = squares_ / n - result.mean_nll * result.mean_nll;
    if (count_ > 1 && variance > 0) result.standard_error = std::sqrt(variance / (n - 1)) * result.perplexity;
    return result;
  }

 private:
  double sum_ = 0, squares_ = 0;
  int64_t count_ = 0;
};

/// Scores window[first..] given everything before each token. REQUIRES: first >= 1.
Status ScoreWindow(Session& session, std::span<const TokenId> window, size_t first, int32_t vocab_size, Tally& tally) {
  session.Truncate(0);
  if (first > 1) FATHOM_CHECK_OK(session.Eval(window.first(first - 1)));
  const size_t piece = static_cast<size_t>(std::max<int64_t>(1, kPerplexityLogits / vocab_size));
  std::vector<float> logits;
  for (size_t at = first - 1; at + 1 < window.size(); at += piece) {
    const size_t count = std::min(piece, window.size() - 1 - at);
    FATHOM_CHECK_OK(session.EvalAll(window.subspan(at, count), logits));
    for (size_t i = 0; i < count; ++i) {
      const std::span<const float> row(logits.data() + i * static_cast<size_t>(vocab_size),
                                       static_cast<size_t>(vocab_size));
      tally.Add(NegativeLogLikelihood(row, window[at + i + 1]));
    }
  }
  return {};
}

}  // namespace

int64_t CountWindows(int64_t tokens, const PerplexityParams& params) {
  if (params.window < 2 || tokens < params.window) return 0;
  const int64_t all =
      params.stride > 0 ? (tokens - params.window + params.stride - 1) / params.stride + 1 : tokens / params.window;
  return params.max_windows >= 0 ? std::min(all, params.max_windows) : all;
}

Status CheckPerplexityParams(int64_t tokens, const PerplexityParams& params) {
  if (params.window < 4)
    return Fail(ErrorCode::kInvalidArgument, "--ctx {}: a window needs at least 4 tokens", params.window);
  if (params.stride < 0 || params.stride >= params.window) {
    return Fail(ErrorCode::kInvalidArgument, "--stride {}: must be less than the window's {} tokens", params.stride,
                params.window);
  }
  if (CountWindows(tokens, params) == 0) {
    return Fail(ErrorCode::kInvalidArgument,
                "the text has {} tokens, fewer than one window of {}\nUse a longer text or a "
                "smaller --ctx.",
                tokens, params.window);
  }
  return {};
}

double NegativeLogLikelihood(std::span<const float> logits, TokenId target) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  return std::log(sum) - (static_cast<double>(logits[static_cast<size_t>(target)]) - most);
}

Result<PerplexityResult> MeasurePerplexity(
    Session& session, std::span<const TokenId> tokens, int32_t vocab_size, const PerplexityParams& params,
    const std::function<bool(int64_t, int64_t, const PerplexityResult&)>& progress) {
  FATHOM_CHECK_OK(CheckPerplexityParams(static_cast<int64_t>(tokens.size()), params));
  for (const TokenId token : tokens) {
    if (token < 0 || token >= vocab_size)
      return Fail(ErrorCode::kInvalidArgument, "token {} is outside the vocabulary", token);
  }
  const int64_t total = CountWindows(static_cast<int64_t>(tokens.size()), params);
  Tally tally;
  const auto window_size = static_cast<size_t>(params.window);
  size_t scored_to = 0;  // with a stride: tokens before this were scored
  for (int64_t done = 0; done < total; ++done) {
    size_t begin, end, first;
    if (params.stride > 0) {
      begin = static_cast<size_t>(done) * static_cast<size_t>(params.stride);
      end = std::min(begin + window_size, tokens.size());
      first = std::max<size_t>(scored_to > begin ? scored_to - begin : 0, 1);
      scored_to = end;
    } else {
      begin = static_cast<size_t>(done) * window_size;
      end = begin + window_size;
      first = window_size / 2 + 1;
    }
    std::vector<TokenId> window(tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                                tokens.begin() + static_cast<std::ptrdiff_t>(end));
    if (params.stride == 0 && params.bos >= 0) window.front() = params.bos;
    FATHOM_CHECK_OK(ScoreWindow(session, window, first, vocab_size, tally));
    if (progress && !progress(done + 1, total, tally.Result(done + 1)))
      return Fail(ErrorCode::kCancelled, "interrupted");
  }
  return tally.Result(total);
}

}  // namespace fathom
