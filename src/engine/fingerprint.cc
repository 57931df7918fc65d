#include "engine/fingerprint.h"

#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <vector>

namespace fathom {
namespace {

constexpr std::string_view kVersion = "fathom model fingerprint 1";
constexpr int64_t kSample = 4096;

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) { EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr); }
  void Bytes(const void* data, size_t size) { EVP_DigestUpdate(context_.get(), data, size); }
  void Int(int64_t value) {
    unsigned char bytes[8];
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(static_cast<uint64_t>(value) >> (8 * i));
    Bytes(bytes, sizeof(bytes));
  }
  void Float(float value) { Int(std::bit_cast<uint32_t>(value)); }
  void Text(std::string_view text) {
    Int(static_cast<int64_t>(text.size()));
    Bytes(text.data(), text.size());
  }
  std::string Hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_DigestFinal_ex(context_.get(), digest, &size);
    std::string hex;
    for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
    return hex;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

void AddConfig(const ModelConfig& config, Sha256& sha) {
  sha.Int(static_cast<int64_t>(config.family));
  for (const int64_t value :
       {config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers,
        config.num_attention_heads, config.num_key_value_heads, config.head_dim, config.mla.q_lora_rank,
        config.mla.kv_lora_rank, config.mla.qk_nope_head_dim, config.mla.qk_rope_head_dim, config.mla.v_head_dim,
        config.moe.n_routed_experts, config.moe.num_experts_per_tok, config.moe.n_shared_experts,
        config.moe.moe_intermediate_size, config.moe.first_k_dense_replace, config.moe.n_group, config.moe.topk_group}) {
    sha.Int(value);
  }
  sha.Int(static_cast<int64_t>(config.moe.scoring_func));
  for (const bool value : {config.moe.norm_topk_prob, config.moe.group_score_top2, config.moe.has_correction_bias,
                           config.tie_word_embeddings, config.attention_bias}) {
    sha.Int(value);
  }
  sha.Float(config.moe.routed_scaling_factor);
  sha.Float(config.rms_norm_eps);
  sha.Float(config.mla_norm_eps);
  sha.Text(RopeText(config.rope));
}

}  // namespace

std::string RopeText(const RopeConfig& rope) {
  constexpr std::string_view kScaling[] = {"none", "linear", "yarn", "llama3"};
  std::string text = fmt::format(
      "theta={} dim={} {} {} factor={} original={} beta_fast={} beta_slow={} mscale={} mscale_all_dim={} "
      "attention_factor={} low={} high={}",
      rope.theta, rope.dim, rope.layout == RopeLayout::kInterleaved ? "interleaved" : "half-split",
      kScaling[static_cast<size_t>(rope.scaling)], rope.factor, rope.original_max_position_embeddings, rope.beta_fast,
      rope.beta_slow, rope.mscale, rope.mscale_all_dim, rope.attention_factor, rope.low_freq_factor,
      rope.high_freq_factor);
  for (const float factor : rope.freq_factors) text += fmt::format(" {}", factor);
  return text;
}

Result<std::string> ModelFingerprint(const ModelFile& file) {
  Sha256 sha;
  sha.Text(kVersion);
  AddConfig(file.config(), sha);
  std::vector<const TensorInfo*> tensors;
  for (const TensorInfo& tensor : file.tensors()) tensors.push_back(&tensor);
  std::sort(tensors.begin(), tensors.end(), [](auto* a, auto* b) { return a->name < b->name; });
  std::vector<std::byte> sample;
  for (const TensorInfo* tensor : tensors) {
    sha.Text(tensor->name);
    sha.Text(TraitsOf(tensor->dtype).name);
    sha.Int(static_cast<int64_t>(tensor->shape.size()));
    for (const int64_t size : tensor->shape) sha.Int(size);
    sha.Int(tensor->bytes);
    if (tensor->data == nullptr) continue;
    const bool whole = tensor->bytes <= 3 * kSample;
    const int64_t size = whole ? tensor->bytes : kSample;
    for (const int64_t offset : {int64_t{0}, (tensor->bytes - kSample) / 2, tensor->bytes - kSample}) {
      sample.resize(static_cast<size_t>(size));
      FATHOM_CHECK_OK(file.Read(*tensor, whole ? 0 : offset, sample));
      sha.Bytes(sample.data(), sample.size());
      if (whole) break;
    }
  }
  return sha.Hex();
}

Result<KvSpace> SpaceOf(const ModelFile& file, const KvLayout& layout) {
  FATHOM_TRY(std::string fingerprint, ModelFingerprint(file));
  return KvSpace{.model_fingerprint = std::move(fingerprint), .rope = RopeText(file.config().rope), .layout = layout};
}

}  // namespace fathom
