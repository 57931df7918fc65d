// fathom tasks: prints problems that can be checked, with worked solutions.
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/option_checks.h"
#include "cli/progress.h"
#include "tasks/problem.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

struct TasksOptions {
  int64_t count = 10;
  uint64_t seed = 1;
  std::string split = "train";
  std::vector<std::string> families;
  bool list = false, stats = false, jsonl = false, text = false;
};

/// What --stats says of one family or kind.
struct Totals {
  int64_t problems = 0, question = 0, thinking = 0, answer = 0, longest = 0;
  std::string example;

  void Count(const Problem& problem) {
    ++problems;
    question += static_cast<int64_t>(problem.question.size());
    thinking += static_cast<int64_t>(problem.thinking.size());
    answer += static_cast<int64_t>(problem.answer.size());
    longest = std::max(longest, static_cast<int64_t>(problem.thinking.size()));
  }
};

void PrintTotals(std::string_view name, const Totals& totals, std::string_view chance) {
  const double n = static_cast<double>(std::max<int64_t>(totals.problems, 1));
  std::printf("%-32s %9lld %9.1f %9.1f %9.1f %9lld %9s\n", std::string(name).c_str(),
              static_cast<long long>(totals.problems), static_cast<double>(totals.question) / n,
              static_cast<double>(totals.thinking) / n, static_cast<double>(totals.answer) / n,
              static_cast<long long>(totals.longest), std::string(chance).c_str());
}

Status PrintStats(TaskGenerator& generator, const TasksOptions& options) {
  std::map<std::string, Totals> families, kinds;
  {
    Progress progress("problems");
    for (int64_t i = 0; i < options.count; ++i) {
      if (i % 1000 == 0) {
        if (Interrupted()) return Fail(ErrorCode::kCancelled, "stopped after {} problems", i);
        progress.Update(i, options.count);
      }
      const Problem problem = generator.Next();
      families[problem.family].Count(problem);
      kinds[problem.family + "." + problem.kind].Count(problem);
    }
  }
  std::printf("%-32s %9s %9s %9s %9s %9s %9s\n", "mean lengths in bytes", "problems", "question", "thinking", "answer",
              "longest", "chance");
  for (const TaskFamily& family : TaskFamilies()) {
    const std::string name(family.name);
    if (!families.contains(name)) continue;
    PrintTotals(name, families[name], fmt::format("{:.1f} %", 100 * ChanceLevel(name)));
    for (const auto& [kind, totals] : kinds) {
      if (kind.starts_with(name + ".")) PrintTotals("  " + kind.substr(name.size() + 1), totals, "");
    }
  }
  return {};
}

Status RunTasks(const TasksOptions& options) {
  if (options.list) {
    for (const TaskFamily& family : TaskFamilies()) {
      std::printf("%-12s  %s\n", std::string(family.name).c_str(), std::string(family.about).c_str());
    }
    return {};
  }
  if (options.count < 0) return Fail(ErrorCode::kInvalidArgument, "--n: {} is below 0", options.count);
  const Split split = options.split == "held-out" ? Split::kHeldOut : Split::kTrain;
  FATHOM_TRY(TaskGenerator generator, TaskGenerator::Create(options.seed, split, options.families));
  const InterruptScope interrupt;
  if (options.stats) return PrintStats(generator, options);
  for (int64_t i = 0; i < options.count; ++i) {
    if (Interrupted()) return Fail(ErrorCode::kCancelled, "stopped after {} problems", i);
    const Problem problem = generator.Next();
    if (options.jsonl) {
      const ordered_json line = {{"family", problem.family},
                                 {"kind", problem.kind},
                                 {"question", problem.question},
                                 {"thinking", problem.thinking},
                                 {"answer", problem.answer}};
      std::printf("%s\n", line.dump().c_str());
    } else {
      std::printf("%s[%s.%s]\n%s\n\n%s\n\n= %s\n", i > 0 ? "\n" : "", problem.family.c_str(), problem.kind.c_str(),
                  problem.question.c_str(), problem.thinking.c_str(), problem.answer.c_str());
    }
    if (std::ferror(stdout) != 0) break;  // reported at the end of the program
  }
  return {};
}

}  // namespace

void RegisterTasks(CLI::App& app, Action& selected) {
  auto options = std::make_shared<TasksOptions>();
  CLI::App* command = AddCommand(app, selected, "tasks", "problems that can be checked, with worked solutions",
                                 "Examples:\n"
                                 "  fathom tasks                                  ten problems of the training split\n"
                                 "  fathom tasks --family dates logic --n 3\n"
                                 "  fathom tasks --split held-out --seed 7 --n 500 --jsonl > problems.jsonl\n"
                                 "  fathom tasks --stats --n 20000                lengths and chance levels per family",
                                 options, RunTasks);
  command->add_option("-n,--n", options->count, "how many problems")->capture_default_str();
  AddSeed(*command, "--seed", options->seed, "another seed, other problems");
  command->add_option("--split", options->split, "train or held-out; the two never share a question")
      ->check(CLI::IsMember({"train", "held-out"}))
      ->capture_default_str();
  command->add_option("--family", options->families, "only these families ('--list' names them)");
  auto* list = command->add_flag("--list", options->list, "name the families and end");
  auto* stats = command->add_flag("--stats", options->stats, "counts, mean lengths and chance levels")->excludes(list);
  auto* jsonl = command->add_flag("--jsonl", options->jsonl, "one JSON object a line")->excludes(list)->excludes(stats);
  command->add_flag("--text", options->text, "for reading (the default)")->excludes(jsonl);
}

}  // namespace fathom
