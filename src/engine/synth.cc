#include "engine/synth.h"

#include <algorithm>

#include "engine/gguf_producer.h"
#include "engine/synth_configs.h"
#include "engine/synth_metadata.h"
#include "engine/synth_tokenizer.h"
#include "engine/synth_weights.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"
#include "format/hf_config.h"
#include "io/env.h"

namespace fathom {
namespace {

// The tensors as ProduceTensors wants them; `tensors` must outlive the result.
std::vector<ProducedTensor> Producible(const std::vector<SynthTensor>& tensors, uint64_t seed) {
  std::vector<ProducedTensor> out;
  for (const SynthTensor& tensor : tensors) {
    const SynthFiller filler(tensor.dtype, tensor.mean, tensor.std, SynthTensorKey(seed, tensor.name));
    const int64_t row_bytes = tensor.bytes() / tensor.rows();
    out.push_back({.rows = tensor.rows(), .row_bytes = row_bytes,
                   .fill = [&tensor, filler, row_bytes](int64_t row, int64_t count, std::byte* out) -> Status {
                     for (int64_t r = 0; r < count; ++r) {
                       if (tensor.values.empty()) {
                         filler.FillRow(row + r, tensor.cols(), out + r * row_bytes);
                       } else {
                         std::copy_n(reinterpret_cast<const std::byte*>(tensor.values.data()), row_bytes,
                                     out + r * row_bytes);
                       }
                     }
                     return {};
                   }});
  }
  return out;
}

SynthSummary Summarise(const ModelConfig& config, const QuantRecipe& recipe, const std::vector<SynthTensor>& tensors) {
  SynthSummary summary{.config = config, .type = std::string(recipe.pure ? "pure-" : "") + std::string(recipe.name),
                       .tensors = static_cast<int64_t>(tensors.size()), .parameters = CountParameters(config)};
  for (const auto& tensor : tensors) summary.tensor_bytes += tensor.bytes();
  return summary;
}

// An empty file, or one that synth wrote: nothing that somebody would miss.
bool MayReplace(Env& env, const std::string& path) {
  if (env.FileSize(path).value_or(-1) == 0) return true;
  const auto mapping = env.Map(path, {});
  if (!mapping) return false;
  const auto file = GgufFile::Parse((*mapping)->bytes());
  if (!file) return false;
  const auto description = file->String("general.description");
  return description && *description && IsSynthDescription(**description);
}

// A built-in name, or what looks like a path.
Result<ModelConfig> BaseConfig(const std::string& name) {
  Env& env = Env::Default();
  const bool path = name.find('/') != std::string::npos || name.ends_with(".json") || env.IsDirectory(name);
  if (!path) return FindSynthConfig(name);
  const std::string file = env.IsDirectory(name) ? JoinPath(name, "config.json") : name;
  constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;
  FATHOM_TRY(const std::string text, ReadWholeFile(env, file, kMaxConfigBytes));
  auto config = ConfigFromHuggingFace(text, BaseName(DirectoryOf(file)));
  if (!config) return Prefix(config.error(), file);
  // From Hugging Face's words to what a GGUF says.
  switch (config->family) {
    case ArchFamily::kDeepseek2: config->architecture = "deepseek2"; break;
    case ArchFamily::kLlama: config->architecture = "llama"; break;
    case ArchFamily::kQwen2: config->architecture = "qwen2"; break;
  }
  config->rope.layout = config->family == ArchFamily::kQwen2 ? RopeLayout::kHalfSplit : RopeLayout::kInterleaved;
  return config;
}

}  // namespace

Result<ModelConfig> ResolveSynthConfig(const SynthOptions& options) {
  FATHOM_TRY(ModelConfig config, BaseConfig(options.config));
  if (options.layers < 0 || options.layers > 4096)
    return Fail(ErrorCode::kInvalidArgument, "{} layers; 1 to 4096 are possible", options.layers);
  if (options.vocab_size < 0)
    return Fail(ErrorCode::kInvalidArgument, "a vocabulary of {} tokens is not possible", options.vocab_size);
  if (options.layers > 0) {
    config.num_hidden_layers = options.layers;
    config.moe.first_k_dense_replace = std::min(config.moe.first_k_dense_replace, options.layers);
  }
  if (options.vocab_size > 0) config.vocab_size = options.vocab_size;
  if (options.q_lora_rank >= 0) {
    if (!config.is_mla()) {
      return Fail(ErrorCode::kInvalidArgument, "configuration {} has no latent attention, so no q_lora", options.config);
    }
    config.mla.q_lora_rank = options.q_lora_rank;
  }
  config.num_nextn_predict_layers = 0;  // not written
  if (auto status = ValidateConfig(config); !status) {
    // The user's configuration, not a broken file.
    return Fail(ErrorCode::kInvalidArgument, "configuration {}: {}", options.config, status.error().message);
  }
  return config;
}

Result<SynthSummary> PlanSynth(const SynthOptions& options) {
  FATHOM_TRY(const ModelConfig config, ResolveSynthConfig(options));
  FATHOM_TRY(const QuantRecipe recipe, FindQuantRecipe(options.type));
  return Summarise(config, recipe, ListSynthTensors(config, recipe, options.layout));
}

Result<SynthSummary> WriteSynth(const SynthOptions& options) { return WriteSynth(options, Env::Default()); }

Result<SynthSummary> WriteSynth(const SynthOptions& options, Env& env) {
  FATHOM_TRY(const ModelConfig config, ResolveSynthConfig(options));
  FATHOM_TRY(const QuantRecipe recipe, FindQuantRecipe(options.type));
  FATHOM_TRY(auto tokenizer, MakeSynthTokenizer(config));
  const auto tensors = ListSynthTensors(config, recipe, options.layout);
  SynthSummary summary = Summarise(config, recipe, tensors);
  if (!options.overwrite && env.Exists(options.output) && !MayReplace(env, options.output)) {
    return Fail(ErrorCode::kInvalidArgument, "{}: exists, and is not a synthetic model\nUse --force to replace it.",
                options.output);
  }

  FATHOM_TRY(const auto writer, GgufWriter::Create(options.output, env));
  AddSynthMetadata(config, recipe, options.layout, options.seed, *writer);
  AddSynthTokenizer(std::move(tokenizer), *writer);
  for (const auto& tensor : tensors) writer->DeclareTensor(tensor.name, tensor.dtype, tensor.shape);
  // Tensors and at most 32 bytes of padding each, and the header (mostly the vocabulary).
  FATHOM_CHECK_OK(CheckDiskSpace(options.output,
                                 summary.tensor_bytes + 32 * summary.tensors + 80 * int64_t{config.vocab_size},
                                 options.reserve_bytes, "Try a smaller type or fewer layers (--layers)."));
  FATHOM_CHECK_OK(writer->WriteHeader());
  summary.file_bytes = writer->file_bytes();
  FATHOM_CHECK_OK(ProduceTensors(Producible(tensors, options.seed), options.threads, options.progress, *writer));
  FATHOM_CHECK_OK(writer->Finish());
  return summary;
}

}  // namespace fathom
