#include "server/server_metrics.h"

#include "base/process_memory.h"
#include "server/expert_metrics.h"

namespace fathom {

void ServerMetrics::CountRequest(std::string_view route, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{std::string(route), status}];
}

void ServerMetrics::CountResult(const ServiceResult& result) {
  const Timings& tokens = result.generation.timings;
  queue.Observe(result.timings.queue_seconds);
  load.Observe(result.timings.load_seconds);
  prompt_tokens.Observe(static_cast<double>(tokens.prompt_tokens + tokens.cached_tokens));
  output_tokens.Observe(static_cast<double>(tokens.generated_tokens));
  prompt_total.Add(tokens.prompt_tokens + tokens.cached_tokens);
  cached_total.Add(tokens.cached_tokens);
  cached_memory_total.Add(result.timings.cached_memory_tokens);
  cached_disk_total.Add(result.timings.cached_disk_tokens);
  output_total.Add(tokens.generated_tokens);
  reasoning_total.Add(result.reasoning_tokens);
}

std::string ServerMetrics::Text(const ServiceStats& service, int64_t promised_bytes) const {
  MetricsText text;
  text.Gauge("fathom_build_info", "Version of the program.", 1, MetricsText::Label("version", FATHOM_VERSION));
  text.Histogram("fathom_time_to_first_token_seconds", "From a request's arrival to its first token.",
                 time_to_first_token);
  text.Histogram("fathom_inter_token_seconds", "Between tokens of one answer.", inter_token);
  text.Histogram("fathom_queue_seconds", "Until a request joined the batch.", queue);
  text.Histogram("fathom_cache_load_seconds", "That a request waited for cached rows from a slower tier.", load);
  text.Histogram("fathom_end_to_end_seconds", "From a request's arrival to its answer's end.", end_to_end);
  text.Histogram("fathom_request_prompt_tokens", "Tokens of prompts.", prompt_tokens);
  text.Histogram("fathom_request_output_tokens", "Tokens of answers.", output_tokens);

  const auto count = [&](std::string_view name, std::string_view help, int64_t value, std::string_view labels = "") {
    text.Counter(name, help, static_cast<double>(value), labels);
  };
  const auto gauge = [&](std::string_view name, std::string_view help, auto value, std::string_view labels = "") {
    text.Gauge(name, help, static_cast<double>(value), labels);
  };
  count("fathom_prompt_tokens_total", "Prompt tokens of finished requests.", prompt_total.value());
  count("fathom_prompt_tokens_cached_total", "Of them, those taken from the cache.", cached_total.value());
  count("fathom_output_tokens_total", "Tokens generated, reasoning included.", output_total.value());
  count("fathom_reasoning_tokens_total", "Tokens of reasoning.", reasoning_total.value());
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, value] : requests_) {
      count("fathom_http_requests_total", "HTTP requests by route and status.", value,
            MetricsText::Label("route", key.first) + "," + MetricsText::Label("status", std::to_string(key.second)));
    }
  }
  count("fathom_http_disconnects_total", "Clients that left before their answer.", disconnected.value());
  count("fathom_http_refused_connections_total", "Connections beyond the limit.", refused_connections.value());
  count("fathom_http_sent_bytes_total", "Bytes sent.", bytes_sent.value());
  gauge("fathom_http_connections", "Open connections.", connections.load());
  gauge("fathom_http_streams", "Answers in work.", streams.load());

  const ProcessMemory process = ReadProcessMemory();
  gauge("fathom_memory_resident_bytes", "Of the process, mapped files included.", process.resident);
  gauge("fathom_memory_peak_bytes", "The most that it ever was.", process.peak);
  if (promised_bytes > 0) gauge("fathom_memory_promised_bytes", "What --memory says.", promised_bytes);
  if (service.kv_share_bytes > 0)
    gauge("fathom_memory_kv_share_bytes", "Of memory shared with experts, what keys and values have.", service.kv_share_bytes);

  // The shape of the batch.
  gauge("fathom_requests_running", "Sequences in the batch.", service.running);
  gauge("fathom_requests_prefilling", "Of them, those whose prompt is being evaluated.", service.prefilling);
  gauge("fathom_requests_waiting", "Requests in the queue.", service.waiting);
  gauge("fathom_step_rows", "Rows of the last step.", service.step_rows);
  count("fathom_steps_total", "Steps of the batch.", service.steps);
  count("fathom_requests_total", "Requests that the engine took.", service.requests);
  constexpr std::string_view kEnded = "Requests by how they ended.";
  count("fathom_requests_ended_total", kEnded, service.finished, MetricsText::Label("how", "finished"));
  count("fathom_requests_ended_total", kEnded, service.cancelled, MetricsText::Label("how", "cancelled"));
  count("fathom_requests_ended_total", kEnded, service.failed, MetricsText::Label("how", "failed"));
  count("fathom_preemptions_total", "Sequences that were parked in the cache to make room.", service.preempted);
  count("fathom_evaluated_tokens_total", "Prompt tokens evaluated.", service.prompt_tokens);
  count("fathom_generated_tokens_total", "Tokens sampled.", service.generated_tokens);
  count("fathom_draft_tokens_total", "Tokens guessed ahead.", service.draft_tokens);
  count("fathom_draft_accepted_tokens_total", "Of them, those that were right.", service.draft_accepted);
  gauge("fathom_prefill_tokens_per_second", "Recent mean.", service.prefill_rate);
  gauge("fathom_decode_tokens_per_second", "Recent mean over all requests.", service.decode_rate);

  // The cache by tier.
  const CacheStats& cache = service.cache;
  const std::string memory = MetricsText::Label("tier", "memory"), disk = MetricsText::Label("tier", "disk");
  count("fathom_cache_lookups_total", "Prefix lookups.", cache.lookups);
  count("fathom_cache_lookup_tokens_total", "Tokens looked up.", cache.lookup_tokens);
  constexpr std::string_view kHits = "Tokens found.";
  count("fathom_cache_hit_tokens_total", kHits, cache.memory_hit_tokens, memory);
  count("fathom_cache_hit_tokens_total", kHits, cache.disk_hit_tokens, disk);
  constexpr std::string_view kBytes = "Bytes held.";
  gauge("fathom_cache_bytes", kBytes, cache.memory_bytes, memory);
  gauge("fathom_cache_bytes", kBytes, cache.disk.used_bytes, disk);
  constexpr std::string_view kLimit = "Bytes that may be held.";
  gauge("fathom_cache_limit_bytes", kLimit, cache.memory_limit, memory);
  gauge("fathom_cache_limit_bytes", kLimit, cache.disk.capacity_bytes, disk);
  constexpr std::string_view kBlocks = "Blocks held.";
  gauge("fathom_cache_blocks", kBlocks, cache.memory_blocks, memory);
  gauge("fathom_cache_blocks", kBlocks, cache.disk.blocks, disk);
  gauge("fathom_cache_pinned_blocks", "Blocks that are not evicted.", cache.pinned_blocks);
  constexpr std::string_view kEvicted = "Blocks evicted.";
  count("fathom_cache_evicted_total", kEvicted, cache.evicted_memory, memory);
  count("fathom_cache_evicted_total", kEvicted, cache.evicted_disk, disk);
  count("fathom_cache_expired_total", "Blocks dropped for their age.", cache.expired);
  count("fathom_cache_corrupt_total", "Blocks that did not verify.", cache.corrupt);
  count("fathom_cache_not_admitted_total", "Blocks that the write budget kept off the disk.", cache.not_admitted);
  text.Counter("fathom_cache_load_wait_seconds_total", "Seconds that requests waited for rows.",
               cache.load_wait_seconds);
  count("fathom_cache_disk_reads_total", "Block reads.", cache.disk.reads);
  count("fathom_cache_disk_read_bytes_total", "Bytes read.", cache.disk.read_bytes);
  count("fathom_cache_disk_read_errors_total", "Reads that failed.", cache.disk.read_errors);
  count("fathom_cache_disk_writes_total", "Block writes.", cache.disk.writes);
  count("fathom_cache_disk_written_bytes_total", "Bytes written.", cache.disk.written_bytes);
  count("fathom_cache_disk_write_errors_total", "Writes that failed.", cache.disk.write_errors);
  gauge("fathom_cache_disk_queued_writes", "Blocks waiting to be written.", cache.disk.queued_writes);
  gauge("fathom_cache_disk_written_today_bytes", "Of the daily budget.", cache.written_today);
  gauge("fathom_cache_disk_read_bytes_per_second", "Measured.", cache.disk.read_bytes_per_second);
  gauge("fathom_cache_disk_write_bytes_per_second", "Measured.", cache.disk.write_bytes_per_second);
  if (service.experts) WriteExpertMetrics(*service.experts, text);
  return text.Take();
}

}  // namespace fathom
