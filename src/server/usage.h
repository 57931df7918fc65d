// What a request has used, in tokens, time and money. Pure functions, thread-safe.
#pragma once

#include "engine/service.h"
#include "server/json_reader.h"

namespace fathom {

/// Of a million tokens, in any currency; all 0: no `cost` in usage.
struct Prices {
  double hit = 0, miss = 0, output = 0;
  bool any() const { return hit > 0 || miss > 0 || output > 0; }
};

/// Summed over a request's answers. The answers of one prompt share it: it counts once, as in OpenAI's API.
struct TokenUsage {
  int64_t prompt = 0, cached = 0, completion = 0, reasoning = 0;
  int64_t miss() const { return prompt - cached; }
};

double Cost(const TokenUsage& usage, const Prices& prices);
/// OpenAI's `usage` with DeepSeek's prompt_cache_hit_tokens and prompt_cache_miss_tokens, and `cost` where prices are set.
ordered_json UsageJson(const TokenUsage& usage, const Prices& prices);
/// Names as llama-server has them where it has them; times in milliseconds.
ordered_json TimingsJson(const ServiceResult& result);

}  // namespace fathom
