#include "engine/mtp_drafter.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/vec_ops.h"

namespace fathom {

void MtpContext::Clear() {
  kv_.Truncate(0);
  tokens_.clear();
  hidden_.clear();
}

void MtpContext::Add(int64_t begin, std::span<const TokenId> next_tokens, const float* hidden) {
  auto count = static_cast<int64_t>(next_tokens.size());
  if (count == 0) return;
  if (begin != end_) Clear();
  end_ = begin + count;
  if (static_cast<int64_t>(tokens_.size()) + count > kMostWaiting) {
    // Nobody has wanted drafts for long: only the end is of use, without what it would follow.
    Clear();
    const int64_t skipped = std::max<int64_t>(0, count - kMostWaiting);
    next_tokens = next_tokens.subspan(static_cast<size_t>(skipped));
    hidden += skipped * size_;
    count -= skipped;
  }
  tokens_.insert(tokens_.end(), next_tokens.begin(), next_tokens.end());
  hidden_.insert(hidden_.end(), hidden, hidden + count * size_);
}

Status MtpDrafter::Draft(std::span<const Job> jobs, double least) {
  struct Live {
    const Job* job;
    double sure = 1;
    TokenId token = -1;  // of the draft, the last one
  };
  const int64_t vocab = model_.config().vocab_size, size = model_.config().hidden_size;
  std::vector<Live> live;
  std::vector<int64_t> held;  // rows of each job's cache that are true when this is done
  for (const Job& job : jobs) {
    job.draft->clear();
    live.push_back({.job = &job});
    held.push_back(job.context->kv_.length() + static_cast<int64_t>(job.context->tokens_.size()));
  }
  std::vector<MtpSegment> segments;
  bool first = true;
  Status status;
  while (!live.empty() && status) {
    segments.clear();
    std::swap(before_, hidden_);
    for (size_t i = 0; i < live.size(); ++i) {
      MtpContext& context = *live[i].job->context;
      if (first) {
        segments.push_back({.kv = &context.kv_, .tokens = context.tokens_, .hidden = context.hidden_.data()});
      } else {
        segments.push_back({.kv = &context.kv_, .tokens = {&live[i].token, 1},
                            .hidden = before_.data() + static_cast<int64_t>(i) * size});
      }
    }
    hidden_.resize(live.size() * static_cast<size_t>(size));
    logits_.resize(live.size() * static_cast<size_t>(vocab));
    size_t rows = 0;
    for (const MtpSegment& segment : segments) rows += segment.tokens.size();
    const auto start = std::chrono::steady_clock::now();
    status = model_.Mtp(segments, hidden_.data(), logits_.data());
    if (!status) break;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const bool catching_up = rows > 4 * segments.size();  // a prompt's tokens: not what it takes every time
    if (!catching_up) seconds_ = seconds_ <= 0 ? seconds : seconds_ + 0.2 * (std::min(seconds, 2 * seconds_) - seconds_);
    size_t kept = 0;
    for (size_t i = 0; i < live.size(); ++i) {
      Live one = live[i];
      MtpContext& context = *one.job->context;
      if (first) context.tokens_.clear(), context.hidden_.clear();
      const float* logits = logits_.data() + static_cast<int64_t>(i) * vocab;
      one.token = static_cast<TokenId>(ArgMax(logits, vocab));
      const float best = logits[one.token];
      double total = 0;
      for (int64_t v = 0; v < vocab; ++v) total += std::exp(logits[v] - best);
      one.sure /= total;
      std::vector<TokenId>& draft = *one.job->draft;
      if (!(one.sure >= least)) continue;
      draft.push_back(one.token);
      if (static_cast<int64_t>(draft.size()) >= one.job->most) continue;
      std::copy_n(hidden_.begin() + static_cast<int64_t>(i) * size, size, hidden_.begin() + static_cast<int64_t>(kept) * size);
      live[kept++] = one;
    }
    live.resize(kept);
    first = false;
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].context->kv_.Truncate(held[i]);  // rows of guesses go
    if (!status) jobs[i].context->Clear();
  }
  return status;
}

}  // namespace fathom
