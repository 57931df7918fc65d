// Many requests on one model: a thread that keeps a continuous batch going. Every step is one pass of the model over all
// running sequences, decode rows first and pieces of prompts within a token budget; sequences join and leave at any step.
// Beneath it the KV cache manager keeps every prefix that was ever computed, as far as its tiers reach.
//
// Thread-safe. Callbacks run on the service's own thread, in order for one request: OnProgress*, OnToken*, OnDone once
// and last. They must be short (hand over and return). Greedy answers are the same alone and in company.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cache/kv_cache.h"
#include "engine/engine.h"

namespace fathom {

struct TokenLogprob {
  TokenId token = -1;
  float logprob = 0;  // natural logarithm, of the model's own distribution (before temperature and cuts)
};

struct ServiceRequest {
  std::vector<TokenId> prompt;
  GenerationParams params;
  std::string tenant;          // whose cache; empty: the only one
  int priority = 0;            // [-8, 8]; higher goes first
  int32_t logprobs = -1;       // -1: none; k in [0, 20]: of the drawn token and of the k best
  int64_t max_thinking_tokens = -1;  // -1: no budget; after so many tokens of reasoning it is closed
  bool use_cache = true;       // false: neither looked up nor kept
};

struct ServiceToken {
  Emission emission;
  std::optional<TokenLogprob> drawn;
  std::vector<TokenLogprob> top;  // best first
};

/// What is known while a prompt is evaluated.
struct ServiceProgress {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of them, taken from the cache
  int64_t done_tokens = 0;    // evaluated or taken
};

struct ServiceTimings {
  double queue_seconds = 0;       // until it joined the batch
  double load_seconds = 0;        // waiting for rows from a slower tier
  double prompt_seconds = 0;      // from joining to the first token
  double decode_seconds = 0;
  int64_t cached_memory_tokens = 0, cached_disk_tokens = 0;
  int32_t preemptions = 0;
};

struct ServiceResult {
  GenerationResult generation;  // timings.cached_tokens are those of the cache
  ServiceTimings timings;
  int64_t reasoning_tokens = 0;
  std::string cache_reason;     // in words: why so many tokens were known and no more
};

struct ServiceCallbacks {
  std::function<void(const ServiceProgress&)> on_progress;  // a few times a second at most; may be empty
  std::function<void(const ServiceToken&)> on_token;        // may be empty
  std::function<void(Result<ServiceResult>)> on_done;
};

struct ServiceOptions {
  int32_t max_sequences = 32;    // in the batch at once, [1, 1024]
  int32_t max_queue = 256;       // waiting ones beyond which Submit refuses
  int32_t step_tokens = 512;     // rows of a step, [16, 65536]; smaller: smoother streams, slower prompts
  CacheOptions cache;
  // Makes the cache instead of KvCache::Create: tests, other managers.
  std::function<Result<std::unique_ptr<KvCache>>(const KvSpace&, KvPool&)> make_cache;
};

struct ServiceStats {
  int32_t running = 0, waiting = 0, prefilling = 0;
  int64_t requests = 0, finished = 0, cancelled = 0, failed = 0, preempted = 0;
  int64_t steps = 0, prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  int64_t draft_tokens = 0, draft_accepted = 0;  // guessed ahead; of them, those that were right
  int64_t step_rows = 0;           // of the last step
  int64_t kv_share_bytes = 0;      // of what is shared with experts, that the KV pool has; 0: nothing is shared
  double prefill_rate = 0, decode_rate = 0;  // tokens a second, recent mean over all requests
  CacheStats cache;
  std::optional<ExpertStoreStats> experts;  // where they are streamed
};

using RequestId = uint64_t;

/// Why Submit takes no request.
enum class Refusal : uint8_t {
  kInvalid,    // a field is wrong
  kTooLong,    // the prompt will never fit: into the context, or into the memory for keys and values
  kQueueFull,  // so many wait already; passes
  kDraining,   // the service is shutting down
};
struct SubmitError {
  Refusal why = Refusal::kInvalid;
  std::string message;
};

class Service {
 public:
  /// The engine outlives the service and is used by nobody else meanwhile. Errors: options out of range, a cache folder
  /// that cannot be used (the message says what to do).
  static Result<std::unique_ptr<Service>> Create(Engine& engine, const ServiceOptions& options);
  /// Cancels what runs, parks sequences in the cache and flushes it.
  virtual ~Service() = default;

  /// Checks the request and queues it. An error comes at once; on_done is then not called.
  virtual std::expected<RequestId, SubmitError> Submit(ServiceRequest request, ServiceCallbacks callbacks) = 0;
  /// The request ends with kCancelled as its finish reason within one step; unknown ids are ignored.
  virtual void Cancel(RequestId id) = 0;
  /// No more requests; waits until all are done or `seconds` have passed, cancels the rest, and flushes the cache.
  virtual void Drain(double seconds) = 0;
  virtual ServiceStats stats() const = 0;
  virtual KvCache* cache() = 0;  // nullptr: none configured
  virtual const Engine& engine() const = 0;
};

}  // namespace fathom
