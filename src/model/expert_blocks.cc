// The feed-forward block of a model whose experts come from an ExpertStore, and what watches the gate. Shapes as in
// ffn_blocks.cc.
#include <algorithm>
#include <cmath>
#include <functional>

#include "experts/expert_store.h"
#include "experts/routing_observer.h"
#include "kernels/dequant.h"
#include "kernels/quantize.h"
#include "kernels/routing.h"
#include "kernels/vec_ops.h"
#include "model/memory_needs.h"
#include "model/model.h"

namespace fathom {
namespace {

constexpr int64_t kEarlyTokens = 16;  // largest batch whose next layer is guessed
// Passes that can be expected to use this share of all experts read whole layers ahead instead.
constexpr double kWholeLayers = 0.9;
constexpr int64_t kWholeLayersGroup = 16;

MatrixView<const float> Const(const MatrixView<float>& m) { return {m.data, m.rows, m.cols, m.stride}; }

MatrixView<float> RowsOf(const MatrixView<float>& m, int64_t begin, int64_t count) {
  return {m.row(begin), count, m.cols, m.stride};
}

}  // namespace

Status Model::UseExperts(ExpertStore* experts, float resident_bias) {
  if (experts != nullptr && early_routers_.empty()) {
    FATHOM_CHECK_OK(CopyRouters());
  }
  experts_ = experts;
  resident_bias_ = resident_bias;
  return {};
}

Status Model::CopyRouters() {
  early_routers_.resize(weights_.layers.size());
  const auto row_bytes = RowBytes(DType::kQ8_0, config_.hidden_size);
  if (!row_bytes) return {};  // no whole blocks: the routers themselves are used
  FATHOM_TRY(early_router_memory_, AlignedBuffer::Allocate(static_cast<size_t>(EarlyRouterBytes(config_))));
  std::byte* to = early_router_memory_.data();
  std::vector<float> row(static_cast<size_t>(config_.hidden_size));
  for (size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    const WeightView& router = weights_.layers[layer].router;
    if (router.empty() || TraitsOf(router.dtype).quantized) continue;
    const WeightView copy{.dtype = DType::kQ8_0, .data = to, .rows = router.rows, .cols = router.cols, .row_bytes = *row_bytes};
    bool finite = true;
    for (int64_t r = 0; r < router.rows && finite; ++r, to += *row_bytes) {
      DequantizeWeightRow(router, r, row.data());
      finite = std::ranges::all_of(row, [](float value) { return std::isfinite(value); });
      if (finite) QuantizeRow(DType::kQ8_0, row.data(), router.cols, to);
    }
    if (!finite) break;  // the gates themselves will say so
    early_routers_[layer] = copy;
  }
  return {};
}

void Model::BeginStreaming() {
  whole_layers_ = false;
  if (experts_ == nullptr) return;
  const MoeConfig& moe = config_.moe;
  whole_layers_ = x_.rows >= TokensThatUse(kWholeLayers, moe.n_routed_experts, moe.num_experts_per_tok);
  if (!whole_layers_) return;
  experts_->ReadAhead(0);
  pass_stalls_ = experts_->stats().stall_seconds;
  pass_began_ = std::chrono::steady_clock::now();
}

void Model::EndStreaming() {
  if (!whole_layers_) return;
  whole_layers_ = false;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - pass_began_).count();
  const double stalls = experts_->stats().stall_seconds - pass_stalls_;
  const double row = std::max(seconds - stalls, 0.0) / static_cast<double>(x_.rows);
  const double before = streamed_row_seconds();
  streamed_row_seconds_.store(before > 0 ? before + 0.3 * (row - before) : row, std::memory_order_relaxed);
}

RoutingPreference Model::Preference(int32_t layer) {
  if (!(resident_bias_ > 0) || experts_ == nullptr || layer < 0 || whole_layers_) return {};
  residents_.resize(config_.moe.n_routed_experts);
  experts_->Residents(layer, residents_);
  return {.preferred = residents_.data(), .strength = resident_bias_};
}

int32_t Model::MoeLayerOf(const LayerWeights& w) const {
  const LayerWeights* first = weights_.layers.data();
  if (std::less<>()(&w, first) || !std::less<>()(&w, first + config_.num_hidden_layers)) return -1;  // an MTP layer
  return static_cast<int32_t>(&w - first) - std::max(config_.moe.first_k_dense_replace, 0);
}

