// fathom bench: how fast a model is on this machine. (Not cmd_bench.cc: *_bench.cc are micro-benchmarks to the build.)
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/bandwidth.h"
#include "cli/bench_run.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "cli/weight_traffic.h"
#include "kernels/matmul.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

struct BenchOptions {
  ModelOptions model;
  BenchParams params;
  bool json = false, csv = false, no_bandwidth = false;
};

ordered_json ToJson(const Spread& spread, double scale) {
  if (spread.all.empty()) return nullptr;
  ordered_json object;
  object["median"] = spread.median * scale;
  object["min"] = spread.least * scale;
  object["max"] = spread.most * scale;
  return object;
}

void PrintJson(const Engine& engine, const BenchParams& params, const std::vector<DepthResult>& results) {
  ordered_json report;
  report["model"] = engine.model_file().files().empty() ? std::string() : engine.model_file().files().front();
  report["name"] = engine.config().name;
  report["weights_bytes"] = engine.model_file().tensor_bytes();
  report["threads"] = engine.threads();
  report["isa"] = MatmulIsa();
  report["prompt_tokens"] = params.prompt_tokens;
  report["generated_tokens"] = params.generated_tokens;
  report["repetitions"] = params.repetitions;
  report["results"] = ordered_json::array();
  for (const DepthResult& result : results) {
    ordered_json row;
    row["depth"] = result.depth;
    row["prefill_tokens_per_second"] = ToJson(result.prefill, 1);
    row["decode_tokens_per_second"] = ToJson(result.decode, 1);
    row["bytes_per_decoded_token"] = result.bytes_per_token > 0 ? ordered_json(result.bytes_per_token) : ordered_json();
    row["bandwidth_gb_per_second"] = ToJson(result.bandwidth, 1e-9);
    row["bandwidth_share"] = ToJson(result.bandwidth_share, 1);
    report["results"].push_back(std::move(row));
  }
  std::printf("%s\n", report.dump(-1, ' ', false, ordered_json::error_handler_t::replace).c_str());
}

void PrintCsv(const std::vector<DepthResult>& results, const BenchParams& params) {
  std::printf("depth,prompt_tokens,prefill_median,prefill_min,prefill_max,generated_tokens,decode_median,decode_min,"
              "decode_max,bytes_per_token,bandwidth_gb_s,bandwidth_share\n");
  for (const DepthResult& r : results) {
    std::printf("%lld,%lld,%.3f,%.3f,%.3f,%lld,%.3f,%.3f,%.3f,%.0f,%.2f,%.4f\n", static_cast<long long>(r.depth),
                static_cast<long long>(params.prompt_tokens), r.prefill.median, r.prefill.least, r.prefill.most,
                static_cast<long long>(params.generated_tokens), r.decode.median, r.decode.least, r.decode.most,
                r.bytes_per_token, r.bandwidth.median / 1e9, r.bandwidth_share.median);
  }
}

std::string Cell(const Spread& spread) {
  if (spread.all.empty()) return "-";
  if (spread.all.size() == 1) return fmt::format("{:.1f}", spread.median);
  return fmt::format("{:.1f} ({:.1f}–{:.1f})", spread.median, spread.least, spread.most);
}

void PrintText(const Engine& engine, const BenchParams& params, const std::vector<DepthResult>& results) {
  const MemoryUse memory = engine.memory();
  fmt::print("{}: {} of weights, {} threads, {}\n",
             engine.config().name.empty() ? engine.config().architecture : SafeForTerminal(engine.config().name),
             HumanBytes(engine.model_file().tensor_bytes()), engine.threads(), MatmulIsa());
  fmt::print("memory: {} mapped, {} made at load, {} a token of KV, {} scratch\n\n", HumanBytes(memory.weights_mapped),
             HumanBytes(memory.weights_derived), HumanBytes(memory.kv_bytes_per_token), HumanBytes(memory.scratch));
  fmt::print("{:>7}  {:>24}  {:>22}  {:>12}  {:>10}  {:>6}\n", "depth", fmt::format("prefill {} tok/s", params.prompt_tokens),
             fmt::format("decode {} tok/s", params.generated_tokens), "read/token", "bandwidth", "share");
  for (const DepthResult& r : results) {
    // Width counts code points, so the dash in a range does not shift the columns.
    fmt::print("{:>7}  {:>24}  {:>22}  {:>12}  {:>10}  {:>6}\n", r.depth, Cell(r.prefill), Cell(r.decode),
               r.bytes_per_token > 0 ? HumanBytes(static_cast<int64_t>(r.bytes_per_token)) : "-",
               r.bandwidth.all.empty() ? "-" : fmt::format("{:.1f} GB/s", r.bandwidth.median / 1e9),
               r.bandwidth_share.all.empty() ? "-" : fmt::format("{:.0f}%", 100 * r.bandwidth_share.median));
  }
  fmt::print("\nmedian of {} (least–most); share: bytes read per token x tokens/s / memory bandwidth measured around it\n",
             params.repetitions);
}

