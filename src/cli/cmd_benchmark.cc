// fathom bench: how fast a model is on this machine. (Not cmd_bench.cc: *_bench.cc are micro-benchmarks to the build.)
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/bench_run.h"
#include "cli/bench_speculation.h"
#include "cli/command.h"
#include "cli/expert_report.h"
#include "cli/interrupt.h"
#include "cli/machine.h"
#include "cli/memory_report.h"
#include "cli/option_checks.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "cli/weight_traffic.h"
#include "kernels/ceilings.h"
#include "kernels/matmul.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

struct BenchOptions {
  ModelOptions model;
  BenchParams params;
  bool json = false, csv = false, no_ceilings = false;
};

ordered_json ToJson(const Spread& spread, double scale) {
  if (spread.all.empty()) return nullptr;
  ordered_json object;
  object["median"] = spread.median * scale;
  object["min"] = spread.least * scale;
  object["max"] = spread.most * scale;
  return object;
}

ordered_json ToJson(const RooflineRow& row) {
  const bool bounded = row.bound[0] != '\0';
  ordered_json object;
  object["operation"] = row.name;
  object["seconds"] = row.seconds;
  object["time_share"] = row.time_share;
  object["bytes"] = row.bytes;
  object["operations"] = row.operations;
  object["ceiling_share"] = row.share > 0 ? ordered_json(row.share) : ordered_json();
  object["bound"] = bounded ? ordered_json(row.bound) : ordered_json();
  return object;
}

ordered_json ToJson(const Roofline& roofline) {
  if (roofline.rows.empty()) return nullptr;
  ordered_json object;
  object["operations"] = ordered_json::array();
  for (const RooflineRow& row : roofline.rows) object["operations"].push_back(ToJson(row));
  object["all"] = ToJson(roofline.total);
  return object;
}

ordered_json ToJson(const ExpertWork& work) {
  if (work.tokens == 0) return nullptr;
  return {{"tokens", work.tokens},           {"seconds", work.seconds},
          {"stall_seconds", work.stall_seconds}, {"busy_seconds", work.busy_seconds},
          {"bytes_read", work.bytes_read},   {"uses", work.uses},
          {"hits", work.hits}};
}

void PrintJson(const Engine& engine, const BenchParams& params, const std::vector<DepthResult>& results,
               const std::vector<SpeculationBenchResult>& speculation) {
  ordered_json report;
  report["model"] = engine.model_file().files().empty() ? std::string() : engine.model_file().files().front();
  report["name"] = engine.config().name;
  report["weights_bytes"] = engine.model_file().tensor_bytes();
  report["threads"] = engine.threads();
  report["isa"] = MatmulIsa();
  report["prompt_tokens"] = params.prompt_tokens;
  report["generated_tokens"] = params.generated_tokens;
  report["repetitions"] = params.repetitions;
  report["operations_per_prefilled_token"] = params.operations_per_token;
  report["results"] = ordered_json::array();
  for (const DepthResult& result : results) {
    ordered_json row;
    row["depth"] = result.depth;
    row["prefill_tokens_per_second"] = ToJson(result.prefill, 1);
    row["decode_tokens_per_second"] = ToJson(result.decode, 1);
    row["bytes_per_decoded_token"] = result.bytes_per_token > 0 ? ordered_json(result.bytes_per_token) : ordered_json();
    row["bandwidth_gb_per_second"] = ToJson(result.bandwidth, 1e-9);
    row["bandwidth_share"] = ToJson(result.bandwidth_share, 1);
    row["arithmetic_gop_per_second"] = ToJson(result.arithmetic, 1e-9);
    row["arithmetic_share"] = ToJson(result.arithmetic_share, 1);
    if (const auto work = ToJson(result.prefill_experts); !work.is_null()) row["prefill_experts"] = work;
    if (const auto work = ToJson(result.decode_experts); !work.is_null()) row["decode_experts"] = work;
    if (params.roofline) {
      row["prefill_roofline"] = ToJson(result.prefill_roofline);
      row["decode_roofline"] = ToJson(result.decode_roofline);
    }
    report["results"].push_back(std::move(row));
  }
  if (const auto promise = MeasurePromise(engine)) {
    report["memory"] = {{"promised_bytes", promise->promised},
                        {"peak_resident_bytes", promise->peak},
                        {"page_cache_bytes", promise->page_cache},
                        {"page_cache_promised", !promise->page_cache_outside},
                        {"promise_kept", promise->kept()},
                        {"read_bytes_per_second", engine.read_rate()}};
  }
  if (const auto experts = engine.expert_stats()) report["experts"] = ExpertJson(*experts);
  for (const SpeculationBenchResult& result : speculation) {
    report["speculation"].push_back({{"what", result.what},
                                     {"plain_tokens_per_second", ToJson(result.plain, 1)},
                                     {"guessing_tokens_per_second", ToJson(result.guessing, 1)},
                                     {"ratio", ToJson(result.ratio, 1)},
                                     {"draft_tokens", result.drafted},
                                     {"draft_accepted_tokens", result.accepted}});
  }
  std::printf("%s\n", report.dump(-1, ' ', false, ordered_json::error_handler_t::replace).c_str());
}

