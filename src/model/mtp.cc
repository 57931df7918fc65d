// Multi-token prediction: one more layer that sees the model's hidden state and the token that came out of it, and
// predicts the token after that one.
#include "kernels/vec_ops.h"
#include "model/model.h"

namespace fathom {

Status Model::LoadMtp(const ModelFile& file) {
  FATHOM_TRY(mtp_, LoadMtpWeights(file, weights_, pool_));
  return {};
}

// DeepSeek-V3 (arXiv 2412.19437), §2.2, equations 21 to 23, at depth 1: x = M [norm(embedding of t_{i+1}); norm(h_i)],
// one block, norm, head. h_i is the state after the model's last norm, as the serving programs of V3 have it; the
// embedding's half comes first, as in the released eh_proj.
Status Model::Mtp(std::span<const MtpSegment> segments, float* hidden, float* logits) {
  const MtpWeights& w = *mtp_;
  const int64_t size = config_.hidden_size, count = static_cast<int64_t>(segments.size());
  std::vector<Segment> rows;
  std::vector<const float*> before;
  for (const MtpSegment& segment : segments) {
    rows.push_back({.kv = segment.kv, .tokens = segment.tokens});
    for (size_t i = 0; i < segment.tokens.size(); ++i) before.push_back(segment.hidden + static_cast<int64_t>(i) * size);
  }
  FATHOM_CHECK_OK(Embed(rows, w.embedding));
  FATHOM_TRY(MatrixView<float> joined, scratch_.joined.Matrix(x_.rows, 2 * size));
  pool_.ParallelFor(x_.rows, 8, [&](int64_t r, int) {
    RmsNorm(x_.row(r), w.enorm.data(), size, config_.rms_norm_eps, joined.row(r));
    RmsNorm(before[static_cast<size_t>(r)], w.hnorm.data(), size, config_.rms_norm_eps, joined.row(r) + size);
  });
  FATHOM_CHECK_OK(scratch_.in.Set({joined.data, joined.rows, joined.cols, joined.stride},
                                  NeedsQuantizedActivations(w.eh_proj.dtype), pool_));
  FATHOM_CHECK_OK(Multiply(w.eh_proj, scratch_.in, x_));
  FATHOM_CHECK_OK(config_.is_mla() ? MlaBlock(w.layer, 0, rows) : GqaBlock(w.layer, 0, rows));
  FATHOM_CHECK_OK(config_.is_moe_layer(config_.num_hidden_layers) ? MoeBlock(w.layer) : DenseBlock(w.layer));

  int64_t last = -1;
  for (int64_t s = 0; s < count; ++s) {
    last += static_cast<int64_t>(segments[static_cast<size_t>(s)].tokens.size());
    RmsNorm(x_.row(last), w.norm.data(), size, config_.rms_norm_eps, hidden + s * size);
  }
  FATHOM_CHECK_OK(scratch_.in.Set({hidden, count, size, size}, NeedsQuantizedActivations(w.head.dtype), pool_));
  FATHOM_CHECK_OK(Multiply(w.head, scratch_.in, {logits, count, config_.vocab_size, config_.vocab_size}));
  for (const MtpSegment& segment : segments)
    segment.kv->SetLength(segment.kv->length() + static_cast<int64_t>(segment.tokens.size()));
  return {};
}

}  // namespace fathom
