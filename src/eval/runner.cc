#include "eval/runner.h"

#include <algorithm>
#include <chrono>
#include <numeric>

namespace fathom {
namespace {

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the same numbers on every machine, unlike std::shuffle.
class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

Estimate FamilyScore(const FamilyInfo& info, const std::vector<const Sample*>& samples) {
  if (info.metric != Metric::kBalancedAccuracy) {
    double sum = 0;
    for (const Sample* sample : samples) sum += sample->score.value;
    return WilsonInterval(sum, static_cast<int64_t>(samples.size()));
  }
  std::map<std::string_view, std::pair<double, int64_t>> classes;
  for (const Sample* sample : samples) {
    auto& [sum, n] = classes[sample->item->gold];
    sum += sample->score.value;
    ++n;
  }
  std::vector<Estimate> recalls;
  for (const auto& [name, tally] : classes) recalls.push_back(WilsonInterval(tally.first, tally.second));
  return MeanOfEstimates(recalls);
}

std::optional<double> MeanExtra(const std::vector<const Sample*>& samples) {
  double sum = 0;
  int64_t n = 0;
  for (const Sample* sample : samples) {
    if (!sample->score.extra) continue;
    sum += *sample->score.extra;
    ++n;
  }
  if (n == 0) return std::nullopt;
  return sum / static_cast<double>(n);
}

/// What guessing gets in a family: given, or counted over all items that the suite has.
std::optional<double> Chance(const LoadedSuite& loaded, const FamilyInfo& info) {
  if (info.chance || !info.count_chance || info.metric == Metric::kMean) return info.chance;
  std::vector<const EvalItem*> items;
  std::map<std::string_view, int> classes;
  for (const EvalItem& item : loaded.items) {
    if (item.family != info.name) continue;
    items.push_back(&item);
    classes[item.gold] = 1;
  }
  if (items.empty()) return std::nullopt;
  if (info.metric == Metric::kBalancedAccuracy) return 1.0 / static_cast<double>(classes.size());
  return CommonestShare(items);
}

}  // namespace

std::vector<size_t> SampleIndices(size_t total, size_t count, uint64_t seed) {
  std::vector<size_t> all(total);
  std::iota(all.begin(), all.end(), size_t{0});
  if (count == 0 || count >= total) return all;
  SplitMix random(seed);
  for (size_t i = 0; i < count; ++i) {
    // The modulo's bias is below 2^-40 for any set of items.
    std::swap(all[i], all[i + static_cast<size_t>(random.Next() % (total - i))]);
  }
  all.resize(count);
  std::sort(all.begin(), all.end());
  return all;
}

Result<std::vector<TokenId>> EncodeItem(const Engine& engine, const EvalItem& item, const EvalOptions& options) {
  if (engine.tokenizer() == nullptr) {
    return Fail(ErrorCode::kUnsupported, "this model's tokenizer cannot be used: {}", engine.tokenizer_error());
  }
  if (options.format == ChatFormat::kPlain) return EncodePrompt(*engine.tokenizer(), item.prompt);
  ChatOptions chat;
  chat.thinking = options.thinking;
  chat.default_system = engine.default_system();
  return EncodeChat(options.format, *engine.tokenizer(), {{Role::kUser, item.prompt, {}}}, chat);
}

void Summarize(SuiteResult& result) {
  std::map<std::string_view, std::vector<const Sample*>> by_family;
  std::vector<const Sample*> all;
  result.errors = result.cut_off = 0;
  for (const Sample& sample : result.samples) {
    by_family[sample.item->family].push_back(&sample);
    all.push_back(&sample);
    result.errors += !sample.error.empty();
    result.cut_off += sample.error.empty() &&
                      (sample.finish_reason == FinishReason::kLength || sample.finish_reason == FinishReason::kContext);
  }
  result.families.clear();
  std::vector<Estimate> scores;
  double chance_sum = 0, chance_weight = 0, weight_all = 0;
  for (const FamilyInfo& info : result.loaded.families) {
    const auto& samples = by_family[info.name];
    FamilyResult family{.info = info, .score = {}, .extra = {}, .chance = {}};
    family.score = FamilyScore(info, samples);
    family.extra = MeanExtra(samples);
    family.chance = Chance(result.loaded, info);
    scores.push_back(family.score);
    const double weight = samples.empty()                  ? 0
                          : result.suite->mean_of_families ? 1
                                                           : static_cast<double>(samples.size());
    weight_all += weight;
    if (family.chance) chance_sum += weight * *family.chance, chance_weight += weight;
    result.families.push_back(std::move(family));
  }
  if (result.suite->mean_of_families) {
    result.score = MeanOfEstimates(scores);
  } else {
    double sum = 0;
    for (const Sample* sample : all) sum += sample->score.value;
    result.score = WilsonInterval(sum, static_cast<int64_t>(all.size()));
  }
  result.extra = MeanExtra(all);
  result.chance.reset();  // of the whole only where every family has one
  if (weight_all > 0 && chance_weight == weight_all) result.chance = chance_sum / weight_all;
}

Result<SuiteResult> RunSuite(Engine& engine, const Suite& suite, const EvalOptions& options, const SampleFn& on_sample,
                             const EvalProgressFn& progress) {
  const auto start = std::chrono::steady_clock::now();
  SuiteResult result;
  result.suite = &suite;
  FATHOM_TRY(result.loaded, suite.load(options.context));
  const auto chosen = SampleIndices(result.loaded.items.size(),
                                    static_cast<size_t>(std::max<int64_t>(0, options.context.n)), options.context.seed);
  result.asked = static_cast<int64_t>(chosen.size());

  std::vector<BatchRequest> requests(chosen.size());
  for (size_t i = 0; i < chosen.size(); ++i) {
    const EvalItem& item = result.loaded.items[chosen[i]];
    FATHOM_TRY(requests[i].prompt, EncodeItem(engine, item, options));
    GenerationParams& params = requests[i].params;
    params.sampling.temperature = 0;
    ChatOptions chat;
    chat.thinking = options.thinking;
    params.starts_in_thinking = PromptEndsInThinking(options.format, chat);
    params.max_tokens = options.max_tokens > 0
                            ? options.max_tokens
                            : item.max_tokens + (params.starts_in_thinking ? item.thinking_tokens : 0);
    if (options.format == ChatFormat::kPlain) params.stop = item.stop;
  }

  std::vector<Sample> samples(chosen.size());
  std::vector<bool> finished(chosen.size());
  Status written;
  double sum = 0, count = 0;
  FATHOM_TRY(const auto batch, engine.NewBatchGenerator(options.batch));
  const Status status = batch->Run(
      requests,
      [&](size_t index, Result<GenerationResult> answer) {
        Sample& sample = samples[index];
        sample.item = &result.loaded.items[chosen[index]];
        sample.prompt = engine.tokenizer()->Decode(requests[index].prompt, true);
        sample.prompt_tokens = static_cast<int64_t>(requests[index].prompt.size());
        if (answer) {
          sample.output = std::move(answer->content);
          sample.reasoning = std::move(answer->reasoning);
          sample.finish_reason = answer->finish_reason;
          sample.generated_tokens = answer->timings.generated_tokens;
          sample.score = sample.item->score(sample.output);
        } else {
          sample.error = answer.error().message;
        }
        finished[index] = true;
        sum += sample.score.value;
        count += 1;
        if (on_sample && written) written = on_sample(sample);
      },
      [&](const BatchProgress& done) {
        result.work = done;
        return written.has_value() && (!progress || progress(done, count > 0 ? sum / count : 0));
      });
  FATHOM_CHECK_OK(written);
  if (!status) {
    if (status.error().code != ErrorCode::kCancelled) return std::unexpected(status.error());
    result.partial = true;
  }
  for (size_t i = 0; i < samples.size(); ++i) {
    if (finished[i]) result.samples.push_back(std::move(samples[i]));
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  Summarize(result);
  return result;
}

}  // namespace fathom