void PrintCsv(const std::vector<DepthResult>& results, const BenchParams& params) {
  std::printf("depth,prompt_tokens,prefill_median,prefill_min,prefill_max,generated_tokens,decode_median,decode_min,"
              "decode_max,bytes_per_token,bandwidth_gb_s,bandwidth_share,"
              "arithmetic_gop_s,arithmetic_share\n");
  for (const DepthResult& r : results) {
    std::printf("%lld,%lld,%.3f,%.3f,%.3f,%lld,%.3f,%.3f,%.3f,%.0f,%.2f,%.4f,%.1f,%.4f\n",
                static_cast<long long>(r.depth), static_cast<long long>(params.prompt_tokens), r.prefill.median,
                r.prefill.least, r.prefill.most, static_cast<long long>(params.generated_tokens), r.decode.median,
                r.decode.least, r.decode.most, r.bytes_per_token, r.bandwidth.median / 1e9, r.bandwidth_share.median,
                r.arithmetic.median / 1e9, r.arithmetic_share.median);
  }
}

std::string Cell(const Spread& spread) {
  if (spread.all.empty()) return "-";
  if (spread.all.size() == 1) return fmt::format("{:.1f}", spread.median);
  return fmt::format("{:.1f} ({:.1f}–{:.1f})", spread.median, spread.least, spread.most);
}

void PrintRoofline(const char* what, int64_t depth, int64_t tokens, const Roofline& roofline) {
  if (roofline.rows.empty()) return;
  fmt::print("\n{} of {} tokens at depth {}\n", what, tokens, depth);
  fmt::print("{:<24}  {:>9}  {:>6}  {:>8}  {:>8}  {:>8}  {}\n", "operation", "ms/token", "time", "GB/s", "Gop/s", "ceiling",
             "of");
  const auto rate = [](double amount, double seconds) {
    return amount > 0 && seconds > 0 ? fmt::format("{:.1f}", amount / seconds / 1e9) : std::string("-");
  };
  const auto print = [&](const RooflineRow& row) {
    fmt::print("{:<24}  {:>9.4f}  {:>5.1f}%  {:>8}  {:>8}  {:>8}  {}\n", row.name,
               row.seconds * 1e3 / static_cast<double>(tokens), 100 * row.time_share, rate(row.bytes, row.seconds),
               rate(row.operations, row.seconds), row.share > 0 ? fmt::format("{:.0f}%", 100 * row.share) : "-", row.bound);
  };
  for (const RooflineRow& row : roofline.rows) print(row);
  print(roofline.total);
}

void PrintExpertWork(const char* what, int64_t depth, const ExpertWork& work) {
  if (work.tokens == 0 || !(work.seconds > 0)) return;
  fmt::print("{} at depth {}: {} read a token; the disk was busy {:.0f} % of the time, computing {:.0f} %\n", what, depth,
             HumanBytes(work.bytes_read / work.tokens), 100 * std::min(1.0, work.busy_seconds / work.seconds),
             100 * std::max(0.0, 1 - work.stall_seconds / work.seconds));
}

void PrintSpeculation(const std::vector<SpeculationBenchResult>& results) {
  if (results.empty()) return;
  fmt::print("\n{:>10}  {:>22}  {:>22}  {:>18}  {:>14}\n", "guessing", "without tok/s", "with tok/s", "ratio", "right");
  for (const SpeculationBenchResult& r : results) {
    fmt::print("{:>10}  {:>22}  {:>22}  {:>18}  {:>14}\n", r.what, Cell(r.plain), Cell(r.guessing),
               fmt::format("{:.2f} ({:.2f}–{:.2f})", r.ratio.median, r.ratio.least, r.ratio.most),
               fmt::format("{} of {}", r.accepted, r.drafted));
  }
}

