// TAT-QA (Zhu et al., arXiv 2105.07624), the development set: questions about a table and the paragraphs around it. Its
// authors publish no prompt for text models; ours asks for the answer and its scale on two lines, which the published
// metric takes apart.
#include "eval/files.h"
#include "eval/scoring.h"
#include "eval/suite.h"
#include "eval/tatqa_metric.h"

namespace fathom {
namespace {

constexpr char kAsk[] =
    "Answer the question from the table and the text. End with two lines:\n"
    "Answer: the value or the words; several are separated by \" | \"\n"
    "Scale: none, thousand, million, billion or percent\n";

std::string CellText(const nlohmann::json& cell) {
  return cell.is_string() ? cell.get<std::string>() : cell.is_null() ? std::string() : cell.dump();
}

Result<std::string> ContextText(const nlohmann::json& document, const std::string& where) {
  std::string text = "Table:\n";
  const auto table = document.find("table");
  const auto paragraphs = document.find("paragraphs");
  if (table == document.end() || !table->is_object() || !table->contains("table") || !(*table)["table"].is_array() ||
      paragraphs == document.end() || !paragraphs->is_array()) {
    return Fail(ErrorCode::kCorrupt, "{}: no table or no paragraphs", where);
  }
  for (const auto& row : (*table)["table"]) {
    if (!row.is_array()) return Fail(ErrorCode::kCorrupt, "{}: a row of the table is no list", where);
    for (size_t i = 0; i < row.size(); ++i) text += (i > 0 ? " | " : "") + CellText(row[i]);
    text += "\n";
  }
  text += "\nText:\n";
  for (const auto& paragraph : *paragraphs) {
    FATHOM_TRY(const std::string words, StringField(paragraph, "text", where));
    text += words + "\n";
  }
  return text;
}

std::vector<std::string> SplitAnswers(std::string_view text) {
  std::vector<std::string> parts;
  while (true) {
    const size_t at = text.find(" | ");
    if (const auto part = TrimSpace(text.substr(0, at)); !part.empty()) parts.emplace_back(part);
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 3);
  }
}

/// The text after the last line that begins with `mark`, to its end; empty when there is none.
std::string_view LineAfter(std::string_view text, const std::string& lower, std::string_view mark) {
  const size_t at = lower.rfind(mark);
  if (at == std::string::npos) return {};
  std::string_view rest = text.substr(at + mark.size());
  return TrimSpace(rest.substr(0, rest.find('\n')));
}

TatQaAnswer ParseAnswer(std::string_view output) {
  const std::string lower = Lower(output);
  TatQaAnswer answer;
  std::string_view value = LineAfter(output, lower, "answer:");
  if (value.empty()) value = FirstLine(output);
  answer.values = SplitAnswers(value);
  const std::string scale = Lower(LineAfter(output, lower, "scale:"));
  for (const char* known : {"thousand", "million", "billion", "percent"}) {
    if (scale.starts_with(known)) answer.scale = known;
  }
  return answer;
}

Result<TatQaAnswer> GoldAnswer(const nlohmann::json& question, const std::string& where) {
  TatQaAnswer gold;
  FATHOM_TRY(gold.scale, StringField(question, "scale", where));
  const auto answer = question.find("answer");
  if (answer == question.end()) return Fail(ErrorCode::kCorrupt, "{}: no answer", where);
  if (answer->is_array()) {
    for (const auto& each : *answer) gold.values.push_back(CellText(each));
  } else {
    gold.values.push_back(CellText(*answer));
  }
  return gold;
}

}  // namespace

Result<LoadedSuite> LoadTatQa(const SuiteContext& context) {
  FATHOM_TRY(const auto documents, ReadSuiteJson(context.data, "tatqa/tatqa_dataset_dev.json"));
  if (!documents.is_array()) return Fail(ErrorCode::kCorrupt, "tatqa/tatqa_dataset_dev.json: no list");
  LoadedSuite loaded;
  loaded.prompt = "table and text, then the question; two lines asked for (our own words)";
  for (const char* type : {"span", "multi-span", "arithmetic", "count"}) {
    loaded.families.push_back({.name = type, .metric_name = "exact match", .count_chance = false});
  }
  for (size_t d = 0; d < documents.size(); ++d) {
    const std::string where = fmt::format("tatqa/tatqa_dataset_dev.json: document {}", d);
    FATHOM_TRY(const std::string text, ContextText(documents[d], where));
    const auto questions = documents[d].find("questions");
    if (questions == documents[d].end() || !questions->is_array()) {
      return Fail(ErrorCode::kCorrupt, "{}: no questions", where);
    }
    for (size_t q = 0; q < questions->size(); ++q) {
      FATHOM_TRY(const std::string words, StringField((*questions)[q], "question", where));
      FATHOM_TRY(const std::string type, StringField((*questions)[q], "answer_type", where));
      FATHOM_TRY(const TatQaAnswer gold, GoldAnswer((*questions)[q], where));
      EvalItem item;
      item.id = fmt::format("{}/{}", d, q);
      item.family = type;
      item.prompt = fmt::format("{}\n{}\nQuestion: {}{}", text, kAsk, words, context.chat ? "" : "\nAnswer:");
      for (const std::string& value : gold.values) item.gold += (item.gold.empty() ? "" : " | ") + value;
      if (!gold.scale.empty()) item.gold += " (" + gold.scale + ")";
      item.stop = {"\nQuestion:", "\n\n"};
      item.thinking_tokens = 2048;
      const bool by_value = type == "arithmetic" || type == "count";
      item.score = [gold, by_value](std::string_view output) {
        const TatQaAnswer answer = ParseAnswer(output);
        const TatQaScore score = ScoreTatQa(answer, gold, by_value);
        ItemScore result{.value = score.exact_match, .extra = score.f1, .parsed = {}};
        for (const std::string& value : answer.values) result.parsed += (result.parsed.empty() ? "" : " | ") + value;
        if (!answer.scale.empty()) result.parsed += " (" + answer.scale + ")";
        return result;
      };
      loaded.items.push_back(std::move(item));
    }
  }
  return loaded;
}

}  // namespace fathom
