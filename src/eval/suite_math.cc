// Word problems with a number for an answer: GSM8K, SVAMP, ASDiv, MAWPS.
//
// Messages get the bare question. Texts to continue get worked examples first, "Q: … A: … The answer is N.", the form
// of Wei et al. (arXiv 2201.11903); the examples are the first of GSM8K's own training set, with its calculator marks
// taken out, not the eight that their paper prints.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "eval/files.h"
#include "eval/scoring.h"
#include "eval/suite.h"

namespace fathom {
namespace {

constexpr int kDefaultShots = 8;

struct MathProblem {
  std::string family, question, gold;
};

/// "16 - 3 = <<16-3=13>>13 eggs" without the mark.
std::string WithoutMarks(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t open = text.find("<<", at);
    const size_t close = open == std::string_view::npos ? open : text.find(">>", open);
    if (close == std::string_view::npos) return out += text.substr(at);
    out += text.substr(at, open - at);
    at = close + 2;
  }
  return out;
}

/// The worked examples as a text, ready for the next question.
Result<std::string> Examples(const std::string& data, int count) {
  std::string text;
  if (count <= 0) return text;
  FATHOM_TRY(const auto lines, ReadSuiteJsonLines(data, "gsm8k/train.jsonl"));
  if (lines.size() < static_cast<size_t>(count)) {
    return Fail(ErrorCode::kInvalidArgument, "--shots {}: gsm8k/train.jsonl has {} problems", count, lines.size());
  }
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    const std::string where = fmt::format("gsm8k/train.jsonl: line {}", i + 1);
    FATHOM_TRY(const std::string question, StringField(lines[i], "question", where));
    FATHOM_TRY(const std::string answer, StringField(lines[i], "answer", where));
    const size_t mark = answer.rfind("####");
    if (mark == std::string::npos) return Fail(ErrorCode::kCorrupt, "{}: the answer has no ####", where);
    text += fmt::format("Q: {}\nA: {} The answer is {}.\n\n", TrimSpace(question),
                        TrimSpace(WithoutMarks(answer.substr(0, mark))), TrimSpace(answer.substr(mark + 4)));
  }
  return text;
}

/// A number as a right answer, or words where it is none (ASDiv has times, ratios and names).
ItemScore ScoreMath(const std::string& gold, std::string_view output) {
  const std::string_view trimmed = TrimSpace(gold);
  const bool numeric = !trimmed.empty() && trimmed.find_first_not_of("0123456789.,-") == std::string_view::npos;
  if (numeric) {
    const auto wanted = LastNumber(gold), given = WorkedAnswer(output);
    ItemScore score;
    if (given) score.parsed = fmt::format("{}", *given);
    score.value = wanted && given && SameNumber(*wanted, *given) ? 1 : 0;
    return score;
  }
  ItemScore score{.value = 0, .extra = {}, .parsed = AnswerIs(output)};
  score.value = NormalizeLegal(score.parsed) == NormalizeLegal(gold) ? 1 : 0;
  return score;
}

Result<LoadedSuite> Build(const SuiteContext& context, std::vector<MathProblem> problems) {
  LoadedSuite loaded;
  const int shots = context.shots >= 0 ? context.shots : context.chat ? 0 : kDefaultShots;
  FATHOM_TRY(const std::string examples, Examples(context.data, shots));
  loaded.prompt = shots == 0 ? "the question alone" : fmt::format("{} worked examples of GSM8K's training set", shots);
  std::stable_sort(problems.begin(), problems.end(),
                   [](const MathProblem& a, const MathProblem& b) { return a.family < b.family; });
  for (size_t i = 0; i < problems.size(); ++i) {
    MathProblem& problem = problems[i];
    if (loaded.families.empty() || loaded.families.back().name != problem.family) {
      loaded.families.push_back({.name = problem.family});
    }
    EvalItem item;
    item.id = fmt::format("{}/{}", problem.family, i);
    item.family = problem.family;
    const bool plain = context.chat && shots == 0;
    item.prompt = plain ? problem.question : fmt::format("{}Q: {}\nA:", examples, problem.question);
    item.gold = problem.gold;
    item.stop = {"\nQ:", "Question:"};
    item.score = [gold = problem.gold](std::string_view output) { return ScoreMath(gold, output); };
    loaded.items.push_back(std::move(item));
  }
  return loaded;
}

