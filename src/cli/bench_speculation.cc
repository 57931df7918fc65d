#include "cli/bench_speculation.h"

#include <algorithm>
#include <random>

namespace fathom {
namespace {

std::vector<TokenId> RandomTokens(int64_t count, int32_t vocab, std::mt19937_64& random) {
  std::uniform_int_distribution<TokenId> any(0, vocab - 1);
  std::vector<TokenId> tokens(static_cast<size_t>(count));
  for (TokenId& token : tokens) token = any(random);
  return tokens;
}

}  // namespace

Result<std::vector<SpeculationBenchResult>> RunSpeculationBench(Engine& engine, const SpeculationBenchParams& params,
                                                                const BenchHooks& hooks) {
  if (params.prompt_tokens < 8 || params.generated_tokens < 8 || params.edit_every < 1 || params.repetitions < 1) {
    return Fail(ErrorCode::kInvalidArgument, "guessing is measured on prompts and answers of at least 8 tokens");
  }
  if (params.prompt_tokens + params.generated_tokens >= engine.context_length()) {
    return Fail(ErrorCode::kInvalidArgument, "a prompt of {} tokens and an answer of {} do not fit the context of {}",
                params.prompt_tokens, params.generated_tokens, engine.context_length());
  }
  const int32_t vocab = engine.config().vocab_size;
  std::mt19937_64 random(params.seed);
  std::vector<SpeculationBenchResult> results;
  for (const bool edit : {true, false}) {
    SpeculationBenchResult result{.what = edit ? "edit" : "new text"};
    std::vector<double> plain, guessing, ratio;
    FATHOM_TRY(const auto session, engine.NewSession());
    for (int repetition = 0; repetition < params.repetitions; ++repetition) {
      const std::vector<TokenId> prompt = RandomTokens(params.prompt_tokens, vocab, random);
      std::vector<TokenId> answer = RandomTokens(params.generated_tokens, vocab, random);
      if (edit) {
        for (int64_t i = 0; i < params.generated_tokens; ++i) {
          if ((i + 1) % params.edit_every != 0) answer[static_cast<size_t>(i)] = prompt[static_cast<size_t>((i + 4) % params.prompt_tokens)];
        }
      }
      double rates[2] = {};
      // In turns, and the other way round each time.
      for (const bool guess : {repetition % 2 == 0, repetition % 2 != 0}) {
        session->Truncate(0);
        GenerationParams generation;
        generation.sampling.temperature = 0;
        generation.max_tokens = static_cast<int32_t>(params.generated_tokens);
        generation.ignore_eos = true;
        generation.speculate = guess;
        generation.replay = answer;
        std::vector<TokenId> asked = prompt;
        if (edit) asked.insert(asked.end(), prompt.begin(), prompt.begin() + 4);
        bool stop = false;
        FATHOM_TRY(const GenerationResult run, session->Generate(asked, generation, [&](const Emission&) {
          stop = hooks.progress && !hooks.progress(result.what, repetition, params.repetitions);
          return !stop;
        }));
        if (stop) return Fail(ErrorCode::kCancelled, "interrupted");
        rates[guess ? 1 : 0] = run.timings.decode_rate();
        result.drafted += run.timings.draft_tokens;
        result.accepted += run.timings.draft_accepted;
      }
      plain.push_back(rates[0]);
      guessing.push_back(rates[1]);
      ratio.push_back(rates[1] / rates[0]);
    }
    result.plain = SpreadOf(std::move(plain));
    result.guessing = SpreadOf(std::move(guessing));
    result.ratio = SpreadOf(std::move(ratio));
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace fathom
