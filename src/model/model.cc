#include "model/model.h"

#include <algorithm>
#include <cstring>

#include "kernels/dequant.h"
#include "kernels/kv_rows.h"
#include "kernels/vec_ops.h"

namespace fathom {
namespace {

int64_t RowsOf(std::span<const Segment> segments) {
  int64_t rows = 0;
  for (const Segment& segment : segments) rows += static_cast<int64_t>(segment.tokens.size());
  return rows;
}

}  // namespace

Result<std::unique_ptr<Model>> Model::Load(const ModelFile& file, ThreadPool& pool) {
  FATHOM_CHECK_OK(ValidateConfig(file.config()));
  std::unique_ptr<Model> model(new Model(file.config(), pool));
  FATHOM_TRY(model->weights_, LoadWeights(file, pool));
  return model;
}

Status Model::Forward(std::span<const Segment> segments, float* logits, const LayerFn& on_layer) {
  if (profile_ != nullptr) profile_->Start();
  failed_rows_.clear();
  failed_segments_.clear();
  if (check_file_) FATHOM_CHECK_OK(check_file_());
  if (before_pass_) FATHOM_CHECK_OK(before_pass_(RowsOf(segments)));
  FATHOM_CHECK_OK(Embed(segments, weights_.embedding));
  Lap(Stage::kEmbedding);
  BeginStreaming();
  for (int layer = 0; layer < config_.num_hidden_layers; ++layer) {
    if (on_layer && !on_layer(layer, config_.num_hidden_layers)) return Fail(ErrorCode::kCancelled, "cancelled");
    const LayerWeights& w = weights_.layers[layer];
    FATHOM_CHECK_OK(config_.is_mla() ? MlaBlock(w, layer, segments) : GqaBlock(w, layer, segments));
    if (Status done = config_.is_moe_layer(layer) ? MoeBlock(w) : DenseBlock(w); !done) {
      FindFailedSegments(segments);
      return done;
    }
  }
  FATHOM_CHECK_OK(Head(segments, logits));
  Lap(Stage::kHead);
  if (check_file_) FATHOM_CHECK_OK(check_file_());
  EndStreaming();
  for (const Segment& segment : segments)
    segment.kv->SetLength(segment.kv->length() + static_cast<int64_t>(segment.tokens.size()));
  return {};
}

// Looks up the tokens' rows, reserves cache rows and computes the rotary angles of the batch.
Status Model::Embed(std::span<const Segment> segments, const WeightView& embedding) {
  rows_.clear();
  for (const Segment& segment : segments) {
    const int64_t first = segment.kv->length();
    FATHOM_CHECK_OK(segment.kv->Reserve(first + static_cast<int64_t>(segment.tokens.size())));
    for (size_t i = 0; i < segment.tokens.size(); ++i) {
      if (segment.tokens[i] < 0 || segment.tokens[i] >= config_.vocab_size) {
        return Fail(ErrorCode::kInvalidArgument, "token id {} is outside the vocabulary of {}", segment.tokens[i],
                    config_.vocab_size);
      }
      rows_.push_back({segment.kv, first + static_cast<int64_t>(i)});
    }
  }
  const int64_t count = static_cast<int64_t>(rows_.size());
  FATHOM_TRY(x_, scratch_.x.Matrix(count, config_.hidden_size));
  FATHOM_TRY(cos_, scratch_.cos.Matrix(count, config_.rope.dim / 2));
  FATHOM_TRY(sin_, scratch_.sin.Matrix(count, config_.rope.dim / 2));
  int64_t row = 0;
  for (const Segment& segment : segments)
    for (int32_t token : segment.tokens) DequantizeWeightRow(embedding, token, x_.row(row++));
  pool_.ParallelFor(count, 16, [&](int64_t r, int) { rope_.Fill(rows_[r].position, cos_.row(r), sin_.row(r)); });
  return {};
}

Status Model::Head(std::span<const Segment> segments, float* logits) {
  std::vector<int32_t> wanted;
  int64_t row = 0;
  for (const Segment& segment : segments) {
    const int64_t tokens = static_cast<int64_t>(segment.tokens.size());
    for (int64_t i = std::max<int64_t>(0, tokens - segment.logits); i < tokens; ++i)
      wanted.push_back(static_cast<int32_t>(row + i));
    const int64_t first = tokens - segment.hidden_rows;
    for (int64_t i = 0; i < segment.hidden_rows; ++i)
      RmsNorm(x_.row(row + first + i), weights_.output_norm.data(), config_.hidden_size, config_.rms_norm_eps,
              segment.hidden + i * config_.hidden_size);
    row += tokens;
  }
  if (wanted.empty()) return {};
  const int64_t count = static_cast<int64_t>(wanted.size());
  FATHOM_TRY(MatrixView<float> last, scratch_.last.Matrix(count, config_.hidden_size));
  for (int64_t i = 0; i < count; ++i)
    RmsNorm(x_.row(wanted[i]), weights_.output_norm.data(), config_.hidden_size, config_.rms_norm_eps, last.row(i));
  FATHOM_CHECK_OK(scratch_.in.Set({last.data, count, last.cols, last.stride},
                                  NeedsQuantizedActivations(weights_.head.dtype), pool_));
  return Multiply(weights_.head, scratch_.in, {logits, count, config_.vocab_size, config_.vocab_size});
}

Status Model::NormInput(const std::vector<float>& weight, std::initializer_list<const WeightView*> users) {
  FATHOM_TRY(MatrixView<float> h, scratch_.h.Matrix(x_.rows, config_.hidden_size));
  Rows({x_.data, x_.rows, x_.cols, x_.stride}, weight, config_.rms_norm_eps, h);
  const bool quantize = std::any_of(users.begin(), users.end(), [](const WeightView* w) {
    return !w->empty() && NeedsQuantizedActivations(w->dtype);
  });
  return scratch_.in.Set({h.data, h.rows, h.cols, h.stride}, quantize, pool_);
}

Status Model::Multiply(const WeightView& w, const Activations& x, MatrixView<float> y) {
  const MatmulJob job{.w = w, .x = &x, .m = y.rows, .y = y.data, .ldy = y.stride};
  Matmul({&job, 1}, scratch_.matmul, pool_);
  return {};
}

void Model::Rows(MatrixView<const float> in, const std::vector<float>& weight, float eps, MatrixView<float> out) {
  pool_.ParallelFor(in.rows, 8, [&](int64_t r, int) {
    RmsNorm(in.row(r), weight.data(), static_cast<int64_t>(weight.size()), eps, out.row(r));
  });
}

void Model::AddToResidual(MatrixView<const float> update) {
  pool_.ParallelFor(update.rows, 8, [&](int64_t r, int) { AddTo(update.row(r), update.cols, x_.row(r)); });
}

void Model::StoreKv(int layer, int64_t row, const float* values, int64_t count, int64_t first_value) {
  KvSequence& kv = *rows_[row].kv;
  StoreKvRow(kv.layout().row(), values, first_value, count, kv.Row(layer, rows_[row].position));
}

Status Model::Attend(int layer, std::span<const Segment> segments, MatrixView<const float> q, MatrixView<float> out,
                     int64_t kv_heads, int64_t k_dim, int64_t v_dim, int64_t v_begin, float scale) {
  std::vector<AttentionJob> jobs;
  int64_t row = 0;
  for (const Segment& segment : segments) {
    const KvLayout& layout = segment.kv->layout();
    jobs.push_back({.kv = {.dtype = layout.dtype,
                           .blocks = segment.kv->block_starts().data(),
                           .offset = layer * layout.layer_bytes(),
                           .row_bytes = layout.row_bytes(),
                           .block_tokens = KvLayout::kBlockTokens,
                           .v_begin = v_begin,
                           .row_values = layout.row_values,
                           .row_tail = layout.row_tail,
                           .row_group = layout.row_group},
                    .tokens = static_cast<int64_t>(segment.tokens.size()),
                    .first_position = segment.kv->length(),
                    .heads = config_.num_attention_heads,
                    .kv_heads = kv_heads,
                    .k_dim = k_dim,
                    .v_dim = v_dim,
                    .scale = scale,
                    .int8 = config_.is_mla() && NeedsQuantizedActivations(weights_.layers[layer].v_b.front().dtype),
                    .q = q.row(row),
                    .out = out.row(row)});
    row += static_cast<int64_t>(segment.tokens.size());
  }
  return Attention(jobs, scratch_.attention, pool_);
}

}  // namespace fathom
