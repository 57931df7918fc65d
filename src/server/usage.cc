#include "server/usage.h"

namespace fathom {

double Cost(const TokenUsage& usage, const Prices& prices) {
  return (static_cast<double>(usage.cached) * prices.hit + static_cast<double>(usage.miss()) * prices.miss +
          static_cast<double>(usage.completion) * prices.output) / 1e6;
}

ordered_json UsageJson(const TokenUsage& usage, const Prices& prices) {
  ordered_json json = {{"prompt_tokens", usage.prompt},
                       {"completion_tokens", usage.completion},
                       {"total_tokens", usage.prompt + usage.completion},
                       {"prompt_cache_hit_tokens", usage.cached},
                       {"prompt_cache_miss_tokens", usage.miss()},
                       {"prompt_tokens_details", {{"cached_tokens", usage.cached}}},
                       {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning}}}};
  if (prices.any()) json["cost"] = Cost(usage, prices);
  return json;
}

ordered_json TimingsJson(const ServiceResult& result) {
  const ServiceTimings& times = result.timings;
  const Timings& tokens = result.generation.timings;
  const auto rate = [](int64_t count, double seconds) {
    return count > 0 && seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
  };
  ordered_json json = {{"queue_ms", times.queue_seconds * 1e3},
                       {"load_ms", times.load_seconds * 1e3},
                       {"cache_n", tokens.cached_tokens},
                       {"cache_memory_n", times.cached_memory_tokens},
                       {"cache_disk_n", times.cached_disk_tokens},
                       {"prompt_n", tokens.prompt_tokens},
                       {"prompt_ms", times.prompt_seconds * 1e3},
                       {"prompt_per_second", rate(tokens.prompt_tokens, times.prompt_seconds)},
                       {"predicted_n", tokens.generated_tokens},
                       {"predicted_ms", times.decode_seconds * 1e3},
                       // The first token comes out of the prompt's last step.
                       {"predicted_per_second", rate(tokens.generated_tokens - 1, times.decode_seconds)},
                       {"preemptions", times.preemptions}};
  if (tokens.draft_tokens > 0) {
    json["draft_n"] = tokens.draft_tokens;
    json["draft_n_accepted"] = tokens.draft_accepted;
  }
  if (!result.cache_reason.empty()) json["cache_reason"] = result.cache_reason;
  return json;
}

}  // namespace fathom
