// fathom perplexity: a model's quality on a text, comparable with llama.cpp's figure.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/models.h"
#include "cli/options.h"
#include "eval/perplexity.h"
#include "cli/progress.h"
#include "engine/tokenizer_loader.h"

namespace fathom {
namespace {

struct PerplexityOptions {
  ModelOptions model;
  std::string file;
  int32_t window = 512;
  int32_t stride = 0;
  int64_t chunks = -1;
  bool json = false;
};

Status RunPerplexity(const PerplexityOptions& options) {
  FATHOM_TRY(const std::string text, ReadInput(options.file));
  ModelOptions model = options.model;
  FATHOM_TRY(model.model, ResolveModel(options.model.model));
  // The tokenizer alone is quick; a text that is too short should not wait for the weights.
  FATHOM_TRY(const auto tokenizer, LoadTokenizer(model.model));
  const std::vector<TokenId> tokens = EncodePrompt(*tokenizer, text);
  PerplexityParams params;
  params.window = options.window;
  params.stride = options.stride;
  params.max_windows = options.chunks;
  if (tokenizer->add_bos()) params.bos = tokenizer->bos_id();
  FATHOM_CHECK_OK(CheckPerplexityParams(static_cast<int64_t>(tokens.size()), params));

  model.context = options.window;
  FATHOM_TRY(const auto engine, LoadEngine(model));
  FATHOM_TRY(const auto session, engine->NewSession());
  Progress::Options progress_options;
  progress_options.quiet = model.quiet;
  Progress progress("perplexity", std::move(progress_options));
  progress.Update(0, CountWindows(static_cast<int64_t>(tokens.size()), params));
  InterruptScope interrupt;
  FATHOM_TRY(const PerplexityResult result,
             MeasurePerplexity(*session, tokens, engine->config().vocab_size, params,
                               [&](int64_t done, int64_t total, const PerplexityResult& so_far) {
                                 progress.Update(
                                     done, total,
                                     fmt::format("{:.4f} ± {:.4f}", so_far.perplexity, so_far.standard_error));
                                 return !Interrupted();
                               }));
  progress.Finish();
  if (options.json) {
    nlohmann::ordered_json report;
    report["perplexity"] = result.perplexity;
    report["standard_error"] = result.standard_error;
    report["mean_nll"] = result.mean_nll;
    report["scored_tokens"] = result.scored_tokens;
    report["text_tokens"] = tokens.size();
    report["windows"] = result.windows;
    report["window"] = params.window;
    report["stride"] = params.stride;
    std::printf("%s\n", report.dump().c_str());
  } else {
    std::printf("perplexity %.4f ± %.4f (%lld windows of %d, %lld tokens scored)\n", result.perplexity,
                result.standard_error, static_cast<long long>(result.windows), params.window,
                static_cast<long long>(result.scored_tokens));
  }
  return {};
}

}  // namespace

void RegisterPerplexity(CLI::App& app, Action& selected) {
  auto options = std::make_shared<PerplexityOptions>();
  CLI::App* command = AddCommand(app, selected, "perplexity", "how well a model predicts a text",
                                 "By default as llama.cpp measures it: windows of --ctx tokens, BOS first where the "
                                 "model has one, the second half of\n"
                                 "each scored. --stride slides the window instead, so that every token is scored once "
                                 "with as much context as fits.\n"
                                 "\n"
                                 "Examples:\n"
                                 "  fathom perplexity -m model.gguf wiki.test.raw\n"
                                 "  fathom perplexity -m model.gguf --ctx 2048 --stride 512 --json book.txt",
                                 options, RunPerplexity);
  command->add_option("FILE", options->file, "the text ('-': standard input)")->required();
  command->add_option("-m,--model", options->model.model, "as for run")->type_name("MODEL");
  command->add_option("-t,--threads", options->model.threads, "compute threads; default: one per core")
      ->check(CLI::Range(1, 1024));
  command->add_option("--kv-type", options->model.kv_type, "auto, f32, f16, bf16, fp8 or int8")
      ->check(CLI::IsMember(kKvTypes));
  command->add_option("-c,--ctx", options->window, "tokens in a window")
      ->capture_default_str()
      ->check(CLI::Range(4, 1 << 24));
  command->add_option("--stride", options->stride, "slide the window by this many tokens; 0: chunks")
      ->capture_default_str();
  command->add_option("--chunks", options->chunks, "most windows to measure; -1: all")->capture_default_str();
  command->add_flag("--json", options->json, "print one JSON object");
  command->add_flag("-q,--quiet", options->model.quiet, "no progress");
}

}  // namespace fathom
