// LegalBench (Guha et al., arXiv 2308.11462): the tasks whose test questions are on this disk, each with its own prompt
// (base_prompt.txt, examples included), exact match after normalising, balanced accuracy over the answers.
//
// What a task's folder must have to be scored: base_prompt.txt and history_test.tsv. Folders that hold the training
// rows only are named, not scored: those rows are the examples of the prompt.
#include "eval/files.h"
#include "eval/scoring.h"
#include "eval/suite.h"

namespace fathom {
namespace {

/// "{{name}}" replaced by the row's field. Errors: kCorrupt naming a field that the table lacks.
Result<std::string> FillPrompt(std::string_view prompt, const TableRow& row, const std::string& where) {
  std::string out;
  for (size_t at = 0; at < prompt.size();) {
    const size_t open = prompt.find("{{", at);
    const size_t close = open == std::string_view::npos ? open : prompt.find("}}", open);
    if (close == std::string_view::npos) {
      out += prompt.substr(at);
      break;
    }
    out += prompt.substr(at, open - at);
    const std::string_view name = TrimSpace(prompt.substr(open + 2, close - open - 2));
    const auto field = row.find(name);
    if (field == row.end()) return Fail(ErrorCode::kCorrupt, "{}: the prompt wants a column \"{}\"", where, name);
    out += TrimSpace(field->second);
    at = close + 2;
  }
  return std::string(TrimSpace(out));
}

}  // namespace

Result<LoadedSuite> LoadLegalBench(const SuiteContext& context) {
  FATHOM_TRY(const auto folders, ListSuiteFolder(context.data, "legalbench"));
  LoadedSuite loaded;
  loaded.prompt = "each task's own prompt with its examples";
  int examples_only = 0;
  for (const std::string& task : folders) {
    const std::string folder = "legalbench/" + task;
    if (!SuiteFileExists(context.data, folder + "/base_prompt.txt")) continue;
    const std::string table = folder + "/history_test.tsv";
    if (!SuiteFileExists(context.data, table)) {
      ++examples_only;
      continue;
    }
    FATHOM_TRY(const std::string prompt, ReadSuiteFile(context.data, folder + "/base_prompt.txt"));
    FATHOM_TRY(const std::string text, ReadSuiteFile(context.data, table));
    FATHOM_TRY(const auto rows, ParseTable(text, table));
    if (rows.empty() || !rows.front().contains("label")) {
      loaded.notes.push_back(fmt::format("{}: its authors grade it by hand", task));  // rule_qa: free answers
      continue;
    }
    loaded.families.push_back({.name = task, .metric = Metric::kBalancedAccuracy, .metric_name = "balanced accuracy"});
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::string where = fmt::format("{}: row {}", table, i + 1);
      const auto label = rows[i].find("label");
      if (label == rows[i].end()) return Fail(ErrorCode::kCorrupt, "{}: no label", where);
      EvalItem item;
      item.id = fmt::format("{}/{}", task, i);
      item.family = task;
      FATHOM_TRY(item.prompt, FillPrompt(prompt, rows[i], where));
      item.gold = std::string(TrimSpace(label->second));
      item.stop = {"\n"};
      item.max_tokens = 32;
      item.thinking_tokens = 2048;
      item.score = [gold = NormalizeLegal(item.gold)](std::string_view output) {
        ItemScore score{.value = 0, .extra = {}, .parsed = std::string(FirstLine(output))};
        score.value = NormalizeLegal(score.parsed) == gold ? 1 : 0;
        return score;
      };
      loaded.items.push_back(std::move(item));
    }
  }
  if (examples_only > 0) {
    loaded.notes.push_back(fmt::format("{} tasks of which only the examples are here, not the test", examples_only));
  }
  if (loaded.items.empty()) return Fail(ErrorCode::kNotFound, "{}/legalbench: no task has a test", context.data);
  return loaded;
}

}  // namespace fathom
