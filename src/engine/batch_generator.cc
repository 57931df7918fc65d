#include "engine/batch_generator.h"

#include <algorithm>
#include <chrono>

#include "engine/batch_impl.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;
double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A common beginning shorter than this is not worth keeping.
constexpr int64_t kLeastShared = 32;
// Answers in flight never stop new prompts from coming in.
constexpr int64_t kLeastPrefill = 16;

/// What of a prompt may come from a cache: all but the last token, whose logits are needed.
std::span<const TokenId> Head(std::span<const TokenId> prompt) { return prompt.first(prompt.size() - 1); }

int64_t BlocksFor(int64_t tokens) { return (tokens + KvLayout::kBlockTokens - 1) / KvLayout::kBlockTokens; }

}  // namespace

int64_t CommonPrefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  const auto most = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin();
}

struct BatchImpl::Sequence {
  Sequence(size_t index_in, const BatchRequest& request_in, KvPool& pool, const Tokenizer* tokenizer, int32_t context)
      : index(index_in), request(request_in), kv(pool), generation(tokenizer, request_in.params, context) {}

  bool prefilling() const { return held.size() < request.prompt.size(); }

  size_t index;
  const BatchRequest& request;
  KvSequence kv;
  Generation generation;
  std::vector<TokenId> held;  // evaluated: the first kv.length() tokens of prompt and answer
  TokenId next = -1;          // drawn and not yet evaluated
  int64_t blocks = 0;         // of KV memory that this sequence may come to need
  Timings timings;
  Clock::time_point joined = Clock::now(), first_token;
};

class BatchImpl::Work {
 public:
  Work(BatchImpl& batch, std::span<const BatchRequest> requests, const DoneFn& done, const ProgressFn& progress)
      : batch_(batch), requests_(requests), done_(done), report_(progress), preamble_(batch.kv_pool_) {
    progress_.total = static_cast<int64_t>(requests.size());
    most_blocks_ = batch.options_.kv_bytes / std::max<int64_t>(1, batch.kv_pool_.layout().block_bytes());
  }

  Status Go() {
    while (progress_.finished < progress_.total) {
      Admit();
      const bool all_refused = in_flight_.empty() && PreambleReady();
      if (!all_refused) FATHOM_CHECK_OK(Step());
      if (!Tell()) return Fail(ErrorCode::kCancelled, "cancelled");
    }
    return {};
  }

 private:
  bool PreambleReady() const { return preamble_.length() == static_cast<int64_t>(preamble_tokens_.size()); }
  bool Tell() {
    progress_.in_flight = static_cast<int32_t>(in_flight_.size());
    return !report_ || report_(progress_);
  }
  void Report(size_t index, Result<GenerationResult> result) {
    ++progress_.finished;
    done_(index, std::move(result));
  }

  /// Blocks that a request may come to need; the error says why it never fits.
  Result<int64_t> Blocks(const BatchRequest& request) const {
    FATHOM_CHECK_OK(ValidateSampling(request.params.sampling, batch_.model_.config().vocab_size));
    FATHOM_CHECK_OK(CheckPrompt(request.prompt, batch_.model_.config().vocab_size, batch_.context_length_));
    const int64_t room = batch_.context_length_ - static_cast<int64_t>(request.prompt.size());
    const int64_t answer = request.params.max_tokens < 0 ? room : std::min<int64_t>(room, request.params.max_tokens);
    const int64_t blocks = BlocksFor(static_cast<int64_t>(request.prompt.size()) + answer);
    if (blocks <= most_blocks_) return blocks;
    return Fail(ErrorCode::kResource,
                "prompt and answer may need {} tokens of KV memory and the batch is given {}: allow fewer tokens or "
                "more memory",
                blocks * KvLayout::kBlockTokens, most_blocks_ * KvLayout::kBlockTokens);
  }

