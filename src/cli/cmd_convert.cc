// fathom convert: a Hugging Face directory or a GGUF becomes a GGUF, quantised on request.
#include <chrono>
#include <cstdio>
#include <map>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/models.h"
#include "cli/option_checks.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "engine/convert.h"
#include "engine/quant_recipe.h"

namespace fathom {
namespace {

struct ConvertCommandOptions {
  ConvertOptions convert;
  std::string type;
  bool list = false, dry_run = false, quiet = false, no_mtp = false;
};

void PrintTypes() {
  std::printf("Types (--type):\n");
  for (const auto& recipe : QuantRecipes()) {
    std::printf("  %-12.*s %.*s\n", static_cast<int>(recipe.name.size()), recipe.name.data(),
                static_cast<int>(recipe.description.size()), recipe.description.data());
  }
  std::printf("  %-12s %s\n", "pure-TYPE", "every matrix in one type, e.g. pure-q4_k");
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t extent : shape) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  return text;
}

// "q4_k 120, q6_k 21, f32 61"
std::string TypesOf(const ConvertSummary& summary) {
  std::map<std::string_view, int> counts;
  for (const auto& tensor : summary.tensors) ++counts[DTypeName(tensor.to)];
  std::string text;
  for (const auto& [type, count] : counts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, type);
  return text;
}

void PrintPlan(const ConvertSummary& summary) {
  for (const auto& tensor : summary.tensors) {
    std::printf("%-40s %-22s %6s -> %-6s %s%s\n", tensor.name.c_str(), ShapeText(tensor.shape).c_str(),
                std::string(DTypeName(tensor.from)).c_str(), std::string(DTypeName(tensor.to)).c_str(),
                HumanBytes(tensor.bytes).c_str(), tensor.fell_back ? " (rows do not fill larger blocks)" : "");
  }
  std::printf("%zu tensors (%s), %s of weights%s: %s become %s\n", summary.tensors.size(), TypesOf(summary).c_str(),
              HumanCount(summary.parameters.total).c_str(),
              summary.mtp ? fmt::format(" and {} MTP layer(s)", summary.config.num_nextn_predict_layers).c_str() : "",
              HumanBytes(summary.source_bytes).c_str(), HumanBytes(summary.tensor_bytes).c_str());
}

void PrintNotes(const ConvertSummary& summary) {
  for (const std::string& note : summary.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
}

Status RunConvert(const ConvertCommandOptions& command) {
  if (command.list) {
    PrintTypes();
    return {};
  }
  ConvertOptions options = command.convert;
  options.mtp = !command.no_mtp;
  if (!command.type.empty()) options.type = command.type;
  if (options.source.empty()) {
    return Fail(ErrorCode::kInvalidArgument,
                "which model? Give a Hugging Face directory or a GGUF\n'fathom convert --help' shows examples.");
  }
  FATHOM_TRY(options.source, ResolveModel(options.source));
  options.keep_types = options.pack && command.type.empty() && options.source.ends_with(".gguf");
  if (command.dry_run) {
    FATHOM_TRY(const ConvertSummary summary, PlanConvert(options));
    PrintPlan(summary);
    PrintNotes(summary);
    return {};
  }
  if (options.output.empty()) return Fail(ErrorCode::kInvalidArgument, "where to? Give -o FILE.gguf");

  const InterruptScope interrupts(InterruptBy::kAnyEnd);
  Progress::Options progress_options;
  progress_options.unit = Progress::Unit::kBytes;
  progress_options.quiet = command.quiet;
  Progress progress("convert", progress_options);
  options.progress = [&](int64_t done, int64_t total) {
    progress.Update(done, total, done == total ? "syncing" : "");
    return !Interrupted();
  };
  const auto start = std::chrono::steady_clock::now();
  const auto result = ConvertModel(options);
  progress.Finish();
  if (!result) return std::unexpected(result.error());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!command.quiet) {
    PrintNotes(*result);
    std::fprintf(stderr, "%s: %s, %s, %s weights%s, %zu tensors (%s), %s in %s\n", options.output.c_str(),
                 result->config.name.c_str(), result->type.c_str(), HumanCount(result->parameters.total).c_str(),
                 result->mtp ? " and MTP" : "", result->tensors.size(), TypesOf(*result).c_str(),
                 HumanBytes(result->file_bytes).c_str(), HumanSeconds(seconds).c_str());
  }
  return {};
}

}  // namespace

void RegisterConvert(CLI::App& app, Action& selected) {
  auto options = std::make_shared<ConvertCommandOptions>();
  CLI::App* command = AddCommand(
      app, selected, "convert", "make a GGUF of a Hugging Face directory or of another GGUF, quantised on request",
      "Examples:\n"
      "  fathom convert path/to/DeepSeek-V2-Lite -o lite.gguf --type q4_k_m\n"
      "  fathom convert path/to/model --type q8_0 --dry-run        what would be written?\n"
      "  fathom convert model-bf16.gguf -o model-q6_k.gguf --type q6_k\n"
      "  fathom convert lite.gguf -o lite-packed.gguf --pack        each expert in one read from the SSD\n"
      "  fathom convert --list                                     types\n"
      "\n"
      "Types of single tensors, names and metadata are those of llama.cpp's converter and quantiser (without an\n"
      "importance matrix). Multi-token prediction layers are kept as nextn tensors, which llama.cpp reads.",
      options, RunConvert);
  ConvertOptions& convert = options->convert;
  command->add_option("source", convert.source, "a Hugging Face directory, a GGUF or a pulled model's name")
      ->check(ModelName());
  command->add_option("-o,--output", convert.output, "the GGUF to write");
  command->add_option("--type", options->type, "types of the weights; default: bf16, with --pack as they are");
  command->add_flag("--pack", convert.pack,
                    "experts' matrices side by side, at whole pages: one read an expert (run --expert-memory) instead of "
                    "three; only fathom runs such files");
  command->add_option("--name", convert.name, "the model's name in the file (general.name)");
  command->add_option("--pre", convert.pre_tokenizer, "name of the pre-tokenizer where it is not found by itself");
  command->add_flag("--no-mtp", options->no_mtp, "leave multi-token prediction layers out");
  command->add_option("-t,--threads", convert.threads, "threads (0: one per core)")->check(WholeNumber(0, 1024));
  command->add_flag("--force", convert.overwrite, "replace an existing file");
  command->add_flag("-n,--dry-run", options->dry_run, "print tensors, types and sizes; write nothing");
  command->add_flag("--list", options->list, "show types");
  command->add_flag("-q,--quiet", options->quiet, "no progress, no notes");
}

}  // namespace fathom
