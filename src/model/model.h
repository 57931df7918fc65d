// A model ready to compute: weights, rotary tables and the forward pass, one for all families.
//
// Forward() takes a batch of segments (pieces of sequences: a prefill chunk, a decode token) through all layers
// together, appends their keys and values to each sequence's cache, and gives logits for the rows that are asked for.
// One Forward() at a time; the KvSequences and ModelFile outlive the call and the model.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "cache/kv_store.h"
#include "experts/expert_store.h"
#include "experts/routing_observer.h"
#include "format/model_file.h"
#include "kernels/routing.h"
#include "model/kv_layout.h"
#include "model/profile.h"
#include "model/rope.h"
#include "model/scratch.h"
#include "model/weights.h"

namespace fathom {

struct Segment {
  KvSequence* kv = nullptr;
  std::span<const int32_t> tokens;  // appended at position kv->length()
  int64_t logits = 1;               // for how many of the last tokens logits are wanted
  float* hidden = nullptr;          // where the states after the last norm go, [hidden_rows, hidden_size]
  int64_t hidden_rows = 0;          // of so many of the last tokens
};

/// Rows for the MTP layer: tokens, and for each the hidden state (after the last norm) of the token before it. Row i has
/// seen rows [0, i] of this very cache, which may begin anywhere in the text: the rotary embedding is relative.
struct MtpSegment {
  KvSequence* kv = nullptr;         // of mtp_kv_layout()
  std::span<const int32_t> tokens;
  const float* hidden = nullptr;    // [tokens, hidden_size]
};

/// Asked before every layer with the number of layers done; false stops the pass (kCancelled).
using LayerFn = std::function<bool(int layers_done, int layers)>;

class Model {
 public:
  /// Errors as LoadWeights.
  static Result<std::unique_ptr<Model>> Load(const ModelFile& file, ThreadPool& pool);

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  KvLayout kv_layout(DType dtype) const {
    return KvLayoutOf(config_, dtype);
  }
  /// Makes Mtp() possible. Errors as LoadMtpWeights.
  Status LoadMtp(const ModelFile& file);
  bool has_mtp() const { return mtp_.has_value(); }
  KvLayout mtp_kv_layout(DType dtype) const {
    KvLayout layout = kv_layout(dtype);
    layout.layers = 1;
    return layout;
  }
  int64_t scratch_bytes() const { return scratch_.bytes(); }
  /// From now on passes add to it; nullptr: no more. Not during a Forward().
  void UseProfile(Profile* profile) {
    profile_ = profile;
    scratch_.matmul.count = scratch_.attention.count = profile != nullptr ? profile->counter() : nullptr;
  }

  /// From now on experts are computed from the store's slots, and the mapped file's are not touched; nullptr: as before.
  /// The store is of this model and outlives it. resident_bias, in [0, 1]: how much gates lean to experts that are
  /// resident (RoutingPreference::strength), except where a pass uses about all of them anyway. Takes EarlyRouterBytes() of
  /// memory (model/memory_needs.h). Errors: kResource. Not during a Forward().
  Status UseExperts(ExpertStore* experts, float resident_bias = 0);
  /// Seconds of computing that a row of a pass over all streamed experts takes, waiting for them not counted; a recent
  /// mean, 0: not known yet.
  double streamed_row_seconds() const { return streamed_row_seconds_.load(std::memory_order_relaxed); }
  /// Asked before and after every pass whether the weights are what they were when they were loaded; its error is that of
  /// the pass, whose results are not to be used. Empty: nobody is asked. Not during a Forward().
  void UseFileCheck(std::function<Status()> check) { check_file_ = std::move(check); }
  /// Asked before every pass, with its rows, whether their buffers may be taken; its error is that of the pass. It may call
  /// ReleaseScratch(). Empty: nobody is asked. Not during a Forward().
  void BeforePasses(std::function<Status(int64_t rows)> before) { before_pass_ = std::move(before); }
  void ReleaseScratch() { scratch_.Release(); }
  /// Told of every choice of the gates, and may replace it; nullptr: nobody. It outlives the model.
  void ObserveRouting(RoutingObserver* routing) { routing_ = routing; }

  /// logits: room for the sum of segment.logits rows of vocab_size floats, in segment order. On success every
  /// sequence is longer by its tokens; on error none is. Errors: kInvalidArgument (token id), kResource, kCancelled; kIo
  /// (an expert could not be read), kCorrupt (the file changed).
  Status Forward(std::span<const Segment> segments, float* logits, const LayerFn& on_layer = {});
  /// Whom the error of the last Forward() concerns, where that can be told: the segments, by index, some of whose tokens
  /// chose an expert that could not be read. Empty: all.
  std::span<const int32_t> failed_segments() const { return failed_segments_; }

  /// The MTP layer: for the last token of each segment logits of the token after it, [segments, vocab_size], and the state
  /// that they were made of, [segments, hidden_size], which may stand in for the model's own to guess one further. On
  /// success the segments' caches are longer by their tokens. REQUIRES: has_mtp(). Errors as Forward.
  Status Mtp(std::span<const MtpSegment> segments, float* hidden, float* logits);

 private:
  // Where each row of the batch stands.
  struct Row {
    KvSequence* kv;
    int64_t position;
  };

  Model(const ModelConfig& config, ThreadPool& pool)
      : config_(config), pool_(pool), rope_(config.rope, config.is_mla()) {}

