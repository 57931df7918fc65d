// The public face of fathom as a library: load a model once, then run sequences.
//
//   auto engine = Engine::Load("model.gguf", {});
//   auto session = (*engine)->NewSession();
//   auto result = (*session)->Generate(prompt_ids, params, [](const Emission& e) { ...; return true; });
//
// An Engine is thread-safe for NewSession(); one Session runs at a time (the compute pool is shared). Sessions must
// not outlive their Engine. Failures are values; the process never aborts on a file or a user's words.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/memory_plan.h"
#include "engine/sampler.h"
#include "engine/speculation.h"
#include "experts/expert_store.h"
#include "format/model_file.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace fathom {

class Env;
class BatchGenerator;
struct BatchOptions;
class Service;
struct ServiceOptions;
class ThreadPool;
class Profile;

/// Of the rows in the KV cache. auto: f32 for F32 models, bf16 otherwise. fp8 and int8 take about 0.6 of bf16's room, at
/// the error that tensor/kv_row.h states.
enum class KvType { kAuto, kF32, kF16, kBF16, kFp8, kInt8 };

/// Experts that do not all stay in memory (docs/experts.md).
struct ExpertOptions {
  int64_t memory_bytes = 0;    // of slots for routed experts, read from the file when wanted; 0: all as the file is mapped
  std::string heat_directory;  // where routing statistics are kept between runs; empty: nowhere
  std::string record_routing;  // a file to write every token's choices to (docs/formats/routing.md); empty: none
  double replay_guesses_right = 0;  // of the guesses one layer ahead while replaying (MakeRoutingReplayer)
  std::string replay_routing;  // a record whose choices take the place of the gates'; empty: none
  ExpertIo io = ExpertIo::kAuto;  // past the page cache or through it; auto measures, and under a promise is direct
  int64_t beside_bytes = 0;    // of memory that the caller will take beside the engine, and the page cache not have
  float resident_bias = 0;     // how much gates lean to resident experts, [0, 1]; 0: not (kernels/routing.h)
};

