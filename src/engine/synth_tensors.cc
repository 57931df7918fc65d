#include "engine/synth_tensors.h"

#include <cmath>

namespace fathom {
namespace {

constexpr float kLogits = 3.0f;  // standard deviation of the logits
constexpr float kRouter = 1.0f;  // of the router's logits: spread, but no expert is certain
constexpr float kBias = 0.02f;   // of the correction bias, small beside the sigmoid's spread of 0.2

class Scales {
 public:
  explicit Scales(const ModelConfig& config) {
    // Tied embeddings are also the head, whose rows must be small; the stream then starts small, too.
    stream_ = config.tie_word_embeddings ? kLogits / std::sqrt(static_cast<float>(config.hidden_size)) : 1.0f;
    write_gain_ = 1.5f * stream_ / std::sqrt(2.0f * static_cast<float>(config.num_hidden_layers));
  }

  void Set(const GgufTensorShape& shape, const ModelConfig& config, SynthTensor& tensor) const {
    // A matrix whose outputs are `gain` times as large as its inputs.
    const auto matrix = [&](float gain, int64_t inputs) {
      tensor.std = gain / std::sqrt(static_cast<float>(inputs));
    };
    switch (shape.role) {
      case GgufRole::kRopeFactors: tensor.values = Llama3FrequencyFactors(config.rope); break;
      case GgufRole::kEmbedding:
      case GgufRole::kMtpEmbedding: tensor.std = stream_; break;
      case GgufRole::kNorm: tensor.std = 0.1f, tensor.mean = 1.0f; break;
      case GgufRole::kHead:
      case GgufRole::kMtpHead: matrix(kLogits, shape.cols()); break;
      case GgufRole::kResidual: matrix(write_gain_, shape.cols()); break;
      case GgufRole::kKeyUp: matrix(1.0f, shape.shape[1]); break;  // stored transposed: keys from the latent
      case GgufRole::kRouter: matrix(kRouter, shape.cols()); break;
      case GgufRole::kRouterBias: tensor.std = kBias; break;
      case GgufRole::kBias: tensor.std = 0.1f; break;
      case GgufRole::kMatrix:
      case GgufRole::kValueUp:
      case GgufRole::kMtp: matrix(1.0f, shape.cols()); break;
    }
  }

 private:
  float stream_, write_gain_;
};

}  // namespace

std::vector<SynthTensor> ListSynthTensors(const ModelConfig& config, const QuantRecipe& recipe, GgufLayout layout) {
  const Scales scales(config);
  std::vector<SynthTensor> tensors;
  for (GgufTensorShape& shape : ListGgufTensors(config, {.layout = layout})) {
    SynthTensor tensor;
    scales.Set(shape, config, tensor);
    tensor.dtype = QuantTensorType(recipe, config, shape.name, shape.cols(), static_cast<int>(shape.shape.size()),
                                   shape.layer);
    tensor.name = std::move(shape.name);
    tensor.shape = std::move(shape.shape);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace fathom
