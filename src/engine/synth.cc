#include "engine/synth.h"

#include <algorithm>
#include <filesystem>
#include <future>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "engine/synth_configs.h"
#include "engine/synth_metadata.h"
#include "engine/synth_tokenizer.h"
#include "engine/synth_weights.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"
#include "format/hf_config.h"
#include "io/env.h"

namespace fathom {
namespace {

constexpr int64_t kBatchBytes = int64_t{32} << 20;  // made in memory while the one before is written
constexpr int64_t kPieceBytes = int64_t{256} << 10;  // handed to a thread at a time

// Rows of one tensor, to be made at one place of a batch.
struct Piece {
  const SynthTensor* tensor;
  const SynthFiller* filler;
  int64_t row, rows;
  int64_t offset;  // in the batch, bytes
};

// Two buffers: one is filled by the pool while the other one is written.
class Producer {
 public:
  Producer(const SynthOptions& options, std::vector<SynthTensor> tensors, GgufWriter& writer)
      : options_(options), tensors_(std::move(tensors)), writer_(writer), pool_(options.threads) {}

  Status Run() {
    int64_t longest_row = 0;
    for (const auto& tensor : tensors_) {
      total_ += tensor.bytes();
      longest_row = std::max(longest_row, tensor.bytes() / tensor.rows());
      fillers_.emplace_back(tensor.dtype, tensor.mean, tensor.std, SynthTensorKey(options_.seed, tensor.name));
    }
    const size_t capacity = static_cast<size_t>(std::max(kBatchBytes, longest_row));
    for (auto& buffer : buffers_) {
      FATHOM_TRY(buffer, AlignedBuffer::Allocate(capacity));
    }
    const Status status = Batches(static_cast<int64_t>(capacity));
    // The last write must be over before the buffers go.
    const Status written = Wait();
    return status ? written : status;
  }

 private:
  Status Batches(int64_t capacity) {
    for (int which = 0; !AtEnd(); which ^= 1) {
      AlignedBuffer& buffer = buffers_[which];
      const int64_t bytes = Plan(capacity);
      Fill(buffer.data());
      FATHOM_CHECK_OK(Wait());
      writing_ = std::async(std::launch::async, [this, &buffer, bytes] {
        return writer_.Append({buffer.data(), static_cast<size_t>(bytes)});
      });
      done_ += bytes;
      if (options_.progress && !options_.progress(done_, total_)) return Fail(ErrorCode::kCancelled, "interrupted");
    }
    return {};
  }

  Status Wait() { return writing_.valid() ? writing_.get() : Status{}; }
  bool AtEnd() const { return tensor_ == tensors_.size(); }

  // Takes whole rows, in order, until the batch is full.
  int64_t Plan(int64_t capacity) {
    pieces_.clear();
    int64_t offset = 0;
    while (!AtEnd()) {
      const SynthTensor& tensor = tensors_[tensor_];
      const int64_t row_bytes = tensor.bytes() / tensor.rows();
      const int64_t rows = std::min({tensor.rows() - row_, (capacity - offset) / row_bytes,
                                     std::max<int64_t>(1, kPieceBytes / row_bytes)});
      if (rows == 0) break;
      pieces_.push_back({&tensor, &fillers_[tensor_], row_, rows, offset});
      offset += rows * row_bytes;
      row_ += rows;
      if (row_ == tensor.rows()) {
        ++tensor_;
        row_ = 0;
      }
    }
    return offset;
  }

  void Fill(std::byte* out) {
    pool_.ParallelFor(static_cast<int64_t>(pieces_.size()), 1, [&](int64_t i, int) {
      const Piece& piece = pieces_[i];
      const int64_t cols = piece.tensor->cols(), row_bytes = piece.tensor->bytes() / piece.tensor->rows();
      for (int64_t r = 0; r < piece.rows; ++r) {
        std::byte* row = out + piece.offset + r * row_bytes;
        if (piece.tensor->values.empty()) {
          piece.filler->FillRow(piece.row + r, cols, row);
        } else {
          std::copy_n(reinterpret_cast<const std::byte*>(piece.tensor->values.data()), row_bytes, row);
        }
      }
    });
  }

