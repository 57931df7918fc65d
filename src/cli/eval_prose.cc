#include "cli/eval_prose.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "eval/prose.h"
#include "io/env.h"

namespace fathom {
namespace {

constexpr int32_t kDefaultWindow = 2048;

struct NgramOutcome {
  std::string name;
  ProseCost cost;
  int64_t trained_on = 0;  // bytes of text
  int64_t ngrams = 0, memory = 0;
  bool full = false;
};

struct Outcome {
  ProseCost model;
  int32_t window = 0, stride = 0;
  int64_t xz_size = 0;
  std::vector<NgramOutcome> ngrams;
};

Result<NgramOutcome> RunNgram(const ProseCommandOptions& options, const Tokenizer* tokenizer, std::string_view text) {
  NgramOutcome outcome;
  outcome.name = fmt::format("{}-gram over {}", options.order, tokenizer == nullptr ? "bytes" : "tokens");
  Progress::Options progress_options;
  progress_options.unit = Progress::Unit::kBytes;
  progress_options.quiet = options.model.quiet;
  Progress progress(outcome.name, std::move(progress_options));
  FATHOM_TRY(const NgramModel model, TrainNgram(options.order, tokenizer, options.train, options.ngram_mib << 20,
                                                outcome.trained_on, [&](int64_t done, int64_t total) {
                                                  progress.Update(done, total);
                                                  return !Interrupted();
                                                }));
  outcome.cost = MeasureNgram(model, tokenizer, text);
  outcome.ngrams = model.ngrams();
  outcome.memory = model.memory_bytes();
  outcome.full = model.full();
  return outcome;
}

void PrintTable(const ProseCommandOptions& options, const Outcome& outcome) {
  std::printf("%-22s  %13s\n", "prose", "bits per byte");
  std::printf("%-22s  %13.4f  ± %.4f; %lld tokens, windows of %d sliding by %d\n", "model", outcome.model.bits_per_byte,
              1.96 * outcome.model.standard_error, static_cast<long long>(outcome.model.symbols), outcome.window,
              outcome.stride);
  std::printf("%-22s  %13.4f  %lld bytes of %lld\n", "xz -9",
              8.0 * static_cast<double>(outcome.xz_size) / static_cast<double>(outcome.model.bytes),
              static_cast<long long>(outcome.xz_size), static_cast<long long>(outcome.model.bytes));
  for (const NgramOutcome& ngram : outcome.ngrams) {
    std::printf("%-22s  %13.4f  learnt from %s%s, %s n-grams in %s\n", ngram.name.c_str(), ngram.cost.bits_per_byte,
                HumanBytes(ngram.trained_on).c_str(), ngram.full ? " (then the memory was full: --ngram-mib)" : "",
                HumanCount(ngram.ngrams).c_str(), HumanBytes(ngram.memory).c_str());
  }
  if (options.train.empty()) std::printf("n-gram models need --train\n");
}

void PrintJson(const ProseCommandOptions& options, const std::string& model, const Outcome& outcome) {
  nlohmann::ordered_json out;
  out["suite"] = "prose";
  out["model"] = model;
  out["file"] = options.file;
  out["bytes"] = outcome.model.bytes;
  out["tokens"] = outcome.model.symbols;
  out["bits_per_byte"] = outcome.model.bits_per_byte;
  out["standard_error"] = outcome.model.standard_error;
  out["window"] = outcome.window;
  out["stride"] = outcome.stride;
  out["xz"] = {
      {"size", outcome.xz_size},
      {"bits_per_byte", 8.0 * static_cast<double>(outcome.xz_size) / static_cast<double>(outcome.model.bytes)}};
  auto& ngrams = out["ngrams"] = nlohmann::ordered_json::array();
  for (const NgramOutcome& ngram : outcome.ngrams) {
    ngrams.push_back({{"name", ngram.name},
                      {"bits_per_byte", ngram.cost.bits_per_byte},
                      {"symbols", ngram.cost.symbols},
                      {"trained_on_bytes", ngram.trained_on},
                      {"memory_full", ngram.full},
                      {"ngrams", ngram.ngrams},
                      {"memory_bytes", ngram.memory}});
  }
  std::printf("%s\n", out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

}  // namespace

Status RunProse(const ProseCommandOptions& options) {
  FATHOM_TRY(const std::string text, ReadInput(options.file));
  if (text.empty()) return Fail(ErrorCode::kInvalidArgument, "{}: the text is empty", options.file);
  for (const std::string& path : options.train) {  // a wrong name should not wait for the model's turn
    if (auto size = Env::Default().FileSize(path); !size) return Prefix(size.error(), "--train");
  }
  FATHOM_TRY(const auto engine, LoadEngine(options.model));
  Outcome outcome;
  outcome.window = options.window > 0 ? options.window : std::min(kDefaultWindow, engine->context_length());
  outcome.stride = options.stride > 0 ? options.stride : outcome.window / 2;
  if (outcome.stride >= outcome.window || outcome.window > engine->context_length()) {
    return Fail(ErrorCode::kInvalidArgument, "windows of {} sliding by {}: the stride must be less, the model holds {}",
                outcome.window, outcome.stride, engine->context_length());
  }
  InterruptScope interrupt;
  {
    Progress::Options progress_options;
    progress_options.quiet = options.model.quiet;
    Progress progress("prose", std::move(progress_options));
    FATHOM_TRY(outcome.model,
               MeasureModel(*engine, text, outcome.window, outcome.stride, [&](int64_t done, int64_t total) {
                 progress.Update(done, total, "windows");
                 return !Interrupted();
               }));
  }
  FATHOM_TRY(outcome.xz_size, XzSize(text));
  if (!options.train.empty()) {
    for (const Tokenizer* tokenizer : {static_cast<const Tokenizer*>(nullptr), engine->tokenizer()}) {
      FATHOM_TRY(NgramOutcome ngram, RunNgram(options, tokenizer, text));
      outcome.ngrams.push_back(std::move(ngram));
    }
  }
  if (options.json) {
    PrintJson(options, engine->model_file().files().front(), outcome);
  } else {
    PrintTable(options, outcome);
  }
  return {};
}

}  // namespace fathom
