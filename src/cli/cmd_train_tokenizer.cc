// fathom train-tokenizer: a vocabulary from text.
#include <charconv>
#include <cstdio>
#include <deque>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "io/env.h"
#include "io/file_writer.h"
#include "tasks/problem.h"
#include "train/block_reader.h"
#include "train/tokenizer_trainer.h"

namespace fathom {
namespace {

constexpr size_t kBatchBytes = size_t{16} << 20;  // counted at a time

struct TrainTokenizerOptions {
  std::vector<std::string> inputs;
  std::string output;
  int32_t vocab_size = 4096;
  int64_t min_frequency = 2;
  bool single_digits = false;
  int64_t tasks = 0;
  std::vector<std::string> special;
  int64_t max_length = 4096;
  int threads = 0;
  bool quiet = false;
};

/// "PATTERN" or "PATTERN@60MB": at most so many bytes of what the pattern matches, from all over it.
struct Input {
  std::string pattern;
  int64_t limit = INT64_MAX;
};

Result<Input> ParseInput(const std::string& text) {
  const size_t at = text.rfind('@');
  if (at == std::string::npos || Env::Default().Exists(text)) return Input{text};
  std::string_view size = std::string_view(text).substr(at + 1);
  int64_t value = 0;
  const auto [rest, error] = std::from_chars(size.data(), size.data() + size.size(), value);
  const std::string_view unit(rest, static_cast<size_t>(size.data() + size.size() - rest));
  int64_t scale = 0;
  if (unit == "" || unit == "B") scale = 1;
  else if (unit == "kB") scale = 1000;
  else if (unit == "MB") scale = 1000 * 1000;
  else if (unit == "GB") scale = 1000 * 1000 * 1000;
  if (error != std::errc() || scale == 0 || value <= 0 || value > INT64_MAX / scale || at == 0) {
    return Fail(ErrorCode::kInvalidArgument, "{}: after the '@' a size as 60MB is expected", text);
  }
  return Input{text.substr(0, at), value * scale};
}

/// What of a JSON line is text: "text", or what the messages say, or every string.
void AppendStrings(const nlohmann::json& value, int depth, std::string& out) {
  if (value.is_string()) {
    out += value.get_ref<const std::string&>();
    out += '\n';
  } else if (value.is_structured() && depth < 16) {
    for (const auto& [key, entry] : value.items()) {
      if (key != "role") AppendStrings(entry, depth + 1, out);
    }
  }
}

class Counter {
 public:
  Counter(const TrainTokenizerOptions& options, TokenizerTrainer& trainer)
      : trainer_(trainer), progress_("Reading", {.unit = Progress::Unit::kBytes, .quiet = options.quiet}) {}

  Status Files(const std::vector<Input>& inputs) {
    for (const Input& input : inputs) {
      // Blocks come from all over the files, so that the first ones are a sample.
      FATHOM_TRY(BlockReader reader, BlockReader::Open(Env::Default(), {input.pattern},
                                                       {.chunk_bytes = 1 << 20, .lanes = 32}));
      total_ += std::min(reader.total_bytes(), input.limit);
      readers_.push_back({std::move(reader), input.limit});
    }
    for (auto& [reader, limit] : readers_) {
      int64_t taken = 0;
      while (taken < limit && !reader.empty()) {
        FATHOM_TRY(const Block block, reader.Next());
        if (reader.epoch() > 0) break;
        taken += static_cast<int64_t>(block.text.size());
        FATHOM_CHECK_OK(AddBlock(reader, block));
      }
    }
    return Flush();
  }

  Status Tasks(int64_t count) {
    FATHOM_TRY(TaskGenerator generator, TaskGenerator::Create(1, Split::kTrain));
    for (int64_t i = 0; i < count; ++i) {
      Problem problem = generator.Next();
      for (std::string* text : {&problem.question, &problem.thinking, &problem.answer}) {
        task_bytes_ += static_cast<int64_t>(text->size());
        FATHOM_CHECK_OK(Add(std::move(*text)));
      }
    }
    return Flush();
  }

  int64_t bytes() const { return bytes_; }
  int64_t task_bytes() const { return task_bytes_; }

 private:
  Status AddBlock(const BlockReader& reader, const Block& block) {
    if (block.format == ShardFormat::kJsonLines) {
      const nlohmann::json line = nlohmann::json::parse(block.text, nullptr, false);
      if (line.is_discarded()) return Fail(ErrorCode::kCorrupt, "{}: not valid JSON", reader.Where(block));
      std::string text;
      const auto known = line.is_object() ? line.find("text") : line.end();
      AppendStrings(line.is_object() && known != line.end() ? *known : line, 0, text);
      return Add(std::move(text));
    }
    std::string_view text = block.text;
    while (true) {
      const size_t end = text.find(kDocumentSeparator);
      FATHOM_CHECK_OK(Add(std::string(text.substr(0, end))));
      if (end == std::string_view::npos) return {};
      text.remove_prefix(end + kDocumentSeparator.size());
    }
  }

  Status Add(std::string text) {
    bytes_ += static_cast<int64_t>(text.size());
    waiting_ += text.size();
    texts_.push_back(std::move(text));
    return waiting_ < kBatchBytes ? Status() : Flush();
  }