  const SynthOptions& options_;
  const std::vector<SynthTensor> tensors_;
  std::vector<SynthFiller> fillers_;
  GgufWriter& writer_;
  ThreadPool pool_;
  AlignedBuffer buffers_[2];
  std::vector<Piece> pieces_;
  std::future<Status> writing_;
  size_t tensor_ = 0;
  int64_t row_ = 0, done_ = 0, total_ = 0;
};

Status CheckDisk(const SynthOptions& options, int64_t bytes) {
  std::error_code error;
  const auto space = std::filesystem::space(DirectoryOf(options.output), error);
  if (error) return {};  // the writer will say what is wrong with the path
  const auto available = static_cast<int64_t>(std::min<uintmax_t>(space.available, INT64_MAX));
  if (bytes > available - options.reserve_bytes) {
    return Fail(ErrorCode::kResource,
                "{}: {:.1f} GB are needed but {:.1f} GB are free ({:.1f} GB are kept)\n"
                "Try a smaller type or fewer layers (--layers).",
                options.output, static_cast<double>(bytes) / 1e9, static_cast<double>(available) / 1e9,
                static_cast<double>(options.reserve_bytes) / 1e9);
  }
  return {};
}

SynthSummary Summarise(const ModelConfig& config, const SynthRecipe& recipe, const std::vector<SynthTensor>& tensors) {
  SynthSummary summary{.config = config, .type = std::string(recipe.pure ? "pure-" : "") + std::string(recipe.name),
                       .tensors = static_cast<int64_t>(tensors.size()), .parameters = CountParameters(config)};
  for (const auto& tensor : tensors) summary.tensor_bytes += tensor.bytes();
  return summary;
}

// An empty file, or one that synth wrote: nothing that somebody would miss.
bool MayReplace(Env& env, const std::string& path) {
  if (env.FileSize(path).value_or(-1) == 0) return true;
  const auto mapping = env.Map(path, {});
  if (!mapping) return false;
  const auto file = GgufFile::Parse((*mapping)->bytes());
  if (!file) return false;
  const auto description = file->String("general.description");
  return description && *description && IsSynthDescription(**description);
}

// A built-in name, or what looks like a path.
Result<ModelConfig> BaseConfig(const std::string& name) {
  Env& env = Env::Default();
  const bool path = name.find('/') != std::string::npos || name.ends_with(".json") || env.IsDirectory(name);
  if (!path) return FindSynthConfig(name);
  const std::string file = env.IsDirectory(name) ? JoinPath(name, "config.json") : name;
  constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;
  FATHOM_TRY(const std::string text, ReadWholeFile(env, file, kMaxConfigBytes));
  auto config = ConfigFromHuggingFace(text, BaseName(DirectoryOf(file)));
  if (!config) return Prefix(config.error(), file);
  // From Hugging Face's words to what a GGUF says.
  switch (config->family) {
    case ArchFamily::kDeepseek2: config->architecture = "deepseek2"; break;
    case ArchFamily::kLlama: config->architecture = "llama"; break;
    case ArchFamily::kQwen2: config->architecture = "qwen2"; break;
  }
  config->rope.layout = config->family == ArchFamily::kQwen2 ? RopeLayout::kHalfSplit : RopeLayout::kInterleaved;
  return config;
}

}  // namespace

Result<ModelConfig> ResolveSynthConfig(const SynthOptions& options) {
  FATHOM_TRY(ModelConfig config, BaseConfig(options.config));
  if (options.layers < 0 || options.layers > 4096)
    return Fail(ErrorCode::kInvalidArgument, "{} layers; 1 to 4096 are possible", options.layers);
  if (options.vocab_size < 0)
    return Fail(ErrorCode::kInvalidArgument, "a vocabulary of {} tokens is not possible", options.vocab_size);
  if (options.layers > 0) {
    config.num_hidden_layers = options.layers;
    config.moe.first_k_dense_replace = std::min(config.moe.first_k_dense_replace, options.layers);
  }
  if (options.vocab_size > 0) config.vocab_size = options.vocab_size;
  if (options.q_lora_rank >= 0) {
    if (!config.is_mla()) {
      return Fail(ErrorCode::kInvalidArgument, "configuration {} has no latent attention, so no q_lora", options.config);
    }
    config.mla.q_lora_rank = options.q_lora_rank;
  }
  config.num_nextn_predict_layers = 0;  // not written
  if (auto status = ValidateConfig(config); !status) {
    // The user's configuration, not a broken file.
    return Fail(ErrorCode::kInvalidArgument, "configuration {}: {}", options.config, status.error().message);
  }
  return config;
}

Result<SynthSummary> PlanSynth(const SynthOptions& options) {
  FATHOM_TRY(const ModelConfig config, ResolveSynthConfig(options));
  FATHOM_TRY(const SynthRecipe recipe, FindSynthRecipe(options.type));
  return Summarise(config, recipe, ListSynthTensors(config, recipe, options.layout));
}

Result<SynthSummary> WriteSynth(const SynthOptions& options) { return WriteSynth(options, Env::Default()); }

Result<SynthSummary> WriteSynth(const SynthOptions& options, Env& env) {
  FATHOM_TRY(const ModelConfig config, ResolveSynthConfig(options));
  FATHOM_TRY(const SynthRecipe recipe, FindSynthRecipe(options.type));
  FATHOM_TRY(auto tokenizer, MakeSynthTokenizer(config));
  auto tensors = ListSynthTensors(config, recipe, options.layout);
  SynthSummary summary = Summarise(config, recipe, tensors);
  if (!options.overwrite && env.Exists(options.output) && !MayReplace(env, options.output)) {
    return Fail(ErrorCode::kInvalidArgument, "{}: exists, and is not a synthetic model\nUse --force to replace it.",
                options.output);
  }

  FATHOM_TRY(const auto writer, GgufWriter::Create(options.output, env));
  AddSynthMetadata(config, recipe, options.layout, options.seed, *writer);
  AddSynthTokenizer(std::move(tokenizer), *writer);
  for (const auto& tensor : tensors) writer->DeclareTensor(tensor.name, tensor.dtype, tensor.shape);
  // Tensors and at most 32 bytes of padding each, and the header (mostly the vocabulary).
  FATHOM_CHECK_OK(CheckDisk(options, summary.tensor_bytes + 32 * summary.tensors + 80 * int64_t{config.vocab_size}));
  FATHOM_CHECK_OK(writer->WriteHeader());
  summary.file_bytes = writer->file_bytes();
  FATHOM_CHECK_OK(Producer(options, std::move(tensors), *writer).Run());
  FATHOM_CHECK_OK(writer->Finish());
  return summary;
}

}  // namespace fathom
