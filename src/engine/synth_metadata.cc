#include "engine/synth_metadata.h"

#include "engine/gguf_metadata.h"

namespace fathom {
namespace {

constexpr std::string_view kWrittenBy = "written by fathom synth";

}  // namespace

void AddSynthMetadata(const ModelConfig& config, const QuantRecipe& recipe, GgufLayout layout, uint64_t seed,
                      GgufWriter& writer) {
  writer.AddMetadata("general.architecture", config.architecture);
  writer.AddMetadata("general.type", "model");
  writer.AddMetadata("general.name", config.name);
  writer.AddMetadata("general.description",
                     fmt::format("random weights, seed {}, {}; untrained", seed, kWrittenBy));
  AddModelMetadata(config, config.architecture, recipe.file_type, layout, /*mtp=*/false, writer);
}

bool IsSynthDescription(std::string_view description) { return description.find(kWrittenBy) != std::string_view::npos; }

void AddSynthTokenizer(SynthTokenizer tokenizer, GgufWriter& writer) {
  writer.AddMetadata("tokenizer.ggml.model", "gpt2");
  writer.AddMetadata("tokenizer.ggml.pre", std::move(tokenizer.pre));
  writer.AddMetadata("tokenizer.ggml.tokens", std::move(tokenizer.tokens));
  writer.AddMetadata("tokenizer.ggml.token_type", std::move(tokenizer.token_types));
  writer.AddMetadata("tokenizer.ggml.merges", std::move(tokenizer.merges));
  writer.AddMetadata("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(tokenizer.bos_id));
  writer.AddMetadata("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(tokenizer.eos_id));
  writer.AddMetadata("tokenizer.ggml.padding_token_id", static_cast<uint32_t>(tokenizer.pad_id));
  writer.AddMetadata("tokenizer.ggml.add_bos_token", tokenizer.add_bos);
  writer.AddMetadata("tokenizer.ggml.add_eos_token", false);
  writer.AddMetadata("tokenizer.chat_template", std::move(tokenizer.chat_template));
}

}  // namespace fathom
