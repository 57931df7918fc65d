// TAT-QA's exact match and numeracy-focused F1 (Zhu et al., arXiv 2105.07624; the rules of the published script):
// answers with their scale become one string, numbers in it by value, words without case, articles and punctuation.
//
// Pure functions, thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fathom {

struct TatQaAnswer {
  std::vector<std::string> values;
  std::string scale;  // "", "thousand", "million", "billion", "percent"
};

struct TatQaScore {
  double exact_match = 0, f1 = 0;
};

/// by_value: arithmetic and counting questions, whose F1 is the exact match.
TatQaScore ScoreTatQa(const TatQaAnswer& predicted, const TatQaAnswer& gold, bool by_value);

/// Parts of the rules, for tests: whether a text counts as a number ("$1,452.4", "(22%)", "3 million"), its value, and
/// a text as it is compared.
bool TatQaIsNumber(std::string_view text);
double TatQaToNumber(std::string_view text);  // NaN when it has none
std::string TatQaNormalize(std::string_view text);

}  // namespace fathom
