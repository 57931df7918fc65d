#include "train/torch/module.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "train/torch/exchange.h"

namespace fathom::train {
namespace {

/// Passes x on and starts the gradient of `loss` (a sum, weight included) beside x's own, so that a loss made deep
/// inside a layer needs no way out of it.
class WithLossFn : public torch::autograd::Function<WithLossFn> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& x, const Tensor& loss) {
    ctx->saved_data["options"] = static_cast<int64_t>(loss.scalar_type());
    return x.view_as(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto type = static_cast<at::ScalarType>(ctx->saved_data["options"].toInt());
    return {grads[0], at::ones({}, grads[0].options().dtype(type))};
  }
};

Tensor FromVector(const std::vector<int32_t>& values, at::Device device) {
  return at::tensor(at::ArrayRef<int32_t>(values), at::kInt).to(at::kLong).to(device);
}

}  // namespace

TrainModel::TrainModel(const ModelConfig& config, const LossSpec& loss, uint64_t seed, at::Device device,
                       at::ScalarType compute, bool checkpoint_activations, Ranks& ranks)
    : config_(config),
      loss_(loss),
      device_(device),
      compute_(compute),
      checkpoint_(checkpoint_activations),
      ranks_(ranks),
      rope_(config.rope, true),
      generator_(at::detail::createCPUGenerator(seed)) {
  const int64_t hidden = config.hidden_size, vocab = config.vocab_size;
  const double unit = 1.0 / std::sqrt(static_cast<double>(hidden));
  embed_ = Add("model.embed_tokens.weight", {vocab, hidden}, unit, ParameterKind::kTable);
  for (int i = 0; i < config.num_hidden_layers; ++i) layers_.push_back(MakeLayer(i));
  norm_ = Add("model.norm.weight", {hidden}, 0, ParameterKind::kVector);
  head_ = config.tie_word_embeddings
              ? embed_
              : Add("lm_head.weight", {vocab, hidden}, 0.5 * unit, ParameterKind::kTable);
  for (int i = 0; i < config.num_nextn_predict_layers; ++i) {
    const int index = config.num_hidden_layers + i;
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    Mtp mtp;
    mtp.enorm = Add(prefix + "enorm.weight", {hidden}, 0, ParameterKind::kVector);
    mtp.hnorm = Add(prefix + "hnorm.weight", {hidden}, 0, ParameterKind::kVector);
    mtp.eh_proj = Add(prefix + "eh_proj.weight", {hidden, 2 * hidden}, unit / std::sqrt(2.0), ParameterKind::kMatrix);
    mtp.layer = MakeLayer(index);
    mtp.norm = Add(prefix + "shared_head.norm.weight", {hidden}, 0, ParameterKind::kVector);
    mtp_.push_back(std::move(mtp));
  }
  loads_ = at::zeros({std::max<int64_t>(1, moe_layers()), std::max(1, config.moe.n_routed_experts)},
                     at::TensorOptions(device).dtype(at::kFloat));
  balance_ = at::zeros({}, at::TensorOptions(device).dtype(at::kDouble));
}

// std 0: a vector of ones (norms) or of zeros (biases).
Tensor TrainModel::Add(const std::string& name, std::vector<int64_t> shape, double std, ParameterKind kind,
                       int64_t stacked, bool sharded) {
  // Values are drawn on the host and in f32, so that every device and every number of ranks starts from the same ones.
  const bool ones = kind == ParameterKind::kVector;
  Tensor value = std > 0 ? at::normal(0.0, std, shape, generator_) : (ones ? at::ones(shape) : at::zeros(shape));
  if (sharded) {
    const int64_t part = shape[0] / ranks_.size();
    value = value.narrow(0, part * ranks_.rank(), part).clone();
  }
  const auto type = compute_ == at::kDouble ? at::kDouble : at::kFloat;
  value = value.to(device_).to(type);
  if (kind != ParameterKind::kBias) value.set_requires_grad(true);
  parameters_.push_back({name, value, kind, stacked, sharded && !ranks_.alone()});
  return value;
}

