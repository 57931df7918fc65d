// fathom eval: how many questions a model answers rightly, on suites of questions with known answers.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "cli/answer.h"
#include "cli/command.h"
#include "cli/eval_biases.h"
#include "cli/eval_prose.h"
#include "cli/expert_report.h"
#include "cli/interrupt.h"
#include "cli/option_checks.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "eval/report.h"
#include "eval/runner.h"

namespace fathom {
namespace {

struct EvalCommandOptions {
  ModelOptions model;
  std::vector<std::string> suites;
  std::string data, samples, chat_format;
  uint64_t seed = 1;
  int64_t n = 500;
  int32_t batch = 16, max_tokens = 0;
  int shots = -1;
  int64_t kv_mib = 2048;
  bool json = false, list = false, no_thinking = false, raw = false;
  std::vector<float> biases;  // of the gates; none: 0
  ProseCommandOptions prose;
};

std::string DataFolder(const std::string& requested) {
  if (!requested.empty()) return requested;
  const char* shared = std::getenv("FATHOM_SHARED_DATA");
  if (shared != nullptr && *shared != '\0') return std::string(shared) + "/eval";
  return "../shared/data/eval";
}

Result<std::vector<const Suite*>> ChosenSuites(const std::vector<std::string>& names, const std::string& data) {
  std::vector<const Suite*> chosen;
  const auto add = [&](const Suite& suite) {
    if (std::find(chosen.begin(), chosen.end(), &suite) == chosen.end()) chosen.push_back(&suite);
  };
  for (const std::string& name : names) {
    if (name == "all") {
      std::error_code ignored;
      for (const Suite& suite : Suites()) {
        if (suite.folder.empty() || std::filesystem::exists(std::filesystem::path(data) / suite.folder, ignored))
          add(suite);
      }
      continue;
    }
    const Suite* suite = FindSuite(name);
    if (suite == nullptr) {
      std::string known;
      for (const Suite& each : Suites()) known += fmt::format("{}{}", known.empty() ? "" : ", ", each.name);
      return Fail(ErrorCode::kInvalidArgument, "--suite {}: unknown\nThere are {}, prose and all.", name, known);
    }
    add(*suite);
  }
  return chosen;
}

/// What there is, for --list. Loads every suite, so that counts are of what is on this disk.
Status ListSuites(const SuiteContext& context) {
  for (const Suite& suite : Suites()) {
    const auto loaded = suite.load(context);
    std::printf("%-11s %s\n", std::string(suite.name).c_str(), std::string(suite.about).c_str());
    std::printf("            paper: %s; licence: %s\n", std::string(suite.paper).c_str(),
                std::string(suite.licence).c_str());
    if (!loaded) {
      std::printf("            %s\n", SafeForTerminal(loaded.error().message).c_str());
      continue;
    }
    if (suite.folder.empty()) {
      std::printf("            items without end in %zu families\n", loaded->families.size());
    } else {
      std::printf("            %zu items in %zu %s; %s\n", loaded->items.size(), loaded->families.size(),
                  loaded->families.size() == 1 ? "family" : "families", loaded->prompt.c_str());
    }
    for (const std::string& note : loaded->notes) std::printf("            not scored: %s\n", note.c_str());
  }
  std::printf("%-11s bits per byte of a held-out text (--file), beside xz -9 and 5-gram models (--train)\n", "prose");
  return {};
}

// Samples as lines of JSON; every write is checked, so that a full disk is noticed while the run can still be saved.
class SampleFile {
 public:
  ~SampleFile() {
    if (file_ != nullptr) std::fclose(file_);
  }
  Status Open(const std::string& path) {
    path_ = path;
    if (path.empty()) return {};
    file_ = std::fopen(path.c_str(), "wb");
    return file_ != nullptr ? Status() : Failed();
  }
  Status Write(std::string_view suite, const Sample& sample) {
    if (file_ == nullptr) return {};
    const std::string line = SampleJson(suite, sample) + "\n";
    if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fflush(file_) != 0) return Failed();
    return {};
  }
  Status Close() {
    if (file_ == nullptr) return {};
    const int closed = std::fclose(file_);
    file_ = nullptr;
    return closed == 0 ? Status() : Failed();
  }

