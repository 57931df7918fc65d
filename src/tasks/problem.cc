#include "tasks/problem.h"

#include <algorithm>
#include <array>
#include <map>

#include "tasks/draft.h"
#include "tasks/random.h"

namespace fathom {
namespace {

constexpr std::array<TaskFamily, 13> kFamilies = {{
    {"arithmetic", "sums, differences, products, divisions with remainder, small expressions"},
    {"percent", "a share of an amount, an amount changed by a share, what share it is"},
    {"interest", "simple, monthly and compound interest, what is owed at the end"},
    {"units", "length, weight, time and volume: conversions and sums"},
    {"dates", "weekdays, days after and between dates, days of months, leap years"},
    {"comparison", "largest, smallest and second largest number, which of two"},
    {"sorting", "numbers up or down, words by the alphabet"},
    {"tables", "revenue, costs and profit in a small table"},
    {"counting", "letters, vowels, words, items of a list"},
    {"strings", "reversed, removed, capital and single letters, order of words"},
    {"logic", "chains of comparisons, true and false, syllogisms, if-then"},
    {"eligibility", "conditions, deadlines, notice periods and fines, as in laws"},
    {"countdown", "reach a target with three numbers"},
}};

using Kinds = std::span<const Kind> (*)();
/// In the order of kFamilies.
constexpr std::array<Kinds, kFamilies.size()> kKinds = {
    ArithmeticKinds, PercentKinds,  InterestKinds, UnitKinds,  DateKinds,        ComparisonKinds, SortingKinds,
    TableKinds,      CountingKinds, StringKinds,   LogicKinds, EligibilityKinds, CountdownKinds};

/// A number that depends on all of both.
uint64_t Combine(uint64_t a, uint64_t b) { return Mix64(Mix64(a + 0x9e3779b97f4a7c15u) + b); }

const Kind& Make(Random& random, size_t family, Draft& draft) {
  const Kind& kind = random.Pick(kKinds[family]());
  draft = Draft();
  kind.make(random, draft);
  return kind;
}

}  // namespace

std::span<const TaskFamily> TaskFamilies() { return kFamilies; }

Split SplitOf(std::string_view question) { return HashText(question) % 16 == 0 ? Split::kHeldOut : Split::kTrain; }

double ChanceLevel(std::string_view family) {
  constexpr int kProblems = 2000;
  const auto found = std::find_if(kFamilies.begin(), kFamilies.end(), [&](const auto& f) { return f.name == family; });
  if (found == kFamilies.end()) return 0;
  struct Guesses {
    int problems = 0;
    double offered = 0;  // sum of 1 / choices
    std::map<std::string, int> answers;
  };
  std::map<std::string_view, Guesses> kinds;
  Draft draft;
  for (int i = 0; i < kProblems; ++i) {
    Random random(Combine(HashText(family), static_cast<uint64_t>(i)));
    const Kind& kind = Make(random, static_cast<size_t>(found - kFamilies.begin()), draft);
    Guesses& guesses = kinds[kind.name];
    ++guesses.problems;
    if (draft.choices > 0) guesses.offered += 1.0 / draft.choices;
    ++guesses.answers[draft.answer];
  }
  double right = 0;
  for (const auto& [name, guesses] : kinds) {
    int most = 0;
    for (const auto& [answer, count] : guesses.answers) most = std::max(most, count);
    right += std::max<double>(most, guesses.offered);
  }
  return right / kProblems;
}

Result<TaskGenerator> TaskGenerator::Create(uint64_t seed, Split split, std::span<const std::string> families) {
  std::vector<int> indices;
  for (const std::string& name : families) {
    const auto found = std::find_if(kFamilies.begin(), kFamilies.end(), [&](const auto& f) { return f.name == name; });
    if (found == kFamilies.end()) {
      std::string known;
      for (const TaskFamily& family : kFamilies) known += fmt::format("{}{}", known.empty() ? "" : ", ", family.name);
      return Fail(ErrorCode::kInvalidArgument, "no task family is named \"{}\"; there are {}", name.substr(0, 60),
                  known);
    }
    const int index = static_cast<int>(found - kFamilies.begin());
    if (std::find(indices.begin(), indices.end(), index) == indices.end()) indices.push_back(index);
  }
  for (int i = 0; families.empty() && i < static_cast<int>(kFamilies.size()); ++i) indices.push_back(i);
  return TaskGenerator(seed, split, std::move(indices));
}

Problem TaskGenerator::Next() {
  const uint64_t key = Combine(seed_, position_++);
  // The family is drawn once, so that rejected problems do not favour any family.
  const size_t family =
      static_cast<size_t>(families_[static_cast<size_t>(Random(key).Below(static_cast<int64_t>(families_.size())))]);
  Draft draft;
  for (uint64_t attempt = 1;; ++attempt) {
    Random random(Combine(key, attempt));
    const Kind& kind = Make(random, family, draft);
    if (SplitOf(draft.question) != split_) continue;
    return Problem{std::string(kFamilies[family].name), std::string(kind.name), std::move(draft.question),
                   std::move(draft.thinking), std::move(draft.answer)};
  }
}

}  // namespace fathom
