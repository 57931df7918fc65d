// The model family of the engine, written once more as differentiable operations: MLA, mixture of experts, MTP.
//
// One TrainModel holds the parameters (f32, on one device) and computes the losses of a micro-batch. With several ranks
// the routed experts are sharded: rank r holds experts [r E/R, (r+1) E/R) of every layer, everything else is replicated.
// Names of parameters are those of Hugging Face's DeepseekV3 checkpoints, with the pieces that are multiplied together
// kept together here: `gate_up_proj` is gate_proj above up_proj, `experts.*` stack all experts. Not thread-safe.
//
// Sources: DeepSeek-V2 (arXiv 2405.04434) section 2.1 (MLA); DeepSeek-V3 (arXiv 2412.19437) sections 2.1.2 (gate,
// auxiliary-loss-free balancing, sequence-wise loss) and 2.2 (multi-token prediction).
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "format/model_config.h"
#include "model/rope.h"
#include "train/batch.h"
#include "train/recipe.h"
#include "train/torch/ops.h"
#include "train/torch/ranks.h"

namespace fathom::train {

enum class ParameterKind {
  kMatrix,  // hidden matrices, gates: Muon's
  kVector,  // norms
  kTable,   // embeddings, head
  kBias,    // the gate's correction bias: moved by load, not by gradient
};

struct Parameter {
  std::string name;
  Tensor value;  // f32; requires_grad except kBias
  ParameterKind kind;
  // kMatrix: how many matrices are stacked in value's rows (2 for gate_up, 1 otherwise), per expert for stacks.
  int64_t stacked = 1;
  bool sharded = false;  // routed experts with several ranks
};

/// A micro-batch on the device.
struct DeviceBatch {
  Tensor tokens, targets, positions, document;  // [N] int64; document: index of each token's document
  Tensor next_tokens;                           // [N]: the token after, inside the document (itself at the end)
  std::vector<Tensor> mtp_targets;              // of each MTP depth, [N]
  std::vector<int64_t> doc_begin;
  int64_t padding = 0;
};

/// Sums over a micro-batch; losses are not divided by their counts yet, so that they add up over batches and ranks.
struct Losses {
  Tensor total;  // what backward() starts from: next + λ mtp + α balance·N, as sums
  double next = 0, mtp = 0;  // sums of cross-entropies, nats
  int64_t next_count = 0, mtp_count = 0;
};

class TrainModel {
 public:
  /// Fresh weights from `seed`. compute: type of matrix products and activations, kBFloat16 or kFloat (kDouble in
  /// tests). REQUIRES: config is MLA and valid; its experts divide by the number of ranks.
  TrainModel(const ModelConfig& config, const LossSpec& loss, uint64_t seed, at::Device device,
             at::ScalarType compute, bool checkpoint_activations, Ranks& ranks);

  const ModelConfig& config() const { return config_; }
  std::vector<Parameter>& parameters() { return parameters_; }
  at::Device device() const { return device_; }
  Ranks& ranks() { return ranks_; }

  DeviceBatch ToDevice(const Batch& batch) const;

  /// Forward pass and losses. Adds the experts' loads to loads().
  Losses Loss(const DeviceBatch& batch);
  /// Logits of the main model at every token, [N, vocab] f32 (for tests and exports).
  Tensor Logits(const DeviceBatch& batch);

  /// How many tokens each expert got in each MoE layer since ClearLoads(), [layers, E] f32, this rank's tokens only;
  /// MTP layers last.
  Tensor& loads() { return loads_; }
  /// The sequence-wise balance losses of the same layers and tokens, weight included, as a sum; counted with the loads.
  Tensor& balance() { return balance_; }
  void ClearLoads() {
    loads_.zero_();
    balance_.zero_();
  }
  /// Moves the correction biases by speed γ: up for experts below the mean load, down for those above (V3 section
  /// 2.1.2). REQUIRES: loads() summed over ranks.
  void UpdateBiases(double speed);

  int moe_layers() const { return static_cast<int>(biases_.size()); }

  /// MTP's weight λ may change during a run.
  void set_mtp_weight(double weight) { loss_.mtp_weight = weight; }

 private:
  struct Layer {
    Tensor input_norm, q, q_a, q_a_norm, q_b, kv_a, kv_a_norm, kv_b, o, post_norm;
    Tensor gate_up, down;                                     // dense or shared experts
    Tensor router, bias, experts_gate_up, experts_down;       // MoE
    int moe_index = -1;
  };
  struct Mtp {
    Tensor enorm, hnorm, eh_proj, norm;
    Layer layer;
  };
  struct Context {
    // Owned: checkpointed blocks run again in the backward pass, when the caller's batch may be gone.
    std::shared_ptr<const DeviceBatch> batch;
    Tensor cos, sin;  // [N, rope / 2]
    bool with_losses;
  };

  Tensor Add(const std::string& name, std::vector<int64_t> shape, double std, ParameterKind kind, int64_t stacked = 1,
             bool sharded = false);
  Layer MakeLayer(int index);
  Context MakeContext(const DeviceBatch& batch, bool with_losses) const;
  Tensor Block(const Layer& w, const Tensor& x, const Context& context);
  Tensor Attention(const Layer& w, const Tensor& h, const Context& context);
  Tensor FeedForward(const Layer& w, const Tensor& h, const Context& context);
  Tensor Experts(const Layer& w, const Tensor& h, const Context& context);
  Tensor Dispatch(const Layer& w, const Tensor& h, const Tensor& weights, const Tensor& choices);
  Tensor Choose(const Layer& w, const Tensor& scores) const;
  Tensor BalanceLoss(const Tensor& scores, const Tensor& choices, const Context& context) const;
  Tensor Run(const DeviceBatch& batch, const Context& context);
  std::pair<Tensor, int64_t> HeadLossOf(const Tensor& hidden, const Tensor& targets);

  ModelConfig config_;
  LossSpec loss_;
  at::Device device_;
  at::ScalarType compute_;
  bool checkpoint_;
  Ranks& ranks_;
  RopeTable rope_;
  at::Generator generator_;
  std::vector<Parameter> parameters_;
  Tensor embed_, norm_, head_;
  std::vector<Layer> layers_;
  std::vector<Mtp> mtp_;
  std::vector<Tensor> biases_;
  Tensor loads_, balance_;
};

}  // namespace fathom::train
