// fathom inspect: what is in a model file, what it needs, is it whole.
#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/interrupt.h"
#include "cli/models.h"
#include "cli/option_checks.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "engine/tokenizer_loader.h"
#include "format/check.h"
#include "format/model_file.h"
#include "text/chat.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

struct InspectOptions {
  std::string model;
  bool json = false, tensors = false, metadata = false, scan = false;
};

/// The tokenizer, or why there is none; `inspect` shows either.
struct TokenizerFacts {
  std::string error;
  int32_t vocab_size = 0;
  std::string bos, eos;
  bool add_bos = false;
  std::string chat_format = "none";
};

TokenizerFacts ExamineTokenizer(const ModelFile& model) {
  TokenizerFacts facts;
  const TokenizerSource& source = model.tokenizer_source();
  const auto tokenizer = LoadTokenizer(source);
  if (!tokenizer) {
    facts.error = tokenizer.error().message;
    return facts;
  }
  const auto name = [&](TokenId id) { return id < 0 ? std::string() : std::string((*tokenizer)->TokenBytes(id)); };
  facts.vocab_size = (*tokenizer)->vocab_size();
  facts.bos = name((*tokenizer)->bos_id());
  facts.eos = name((*tokenizer)->eos_id());
  facts.add_bos = (*tokenizer)->add_bos();
  facts.chat_format = ChatFormatName(DetectChatFormat(source.chat_template, **tokenizer));
  return facts;
}

void PrintJson(const ModelFile& model, const CheckReport& check, const InspectOptions& options) {
  const ModelConfig& config = model.config();
  const ParameterCount parameters = CountParameters(config);
  const TokenizerFacts tokenizer = ExamineTokenizer(model);
  ordered_json report;
  report["files"] = model.files();
  report["format"] = model.format() == ModelFormat::kGguf ? "gguf" : "huggingface";
  report["architecture"] = config.architecture;
  report["name"] = config.name;
  for (const auto& [key, value] : ConfigTable(config)) report["config"][key] = value;
  report["parameters"] = {{"total", parameters.total}, {"active", parameters.active}};
  report["tensor_count"] = model.tensors().size();
  report["tensor_bytes"] = model.tensor_bytes();
  report["types"] = ordered_json::array();
  for (const TypeShare& type : TypeHistogram(model)) {
    report["types"].push_back({{"type", type.name}, {"tensors", type.tensors}, {"bytes", type.bytes}});
  }
  report["kv_bytes_per_token"] = KvBytesPerToken(config);
  report["kv_bytes_per_token_fp8"] = KvBytesPerToken(config, DType::kF8_E4M3);
  report["memory"] = ordered_json::array();
  for (const MemoryNeed& need : MemoryNeeds(model)) {
    report["memory"].push_back(
        {{"context", need.context}, {"kv_bytes", need.kv_bytes}, {"total_bytes", need.total_bytes}});
  }
  report["tokenizer"] = {{"usable", tokenizer.error.empty()}, {"error", tokenizer.error},
                         {"vocab_size", tokenizer.vocab_size}, {"bos", tokenizer.bos},
                         {"eos", tokenizer.eos},               {"add_bos", tokenizer.add_bos},
                         {"chat_format", tokenizer.chat_format}};
  report["whole"] = check.whole();
  report["problems"] = check.problems;
  report["unused_tensors"] = check.unused;
  report["values_scanned"] = check.scanned;
  if (options.metadata) {
    for (const auto& [key, value] : model.Metadata()) report["metadata"][key] = value;
  }
  if (options.tensors) {
    report["tensors"] = ordered_json::array();
    for (const TensorInfo& tensor : model.tensors()) {
      report["tensors"].push_back({{"name", tensor.name},
                                   {"type", DTypeName(tensor.dtype)},
                                   {"shape", tensor.shape},
                                   {"bytes", tensor.bytes},
                                   {"file", tensor.file},
                                   {"offset", tensor.offset}});
    }
  }
  std::printf("%s\n", report.dump(2, ' ', false, ordered_json::error_handler_t::replace).c_str());
}

void Heading(const char* text) { std::printf("\n%s\n", text); }

