// fathom cache simulate: what a cache of a given size and policy would have hit on a trace of requests.
#include <nlohmann/json.hpp>

#include "cache/simulator.h"
#include "cli/byte_size.h"
#include "cli/cmd_cache.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/simulation_report.h"
#include "cli/terminal.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

struct SimulateOptions {
  std::vector<std::string> traces, memory = {"10GiB"};
  std::string disk = "0", daily_writes = "0", policy = "all";
  int64_t bytes_per_token = 70272, block_tokens = 512;
  double prefill_rate = 100, prefill_rate_32k = 75;
  bool json = false;
};

constexpr int64_t kMostBytesPerToken = int64_t{1} << 30, kMostBlockTokens = 1 << 20;
constexpr std::string_view kBlocks = "blocks";

/// A size in bytes, or "1000blocks".
Result<int64_t> ParseRoom(const std::string& text, std::string_view what, int64_t block_bytes) {
  if (!text.ends_with(kBlocks)) return ParseByteSize(what, text);
  FATHOM_TRY(const int64_t blocks, ParseByteSize(what, std::string_view(text).substr(0, text.size() - kBlocks.size())));
  int64_t bytes = 0;
  if (__builtin_mul_overflow(blocks, block_bytes, &bytes))
    return Fail(ErrorCode::kInvalidArgument, "{}: '{}' is too large", what, text);
  return bytes;
}

double Share(double part, double whole) { return whole > 0 ? part / whole : 0; }
double Share(int64_t part, int64_t whole) { return Share(static_cast<double>(part), static_cast<double>(whole)); }

struct Run {
  SimulatorOptions options;
  SimulatorReport report;
  int64_t bound_tokens = 0;
  double seconds = 0;  // that the simulation took
};

ordered_json ToJson(const Run& run) {
  const SimulatorReport& r = run.report;
  return {{"policy", EvictionKindName(run.options.policy)},
          {"memory_bytes", run.options.memory_bytes},
          {"disk_bytes", run.options.disk_bytes},
          {"daily_write_bytes", run.options.daily_write_bytes},
          {"hit_tokens", r.hit_tokens()},
          {"memory_hit_tokens", r.memory_hit_tokens},
          {"disk_hit_tokens", r.disk_hit_tokens},
          {"hit_ratio", Share(r.hit_tokens(), r.tokens)},
          {"of_ceiling", Share(r.hit_tokens(), r.ceiling_tokens)},
          {"belady_hit_tokens", run.bound_tokens},
          {"of_belady", Share(r.hit_tokens(), run.bound_tokens)},
          {"hit_requests", r.hit_requests},
          {"request_hit_ratio", Share(r.hit_requests, r.requests)},
          {"saved_time_ratio", Share(r.saved_seconds, r.compute_seconds)},
          {"saved_seconds", r.saved_seconds},
          {"evicted_memory_blocks", r.evicted_memory},
          {"evicted_disk_blocks", r.evicted_disk},
          {"disk_written_bytes", r.disk_written_bytes},
          {"not_admitted", r.not_admitted},
          {"peak_memory_bytes", r.peak_memory_bytes},
          {"peak_disk_bytes", r.peak_disk_bytes},
          {"seconds", run.seconds}};
}

constexpr SimulationReport::Column kColumns[] = {
    {"memory", 10}, {"disk", 10}, {"policy", 10, true}, {"hit %", 7},  {"of ceil %", 9}, {"of best %", 9},
    {"time %", 7},  {"reqs %", 8}, {"mem %", 7},        {"disk %", 7}, {"written", 10}};

std::vector<std::string> Cells(const Run& run) {
  const SimulatorReport& r = run.report;
  return {HumanBytes(run.options.memory_bytes),
          HumanBytes(run.options.disk_bytes),
          std::string(EvictionKindName(run.options.policy)),
          fmt::format("{:.2f}", 100 * Share(r.hit_tokens(), r.tokens)),
          fmt::format("{:.1f}", 100 * Share(r.hit_tokens(), r.ceiling_tokens)),
          fmt::format("{:.1f}", 100 * Share(r.hit_tokens(), run.bound_tokens)),
          fmt::format("{:.2f}", 100 * Share(r.saved_seconds, r.compute_seconds)),
          fmt::format("{:.1f}", 100 * Share(r.hit_requests, r.requests)),
          fmt::format("{:.2f}", 100 * Share(r.memory_hit_tokens, r.tokens)),
          fmt::format("{:.2f}", 100 * Share(r.disk_hit_tokens, r.tokens)),
          HumanBytes(r.disk_written_bytes)};
}

