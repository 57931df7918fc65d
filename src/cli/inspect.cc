#include "cli/inspect.h"

#include <algorithm>
#include <map>

#include "model/kv_layout.h"

namespace fathom {
namespace {

const char* FamilyName(ArchFamily family) {
  switch (family) {
    case ArchFamily::kDeepseek2: return "deepseek2 (MLA)";
    case ArchFamily::kLlama: return "llama (GQA)";
    case ArchFamily::kQwen2: return "qwen2 (GQA, QKV bias)";
  }
  return "unknown";
}

const char* ScalingName(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::kNone: return "none";
    case RopeScaling::kLinear: return "linear";
    case RopeScaling::kYarn: return "yarn";
    case RopeScaling::kLlama3: return "llama3";
  }
  return "unknown";
}

/// 1e-6f as 1e-06 and not as 9.99999997e-07.
nlohmann::ordered_json Rounded(float value) {
  return nlohmann::ordered_json::parse(fmt::format("{}", value), nullptr, false);
}

}  // namespace

std::vector<std::pair<std::string, nlohmann::ordered_json>> ConfigTable(const ModelConfig& c) {
  std::vector<std::pair<std::string, nlohmann::ordered_json>> rows = {
      {"architecture", c.architecture},
      {"family", FamilyName(c.family)},
      {"vocab_size", c.vocab_size},
      {"hidden_size", c.hidden_size},
      {"num_hidden_layers", c.num_hidden_layers},
      {"num_attention_heads", c.num_attention_heads},
      {"intermediate_size", c.intermediate_size},
      {"max_position_embeddings", c.max_position_embeddings},
      {"tie_word_embeddings", c.tie_word_embeddings},
      {"rms_norm_eps", Rounded(c.rms_norm_eps)},
  };
  const auto add = [&](const char* key, nlohmann::ordered_json value) { rows.emplace_back(key, std::move(value)); };
  if (c.num_nextn_predict_layers > 0) add("num_nextn_predict_layers", c.num_nextn_predict_layers);
  if (c.is_mla()) {
    add("q_lora_rank", c.mla.q_lora_rank);
    add("kv_lora_rank", c.mla.kv_lora_rank);
    add("qk_nope_head_dim", c.mla.qk_nope_head_dim);
    add("qk_rope_head_dim", c.mla.qk_rope_head_dim);
    add("v_head_dim", c.mla.v_head_dim);
  } else {
    add("num_key_value_heads", c.num_key_value_heads);
    add("head_dim", c.head_dim);
    add("attention_bias", c.attention_bias);
  }
  if (c.moe.n_routed_experts > 0) {
    add("n_routed_experts", c.moe.n_routed_experts);
    add("num_experts_per_tok", c.moe.num_experts_per_tok);
    add("n_shared_experts", c.moe.n_shared_experts);
    add("moe_intermediate_size", c.moe.moe_intermediate_size);
    add("first_k_dense_replace", c.moe.first_k_dense_replace);
    add("n_group", c.moe.n_group);
    add("topk_group", c.moe.topk_group);
    add("scoring_func", c.moe.scoring_func == GatingFunction::kSigmoid ? "sigmoid" : "softmax");
    add("norm_topk_prob", c.moe.norm_topk_prob);
    add("routed_scaling_factor", Rounded(c.moe.routed_scaling_factor));
    add("has_correction_bias", c.moe.has_correction_bias);
  }
  add("rope_theta", Rounded(c.rope.theta));
  add("rope_scaling", ScalingName(c.rope.scaling));
  if (c.rope.scaling != RopeScaling::kNone) {
    add("rope_factor", Rounded(c.rope.factor));
    if (c.rope.original_max_position_embeddings > 0) {
      add("original_max_position_embeddings", c.rope.original_max_position_embeddings);
    }
  }
  if (c.rope.scaling == RopeScaling::kYarn) {
    add("mscale", Rounded(c.rope.mscale));
    add("mscale_all_dim", Rounded(c.rope.mscale_all_dim));
  }
  return rows;
}

std::vector<TypeShare> TypeHistogram(const ModelFile& model) {
  std::map<std::string, TypeShare> by_name;
  for (const TensorInfo& tensor : model.tensors()) {
    TypeShare& share = by_name[std::string(DTypeName(tensor.dtype))];
    ++share.tensors;
    share.bytes += tensor.bytes;
  }
  std::vector<TypeShare> shares;
  for (auto& [name, share] : by_name) {
    share.name = name;
    shares.push_back(share);
  }
  std::stable_sort(shares.begin(), shares.end(),
                   [](const TypeShare& a, const TypeShare& b) { return a.bytes > b.bytes; });
  return shares;
}

int64_t KvBytesPerToken(const ModelConfig& config, DType dtype) { return KvLayoutOf(config, dtype).bytes_per_token(); }

std::vector<MemoryNeed> MemoryNeeds(const ModelFile& model) {
  const int64_t longest = std::max<int64_t>(model.config().max_position_embeddings, 1);
  std::vector<MemoryNeed> needs;
  for (const int64_t context : {int64_t{4096}, int64_t{32768}, longest}) {
    if (context > longest || (!needs.empty() && needs.back().context == context)) continue;
    const int64_t kv = KvBytesPerToken(model.config()) * context;
    needs.push_back({context, kv, model.tensor_bytes() + kv});
  }
  return needs;
}

}  // namespace fathom