  // Lets prompts join while there is room, in order.
  void Admit() {
    while (next_ < requests_.size() && in_flight_.size() < static_cast<size_t>(batch_.options_.max_sequences)) {
      const BatchRequest& request = requests_[next_];
      const auto blocks = Blocks(request);
      if (!blocks) {
        Report(next_++, std::unexpected(blocks.error()));
        continue;
      }
      if (request.params.max_tokens == 0) {  // nothing to compute
        GenerationResult nothing;
        nothing.finish_reason = FinishReason::kLength;
        Report(next_++, std::move(nothing));
        continue;
      }
      if (used_blocks_ + *blocks > most_blocks_) {
        // A beginning kept for later prompts gives way before anybody waits for ever.
        if (!in_flight_.empty() || preamble_blocks_ == 0) return;
        DropPreamble();
        continue;
      }
      if (!UsePreamble(request, *blocks)) return;
      auto sequence =
          std::make_unique<Sequence>(next_, request, batch_.kv_pool_, batch_.tokenizer_, batch_.context_length_);
      sequence->blocks = *blocks;
      const int64_t known = CommonPrefix(Head(request.prompt), preamble_tokens_);
      if (known >= kLeastShared) {
        sequence->kv.Adopt(preamble_.blocks(), known);
        sequence->held.assign(request.prompt.begin(), request.prompt.begin() + known);
        sequence->timings.cached_tokens = known;
        progress_.cached_tokens += known;
      }
      used_blocks_ += *blocks;
      in_flight_.push_back(std::move(sequence));
      ++next_;
    }
  }

  void DropPreamble() {
    preamble_.Truncate(0);
    preamble_tokens_.clear();
    used_blocks_ -= preamble_blocks_;
    preamble_blocks_ = 0;
  }

  // True when the request may join now. False while the beginning that it shares with the request behind it is still
  // to be computed (which this call has then arranged).
  bool UsePreamble(const BatchRequest& request, int64_t blocks) {
    if (!PreambleReady()) return false;
    if (sharing_failed_ || next_ + 1 >= requests_.size() || requests_[next_ + 1].prompt.empty()) return true;
    const auto head = Head(request.prompt);
    const int64_t shared = CommonPrefix(head, Head(requests_[next_ + 1].prompt));
    // What is at hand serves unless the neighbours have clearly more in common.
    const int64_t known = CommonPrefix(head, preamble_tokens_);
    if (shared < kLeastShared || shared < known + std::max(kLeastShared, known / 4)) return true;
    const int64_t needed = BlocksFor(shared);
    if (used_blocks_ - preamble_blocks_ + needed + blocks > most_blocks_) return true;
    DropPreamble();
    preamble_tokens_.assign(request.prompt.begin(), request.prompt.begin() + shared);
    preamble_blocks_ = needed;
    used_blocks_ += needed;
    return false;
  }

  // One pass: the rest of the shared beginning, then one token of every answer, then pieces of prompts.
  Status Step() {
    segments_.clear();
    int64_t rows = 0, logit_rows = 0;
    for (const auto& sequence : in_flight_) rows += sequence->prefilling() ? 0 : 1;
    int64_t budget = std::max(batch_.options_.step_tokens - rows, kLeastPrefill);
    const int64_t to_share = static_cast<int64_t>(preamble_tokens_.size()) - preamble_.length();
    int64_t preamble_piece = 0;
    if (to_share > 0) {
      preamble_piece = std::min(budget, to_share);
      budget -= preamble_piece;
      segments_.push_back({&preamble_,
                           std::span<const TokenId>(preamble_tokens_)
                               .subspan(static_cast<size_t>(preamble_.length()), static_cast<size_t>(preamble_piece)),
                           0});
    }
    active_.clear();
    for (const auto& sequence : in_flight_) {
      if (!sequence->prefilling()) {
        segments_.push_back({&sequence->kv, {&sequence->next, 1}, 1});
        active_.push_back(sequence.get());
        ++logit_rows;
        continue;
      }
      const int64_t left = static_cast<int64_t>(sequence->request.prompt.size() - sequence->held.size());
      const int64_t piece = std::min(budget, left);
      if (piece == 0) continue;
      budget -= piece;
      segments_.push_back({&sequence->kv,
                           std::span<const TokenId>(sequence->request.prompt)
                               .subspan(sequence->held.size(), static_cast<size_t>(piece)),
                           piece == left ? 1 : 0});
      active_.push_back(sequence.get());
      logit_rows += piece == left ? 1 : 0;
    }
    const size_t vocab = static_cast<size_t>(batch_.model_.config().vocab_size);
    logits_.resize(static_cast<size_t>(logit_rows) * vocab);
    Status status;
    {
      std::lock_guard lock(batch_.compute_);
      status = batch_.model_.Forward(segments_, logits_.data(), [&](int, int) { return Tell(); });
    }
    if (!status) return Recover(status.error());
    progress_.prompt_tokens += preamble_piece;
    const size_t first = preamble_piece > 0 ? 1 : 0;
    float* row = logits_.data();
    for (size_t i = 0; i < active_.size(); ++i) {
      const Segment& segment = segments_[first + i];
      Advance(*active_[i], segment, segment.logits > 0 ? std::span<float>(row, vocab) : std::span<float>());
      if (segment.logits > 0) row += vocab;
    }
    std::erase_if(in_flight_, [](const auto& sequence) { return sequence == nullptr; });
    return {};
  }