Status Run(const BenchOptions& options) {
  ModelOptions model = options.model;
  if (model.context == 0) {
    int64_t deepest = 0;
    for (const int64_t depth : options.params.depths) deepest = std::max(deepest, depth);
    const int64_t needed = deepest + std::max(options.params.prompt_tokens, options.params.generated_tokens) + 1;
    if (needed > (1 << 27)) return Fail(ErrorCode::kInvalidArgument, "-d {}: too deep", deepest);
    model.context = static_cast<int32_t>(std::max<int64_t>(needed, 160));
  }
  FATHOM_TRY(const auto engine, LoadEngine(model));
  BenchParams params = options.params;
  params.bytes_per_token = static_cast<double>(CountWeightTraffic(engine->model_file()).per_token());

  BenchHooks hooks;
  std::optional<BandwidthProbe> probe;
  if (!options.no_bandwidth) {
    if (auto made = BandwidthProbe::Create(engine->pool())) {
      probe.emplace(std::move(*made));
      hooks.bandwidth = [&] { return probe->Measure(); };
    } else if (!model.quiet) {
      std::fprintf(stderr, "fathom: no memory to measure the bandwidth with: %s\n", made.error().message.c_str());
    }
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
  progress.reset();
  if (options.json) {
    PrintJson(*engine, params, results);
  } else if (options.csv) {
    PrintCsv(results, params);
  } else {
    PrintText(*engine, params, results);
  }
  return {};
}

}  // namespace

void RegisterBench(CLI::App& app, Action& selected) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = AddCommand(
      app, selected, "bench", "prefill and decode speed at several context depths",
      "Tokens are random, so the text means nothing but the work is real. The share says how much of this machine's memory\n"
      "bandwidth decoding uses: weights and KV cache read per token, times tokens/s, over the bandwidth measured just\n"
      "before and after.\n"
      "\n"
      "Examples:\n"
      "  fathom bench -m model.gguf\n"
      "  fathom bench -m model.gguf -t 2 -p 512 -n 64 -d 0,4096 --json\n"
      "  fathom synth --config deepseek-v2-lite --type q4_k_m -o lite.gguf && fathom bench -m lite.gguf",
      options, Run);
  AddModelOptions(*command, options->model);
  const auto tokens = CLI::Range(int64_t{0}, int64_t{1} << 27);
  command->add_option("-p,--prompt", options->params.prompt_tokens, "tokens of a prefill run; 0: none")
      ->capture_default_str()
      ->check(tokens);
  command->add_option("-n,--generate", options->params.generated_tokens, "tokens of a decode run; 0: none")
      ->capture_default_str()
      ->check(tokens);
  command->add_option("-d,--depth", options->params.depths, "tokens already in the context, comma separated")
      ->delimiter(',')
      ->check(tokens)
      ->capture_default_str();
  command->add_option("-r,--repetitions", options->params.repetitions, "runs of each; the median is given")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command->add_option("--seed", options->params.seed, "of the random tokens")->capture_default_str();
  auto* json = command->add_flag("--json", options->json, "print one JSON object");
  command->add_flag("--csv", options->csv, "print CSV")->excludes(json);
  command->add_flag("--no-bandwidth", options->no_bandwidth, "do not measure memory bandwidth (saves a second a run)");
}

}  // namespace fathom