  Status Flush() {
    if (Interrupted()) return Fail(ErrorCode::kCancelled, "stopped; nothing was written");
    trainer_.Add(texts_);
    texts_.clear();
    waiting_ = 0;
    progress_.Update(bytes_, std::max(total_, bytes_));
    return {};
  }

  TokenizerTrainer& trainer_;
  Progress progress_;
  struct Limited {
    BlockReader reader;
    int64_t limit;
  };
  std::deque<Limited> readers_;
  std::vector<std::string> texts_;
  size_t waiting_ = 0;
  int64_t bytes_ = 0, task_bytes_ = 0, total_ = 0;
};

Status RunTrainTokenizer(const TrainTokenizerOptions& options) {
  if (options.inputs.empty() && options.tasks == 0) {
    return Fail(ErrorCode::kInvalidArgument, "nothing to learn from: name text files, or --tasks N\n"
                                             "Try 'fathom train-tokenizer --help'.");
  }
  if (!Env::Default().IsDirectory(options.output)) {
    return Fail(ErrorCode::kNotFound, "{}: no such folder; make it first", options.output);
  }
  std::vector<Input> inputs;
  for (const std::string& text : options.inputs) {
    FATHOM_TRY(Input input, ParseInput(text));
    inputs.push_back(std::move(input));
  }
  const InterruptScope interrupts(InterruptBy::kAnyEnd);
  const int threads = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  Progress merging("Merging", {.quiet = options.quiet});
  FATHOM_TRY(TokenizerTrainer trainer,
             TokenizerTrainer::Create({.vocab_size = options.vocab_size,
                                       .min_frequency = options.min_frequency,
                                       .single_digits = options.single_digits,
                                       .special = options.special,
                                       .threads = threads,
                                       .progress = [&](int64_t done, int64_t total) {
                                         merging.Update(done, total);
                                         return !Interrupted();
                                       }}));
  int64_t bytes = 0, task_bytes = 0;
  {
    Counter counter(options, trainer);
    FATHOM_CHECK_OK(counter.Files(inputs));
    FATHOM_CHECK_OK(counter.Tasks(options.tasks));
    bytes = counter.bytes();
    task_bytes = counter.task_bytes();
  }
  FATHOM_TRY(const TrainedTokenizer trained, trainer.Train());
  merging.Finish();
  const std::string path = JoinPath(options.output, "tokenizer.json");
  FATHOM_CHECK_OK(WriteWholeFile(Env::Default(), path, trained.TokenizerJson()));
  FATHOM_CHECK_OK(WriteWholeFile(Env::Default(), JoinPath(options.output, "tokenizer_config.json"),
                            trained.TokenizerConfigJson(options.max_length)));
  if (!options.quiet) {
    std::fprintf(stderr, "%s: %d tokens from %.1f MB of text (%.1f MB of it tasks), %zu different words\n", path.c_str(),
                 trained.vocab_size(), static_cast<double>(bytes) / 1e6, static_cast<double>(task_bytes) / 1e6,
                 trainer.words());
    if (trained.vocab_size() < options.vocab_size) {
      std::fprintf(stderr, "The text has too few frequent pairs for %d; more text or --min-frequency 1 gives more.\n",
                   options.vocab_size);
    }
    if (trainer.forgot()) std::fprintf(stderr, "Rare words were left out to bound the memory.\n");
  }
  return {};
}

}  // namespace

void RegisterTrainTokenizer(CLI::App& app, Action& selected) {
  auto options = std::make_shared<TrainTokenizerOptions>();
  CLI::App* command =
      AddCommand(app, selected, "train-tokenizer", "make a vocabulary from text",
                 "Writes tokenizer.json and tokenizer_config.json: byte-level BPE with DeepSeek-V3's way of splitting\n"
                 "words, and the marks and chat template of its conversations.\n"
                 "\n"
                 "Examples:\n"
                 "  fathom train-tokenizer book.txt -o tokenizer --vocab-size 8192\n"
                 "  fathom train-tokenizer 'books/*.txt.xz@60MB' chats.jsonl --tasks 50000 --single-digits -o tokenizer",
                 options, RunTrainTokenizer);
  command->add_option("INPUT", options->inputs,
                      "text (.txt) or lines of JSON (.jsonl), plain or .xz; globs; '@60MB' at the end takes a sample");
  command->add_option("-o,--output", options->output, "folder to write into")->required();
  command->add_option("--vocab-size", options->vocab_size, "tokens, the special ones included (4096)");
  command->add_option("--min-frequency", options->min_frequency, "how often a pair must occur to become a token (2)")
      ->check(CLI::PositiveNumber);
  command->add_flag("--single-digits", options->single_digits, "every digit is a token of its own");
  command->add_option("--tasks", options->tasks, "also so many generated problems (see 'fathom tasks')")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--special", options->special, "one more special token; may be repeated")->allow_extra_args(false);
  command->add_option("--max-length", options->max_length, "model_max_length in tokenizer_config.json (4096)")
      ->check(CLI::PositiveNumber);
  command->add_option("-t,--threads", options->threads, "threads (default: all cores)")->check(CLI::NonNegativeNumber);
  command->add_flag("-q,--quiet", options->quiet, "no progress, no summary");
}

}  // namespace fathom
