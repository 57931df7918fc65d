#include "engine/convert.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "engine/convert_sources.h"
#include "engine/gguf_copy.h"
#include "engine/gguf_metadata.h"
#include "engine/gguf_producer.h"
#include "engine/quant_recipe.h"
#include "engine/tokenizer_loader.h"
#include "format/gguf_model.h"
#include "format/gguf_writer.h"
#include "format/model_file.h"
#include "format/packed_experts.h"
#include "io/env.h"
#include "text/gguf_vocabulary.h"

namespace fathom {
namespace {

// All that is known before the first byte is written.
struct Plan {
  std::unique_ptr<ModelFile> file;
  QuantRecipe recipe;
  std::vector<ConvertSource> sources;
  struct Part {
    size_t source = 0;      // of `sources`
    int64_t first_row = 0;  // the rows that are this tensor begin here
  };
  std::vector<Part> parts;  // by tensor of the summary
  std::optional<GgufVocabulary> vocabulary;  // of a Hugging Face directory that has one
  ConvertSummary summary;
};

// From Hugging Face's words to what a GGUF says.
ModelConfig GgufConfig(ModelConfig config) {
  switch (config.family) {
    case ArchFamily::kDeepseek2: config.architecture = "deepseek2"; break;
    case ArchFamily::kLlama: config.architecture = "llama"; break;
    case ArchFamily::kQwen2: config.architecture = "qwen2"; break;
  }
  config.rope.layout = config.family == ArchFamily::kQwen2 ? RopeLayout::kHalfSplit : RopeLayout::kInterleaved;
  return config;
}

void ChooseTypes(const ModelConfig& config, bool keep, Plan& plan) {
  ConvertSummary& summary = plan.summary;
  for (const ConvertSource& source : plan.sources) {
    const GgufTensorShape& shape = source.shape;
    const auto type_for = [&](int64_t ne0) {
      if (keep) return source.rows.dtype();
      return QuantTensorType(plan.recipe, config, shape.name, ne0, static_cast<int>(shape.shape.size()), shape.layer);
    };
    ConvertTensor tensor{.name = shape.name, .shape = shape.shape, .from = source.rows.dtype(),
                         .to = type_for(shape.cols())};
    constexpr int64_t kWholeBlocks = 1024;
    tensor.fell_back = tensor.to != type_for(kWholeBlocks);
    tensor.bytes = shape.rows() * *RowBytes(tensor.to, shape.cols());
    summary.tensor_bytes += tensor.bytes;
    plan.parts.push_back({.source = summary.tensors.size()});
    summary.tensors.push_back(std::move(tensor));
  }
}

/// "gate", "up", "down" or "gate_up" of "blk.N.ffn_…_exps.weight"; empty for every other tensor.
std::string_view StackOf(const ConvertTensor& tensor) {
  const std::string_view name = tensor.name;
  const size_t in_layer = name.find(".ffn_");
  if (!name.starts_with("blk.") || in_layer == std::string_view::npos || !name.ends_with("_exps.weight")) return {};
  if (tensor.shape.size() != 3) return {};
  const size_t begin = in_layer + 5;
  return name.substr(begin, name.size() - begin - std::string_view("_exps.weight").size());
}

// Each layer's stacks become matrices of single experts, in the place of its first stack.
Status PackExperts(const Plan& plan, std::vector<ConvertTensor>& tensors, std::vector<Plan::Part>& parts) {
  const std::vector<ConvertTensor>& whole = plan.summary.tensors;
  const auto layer_of = [&](size_t i) { return plan.sources[plan.parts[i].source].shape.layer; };
  std::set<int> packed;
  for (size_t i = 0; i < whole.size(); ++i) {
    if (whole[i].name.find("_exps.") != std::string::npos && StackOf(whole[i]).empty()) {
      return Fail(ErrorCode::kUnsupported, "tensor {}: is no stack of experts that can be packed{}", whole[i].name,
                  HasPackedExperts(*plan.file, layer_of(i)) ? "; the model is packed already" : "");
    }
    if (StackOf(whole[i]).empty()) {
      tensors.push_back(whole[i]);
      parts.push_back(plan.parts[i]);
      continue;
    }
    if (!packed.insert(layer_of(i)).second) continue;
    std::vector<size_t> stacks;
    for (size_t j = i; j < whole.size(); ++j)
      if (!StackOf(whole[j]).empty() && layer_of(j) == layer_of(i)) stacks.push_back(j);
    for (int64_t e = 0; e < whole[i].shape[0]; ++e) {
      for (const size_t j : stacks) {
        const ConvertTensor& stack = whole[j];
        const int64_t rows = stack.shape[1], cols = stack.shape[2];
        if (stack.shape[0] != whole[i].shape[0])
          return Fail(ErrorCode::kCorrupt, "tensor {}: {} experts, others {}", stack.name, stack.shape[0], whole[i].shape[0]);
        const bool fused = StackOf(stack) == "gate_up";
        for (int half = 0; half < (fused ? 2 : 1); ++half) {
          const int64_t each = fused ? rows / 2 : rows;
          ConvertTensor matrix = stack;
          matrix.name = PackedExpertName(layer_of(j), e, fused ? (half == 0 ? "gate" : "up") : StackOf(stack));
          matrix.shape = {each, cols};
          matrix.bytes = each * *RowBytes(stack.to, cols);
          tensors.push_back(std::move(matrix));
          parts.push_back({.source = plan.parts[j].source, .first_row = e * rows + half * each});
        }
      }
    }
  }
  if (packed.empty()) return Fail(ErrorCode::kInvalidArgument, "there are no experts to pack: the model is dense");
  return {};
}

// Sentences about what happens to the weights.
void AddNotes(const ModelConfig& config, ConvertSummary& summary) {
  std::map<std::string, std::set<std::string>> fallbacks;  // type taken instead -> kinds of tensors
  std::set<std::string> requantised;
  int64_t fallen = 0;
  for (const ConvertTensor& tensor : summary.tensors) {
    if (tensor.fell_back) {
      ++fallen;
      const size_t in_layer = tensor.name.starts_with("blk.") ? tensor.name.find('.', 4) + 1 : 0;
      fallbacks[std::string(DTypeName(tensor.to))].insert(tensor.name.substr(in_layer));
    }
    if (tensor.from != tensor.to && TraitsOf(tensor.from).quantized && tensor.from != DType::kF8_E4M3)
      requantised.insert(std::string(DTypeName(tensor.from)));
  }
  for (const auto& [type, names] : fallbacks) {
    std::string list;
    for (const auto& name : names) list += (list.empty() ? "" : ", ") + name;
    summary.notes.push_back(
        fmt::format("Rows that do not fill the blocks of {}: {} became {}.", summary.type, list, type));
  }
  for (const std::string& type : requantised) {
    summary.notes.push_back(fmt::format("The source is quantised already ({}): quantising it again loses more than "
                                        "quantising the original would.", type));
  }
  const auto layers = config.num_hidden_layers;
  if (config.is_mla() && config.mla.q_lora_rank > 0 && (layers == 26 || layers == 27)) {
    summary.notes.push_back(fmt::format("llama.cpp takes every deepseek2 model of {} layers for one without q_lora: it "
                                        "will not load this file. fathom does.", layers));
  }
  if (config.moe.n_routed_experts > 0 && config.moe.n_shared_experts == 0) {
    summary.notes.push_back("llama.cpp wants shared experts in every deepseek2 model: it will not load this file. "
                            "fathom does.");
  }
}

Status PlanVocabulary(const ConvertOptions& options, Plan& plan) {
  const TokenizerSource& source = plan.file->tokenizer_source();
  if (source.tokenizer_json.empty()) {
    plan.summary.notes.push_back(fmt::format("{} has no tokenizer.json: the file gets no vocabulary, and only knows "
                                             "token numbers.", options.source));
    return {};
  }
  auto vocabulary = GgufVocabularyOf(SpecOf(source), plan.file->config().vocab_size, options.pre_tokenizer);
  if (!vocabulary) {
    const bool unknown = vocabulary.error().code == ErrorCode::kUnsupported && options.pre_tokenizer.empty();
    return Fail(vocabulary.error().code, "{}: {}{}", options.source, vocabulary.error().message,
                unknown ? "\nChoose the nearest one with --pre NAME." : "");
  }
  plan.vocabulary = std::move(*vocabulary);
  return {};
}

Result<Plan> MakePlan(const ConvertOptions& options) {
  Plan plan;
  FATHOM_TRY(plan.recipe, FindQuantRecipe(options.type));
  FATHOM_TRY(plan.file, ModelFile::Open(options.source));
  ConvertSummary& summary = plan.summary;
  summary.type = options.keep_types ? "types as they are"
                                    : std::string(plan.recipe.pure ? "pure-" : "") + std::string(plan.recipe.name);
  summary.config = plan.file->config();
  const auto named = [&](const Error& error) { return Prefix(error, options.source); };
  if (plan.file->format() == ModelFormat::kHuggingFace) {
    if (options.keep_types)
      return Fail(ErrorCode::kInvalidArgument, "{}: types are kept of GGUFs only; choose one (--type)", options.source);
    auto sources = SourcesFromHuggingFace(*plan.file, options.mtp);
    if (!sources) return named(sources.error());
    plan.sources = std::move(sources->tensors);
    summary.mtp = sources->mtp;
    summary.notes = std::move(sources->notes);
    summary.config = GgufConfig(std::move(summary.config));
    FATHOM_CHECK_OK(PlanVocabulary(options, plan));
  } else {
    summary.mtp = options.mtp && summary.config.num_nextn_predict_layers > 0;
    auto sources = SourcesFromGguf(*plan.file, options.mtp);
    if (!sources) return named(sources.error());
    plan.sources = std::move(*sources);
    if (!options.pre_tokenizer.empty())
      return Fail(ErrorCode::kInvalidArgument, "--pre is for Hugging Face directories; a GGUF's vocabulary is kept");
  }
  if (!summary.mtp) summary.config.num_nextn_predict_layers = 0;
  if (!options.name.empty()) summary.config.name = options.name;
  summary.parameters = CountParameters(summary.config);
  summary.source_bytes = plan.file->tensor_bytes();
  ChooseTypes(summary.config, options.keep_types, plan);
  AddNotes(summary.config, summary);
  if (!options.pack) return plan;
  std::vector<ConvertTensor> tensors;
  std::vector<Plan::Part> parts;
  if (Status packed = PackExperts(plan, tensors, parts); !packed) return named(packed.error());
  summary.tensors = std::move(tensors);
  plan.parts = std::move(parts);
  summary.notes.push_back("Experts are packed: other programs can read the file's tensors, but will not run the model. "
                          "fathom does.");
  return plan;
}

void AddVocabulary(const TokenizerSource& source, GgufVocabulary vocabulary, GgufWriter& writer) {
  writer.AddMetadata("tokenizer.ggml.model", "gpt2");
  writer.AddMetadata("tokenizer.ggml.pre", std::move(vocabulary.pre));
  writer.AddMetadata("tokenizer.ggml.tokens", std::move(vocabulary.tokens));
  writer.AddMetadata("tokenizer.ggml.token_type", std::move(vocabulary.token_types));
  writer.AddMetadata("tokenizer.ggml.merges", std::move(vocabulary.merges));
  const auto id = [&](const char* key, int32_t value) {
    if (value >= 0) writer.AddMetadata(key, static_cast<uint32_t>(value));
  };
  id("tokenizer.ggml.bos_token_id", vocabulary.bos_id);
  id("tokenizer.ggml.eos_token_id", vocabulary.eos_id);
  id("tokenizer.ggml.padding_token_id", vocabulary.pad_id);
  id("tokenizer.ggml.unknown_token_id", vocabulary.unk_id);
  writer.AddMetadata("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
  writer.AddMetadata("tokenizer.ggml.add_eos_token", false);
  if (!source.chat_template.empty()) writer.AddMetadata("tokenizer.chat_template", source.chat_template);
}

Status AddMetadata(const ConvertOptions& options, Plan& plan, GgufWriter& writer) {
  const ModelConfig& config = plan.summary.config;
  if (plan.file->format() == ModelFormat::kGguf) {
    GgufCopyChanges changes{.file_type = options.keep_types ? -1 : plan.recipe.file_type, .name = options.name};
    if (plan.file->config().num_nextn_predict_layers > 0 && !plan.summary.mtp)
      changes.block_count = config.num_hidden_layers;
    return CopyGgufMetadata(plan.file->files().front(), changes, writer);
  }
  writer.AddMetadata("general.architecture", config.architecture);
  writer.AddMetadata("general.type", "model");
  writer.AddMetadata("general.name", config.name);
  AddModelMetadata(config, config.architecture, plan.recipe.file_type, GgufLayout::kMainline, plan.summary.mtp, writer);
  if (plan.vocabulary) AddVocabulary(plan.file->tokenizer_source(), std::move(*plan.vocabulary), writer);
  return {};
}

std::vector<ProducedTensor> Producible(const Plan& plan) {
  std::vector<ProducedTensor> out;
  for (size_t i = 0; i < plan.parts.size(); ++i) {
    const ConvertSource& source = plan.sources[plan.parts[i].source];
    const ConvertTensor& tensor = plan.summary.tensors[i];
    const DType type = tensor.to;
    const int64_t cols = source.shape.cols(), first = plan.parts[i].first_row, row_bytes = *RowBytes(type, cols);
    out.push_back({.rows = tensor.bytes / row_bytes, .row_bytes = row_bytes, .granule = source.rows.granule(),
                   .fill = [&source, type, cols, first](int64_t row, int64_t count, std::byte* bytes) -> Status {
                     auto status = source.rows.Read(type, cols, first + row, count, bytes);
                     if (!status) return Prefix(status.error(), "tensor " + source.shape.name);
                     return {};
                   }});
  }
  return out;
}

}  // namespace

Result<ConvertSummary> PlanConvert(const ConvertOptions& options) {
  FATHOM_TRY(Plan plan, MakePlan(options));
  return std::move(plan.summary);
}

Result<ConvertSummary> ConvertModel(const ConvertOptions& options) { return ConvertModel(options, Env::Default()); }

Result<ConvertSummary> ConvertModel(const ConvertOptions& options, Env& env) {
  if (GgufPartPaths(options.output).size() > 1) {
    return Fail(ErrorCode::kInvalidArgument, "{}: is named as a part of a split model, which it would not be",
                options.output);
  }
  // A forgotten --force should not cost the reading of a large source.
  if (!options.overwrite && env.Exists(options.output) && env.FileSize(options.output).value_or(-1) != 0) {
    return Fail(ErrorCode::kInvalidArgument, "{}: exists\nUse --force to replace it.", options.output);
  }
  FATHOM_TRY(Plan plan, MakePlan(options));
  ConvertSummary& summary = plan.summary;
  FATHOM_TRY(const auto writer, GgufWriter::Create(options.output, env));
  FATHOM_CHECK_OK(AddMetadata(options, plan, *writer));
  if (options.pack) writer->SetAlignment(kPackedAlignment);
  for (const ConvertTensor& tensor : summary.tensors) writer->DeclareTensor(tensor.name, tensor.to, tensor.shape);
  // Tensors with their padding, and the header (mostly the vocabulary).
  const int64_t each = 256 + (options.pack ? kPackedAlignment : 0);
  FATHOM_CHECK_OK(CheckDiskSpace(options.output,
                                 summary.tensor_bytes + each * static_cast<int64_t>(summary.tensors.size()) +
                                     80 * int64_t{summary.config.vocab_size},
                                 options.reserve_bytes, "Try a smaller type (--type)."));
  FATHOM_CHECK_OK(writer->WriteHeader());
  summary.file_bytes = writer->file_bytes();
  FATHOM_CHECK_OK(ProduceTensors(Producible(plan), options.threads, options.progress, *writer));
  // A source that shrank meanwhile would have been read as zeros, or not at all.
  FATHOM_CHECK_OK(plan.file->CheckUnchanged());
  FATHOM_CHECK_OK(writer->Finish());
  return std::move(summary);
}

}  // namespace fathom