Status RunSimulate(const SimulateOptions& options) {
  if (options.bytes_per_token < 1 || options.bytes_per_token > kMostBytesPerToken)
    return Fail(ErrorCode::kInvalidArgument, "--bytes-per-token: {} is not in [1, 2^30]", options.bytes_per_token);
  if (options.block_tokens < 1 || options.block_tokens > kMostBlockTokens)
    return Fail(ErrorCode::kInvalidArgument, "--block-tokens: {} is not in [1, 2^20]", options.block_tokens);
  if (!(options.prefill_rate > 0) || !(options.prefill_rate_32k > 0) ||
      options.prefill_rate_32k > options.prefill_rate) {
    return Fail(ErrorCode::kInvalidArgument,
                "--prefill-rate and --prefill-rate-32k must be above 0, the second not above the first");
  }
  std::vector<EvictionKind> kinds = {EvictionKind::kSavedTime, EvictionKind::kLru, EvictionKind::kS3Fifo};
  if (options.policy != "all") {
    FATHOM_TRY(const EvictionKind kind, ParseEvictionKind(options.policy));
    kinds = {kind};
  }
  const int64_t block_bytes = options.bytes_per_token * options.block_tokens;
  SimulatorOptions base{.bytes_per_token = options.bytes_per_token};
  FATHOM_TRY(base.disk_bytes, ParseRoom(options.disk, "--disk", block_bytes));
  FATHOM_TRY(base.daily_write_bytes, ParseRoom(options.daily_writes, "--daily-writes", block_bytes));
  base.compute = {.seconds_per_token = 1 / options.prefill_rate,
                  .seconds_per_token_position = (1 / options.prefill_rate_32k - 1 / options.prefill_rate) / 32768};
  std::vector<int64_t> sizes;
  for (const std::string& text : options.memory) {
    FATHOM_TRY(const int64_t bytes, ParseRoom(text, "--memory", block_bytes));
    sizes.push_back(bytes);
  }

  const InterruptScope interrupt;
  SimulationReport report(
      options.json, {{"bytes_per_token", options.bytes_per_token}, {"block_tokens", options.block_tokens}}, kColumns);
  for (const std::string& file : options.traces) {
    FATHOM_TRY(const std::string text, ReadInput(file));
    FATHOM_TRY(const CacheTrace trace, ParseTrace(text, file, options.block_tokens));
    std::vector<Run> runs;
    for (const int64_t bytes : sizes) {
      base.memory_bytes = bytes;
      const int64_t room = bytes > INT64_MAX - base.disk_bytes ? INT64_MAX : bytes + base.disk_bytes;
      const int64_t bound = BeladyHitTokens(trace, room, options.bytes_per_token);
      for (const EvictionKind kind : kinds) {
        Run& run = runs.emplace_back(Run{.options = base, .report = {}, .bound_tokens = bound});
        run.options.policy = kind;
        FATHOM_TRY(run.seconds, TimeRun([&]() -> Status {
                     run.report = Simulate(trace, run.options);
                     return {};
                   }));
      }
    }
    if (runs.empty()) continue;
    const SimulatorReport& first = runs.front().report;
    report.Trace({{"file", SafeUtf8(file)},
                  {"requests", first.requests},
                  {"tokens", first.tokens},
                  {"distinct_blocks", trace.blocks.size()},
                  {"ceiling_tokens", first.ceiling_tokens},
                  {"ceiling_ratio", Share(first.ceiling_tokens, first.tokens)},
                  {"ceiling_saved_time_ratio", Share(first.ceiling_seconds, first.compute_seconds)}},
                 fmt::format("{}: {} requests, {} tokens, {} distinct blocks of {}; a cache without end would hit {:.2f} %\n",
                             OneLine(file, 60), first.requests, HumanCount(first.tokens), trace.blocks.size(),
                             HumanBytes(block_bytes), 100 * Share(first.ceiling_tokens, first.tokens)));
    for (const Run& run : runs) report.Run(ToJson(run), Cells(run));
  }
  report.End();
  return {};
}

}  // namespace

void RegisterCacheSimulate(CLI::App& cache, Action& selected) {
  auto options = std::make_shared<SimulateOptions>();
  CLI::App* command = AddCommand(
      cache, selected, "simulate", "what a cache of some size and policy would have hit on a trace",
      "Examples:\n"
      "  fathom cache simulate --trace trace.jsonl --memory 10GiB --disk 100GiB\n"
      "  fathom cache simulate --trace a.jsonl b.jsonl --memory 1000blocks,3000blocks,10000blocks --json\n"
      "  fathom cache simulate --trace trace.jsonl --disk 1TiB --daily-writes 200GiB --policy saved-time\n"
      "\n"
      "A trace is lines {\"timestamp\": ms, \"input_length\": n, \"output_length\": n, \"hash_ids\": [...]}, a hash\n"
      "for every --block-tokens tokens begun (the format of the Mooncake traces).\n"
      "\n"
      "hit: share of prompt tokens that need not be computed; of ceil: of what a cache without end would hit;\n"
      "of best: of what knowing the future would hit (Belady's MIN) with the same room in both tiers together;\n"
      "time: share of prefill time saved, by the two rates; reqs: requests with a hit; mem, disk: tokens hit in\n"
      "each tier.",
      options, RunSimulate);
  command->add_option("--trace", options->traces, "trace files ('-': standard input)")->required();
  command->add_option("--memory", options->memory, "room in memory; several, comma separated, are all tried")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--disk", options->disk, "room on disk ('0': none)")->capture_default_str();
  command->add_option("--policy", options->policy, "saved-time, lru, s3-fifo, or all")->capture_default_str();
  command->add_option("--daily-writes", options->daily_writes, "bytes a day that may be written to the disk ('0': any)")
      ->capture_default_str();
  command->add_option("--bytes-per-token", options->bytes_per_token, "of keys and values (70272: DeepSeek-V3 in bf16)")
      ->capture_default_str();
  command->add_option("--block-tokens", options->block_tokens, "tokens that a hash of the trace stands for")
      ->capture_default_str();
  command->add_option("--prefill-rate", options->prefill_rate, "prompt tokens computed a second, at an empty context")
      ->capture_default_str();
  command->add_option("--prefill-rate-32k", options->prefill_rate_32k, "and after 32,768 tokens")
      ->capture_default_str();
  command->add_flag("--json", options->json, "all figures as JSON");
}

}  // namespace fathom