 private:
  Status Failed() const { return Fail(ErrorCode::kIo, "--samples {}: {}", path_, std::strerror(errno)); }
  std::string path_;
  std::FILE* file_ = nullptr;
};

Result<EvalRun> RunSuites(const EvalCommandOptions& options, const ModelOptions& model, EvalOptions eval,
                          std::span<const Suite* const> suites, SampleFile& samples, bool tables) {
  FATHOM_TRY(const auto engine, LoadEngine(model));
  eval.format = engine->chat_format();
  if (!options.chat_format.empty()) {
    const auto format = ParseChatFormat(options.chat_format);
    if (!format) return Fail(ErrorCode::kInvalidArgument, "--chat-format {}: unknown", options.chat_format);
    eval.format = *format;
  }
  if (options.raw) eval.format = ChatFormat::kPlain;
  if (const std::string unknown = UnknownTemplateWarning(*engine); !unknown.empty() && options.chat_format.empty() && !options.raw)
    std::fprintf(stderr, "warning: %s; --chat-format NAME chooses another\n", unknown.c_str());
  eval.context.chat = eval.format != ChatFormat::kPlain;

  EvalRun run;
  for (const Suite* suite : suites) {
    Progress::Options progress_options;
    progress_options.quiet = model.quiet;
    const std::string name(suite->name);
    Progress progress(options.biases.size() > 1 ? fmt::format("bias {:g}, {}", model.expert_bias, name) : name,
                      std::move(progress_options));
    auto result = RunSuite(
        *engine, *suite, eval, [&](const Sample& sample) { return samples.Write(suite->name, sample); },
        [&](const BatchProgress& done, double score) {
          progress.Update(
              done.finished, done.total,
              fmt::format("{:.1f} % right so far, {} tokens generated", 100 * score, done.generated_tokens));
          return !Interrupted();
        });
    progress.Finish();
    if (!result) return Prefix(result.error(), suite->name);
    if (tables) {
      std::printf("%s%s", run.results.empty() ? "" : "\n", ResultTable(*result).c_str());
      std::fflush(stdout);
    }
    run.results.push_back(std::move(*result));
    if (run.results.back().partial) break;
  }
  run.experts = engine->expert_stats();
  run.setting = {.model = engine->model_file().files().front(),
                 .chat_format = std::string(ChatFormatName(eval.format)),
                 .thinking = eval.thinking,
                 .seed = options.seed,
                 .n = options.n,
                 .batch = options.batch,
                 .expert_bias = run.experts ? std::optional(model.expert_bias) : std::nullopt,
                 .expert_hit_ratio = run.experts ? ExpertHitRatio(*run.experts) : 0};
  return run;
}

Status RunBiases(const EvalCommandOptions& options, const EvalOptions& eval, std::span<const Suite* const> suites) {
  if (!options.samples.empty())
    return Fail(ErrorCode::kInvalidArgument, "--samples is for one strength of --expert-bias, not {}", options.biases.size());
  ModelOptions model = options.model;
  model.use_heat = false;  // every strength begins alike
  SampleFile none;
  std::vector<EvalRun> runs;
  for (const float bias : options.biases) {
    model.expert_bias = bias;
    FATHOM_TRY(EvalRun run, RunSuites(options, model, eval, suites, none, false));
    if (!run.experts) return NothingToLeanTo();
    // A strength that was interrupted cannot stand beside whole ones.
    if (Interrupted()) break;
    runs.push_back(std::move(run));
  }
  if (!runs.empty() && options.json) {
    std::printf("[");
    for (size_t i = 0; i < runs.size(); ++i)
      std::printf("%s%s", i == 0 ? "" : ",\n", ResultJson(runs[i].results, runs[i].setting).c_str());
    std::printf("]\n");
  } else if (!runs.empty()) {
    std::printf("%s", BiasTable(runs).c_str());
  }
  if (Interrupted()) return Fail(ErrorCode::kCancelled, "interrupted: {} of {} strengths were measured", runs.size(), options.biases.size());
  return {};
}

Status RunEval(const EvalCommandOptions& options) {
  EvalOptions eval;
  eval.context = {.data = DataFolder(options.data), .seed = options.seed, .n = options.n, .shots = options.shots};
  if (options.list) return ListSuites(eval.context);
  if (options.suites.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "which suite? Name one with --suite\n'fathom eval --list' shows them.");
  }
  if (std::find(options.suites.begin(), options.suites.end(), "prose") != options.suites.end()) {
    if (options.suites.size() > 1) {
      return Fail(ErrorCode::kInvalidArgument, "--suite prose stands alone: it measures a text, not answers");
    }
    if (options.prose.file.empty()) {
      return Fail(ErrorCode::kInvalidArgument, "--suite prose: which text? Name a held-out one with --file");
    }
    if (options.biases.size() > 1) {
      return Fail(ErrorCode::kInvalidArgument, "--suite prose takes one --expert-bias\n"
                                               "'fathom perplexity' measures several on a text.");
    }
    ProseCommandOptions prose = options.prose;
    prose.model = options.model;
    if (!options.biases.empty()) prose.model.expert_bias = options.biases.front();
    prose.json = options.json;
    return RunProse(prose);
  }
  FATHOM_TRY(const auto suites, ChosenSuites(options.suites, eval.context.data));
  eval.thinking = !options.no_thinking;
  eval.max_tokens = options.max_tokens;
  eval.batch.max_sequences = options.batch;
  eval.batch.kv_bytes = options.kv_mib << 20;
  InterruptScope interrupt;
  if (options.biases.size() > 1) return RunBiases(options, eval, suites);