TrainModel::Layer TrainModel::MakeLayer(int index) {
  const ModelConfig& c = config_;
  const MlaConfig& mla = c.mla;
  const int64_t hidden = c.hidden_size, heads = c.num_attention_heads;
  const std::string prefix = "model.layers." + std::to_string(index) + ".", attention = prefix + "self_attn.";
  const auto fan_in = [](int64_t n) { return 1.0 / std::sqrt(static_cast<double>(n)); };
  // What is added to the residual stream starts smaller, the more layers add to it (GPT-2, section 2.3).
  const double out_scale = fan_in(2 * c.num_hidden_layers);
  using enum ParameterKind;

  Layer w;
  w.input_norm = Add(prefix + "input_layernorm.weight", {hidden}, 0, kVector);
  if (mla.q_lora_rank > 0) {
    w.q_a = Add(attention + "q_a_proj.weight", {mla.q_lora_rank, hidden}, fan_in(hidden), kMatrix);
    w.q_a_norm = Add(attention + "q_a_layernorm.weight", {mla.q_lora_rank}, 0, kVector);
    w.q_b = Add(attention + "q_b_proj.weight", {heads * mla.qk_head_dim(), mla.q_lora_rank}, fan_in(mla.q_lora_rank),
                kMatrix);
  } else {
    w.q = Add(attention + "q_proj.weight", {heads * mla.qk_head_dim(), hidden}, fan_in(hidden), kMatrix);
  }
  w.kv_a = Add(attention + "kv_a_proj_with_mqa.weight", {mla.latent_dim(), hidden}, fan_in(hidden), kMatrix);
  w.kv_a_norm = Add(attention + "kv_a_layernorm.weight", {mla.kv_lora_rank}, 0, kVector);
  w.kv_b = Add(attention + "kv_b_proj.weight", {heads * (mla.qk_nope_head_dim + mla.v_head_dim), mla.kv_lora_rank},
               fan_in(mla.kv_lora_rank), kMatrix);
  w.o = Add(attention + "o_proj.weight", {hidden, heads * mla.v_head_dim}, fan_in(heads * mla.v_head_dim) * out_scale,
            kMatrix);
  w.post_norm = Add(prefix + "post_attention_layernorm.weight", {hidden}, 0, kVector);

  const auto mlp = [&](const std::string& name, int64_t width) {
    w.gate_up = Add(name + "gate_up_proj.weight", {2 * width, hidden}, fan_in(hidden), kMatrix, 2);
    w.down = Add(name + "down_proj.weight", {hidden, width}, fan_in(width) * out_scale, kMatrix);
  };
  if (!c.is_moe_layer(index)) {
    mlp(prefix + "mlp.", c.intermediate_size);
    return w;
  }
  const int64_t experts = c.moe.n_routed_experts, width = c.moe.moe_intermediate_size;
  w.moe_index = moe_layers();
  // The gate starts nearly even, and Muon keeps its rows apart: with AdamW's rates a shared direction of all tokens
  // drives every token to the same few experts faster than the bias can answer.
  w.router = Add(prefix + "mlp.gate.weight", {experts, hidden}, 0.1 * fan_in(hidden), kMatrix);
  w.bias = Add(prefix + "mlp.gate.e_score_correction_bias", {experts}, 0, kBias);
  biases_.push_back(w.bias);
  w.experts_gate_up = Add(prefix + "mlp.experts.gate_up_proj.weight", {experts, 2 * width, hidden}, fan_in(hidden),
                          kMatrix, 2, true);
  w.experts_down = Add(prefix + "mlp.experts.down_proj.weight", {experts, hidden, width}, fan_in(width) * out_scale,
                       kMatrix, 1, true);
  if (c.moe.n_shared_experts > 0) mlp(prefix + "mlp.shared_experts.", c.moe.n_shared_experts * width);
  return w;
}

