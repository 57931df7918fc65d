#include "cli/eval_biases.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/terminal.h"

namespace fathom {

std::string BiasTable(std::span<const EvalRun> runs) {
  std::string table = fmt::format("{:>6}  {:<11}  {:>18}  {:>10}  {:>10}  {:>14}  {:>10}\n", "bias", "suite", "% right", "change",
                                  "tokens/s", "found resident", "read/token");
  for (const EvalRun& run : runs) {
    int64_t tokens = 0;
    for (const SuiteResult& result : run.results) tokens += result.work.prompt_tokens + result.work.generated_tokens;
    for (size_t i = 0; i < run.results.size(); ++i) {
      const SuiteResult& result = run.results[i];
      const double made = static_cast<double>(result.work.prompt_tokens + result.work.generated_tokens);
      table += fmt::format("{:>6g}  {:<11}  {:>5.1f} ({:>4.1f}-{:>5.1f})  {:>+10.1f}  {:>10.1f}", *run.setting.expert_bias,
                           result.suite->name, 100 * result.score.value, 100 * result.score.low, 100 * result.score.high,
                           100 * (result.score.value - runs.front().results[i].score.value),
                           result.seconds > 0 ? made / result.seconds : 0);
      if (i == 0) {  // of the run, not of a suite
        table += fmt::format("  {:>13.1f}%  {:>10}", 100 * run.setting.expert_hit_ratio,
                             HumanBytes(run.experts->bytes_read / std::max<int64_t>(1, tokens)));
      }
      table += "\n";
    }
  }
  return table + "change: of the percentage, against the first strength; tokens: of prompts and answers\n";
}

}  // namespace fathom