void Model::WatchRouting(const LayerWeights& w, MatrixView<float> scores) {
  const int32_t layer = MoeLayerOf(w);
  if (layer < 0 || !routing_->OnRouted(layer, scores.rows, scratch_.expert_ids)) return;
  // The gate's own scores of other experts' choice (kernels/routing.h leaves them in `scores`).
  const MoeConfig& moe = config_.moe;
  const int64_t top_k = moe.num_experts_per_tok;
  for (int64_t t = 0; t < scores.rows; ++t) {
    float* weights = scratch_.expert_weights.data() + t * top_k;
    float sum = 0;
    for (int64_t k = 0; k < top_k; ++k) sum += weights[k] = scores.row(t)[scratch_.expert_ids[t * top_k + k]];
    const float scale = moe.routed_scaling_factor / (moe.norm_topk_prob ? sum + 1e-20f : 1.0f);
    for (int64_t k = 0; k < top_k; ++k) weights[k] *= scale;
  }
}

// x += shared(h) + Σ_k weight_k expert_k(h), the experts in whatever order they arrive; each row is summed in the same
// order as in MoeBlock, so the results are the same to the bit.
Status Model::StreamedExperts(const LayerWeights& w, MatrixView<float> shared, MatrixView<float> shared_up) {
  const MoeConfig& moe = config_.moe;
  const int64_t tokens = x_.rows, hidden = config_.hidden_size, top_k = moe.num_experts_per_tok;
  const int64_t inner = moe.moe_intermediate_size, shared_inner = w.shared.gate.rows, slots = tokens * top_k;
  const int32_t layer = MoeLayerOf(w);
  auto& begin = scratch_.slot_begin;
  std::vector<int32_t> chosen, rows_of;
  for (int32_t e = 0; e < moe.n_routed_experts; ++e) {
    if (begin[e + 1] == begin[e]) continue;
    chosen.push_back(e);
    if (whole_layers_) rows_of.push_back(begin[e + 1] - begin[e]);
  }
  CountGuesses(layer, chosen);
  ExpertBatch batch = experts_->Fetch(layer, chosen, rows_of, tokens);
  if (whole_layers_ && layer + 1 < experts_->layout().geometry().layers) experts_->ReadAhead(layer + 1);

  // What waits for nobody: the shared experts, and a guess at the next layer's choices.
  MatrixView<float> update;
  if (shared_inner > 0) {
    FATHOM_TRY(update, scratch_.update.Matrix(tokens, hidden));
    SwiGlu(shared, shared_up);
    FATHOM_CHECK_OK(scratch_.mid_shared.Set(Const(shared), NeedsQuantizedActivations(w.shared.down.dtype), pool_));
    FATHOM_CHECK_OK(Multiply(w.shared.down, scratch_.mid_shared, update));
    Lap(Stage::kSharedExperts);
  }
  for (int32_t ahead = 1; ahead <= kLooksAhead && tokens <= kEarlyTokens && !whole_layers_; ++ahead)
    FATHOM_CHECK_OK(GuessLayer(layer + ahead, ahead));

  FATHOM_TRY(MatrixView<float> gate, scratch_.gate.Matrix(slots, inner));
  FATHOM_TRY(MatrixView<float> up, scratch_.up.Matrix(slots, inner));
  FATHOM_TRY(MatrixView<float> down, scratch_.down.Matrix(slots, hidden));
  // Leases that wait to be computed keep others from arriving: not more than half of the slots, and not more than are
  // worth a group where each has many rows.
  const int64_t half = std::max<int64_t>(1, experts_->slots() / 2);
  const auto most = static_cast<size_t>(whole_layers_ ? std::min(half, kWholeLayersGroup) : half);
  std::vector<ExpertLease> group;
  for (;;) {
    auto next = batch.Next();
    while (next && *next) {
      group.push_back(std::move(**next));
      if (group.size() >= most) break;
      next = batch.Try();
    }
    if (!next) {
      group.clear();
      FindFailedRows(batch);
      return std::unexpected(std::move(next).error());
    }
    if (group.empty()) break;
    scratch_.jobs.clear();
    int64_t rows = 0;
    for (const ExpertLease& lease : group) {
      const int64_t first = begin[lease.expert()], count = begin[lease.expert() + 1] - first;
      const int32_t* from = scratch_.slot_row.data() + first;
      scratch_.jobs.push_back({.w = lease.views().gate, .x = &scratch_.in, .row_index = from, .m = count,
                               .y = gate.row(rows), .ldy = inner});
      scratch_.jobs.push_back({.w = lease.views().up, .x = &scratch_.in, .row_index = from, .m = count,
                               .y = up.row(rows), .ldy = inner});
      rows += count;
    }
    Matmul(scratch_.jobs, scratch_.matmul, pool_);
    Lap(Stage::kExpertsUp);  // waiting for them too
    SwiGlu(RowsOf(gate, 0, rows), RowsOf(up, 0, rows));
    FATHOM_CHECK_OK(scratch_.mid.Set(Const(RowsOf(gate, 0, rows)), NeedsQuantizedActivations(w.experts[0].down.dtype),
                                     pool_));
    Lap(Stage::kSwiGlu);
    scratch_.jobs.clear();
    rows = 0;
    for (const ExpertLease& lease : group) {
      const int64_t first = begin[lease.expert()], count = begin[lease.expert() + 1] - first;
      scratch_.jobs.push_back({.w = lease.views().down, .x = &scratch_.mid, .row_index = scratch_.iota.data() + rows,
                               .m = count, .y = down.row(first), .ldy = hidden});
      rows += count;
    }
    Matmul(scratch_.jobs, scratch_.matmul, pool_);
    Lap(Stage::kExpertsDown);
    group.clear();
  }
  AddExperts(shared_inner > 0 ? &update : nullptr, down);
  Lap(Stage::kResidual);
  return {};
}

