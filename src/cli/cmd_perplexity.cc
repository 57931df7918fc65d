// fathom perplexity: a model's quality on a text, comparable with llama.cpp's figure.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "cli/command.h"
#include "cli/expert_report.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/memory_report.h"
#include "cli/models.h"
#include "cli/option_checks.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "engine/tokenizer_loader.h"
#include "eval/perplexity.h"

namespace fathom {
namespace {

struct PerplexityOptions {
  ModelOptions model;
  std::string file;
  int32_t window = 512;
  int32_t stride = 0;
  int64_t chunks = -1;
  std::vector<float> biases;
  bool json = false;
};

struct Measurement {
  float bias = 0;
  PerplexityResult result = {};
  int64_t tokens = 0;  // evaluated
  double seconds = 0;
  std::optional<ExpertStoreStats> experts = {};
  std::optional<PromiseKept> promise = {};
  double rate() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
};

Result<Measurement> Measure(const ModelOptions& model, std::span<const TokenId> tokens, const PerplexityParams& params,
                            const std::string& what) {
  FATHOM_TRY(const auto engine, LoadEngine(model));
  FATHOM_TRY(const auto session, engine->NewSession());
  Progress::Options progress_options;
  progress_options.quiet = model.quiet;
  Progress progress(what, std::move(progress_options));
  progress.Update(0, CountWindows(static_cast<int64_t>(tokens.size()), params));
  const auto start = std::chrono::steady_clock::now();
  Measurement out{.bias = model.expert_bias};
  FATHOM_TRY(out.result, MeasurePerplexity(*session, tokens, engine->config().vocab_size, params,
                                           [&](int64_t done, int64_t total, const PerplexityResult& so_far) {
                                             progress.Update(
                                                 done, total,
                                                 fmt::format("{:.4f} ± {:.4f}", so_far.perplexity, so_far.standard_error));
                                             return !Interrupted();
                                           }));
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  out.tokens = out.result.windows * params.window;
  out.experts = engine->expert_stats();
  out.promise = MeasurePromise(*engine);
  return out;
}

nlohmann::ordered_json ToJson(const Measurement& measured, const PerplexityParams& params, size_t text_tokens) {
  const PerplexityResult& result = measured.result;
  nlohmann::ordered_json report;
  report["perplexity"] = result.perplexity;
  report["standard_error"] = result.standard_error;
  report["mean_nll"] = result.mean_nll;
  report["scored_tokens"] = result.scored_tokens;
  report["text_tokens"] = text_tokens;
  report["windows"] = result.windows;
  report["window"] = params.window;
  report["stride"] = params.stride;
  if (measured.experts) {
    report["expert_bias"] = measured.bias;
    report["tokens_per_second"] = measured.rate();
    report["experts"] = ExpertJson(*measured.experts);
  }
  return report;
}

void Print(const Measurement& measured, const PerplexityParams& params) {
  const PerplexityResult& result = measured.result;
  std::printf("perplexity %.4f ± %.4f (%lld windows of %d, %lld tokens scored)\n", result.perplexity,
              result.standard_error, static_cast<long long>(result.windows), params.window,
              static_cast<long long>(result.scored_tokens));
  if (measured.experts) std::printf("%.1f tokens/s\n%s\n", measured.rate(), ExpertReport(*measured.experts).c_str());
}

// Token by token, as an answer is generated: in longer pieces most experts are used, whatever gates lean to.
Status RunBiases(const PerplexityOptions& options, ModelOptions model, std::span<const TokenId> tokens,
                 const PerplexityParams& params) {
  model.streamed_prefill_chunk = 1;
  model.use_heat = false;  // every strength begins alike
  std::vector<Measurement> all;
  for (const float bias : options.biases) {
    model.expert_bias = bias;
    FATHOM_TRY(Measurement measured, Measure(model, tokens, params, fmt::format("bias {:g}", bias)));
    if (!measured.experts) return NothingToLeanTo();
    all.push_back(std::move(measured));
  }
  if (options.json) {
    nlohmann::ordered_json report = ToJson(all.front(), params, tokens.size());
    if (all.size() > 1) {
      report = nlohmann::ordered_json::array();
      for (const Measurement& measured : all) report.push_back(ToJson(measured, params, tokens.size()));
    }
    std::printf("%s\n", report.dump().c_str());
    return {};
  }
  if (all.size() == 1) {
    Print(all.front(), params);
    return {};
  }
  std::printf("%6s  %20s  %10s  %10s  %14s  %10s\n", "bias", "perplexity", "change", "tokens/s", "found resident",
              "read/token");
  for (const Measurement& measured : all) {
    const double change = measured.result.perplexity / all.front().result.perplexity - 1;
    std::printf("%6g  %11.4f ± %6.4f  %+9.2f%%  %10.1f  %13.1f%%  %10s\n", static_cast<double>(measured.bias),
                measured.result.perplexity, measured.result.standard_error, 100 * change, measured.rate(),
                100 * ExpertHitRatio(*measured.experts),
                HumanBytes(measured.experts->bytes_read / std::max<int64_t>(1, measured.tokens)).c_str());
  }
  std::printf("%lld windows of %d, %lld tokens scored, token by token; change: against the first line\n",
              static_cast<long long>(all.front().result.windows), params.window,
              static_cast<long long>(all.front().result.scored_tokens));
  return {};
}

Status RunPerplexity(const PerplexityOptions& options) {
  FATHOM_TRY(const std::string text, ReadInput(options.file));
  if (options.chunks == 0) return Fail(ErrorCode::kInvalidArgument, "--chunks 0 measures nothing; -1 measures all windows");
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
  model.promise.logit_rows = static_cast<int32_t>(
      std::min<int64_t>(options.window, kPerplexityLogits / std::max(tokenizer->vocab_size(), 1) + 1));
  InterruptScope interrupt;
  if (!options.biases.empty()) return RunBiases(options, std::move(model), tokens, params);
  FATHOM_TRY(const Measurement measured, Measure(model, tokens, params, "perplexity"));
  if (options.json) {
    std::printf("%s\n", ToJson(measured, params, tokens.size()).dump().c_str());
  } else {
    Print(measured, params);
  }
  if (measured.promise && !model.quiet) std::fprintf(stderr, "[%s]\n", PromiseLine(*measured.promise).c_str());
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
                                 "  fathom perplexity -m model.gguf --ctx 2048 --stride 512 --json book.txt\n"
                                 "  fathom perplexity -m model.gguf --expert-memory 2GiB --expert-bias 0,0.1,0.2 book.txt",
                                 options, RunPerplexity);
  command->add_option("FILE", options->file, "the text ('-': standard input)")->required();
  command->add_option("-m,--model", options->model.model, "as for run")->type_name("MODEL")->check(ModelName());
  command->add_option("-t,--threads", options->model.threads, "compute threads; default: one per core")
      ->check(WholeNumber(1, 1024));
  command->add_option("--kv-type", options->model.kv_type, "auto, f32, f16, bf16, fp8 or int8")
      ->check(CLI::IsMember(kKvTypes));
  AddExpertBiases(AddMemoryOptions(*command, options->model), options->biases,
                  ", token by token, as an answer is generated (in longer pieces most experts are used, whatever gates lean "
                  "to)");
  command->add_option("-c,--ctx", options->window, "tokens in a window")
      ->capture_default_str()
      ->check(WholeNumber(4, 1 << 24));
  command->add_option("--stride", options->stride, "slide the window by this many tokens; 0: chunks")
      ->capture_default_str()
      ->check(WholeNumber(0, 1 << 24));
  command->add_option("--chunks", options->chunks, "most windows to measure; -1: all")
      ->capture_default_str()
      ->check(WholeNumber(-1, int64_t{1} << 40));
  command->add_flag("--json", options->json, "print one JSON object");
  command->add_flag("-q,--quiet", options->model.quiet, "no progress");
}

}  // namespace fathom
