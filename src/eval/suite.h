// Test suites as data: each names its source, loads its items, says how a question is put and how an output is scored.
//
// A Suite is a constant; loading gives items that own all they need. Scoring functions are pure, so items may be scored
// in any order and from any thread. Errors name the file and the line or field.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

struct ItemScore {
  double value = 0;             // in [0, 1]
  std::optional<double> extra;  // a second measure, named by the suite, in [0, 1]
  std::string parsed;           // what was taken for the answer
};

struct EvalItem {
  std::string id;                 // unique in its suite: "word_sorting/17"
  std::string family;             // what results are grouped by: a family of problems, a task
  std::string prompt;             // a user's message, or the text to be continued
  std::string gold;               // the right answer, as shown in samples; the class, for balanced accuracy
  std::vector<std::string> stop;  // where a continued text would begin its next question
  int32_t max_tokens = 512;
  int32_t thinking_tokens = 0;  // more than max_tokens, for a model that thinks before it answers
  std::function<ItemScore(std::string_view output)> score;
};

/// How the items of a family become its result.
enum class Metric {
  kAccuracy,          // mean of the items' scores, each 0 or 1
  kBalancedAccuracy,  // mean over the right answers' classes of the mean within the class
  kMean,              // mean of scores between 0 and 1 (F1, ROUGE-L)
};

struct SuiteContext {
  std::string data;  // the folder that holds the suites' folders
  uint64_t seed = 1;
  int64_t n = 0;     // items wanted; 0: all. Suites without end make so many, others give all that they have
  int shots = -1;    // worked examples before the question; -1: as the suite has it
  bool chat = true;  // the model takes messages; else it continues a text
};

struct FamilyInfo {
  std::string name;
  Metric metric = Metric::kAccuracy;
  std::string metric_name = "accuracy";
  std::optional<double> chance;  // what guessing gets; empty: not meaningful, or counted from the items (see runner.h)
  bool count_chance = true;      // count it: the share of the commonest right answer
};

struct LoadedSuite {
  std::vector<EvalItem> items;       // neighbours share what prompts begin with, where they can
  std::vector<FamilyInfo> families;  // in the order of the report
  std::vector<std::string> notes;    // what is there and not scored, and why
  std::string prompt;                // how the question is put, in a line
};

struct Suite {
  std::string_view name;
  std::string_view about;
  std::string_view paper;
  std::string_view licence;
  std::string_view folder;      // below the data folder; empty: needs no files
  std::string_view extra_name;  // of ItemScore::extra; empty: none
  bool mean_of_families;        // the headline is the mean over families, as its authors report it; else over items
  Result<LoadedSuite> (*load)(const SuiteContext& context);
};

/// All suites, in the order of `--list`.
std::span<const Suite> Suites();
/// nullptr when there is none of this name.
const Suite* FindSuite(std::string_view name);

// One loader a suite; the sources are in suite_*.cc.
Result<LoadedSuite> LoadVerifiable(const SuiteContext& context);
Result<LoadedSuite> LoadGsm8k(const SuiteContext& context);
Result<LoadedSuite> LoadSvamp(const SuiteContext& context);
Result<LoadedSuite> LoadAsdiv(const SuiteContext& context);
Result<LoadedSuite> LoadMawps(const SuiteContext& context);
Result<LoadedSuite> LoadTatQa(const SuiteContext& context);
Result<LoadedSuite> LoadLegalBench(const SuiteContext& context);
Result<LoadedSuite> LoadLawBench(const SuiteContext& context);
Result<LoadedSuite> LoadBbh(const SuiteContext& context);

/// The share of the commonest right answer among items: what always giving it would get. 0 for no items.
double CommonestShare(std::span<const EvalItem* const> items);

}  // namespace fathom
