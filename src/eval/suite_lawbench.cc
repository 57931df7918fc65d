// LawBench (Fei et al., arXiv 2309.16289), Chinese law: the zero-shot prompts of its files, its scorers where they can
// be had without other people's word lists; see docs/eval.md for the two that differ and the one left out.
#include <algorithm>
#include <set>

#include "eval/files.h"
#include "eval/scoring.h"
#include "eval/suite.h"

namespace fathom {
namespace {

using ScoreFn = std::function<ItemScore(std::string_view)>;

enum class Rule { kLetter, kDispute, kArticles, kCharges, kRouge };

struct Task {
  std::string_view file;
  std::string_view name;
  Rule rule;
  Metric metric;
  std::string_view metric_name;
};
constexpr Task kTasks[] = {
    {"1-1", "1-1 article recitation", Rule::kRouge, Metric::kMean, "ROUGE-L over characters"},
    {"1-2", "1-2 knowledge questions", Rule::kLetter, Metric::kAccuracy, "accuracy"},
    {"2-2", "2-2 dispute focus", Rule::kDispute, Metric::kAccuracy, "accuracy"},
    {"3-1", "3-1 article prediction", Rule::kArticles, Metric::kMean, "F1"},
    {"3-3", "3-3 charge prediction", Rule::kCharges, Metric::kMean, "F1 over the file's charges"},
    {"3-6", "3-6 case analysis", Rule::kLetter, Metric::kAccuracy, "accuracy"},
};

std::vector<std::string> SplitBy(std::string_view text, std::string_view separator) {
  std::vector<std::string> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.emplace_back(TrimSpace(text.substr(0, at)));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + separator.size());
  }
}

/// What follows the first ':' or '：', without a closing '。'.
std::string_view AfterColon(std::string_view answer) {
  const size_t plain = answer.find(':'), wide = answer.find("：");
  if (plain != std::string_view::npos && (wide == std::string_view::npos || plain < wide)) {
    answer.remove_prefix(plain + 1);
  } else if (wide != std::string_view::npos) {
    answer.remove_prefix(wide + std::string_view("：").size());
  }
  constexpr std::string_view kStop = "。";
  if (answer.ends_with(kStop)) answer.remove_suffix(kStop.size());
  return TrimSpace(answer);
}

/// The classes that an instruction lists: "类别包括:A、B、…。"
std::vector<std::string> ListedClasses(std::string_view instruction) {
  constexpr std::string_view kMark = "类别包括:";
  const size_t at = instruction.find(kMark);
  if (at == std::string_view::npos) return {};
  std::string_view rest = instruction.substr(at + kMark.size());
  rest = rest.substr(0, rest.find("。"));
  return SplitBy(rest, "、");
}

std::vector<std::string> AsText(const std::vector<int>& numbers) {
  std::vector<std::string> out;
  for (const int number : numbers) out.push_back(std::to_string(number));
  return out;
}

std::string Joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : "; ") + part;
  return out;
}

ScoreFn MakeScore(Rule rule, const std::string& gold, const std::vector<std::string>& options) {
  switch (rule) {
    case Rule::kLetter:
    case Rule::kDispute:
      return [gold, options](std::string_view output) {
        return ItemScore{.value = OnlyOptionNamed(output, options, gold) ? 1.0 : 0.0,
                         .extra = {},
                         .parsed = std::string(FirstLine(output))};
      };
    case Rule::kArticles:
      return [wanted = AsText(ArticleNumbers(gold))](std::string_view output) {
        const auto given = AsText(ArticleNumbers(output));
        return ItemScore{.value = SetF1(given, wanted), .extra = {}, .parsed = Joined(given)};
      };
    case Rule::kCharges:
      return [wanted = SplitBy(gold, ";"), options](std::string_view output) {
        std::vector<std::string> given;
        for (const std::string& option : options) {
          if (output.find(option) != std::string_view::npos) given.push_back(option);
        }
        return ItemScore{.value = SetF1(given, wanted), .extra = {}, .parsed = Joined(given)};
      };
    case Rule::kRouge:
      return [gold](std::string_view output) {
        return ItemScore{
            .value = RougeLCharacters(output, gold), .extra = {}, .parsed = std::string(FirstLine(output))};
      };
  }
  return {};
}

/// The right answer in the words of its rule; empty: an item that the published scorer leaves out.
std::string GoldOf(Rule rule, const std::string& answer, const std::vector<std::string>& options) {
  if (rule == Rule::kLetter) {
    const size_t at = answer.find_first_of("ABCD");
    return at == std::string::npos ? std::string() : answer.substr(at, 1);
  }
  std::string gold(AfterColon(answer));
  if (rule == Rule::kDispute && std::find(options.begin(), options.end(), gold) == options.end()) return {};
  return gold;
}

}  // namespace

Result<LoadedSuite> LoadLawBench(const SuiteContext& context) {
  LoadedSuite loaded;
  loaded.prompt = "the file's instruction and question, zero-shot";
  FATHOM_TRY(const auto names, ListSuiteFolder(context.data, "lawbench"));
  for (const Task& task : kTasks) {
    const std::string file = fmt::format("lawbench/{}.json", task.file);
    if (!SuiteFileExists(context.data, file)) continue;
    FATHOM_TRY(const auto list, ReadSuiteJson(context.data, file));
    if (!list.is_array()) return Fail(ErrorCode::kCorrupt, "{}: no list", file);
    const std::string family(task.name);
    loaded.families.push_back({.name = family,
                               .metric = task.metric,
                               .metric_name = std::string(task.metric_name),
                               .count_chance = task.metric == Metric::kAccuracy});
    std::vector<std::string> options;
    if (task.rule == Rule::kLetter) options = {"A", "B", "C", "D"};
    if (task.rule == Rule::kCharges) {
      std::set<std::string> charges;
      for (const auto& each : list) {
        FATHOM_TRY(const std::string answer, StringField(each, "answer", file));
        for (std::string& charge : SplitBy(AfterColon(answer), ";")) charges.insert(std::move(charge));
      }
      charges.erase("");
      options.assign(charges.begin(), charges.end());
    }
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string where = fmt::format("{}: item {}", file, i);
      FATHOM_TRY(const std::string instruction, StringField(list[i], "instruction", where));
      FATHOM_TRY(const std::string question, StringField(list[i], "question", where));
      FATHOM_TRY(const std::string answer, StringField(list[i], "answer", where));
      if (task.rule == Rule::kDispute && options.empty()) options = ListedClasses(instruction);
      EvalItem item;
      item.id = fmt::format("{}/{}", task.file, i);
      item.family = family;
      item.prompt = instruction + "\n" + question;
      item.gold = GoldOf(task.rule, answer, options);
      if (item.gold.empty()) continue;
      item.max_tokens = task.rule == Rule::kRouge ? 512 : 128;
      item.thinking_tokens = 2048;
      item.score = MakeScore(task.rule, item.gold, options);
      loaded.items.push_back(std::move(item));
    }
  }
  for (const std::string& name : names) {
    const bool known = std::any_of(std::begin(kTasks), std::end(kTasks),
                                   [&](const Task& task) { return name == fmt::format("{}.json", task.file); });
    if (name.ends_with(".json") && !known) {
      loaded.notes.push_back(fmt::format("{}: its scorer needs an edit extractor of its own", name));
    }
  }
  if (loaded.items.empty()) return Fail(ErrorCode::kNotFound, "{}/lawbench: no task is there", context.data);
  return loaded;
}

}  // namespace fathom