/// That a disk may answer nothing at all before what waits for it fails.
inline constexpr std::chrono::milliseconds kStallLimit{30'000};

/// A promise: all that this process takes, and what it makes the page cache hold (but for experts read through it on purpose,
/// ExpertIo::kBuffered), stays under so many bytes (docs/experts.md).
struct MemoryPromise {
  int64_t bytes = 0;        // 0: none is given; weights are used as the file is mapped
  bool serving = false;     // many sequences on one pool of KV memory; otherwise one session at a time
  int64_t kv_bytes = -1;    // of that pool; -1: what is best
  int32_t rows = 0;         // of its largest pass; 0: prefill_chunk
  int32_t sequences = 1;    // of its largest pass
  int32_t logit_rows = 1;   // that are asked for at once
  int64_t extra_bytes = 0;  // that the caller will take beside the engine
};

struct EngineOptions {
  int threads = 0;              // 0: one per available core
  int32_t context_length = 0;   // tokens a session may hold; 0: what the model was trained for, at most 32768
  KvType kv_type = KvType::kAuto;
  int32_t prefill_chunk = 1024;  // tokens a prefill step takes through the model together
  // The same where experts are streamed. 0: as many as make computing take as long as reading, at least prefill_chunk.
  int32_t streamed_prefill_chunk = 0;
  ExpertOptions experts;
  // Guessing ahead, in sessions and services; answers are the same. kMtp needs a model that has an MTP layer.
  SpeculationMode speculation = SpeculationMode::kOff;
  int32_t forced_draft = 0;  // > 0: that many tokens whenever there is a guess, whatever it costs (tests, measurements)
  MemoryPromise promise;
  Env* env = nullptr;  // of the model's files; nullptr: Env::Default(). It outlives the engine, or what that leaves behind
  std::chrono::milliseconds stall_limit = kStallLimit;
  // Told what is going on while loading, with a share in [0, 1]; may be empty.
  std::function<void(std::string_view what, double share)> progress;
};

struct MemoryUse {
  int64_t weights_mapped = 0;   // bytes of tensors in the file mapping
  int64_t weights_resident = 0;  // of tensors read into memory of their own, under a promise
  int64_t expert_slots = 0;     // of slots for experts that come when they are wanted
  int64_t weights_derived = 0;  // bytes made at load (transposed or widened matrices)
  int64_t kv_bytes_per_token = 0;
  int64_t kv_allocated = 0;
  int64_t scratch = 0;
  int64_t weights() const { return weights_mapped + weights_resident + expert_slots + weights_derived; }
};

enum class FinishReason { kStop, kLength, kContext, kCancelled };
std::string_view FinishReasonName(FinishReason reason);  // "stop", "length", "context", "cancelled"

struct GenerationParams {
  SamplingParams sampling;
  int32_t max_tokens = -1;          // -1: until the context is full
  std::vector<std::string> stop;    // stop strings; not part of the output
  bool ignore_eos = false;
  bool starts_in_thinking = false;  // the prompt ended inside <think>
  bool parse_reasoning = true;      // recognise <think> … </think>
  bool speculate = true;            // false: without guesses, whatever the engine was loaded with
  std::vector<TokenId> replay;      // these come first, whatever the logits say (measurements)
};

/// What one step brought. Text may be empty while a code point, a mark or a stop string is incomplete.
struct Emission {
  TokenId token = -1;
  std::string reasoning;
  std::string content;
};

struct Timings {
  int64_t prompt_tokens = 0;     // evaluated now
  int64_t cached_tokens = 0;     // already known to the session
  int64_t generated_tokens = 0;
  double prompt_seconds = 0;
  double decode_seconds = 0;
  int64_t draft_tokens = 0;      // guessed ahead
  int64_t draft_accepted = 0;    // of them, those that were right
  double prompt_rate() const { return prompt_seconds > 0 ? prompt_tokens / prompt_seconds : 0; }
  // The first token comes out of the prompt's last step.
  double decode_rate() const { return decode_seconds > 0 ? (generated_tokens - 1) / decode_seconds : 0; }
};

struct GenerationResult {
  std::vector<TokenId> tokens;  // generated, an end token included
  std::string content;
  std::string reasoning;
  FinishReason finish_reason = FinishReason::kStop;
  Timings timings;
  uint64_t seed = 0;
};

/// Called for each token; return false to stop (kCancelled).
using EmitFn = std::function<bool(const Emission&)>;
/// Called several times in a prefill chunk (before each layer) with tokens done and to do; return false to stop.
using PrefillFn = std::function<bool(int64_t done, int64_t total)>;

class Session {
 public:
  virtual ~Session() = default;
  /// Tokens whose keys and values are held.
  virtual std::span<const TokenId> tokens() const = 0;
  virtual int32_t context_length() const = 0;
  /// Forgets everything after the first `count` tokens.
  virtual void Truncate(int64_t count) = 0;

  /// Appends tokens; afterwards logits() are those of the last one. Errors: kResource (context or memory),
  /// kInvalidArgument (ids out of range), kCancelled. After an error the session holds what was finished in whole
  /// chunks before it, as tokens() says.
  virtual Status Eval(std::span<const TokenId> tokens, const PrefillFn& progress = {}) = 0;
  /// Appends tokens and gives the logits at every one of them, [tokens.size(), vocab_size], in `out`.
  virtual Status EvalAll(std::span<const TokenId> tokens, std::vector<float>& out) = 0;
  /// [vocab_size], of the last token. REQUIRES: something was evaluated.
  virtual std::span<const float> logits() const = 0;

  /// Makes the session hold exactly `prompt` (reusing the longest common prefix), then generates. The session then
  /// holds prompt and answer. Errors as Eval; a prompt that does not fit says how long it is and what fits.
  virtual Result<GenerationResult> Generate(std::span<const TokenId> prompt, const GenerationParams& params,
                                            const EmitFn& emit, const PrefillFn& progress = {}) = 0;
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> Load(const std::string& path, const EngineOptions& options);
  virtual ~Engine() = default;

  virtual Result<std::unique_ptr<Session>> NewSession() = 0;
  /// Many prompts at once, see engine/batch_generator.h. Errors: kInvalidArgument for options out of range.
  virtual Result<std::unique_ptr<BatchGenerator>> NewBatchGenerator(const BatchOptions& options) = 0;
  /// Many requests at any time, see engine/service.h. Errors: kInvalidArgument for options out of range, those of the
  /// cache; kUnsupported when this engine cannot.
  virtual Result<std::unique_ptr<Service>> NewService(const ServiceOptions& options);
  virtual const ModelFile& model_file() const = 0;
  virtual const ModelConfig& config() const = 0;
  /// nullptr when the file carries no usable tokenizer (tokenizer_error() says why); ids still work.
  virtual const Tokenizer* tokenizer() const = 0;
  virtual const std::string& tokenizer_error() const = 0;
  virtual ChatFormat chat_format() const = 0;
  /// The model has a chat template, but of a format that fathom does not know; chat_format() is kPlain then.
  virtual bool unknown_chat_template() const { return false; }
  virtual std::string default_system() const = 0;
  /// A hybrid model (ChatOptions::thinking) that thinks unless it is told not to.
  virtual bool default_thinking() const = 0;
  virtual MemoryUse memory() const = 0;
  /// What goes where under EngineOptions::promise; nothing without one.
  virtual std::optional<MemoryPlan> memory_plan() const { return std::nullopt; }
  /// Bytes by which the page cache holds more of the model's files than when they were opened, whoever read them; 0 without
  /// a promise. Asks the kernel about every page: some ten milliseconds for ten gigabytes.
  virtual int64_t page_cache_growth() const { return 0; }
  /// Bytes a second that the model's files were read with, under a promise; 0: not known.
  virtual double read_rate() const { return 0; }
  /// Nothing when all experts are used as the file is mapped.
  virtual std::optional<ExpertStoreStats> expert_stats() const { return std::nullopt; }
  virtual int32_t context_length() const = 0;
  virtual KvType kv_type() const = 0;
  virtual int threads() const = 0;
  virtual ThreadPool& pool() = 0;
  /// From now on forward passes add to it where their time goes (model/profile.h); nullptr: no more. It outlives that; no
  /// pass may be running.
  virtual void UseProfile(Profile*) {}
};

/// Raw prompt to ids as the model expects them: BOS where its tokenizer adds one, text as the user's.
std::vector<TokenId> EncodePrompt(const Tokenizer& tokenizer, std::string_view text);

}  // namespace fathom