  Status Embed(std::span<const Segment> segments, const WeightView& embedding);
  /// kv_layer: where their rows lie in the caches.
  Status MlaBlock(const LayerWeights& w, int kv_layer, std::span<const Segment> segments);
  Status GqaBlock(const LayerWeights& w, int kv_layer, std::span<const Segment> segments);
  Status DenseBlock(const LayerWeights& w);
  Status MoeBlock(const LayerWeights& w);
  Status Head(std::span<const Segment> segments, float* logits);

  /// scratch_.h = RmsNorm(x), quantised into scratch_.in when any of the weights wants that.
  Status NormInput(const std::vector<float>& weight, std::initializer_list<const WeightView*> users);
  Status Multiply(const WeightView& w, const Activations& x, MatrixView<float> y);
  void Rows(MatrixView<const float> in, const std::vector<float>& weight, float eps, MatrixView<float> out);
  void AddToResidual(MatrixView<const float> update);
  void Lap(Stage stage) {
    if (profile_ != nullptr) profile_->Lap(stage);
  }
  void StoreKv(int layer, int64_t row, const float* values, int64_t count, int64_t first_value);
  Status Attend(int layer, std::span<const Segment> segments, MatrixView<const float> q, MatrixView<float> out,
                int64_t kv_heads, int64_t k_dim, int64_t v_dim, int64_t v_begin, float scale);
  void SwiGlu(MatrixView<float> gate, MatrixView<float> up);  // into gate
  RoutingParams Routing() const;
  void Route(const LayerWeights& w, MatrixView<float> logits);
  /// Adds each row's experts, and the shared ones' update, to the residual stream. down: by slot.
  void AddExperts(const MatrixView<float>* shared, MatrixView<float> down);
  /// Sorts (token, choice) pairs by expert: slots [slot_begin[e], slot_begin[e + 1]) are expert e's, slot s takes
  /// input row slot_row[s], and pair i went to slot slot_of[i].
  void GroupByExpert(int64_t tokens);
  /// Clears scratch_.jobs, then calls fn(expert, first slot, slots) for experts that somebody chose.
  template <typename Fn>
  void ForChosenExperts(Fn&& fn) {
    scratch_.jobs.clear();
    for (int64_t e = 0; e < config_.moe.n_routed_experts; ++e) {
      const int64_t begin = scratch_.slot_begin[e], count = scratch_.slot_begin[e + 1] - begin;
      if (count > 0) fn(e, begin, count);
    }
  }

  // expert_blocks.cc
  /// Around every pass: whether it is one over about all experts, and how long it computes.
  void BeginStreaming();
  void EndStreaming();
  /// What the gate of a MoE layer leans to; nothing unless that is asked for.
  RoutingPreference Preference(int32_t layer);
  /// Number among the MoE layers; -1 when it is not one of the model's own layers.
  int32_t MoeLayerOf(const LayerWeights& w) const;
  void WatchRouting(const LayerWeights& w, MatrixView<float> scores);
  Status StreamedExperts(const LayerWeights& w, MatrixView<float> shared, MatrixView<float> shared_up);
  Status CopyRouters();
  Status GuessLayer(int32_t layer, int32_t ahead);
  /// After an error of the batch: learns what else of it does not come, and whose rows chose that.
  void FindFailedRows(ExpertBatch& batch);
  void FindFailedSegments(std::span<const Segment> segments);
  void CountGuesses(int32_t layer, std::span<const int32_t> chosen);

  ModelConfig config_;
  ThreadPool& pool_;
  RopeTable rope_;
  ModelWeights weights_;
  std::optional<MtpWeights> mtp_;
  Scratch scratch_;
  std::vector<Row> rows_;
  MatrixView<float> x_;  // residual stream of the current batch, [rows, hidden]
  MatrixView<float> cos_, sin_;

  Profile* profile_ = nullptr;
  ExpertStore* experts_ = nullptr;
  float resident_bias_ = 0;
  std::vector<uint8_t> residents_;
  bool whole_layers_ = false;  // this pass uses about all experts of every layer
  std::chrono::steady_clock::time_point pass_began_;
  double pass_stalls_ = 0;     // the store's stall_seconds then
  std::atomic<double> streamed_row_seconds_{0};
  std::function<Status()> check_file_;
  std::function<Status(int64_t)> before_pass_;
  std::vector<uint8_t> failed_rows_;       // of the pass; empty: all or none
  std::vector<int32_t> failed_segments_;
  RoutingObserver* routing_ = nullptr;
  // The routers in 8 bits, by the model's layers: each is read twice more a token to look ahead, and as f32 that would be a
  // tenth of what a model of many small experts reads. Empty views: the router itself.
  std::vector<WeightView> early_routers_;
  AlignedBuffer early_router_memory_;
  FloatBuffer early_h_, early_logits_;
  Activations early_in_;
  std::vector<int32_t> early_ids_;
  // What early looks at the gates of the next layers found, and by how far ahead they were how often such looks were right
  // lately.
  struct EarlyLook {
    int32_t layer = 0, ahead = 1;
    std::vector<ExpertGuess> guesses;
  };
  static constexpr int32_t kLooksAhead = 2;
  std::vector<EarlyLook> early_;
  std::array<float, kLooksAhead> look_accuracy_ = {0.5f, 0.5f};
};

}  // namespace fathom
