// BIG-Bench-Hard: the 27 tasks with the three worked examples that its authors publish (cot-prompts/), exact match of
// what follows "the answer is" (Suzgun et al., arXiv 2210.09261).
#include "eval/files.h"
#include "eval/scoring.h"
#include "eval/suite.h"

namespace fathom {
namespace {

constexpr int kShots = 3;

/// The prompt file without its first two lines (a canary and a rule), cut after `shots` examples.
Result<std::string> Examples(std::string_view file, int shots, const std::string& name) {
  const size_t rule = file.find("-----");
  const size_t begin = rule == std::string_view::npos ? rule : file.find('\n', rule);
  if (begin == std::string_view::npos) return Fail(ErrorCode::kCorrupt, "{}: has no line of dashes", name);
  std::string_view text = TrimSpace(file.substr(begin));
  size_t at = text.find("\nQ:");
  for (int i = 0; i < shots && at != std::string_view::npos; ++i) at = text.find("\n\nQ:", at + 1);
  return std::string(TrimSpace(text.substr(0, at)));
}

}  // namespace

Result<LoadedSuite> LoadBbh(const SuiteContext& context) {
  const int shots = context.shots >= 0 ? context.shots : kShots;
  if (shots > kShots) return Fail(ErrorCode::kInvalidArgument, "--shots {}: bbh has {} examples a task", shots, kShots);
  FATHOM_TRY(const auto names, ListSuiteFolder(context.data, "bbh/bbh"));
  LoadedSuite loaded;
  loaded.prompt = fmt::format("{} worked examples of its authors, \"Let's think step by step.\"", shots);
  for (const std::string& name : names) {
    if (!name.ends_with(".json")) continue;
    const std::string task = name.substr(0, name.size() - 5);
    const std::string prompt_file = "bbh/cot-prompts/" + task + ".txt";
    if (!SuiteFileExists(context.data, prompt_file)) {
      loaded.notes.push_back(task + ": its examples are missing");
      continue;
    }
    FATHOM_TRY(const std::string examples_file, ReadSuiteFile(context.data, prompt_file));
    FATHOM_TRY(const std::string examples, Examples(examples_file, shots, prompt_file));
    FATHOM_TRY(const auto json, ReadSuiteJson(context.data, "bbh/bbh/" + name));
    const auto list = json.is_object() ? json.find("examples") : json.end();
    if (!json.is_object() || list == json.end() || !list->is_array()) {
      return Fail(ErrorCode::kCorrupt, "bbh/bbh/{}: no list \"examples\"", name);
    }
    loaded.families.push_back({.name = task});
    for (size_t i = 0; i < list->size(); ++i) {
      const std::string where = fmt::format("bbh/bbh/{}: example {}", name, i);
      FATHOM_TRY(const std::string input, StringField((*list)[i], "input", where));
      FATHOM_TRY(std::string target, StringField((*list)[i], "target", where));
      EvalItem item;
      item.id = fmt::format("{}/{}", task, i);
      item.family = task;
      item.prompt = fmt::format("{}\n\nQ: {}\nA: Let's think step by step.", examples, input);
      item.stop = {"\n\nQ:"};
      item.max_tokens = 768;
      item.gold = target;
      item.score = [target](std::string_view output) {
        ItemScore score{.value = 0, .extra = {}, .parsed = AnswerIs(output)};
        score.value = score.parsed == target ? 1 : 0;
        return score;
      };
      loaded.items.push_back(std::move(item));
    }
  }
  if (loaded.items.empty()) return Fail(ErrorCode::kNotFound, "{}/bbh/bbh: there are no tasks", context.data);
  return loaded;
}

}  // namespace fathom