/// A JSON number as text without a needless ".0".
Result<std::string> NumberField(const nlohmann::json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) {
    return Fail(ErrorCode::kCorrupt, "{}: \"{}\" is missing or no number", where, key);
  }
  return fmt::format("{}", found->get<double>());
}

}  // namespace

Result<LoadedSuite> LoadGsm8k(const SuiteContext& context) {
  FATHOM_TRY(const auto lines, ReadSuiteJsonLines(context.data, "gsm8k/test.jsonl"));
  std::vector<MathProblem> problems;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string where = fmt::format("gsm8k/test.jsonl: line {}", i + 1);
    FATHOM_TRY(std::string question, StringField(lines[i], "question", where));
    FATHOM_TRY(const std::string answer, StringField(lines[i], "answer", where));
    const size_t mark = answer.rfind("####");
    if (mark == std::string::npos) return Fail(ErrorCode::kCorrupt, "{}: the answer has no ####", where);
    std::string gold(TrimSpace(answer.substr(mark + 4)));
    std::erase(gold, ',');
    problems.push_back({"gsm8k", std::move(question), std::move(gold)});
  }
  return Build(context, std::move(problems));
}

Result<LoadedSuite> LoadSvamp(const SuiteContext& context) {
  FATHOM_TRY(const auto lines, ReadSuiteJsonLines(context.data, "math_small/svamp_test.jsonl"));
  std::vector<MathProblem> problems;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string where = fmt::format("math_small/svamp_test.jsonl: line {}", i + 1);
    FATHOM_TRY(const std::string body, StringField(lines[i], "Body", where));
    FATHOM_TRY(const std::string question, StringField(lines[i], "Question", where));
    FATHOM_TRY(std::string type, StringField(lines[i], "Type", where));
    FATHOM_TRY(std::string gold, NumberField(lines[i], "Answer", where));
    if (type == "Common-Divison") type = "Common-Division";  // one problem of the set is misspelt
    std::string text(TrimSpace(body));
    if (!text.ends_with('.')) text += '.';
    problems.push_back({Lower(type), text + " " + std::string(TrimSpace(question)), std::move(gold)});
  }
  return Build(context, std::move(problems));
}

Result<LoadedSuite> LoadAsdiv(const SuiteContext& context) {
  FATHOM_TRY(const auto lines, ReadSuiteJsonLines(context.data, "math_small/asdiv_test.jsonl"));
  std::vector<MathProblem> problems;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string where = fmt::format("math_small/asdiv_test.jsonl: line {}", i + 1);
    FATHOM_TRY(const std::string body, StringField(lines[i], "body", where));
    FATHOM_TRY(const std::string question, StringField(lines[i], "question", where));
    FATHOM_TRY(const std::string answer, StringField(lines[i], "answer", where));
    std::string gold(TrimSpace(answer.substr(0, answer.find('('))));  // "9 (apples)"
    if (gold.empty()) gold = answer;
    if (NormalizeLegal(gold).empty()) continue;  // one problem of the set has a dash for an answer
    const bool numeric = gold.find_first_not_of("0123456789.,-") == std::string::npos;
    problems.push_back({numeric ? "numbers" : "words",
                        std::string(TrimSpace(body)) + " " + std::string(TrimSpace(question)), std::move(gold)});
  }
  return Build(context, std::move(problems));
}

Result<LoadedSuite> LoadMawps(const SuiteContext& context) {
  FATHOM_TRY(const auto lines, ReadSuiteJsonLines(context.data, "math_small/mawps_test.jsonl"));
  std::vector<MathProblem> problems;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string where = fmt::format("math_small/mawps_test.jsonl: line {}", i + 1);
    FATHOM_TRY(std::string question, StringField(lines[i], "input", where));
    FATHOM_TRY(std::string type, StringField(lines[i], "type", where));
    FATHOM_TRY(std::string gold, NumberField(lines[i], "target", where));
    problems.push_back({std::move(type), std::move(question), std::move(gold)});
  }
  return Build(context, std::move(problems));
}

}  // namespace fathom