  // Takes in what a step brought to one sequence; one that has ended is reported and its place becomes null.
  void Advance(Sequence& sequence, const Segment& segment, std::span<float> logits) {
    const bool prompt = sequence.prefilling();
    sequence.held.insert(sequence.held.end(), segment.tokens.begin(), segment.tokens.end());
    if (prompt) {
      const auto count = static_cast<int64_t>(segment.tokens.size());
      sequence.timings.prompt_tokens += count;
      progress_.prompt_tokens += count;
    }
    if (logits.empty()) return;
    if (prompt) {
      sequence.first_token = Clock::now();
      sequence.timings.prompt_seconds = std::chrono::duration<double>(sequence.first_token - sequence.joined).count();
    }
    ++progress_.generated_tokens;
    if (const auto token = sequence.generation.Next(logits, sequence.held, {})) {
      sequence.next = *token;
      return;
    }
    sequence.timings.decode_seconds = SecondsSince(sequence.first_token);
    GenerationResult result = sequence.generation.Finish({});
    sequence.timings.generated_tokens = result.timings.generated_tokens;
    result.timings = sequence.timings;
    const size_t index = sequence.index;
    Remove(sequence);
    Report(index, std::move(result));
  }

  void Remove(const Sequence& sequence) {
    for (auto& place : in_flight_) {
      if (place.get() != &sequence) continue;
      used_blocks_ -= sequence.blocks;
      place.reset();
      return;
    }
  }

  // A step that failed changed no sequence. Without memory the youngest sequence gives up its own, so that the others
  // can go on.
  Status Recover(const Error& error) {
    if (error.code != ErrorCode::kResource) return std::unexpected(error);
    for (const auto& sequence : in_flight_) sequence->kv.Truncate(sequence->kv.length());  // rows reserved in vain
    if (preamble_blocks_ > 0) {
      DropPreamble();
      sharing_failed_ = true;
      return {};
    }
    if (in_flight_.empty()) return std::unexpected(error);
    const size_t index = in_flight_.back()->index;
    used_blocks_ -= in_flight_.back()->blocks;
    in_flight_.pop_back();
    Report(index, std::unexpected(error));
    return {};
  }

  BatchImpl& batch_;
  std::span<const BatchRequest> requests_;
  const DoneFn& done_;
  const ProgressFn& report_;
  BatchProgress progress_;
  size_t next_ = 0;                                   // request that joins next
  std::vector<std::unique_ptr<Sequence>> in_flight_;  // in the order of joining
  KvSequence preamble_;                               // what neighbouring prompts have in common
  std::vector<TokenId> preamble_tokens_;
  int64_t preamble_blocks_ = 0;
  bool sharing_failed_ = false;
  int64_t used_blocks_ = 0, most_blocks_ = 0;
  std::vector<Segment> segments_;
  std::vector<Sequence*> active_;
  std::vector<float> logits_;
};

Status BatchImpl::Check(const BatchOptions& options) {
  if (options.max_sequences < 1 || options.max_sequences > 1024) {
    return Fail(ErrorCode::kInvalidArgument, "max_sequences is {}, it must lie in [1, 1024]", options.max_sequences);
  }
  if (options.step_tokens < 16 || options.step_tokens > 65536) {
    return Fail(ErrorCode::kInvalidArgument, "step_tokens is {}, it must lie in [16, 65536]", options.step_tokens);
  }
  if (options.kv_bytes < 1) return Fail(ErrorCode::kInvalidArgument, "kv_bytes is {}", options.kv_bytes);
  return {};
}

Status BatchImpl::Run(std::span<const BatchRequest> requests, const DoneFn& done, const ProgressFn& progress) {
  return Work(*this, requests, done, progress).Go();
}

}  // namespace fathom
