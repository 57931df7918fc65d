// Drafts from the model's own MTP layer. Internal to engine/.
//
// The layer wants, for every token, the model's hidden state before it. States are collected as steps bring them and are
// evaluated when a draft is wanted: nothing but copies is paid while drafts are not worth it. The layer's cache begins
// wherever collecting began (a prompt's last kMostWaiting tokens, or what was computed after a hit in the KV cache): a
// shorter view makes guesses worse, never answers wrong. So nothing of it is kept in blocks, on disk or in keys.
//
// MtpContext: one per sequence. MtpDrafter: one per session or service. Not thread-safe; both are used while the model is
// the caller's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace fathom {

class MtpContext {
 public:
  static constexpr int64_t kMostWaiting = 256;  // tokens whose states wait for being evaluated

  MtpContext(KvPool& pool, int64_t hidden_size) : kv_(pool), size_(hidden_size) {}

  /// The states at positions [begin, begin + count) of the text, and the tokens after each of them. A gap after what was
  /// there before makes it begin anew.
  void Add(int64_t begin, std::span<const TokenId> next_tokens, const float* hidden);
  void Clear();
  /// A draft that begins after `tokens` tokens can be had.
  bool Ready(int64_t tokens) const { return !tokens_.empty() && end_ + 1 == tokens; }

 private:
  friend class MtpDrafter;

  KvSequence kv_;  // rows of the tokens before those that wait
  int64_t size_;
  int64_t end_ = 0;                // position after the last state
  std::vector<TokenId> tokens_;    // waiting
  std::vector<float> hidden_;      // their states
};

class MtpDrafter {
 public:
  struct Job {
    MtpContext* context = nullptr;
    int64_t most = 0;                   // tokens, >= 1
    std::vector<TokenId>* draft = nullptr;
  };

  explicit MtpDrafter(Model& model) : model_(model) {}

  /// Fills each job's draft, one pass of the layer a token over all jobs. A draft ends early when the probability that all
  /// of it is right, as the layer sees it, falls below `least`; it may be empty. REQUIRES: contexts Ready().
  Status Draft(std::span<const Job> jobs, double least);
  /// What one pass takes of late; 0: not known.
  double seconds() const { return seconds_; }
  int64_t hidden_size() const { return model_.config().hidden_size; }

 private:
  Model& model_;
  double seconds_ = 0;
  std::vector<float> logits_, hidden_, before_;
};

}  // namespace fathom
