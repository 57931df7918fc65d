#include "cli/bench_run.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

namespace fathom {
namespace {

class Bench {
 public:
  Bench(Engine& engine, const BenchParams& params, const BenchHooks& hooks)
      : engine_(engine), params_(params), hooks_(hooks), random_(params.seed) {}

  Status Start() {
    FATHOM_TRY(session_, engine_.NewSession());
    // First touches of the mapped file and of buffers are not what is measured.
    const int64_t warm = std::min<int64_t>(std::max<int64_t>(params_.prompt_tokens, 1), 128);
    FATHOM_CHECK_OK(Fill(std::min<int64_t>(warm, session_->context_length() - 1), "warming up"));
    FATHOM_CHECK_OK(session_->Eval(RandomTokens(1)));
    session_->Truncate(0);
    return {};
  }

  Status Measure(DepthResult& result) {
    FATHOM_CHECK_OK(Fill(result.depth, fmt::format("filling to depth {}", result.depth)));
    result.bytes_per_token = params_.bytes_per_token;
    if (params_.bytes_per_token > 0) {
      const double positions = static_cast<double>(result.depth) + static_cast<double>(params_.generated_tokens) / 2;
      result.bytes_per_token += static_cast<double>(engine_.memory().kv_bytes_per_token) * positions;
    }
    std::vector<double> prefill, decode, bandwidth, bandwidth_share, arithmetic, arithmetic_share;
    for (int repetition = 0; repetition < params_.repetitions; ++repetition) {
      if (params_.prompt_tokens > 0) {
        const double before = hooks_.arithmetic ? hooks_.arithmetic() : 0;
        const auto experts = engine_.expert_stats();
        FATHOM_TRY(const double seconds, TimePrefill(fmt::format("prefill at depth {}", result.depth)));
        AddExperts(experts, seconds, params_.prompt_tokens, result.prefill_experts);
        const double after = hooks_.arithmetic ? hooks_.arithmetic() : 0;
        session_->Truncate(result.depth);
        prefill.push_back(static_cast<double>(params_.prompt_tokens) / seconds);
        AddShare(params_.operations_per_token * prefill.back(), before, after, arithmetic, arithmetic_share);
      }
      if (params_.generated_tokens > 0) {
        const auto experts = engine_.expert_stats();
        FATHOM_TRY(const DecodeRun run, TimeDecode(fmt::format("decode at depth {}", result.depth)));
        AddExperts(experts, run.seconds, params_.generated_tokens, result.decode_experts);
        session_->Truncate(result.depth);
        decode.push_back(static_cast<double>(params_.generated_tokens) / run.seconds);
        if (run.bandwidth > 0) {
          bandwidth.push_back(run.bandwidth);
          if (result.bytes_per_token > 0)
            bandwidth_share.push_back(result.bytes_per_token * decode.back() / run.bandwidth);
        }
      }
    }
    if (params_.roofline) FATHOM_CHECK_OK(MeasureRooflines(result));
    result.prefill = SpreadOf(std::move(prefill));
    result.decode = SpreadOf(std::move(decode));
    result.bandwidth = SpreadOf(std::move(bandwidth));
    result.bandwidth_share = SpreadOf(std::move(bandwidth_share));
    result.arithmetic = SpreadOf(std::move(arithmetic));
    result.arithmetic_share = SpreadOf(std::move(arithmetic_share));
    return {};
  }

 private:
  struct DecodeRun {
    double seconds = 0;
    double bandwidth = 0;  // bytes/s of all probes together; 0: not measured
  };

  /// What was reached, of what the machine could do just before and after.
  static void AddShare(double reached, double before, double after, std::vector<double>& ceilings,
                       std::vector<double>& shares) {
    if (before <= 0 || after <= 0) return;
    ceilings.insert(ceilings.end(), {before, after});
    if (reached > 0) shares.push_back(reached / ((before + after) / 2));
  }

  void AddExperts(const std::optional<ExpertStoreStats>& before, double seconds, int64_t tokens, ExpertWork& work) {
    const auto after = engine_.expert_stats();
    if (!before || !after) return;
    work.seconds += seconds;
    work.tokens += tokens;
    work.stall_seconds += after->stall_seconds - before->stall_seconds;
    work.busy_seconds += after->busy_seconds - before->busy_seconds;
    work.bytes_read += after->bytes_read - before->bytes_read;
    work.uses += after->uses - before->uses;
    work.hits += after->hits - before->hits;
  }