DeviceBatch TrainModel::ToDevice(const Batch& batch) const {
  const int64_t n = static_cast<int64_t>(batch.tokens.size());
  DeviceBatch out{.tokens = FromVector(batch.tokens, device_),
                  .targets = FromVector(batch.targets, device_),
                  .positions = FromVector(batch.positions, device_),
                  .doc_begin = batch.doc_begin,
                  .padding = batch.padding};
  std::vector<int32_t> document(n), next(n);
  for (size_t d = 0; d + 1 < batch.doc_begin.size(); ++d) {
    for (int64_t i = batch.doc_begin[d]; i < batch.doc_begin[d + 1]; ++i) {
      document[i] = static_cast<int32_t>(d);
      next[i] = batch.tokens[i + 1 < batch.doc_begin[d + 1] ? i + 1 : i];
    }
  }
  out.document = FromVector(document, device_);
  out.next_tokens = FromVector(next, device_);
  // Depth k predicts the token k + 1 after a position's own target: targets moved k places, inside the document.
  for (int depth = 1; depth <= config_.num_nextn_predict_layers; ++depth) {
    std::vector<int32_t> targets(n, kNoTarget);
    for (size_t d = 0; d + 1 < batch.doc_begin.size(); ++d) {
      for (int64_t i = batch.doc_begin[d]; i + depth < batch.doc_begin[d + 1]; ++i) {
        targets[i] = batch.targets[i + depth];
      }
    }
    out.mtp_targets.push_back(FromVector(targets, device_));
  }
  return out;
}

TrainModel::Context TrainModel::MakeContext(const DeviceBatch& batch, bool with_losses) const {
  const auto frequencies = rope_.frequencies();
  const Tensor frequency =
      at::tensor(at::ArrayRef<float>(frequencies.data(), frequencies.size()), at::kFloat).to(device_);
  const Tensor angle = batch.positions.to(at::kFloat).unsqueeze(1) * frequency.unsqueeze(0);
  return {std::make_shared<const DeviceBatch>(batch), (angle.cos() * rope_.magnitude()).contiguous(),
          (angle.sin() * rope_.magnitude()).contiguous(), with_losses};
}

Tensor TrainModel::Attention(const Layer& w, const Tensor& h, const Context& context) {
  const MlaConfig& mla = config_.mla;
  const int64_t n = h.size(0), heads = config_.num_attention_heads, rope = mla.qk_rope_head_dim,
                nope = mla.qk_nope_head_dim, rank = mla.kv_lora_rank;
  Tensor q = w.q.defined() ? Linear(h, w.q)
                           : Linear(RmsNorm(Linear(h, w.q_a), w.q_a_norm, config_.mla_norm_eps, compute_), w.q_b);
  q = RopeTail(q.view({n, heads, mla.qk_head_dim()}), rope, context.cos, context.sin);

  const Tensor latent = Linear(h, w.kv_a);
  const Tensor c = RmsNorm(latent.narrow(1, 0, rank), w.kv_a_norm, config_.mla_norm_eps, compute_);
  const Tensor k_rope = RopeTail(latent.narrow(1, rank, rope).unsqueeze(1), rope, context.cos, context.sin);
  const Tensor kv = Linear(c, w.kv_b).view({n, heads, nope + mla.v_head_dim});
  const Tensor k = at::cat({kv.narrow(2, 0, nope), k_rope.expand({n, heads, rope})}, -1);
  const Tensor v = kv.narrow(2, nope, mla.v_head_dim);

  const double scale = rope_.softmax_factor() / std::sqrt(static_cast<double>(mla.qk_head_dim()));
  const Tensor o = DocumentAttention(q, k, v, scale, context.batch->doc_begin);
  return Linear(o.reshape({n, heads * mla.v_head_dim}), w.o);
}

