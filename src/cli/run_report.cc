#include "cli/run_report.h"

#include <nlohmann/json.hpp>

#include "cli/expert_report.h"
#include "cli/memory_report.h"

namespace fathom {

std::string RunReport(const Engine& engine, const Session& session, const Prompt& prompt,
                      const GenerationResult& result, double load_seconds) {
  const Timings& timings = result.timings;
  const MemoryUse memory = engine.memory();
  nlohmann::ordered_json report;
  report["model"] = engine.model_file().files().empty() ? std::string() : engine.model_file().files().front();
  report["text"] = result.content;
  report["reasoning"] = result.reasoning;
  report["tokens"] = result.tokens;
  report["prompt_tokens"] = prompt.ids;
  report["finish_reason"] = FinishReasonName(result.finish_reason);
  report["seed"] = result.seed;
  report["context_length"] = session.context_length();
  report["timings"] = {
      {"load_seconds", load_seconds},
      {"prompt_tokens", timings.prompt_tokens},
      {"cached_tokens", timings.cached_tokens},
      {"prompt_seconds", timings.prompt_seconds},
      {"prompt_tokens_per_second", timings.prompt_rate()},
      {"generated_tokens", timings.generated_tokens},
      {"decode_seconds", timings.decode_seconds},
      {"decode_tokens_per_second", timings.generated_tokens > 1 ? timings.decode_rate() : 0.0},
      {"draft_tokens", timings.draft_tokens},
      {"draft_accepted_tokens", timings.draft_accepted},
  };
  report["memory"] = {
      {"weights_mapped_bytes", memory.weights_mapped},   {"weights_derived_bytes", memory.weights_derived},
      {"kv_bytes_per_token", memory.kv_bytes_per_token}, {"kv_allocated_bytes", memory.kv_allocated},
      {"scratch_bytes", memory.scratch},                 {"peak_resident_bytes", PeakMemory()},
  };
  if (const auto experts = engine.expert_stats()) report["experts"] = ExpertJson(*experts);
  if (const auto promise = MeasurePromise(engine)) {
    report["memory"]["weights_resident_bytes"] = memory.weights_resident;
    report["memory"]["expert_slots_bytes"] = memory.expert_slots;
    report["memory"]["promised_bytes"] = promise->promised;
    report["memory"]["page_cache_bytes"] = promise->page_cache;
    report["memory"]["page_cache_promised"] = !promise->page_cache_outside;
    report["memory"]["promise_kept"] = promise->kept();
  }
  return report.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace fathom