  /// Runs of their own: reading the clock between operations is not for the figures above.
  Status MeasureRooflines(DepthResult& result) {
    const auto measure = [&](Roofline& out, auto&& run) -> Status {
      Profile profile;
      const MachineCeilings before = hooks_.ceilings ? hooks_.ceilings() : MachineCeilings();
      engine_.UseProfile(&profile);
      const Result<DecodeRun> done = run();
      engine_.UseProfile(nullptr);
      if (!done) return std::unexpected(done.error());
      MachineCeilings ceilings = Mean(before, hooks_.ceilings ? hooks_.ceilings() : MachineCeilings());
      if (done->bandwidth > 0) ceilings.bandwidth = done->bandwidth;
      out = MakeRoofline(profile, ceilings);
      session_->Truncate(result.depth);
      return {};
    };
    const std::string where = fmt::format("roofline at depth {}", result.depth);
    if (params_.prompt_tokens > 0) {
      FATHOM_CHECK_OK(measure(result.prefill_roofline, [&]() -> Result<DecodeRun> {
        FATHOM_TRY(const double seconds, TimePrefill(where));
        return DecodeRun{.seconds = seconds};
      }));
    }
    if (params_.generated_tokens > 0) FATHOM_CHECK_OK(measure(result.decode_roofline, [&] { return TimeDecode(where); }));
    return {};
  }

  double Now() const {
    if (hooks_.now) return hooks_.now();
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  std::vector<TokenId> RandomTokens(int64_t count) {
    std::uniform_int_distribution<TokenId> any(0, engine_.config().vocab_size - 1);
    std::vector<TokenId> tokens(static_cast<size_t>(count));
    for (TokenId& token : tokens) token = any(random_);
    return tokens;
  }

  Status Progress(const std::string& what, int64_t done, int64_t total) {
    if (hooks_.progress && !hooks_.progress(what, done, total)) return Fail(ErrorCode::kCancelled, "interrupted");
    return {};
  }

  Status Fill(int64_t depth, const std::string& what) {
    const int64_t have = static_cast<int64_t>(session_->tokens().size());
    if (have >= depth) {
      session_->Truncate(depth);
      return {};
    }
    FATHOM_CHECK_OK(Progress(what, 0, depth - have));
    return session_->Eval(RandomTokens(depth - have), [&](int64_t done, int64_t total) {
      return Progress(what, done, total).has_value();
    });
  }

  Result<double> TimePrefill(const std::string& what) {
    const std::vector<TokenId> tokens = RandomTokens(params_.prompt_tokens);
    FATHOM_CHECK_OK(Progress(what, 0, params_.prompt_tokens));
    const double started = Now();
    FATHOM_CHECK_OK(session_->Eval(tokens, [&](int64_t done, int64_t total) {
      return Progress(what, done, total).has_value();
    }));
    return std::max(Now() - started, 1e-9);
  }

  Result<DecodeRun> TimeDecode(const std::string& what) {
    const std::vector<TokenId> tokens = RandomTokens(params_.generated_tokens);
    double elsewhere = 0, inverse = 0;  // seconds in probes; of what they said, 1 / rate
    int probes = 0;
    const auto probe = [&] {
      if (!hooks_.bandwidth) return;
      const double started = Now();
      inverse += 1 / hooks_.bandwidth();
      ++probes;
      elsewhere += Now() - started;
    };
    const double started = Now();
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i % kBandwidthTokens == 0) probe();
      FATHOM_CHECK_OK(session_->Eval(std::span(&tokens[i], 1)));
      FATHOM_CHECK_OK(Progress(what, static_cast<int64_t>(i) + 1, params_.generated_tokens));
    }
    probe();
    return DecodeRun{.seconds = std::max(Now() - started - elsewhere, 1e-9),
                     .bandwidth = probes > 0 ? probes / inverse : 0};
  }

  Engine& engine_;
  const BenchParams& params_;
  const BenchHooks& hooks_;
  std::mt19937_64 random_;
  std::unique_ptr<Session> session_;
};

}  // namespace

Spread SpreadOf(std::vector<double> values) {
  Spread spread;
  spread.all = values;
  if (values.empty()) return spread;
  std::sort(values.begin(), values.end());
  spread.least = values.front();
  spread.most = values.back();
  const size_t middle = values.size() / 2;
  spread.median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return spread;
}

Result<std::vector<DepthResult>> RunBench(Engine& engine, const BenchParams& params, const BenchHooks& hooks) {
  if (params.repetitions < 1)
    return Fail(ErrorCode::kInvalidArgument, "--repetitions {}: at least 1", params.repetitions);
  if (params.prompt_tokens <= 0 && params.generated_tokens <= 0) {
    return Fail(ErrorCode::kInvalidArgument, "nothing to measure: -p and -n are both 0");
  }
  const int64_t most = std::max(params.prompt_tokens, params.generated_tokens);
  for (const int64_t depth : params.depths) {
    if (depth < 0 || depth + most > engine.context_length()) {
      return Fail(ErrorCode::kInvalidArgument, "depth {} and {} tokens more do not fit the context of {}", depth, most,
                  engine.context_length());
    }
  }
  std::vector<DepthResult> results(params.depths.size());
  std::vector<size_t> rising(results.size());
  std::iota(rising.begin(), rising.end(), size_t{0});
  std::stable_sort(rising.begin(), rising.end(),
                   [&](size_t a, size_t b) { return params.depths[a] < params.depths[b]; });
  Bench bench(engine, params, hooks);
  FATHOM_CHECK_OK(bench.Start());
  for (const size_t index : rising) {
    results[index].depth = params.depths[index];
    FATHOM_CHECK_OK(bench.Measure(results[index]));
  }
  return results;
}

}  // namespace fathom