void PrintText(const Engine& engine, const BenchParams& params, const std::vector<DepthResult>& results) {
  const MemoryUse memory = engine.memory();
  fmt::print("{}: {} of weights, {} threads, {}\n",
             engine.config().name.empty() ? engine.config().architecture : SafeForTerminal(engine.config().name),
             HumanBytes(engine.model_file().tensor_bytes()), engine.threads(), MatmulIsa());
  const bool mapped = memory.weights_mapped > 0;
  fmt::print("memory: {} {}, {} made at load, {} a token of KV, {} scratch\n\n",
             HumanBytes(mapped ? memory.weights_mapped : memory.weights_resident + memory.expert_slots),
             mapped ? "mapped" : "of weights read", HumanBytes(memory.weights_derived), HumanBytes(memory.kv_bytes_per_token),
             HumanBytes(memory.scratch));
  // Widths count code points, so the dash in a range does not shift the columns.
  fmt::print("{:>7}  {:>22}  {:>6}  {:>22}  {:>6}  {:>10}  {:>10}\n", "depth",
             fmt::format("prefill {} tok/s", params.prompt_tokens), "share",
             fmt::format("decode {} tok/s", params.generated_tokens), "share", "read/token", "bandwidth");
  const auto percent = [](const Spread& share) {
    return share.all.empty() ? std::string("-") : fmt::format("{:.0f}%", 100 * share.median);
  };
  for (const DepthResult& r : results) {
    fmt::print("{:>7}  {:>22}  {:>6}  {:>22}  {:>6}  {:>10}  {:>10}\n", r.depth, Cell(r.prefill),
               percent(r.arithmetic_share), Cell(r.decode), percent(r.bandwidth_share),
               r.bytes_per_token > 0 ? HumanBytes(static_cast<int64_t>(r.bytes_per_token)) : "-",
               r.bandwidth.all.empty() ? "-" : fmt::format("{:.1f} GB/s", r.bandwidth.median / 1e9));
  }
  fmt::print(
      "\nmedian of {} (least–most). Share: of what the machine could do just then; prefill of the arithmetic peak\n"
      "(products with weights only), decode of the memory bandwidth (weights and KV cache read), measured between tokens.\n",
      params.repetitions);
  if (const auto promise = MeasurePromise(engine)) fmt::print("\n{}\n", PromiseLine(*promise));
  for (const DepthResult& r : results) {
    PrintRoofline("prefill", r.depth, params.prompt_tokens, r.prefill_roofline);
    PrintRoofline("decode", r.depth, params.generated_tokens, r.decode_roofline);
  }
  if (const auto experts = engine.expert_stats(); experts && experts->uses > 0) {
    fmt::print("\n");
    for (const DepthResult& r : results) {
      PrintExpertWork("prefill", r.depth, r.prefill_experts);
      PrintExpertWork("decode", r.depth, r.decode_experts);
    }
    fmt::print("{}\n", ExpertReport(*experts));
  }
}

/// Products with weights for one token of a prefill; the head is only applied to the last one.
double OperationsPerToken(const ModelConfig& config) {
  const int64_t head = int64_t{config.vocab_size} * config.hidden_size;
  return 2.0 * static_cast<double>(std::max<int64_t>(CountParameters(config).active - head, 0));
}

/// True when most of the weights are multiplied as int8.
bool MostlyInt8(const ModelFile& model) {
  int64_t quantized = 0;
  for (const TensorInfo& tensor : model.tensors())
    quantized += NeedsQuantizedActivations(tensor.dtype) ? tensor.bytes : 0;
  return quantized > model.tensor_bytes() / 2;
}

