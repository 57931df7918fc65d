// The engine's own session: one sequence, evaluated in chunks. Internal to engine/; see engine.h for the contract.
#pragma once

#include <functional>
#include <mutex>

#include "engine/engine.h"
#include "engine/generation.h"
#include "engine/sequence_drafts.h"
#include "model/model.h"

namespace fathom {

class SessionImpl final : public Session {
 public:
  /// Everything passed by reference outlives the session. `compute` is held while the model runs. prefill_rows: how many
  /// tokens the next piece of a prompt may have, >= 1.
  SessionImpl(Model& model, KvPool& kv_pool, std::mutex& compute, const Tokenizer* tokenizer, int32_t context_length,
              std::function<int64_t()> prefill_rows,
              SpeculationMode speculation = SpeculationMode::kOff, int64_t forced_draft = 0,
              KvPool* mtp_pool = nullptr)
      : model_(model), compute_(compute), tokenizer_(tokenizer), context_length_(context_length),
        prefill_rows_(std::move(prefill_rows)), speculation_(speculation), planner_(forced_draft), drafter_(model), kv_(kv_pool) {
    if (mtp_pool != nullptr) context_.emplace(*mtp_pool, model.config().hidden_size);
  }

  std::span<const TokenId> tokens() const override { return tokens_; }
  int32_t context_length() const override { return context_length_; }
  void Truncate(int64_t count) override;
  Status Eval(std::span<const TokenId> tokens, const PrefillFn& progress) override;
  Status EvalAll(std::span<const TokenId> tokens, std::vector<float>& out) override;
  std::span<const float> logits() const override { return logits_; }
  Result<GenerationResult> Generate(std::span<const TokenId> prompt, const GenerationParams& params,
                                    const EmitFn& emit, const PrefillFn& progress) override;

 private:
  Status CheckFits(size_t more) const;
  Status Step(std::span<const TokenId> tokens, int64_t logit_rows, float* logits, const LayerFn& on_layer);
  /// For the MTP layer: takes in the states of the first `rows` of a step's tokens, which now end tokens_.
  void Collect(int64_t rows);
  /// The token after the last one is known.
  void CollectLast(TokenId next);
  /// Brings the session to exactly `prompt`, with logits of its last token. Returns how many tokens were known.
  Result<int64_t> Prefill(std::span<const TokenId> prompt, const PrefillFn& progress);

  /// Evaluates `token` and what is guessed to follow it, and draws at every row as far as guesses were right. Then
  /// the session holds what would be held without guesses. Returns the token to evaluate next, or nothing at the end.
  Result<std::optional<TokenId>> Decode(TokenId token, Generation& generation, SequenceDrafts& drafts,
                                        const EmitFn& emit);
  void Guess(TokenId token, const Generation& generation, SequenceDrafts& drafts);

  Model& model_;
  std::mutex& compute_;
  const Tokenizer* tokenizer_;
  int32_t context_length_;
  std::function<int64_t()> prefill_rows_;
  SpeculationMode speculation_;
  DraftPlanner planner_;
  MtpDrafter drafter_;
  std::optional<MtpContext> context_;  // nothing without an MTP layer
  std::vector<float> hidden_;          // of the last step's tokens, the last ones where they are many
  std::vector<float> last_hidden_;     // of the last token; empty: unknown
  std::vector<TokenId> step_;       // the tokens of a decode step
  std::vector<float> step_logits_;  // after each of them
  KvSequence kv_;
  std::vector<TokenId> tokens_;
  std::vector<float> logits_;  // of the last token; empty when unknown
};

}  // namespace fathom
