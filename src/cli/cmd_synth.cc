// fathom synth: a model file of any configuration with random weights, to try speed and memory with.
#include <chrono>
#include <cstdio>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/option_checks.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "engine/synth.h"
#include "engine/synth_configs.h"

namespace fathom {
namespace {

struct SynthCommandOptions {
  SynthOptions synth;
  std::string layout = "mainline";
  bool list = false, plan = false, quiet = false;
};

void PrintLists() {
  std::printf("Configurations (--config):\n");
  for (const auto& config : SynthConfigs()) {
    std::printf("  %-22.*s %.*s\n", static_cast<int>(config.name.size()), config.name.data(),
                static_cast<int>(config.description.size()), config.description.data());
  }
  std::printf("  %-22s %s\n", "PATH", "a config.json or the directory that holds one");
  std::printf("\nTypes (--type):\n");
  for (const auto& recipe : QuantRecipes()) {
    std::printf("  %-22.*s %.*s\n", static_cast<int>(recipe.name.size()), recipe.name.data(),
                static_cast<int>(recipe.description.size()), recipe.description.data());
  }
  std::printf("  %-22s %s\n", "pure-TYPE", "every matrix in one type, e.g. pure-q4_k");
}

void PrintPlan(const SynthSummary& summary) {
  std::printf("%s, %s: %s weights (%s active), %lld tensors, %s\n", summary.config.name.c_str(), summary.type.c_str(),
              HumanCount(summary.parameters.total).c_str(), HumanCount(summary.parameters.active).c_str(),
              static_cast<long long>(summary.tensors),
              HumanBytes(summary.file_bytes > 0 ? summary.file_bytes : summary.tensor_bytes).c_str());
}

Status RunSynth(const SynthCommandOptions& command) {
  if (command.list) {
    PrintLists();
    return {};
  }
  SynthOptions options = command.synth;
  if (options.config.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "which configuration? Give --config NAME\n'fathom synth --list' shows them.");
  }
  options.layout = command.layout == "legacy" ? GgufLayout::kLegacy : GgufLayout::kMainline;
  if (command.plan) {
    FATHOM_TRY(const SynthSummary summary, PlanSynth(options));
    PrintPlan(summary);
    return {};
  }
  if (options.output.empty()) return Fail(ErrorCode::kInvalidArgument, "where to? Give -o FILE");

  const InterruptScope interrupts(InterruptBy::kAnyEnd);
  Progress::Options progress_options;
  progress_options.unit = Progress::Unit::kBytes;
  progress_options.quiet = command.quiet;
  Progress progress("synth", progress_options);
  options.progress = [&](int64_t done, int64_t total) {
    progress.Update(done, total, done == total ? "syncing" : "");
    return !Interrupted();
  };
  const auto start = std::chrono::steady_clock::now();
  const auto result = WriteSynth(options);
  progress.Finish();
  if (!result) return std::unexpected(result.error());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!command.quiet) {
    std::fprintf(stderr, "%s: %s, %s, %s weights, %s in %s; random weights, untrained\n", options.output.c_str(),
                 result->config.name.c_str(), result->type.c_str(), HumanCount(result->parameters.total).c_str(),
                 HumanBytes(result->file_bytes).c_str(), HumanSeconds(seconds).c_str());
  }
  return {};
}

}  // namespace

void RegisterSynth(CLI::App& app, Action& selected) {
  auto options = std::make_shared<SynthCommandOptions>();
  CLI::App* command = AddCommand(
      app, selected, "synth", "write a model file with random weights, to try speed and memory with",
      "Examples:\n"
      "  fathom synth --list                                        configurations and types\n"
      "  fathom synth --config deepseek-v2-lite --type q4_k_m -o lite.gguf\n"
      "  fathom synth --config deepseek-v3 --type q4_k_m --plan     how large would it be?\n"
      "  fathom synth --config deepseek-v2-lite --layers 4 -o mini.gguf\n"
      "  fathom synth --config path/to/config.json --type q8_0 -o mine.gguf\n"
      "\n"
      "The same options give the same bytes on every machine. llama.cpp and ik_llama.cpp load the files; ik_llama.cpp\n"
      "needs --q-lora 1024 or the like where V2-Lite's shape has other than 26 or 27 layers.",
      options, RunSynth);
  SynthOptions& synth = options->synth;
  command->add_option("-c,--config", synth.config, "name of a configuration, or path of a config.json");
  command->add_option("--type", synth.type, "types of the weights")->capture_default_str();
  command->add_option("-o,--output", synth.output, "the GGUF to write");
  AddSeed(*command, "--seed", synth.seed, "another seed, other weights");
  command->add_option("--layers", synth.layers, "this many layers instead of the configuration's")
      ->check(WholeNumber(1, 4096));
  command->add_option("--vocab", synth.vocab_size, "this many tokens instead of the configuration's")
      ->check(WholeNumber(263, 450000));
  command->add_option("--q-lora", synth.q_lora_rank, "rank of the queries' bottleneck (0: none)")
      ->check(WholeNumber(0, 1 << 20));
  command->add_option("--layout", options->layout, "attention tensors: mainline (attn_k_b, attn_v_b) or legacy (attn_kv_b)")
      ->check(CLI::IsMember({"mainline", "legacy"}))
      ->capture_default_str();
  command->add_option("-t,--threads", synth.threads, "threads (0: one per core)")->check(WholeNumber(0, 1024));
  command->add_flag("--force", synth.overwrite, "replace an existing file even when it is not a synthetic model");
  command->add_flag("--plan", options->plan, "only say how large it would be");
  command->add_flag("--list", options->list, "show configurations and types");
  command->add_flag("-q,--quiet", options->quiet, "no progress");
}

}  // namespace fathom