/// V3's choice: groups by the sum of their two best biased scores, then the best experts of the chosen groups. [N, k]
Tensor TrainModel::Choose(const Layer& w, const Tensor& scores) const {
  at::NoGradGuard no_grad;
  const MoeConfig& moe = config_.moe;
  Tensor biased = scores.detach() + w.bias.to(scores.scalar_type());
  if (moe.n_group > 1) {
    const int64_t n = scores.size(0), width = moe.n_routed_experts / moe.n_group;
    const Tensor groups = biased.view({n, moe.n_group, width});
    const Tensor group_scores = std::get<0>(groups.topk(2, -1)).sum(-1);
    const Tensor chosen = std::get<1>(group_scores.topk(moe.topk_group, -1));
    const Tensor open = at::zeros_like(group_scores).scatter_(1, chosen, 1.0);
    biased = groups.masked_fill(open.unsqueeze(-1) == 0, -std::numeric_limits<double>::infinity()).flatten(1);
  }
  return std::get<1>(biased.topk(moe.num_experts_per_tok, -1));
}

/// V3 equations 17-20, for each document; padding counts for nothing. The sum over documents of tokens · loss.
Tensor TrainModel::BalanceLoss(const Tensor& scores, const Tensor& choices, const Context& context) const {
  const MoeConfig& moe = config_.moe;
  const DeviceBatch& batch = *context.batch;
  const int64_t documents = static_cast<int64_t>(batch.doc_begin.size()) - 1 - (batch.padding > 0 ? 1 : 0);
  const int64_t n = batch.doc_begin[documents];
  const auto sums = [&](const Tensor& rows) {
    return at::zeros({documents, rows.size(1)}, rows.options())
        .index_add(0, batch.document.narrow(0, 0, n), rows.narrow(0, 0, n));
  };
  const Tensor picked = at::zeros_like(scores).scatter_(1, choices, 1.0);
  const Tensor lengths = sums(at::ones({scores.size(0), 1}, scores.options()));
  const Tensor f =
      sums(picked) * (static_cast<double>(moe.n_routed_experts) / moe.num_experts_per_tok) / lengths.clamp_min(1);
  const Tensor p = sums(scores / (scores.sum(-1, true) + 1e-20));  // tokens · P
  return (f.detach() * p).sum();
}

Tensor TrainModel::Dispatch(const Layer& w, const Tensor& h, const Tensor& weights, const Tensor& choices) {
  const int64_t experts = config_.moe.n_routed_experts;
  if (ranks_.alone()) {
    return GroupedExperts(h, weights, GroupByExpert(choices, experts), w.experts_gate_up, w.experts_down);
  }
  return ExchangeExperts(ranks_, h, weights, choices, experts, w.experts_gate_up, w.experts_down);
}

Tensor TrainModel::Experts(const Layer& w, const Tensor& h, const Context& context) {
  const MoeConfig& moe = config_.moe;
  const auto wide = compute_ == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor logits = at::matmul(h.to(wide), w.router.t());
  const Tensor scores = moe.scoring_func == GatingFunction::kSigmoid ? at::sigmoid(logits) : at::softmax(logits, -1);
  const Tensor choices = Choose(w, scores);
  Tensor weights = scores.gather(1, choices);
  if (moe.norm_topk_prob) weights = weights / (weights.sum(-1, true) + 1e-20);
  weights = weights * moe.routed_scaling_factor;

  Tensor input = h;
  // While a checkpointed block runs forward, autograd is off; its second run does the counting.
  if (context.with_losses && at::GradMode::is_enabled()) {
    const int64_t real = h.size(0) - context.batch->padding;
    loads_[w.moe_index].add_(
        at::bincount(choices.narrow(0, 0, real).reshape({-1}), {}, moe.n_routed_experts).to(at::kFloat));
    if (loss_.sequence_balance_weight > 0) {
      const Tensor balance = BalanceLoss(scores, choices, context) * loss_.sequence_balance_weight;
      balance_.add_(balance.detach());
      input = WithLossFn::apply(h, balance);
    }
  }
  Tensor y = Dispatch(w, input, weights, choices);
  if (w.gate_up.defined()) y = y + Linear(SwiGlu(Linear(input, w.gate_up)), w.down);
  return y;
}

