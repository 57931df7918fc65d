#include "engine/quant_recipe.h"

#include <algorithm>
#include <cctype>
#include <optional>

namespace fathom {
namespace {

// Numbers of llama.cpp's llama_ftype.
enum FileType : int32_t {
  kQ2K = 10, kQ3KS = 11, kQ3KM = 12, kQ3KL = 13, kQ4KS = 14, kQ4KM = 15, kQ5KM = 17,
  kIQ4NL = 25, kIQ4XS = 30, kMxfp4Moe = 38,
};

constexpr QuantRecipe kRecipes[] = {
    {"f32", DType::kF32, 0, "32-bit floats"},
    {"f16", DType::kF16, 1, "16-bit floats"},
    {"bf16", DType::kBF16, 32, "brain floats"},
    {"q8_0", DType::kQ8_0, 7, "8.5 bits a weight"},
    {"q6_k", DType::kQ6_K, 18, "6.6 bits"},
    {"q5_k_m", DType::kQ5_K, kQ5KM, "5.5 bits, some matrices in q6_k"},
    {"q5_k_s", DType::kQ5_K, 16, "5.5 bits"},
    {"q5_1", DType::kQ5_1, 9, "6 bits"},
    {"q5_0", DType::kQ5_0, 8, "5.5 bits"},
    {"q4_k_m", DType::kQ4_K, kQ4KM, "4.5 bits, some matrices in q6_k: what most people run"},
    {"q4_k_s", DType::kQ4_K, kQ4KS, "4.5 bits, some matrices in q5_k"},
    {"q4_1", DType::kQ4_1, 3, "5 bits"},
    {"q4_0", DType::kQ4_0, 2, "4.5 bits"},
    {"iq4_nl", DType::kIQ4_NL, kIQ4NL, "4.5 bits, uneven levels"},
    {"iq4_xs", DType::kIQ4_XS, kIQ4XS, "4.25 bits, uneven levels"},
    {"mxfp4", DType::kMXFP4, kMxfp4Moe, "experts in 4.25-bit microscaling floats, the rest in q8_0"},
    {"q3_k_l", DType::kQ3_K, kQ3KL, "3.4 bits, many matrices in q5_k"},
    {"q3_k_m", DType::kQ3_K, kQ3KM, "3.4 bits, many matrices in q4_k and q5_k"},
    {"q3_k_s", DType::kQ3_K, kQ3KS, "3.4 bits"},
    {"q2_k", DType::kQ2_K, kQ2K, "2.6 bits, many matrices in q3_k"},
};

bool Contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

const QuantRecipe* Lookup(std::string_view name) {
  for (const auto& recipe : kRecipes)
    if (recipe.name == name) return &recipe;
  return nullptr;
}

// The first and last eighth of the layers and every third between.
bool UseMoreBits(int layer, int layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

// Rows that do not fill a super-block: the next larger type with blocks of 32, else F16.
DType Fallback(DType type, int64_t ne0) {
  if (ne0 % TraitsOf(type).block_size == 0) return type;
  DType other = type;
  switch (type) {
    case DType::kQ2_K:
    case DType::kQ3_K: other = DType::kQ4_0; break;
    case DType::kQ4_K: other = DType::kQ5_0; break;
    case DType::kQ5_K: other = DType::kQ5_1; break;
    case DType::kQ6_K: other = DType::kQ8_0; break;
    case DType::kIQ4_XS: other = DType::kIQ4_NL; break;
    default: break;
  }
  return ne0 % TraitsOf(other).block_size == 0 ? other : DType::kF16;
}

DType OutputType(const QuantRecipe& recipe, int64_t ne0) {
  if (recipe.file_type == kMxfp4Moe || ne0 % TraitsOf(recipe.type).block_size != 0) return DType::kQ8_0;
  return recipe.type == DType::kQ8_0 ? DType::kQ8_0 : DType::kQ6_K;
}

DType AttentionValueType(const QuantRecipe& recipe, const ModelConfig& config, int layer) {
  const int layers = config.num_hidden_layers;
  const int gqa = config.num_key_value_heads > 0 && !config.is_mla()
                      ? config.num_attention_heads / config.num_key_value_heads : 1;
  DType type = recipe.type;
  switch (recipe.file_type) {
    case kQ2K: type = gqa >= 4 ? DType::kQ4_K : DType::kQ3_K; break;
    case kQ3KM: type = layer < 2 ? DType::kQ5_K : DType::kQ4_K; break;
    case kQ3KL: type = DType::kQ5_K; break;
    case kIQ4NL:
    case kIQ4XS: if (gqa >= 4) type = DType::kQ5_K; break;
    case kQ4KM:
    case kQ5KM: if (UseMoreBits(layer, layers)) type = DType::kQ6_K; break;
    case kQ4KS: if (layer < 4) type = DType::kQ5_K; break;
    default: break;
  }
  const bool llama70 = config.family == ArchFamily::kLlama && layers == 80;
  if (llama70 && (type == DType::kQ3_K || type == DType::kQ4_K)) type = DType::kQ5_K;
  return type;
}

DType DownType(const QuantRecipe& recipe, int layer, int layers) {
  switch (recipe.file_type) {
    case kQ2K: return DType::kQ3_K;
    case kQ3KM: return layer < layers / 16 ? DType::kQ5_K : DType::kQ4_K;
    case kQ3KL: return DType::kQ5_K;
    case kQ4KM:
    case kQ5KM: return UseMoreBits(layer, layers) ? DType::kQ6_K : recipe.type;
    case kQ4KS:
    case kIQ4NL:
    case kIQ4XS: return layer < layers / 8 ? DType::kQ5_K : recipe.type;
    default: return recipe.type;
  }
}

DType AttentionOutputType(const QuantRecipe& recipe) {
  switch (recipe.file_type) {
    case kQ2K: return DType::kQ3_K;
    case kQ3KM: return DType::kQ4_K;
    case kQ3KL: return DType::kQ5_K;
    default: return recipe.type;
  }
}

DType MixtureType(const QuantRecipe& recipe, const ModelConfig& config, std::string_view name, int64_t ne0,
                  int dimensions, int layer) {
  if (name == "output.weight" || (name == "token_embd.weight" && config.tie_word_embeddings))
    return OutputType(recipe, ne0);
  if (recipe.file_type == kMxfp4Moe) return dimensions == 3 ? DType::kMXFP4 : DType::kQ8_0;
  if (Contains(name, "attn_v.weight") || Contains(name, "attn_kv_b.weight"))
    return AttentionValueType(recipe, config, layer);
  if (Contains(name, "ffn_down")) return DownType(recipe, layer, config.num_hidden_layers);
  if (Contains(name, "attn_output.weight")) return AttentionOutputType(recipe);
  return recipe.type;
}

}  // namespace

std::span<const QuantRecipe> QuantRecipes() { return kRecipes; }

Result<QuantRecipe> FindQuantRecipe(std::string_view name) {
  std::string key = Lower(name);
  if (key.starts_with("pure-")) {
    const auto type = ParseDType(key.substr(5));
    for (const auto& recipe : kRecipes)
      if (type == recipe.type) return QuantRecipe{recipe.name, recipe.type, recipe.file_type, "one type", true};
  }
  if (key == "q3_k" || key == "q4_k" || key == "q5_k") key += "_m";
  if (const QuantRecipe* recipe = Lookup(key)) return *recipe;
  const std::string_view single = std::string_view(key).substr(key.starts_with("pure-") ? 5 : 0);
  if (ParseDType(single) == DType::kF8_E4M3 || single.starts_with("fp8") || single.starts_with("f8") || single.starts_with("float8")) {
    return Fail(ErrorCode::kInvalidArgument,
                "type '{}': GGUF has no FP8, so no such file is written (FP8 weights of Hugging Face directories are read)\n"
                "q8_0 takes as much room and loses less; for keys and values in FP8 there is --kv-type fp8.", name);
  }
  std::string names;
  for (const auto& recipe : kRecipes) names += (names.empty() ? "" : ", ") + std::string(recipe.name);
  return Fail(ErrorCode::kInvalidArgument, "type '{}' is not known; there are {} and pure-TYPE", name, names);
}

DType QuantTensorType(const QuantRecipe& recipe, const ModelConfig& config, std::string_view name, int64_t ne0,
                      int dimensions, int layer) {
  if (dimensions < 2 || !name.ends_with("weight") || Contains(name, "_norm.weight") || Contains(name, "ffn_gate_inp"))
    return DType::kF32;
  const bool mixture = TraitsOf(recipe.type).quantized && !recipe.pure;
  return Fallback(mixture ? MixtureType(recipe, config, name, ne0, dimensions, layer) : recipe.type, ne0);
}

}  // namespace fathom