void PrintText(const ModelFile& model, const CheckReport& check, const InspectOptions& options) {
  const ModelConfig& config = model.config();
  const ParameterCount parameters = CountParameters(config);
  const TokenizerFacts tokenizer = ExamineTokenizer(model);
  fmt::print("{}\n", config.name.empty() ? "(no name)" : OneLine(config.name, 100));
  for (const std::string& file : model.files()) fmt::print("  {}\n", SafeForTerminal(file));
  fmt::print("  {}, {} tensors, {}\n", model.format() == ModelFormat::kGguf ? "GGUF" : "Hugging Face directory",
             model.tensors().size(), HumanBytes(model.tensor_bytes()));
  fmt::print("  {} parameters", HumanCount(parameters.total));
  if (config.moe.n_routed_experts > 0) fmt::print(", {} used for a token", HumanCount(parameters.active));
  const double bits = parameters.total > 0 ? 8.0 * static_cast<double>(model.tensor_bytes()) /
                                                 static_cast<double>(parameters.total) : 0;
  fmt::print(", {:.2f} bits each\n", bits);

  Heading("Configuration");
  for (const auto& [key, value] : ConfigTable(config)) {
    const std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
    fmt::print("  {:<28} {}\n", key, OneLine(shown, 80));
  }

  Heading("Weight types");
  for (const TypeShare& type : TypeHistogram(model)) {
    fmt::print(
        "  {:<8} {:>5} tensors  {:>10}  {:>5.1f}%\n", type.name, type.tensors, HumanBytes(type.bytes),
        100.0 * static_cast<double>(type.bytes) / static_cast<double>(std::max<int64_t>(model.tensor_bytes(), 1)));
  }

  Heading("Tokenizer");
  if (!tokenizer.error.empty()) {
    fmt::print("  cannot be used: {}\n", OneLine(tokenizer.error, 200));
  } else {
    fmt::print("  {} tokens, BOS {}{}, EOS {}, chat format {}\n", tokenizer.vocab_size,
               tokenizer.bos.empty() ? "none" : OneLine(tokenizer.bos, 40), tokenizer.add_bos ? " (put first)" : "",
               tokenizer.eos.empty() ? "none" : OneLine(tokenizer.eos, 40), tokenizer.chat_format);
  }

  Heading("Memory it needs (weights, KV cache in 16 bit)");
  fmt::print("  {:>9}  {:>10}  {:>10}\n", "context", "KV cache", "together");
  for (const MemoryNeed& need : MemoryNeeds(model)) {
    fmt::print("  {:>9}  {:>10}  {:>10}\n", need.context, HumanBytes(need.kv_bytes), HumanBytes(need.total_bytes));
  }
  fmt::print("  {} of KV cache a token, {} with --kv-type fp8 or int8\n", HumanBytes(KvBytesPerToken(config)),
             HumanBytes(KvBytesPerToken(config, DType::kF8_E4M3)));

  if (options.metadata) {
    Heading("Metadata");
    for (const auto& [key, value] : model.Metadata()) fmt::print("  {} = {}\n", OneLine(key, 80), OneLine(value, 100));
  }
  if (options.tensors) {
    Heading("Tensors");
    for (const TensorInfo& tensor : model.tensors()) {
      std::string shape;
      for (const int64_t n : tensor.shape) shape += (shape.empty() ? "" : " x ") + std::to_string(n);
      fmt::print("  {:<48} {:<8} {:>24} {:>10}\n", OneLine(tensor.name, 80), DTypeName(tensor.dtype), shape,
                 HumanBytes(tensor.bytes));
    }
  }

  if (!check.unused.empty()) {
    Heading("Not used");
    fmt::print("  {} tensors, {}: {}{}\n", check.unused.size(), HumanBytes(check.unused_bytes),
               OneLine(check.unused.front(), 60), check.unused.size() > 1 ? ", …" : "");
  }
  Heading(check.whole() ? "Whole: every tensor that this configuration needs is there, with the right shape."
                        : "NOT whole:");
  for (const std::string& problem : check.problems) fmt::print("  {}\n", OneLine(problem, 200));
  if (check.scanned && check.whole()) fmt::print("All values are finite.\n");
}

/// The check that opening a file does not do, with progress when every value is read.
Result<CheckReport> Check(const ModelFile& model, bool scan) {
  InterruptScope interrupt;
  Progress::Options progress_options;
  progress_options.unit = Progress::Unit::kBytes;
  Progress progress("reading all values", std::move(progress_options));
  CheckOptions options;
  options.scan_values = scan;
  options.progress = [&](int64_t done, int64_t total) {
    progress.Update(done, total);
    return !Interrupted();
  };
  CheckReport report = CheckModel(model, options);
  if (Interrupted()) return Fail(ErrorCode::kCancelled, "interrupted");
  return report;
}

Status RunInspect(const InspectOptions& options) {
  FATHOM_TRY(const std::string path, ResolveModel(options.model));
  FATHOM_TRY(const auto model, ModelFile::Open(path));
  FATHOM_TRY(const CheckReport check, Check(*model, options.scan));
  if (options.json) {
    PrintJson(*model, check, options);
  } else {
    PrintText(*model, check, options);
  }
  if (!check.whole()) {
    return Fail(ErrorCode::kCorrupt, "{}: not whole: {}{}", path, OneLine(check.problems.front(), 200),
                check.problems.size() > 1 ? fmt::format(" (and {} more)", check.problems.size() - 1) : std::string());
  }
  return {};
}

}  // namespace

void RegisterInspect(CLI::App& app, Action& selected) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command =
      AddCommand(app, selected, "inspect", "what is in a model file, what it needs, is it whole",
                 "Only headers and metadata are read, so this takes no time on any size; --scan also reads\n"
                 "every value. Exit status 1 when something is missing or damaged.\n"
                 "\n"
                 "Examples:\n"
                 "  fathom inspect model.gguf\n"
                 "  fathom inspect --tensors some-hugging-face-directory/\n"
                 "  fathom inspect --json model.gguf | jq .parameters",
                 options, RunInspect);
  command->add_option("MODEL", options->model, "GGUF file, Hugging Face directory, or a pulled model's name")
      ->check(ModelName());
  command->add_option("-m,--model", options->model, "the same")->check(ModelName());
  command->add_flag("--tensors", options->tensors, "list every tensor");
  command->add_flag("--metadata", options->metadata, "list the file's metadata");
  command->add_flag("--scan", options->scan, "read every value and look for damage (NaN, infinity)");
  command->add_flag("--json", options->json, "print one JSON object");
}

}  // namespace fathom