Status Run(const BenchOptions& options) {
  ModelOptions model = options.model;
  if (model.context == 0) {
    int64_t deepest = 0;
    for (const int64_t depth : options.params.depths) deepest = std::max(deepest, depth);
    const int64_t needed = deepest + std::max(options.params.prompt_tokens, options.params.generated_tokens) + 1 +
                           (model.speculate != "off" ? options.params.prompt_tokens + options.params.generated_tokens + 8 : 0);
    if (needed > (1 << 27)) return Fail(ErrorCode::kInvalidArgument, "-d {}: too deep", deepest);
    model.context = static_cast<int32_t>(std::max<int64_t>(needed, 160));
  }
  FATHOM_TRY(const auto engine, LoadEngine(model));
  BenchParams params = options.params;
  params.bytes_per_token = static_cast<double>(CountWeightTraffic(engine->model_file()).per_token());

  BenchHooks hooks;
  std::shared_ptr<ReadBandwidthProbe> probe;
  params.operations_per_token = OperationsPerToken(engine->config());
  // Measuring them takes memory that a promise has no place for.
  if (!options.no_ceilings && !engine->memory_plan()) {
    const int64_t probe_bytes = std::min<int64_t>(int64_t{1} << 30, ExamineMachine().memory_available / 4);
    if (auto created = ReadBandwidthProbe::Create(engine->pool(), probe_bytes)) {
      probe = std::make_shared<ReadBandwidthProbe>(std::move(*created));
      hooks.bandwidth = [probe] { return probe->Slice(); };
    } else {
      std::fprintf(stderr, "warning: memory bandwidth is not measured, and decode's share of it is left out: %s\n",
                   created.error().message.c_str());
    }
    const bool int8 = MostlyInt8(engine->model_file());
    hooks.arithmetic = [&engine, int8] {
      return int8 ? MeasureInt8Peak(engine->pool()) : MeasureF32Peak(engine->pool());
    };
    hooks.ceilings = [&engine, probe] {
      return MachineCeilings{probe ? probe->Whole() : 0, MeasureInt8Peak(engine->pool()), MeasureBf16Peak(engine->pool()),
                             MeasureF32Peak(engine->pool())};
    };
  }
  Progress::Options progress_options;
  progress_options.quiet = model.quiet;
  std::optional<Progress> progress;
  std::string doing;
  hooks.progress = [&](const std::string& what, int64_t done, int64_t total) {
    if (what != doing) {  // each step has its own time left
      progress.reset();
      progress.emplace(what, progress_options);
      doing = what;
    }
    progress->Update(done, total, "tokens");
    return !Interrupted();
  };
  InterruptScope interrupt;
  FATHOM_TRY(const std::vector<DepthResult> results, RunBench(*engine, params, hooks));
  std::vector<SpeculationBenchResult> speculation;
  if (model.speculate != "off") {
    FATHOM_TRY(speculation, RunSpeculationBench(*engine,
                                                {.prompt_tokens = std::max<int64_t>(8, params.prompt_tokens),
                                                 .generated_tokens = std::max<int64_t>(8, params.generated_tokens),
                                                 .repetitions = params.repetitions,
                                                 .seed = params.seed},
                                                hooks));
  }
  progress.reset();
  if (options.json) {
    PrintJson(*engine, params, results, speculation);
  } else if (options.csv) {
    PrintCsv(results, params);
  } else {
    PrintText(*engine, params, results);
    PrintSpeculation(speculation);
  }
  return {};
}

}  // namespace

void RegisterBench(CLI::App& app, Action& selected) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command =
      AddCommand(app, selected, "bench", "prefill and decode speed at several context depths",
                 "Tokens are random, so the text means nothing but the work is real. Shares say how near each run came "
                 "to what this\n"
                 "machine could do just then: prefill to the arithmetic peak of the kernels' dot products, measured "
                 "before and after,\n"
                 "decode to the memory bandwidth (weights and KV cache read per token), measured every few tokens.\n"
                 "\n"
                 "Examples:\n"
                 "  fathom bench -m model.gguf\n"
                 "  fathom bench -m model.gguf -t 2 -p 512 -n 64 -d 0,4096 --json\n"
                 "  fathom bench -m model.gguf -d 4096 --roofline\n"
                 "  fathom synth --config deepseek-v2-lite --type q4_k_m -o lite.gguf && fathom bench -m lite.gguf",
                 options, Run);
  AddModelOptions(*command, options->model);
  AddSpeculationOption(*command, options->model);
  const auto tokens = WholeNumber(int64_t{0}, int64_t{1} << 27);
  command->add_option("-p,--prompt", options->params.prompt_tokens, "tokens of a prefill run; 0: none")
      ->capture_default_str()
      ->check(tokens);
  command->add_option("-n,--generate", options->params.generated_tokens, "tokens of a decode run; 0: none")
      ->capture_default_str()
      ->check(tokens);
  command->add_option("-d,--depth", options->params.depths, "tokens already in the context, comma separated")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(tokens)
      ->capture_default_str();
  command->add_option("-r,--repetitions", options->params.repetitions, "runs of each; the median is given")
      ->capture_default_str()
      ->check(WholeNumber(1, 1000));
  command->add_flag("--roofline", options->params.roofline,
                    "one more run of each, with the time, bytes, operations and share of the ceiling of each kind of "
                    "operation");
  AddSeed(*command, "--seed", options->params.seed, "of the random tokens");
  auto* json = command->add_flag("--json", options->json, "print one JSON object");
  command->add_flag("--csv", options->csv, "print CSV")->excludes(json);
  command->add_flag("--no-ceilings", options->no_ceilings,
                    "do not measure memory bandwidth and arithmetic peak around each run (saves seconds; so does --memory, "
                    "which has no room for it)");
}

}  // namespace fathom