void Model::FindFailedRows(ExpertBatch& batch) {
  // Reads that are under way take this long anyway; a disk that does not answer fails them all at once.
  while (batch.left() > 0) {
    const int32_t left = batch.left();
    const auto more = batch.Next();
    if (!more && batch.left() == left) return;  // not one expert's trouble
  }
  const auto& begin = scratch_.slot_begin;
  failed_rows_.assign(static_cast<size_t>(x_.rows), 0);
  for (const int32_t expert : batch.failed())
    for (int32_t slot = begin[expert]; slot < begin[expert + 1]; ++slot) failed_rows_[scratch_.slot_row[slot]] = 1;
}

void Model::FindFailedSegments(std::span<const Segment> segments) {
  size_t row = 0;
  for (size_t i = 0; i < segments.size() && !failed_rows_.empty(); ++i) {
    const size_t rows = segments[i].tokens.size();
    const auto first = failed_rows_.begin() + static_cast<int64_t>(row);
    if (std::find(first, first + static_cast<int64_t>(rows), 1) != first + static_cast<int64_t>(rows))
      failed_segments_.push_back(static_cast<int32_t>(i));
    row += rows;
  }
}

void Model::CountGuesses(int32_t layer, std::span<const int32_t> chosen) {
  for (const EarlyLook& look : early_) {
    if (look.layer != layer) continue;
    int64_t right = 0;
    for (const ExpertGuess& guess : look.guesses) right += std::binary_search(chosen.begin(), chosen.end(), guess.expert);
    float& accuracy = look_accuracy_[look.ahead - 1];
    accuracy += 0.02f * (static_cast<float>(right) / static_cast<float>(look.guesses.size()) - accuracy);
  }
  // What is left is of the layers that come next in this pass; of a pass that ended early nothing is.
  std::erase_if(early_, [&](const EarlyLook& look) { return look.layer <= layer || look.layer >= layer + kLooksAhead; });
}

// A later layer's router on the residual stream before it, which lacks that layer's attention and the experts before it.
// The farther look comes first; a nearer one replaces it when its turn comes.
Status Model::GuessLayer(int32_t layer, int32_t ahead) {
  const MoeConfig& moe = config_.moe;
  const int32_t index = layer + std::max(moe.first_k_dense_replace, 0);
  if (index >= config_.num_hidden_layers) return {};
  const LayerWeights* next = &weights_.layers[index];
  const int64_t tokens = x_.rows;
  FATHOM_TRY(MatrixView<float> h, early_h_.Matrix(tokens, config_.hidden_size));
  FATHOM_TRY(MatrixView<float> logits, early_logits_.Matrix(tokens, moe.n_routed_experts));
  Rows(Const(x_), next->ffn_norm, config_.rms_norm_eps, h);
  const WeightView& router = early_routers_[index].empty() ? next->router : early_routers_[index];
  FATHOM_CHECK_OK(early_in_.Set(Const(h), NeedsQuantizedActivations(router.dtype), pool_));
  FATHOM_CHECK_OK(Multiply(router, early_in_, logits));
  const RoutingParams params = Routing();
  early_ids_.resize(static_cast<size_t>(tokens * params.top_k));
  std::vector<float> weights(params.top_k);
  const RoutingPreference preference = Preference(layer);
  for (int64_t t = 0; t < tokens; ++t)
    RouteToken(params, logits.row(t), next->router_bias.empty() ? nullptr : next->router_bias.data(),
               early_ids_.data() + t * params.top_k, weights.data(), preference);
  if (routing_ != nullptr) routing_->OnGuessed(layer, ahead, tokens, early_ids_);
  EarlyLook& look = early_.emplace_back(EarlyLook{.layer = layer, .ahead = ahead, .guesses = {}});
  for (const int32_t id : early_ids_) {
    const bool there = std::ranges::any_of(look.guesses, [&](const ExpertGuess& guess) { return guess.expert == id; });
    if (!there) look.guesses.push_back({id, look_accuracy_[ahead - 1]});
  }
  experts_->Hint(layer, look.guesses);
  return {};
}

}  // namespace fathom