Tensor TrainModel::FeedForward(const Layer& w, const Tensor& h, const Context& context) {
  if (w.moe_index >= 0) return Experts(w, h, context);
  return Linear(SwiGlu(Linear(h, w.gate_up)), w.down);
}

Tensor TrainModel::Block(const Layer& w, const Tensor& x, const Context& context) {
  const auto body = [this, &w, context](const Tensor& in) {
    const Tensor mid =
        AddResidual(in, Attention(w, RmsNorm(in, w.input_norm, config_.rms_norm_eps, compute_), context));
    return AddResidual(mid, FeedForward(w, RmsNorm(mid, w.post_norm, config_.rms_norm_eps, compute_), context));
  };
  return checkpoint_ && at::GradMode::is_enabled() ? Checkpointed(body, x) : body(x);
}

/// The main model's hidden states after its last norm, [N, H] in the compute type.
Tensor TrainModel::Run(const DeviceBatch& batch, const Context& context) {
  Tensor x = Embed(embed_, batch.tokens);
  for (const Layer& layer : layers_) x = Block(layer, x, context);
  return RmsNorm(x, norm_, config_.rms_norm_eps, compute_);
}

std::pair<Tensor, int64_t> TrainModel::HeadLossOf(const Tensor& hidden, const Tensor& targets) {
  const Tensor counted = (targets >= 0).nonzero().squeeze(1);
  return {HeadLoss(hidden.index_select(0, counted), head_, targets.index_select(0, counted)), counted.size(0)};
}

Losses TrainModel::Loss(const DeviceBatch& batch) {
  const Context context = MakeContext(batch, true);
  const Tensor hidden = Run(batch, context);
  Losses losses;
  Tensor next;
  std::tie(next, losses.next_count) = HeadLossOf(hidden, batch.targets);
  losses.next = next.item<double>();
  losses.total = next;

  // V3 section 2.2: h'_i = M [norm(h_i); norm(embedding of token i + k)], a block, the shared head.
  Tensor previous = hidden, tokens = batch.next_tokens;
  for (size_t k = 0; k < mtp_.size(); ++k) {
    const Mtp& mtp = mtp_[k];
    const Tensor embedded = RmsNorm(Embed(embed_, tokens), mtp.enorm, config_.rms_norm_eps, compute_);
    const Tensor before = RmsNorm(previous, mtp.hnorm, config_.rms_norm_eps, compute_);
    const Tensor joined = Linear(at::cat({embedded, before}, -1), mtp.eh_proj);
    const Tensor x = Block(mtp.layer, joined.to(embed_.scalar_type()), context);
    const Tensor normed = RmsNorm(x, mtp.norm, config_.rms_norm_eps, compute_);
    const auto [loss, count] = HeadLossOf(normed, batch.mtp_targets[k]);
    losses.mtp += loss.item<double>();
    losses.mtp_count += count;
    losses.total = losses.total + loss * (loss_.mtp_weight / static_cast<double>(mtp_.size()));
    previous = normed;
    tokens = tokens.index_select(0, at::arange(1, tokens.size(0) + 1, tokens.options()).clamp_max(tokens.size(0) - 1));
  }
  return losses;
}

Tensor TrainModel::Logits(const DeviceBatch& batch) {
  at::NoGradGuard no_grad;
  return Linear(Run(batch, MakeContext(batch, false)), head_).to(compute_ == at::kDouble ? at::kDouble : at::kFloat);
}

void TrainModel::UpdateBiases(double speed) {
  if (speed == 0 || !config_.moe.has_correction_bias) return;
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < biases_.size(); ++i) {
    const Tensor load = loads_[static_cast<int64_t>(i)];
    biases_[i].add_((load.mean() - load).sign().to(biases_[i].scalar_type()), speed);
  }
}

}  // namespace fathom::train