  ModelOptions model = options.model;
  if (!options.biases.empty()) model.expert_bias = options.biases.front();
  SampleFile samples;
  FATHOM_CHECK_OK(samples.Open(options.samples));
  FATHOM_TRY(const EvalRun run, RunSuites(options, model, eval, suites, samples, !options.json));
  FATHOM_CHECK_OK(samples.Close());
  if (options.json) {
    std::printf("%s\n", ResultJson(run.results, run.setting).c_str());
  } else if (run.experts && run.experts->uses > 0) {
    std::printf("\nexpert bias %g; %s\n", static_cast<double>(model.expert_bias), ExpertReport(*run.experts).c_str());
  }
  if (Interrupted()) return Fail(ErrorCode::kCancelled, "interrupted: the results are those of what was finished");
  return {};
}

}  // namespace

void RegisterEval(CLI::App& app, Action& selected) {
  auto options = std::make_shared<EvalCommandOptions>();
  CLI::App* command =
      AddCommand(app, selected, "eval", "how many questions with known answers a model gets right",
                 "Greedy answers, many prompts at once. 'verifiable' makes its own problems, which no training run has "
                 "seen; the\n"
                 "others read their files from --data (default: $FATHOM_SHARED_DATA/eval, else ../shared/data/eval). "
                 "Prompts and\n"
                 "scoring of each: docs/eval.md.\n"
                 "\n"
                 "Examples:\n"
                 "  fathom eval --list                                       what there is to test with\n"
                 "  fathom eval -m model.gguf --suite verifiable             500 problems, a table\n"
                 "  fathom eval --suite verifiable --seed 7 --n 500 --json   one JSON object\n"
                 "  fathom eval --suite verifiable --no-thinking             how much the thinking is worth\n"
                 "  fathom eval --suite verifiable --expert-memory 8MiB --expert-bias 0,0.1,0.2   what leaning to residents costs\n"
                 "  fathom eval --suite gsm8k,bbh --n 100 --samples answers.jsonl\n"
                 "  fathom eval --suite prose --file heldout.txt --train train.txt",
                 options, RunEval);
  AddModelOptions(*command, options->model, options->biases);
  command->add_option("--suite", options->suites, "a suite's name, or all; repeatable, or separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_flag("--list", options->list, "show the suites, what is on this disk of them, and where they are from");
  command->add_option("-n,--n", options->n, "questions of each suite, chosen by --seed; 0: all that there are")
      ->capture_default_str()
      ->check(WholeNumber(int64_t{0}, int64_t{10'000'000}));
  AddSeed(*command, "-s,--seed", options->seed, "chooses (or makes) the questions");
  command->add_option("--batch", options->batch, "answers in flight at once")
      ->capture_default_str()
      ->check(WholeNumber(1, 1024));
  command->add_option("--kv-mib", options->kv_mib, "most memory for their keys and values, MiB")
      ->capture_default_str()
      ->check(WholeNumber(int64_t{1}, int64_t{1} << 30));
  command->add_option("--max-tokens", options->max_tokens, "most tokens of an answer; default: as the suite has it")
      ->check(WholeNumber(1, 1 << 24));
  command->add_option("--shots", options->shots, "worked examples before the question, where a suite has them")
      ->check(WholeNumber(0, 64));
  command->add_flag("--no-thinking", options->no_thinking,
                    "models with a switch (DeepSeek-V3.1's format) are asked to answer at once");
  command->add_flag("--raw", options->raw, "texts to continue instead of messages, as for a model without chat format");
  command->add_option("--chat-format", options->chat_format, "override the model's prompt format, as for run");
  command->add_option("--data", options->data, "the folder with the suites' files")->type_name("DIR");
  command->add_option("--samples", options->samples, "write every prompt, answer and score to this file, a line each")
      ->type_name("FILE");
  auto* prose = command->add_option_group("Prose");
  prose->add_option("--file", options->prose.file, "the held-out text of --suite prose")->type_name("FILE");
  prose->add_option("--train", options->prose.train, "texts that the n-gram models learn from; repeatable")
      ->type_name("FILE");
  prose->add_option("--window", options->prose.window, "tokens of a window; default: 2048, or the context if less")
      ->check(WholeNumber(4, 1 << 24));
  prose->add_option("--stride", options->prose.stride, "windows slide by so many tokens; default: half a window")
      ->check(WholeNumber(1, 1 << 24));
  prose->add_option("--order", options->prose.order, "symbols of an n-gram")
      ->capture_default_str()
      ->check(WholeNumber(1, 8));
  prose->add_option("--ngram-mib", options->prose.ngram_mib, "most memory for one n-gram model's tables, MiB")
      ->capture_default_str()
      ->check(WholeNumber(int64_t{1}, int64_t{1} << 20));
  command->add_flag("--json", options->json, "print one JSON object instead of tables");
}

}  // namespace fathom
