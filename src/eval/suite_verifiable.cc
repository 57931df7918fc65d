// The held-out split of fathom's own verifiable problems (tasks/problem.h): zero-shot, the final answer must be right.
#include <memory>

#include "eval/suite.h"
#include "tasks/problem.h"

namespace fathom {
namespace {
constexpr int64_t kDefaultProblems = 500;
constexpr int32_t kMostTokens = 512;  // the longest thinking traces have about 400 bytes
}  // namespace

Result<LoadedSuite> LoadVerifiable(const SuiteContext& context) {
  FATHOM_TRY(TaskGenerator generator, TaskGenerator::Create(context.seed, Split::kHeldOut));
  LoadedSuite loaded;
  loaded.prompt = "the question alone";
  for (const TaskFamily& family : TaskFamilies()) {
    loaded.families.push_back({.name = std::string(family.name), .chance = ChanceLevel(family.name)});
  }
  const int64_t count = context.n > 0 ? context.n : kDefaultProblems;
  loaded.items.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const auto problem = std::make_shared<const Problem>(generator.Next());
    EvalItem item;
    item.id = fmt::format("{}/{}/{}", problem->family, problem->kind, i);
    item.family = problem->family;
    item.prompt = context.chat ? problem->question : problem->question + "\n";
    item.gold = problem->answer;
    item.max_tokens = kMostTokens;
    item.score = [problem](std::string_view output) {
      return ItemScore{
          .value = AnswerMatches(*problem, output) ? 1.0 : 0.0, .extra = {}, .parsed = std::string(output)};
    };
    loaded.items.push_back(std::move(item));
  }
  return loaded;
}

}  // namespace fathom
